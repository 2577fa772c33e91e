package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/provider/sandbox"
)

const aboutKeys = `Manages fallback keys, as the page Fallback Keys does. A key is read from standard input, never from an argument,
and not shown again. Everything that is changed stands in the audit log, as done on the command line.
  add      seals and stores a key:  promptops key add --provider openai --label main < key.txt
  list     prints all keys in the order of use
  test     asks each provider, at no cost, whether it accepts its keys; exit code 1 if one is not accepted
  edit     changes label, models, cap or last day of one key: only what is given; none takes a limit away
  order    puts the keys of a provider into another order:  promptops key order --provider openai --order spare,main
  rotate   stores a new key in the place of one, which goes on behind it for --overlap
  disable  takes a key out of use until somebody enables it;  needs --reason
  enable   puts it into use again
  delete   deletes it for good;  needs its label once more as --confirm`

// keyWords are what can be done with keys.
var keyWords = []string{"add", "list", "test", "edit", "order", "rotate", "disable", "enable", "delete"}

// keyFlags are what can be said of it.
type keyFlags struct {
	set                                        *flag.FlagSet
	provider, key, label, models, cap, expires *string
	order, reason, confirm                     *string
	priority                                   *int
	overlap                                    *time.Duration
	asJSON                                     *bool
}

func (p *program) keyFlags() keyFlags {
	set := p.flags("key", strings.Join(keyWords, "|"), aboutKeys)
	return keyFlags{
		set:      set,
		provider: set.String("provider", "", "add, order, list, test: openai, anthropic, google, mistral, openrouter, groq, deepseek, xai or an added endpoint"),
		key:      set.String("key", "", "which key: its id, or its label if only one key has it"),
		label:    set.String("label", "", "add, edit, rotate: by which you will know the key"),
		models:   set.String("models", "", "add, edit: the only models it may be used for, separated by commas, by the provider's own names; none: all"),
		cap:      set.String("monthly-cap", "", "add, edit: most that may be spent per month, in US dollars; none: no cap"),
		expires:  set.String("expires", "", "add, edit, rotate: the last day on which it is used, like 2027-01-31; none: no such day"),
		order:    set.String("order", "", "order: all keys of the provider, first the one to use first, separated by commas"),
		reason:   set.String("reason", "", "disable: why, for those who find it disabled"),
		confirm:  set.String("confirm", "", "delete: the label of the key, to make sure"),
		priority: set.Int("priority", 0, "add: keys with a lower number are used first, equal ones in turn (default behind all others)"),
		overlap:  set.Duration("overlap", 24*time.Hour, "rotate: how long the old key goes on; 0 disables it at once"),
		asJSON:   set.Bool("json", false, "list, test: print JSON"),
	}
}

// given says whether a flag was set at all.
func (f keyFlags) given(name string) bool {
	found := false
	f.set.Visit(func(one *flag.Flag) { found = found || one.Name == name })
	return found
}

// unless turns the word none into nothing.
func unless(value string) string {
	if value == "none" {
		return ""
	}
	return value
}

// keyring is what the key commands work on.
type keyring struct {
	*program
	keyFlags
	store     *key.Store
	fallbacks *key.Fallbacks
	registry  *provider.Registry
}

func keys(ctx context.Context, p *program, args []string) error {
	flags := p.keyFlags()
	word, err := parse(flags.set, args, keyWords...)
	if err != nil {
		return err
	}
	if word == "" {
		return fmt.Errorf("%w: say one of %s", errUsage, strings.Join(keyWords, ", "))
	}
	f, err := p.openMigrated(ctx, p.quiet())
	if err != nil {
		return err
	}
	defer f.close()
	registry := provider.NewRegistry(provider.NewHTTPClient(), f.config.ProviderBaseURLs())
	registry.AllowPrivate(*f.config.AllowPrivateEndpoints)
	if err := provider.NewEndpoints(f.pool, registry, p.quiet()).RunOnce(ctx, time.Now()); err != nil {
		return err
	}
	k := keyring{p, flags, key.NewStore(f.pool, f.ring), key.NewFallbacks(f.pool, f.ring, f.config.Zone()), registry}
	switch word {
	case "list":
		return k.listKeys(ctx)
	case "test":
		return k.testKeys(ctx)
	case "add":
		return k.addKey(ctx)
	case "order":
		return k.orderKeys(ctx)
	}
	one, err := k.chosen(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	said := ""
	switch word {
	case "edit":
		return k.editKey(ctx, one)
	case "rotate":
		return k.rotateKey(ctx, one)
	case "disable":
		said, err = "is disabled", k.fallbacks.Disable(ctx, one.ID, *k.reason, audit.CommandLine, now)
	case "enable":
		said, err = "is in use again", k.fallbacks.Enable(ctx, one.ID, audit.CommandLine, now)
	case "delete":
		_, err = k.fallbacks.Delete(ctx, one.ID, *k.confirm, audit.CommandLine, now)
		said = "is deleted"
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(k.stderr, "The %s key %q, which ends in %s, %s.\n", one.Provider, one.Label, one.LastFour, said)
	return nil
}

// chosen is the key that --key names.
func (k keyring) chosen(ctx context.Context) (key.FallbackKey, error) {
	all, err := k.fallbacks.Overview(ctx, time.Now())
	if err != nil {
		return key.FallbackKey{}, err
	}
	return find(all.Keys, *k.key)
}

// find returns the key with that id, or the only one with that label.
func find(all []key.FallbackKey, name string) (key.FallbackKey, error) {
	if name == "" {
		return key.FallbackKey{}, fmt.Errorf("%w: say which key with --key, by its id or its label", errUsage)
	}
	var found []key.FallbackKey
	for _, k := range all {
		if k.ID.String() == name || k.Label == name {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return key.FallbackKey{}, fmt.Errorf("there is no fallback key %q; promptops key list shows them", name)
	case 1:
		return found[0], nil
	default:
		return key.FallbackKey{}, fmt.Errorf("%d fallback keys are called %q; say which by its id, which promptops key list shows", len(found), name)
	}
}

func (k keyring) addKey(ctx context.Context) error {
	if _, ok := k.registry.Lookup(*k.provider); !ok {
		return fmt.Errorf("%w: --provider %q is not set up here", errUsage, *k.provider)
	}
	if *k.cap != "" && *k.cap != "none" {
		if limit, err := price.ParseUSD(*k.cap); err != nil || limit.Cmp(price.USD{}) < 0 {
			return fmt.Errorf("%w: --monthly-cap must be an amount like 25.00", errUsage)
		}
	}
	secret, err := k.readSecret("Key: ")
	if err != nil {
		return err
	}
	n, err := key.ParseNew(url.Values{
		"provider": {*k.provider}, "secret": {secret}, "label": {*k.label}, "models": {unless(*k.models)},
		"monthlyCapUsd": {unless(*k.cap)}, "expires": {unless(*k.expires)},
	}, k.fallbacks.Zone())
	if err != nil {
		return err
	}
	n.Priority = *k.priority
	added, err := k.fallbacks.Add(ctx, n, audit.CommandLine, time.Now())
	if err != nil {
		return err
	}
	k.sayAdded(added)
	return nil
}

func (k keyring) sayAdded(added key.Added) {
	for _, odd := range added.Odd {
		fmt.Fprintln(k.stderr, "Note:", odd.Words(added.Key.Provider))
	}
	fmt.Fprintf(k.stderr, "Stored the %s key %q, which ends in %s. Its id is %s; promptops key test asks whether it is accepted.\n",
		added.Key.Provider, added.Key.Label, added.Key.LastFour, added.Key.ID)
}

// editKey changes what was given, and leaves the rest as it is.
func (k keyring) editKey(ctx context.Context, one key.FallbackKey) error {
	zone := k.fallbacks.Zone()
	values := one.Settings().Values(zone)
	for name, field := range map[string]string{"label": "label", "models": "models", "monthly-cap": "monthlyCapUsd", "expires": "expires"} {
		if k.given(name) {
			values.Set(field, unless(k.set.Lookup(name).Value.String()))
		}
	}
	settings, err := key.ParseSettings(values, zone)
	if err != nil {
		return err
	}
	changed, err := k.fallbacks.Change(ctx, one.ID, settings, one.Revision, audit.CommandLine, time.Now())
	switch {
	case err != nil:
		return err
	case !changed:
		fmt.Fprintln(k.stderr, "Nothing was changed: that is how it is already.")
	default:
		fmt.Fprintf(k.stderr, "Changed the %s key %q.\n", one.Provider, settings.Label)
	}
	return nil
}

func (k keyring) rotateKey(ctx context.Context, one key.FallbackKey) error {
	secret, err := k.readSecret("New key: ")
	if err != nil {
		return err
	}
	r, err := key.ParseRotation(url.Values{
		"secret": {secret}, "label": {*k.label}, "overlap": {k.overlap.String()}, "expires": {unless(*k.expires)},
	}, k.fallbacks.Zone())
	if err != nil {
		return err
	}
	added, err := k.fallbacks.Rotate(ctx, one.ID, r, audit.CommandLine, time.Now())
	if err != nil {
		return err
	}
	k.sayAdded(added)
	if r.Overlap == 0 {
		fmt.Fprintf(k.stderr, "It took the place of the one which ends in %s, which is disabled.\n", one.LastFour)
	} else {
		fmt.Fprintf(k.stderr, "It took the place of the one which ends in %s, which goes on behind it for %s.\n", one.LastFour, r.Overlap)
	}
	return nil
}

func (k keyring) orderKeys(ctx context.Context) error {
	all, err := k.fallbacks.Overview(ctx, time.Now())
	if err != nil {
		return err
	}
	of := all.Of(*k.provider)
	if len(of) == 0 {
		return fmt.Errorf("%w: --provider %q has no fallback keys", errUsage, *k.provider)
	}
	var seen, wanted []uuid.UUID
	for _, one := range of {
		seen = append(seen, one.ID)
	}
	for name := range strings.SplitSeq(*k.order, ",") {
		one, err := find(of, strings.TrimSpace(name))
		if err != nil {
			return err
		}
		wanted = append(wanted, one.ID)
	}
	if err := k.fallbacks.Reorder(ctx, *k.provider, seen, wanted, audit.CommandLine, time.Now()); err != nil {
		return err
	}
	fmt.Fprintf(k.stderr, "The keys of %s are used in that order from the next run on.\n", *k.provider)
	return nil
}

// listedKey is a key as "key list --json" prints it.
type listedKey struct {
	ID            uuid.UUID  `json:"id"`
	Provider      string     `json:"provider"`
	Label         string     `json:"label"`
	LastFour      string     `json:"lastFour"`
	Priority      int        `json:"priority"`
	Models        []string   `json:"models"` // null: every model
	Status        key.Status `json:"status"` // of the row
	State         key.State  `json:"state"`  // with dates and cap taken into account
	Reason        string     `json:"reason"`
	CoolingUntil  *time.Time `json:"coolingUntil"`
	ExpiresAt     *time.Time `json:"expiresAt"`
	RetireAt      *time.Time `json:"retireAt"`
	LastUsedAt    *time.Time `json:"lastUsedAt"`
	LastSuccessAt *time.Time `json:"lastSuccessAt"`
	LastErrorAt   *time.Time `json:"lastErrorAt"`
	LastError     string     `json:"lastErrorClass"`
	TodayUSD      price.USD  `json:"todayUsd"` // spent, and set aside by runs that are going on
	MonthUSD      price.USD  `json:"monthUsd"` // likewise: what counts against the cap
	MonthlyCapUSD *price.USD `json:"monthlyCapUsd"`
	RunwayDays    *float64   `json:"runwayDays"` // null: no cap, or not used
	Sandbox       bool       `json:"sandbox"`
}

func listed(k key.FallbackKey, now time.Time) listedKey {
	l := listedKey{
		ID: k.ID, Provider: k.Provider, Label: k.Label, LastFour: k.LastFour, Priority: k.Priority, Models: k.Models,
		Status: k.Status, State: k.State(now), Reason: k.StatusReason, CoolingUntil: k.CoolingUntil, ExpiresAt: k.ExpiresAt, RetireAt: k.RetireAt,
		LastUsedAt: k.LastUsedAt, LastSuccessAt: k.LastSuccessAt, LastErrorAt: k.LastErrorAt, LastError: k.LastError.Class,
		TodayUSD: k.Spent.Today, MonthUSD: k.Spent.Month, MonthlyCapUSD: k.MonthlyCap, Sandbox: k.Sandbox,
	}
	if r := k.Runway(); r.Kind == key.RunwayDays {
		l.RunwayDays = &r.Days
	}
	return l
}

func (k keyring) listKeys(ctx context.Context) error {
	now := time.Now()
	all, err := k.fallbacks.Overview(ctx, now)
	if err != nil {
		return err
	}
	keys := all.Keys
	if *k.provider != "" {
		keys = all.Of(*k.provider)
	}
	if *k.asJSON {
		list := make([]listedKey, len(keys))
		for i, one := range keys {
			list[i] = listed(one, now)
		}
		return json.NewEncoder(k.stdout).Encode(list)
	}
	w := tabwriter.NewWriter(k.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "PROVIDER\tLABEL\tENDS IN\tPRIORITY\tSTATE\tTODAY\tMONTH\tCAP\tRUNWAY\tLAST USED\tID")
	for _, one := range keys {
		last, limit, left := "never", "none", "-"
		if one.LastUsedAt != nil {
			last = one.LastUsedAt.UTC().Format(time.RFC3339)
		}
		if one.MonthlyCap != nil {
			limit = "$" + one.MonthlyCap.String()
		}
		if r := one.Runway(); r.Kind == key.RunwayDays {
			left = fmt.Sprintf("%.1f days", r.Days)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t$%s\t$%s\t%s\t%s\t%s\t%s\n",
			one.Provider, one.Label, one.LastFour, one.Priority, one.State(now), one.Spent.Today, one.Spent.Month, limit, left, last, one.ID)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, id := range all.Forsaken(now) {
		fmt.Fprintf(k.stderr, "Warning: %s has no fallback key that can be used.\n", id)
	}
	return nil
}

// testedKey is a test as "key test --json" prints it.
type testedKey struct {
	ID        uuid.UUID `json:"id"`
	Provider  string    `json:"provider"`
	Label     string    `json:"label"`
	OK        bool      `json:"ok"`
	Class     string    `json:"class"` // empty if ok
	Message   string    `json:"message"`
	LatencyMs int64     `json:"latencyMs"`
}

func (k keyring) testKeys(ctx context.Context) error {
	all, err := k.fallbacks.Overview(ctx, time.Now())
	if err != nil {
		return err
	}
	chosen := all.Keys
	if *k.key != "" {
		one, err := find(all.Keys, *k.key)
		if err != nil {
			return err
		}
		chosen = []key.FallbackKey{one}
	}
	if *k.provider != "" {
		chosen = slices.DeleteFunc(slices.Clone(chosen), func(one key.FallbackKey) bool { return one.Provider != *k.provider })
	}
	if len(chosen) == 0 {
		return errors.New("there is no fallback key to test; promptops key add stores one")
	}
	boxCtx, closeBox := context.WithCancel(ctx)
	defer closeBox()
	box, err := sandbox.Start(boxCtx, "") // demo keys are tested against it
	if err != nil {
		return err
	}
	k.registry.UseSandbox(box.URL)
	health := key.NewHealth(k.store, key.HealthOptions{Log: k.quiet(), Providers: k.registry, Now: time.Now})
	defer health.Stop()
	results, refused := []testedKey{}, 0
	for _, one := range chosen {
		result := k.testKey(ctx, health, one)
		results = append(results, result)
		verdict := "accepted"
		if !result.OK {
			refused++
			verdict = result.Message
			if result.Class != "" {
				verdict = result.Class + ": " + verdict
			}
		}
		if !*k.asJSON {
			fmt.Fprintf(k.stdout, "%s %q …%s: %s (%d ms)\n", one.Provider, one.Label, one.LastFour, verdict, result.LatencyMs)
		}
	}
	if *k.asJSON {
		if err := json.NewEncoder(k.stdout).Encode(results); err != nil {
			return err
		}
	}
	if refused > 0 {
		return fmt.Errorf("%d of %d keys were not accepted", refused, len(results))
	}
	return nil
}

func (k keyring) testKey(ctx context.Context, health *key.Health, one key.FallbackKey) testedKey {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	tested, err := health.Test(ctx, key.Fallback, one.ID, nil, time.Now())
	result := testedKey{
		ID: one.ID, Provider: one.Provider, Label: one.Label, OK: err == nil && tested.OK,
		Class: string(tested.Class), Message: tested.Message, LatencyMs: tested.Latency.Milliseconds(),
	}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		result.Message = f.Message
	} else if err != nil {
		result.Message = err.Error()
	}
	return result
}
