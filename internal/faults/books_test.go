package faults

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/provider/sandbox"
)

// runRow is a run as it is stored.
type runRow struct {
	ID         uuid.UUID
	Marker     string
	Status     string
	Tokens     int64
	Cost       decimal.Decimal
	Unpriced   int
	FinishedAt time.Time
	attempts   []attemptRow
}

// attemptRow is an attempt as it is stored. price is what its tokens cost at the
// list price of its moment, worked out here and nowhere else.
type attemptRow struct {
	RunID                                        uuid.UUID
	Ordinal                                      int
	Model, Status                                string
	KeySource                                    *string
	Tries                                        int
	Input, Cached, CacheWrite, Output, Reasoning *int64
	UsageSource                                  *string
	Cost, Price                                  *decimal.Decimal
	CostSource, ErrorClass, CallID               *string
}

func of[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// books are all rows, once nothing runs.
type books struct {
	w        *world
	runs     map[uuid.UUID]*runRow
	byMarker map[string][]*runRow
}

func (w *world) books() *books {
	w.t.Helper()
	b := &books{w: w, runs: map[uuid.UUID]*runRow{}, byMarker: map[string][]*runRow{}}
	rows, err := w.pool.Query(w.ctx, `
		select id, coalesce(client_request_id, '') as marker, status, coalesce(total_tokens, 0) as tokens,
		       coalesce(total_cost_usd, 0) as cost, coalesce(unpriced, 0) as unpriced, coalesce(finished_at, 'epoch') as finished_at
		from public.prompt_runs order by id`)
	must(w.t, err)
	runs, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByNameLax[runRow])
	must(w.t, err)
	for _, r := range runs {
		b.runs[r.ID] = r
		b.byMarker[r.Marker] = append(b.byMarker[r.Marker], r)
	}
	rows, err = w.pool.Query(w.ctx, `
		select a.run_id, a.ordinal::int, a.model, a.status, a.key_source, a.tries::int,
		       a.input_tokens as input, a.cached_input_tokens as cached, a.cache_write_tokens as cache_write, a.output_tokens as output, a.reasoning_tokens as reasoning,
		       a.usage_source, a.cost_usd as cost, a.cost_source, a.error_class, a.provider_request_id as call_id,
		       (a.input_tokens * p.input + a.output_tokens * p.output) / 1000000 as price
		from public.prompt_attempts a
		left join ops.model_prices p on p.provider || '/' || p.model = a.model and a.created_at >= p.effective_from and a.created_at < p.effective_to
		order by a.run_id, a.ordinal`)
	must(w.t, err)
	attempts, err := pgx.CollectRows(rows, pgx.RowToStructByName[attemptRow])
	must(w.t, err)
	for _, a := range attempts {
		r := b.runs[a.RunID]
		if r == nil {
			w.t.Errorf("attempt %s of run %s, which there is not", a.Model, a.RunID)
			continue
		}
		if len(r.attempts) != a.Ordinal {
			w.t.Errorf("run %s: attempts are missing or twice at %d", r.ID, a.Ordinal)
		}
		r.attempts = append(r.attempts, a)
	}
	return b
}

// balance checks the rows against each other: sums, prices, counters.
func (b *books) balance() {
	t := b.w.t
	t.Helper()
	for _, r := range b.runs {
		var tokens int64
		var cost decimal.Decimal
		unpriced := 0
		for _, a := range r.attempts {
			tokens += of(a.Input) + of(a.Output)
			if a.Cost == nil {
				unpriced++
			} else {
				cost = cost.Add(*a.Cost)
			}
			switch of(a.CostSource) {
			case "computed", "estimated":
				if a.Price == nil || a.Cost == nil || !a.Price.Equal(*a.Cost) {
					t.Errorf("run %s, %s: costs %v, should cost %v", r.ID, a.Model, a.Cost, a.Price)
				}
			}
		}
		if len(r.attempts) == 0 || tokens != r.Tokens || !cost.Equal(r.Cost) || unpriced != r.Unpriced {
			t.Errorf("run %s (%s): %d tokens, %s USD, %d unpriced in %d attempts; the run says %d, %s, %d",
				r.ID, r.Status, tokens, cost, unpriced, len(r.attempts), r.Tokens, r.Cost, r.Unpriced)
		}
	}
	for _, wrong := range b.w.counters() {
		t.Errorf("a budget counter is not the sum over the rows: %s", wrong)
	}
	for _, what := range []string{
		`select count(*) from ops.learner_pace where running <> 0`,
		`select count(*) from ops.idempotency i where answer is null`,
		`select count(*) from public.prompt_runs where plan is not null and status <> 'interrupted'`,
	} {
		if n := value[int](b.w, what); n != 0 {
			t.Errorf("nothing runs, but: %s = %d", what, n)
		}
	}
}

// counters are those of ops.budget_counters that differ from the rows.
func (w *world) counters() []string {
	w.t.Helper()
	rows, err := w.pool.Query(w.ctx, `
		with spent as (
		  select created_at::date as day, date_trunc('month', created_at)::date as month, fallback_key_id as key, user_id as learner, cost_usd as usd
		  from public.prompt_attempts where key_source = 'fallback' and cost_usd <> 0
		), summed as (
		  select 'platform' as scope, '00000000-0000-0000-0000-000000000000'::uuid as subject, day as period, sum(usd) as usd from spent group by day
		  union all select 'key', key, month, sum(usd) from spent group by key, month
		  union all select 'learner', learner, day, sum(usd) from spent group by learner, day
		)
		select format('%s %s %s: counted %s, spent %s', scope, subject, period, c.used_usd, s.usd)
		from ops.budget_counters c full join summed s using (scope, subject, period)
		where coalesce(c.used_usd, 0) <> coalesce(s.usd, 0)`)
	must(w.t, err)
	wrong, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(w.t, err)
	return wrong
}

// asTold checks every acknowledged answer against the rows, and returns how many
// runs that were.
func (b *books) asTold(answers []answer) int {
	t := b.w.t
	t.Helper()
	first := map[string]answer{}
	seen := map[string]bool{}
	lost := 0
	for _, a := range answers {
		if !a.acknowledged() {
			continue
		}
		id, err := uuid.Parse(a.envelope.RequestID)
		r := b.runs[id]
		if err != nil || r == nil {
			lost++
			t.Errorf("lost: run %q was acknowledged and is not there (asked %+v)", a.envelope.RequestID, a.ask)
			continue
		}
		seen[a.envelope.RequestID] = true
		for _, problem := range r.differs(a) {
			t.Errorf("run %s was answered otherwise than it is stored (replayed: %v): %s", id, a.replayed, problem)
		}
		if before, told := first[a.envelope.RequestID]; !told {
			first[a.envelope.RequestID] = a
		} else if !a.replayed && !before.replayed {
			t.Errorf("run %s was answered twice and neither was a replay", id)
		} else if !a.ask.stream && string(before.body) != string(a.body) {
			t.Errorf("the replay of run %s differs:\n%s\n%s", id, before.body, a.body)
		}
	}
	return len(seen)
}

// stored is the status that a run has to have whose caller was told this.
func (e envelope) stored() string {
	status := e.Status
	for _, r := range e.Results {
		if c := r.class(); c == "interrupted" || c == "cancelled" {
			status = c
		}
	}
	return status
}

func (r *runRow) differs(told answer) (problems []string) {
	differ := func(what string, stored, said any) {
		if stored != said {
			problems = append(problems, fmt.Sprintf("%s: stored %v, said %v", what, stored, said))
		}
	}
	e := told.envelope
	differ("marker", r.Marker, told.ask.marker)
	differ("status", r.Status, e.stored())
	differ("tokens", r.Tokens, e.TotalTokens)
	differ("cost", r.Cost.String(), e.TotalCost.String())
	differ("unpriced", r.Unpriced, e.Unpriced)
	differ("attempts", len(r.attempts), len(e.Results))
	for i := range min(len(r.attempts), len(e.Results)) {
		row, said := r.attempts[i], e.Results[i]
		status := said.Status
		if c := said.class(); c == "interrupted" || c == "cancelled" {
			status = c
		}
		differ("model", row.Model, said.Model)
		differ("attempt's status", row.Status, status)
		differ("class", of(row.ErrorClass), said.class())
		differ("keySource", of(row.KeySource), of(said.KeySource))
		differ("costSource", of(row.CostSource), of(said.CostSource))
		differ("attempt's cost", row.Cost == nil, said.Cost == nil)
		differ("attempt's cost", of(row.Cost).String(), of(said.Cost).String())
		differ("tries", row.Tries, said.Attempts)
		differ("usage", row.Input == nil, said.Usage == nil)
		if said.Usage != nil {
			u := *said.Usage
			differ("usage", [5]int64{of(row.Input), of(row.Cached), of(row.CacheWrite), of(row.Output), of(row.Reasoning)},
				[5]int64{u.InputTokens, u.CachedInputTokens, u.CacheWriteTokens, u.OutputTokens, u.ReasoningTokens})
			differ("usage's source", of(row.UsageSource), u.Source)
		}
	}
	return problems
}

// asBilled checks attempts against what the sandbox would have billed: every call
// belongs to one attempt that knows of it.
func (b *books) asBilled(entries []sandbox.Entry) {
	t := b.w.t
	t.Helper()
	type place struct{ marker, model string }
	calls := map[place][]sandbox.Entry{}
	byID := map[string]sandbox.Entry{}
	for _, e := range entries {
		at := place{e.Marker, e.Provider + "/" + e.Model}
		calls[at] = append(calls[at], e)
		byID[e.ID] = e
	}
	covered := map[string]uuid.UUID{}
	type known struct {
		tries   int
		excuse  bool // an attempt that did not get, or not at once, what was billed
		unknown bool // one that nobody knows the tries of
	}
	attempts := map[place]*known{}
	for _, r := range b.runs {
		for _, a := range r.attempts {
			at := place{r.Marker, a.Model}
			if attempts[at] == nil {
				attempts[at] = &known{}
			}
			k := attempts[at]
			k.tries += a.Tries
			k.unknown = k.unknown || a.Status == "interrupted"
			k.excuse = k.excuse || a.Status != "ok" || a.Tries > 1
			if a.Status != "ok" {
				continue
			}
			e, billed := byID[of(a.CallID)]
			if !billed || !e.Billed || !e.Finished || e.Marker != r.Marker || e.Provider+"/"+e.Model != a.Model {
				t.Errorf("run %s, %s: ok without a billed call: %q is %+v", r.ID, a.Model, of(a.CallID), e)
				continue
			}
			if other, twice := covered[e.ID]; twice {
				t.Errorf("call %s belongs to run %s and to %s", e.ID, other, r.ID)
			}
			covered[e.ID] = r.ID
			if of(a.UsageSource) == "reported" && (of(a.Input) != e.Input || of(a.Cached) != e.Cached || of(a.CacheWrite) != e.CacheWrite || of(a.Output) != e.Output || of(a.Reasoning) != e.Reasoning) {
				t.Errorf("run %s, %s: recorded %d + %d tokens, billed %+v", r.ID, a.Model, of(a.Input), of(a.Output), e)
			}
			if of(a.UsageSource) != "reported" && a.Tries == 1 {
				t.Errorf("run %s, %s: ok at once, but its usage is %s", r.ID, a.Model, of(a.UsageSource))
			}
		}
	}
	for at, made := range calls {
		k := attempts[at]
		if k == nil {
			t.Errorf("%d calls of %v without a run that knows of them", len(made), at)
			continue
		}
		if len(made) > k.tries && !k.unknown {
			t.Errorf("%d calls of %v, but the rows know of %d", len(made), at, k.tries)
		}
		for _, e := range made {
			if _, ok := covered[e.ID]; e.Finished && !ok && !k.excuse {
				t.Errorf("billed call %+v is not in the books", e)
			}
		}
	}
}

// onlyOnce checks that no idempotency key came to an outcome twice, and that no
// other request ran twice at all.
func (b *books) onlyOnce(answers []answer) {
	t := b.w.t
	t.Helper()
	keyed := map[string]bool{}
	for _, a := range answers {
		keyed[a.ask.marker] = a.ask.key != ""
	}
	for marker, runs := range b.byMarker {
		outcomes := map[string]int{}
		for _, r := range runs {
			outcomes[r.Status]++
		}
		if n := outcomes["success"] + outcomes["partial"] + outcomes["error"]; n > 1 || !keyed[marker] && len(runs) > 1 {
			t.Errorf("request %s (with a key: %v) ran more than once: %v", marker, keyed[marker], outcomes)
		}
	}
}

// interruptedAreLogged checks the log line of every run that was closed as
// interrupted.
func (b *books) interruptedAreLogged() {
	b.w.t.Helper()
	logged := map[string]bool{}
	for _, n := range b.w.nodes {
		for line := range strings.Lines(n.said.String()) {
			// Of a run that was stopped some models may have answered.
			if strings.Contains(line, `"event":"ai_run_error"`) || strings.Contains(line, `"event":"ai_run_success"`) && strings.Contains(line, `"interrupted"`) {
				if _, rest, ok := strings.Cut(line, `"requestId":"`); ok {
					logged[rest[:36]] = true
				}
			}
		}
	}
	for _, r := range b.runs {
		if r.Status == "interrupted" && !logged[r.ID.String()] {
			b.w.t.Errorf("run %s was interrupted and no log line says so", r.ID)
		}
	}
}

// statuses counts runs by status.
func (b *books) statuses() string {
	counts := map[string]int{}
	for _, r := range b.runs {
		counts[r.Status]++
	}
	var words []string
	for _, status := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%d %s", counts[status], status))
	}
	return strings.Join(words, ", ")
}
