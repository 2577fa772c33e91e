package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/provider/sandbox"
)

func keys(ctx context.Context, p *program, args []string) error {
	set := p.flags("key", "add|list|test", `Manages fallback keys. A key is read from standard input, never from an argument, and not shown again.
  add   seals and stores a key:  promptops key add --provider openai --label main < key.txt
  list  prints all keys in the order of use
  test  asks each provider, at no cost, whether it accepts its keys; exit code 1 if one does not`)
	providerID := set.String("provider", "", "openai, anthropic, google, mistral, openrouter, groq, deepseek, xai or an added endpoint")
	label := set.String("label", "", "add: by which you will know the key")
	priority := set.Int("priority", 0, "add: keys with a lower number are used first (default 100)")
	models := set.String("models", "", "add: the only models it may be used for, separated by commas, by the provider's own names")
	monthlyCap := set.String("monthly-cap", "", "add: most that may be spent per month, in US dollars")
	asJSON := set.Bool("json", false, "list: print JSON")
	word, err := parse(set, args, "add", "list", "test")
	if err != nil {
		return err
	}
	if word == "" {
		return fmt.Errorf("%w: say add, list or test", errUsage)
	}
	f, err := p.openMigrated(ctx, p.quiet())
	if err != nil {
		return err
	}
	defer f.close()
	store := key.NewStore(f.pool, f.ring)
	registry := provider.NewRegistry(provider.NewHTTPClient(), f.config.ProviderBaseURLs())
	if err := provider.NewEndpoints(f.pool, registry, p.quiet()).RunOnce(ctx, time.Now()); err != nil {
		return err
	}
	switch word {
	case "list":
		return p.listKeys(ctx, store, *asJSON)
	case "test":
		return p.testKeys(ctx, store, registry, *providerID)
	}
	if _, ok := registry.Lookup(*providerID); !ok {
		return fmt.Errorf("%w: --provider %q is not set up here", errUsage, *providerID)
	}
	n := key.NewFallback{Provider: *providerID, Label: *label, Priority: *priority}
	if *models != "" {
		n.Models = strings.Split(*models, ",")
	}
	if *monthlyCap != "" {
		limit, err := price.ParseUSD(*monthlyCap)
		if err != nil || limit.Cmp(price.USD{}) < 0 {
			return fmt.Errorf("%w: --monthly-cap must be an amount like 25.00", errUsage)
		}
		n.MonthlyCapUSD = &limit
	}
	secret, err := p.readSecret("Key: ")
	if err != nil {
		return err
	}
	n.Secret = key.Secret(secret)
	added, warnings, err := store.AddFallback(ctx, n)
	if err != nil {
		return err
	}
	for _, warning := range warnings {
		fmt.Fprintln(p.stderr, "Note:", warning)
	}
	fmt.Fprintf(p.stderr, "Stored the %s key %q, which ends in %s.\n", added.Provider, added.Label, added.LastFour)
	return nil
}

// listedKey is a key as "key list --json" prints it.
type listedKey struct {
	ID           uuid.UUID  `json:"id"`
	Provider     string     `json:"provider"`
	Label        string     `json:"label"`
	LastFour     string     `json:"lastFour"`
	Priority     int        `json:"priority"`
	Models       []string   `json:"models"` // null: every model
	Status       key.Status `json:"status"`
	CoolingUntil *time.Time `json:"coolingUntil"`
	LastUsedAt   *time.Time `json:"lastUsedAt"`
	Sandbox      bool       `json:"sandbox"`
}

func (p *program) listKeys(ctx context.Context, store *key.Store, asJSON bool) error {
	list, err := store.ListFallback(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		listed := make([]listedKey, len(list))
		for i, k := range list {
			listed[i] = listedKey{k.ID, k.Provider, k.Label, k.LastFour, k.Priority, k.Models, k.Status, k.CoolingUntil, k.LastUsedAt, k.Sandbox}
		}
		return json.NewEncoder(p.stdout).Encode(listed)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "PROVIDER\tLABEL\tENDS IN\tPRIORITY\tSTATE\tLAST USED")
	for _, k := range list {
		last := "never"
		if k.LastUsedAt != nil {
			last = k.LastUsedAt.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", k.Provider, k.Label, k.LastFour, k.Priority, k.Status, last)
	}
	return w.Flush()
}

func (p *program) testKeys(ctx context.Context, store *key.Store, registry *provider.Registry, only string) error {
	list, err := store.ListFallback(ctx)
	if err != nil {
		return err
	}
	boxCtx, closeBox := context.WithCancel(ctx)
	defer closeBox()
	box, err := sandbox.Start(boxCtx, "") // demo keys are tested against it
	if err != nil {
		return err
	}
	registry.UseSandbox(box.URL)
	tested, refused := 0, 0
	for _, k := range list {
		if only != "" && k.Provider != only {
			continue
		}
		tested++
		started := time.Now()
		verdict := "accepted"
		if err := p.testKey(ctx, store, registry, k); err != nil {
			refused++
			verdict = err.Error()
		}
		fmt.Fprintf(p.stdout, "%s %q …%s: %s (%d ms)\n", k.Provider, k.Label, k.LastFour, verdict, time.Since(started).Milliseconds())
	}
	switch {
	case tested == 0:
		return errors.New("there is no fallback key to test; promptops key add stores one")
	case refused > 0:
		return fmt.Errorf("%d of %d keys were not accepted", refused, tested)
	}
	return nil
}

func (p *program) testKey(ctx context.Context, store *key.Store, registry *provider.Registry, k key.Key) error {
	client, ok := registry.Client(k.Provider, k.Sandbox)
	if !ok {
		return errors.New("its provider is no longer set up")
	}
	secret, err := store.Open(k)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return client.Check(ctx, secret.Reveal())
}
