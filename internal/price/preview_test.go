package price_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/rollup"
)

// roll makes the sums, as the loop of a node does.
func (b *books) roll() {
	b.Helper()
	roller := rollup.NewRoller(b.db, time.UTC, discard)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		done, err := roller.RunOnce(b.Context())
		must(b, err)
		if done {
			return
		}
		if time.Now().After(deadline) {
			b.Fatal("the sums are not made")
		}
	}
}

func (b *books) preview(span price.Span, actor audit.Actor) int64 {
	b.Helper()
	size, err := b.jobs.Size(b.Context(), span)
	must(b, err)
	id, err := b.jobs.StartPreview(b.Context(), span, size, actor, noon)
	must(b, err)
	return id
}

func same(a, b price.Sums) bool {
	return a.Seen == b.Seen && a.Changed == b.Changed && a.Priced == b.Priced && a.Unpriced == b.Unpriced && a.Kept == b.Kept && a.OldUSD.Equal(b.OldUSD) && a.NewUSD.Equal(b.NewUSD)
}

// What is reckoned in the background is what a preview at once says, also when prices
// change meanwhile; what is done then is what was said, or is told to be something else.
func TestPreviewInTheBackground(t *testing.T) {
	b := newBooks(t)
	var runs []uuid.UUID
	for i := range 70 {
		runs = append(runs, b.attempt(made{at: at("2026-11-20T10:00:00Z").Add(time.Duration(i) * time.Second), usage: provider.Usage{Input: int64(1000 + i), Output: 10}, own: true}))
	}
	b.work.InBatchesOf(1) // of previews forty
	b.price("input", "3", "output", "2", "from", "2026-11-01")
	span := b.span()
	id := b.preview(span, audit.CommandLine)
	step := func() bool {
		t.Helper()
		more, err := b.work.Step(t.Context(), noon)
		must(t, err)
		return more
	}
	step()
	if job := b.job(id); job.Done() || job.Seen != 40 || job.Expected != 70 || !job.Preview {
		t.Fatalf("after a batch: %+v", job)
	}
	b.price("input", "5", "output", "2", "from", "2026-11-10") // nobody is in the way of it
	for step() {
	}
	want, err := b.jobs.Preview(t.Context(), span)
	must(t, err)
	job := b.job(id)
	if !job.Done() || !same(job.Sums, want) || job.Changed != 70 {
		t.Errorf("it came to %+v, want %+v", job.Sums, want)
	}
	if got := b.cost(runs[0]); got != "0.00102 computed" {
		t.Errorf("a preview changed it to %s", got)
	}
	if n := b.one(`select count(*) from ops.audit_log where action like 'price.re%'`); n != "0" {
		t.Errorf("%s entries say that something was done", n)
	}
	if latest, err := b.jobs.Latest(t.Context(), "", "", 5); err != nil || len(latest) != 0 {
		t.Errorf("what was recomputed: %+v, %v", latest, err)
	}
	if _, err := b.jobs.Undo(t.Context(), id, audit.CommandLine, noon); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a preview is taken back: %v", err)
	}

	// As promised, and then not: what somebody changed in between makes a difference.
	start := func() price.Job {
		t.Helper()
		id, err := b.jobs.Start(t.Context(), span, b.job(id).PricesSeen, &job.Sums, audit.CommandLine, noon)
		must(t, err)
		must(t, b.work.RunOnce(t.Context(), noon))
		return b.job(id)
	}
	first := start()
	if !same(first.Sums, job.Sums) || !first.AsPromised() || first.Expected != 70 {
		t.Errorf("it came to %+v, promised was %+v", first, job.Sums)
	}
	if again := start(); again.AsPromised() || again.Changed != 0 {
		t.Errorf("once more it came to %+v, as promised", again)
	}

	// While costs are recomputed there is nothing to preview.
	going := b.start(span)
	if _, err := b.jobs.StartPreview(t.Context(), span, price.Size{}, audit.CommandLine, noon); fault.KindOf(err) != fault.Conflict {
		t.Errorf("a preview of what is going on: %v", err)
	}
	must(t, b.work.RunOnce(t.Context(), noon))
	if !b.job(going).Done() {
		t.Error("it is not done")
	}

	// One for each operator; those that are old are forgotten.
	marta := audit.Operator(uuid.New(), "marta@example.org")
	one, mine := b.preview(span, audit.CommandLine), b.preview(span, marta)
	other := b.preview(span, marta)
	for id, gone := range map[int64]bool{one: false, mine: true, other: false, id: false} {
		if _, err := b.jobs.Find(t.Context(), id); (fault.KindOf(err) == fault.NotFound) != gone {
			t.Errorf("preview %d: %v", id, err)
		}
	}
	b.exec(`update ops.price_jobs set created_at = created_at - interval '2 days' where id = $1`, id)
	b.preview(span, marta)
	if _, err := b.jobs.Find(t.Context(), id); fault.KindOf(err) != fault.NotFound {
		t.Errorf("an old one: %v", err)
	}
}

// Where hardly anything is summed nobody waits until very many are counted.
func TestSizeOfVeryMany(t *testing.T) {
	b := newBooks(t)
	b.exec(`
		insert into public.prompt_attempts (run_id, ordinal, created_at, provider, model, status, tries, input_tokens, output_tokens, cost_source)
		select gen_random_uuid(), 0, timestamptz '2026-11-10T00:00:00Z' + n * interval '1 second', 'openai', 'openai/gpt-5-mini', 'ok', 1, 10, 10, 'unpriced'
		from generate_series(1, 50001) n`)
	size, err := b.jobs.Size(t.Context(), b.span())
	must(t, err)
	if !size.Uncounted || size.Small() {
		t.Errorf("before there are sums: %+v", size)
	}
	b.roll()
	if size, err = b.jobs.Size(t.Context(), b.span()); err != nil || size.Uncounted || size.Attempts != 50001 || size.Small() {
		t.Errorf("with sums: %+v, %v", size, err)
	}
	if size, err = b.jobs.Size(t.Context(), b.span("from", "2026-11-10T10:00", "until", "2026-11-10T10:10")); err != nil || size.Attempts != 600 || !size.Small() {
		t.Errorf("of ten minutes: %+v, %v", size, err)
	}
}

// What sums say is what the attempts say, whatever of them is summed.
func TestSumsOfPrices(t *testing.T) {
	b := newBooks(t)
	random := rand.New(rand.NewPCG(3, 3))
	models := []string{"gpt-5-mini", "gpt-5-mini-2025-08-07", "gpt-5-mini-preview", "gpt-5-mini-otherwise", "unheard-of", "unheard-of-2"}
	add := func(n int, from, to time.Time) {
		for range n {
			model := models[random.IntN(len(models))]
			if random.IntN(3) > 0 {
				model = models[random.IntN(2)]
			}
			b.attempt(made{at: from.Add(time.Duration(random.Int64N(int64(to.Sub(from))))).Truncate(time.Millisecond), model: model,
				usage: provider.Usage{Input: random.Int64N(1000), Output: random.Int64N(1000)}, own: true, source: []string{"", "", "reported"}[random.IntN(3)]})
		}
	}
	check := func(when string) {
		t.Helper()
		unpriced, err := b.jobs.Unpriced(t.Context())
		must(t, err)
		var got []price.Unpriced
		for _, u := range unpriced {
			u.First, u.Last = u.First.UTC(), u.Last.UTC()
			got = append(got, u)
		}
		var want []price.Unpriced
		rows, err := b.db.Query(t.Context(), `
			select 'openai', substr(model, 8), count(*), sum(total_tokens)::bigint, min(created_at), max(created_at) from public.prompt_attempts
			where cost_source = 'unpriced' group by model order by 3 desc, 2`)
		must(t, err)
		for rows.Next() {
			var u price.Unpriced
			must(t, rows.Scan(&u.Provider, &u.Model, &u.Attempts, &u.Tokens, &u.First, &u.Last))
			u.First, u.Last = u.First.UTC(), u.Last.UTC()
			want = append(want, u)
		}
		must(t, rows.Err())
		if !slices.Equal(got, want) {
			t.Errorf("%s: unpriced are %+v, want %+v", when, got, want)
		}
		for _, span := range []price.Span{b.span(), b.span("from", "2026-10-03T10:00"), b.span("from", "2026-10-03", "until", "2026-10-20T03:30", "reported", "yes")} {
			size, err := b.jobs.Size(t.Context(), span)
			must(t, err)
			from := time.Time{}
			if span.From != nil {
				from = *span.From
			}
			var all, reckoned int64
			var old price.USD
			must(t, b.db.QueryRow(t.Context(), `
				select count(*), count(*) filter (where $3 or cost_source <> 'reported'), coalesce(sum(cost_usd) filter (where $3 or cost_source <> 'reported'), 0)
				from public.prompt_attempts
				where model in ('openai/gpt-5-mini', 'openai/gpt-5-mini-2025-08-07') and created_at >= $1 and created_at < $2`,
				from, span.To, span.Reported).Scan(&all, &reckoned, &old))
			sums, err := b.jobs.Preview(t.Context(), span)
			must(t, err)
			if size.Attempts != all || sums.Seen != reckoned || !sums.OldUSD.Equal(old) {
				t.Errorf("%s, %v: %d attempts and a preview of %d for %s, want %d, %d and %s", when, span.Values(), size.Attempts, sums.Seen, sums.OldUSD, all, reckoned, old)
			}
		}
	}
	check("nothing")
	add(150, at("2026-09-20T00:00:00Z"), at("2026-10-10T00:00:00Z"))
	check("before")
	b.roll()
	check("summed")
	add(40, at("2026-10-02T00:00:00Z"), at("2026-11-20T00:00:00Z"))
	check("with late ones")
	b.roll()
	check("summed again")
	b.price("model", "unheard-of", "input", "1", "output", "1", "from", "2026-10-01")
	b.start(b.span("name", "openai/unheard-of"))
	must(t, b.work.RunOnce(t.Context(), noon))
	check("priced")
	b.roll()
	check("priced and summed")
	if n := b.one(`select count(*) from ops.usage_unpriced`); n == "0" {
		t.Error("nothing was summed")
	}
}
