package price_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

var discard = slog.New(slog.DiscardHandler)

// books is a database with attempts of one model, and what is needed to recompute
// them.
type books struct {
	*testing.T
	db    *pgxpool.Pool
	store *price.Store
	jobs  *price.Jobs
	work  *price.Recomputer
	key   uuid.UUID // a fallback key
	user  uuid.UUID
}

func newBooks(t *testing.T) *books {
	t.Helper()
	db := pgtest.Database(t)
	jobs := price.NewJobs(db, postgres.NewReader(db), time.UTC)
	b := &books{t, db, price.NewStore(db), jobs, price.NewRecomputer(jobs, discard), uuid.New(), uuid.New()}
	b.exec(`select ops.ensure_partitions('2026-09-01', '2026-12-01')`)
	b.price("input", "1", "output", "2", "cacheRead", "0.1", "from", "2026-10-01")
	return b
}

func (b *books) exec(sql string, args ...any) {
	b.Helper()
	if _, err := b.db.Exec(b.Context(), sql, args...); err != nil {
		b.Fatalf("%v: %s", err, sql)
	}
}

func (b *books) one(sql string, args ...any) (text string) {
	b.Helper()
	must(b, b.db.QueryRow(b.Context(), `select (`+sql+`)::text`, args...).Scan(&text))
	return text
}

// price sets a price.
func (b *books) price(fields ...string) int64 {
	b.Helper()
	return b.set(0, fields...)
}

func (b *books) set(corrects int64, fields ...string) int64 {
	b.Helper()
	p := parsed(b.T, fields...)
	entries, err := b.store.History(b.Context(), p.Provider, p.Model)
	must(b, err)
	id, _, err := b.store.Set(b.Context(), price.Change{Price: p, Corrects: corrects, Seen: price.Seen(entries)}, audit.CommandLine, noon)
	must(b, err)
	return id
}

// made is an attempt to be stored.
type made struct {
	at       time.Time
	model    string // "": gpt-5-mini
	usage    provider.Usage
	source   string // of the cost; "": computed
	tries    int    // 0: one
	own      bool   // the learner's own key paid
	estimate bool
}

// attempt stores one by the prices of the moment, as a run does.
func (b *books) attempt(m made) uuid.UUID {
	b.Helper()
	book, err := b.store.Load(b.Context())
	must(b, err)
	run := uuid.New()
	if m.model == "" {
		m.model = "gpt-5-mini"
	}
	listed, known := book.Find("openai", m.model, m.at)
	var cost *price.USD
	var priceID *int64
	source, usageSource := "unpriced", "reported"
	if known {
		c := price.Cost(listed, m.usage)
		cost, priceID, source = &c, &listed.ID, "computed"
	}
	if m.estimate {
		usageSource = "estimated"
		if known {
			source = "estimated"
		}
	}
	if m.source == "reported" {
		c := usd(b, "0.5")
		cost, priceID, source = &c, nil, "reported"
	}
	keySource, userKey, fallbackKey := "fallback", (*uuid.UUID)(nil), &b.key
	if m.own {
		keySource, userKey, fallbackKey = "user", new(uuid.New()), nil
	}
	b.exec(`
		insert into public.prompt_runs (id, created_at, user_id, models, status, finished_at, total_cost_usd, unpriced)
		values ($1, $2, $3, array['openai/gpt-5-mini'], 'success', $2, coalesce($4::numeric, 0), case when $4::numeric is null then 1 else 0 end)`,
		run, m.at, b.user, cost)
	b.exec(`
		insert into public.prompt_attempts
		  (run_id, ordinal, created_at, user_id, provider, model, status, key_source, user_key_id, fallback_key_id, tries,
		   input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, usage_source, cost_usd, cost_source, price_id, duration_ms)
		values ($1, 0, $2, $3, 'openai', 'openai/' || $4, 'ok', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 5)`,
		run, m.at, b.user, m.model, keySource, userKey, fallbackKey, max(m.tries, 1),
		m.usage.Input, m.usage.CachedInput, m.usage.CacheWrite, m.usage.Output, usageSource, cost, source, priceID)
	return run
}

func (b *books) cost(run uuid.UUID) string {
	b.Helper()
	return b.one(`select coalesce(trim_scale(cost_usd)::text, 'unknown') || ' ' || cost_source from public.prompt_attempts where run_id = $1`, run)
}

func (b *books) span(fields ...string) price.Span {
	b.Helper()
	values := url.Values{"name": {"openai/gpt-5-mini"}}
	for i := 0; i < len(fields); i += 2 {
		values.Set(fields[i], fields[i+1])
	}
	span, err := price.ParseSpan(values, noon, time.UTC)
	must(b, err)
	return span
}

func (b *books) start(span price.Span) int64 {
	b.Helper()
	entries, err := b.store.History(b.Context(), span.Provider, span.Model)
	must(b, err)
	id, err := b.jobs.Start(b.Context(), span, price.Seen(entries), nil, audit.CommandLine, noon)
	must(b, err)
	return id
}

func (b *books) job(id int64) price.Job {
	b.Helper()
	job, err := b.jobs.Find(b.Context(), id)
	must(b, err)
	return job
}

// recount makes the counters as runs would have left them.
func (b *books) recount() {
	b.Helper()
	b.exec(`delete from ops.budget_counters`)
	b.exec(`insert into ops.budget_counters ` + counted)
}

// counted is what the counters of November have to be.
const counted = `
	select 'platform', '00000000-0000-0000-0000-000000000000'::uuid, (created_at at time zone 'UTC')::date, sum(cost_usd) from public.prompt_attempts
	where key_source = 'fallback' and created_at >= '2026-11-01' and cost_usd > 0 group by (created_at at time zone 'UTC')::date
	union all
	select 'learner', user_id, (created_at at time zone 'UTC')::date, sum(cost_usd) from public.prompt_attempts
	where key_source = 'fallback' and created_at >= '2026-11-01' and cost_usd > 0 group by user_id, (created_at at time zone 'UTC')::date
	union all
	select 'key', fallback_key_id, date_trunc('month', created_at at time zone 'UTC')::date, sum(cost_usd) from public.prompt_attempts
	where key_source = 'fallback' and created_at >= '2026-11-01' and cost_usd > 0 group by 2, 3`

// whole fails unless everything that is a sum of attempts still is.
func (b *books) whole() {
	b.Helper()
	if n := b.one(`
		select count(*) from public.prompt_runs r
		join (select run_id, coalesce(sum(cost_usd), 0) as usd, count(*) filter (where cost_usd is null) as unpriced from public.prompt_attempts group by 1) s on s.run_id = r.id
		where r.total_cost_usd <> s.usd or r.unpriced <> s.unpriced`); n != "0" {
		b.Errorf("%s runs are not the sum of their attempts", n)
	}
	if n := b.one(`
		select count(*) from (
		  (select scope, subject, period, used_usd from ops.budget_counters where period >= '2026-11-01' and used_usd <> 0 except (` + counted + `))
		  union all ((` + counted + `) except select scope, subject, period, used_usd from ops.budget_counters)
		) d`); n != "0" {
		b.Errorf("%s counters are not the sum of the attempts", n)
	}
}

func at(s string) time.Time {
	parsed, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return parsed
}

func TestRecompute(t *testing.T) {
	b := newBooks(t)
	usage := provider.Usage{Input: 1_000_000, CachedInput: 200_000, Output: 500_000}
	before := b.attempt(made{at: at("2026-09-20T10:00:00Z"), usage: usage})
	october := b.attempt(made{at: at("2026-10-20T10:00:00Z"), usage: usage})
	november := b.attempt(made{at: at("2026-11-20T10:00:00Z"), usage: usage})
	own := b.attempt(made{at: at("2026-11-20T10:00:01Z"), usage: usage, own: true})
	dated := b.attempt(made{at: at("2026-11-20T10:00:02Z"), model: "gpt-5-mini-2025-08-07", usage: usage})
	other := b.attempt(made{at: at("2026-11-20T10:00:03Z"), model: "gpt-5-mini-preview", usage: usage})
	guess := b.attempt(made{at: at("2026-11-20T10:00:04Z"), usage: usage, estimate: true})
	billed := b.attempt(made{at: at("2026-11-20T10:00:05Z"), usage: usage, source: "reported"})
	later := b.attempt(made{at: at("2026-11-24T13:00:00Z"), usage: usage})
	b.recount()
	b.whole()
	if got := b.cost(november); got != "1.82 computed" { // 0.8 × 1 + 0.2 × 0.1 + 0.5 × 2
		t.Fatalf("it was %s", got)
	}

	// From the beginning: those of September get a price, and October's changes.
	b.price("input", "3", "output", "2")
	if got := b.cost(november); got != "1.82 computed" {
		t.Errorf("setting a price changed the past: %s", got)
	}
	b.price("input", "2", "output", "2", "cacheRead", "0.5", "from", "2026-11-01")
	span := b.span()
	preview, err := b.jobs.Preview(t.Context(), span)
	must(t, err)
	id := b.start(span)
	if got, _ := b.jobs.Latest(t.Context(), "openai", "gpt-5-mini", 5); len(got) != 1 || got[0].Status != "running" {
		t.Errorf("jobs: %+v", got)
	}
	entries, err := b.store.History(t.Context(), "openai", "gpt-5-mini")
	must(t, err)
	for name, err := range map[string]error{
		"a second job": func() error {
			_, err := b.jobs.Start(t.Context(), span, price.Seen(entries), nil, audit.CommandLine, noon)
			return err
		}(),
		"a price meanwhile": func() error {
			_, _, err := b.store.Set(t.Context(), price.Change{Price: parsed(t, "from", "2026-11-10"), Seen: price.Seen(entries)}, audit.CommandLine, noon)
			return err
		}(),
		"taking it back meanwhile": func() error { _, err := b.jobs.Undo(t.Context(), id, audit.CommandLine, noon); return err }(),
	} {
		if fault.KindOf(err) != fault.Conflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, b.work.RunOnce(t.Context(), noon))
	for name, c := range map[string]struct {
		run  uuid.UUID
		want string
	}{
		"before the old price": {before, "4 computed"},     // 0.8 × 3 + 0.2 × 3 + 0.5 × 2
		"october":              {october, "1.82 computed"}, // its own price goes before
		"november":             {november, "2.7 computed"}, // 0.8 × 2 + 0.2 × 0.5 + 0.5 × 2
		"an own key":           {own, "2.7 computed"},
		"a dated name":         {dated, "2.7 computed"},
		"another model":        {other, "unknown unpriced"},
		"estimated tokens":     {guess, "2.7 estimated"},
		"what was billed":      {billed, "0.5 reported"},
		"after the end":        {later, "1.82 computed"},
	} {
		if got := b.cost(c.run); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	b.whole()
	job := b.job(id)
	if !job.Done() || job.Sums != preview && (job.Sums.OldUSD.String() != preview.OldUSD.String() || job.Sums.NewUSD.String() != preview.NewUSD.String()) {
		t.Errorf("it came to %+v, the preview said %+v", job.Sums, preview)
	}
	if job.Seen != 6 || job.Changed != 5 || job.Priced != 1 || job.OldUSD.String() != "9.1" || job.NewUSD.String() != "16.62" || job.Difference().String() != "7.52" {
		t.Errorf("it came to %+v", job)
	}
	if got := b.one(`select details -> 'cost_usd' ->> 'from' || ' ' || (details -> 'cost_usd' ->> 'to') || ' ' || actor from ops.audit_log where action = 'price.recomputed'`); got != "9.1 16.62 command line" {
		t.Errorf("the audit log says %s", got)
	}
	again := b.start(span)
	must(t, b.work.RunOnce(t.Context(), noon))
	if got := b.job(again); got.Changed != 0 || got.Seen != 6 {
		t.Errorf("once more: %+v", got)
	}

	// Taken back, all is as it was, but for what was changed again since.
	b.exec(`update public.prompt_attempts set cost_usd = 9 where run_id = $1`, own)
	b.exec(`update public.prompt_runs set total_cost_usd = 9 where id = $1`, own)
	undo, err := b.jobs.Undo(t.Context(), id, audit.CommandLine, noon)
	must(t, err)
	must(t, b.work.RunOnce(t.Context(), noon))
	for run, want := range map[uuid.UUID]string{before: "unknown unpriced", november: "1.82 computed", dated: "1.82 computed", guess: "1.82 estimated", own: "9 computed"} {
		if got := b.cost(run); got != want {
			t.Errorf("taken back: %s, want %s", got, want)
		}
	}
	b.whole()
	if got := b.job(undo); got.Changed != 4 || got.Kept != 1 || got.Undoes == nil || *b.job(id).UndoneBy != undo {
		t.Errorf("taking back came to %+v", got)
	}
	for _, id := range []int64{id, undo} {
		if _, err := b.jobs.Undo(t.Context(), id, audit.CommandLine, noon); err == nil {
			t.Errorf("job %d was taken back again", id)
		}
	}
	reported := b.start(b.span("reported", "yes", "from", "2026-11-01"))
	must(t, b.work.RunOnce(t.Context(), noon))
	if got := b.cost(billed); got != "2.7 computed" || b.job(reported).Seen != 5 {
		t.Errorf("what was billed, if asked for: %s", got)
	}
	b.whole()
}

// Attempts lose their price again when it is taken off the list.
func TestRecomputeWithoutPrice(t *testing.T) {
	b := newBooks(t)
	run := b.attempt(made{at: at("2026-11-20T10:00:00Z"), usage: provider.Usage{Input: 10, Output: 10}})
	b.recount()
	id := b.price("input", "100", "output", "100", "model", "mistake")
	wrong := b.attempt(made{at: at("2026-11-20T11:00:00Z"), model: "mistake", usage: provider.Usage{Input: 10, Output: 10}})
	b.recount()
	_, err := b.store.Withdraw(t.Context(), id, "openai/mistake", audit.CommandLine, noon)
	must(t, err)
	job := b.start(b.span("name", "openai/mistake"))
	must(t, b.work.RunOnce(t.Context(), noon))
	if got := b.cost(wrong); got != "unknown unpriced" || b.job(job).Unpriced != 1 {
		t.Errorf("it costs %s; %+v", got, b.job(job))
	}
	if got := b.cost(run); got != "0.00003 computed" {
		t.Errorf("another model's costs %s", got)
	}
	b.whole()
	unpriced, err := b.jobs.Unpriced(t.Context())
	must(t, err)
	if len(unpriced) != 1 || unpriced[0].FullName() != "openai/mistake" || unpriced[0].Attempts != 1 || unpriced[0].Tokens != 20 || !unpriced[0].First.Equal(at("2026-11-20T11:00:00Z")) {
		t.Errorf("unpriced: %+v", unpriced)
	}
}

// The calls of an attempt are stored as one sum. Where a tier makes a difference it
// is not guessed.
func TestRecomputeSeveralCalls(t *testing.T) {
	b := newBooks(t)
	big, small := provider.Usage{Input: 300_000, Output: 10}, provider.Usage{Input: 100_000, Output: 10}
	once := b.attempt(made{at: at("2026-11-20T10:00:00Z"), usage: big})
	twice := b.attempt(made{at: at("2026-11-20T10:00:01Z"), usage: big, tries: 2})
	below := b.attempt(made{at: at("2026-11-20T10:00:02Z"), usage: small, tries: 2})
	b.recount()
	b.price("input", "1", "output", "2", "tierAbove", "200000", "tierInput", "2", "from", "2026-11-01")
	kept := b.cost(twice)
	job := b.start(b.span())
	must(t, b.work.RunOnce(t.Context(), noon))
	if got := b.cost(once); got != "0.60002 computed" {
		t.Errorf("one call: %s", got)
	}
	if got := b.cost(twice); got != kept {
		t.Errorf("two calls: %s, was %s", got, kept)
	}
	if got := b.cost(below); got != "0.10002 computed" || b.job(job).Kept != 1 {
		t.Errorf("two calls below the tier: %s; %+v", got, b.job(job))
	}
	b.whole()
}

// A node dies in the middle of a batch, again and again, while others go on: in the
// end every attempt was changed once, and all sums are right.
func TestRecomputeKilledHalfWay(t *testing.T) {
	b := newBooks(t)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		input := random.Int64N(1_000_000)
		b.attempt(made{at: at("2026-11-20T10:00:00Z").Add(time.Duration(i/3) * time.Second), own: i%4 == 0,
			usage: provider.Usage{Input: input, CachedInput: random.Int64N(input + 1), Output: random.Int64N(10_000)}})
	}
	b.recount()
	b.price("input", "1.2345", "output", "7.89", "cacheRead", "0.321", "from", "2026-11-01")
	preview, err := b.jobs.Preview(t.Context(), b.span())
	must(t, err)
	id := b.start(b.span())

	// Dies: what it has written is rolled back with its connection.
	b.work.InBatchesOf(7)
	died := 0
	for i := range 4 {
		tx, err := b.db.Begin(t.Context())
		must(t, err)
		doomed := price.NewRecomputer(price.NewJobs(tx, postgres.NewReader(tx), time.UTC), discard)
		doomed.InBatchesOf(7)
		if more, err := doomed.Step(t.Context(), noon); err != nil || !more {
			t.Fatalf("step: %v, %v", more, err)
		}
		// Meanwhile others leave it alone.
		if more, err := b.work.Step(t.Context(), noon); err != nil || more {
			t.Errorf("two at once: %v, %v", more, err)
		}
		must(t, tx.Rollback(context.Background()))
		died++
		if more, err := b.work.Step(t.Context(), noon); err != nil || !more {
			t.Fatalf("going on: %v, %v", more, err)
		}
		if got := b.job(id); got.Seen != int64(7*(i+1)) || got.Done() {
			t.Errorf("after %d deaths: %+v", died, got)
		}
		b.whole()
	}
	var nodes errgroup.Group
	for range 4 {
		nodes.Go(func() error {
			node := price.NewRecomputer(b.jobs, discard)
			node.InBatchesOf(3)
			for range 40 {
				if err := node.RunOnce(t.Context(), noon); err != nil {
					return err
				}
			}
			return nil
		})
	}
	must(t, nodes.Wait())
	must(t, b.work.RunOnce(t.Context(), noon))
	job := b.job(id)
	if !job.Done() || fmt.Sprint(job.Sums) != fmt.Sprint(preview) || job.Seen != 60 {
		t.Errorf("it came to %v, the preview said %v", job.Sums, preview)
	}
	if n := b.one(`select count(*) from ops.price_changes where job_id = $1`, id); n != fmt.Sprint(job.Changed) {
		t.Errorf("%s changes are kept of %d", n, job.Changed)
	}
	if got := b.one(`select sum(cost_usd) from public.prompt_attempts`); !strings.HasPrefix(got, job.NewUSD.String()) {
		t.Errorf("the attempts cost %s, the job says %s", got, job.NewUSD)
	}
	b.whole()
}

func TestParseSpan(t *testing.T) {
	for name, values := range map[string]url.Values{
		"name":  {"name": {"gpt-5-mini"}},
		"from":  {"name": {"openai/gpt-5-mini"}, "from": {"2027-01-01"}},
		"until": {"name": {"openai/gpt-5-mini"}, "until": {"soon"}},
	} {
		if _, err := price.ParseSpan(values, noon, time.UTC); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	span, err := price.ParseSpan(url.Values{"name": {"openrouter/meta/llama"}, "until": {"2030-01-01"}, "reported": {"yes"}}, noon, time.UTC)
	if err != nil || span.Provider != "openrouter" || span.Model != "meta/llama" || !span.To.Equal(noon) || !span.Reported {
		t.Errorf("read %+v (%v)", span, err)
	}
	again, err := price.ParseSpan(span.Values(), noon.AddDate(1, 0, 0), time.UTC)
	if err != nil || again != span {
		t.Errorf("read again %+v (%v)", again, err)
	}
}
