package rollup

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func exec(t testing.TB, db postgres.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(within(t), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func newRoller(pool *pgxpool.Pool, zone *time.Location) *Roller {
	return NewRoller(pool, zone, slog.New(slog.DiscardHandler))
}

// roll sums all there is. Transactions of other tests' databases are waited for.
func roll(t testing.TB, r *Roller) {
	t.Helper()
	for ctx := within(t); ; time.Sleep(20 * time.Millisecond) {
		if done, err := r.RunOnce(ctx); err != nil {
			t.Fatal(err)
		} else if done {
			return
		}
	}
}

var teams = []uuid.UUID{uuid.New(), uuid.New()}

// insert writes n attempts whose times are between from and to.
func insert(t testing.TB, db postgres.DB, r *rand.Rand, n int, from, to time.Time) {
	t.Helper()
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	batch := &pgx.Batch{}
	for range n {
		at := from.Add(time.Duration(r.Int64N(int64(to.Sub(from))))).Truncate(time.Millisecond)
		run, id := uuid.New(), uuid.New()
		var team *uuid.UUID
		if r.IntN(3) > 0 {
			team = &teams[r.IntN(len(teams))]
		}
		for ordinal := range 1 + r.IntN(3) {
			model := pick("openai/a", "anthropic/b", "groq/c") + fmt.Sprint(ordinal)
			provider, _, _ := strings.Cut(model, "/")
			status := pick("ok", "ok", "ok", "error", "cancelled", "interrupted")
			var tokens *int
			if r.IntN(5) > 0 {
				n := r.IntN(1000)
				tokens = &n
			}
			var cost *string
			if r.IntN(5) > 0 {
				usd := fmt.Sprintf("0.%012d", r.Int64N(1e12))
				cost = &usd
			}
			batch.Queue(`
				insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, team_id, provider, model, status, key_source, user_key_id, fallback_key_id,
				  input_tokens, output_tokens, cost_usd, cost_source, duration_ms, first_token_ms)
				values ($1, $2, $3, $4, $5, $6, $7, $8, nullif($9, ''), $4, $4, $10, $10, $11::text::numeric,
				  case when $11::text is not null then 'computed' when $10::bigint is not null then 'unpriced' end, $12, $13)`,
				run, ordinal, at, id, team, provider, model, status, pick("user", "fallback", ""), tokens, cost, 1+r.IntN(40_000), 1+r.IntN(2_000))
		}
	}
	if err := db.SendBatch(within(t), batch).Close(); err != nil {
		t.Fatal(err)
	}
}

// months makes the partitions that the tests write to.
func months(t testing.TB, db postgres.DB) {
	t.Helper()
	now := time.Now().UTC()
	exec(t, db, `select ops.ensure_partitions($1::date, $2::date)`, now.AddDate(0, -4, 0), now.AddDate(0, 1, 0))
}

// line is one sum, written out.
type line struct{ Key, Sums string }

var sumsOf = `concat_ws(' ', ` + func() string {
	var all []string
	for _, c := range strings.Split(SumColumns, ", ") {
		all = append(all, "sum("+c+")")
	}
	return strings.Join(all, ", ")
}() + `)`

// kinds are what each kind of sums is told apart by: subject, provider, model and
// key source of a row; and what only its runs are counted by.
var kinds = []struct {
	kind Kind
	all  string
	runs []string
}{
	{Model, `null, provider, model, coalesce(key_source, '')`, []string{
		`null, provider, '*', coalesce(key_source, '')`, `null, provider, '*', '*'`,
		`null, '*', '*', coalesce(key_source, '')`, `null, '*', '*', '*'`,
	}},
	{Key, `null, '', '', coalesce(key_source, '')`, []string{`null, '', '', '*'`}},
	{Provider, `null, provider, '', coalesce(key_source, '')`, []string{`null, provider, '', '*'`}},
	{Team, `team_id, '', '', coalesce(key_source, '')`, []string{`team_id, '', '', '*'`}},
	{TeamModel, `team_id, provider, model, coalesce(key_source, '')`, []string{`team_id, provider, '*', '*'`}},
	{Template, `template_id, '', '', coalesce(key_source, '')`, []string{`template_id, '', '', '*'`}},
	{Learner, `user_id, '', '', coalesce(key_source, '')`, []string{`user_id, '', '', '*'`}},
}

// read returns the sums of every kind and bucket, once as the plans say and once
// from the rows alone, of the same moment.
func read(t testing.TB, pool *pgxpool.Pool, zone *time.Location, boundaries []time.Time) (planned, plain []line, plans map[Kind]Plan) {
	t.Helper()
	plans = map[Kind]Plan{}
	err := postgres.NewReader(pool).Read(within(t), func(tx pgx.Tx) error {
		known, err := Read(within(t), tx, zone, boundaries[0], boundaries[len(boundaries)-1])
		if err != nil {
			return err
		}
		lines := func(into *[]line, sql string, args ...any) {
			t.Helper()
			rows, err := tx.Query(within(t), sql, args...)
			if err != nil {
				t.Fatal(err)
			}
			some, err := pgx.CollectRows(rows, pgx.RowToStructByName[line])
			if err != nil {
				t.Fatal(err)
			}
			*into = append(*into, some...)
		}
		for _, k := range kinds {
			// counted selects a key and sums, as the store of sums has them, of attempts.
			counted := func(attempts, sums, onlyRuns string) string {
				one := func(columns, sums string) string {
					return fmt.Sprintf(`select concat_ws(' ', bucket, '%s', %s) as key, %s from (%s) a group by 1`, k.kind, columns, sums, attempts)
				}
				all := one(k.all, sums)
				for _, columns := range k.runs {
					all += " union all " + one(columns, onlyRuns)
				}
				return all
			}
			lines(&plain, counted(`select width_bucket(created_at, $1::timestamptz[]) as bucket, * from public.prompt_attempts where created_at >= $2 and created_at < $3`,
				plainSums+" as sums", `concat_ws(' ', count(distinct run_id), `+zeros+`) as sums`)+` order by 1`,
				boundaries, boundaries[0], boundaries[len(boundaries)-1])
			plans[k.kind] = known.Plan(k.kind, boundaries)
			var plan Plan // in parts
			for _, part := range known.Parts(k.kind, boundaries) {
				plan.Periods, plan.Buckets = append(plan.Periods, part.Periods...), append(plan.Buckets, part.Buckets...)
				plan.From, plan.To = append(plan.From, part.From...), append(plan.To, part.To...)
			}
			lines(&planned, `
				select key, `+sumsOf+` as sums from (
				  select concat_ws(' ', p.bucket, kind, subject_id, provider, model, key_source) as key, `+SumColumns+`
				  from ops.usage_sums s join unnest($1::bigint[], $2::int[]) p (id, bucket) on s.period_id = p.id
				  where kind = $3
				  union all
				  `+counted(`select width_bucket(created_at, $4::timestamptz[]) as bucket, p.* from unnest($5::timestamptz[], $6::timestamptz[]) span (at, upto)
				    join public.prompt_attempts p on created_at >= at and created_at < upto`, Sums, `count(distinct run_id), `+zeros)+`
				) parts group by key order by 1`,
				plan.Periods, plan.Buckets, k.kind, boundaries, plan.From, plan.To)
		}
		lines(&plain, `
			select concat_ws(' ', width_bucket(created_at, $1::timestamptz[]), 'unpriced', provider, model) as key,
			       concat_ws(' ', count(*), coalesce(sum(total_tokens), 0), min(created_at), max(created_at)) as sums
			from public.prompt_attempts where created_at >= $2 and created_at < $3 and cost_source = 'unpriced' group by 1 order by 1`,
			boundaries, boundaries[0], boundaries[len(boundaries)-1])
		plan := known.Plan(Unpriced, boundaries)
		plans[Unpriced] = plan
		lines(&planned, `
			select concat_ws(' ', bucket, 'unpriced', provider, model) as key, concat_ws(' ', sum(attempts), sum(tokens), min(first_at), max(last_at)) as sums
			from (
			  select p.bucket, provider, model, attempts, tokens, first_at, last_at
			  from ops.usage_unpriced s join unnest($1::bigint[], $2::int[]) p (id, bucket) on s.period_id = p.id
			  union all
			  select width_bucket(created_at, $3::timestamptz[]), provider, model, 1, coalesce(total_tokens, 0), created_at, created_at
			  from unnest($4::timestamptz[], $5::timestamptz[]) span (at, upto)
			  join public.prompt_attempts on created_at >= at and created_at < upto where cost_source = 'unpriced'
			) parts group by 1 order by 1`,
			plan.Periods, plan.Buckets, boundaries, plan.From, plan.To)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return planned, plain, plans
}

// zeros are all SumColumns but runs.
const zeros = `0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0`

// plainSums counts again in other words.
const plainSums = `concat_ws(' ', count(distinct run_id), count(1), sum(case status when 'running' then 1 else 0 end),
	sum(case when status = 'error' or status = 'interrupted' then 1 else 0 end), sum(case status when 'cancelled' then 1 else 0 end),
	coalesce(sum(input_tokens), 0), coalesce(sum(cached_input_tokens), 0), coalesce(sum(cache_write_tokens), 0), coalesce(sum(output_tokens), 0),
	coalesce(sum(reasoning_tokens), 0), sum(case when input_tokens is null and status in ('ok', 'cancelled', 'interrupted') then 1 else 0 end),
	coalesce(sum(cost_usd), 0), sum(case when cost_usd is null and status <> 'running' then 1 else 0 end))`

// boundaries of n days up to now.
func boundaries(zone *time.Location, n int, now time.Time) []time.Time {
	all := []time.Time{periodAround(zone, day, now).to}
	for range n {
		all = slices.Insert(all, 0, periodAround(zone, day, all[0].Add(-time.Nanosecond)).from)
	}
	return all
}

func same(t testing.TB, pool *pgxpool.Pool, zone *time.Location, days int) map[Kind]Plan {
	t.Helper()
	bounds := boundaries(zone, days, time.Now())
	sameIn(t, pool, zone, bounds)
	return sameIn(t, pool, zone, []time.Time{bounds[0], bounds[len(bounds)-1]}) // as one, of which more is summed at once
}

func sameIn(t testing.TB, pool *pgxpool.Pool, zone *time.Location, bounds []time.Time) map[Kind]Plan {
	t.Helper()
	planned, plain, plans := read(t, pool, zone, bounds)
	if diff := cmp.Diff(plain, planned); diff != "" {
		t.Errorf("%s: what Plan reads differs from the rows (-rows +planned):\n%.3000s", zone, diff)
	}
	return plans
}

// isPlanned says how many sums of a kind a plan reads, of how many days, and how many
// spans of rows.
func isPlanned(t testing.TB, pool *pgxpool.Pool, plan Plan) (periods, days, spans int) {
	t.Helper()
	err := pool.QueryRow(within(t), `
		select count(*), coalesce(sum(case when level >= 3 then 4 ^ (level - 3) end), 0)::int from ops.usage_periods where id = any ($1)`,
		plan.Periods).Scan(&periods, &days)
	if err != nil {
		t.Fatal(err)
	}
	return periods, days, len(plan.From)
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// Sums of days and quarters, in zones of every kind, through every kind of change.
func TestSumsEqualTheRows(t *testing.T) {
	pool := pgtest.Database(t)
	months(t, pool)
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	insert(t, pool, r, 3000, now.AddDate(0, 0, -85), now)
	insert(t, pool, r, 300, now.Add(-3*time.Hour), now)
	kathmandu, berlin := zone(t, "Asia/Kathmandu"), zone(t, "Europe/Berlin")
	exec(t, pool, `insert into ops.operators (email, role, timezone) values ('a@example.org', 'admin', 'Asia/Kathmandu'), ('b@example.org', 'admin', 'Nowhere/At-All')`)

	roller := newRoller(pool, berlin)
	if plans := same(t, pool, berlin, 90); len(plans[Model].Periods) > 0 {
		t.Errorf("nothing is summed yet, but %+v", plans)
	}
	roll(t, roller)
	summed := func(when string, z *time.Location, plans map[Kind]Plan) {
		t.Helper()
		for kind, atLeast := range map[Kind]int{Model: 83, Team: 83, TeamModel: 80, Template: 83, Learner: 80} {
			if periods, days, spans := isPlanned(t, pool, plans[kind]); days < atLeast || spans > 4 || kind != Model && kind != Key && kind != Provider && periods > 24 {
				t.Errorf("%s, %s, %s: %d days are read from %d sums, beside %d spans of rows", when, z, kind, days, periods, spans)
			}
		}
	}
	for _, z := range []*time.Location{berlin, kathmandu} {
		summed("at first", z, same(t, pool, z, 90))
	}
	same(t, pool, zone(t, "Australia/Lord_Howe"), 90) // nobody's: parts of days and rows

	for name, change := range map[string]func(){
		"late rows": func() { insert(t, pool, r, 50, now.AddDate(0, 0, -30), now.AddDate(0, 0, -20)) },
		"a new price": func() {
			exec(t, pool, `update public.prompt_attempts set cost_usd = 0.5, cost_source = 'computed' where cost_usd is null and model = 'openai/a0'`)
		},
		"moved in time": func() {
			exec(t, pool, `update public.prompt_attempts set created_at = created_at - interval '1 day' where run_id in (select run_id from public.prompt_attempts where ordinal = 2 and created_at > $1)`, now.AddDate(0, 0, -10))
		},
		"deleted": func() {
			exec(t, pool, `delete from public.prompt_attempts where team_id = $1 and ordinal = 1`, teams[0])
		},
		"rolled back": func() {
			_ = postgres.InTx(within(t), pool, func(tx pgx.Tx) error {
				insert(t, tx, r, 50, now.AddDate(0, 0, -30), now)
				return context.Canceled
			})
		},
	} {
		change()
		for range 2 {
			same(t, pool, berlin, 90)
			roll(t, roller)
		}
		summed(name, berlin, same(t, pool, berlin, 90))
	}
	if days, err := roller.Rebuild(within(t)); err != nil || days < 2*83 {
		t.Fatalf("%d days of two zones, %v", days, err)
	}
	summed("rebuilt", berlin, same(t, pool, berlin, 90))
	exec(t, pool, `truncate public.prompt_attempts`)
	same(t, pool, berlin, 90)
}

// Writers whose transactions end late, changes, late rows and two rollers, at the
// very moment at which a quarter of an hour becomes old enough to be summed.
func TestSumsAreExactWhileOthersWrite(t *testing.T) {
	pool := pgtest.Database(t)
	months(t, pool)
	summed := 0
	for round := range 3 {
		// The quarter that ends at edge may be summed in half a second: what is
		// written before that moment leaves no mark, and is committed after it. Fresh only
		// ever shrinks: what was summed stays what leaves marks.
		edge := time.Now().Add(-time.Duration(6-round) * time.Hour).Truncate(slotLength)
		fresh := time.Since(edge) + 500*time.Millisecond
		setFresh(t, pool, fresh)
		stop := time.Now().Add(1500 * time.Millisecond)
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				r := rand.New(rand.NewPCG(uint64(round), uint64(i)))
				for once := true; once || i == 0 && round%2 == 0 && time.Now().Before(stop); once = false { // the first one goes on with late rows, the others leave nothing that could set it right
					_ = postgres.InTx(within(t), pool, func(tx pgx.Tx) error {
						insert(t, tx, r, 3, edge.Add(-40*time.Millisecond), edge) // the last of the quarter: only these come in time
						if i == 1 {
							exec(t, tx, `update public.prompt_attempts set cost_usd = coalesce(cost_usd, 0) + 1, cost_source = 'computed' where team_id = $1`, teams[0])
						}
						time.Sleep(time.Duration(r.IntN(900)) * time.Millisecond)
						if i == 2 {
							return context.Canceled
						}
						return nil
					})
				}
			})
		}
		for range 2 {
			roller := newRoller(pool, time.UTC)
			roller.fresh = fresh
			all.Go(func() {
				for time.Now().Before(stop) {
					if _, err := roller.RunOnce(within(t)); err != nil {
						t.Error(err)
					}
					time.Sleep(20 * time.Millisecond)
				}
			})
		}
		for time.Now().Before(stop) && !t.Failed() {
			summed += len(same(t, pool, time.UTC, 2)[Model].Periods)
		}
		all.Wait()
		same(t, pool, time.UTC, 2)
	}
	if summed == 0 {
		t.Error("nothing was ever summed")
	}
}

// setFresh makes the triggers take rows for late that are older than fresh.
func setFresh(t testing.TB, pool *pgxpool.Pool, fresh time.Duration) {
	t.Helper()
	for event, row := range map[string]string{"insert": "new", "update": "old", "delete": "old"} {
		exec(t, pool, fmt.Sprintf(`
			create or replace trigger mark_usage_%s after %[1]s on public.prompt_attempts for each row
			when (%s.created_at < clock_timestamp() - interval '%d microseconds') execute function ops.mark_usage()`, event, row, fresh.Microseconds()))
	}
}

func TestHistogram(t *testing.T) {
	db := pgtest.Tx(t)
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		var one, two []int32
		for range 1 + r.IntN(400) {
			ms := int32(1 + r.IntN(1+r.IntN(60_000)))
			if r.IntN(2) == 0 {
				one = append(one, ms)
			} else {
				two = append(two, ms)
			}
		}
		var h, other Histogram
		for _, part := range []struct {
			durations []int32
			into      *Histogram
		}{{one, &h}, {two, &other}} {
			var packed []byte
			if err := db.QueryRow(within(t), `select ops.pack_durations($1)`, part.durations).Scan(&packed); err != nil {
				t.Fatal(err)
			}
			part.into.Add(packed)
		}
		h.Merge(&other)
		sorted := slices.Concat(one, two)
		slices.Sort(sorted)
		if h.Total() != int64(len(sorted)) {
			t.Fatalf("%d durations, want %d", h.Total(), len(sorted))
		}
		for _, percent := range []int{1, 50, 95, 99, 100} {
			want := float64(sorted[(len(sorted)*percent+99)/100-1])
			got := float64(h.Percentile(percent).Milliseconds())
			if diff := got - want; diff > 0.02*want+0.5 || diff < -0.02*want-0.5 {
				t.Errorf("P%d is %v, want %v ± 2 %%", percent, got, want)
			}
		}
	}
}
