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

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

const aboutPrices = `Manages what models cost, in US dollars per million tokens, as the page Settings, Prices does. What is changed stands in
the audit log, as done on the command line.
  list       prints the prices in force; with --model every price that the model has or had
  set        sets a price:  promptops price set --model openai/gpt-5-mini --input 0.25 --output 2 --source https://…
             From --from on, or from the beginning; it goes before what the program came with. --corrects replaces one.
  recompute  makes what attempts of --model cost anew, by the prices in force when they ran, and says what it comes to.
             It goes on in the background when it is interrupted, if a server is running. --dry-run only says what it would come to.
             --undo puts back what an earlier one changed, by its number.`

var priceWords = []string{"list", "set", "recompute"}

// priceFlags are what can be said of prices.
type priceFlags struct {
	set                          *flag.FlagSet
	provider, model, from, until *string
	fields                       map[string]*string // of price.Parse, by their names there
	corrects, undo               *int64
	reported, dryRun, asJSON     *bool
}

// priceFieldFlags are the flags that stand for a field of price.Parse.
var priceFieldFlags = []struct{ flag, field, about string }{
	{"input", "input", "set: of a million input tokens; 0 for a model that is free"},
	{"output", "output", "set: of a million output tokens, reasoning included"},
	{"cache-read", "cacheRead", "set: of input that is read from a cache (default as input)"},
	{"cache-write-5m", "cacheWrite5m", "set: of input that is written into a cache for five minutes (default as input)"},
	{"cache-write-1h", "cacheWrite1h", "set: … for an hour (default as for five minutes)"},
	{"tier-above", "tierAbove", "set: input tokens above which a request costs the rates of the tier"},
	{"tier-input", "tierInput", "set: input in the tier"},
	{"tier-output", "tierOutput", "set: output in the tier (default as below it)"},
	{"tier-cache-read", "tierCacheRead", "set: input from a cache in the tier"},
	{"tier-cache-write-5m", "tierCacheWrite5m", "set: input into a cache in the tier, for five minutes"},
	{"tier-cache-write-1h", "tierCacheWrite1h", "set: … for an hour"},
	{"daily-from", "dailyFrom", "set: only from this time of the day on, in UTC, like 22:30"},
	{"daily-to", "dailyTo", "set: only until this time"},
	{"source", "source", "set: where the figures are from"},
	{"source-date", "sourceDate", "set: the day on which the source said so, like 2026-10-31"},
	{"note", "note", "set: what whoever reads it later should know"},
}

func (p *program) priceFlags() priceFlags {
	set := p.flags("price", strings.Join(priceWords, "|"), aboutPrices)
	f := priceFlags{
		set:      set,
		provider: set.String("provider", "", "list: only of this provider"),
		model:    set.String("model", "", "the full name of a model, like openai/gpt-5-mini"),
		from:     set.String("from", "", "set, recompute: from when on, like 2026-10-31 or 2026-10-31T14:00 in PROMPTOPS_TIMEZONE (default from the beginning)"),
		until:    set.String("until", "", "set, recompute: until when (default for good; of recompute: until now)"),
		fields:   map[string]*string{},
		corrects: set.Int64("corrects", 0, "set: the number of the price in the place of which it comes"),
		undo:     set.Int64("undo", 0, "recompute: the number of a recomputation that is to be taken back"),
		reported: set.Bool("reported", false, "recompute: also costs that the provider named itself"),
		dryRun:   set.Bool("dry-run", false, "recompute: change nothing, only say what it would come to"),
		asJSON:   set.Bool("json", false, "print JSON"),
	}
	for _, one := range priceFieldFlags {
		f.fields[one.field] = set.String(one.flag, "", one.about)
	}
	return f
}

// pricing is what the price commands work on.
type pricing struct {
	*program
	priceFlags
	store *price.Store
	jobs  *price.Jobs
	zone  *time.Location
}

func prices(ctx context.Context, p *program, args []string) error {
	flags := p.priceFlags()
	word, err := parse(flags.set, args, priceWords...)
	if err != nil {
		return err
	}
	if word == "" {
		return fmt.Errorf("%w: say one of %s", errUsage, strings.Join(priceWords, ", "))
	}
	if _, _, ok := provider.Split(*flags.model); !ok && (word == "set" || *flags.model != "" || word == "recompute" && *flags.undo == 0) {
		return fmt.Errorf("%w: --model must be the full name of a model, like openai/gpt-5-mini", errUsage)
	}
	f, err := p.openMigrated(ctx, p.quiet())
	if err != nil {
		return err
	}
	defer f.close()
	k := pricing{p, flags, price.NewStore(f.pool), price.NewJobs(f.pool, postgres.NewReader(f.pool), f.config.Zone()), f.config.Zone()}
	if _, err := k.store.Seed(ctx); err != nil {
		return err
	}
	switch word {
	case "list":
		return k.listPrices(ctx)
	case "set":
		return k.setPrice(ctx)
	default:
		return k.recompute(ctx)
	}
}

// listedPrice is a price as "price list --json" prints it.
type listedPrice struct {
	ID            int64      `json:"id"`
	Model         string     `json:"model"`
	Input         price.USD  `json:"input"` // per million tokens, like the others
	Output        price.USD  `json:"output"`
	CacheRead     *price.USD `json:"cacheRead"` // null: not listed
	CacheWrite5m  *price.USD `json:"cacheWrite5m"`
	CacheWrite1h  *price.USD `json:"cacheWrite1h"`
	TierAbove     *int64     `json:"tierAboveInputTokens"`
	TierInput     *price.USD `json:"tierInput"`
	TierOutput    *price.USD `json:"tierOutput"`
	TierCacheRead *price.USD `json:"tierCacheRead"`
	TierWrite5m   *price.USD `json:"tierCacheWrite5m"`
	TierWrite1h   *price.USD `json:"tierCacheWrite1h"`
	From          *time.Time `json:"effectiveFrom"` // null: from the beginning
	Until         *time.Time `json:"effectiveTo"`   // null: for good
	DailyFrom     string     `json:"dailyFromUtc"`  // empty: at any time of the day
	DailyTo       string     `json:"dailyToUtc"`
	Source        string     `json:"source"`
	Note          string     `json:"note"`
	SetBy         string     `json:"setBy"` // empty: came with the program
	InForce       bool       `json:"inForce"`
	WithdrawnAt   *time.Time `json:"withdrawnAt"` // null: it is on the list
}

func listedOf(e price.Entry, inForce bool) listedPrice {
	values := e.Values(time.UTC)
	return listedPrice{
		e.ID, e.Provider + "/" + e.Model, e.Input, e.Output, e.CacheRead, e.CacheWrite5m, e.CacheWrite1h,
		e.TierAboveInputTokens, e.TierInput, e.TierOutput, e.TierCacheRead, e.TierCacheWrite5m, e.TierCacheWrite1h,
		e.EffectiveFrom, e.EffectiveTo, values.Get("dailyFrom"), values.Get("dailyTo"), e.Source, e.Note, e.CreatedBy, inForce, e.WithdrawnAt,
	}
}

func (k pricing) listPrices(ctx context.Context) error {
	book, err := k.store.Load(ctx)
	if err != nil {
		return err
	}
	id, model, one := provider.Split(*k.model)
	var entries []price.Entry
	if one {
		entries, err = k.store.History(ctx, id, model)
	} else {
		entries, err = k.store.All(ctx)
	}
	if err != nil {
		return err
	}
	now, list := time.Now(), []listedPrice{}
	for _, e := range entries {
		inForce := slices.ContainsFunc(book.Holding(e.Provider, e.Model, now), func(p price.Price) bool { return p.ID == e.ID })
		if (inForce || one) && (*k.provider == "" || e.Provider == *k.provider) {
			list = append(list, listedOf(e, inForce))
		}
	}
	unpriced, err := k.jobs.Unpriced(ctx)
	if err != nil {
		return err
	}
	if *k.asJSON {
		return json.NewEncoder(k.stdout).Encode(list)
	}
	w := tabwriter.NewWriter(k.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tINPUT\tFROM CACHE\tOUTPUT\tFROM\tUNTIL\tHOURS (UTC)\tSET BY\tSTATE\tID")
	for _, l := range list {
		cached, hours, by, state := "-", "any", l.SetBy, "in force"
		if l.CacheRead != nil {
			cached = "$" + l.CacheRead.String()
		}
		if l.DailyFrom != "" {
			hours = l.DailyFrom + "-" + l.DailyTo
		}
		if by == "" {
			by = "the program"
		}
		switch {
		case l.WithdrawnAt != nil:
			state = "withdrawn"
		case !l.InForce:
			state = "not in force"
		}
		fmt.Fprintf(w, "%s\t$%s\t%s\t$%s\t%s\t%s\t%s\t%s\t%s\t%d\n", l.Model, l.Input, cached, l.Output, when(l.From, "ever"), when(l.Until, "-"), hours, by, state, l.ID)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, u := range unpriced {
		if *k.model == "" || *k.model == u.FullName() {
			fmt.Fprintf(k.stderr, "Warning: %d attempts of %s have no price, since %s.\n", u.Attempts, u.FullName(), u.First.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// when is an instant, or what there is in its place.
func when(at *time.Time, otherwise string) string {
	if at == nil {
		return otherwise
	}
	return at.UTC().Format(time.RFC3339)
}

func (k pricing) setPrice(ctx context.Context) error {
	id, model, _ := provider.Split(*k.model)
	values := url.Values{"provider": {id}, "model": {model}, "from": {*k.from}, "until": {*k.until}}
	for field, value := range k.fields {
		values.Set(field, *value)
	}
	wanted, err := price.Parse(values, k.zone)
	if err != nil {
		return err
	}
	entries, err := k.store.History(ctx, id, model)
	if err != nil {
		return err
	}
	number, changed, err := k.store.Set(ctx, price.Change{Price: wanted, Corrects: *k.corrects, Seen: price.Seen(entries)}, audit.CommandLine, time.Now())
	switch {
	case err != nil:
		return err
	case !changed:
		fmt.Fprintln(k.stderr, "Nothing was changed: that is how it is already.")
	default:
		fmt.Fprintf(k.stderr, "Set price %d of %s, for every run that starts while it is in force. What attempts cost already stays; promptops price recompute changes it.\n", number, *k.model)
	}
	if *k.asJSON {
		set, err := k.store.Entry(ctx, number)
		if err != nil {
			return err
		}
		book, err := k.store.Load(ctx)
		if err != nil {
			return err
		}
		inForce := slices.ContainsFunc(book.Holding(id, model, time.Now()), func(p price.Price) bool { return p.ID == number })
		return json.NewEncoder(k.stdout).Encode(listedOf(set, inForce))
	}
	return nil
}

// recomputed is a recomputation as "price recompute --json" prints it.
type recomputed struct {
	Job      int64     `json:"job"` // 0: a dry run
	Model    string    `json:"model"`
	DryRun   bool      `json:"dryRun"`
	Attempts int64     `json:"attempts"`
	Changed  int64     `json:"changed"`
	Priced   int64     `json:"priced"`
	Unpriced int64     `json:"unpriced"`
	Kept     int64     `json:"kept"`
	OldUSD   price.USD `json:"oldUsd"`
	NewUSD   price.USD `json:"newUsd"`
}

func (k pricing) recompute(ctx context.Context) error {
	now := time.Now()
	if *k.undo != 0 {
		if *k.dryRun {
			return fmt.Errorf("%w: --undo and --dry-run exclude each other", errUsage)
		}
		id, err := k.jobs.Undo(ctx, *k.undo, audit.CommandLine, now)
		if err != nil {
			return err
		}
		return k.finish(ctx, id)
	}
	values := url.Values{"name": {*k.model}, "from": {*k.from}, "until": {*k.until}}
	if *k.reported {
		values.Set("reported", "yes")
	}
	span, err := price.ParseSpan(values, now, k.zone)
	if err != nil {
		return err
	}
	entries, err := k.store.History(ctx, span.Provider, span.Model)
	if err != nil {
		return err
	}
	sums, err := k.jobs.Preview(ctx, span)
	if err != nil {
		return err
	}
	if *k.dryRun {
		return k.say(0, span.FullName(), sums)
	}
	id, err := k.jobs.Start(ctx, span, price.Seen(entries), &sums, audit.CommandLine, now)
	if err != nil {
		return err
	}
	return k.finish(ctx, id)
}

// finish does the job, together with whatever servers are running, and says what it
// came to.
func (k pricing) finish(ctx context.Context, id int64) error {
	worker := price.NewRecomputer(k.jobs, k.quiet())
	for {
		if err := worker.RunOnce(ctx, time.Now()); err != nil {
			return fmt.Errorf("recomputation %d is not done; a running server goes on with it: %w", id, err)
		}
		job, err := k.jobs.Find(ctx, id)
		if err != nil {
			return err
		}
		if job.Done() {
			return k.say(id, job.FullName(), job.Sums)
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("recomputation %d is not done; a running server goes on with it", id), ctx.Err())
		case <-time.After(100 * time.Millisecond): // a server is at it
		}
	}
}

func (k pricing) say(id int64, name string, s price.Sums) error {
	if *k.asJSON {
		return json.NewEncoder(k.stdout).Encode(recomputed{id, name, id == 0, s.Seen, s.Changed, s.Priced, s.Unpriced, s.Kept, s.OldUSD, s.NewUSD})
	}
	verb := "Recomputed"
	if id == 0 {
		verb = "Would recompute"
	}
	fmt.Fprintf(k.stdout, "%s %d of %d attempts of %s: $%s before, $%s after. %d get a price, %d lose theirs, %d are kept as they are.\n",
		verb, s.Changed, s.Seen, name, s.OldUSD, s.NewUSD, s.Priced, s.Unpriced, s.Kept)
	if id != 0 && s.Changed > 0 {
		fmt.Fprintf(k.stderr, "It is number %d; promptops price recompute --undo %d takes a recomputation back.\n", id, id)
	}
	return nil
}
