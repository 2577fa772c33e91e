package usage_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
	"github.com/promptcademy/promptops/internal/usage"
)

func report(t testing.TB, db postgres.DB, query string, now time.Time, z *time.Location) usage.Report {
	t.Helper()
	q, err := usage.ParseQuery(values(t, query), now, z)
	if err != nil {
		t.Fatal(err)
	}
	r, err := usage.NewStore(postgres.NewReader(db)).Report(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Some days have sums, others changed since, and of some zones there are none: random
// queries against other SQL than ours.
func TestReportEqualsTheRows(t *testing.T) {
	db := pgtest.Database(t)
	r := rand.New(rand.NewPCG(2, 11))
	now := instant(t, "2026-11-24T04:08:57Z")
	c := newCrowd(t, db)
	insert(t, db, c.scatter(r, 2900, now, 75)...)
	_, err := db.Exec(context.Background(), `insert into ops.operators (email, role, timezone) values ('a@example.org', 'admin', 'Asia/Kathmandu'), ('b@example.org', 'admin', 'UTC')`)
	if err != nil {
		t.Fatal(err)
	}
	roller := rollup.NewRoller(db, zone(t, "Europe/Berlin"), slog.New(slog.DiscardHandler))
	if days, err := roller.Rebuild(context.Background()); err != nil || days < 100 {
		t.Fatalf("%d days are summed, %v", days, err)
	}
	insert(t, db, c.scatter(r, 100, now.AddDate(0, 0, -50), 20)...)
	for range 70 {
		asked := c.question(r, now)
		t.Run(asked.values.Encode()+"&zone="+asked.zone, func(t *testing.T) { asked.check(t, db, now) })
	}
}

// Sums come and go while it is asked.
func TestReportEqualsTheRowsWhileOthersWrite(t *testing.T) {
	db := pgtest.Database(t)
	r := rand.New(rand.NewPCG(3, 12))
	now := instant(t, "2026-11-24T04:08:57Z")
	c := newCrowd(t, db)
	insert(t, db, c.scatter(r, 600, now, 75)...)
	stop := make(chan struct{})
	var others sync.WaitGroup
	again := func(seed uint64, change func(r *rand.Rand) error) {
		others.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := change(r); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	roller := rollup.NewRoller(db, time.UTC, slog.New(slog.DiscardHandler))
	again(1, func(*rand.Rand) error { _, err := roller.RunOnce(context.Background()); return err })
	for seed := range uint64(2) {
		again(seed+2, func(r *rand.Rand) error {
			tx, err := db.Begin(context.Background())
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback(context.Background()) }()
			insert(t, tx, c.scatter(r, 3, now, 75)...)
			_, err = tx.Exec(context.Background(), pick(r,
				`delete from public.prompt_attempts where run_id in (select id from public.prompt_runs where id < $1 order by id desc limit 2)`,
				`update public.prompt_attempts set cost_usd = coalesce(cost_usd, 0) + 0.1 where status <> 'running' and run_id in (select id from public.prompt_runs where id > $1 order by id limit 3)`), uuid.New())
			if err != nil || r.IntN(4) == 0 {
				return err
			}
			time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
			return tx.Commit(context.Background())
		})
	}
	for until := time.Now().Add(4 * time.Second); time.Now().Before(until) && !t.Failed(); {
		asked := c.question(r, now)
		asked.zone = "UTC"
		asked.during = true
		t.Run(asked.values.Encode(), func(t *testing.T) { asked.check(t, db, now) })
	}
	close(stop)
	others.Wait()
}

// question is a query and the same in SQL.
type question struct {
	values url.Values
	where  string // but for the days
	zone   string
	during bool // others write: what is asked twice may differ
}

func (c crowd) question(r *rand.Rand, now time.Time) question {
	q := question{values: url.Values{}, where: "true", zone: pick(r, "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")}
	filter := func(name, value, sql string) {
		if r.IntN(6) == 0 {
			q.values.Set(name, value)
			q.where += fmt.Sprintf(" and "+sql, value)
		}
	}
	filter("provider", pick(r, "openai", "groq", "nobody"), "provider = '%s'")
	filter("model", pick(r, "openai/a0", "groq/openai/a1", "google/rare3"), "model = '%s'")
	filter("team", pick(r, c.teams...).String(), "team_id = '%s'")
	filter("template", pick(r, c.templates...).String(), "template_id = '%s'")
	filter("key", pick(r, "user", "fallback"), "key_source = '%s'")
	filter("learner", pick(r, "0@example.org", "2@example.org", "nobody@example.org"), "user_id = (select id from auth.users where email = '%s')")
	days := 1 + r.IntN(70)
	q.values.Set("bucket", string(pick(r, usage.Days, usage.Days, usage.Weeks, usage.Hours)))
	if q.values.Get("bucket") == "hour" {
		days = 1 + r.IntN(usage.MostDaysOfHours)
	}
	last := now.AddDate(0, 0, -r.IntN(70-min(days, 69)))
	if days < 4 && r.IntN(2) == 0 {
		last = time.Date(2026, 10, 26, 0, 0, 0, 0, time.UTC) // clocks have just been put back
	}
	q.values.Set("from", last.AddDate(0, 0, 1-days).Format(time.DateOnly))
	q.values.Set("to", last.Format(time.DateOnly))
	q.values.Set("group", string(pick(r, usage.Dimensions...)))
	q.values.Set("metric", string(pick(r, usage.Metrics...)))
	if r.IntN(2) == 0 {
		q.values.Set("sub", string(pick(r, usage.Dimensions...)))
	}
	if r.IntN(3) == 0 {
		q.values.Set("compare", "previous")
	}
	return q
}

// check asks at the same moment as it counts.
func (asked question) check(t *testing.T, db *pgxpool.Pool, now time.Time) {
	q, err := usage.ParseQuery(asked.values, now, zone(t, asked.zone))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	store := usage.NewStore(postgres.NewReader(tx))
	got, err := store.Report(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	days := func(from, to string) string {
		return fmt.Sprintf("%s and (created_at at time zone '%s')::date between '%s' and '%s'", asked.where, asked.zone, from, to)
	}
	where := days(q.FirstDay(), q.LastDay())
	checkSums(t, q, got)
	checkAgainstRows(t, tx, q, got, where)
	if got.Before != nil {
		before := days(q.Previous().FirstDay(), q.Previous().LastDay())
		if diff := cmp.Diff(counted(t, tx, "''", before)[""], figuresOf(got.Before.Totals), near()); diff != "" {
			t.Error("the period before:", diff)
		}
		var sum usage.Totals
		for _, p := range got.Before.Points {
			sum.Cost, sum.Runs, sum.Attempts = sum.Cost.Add(p.Cost), sum.Runs+p.Runs, sum.Attempts+p.Attempts
		}
		total := got.Before.Totals
		if len(got.Before.Points) != len(got.Points) || q.Metric == usage.Cost && !sum.Cost.Equal(total.Cost) || q.Metric == usage.Runs && sum.Runs != total.Runs {
			t.Errorf("the %d buckets of the period before add up to %+v, want %+v", len(got.Before.Points), sum, total)
		}
	}
	lines, cut, err := store.Lines(t.Context(), q)
	if err != nil || cut {
		t.Fatal(cut, err)
	}
	checkLines(t, q, got, lines)
}

// columnOf is where a dimension stands in rows.
func columnOf(d usage.Dimension) string {
	return map[usage.Dimension]string{
		usage.ByProvider: "provider", usage.ByModel: "model", usage.ByTeam: "coalesce(team_id::text, '')", usage.ByKey: "coalesce(key_source, '')",
		usage.ByTemplate: "coalesce(template_id::text, '')", usage.ByLearner: "coalesce(user_id::text, '')", "": "''",
	}[d]
}

// figures are what is counted of some attempts, written out.
type figures struct {
	Counts             [12]int64
	Cost, FallbackCost string
	Unpriced, Runs     int64
	Durations, Firsts  [3]int64 // P50, P95, P99; -1: none
}

// counted counts with the simplest SQL there is, by a key.
func counted(t *testing.T, db postgres.DB, key, where string) map[string]figures {
	t.Helper()
	percentile := func(of string, rank string) string {
		return fmt.Sprintf(`coalesce((array_agg(%[1]s order by %[1]s) filter (where status = 'ok' and %[1]s is not null))[ceil(%[2]s * count(%[1]s) filter (where status = 'ok'))], -1)`, of, rank)
	}
	rows, err := db.Query(t.Context(), fmt.Sprintf(`
		select %s as key,
		count(*), count(*) filter (where status = 'running'), count(*) filter (where status = 'error' or status = 'interrupted'),
		count(*) filter (where status = 'cancelled'), count(*) filter (where key_source = 'fallback'),
		coalesce(sum(input_tokens), 0), coalesce(sum(cached_input_tokens), 0), coalesce(sum(cache_write_tokens), 0),
		coalesce(sum(output_tokens), 0), coalesce(sum(reasoning_tokens), 0), coalesce(sum(total_tokens), 0),
		coalesce(sum(case when status in ('ok', 'cancelled', 'interrupted') and total_tokens is null then 1 else 0 end), 0),
		coalesce(sum(cost_usd), 0), coalesce(sum(case when key_source = 'fallback' then cost_usd end), 0),
		coalesce(sum(case when status != 'running' and cost_usd is null then 1 else 0 end), 0), count(distinct run_id),
		%s from prompt_attempts where %s group by grouping sets ((%s))`, key,
		strings.Join([]string{
			percentile("duration_ms", "0.5"), percentile("duration_ms", "0.95"), percentile("duration_ms", "0.99"),
			percentile("first_token_ms", "0.5"), percentile("first_token_ms", "0.95"), percentile("first_token_ms", "0.99"),
		}, ", "), where, strings.TrimSuffix(key, "''")))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]figures{}
	for rows.Next() {
		var f figures
		var name string
		var cost, fallbackCost price.USD
		into := []any{&name}
		for i := range f.Counts {
			into = append(into, &f.Counts[i])
		}
		into = append(into, &cost, &fallbackCost, &f.Unpriced, &f.Runs)
		for i := range 3 {
			into = append(into, &f.Durations[i])
		}
		for i := range 3 {
			into = append(into, &f.Firsts[i])
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		f.Cost, f.FallbackCost = cost.String(), fallbackCost.String()
		all[name] = f
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func figuresOf(g usage.Totals) figures {
	f := figures{
		Counts: [12]int64{
			g.Attempts, g.Running, g.Errors, g.Cancelled, g.Fallback,
			g.Input, g.CachedInput, g.CacheWrite, g.Output, g.Reasoning, g.Tokens.Total(), g.UnknownUsage,
		},
		Cost: g.Cost.String(), FallbackCost: g.FallbackCost.String(), Unpriced: g.Unpriced, Runs: g.Runs, Durations: [3]int64{-1, -1, -1}, Firsts: [3]int64{-1, -1, -1},
	}
	if l := g.Latency; l != nil {
		f.Durations = [3]int64{l.P50.Milliseconds(), l.P95.Milliseconds(), l.P99.Milliseconds()}
	}
	if l := g.FirstToken; l != nil {
		f.Firsts = [3]int64{l.P50.Milliseconds(), l.P95.Milliseconds(), l.P99.Milliseconds()}
	}
	return f
}

// near lets percentiles be 2 % off.
func near() cmp.Option {
	return cmp.FilterPath(func(p cmp.Path) bool {
		return strings.Contains(p.String(), "Durations") || strings.Contains(p.String(), "Firsts")
	},
		cmp.Comparer(func(a, b int64) bool { return math.Abs(float64(a-b)) <= 0.02*float64(max(a, b))+0.5 }))
}

// checkAgainstRows counts again.
func checkAgainstRows(t *testing.T, db postgres.DB, q usage.Query, got usage.Report, where string) {
	t.Helper()
	total := counted(t, db, "''", where)[""]
	if diff := cmp.Diff(total, figuresOf(got.Totals), near()); diff != "" {
		t.Error("totals:", diff)
	}
	groups, subs := map[string]figures{}, map[string]figures{}
	for _, g := range got.Groups {
		groups[g.ID] = figuresOf(g.Totals)
		for _, s := range g.Subs {
			subs[g.ID+" > "+s.ID] = figuresOf(s.Totals)
		}
	}
	if diff := cmp.Diff(counted(t, db, columnOf(q.Group), where), groups, near()); diff != "" {
		t.Error("groups:", diff)
	}
	if q.Sub != "" {
		want := counted(t, db, columnOf(q.Group)+" || ' > ' || "+columnOf(q.Sub), where)
		parts := map[string]int{}
		for key := range want {
			group, _, _ := strings.Cut(key, " > ")
			parts[group]++
			if subs[key].Counts[0] == 0 { // one of the rest
				delete(want, key)
			}
		}
		for _, g := range got.Groups {
			rest := 0
			if g.OtherSubs != nil {
				rest = g.OtherSubs.Count
			}
			if n := parts[g.ID]; len(g.Subs) != min(n, usage.MostSubs) || len(g.Subs)+rest != n {
				t.Errorf("%s has %d parts and %d others, want %d in all", g.ID, len(g.Subs), rest, n)
			}
		}
		if diff := cmp.Diff(want, subs, near()); diff != "" {
			t.Error("subs:", diff)
		}
	}
	// Buckets, by what Postgres's clock of the zone shows.
	z := q.Zone.String()
	local := fmt.Sprintf("created_at at time zone '%s'", z)
	label, format := fmt.Sprintf("to_char(%s, 'YYYY-MM-DD')", local), time.DateOnly
	switch q.Bucket {
	case usage.Hours:
		label, format = fmt.Sprintf("to_char(%s, 'YYYY-MM-DD HH24')", local), "2006-01-02 15"
	case usage.Weeks:
		label = fmt.Sprintf("to_char(greatest(date_trunc('week', %s), '%s'::timestamp), 'YYYY-MM-DD')", local, q.FirstDay())
	}
	points, lines := map[string][2]string{}, map[string][2]string{}
	add := func(into map[string][2]string, key string, sum usage.Sum, runs int64) { // hours of one name are one
		a, b := value(q.Metric, sum, runs)
		if old, ok := into[key]; ok {
			a, b = usd(t, a).Add(usd(t, old[0])).String(), usd(t, b).Add(usd(t, old[1])).String()
		}
		if a != "0" || b != "0" {
			into[key] = [2]string{a, b}
		}
	}
	for i, p := range got.Points {
		add(points, p.Start.Format(format), p.Sum, p.Runs)
		for _, g := range got.Groups {
			if len(g.Points) > 0 {
				add(lines, p.Start.Format(format)+" "+g.ID, g.Points[i].Sum, g.Points[i].Runs)
			}
		}
	}
	wanted := func(key string, only map[string]bool) map[string][2]string {
		want := map[string][2]string{}
		for key, f := range counted(t, db, key, where) {
			cost := usd(t, f.Cost)
			a, b := value(q.Metric, usage.Sum{
				Attempts: f.Counts[0], Running: f.Counts[1], Errors: f.Counts[2], Fallback: f.Counts[4], Cost: cost, Unpriced: f.Unpriced,
				Tokens: usage.Tokens{Input: f.Counts[5], CachedInput: f.Counts[6], CacheWrite: f.Counts[7], Output: f.Counts[8], Reasoning: f.Counts[9]},
			}, f.Runs)
			_, group, _ := strings.Cut(key, " ")
			if q.Bucket == usage.Hours {
				_, group, _ = strings.Cut(group, " ")
			}
			if (a != "0" || b != "0") && (only == nil || only[group]) {
				want[key] = [2]string{a, b}
			}
		}
		return want
	}
	if q.Metric == usage.Durations || q.Metric == usage.FirstToken {
		checkDurations(t, db, q, got, where, label, format)
		return
	}
	if diff := cmp.Diff(wanted(label, nil), points); diff != "" {
		t.Error("buckets:", diff)
	}
	top := map[string]bool{}
	for i, g := range got.Groups {
		if top[g.ID] = i < usage.MostLines; i < usage.MostLines && len(g.Points) != len(got.Points) {
			t.Errorf("%s has %d buckets", g.ID, len(g.Points))
		}
	}
	if diff := cmp.Diff(wanted(label+" || ' ' || "+columnOf(q.Group), top), lines); diff != "" {
		t.Error("buckets of groups:", diff)
	}
}

// checkDurations compares the percentiles of every bucket of one name.
func checkDurations(t *testing.T, db postgres.DB, q usage.Query, got usage.Report, where, label, format string) {
	t.Helper()
	names := map[string]int{}
	for _, p := range got.Points {
		names[p.Start.Format(format)]++
	}
	want := counted(t, db, label, where)
	for _, p := range got.Points {
		name := p.Start.Format(format)
		if names[name] > 1 {
			continue
		}
		w, ok := want[name]
		if !ok {
			w = figures{Durations: [3]int64{-1, -1, -1}, Firsts: [3]int64{-1, -1, -1}}
		}
		f := figuresOf(p.Totals)
		if diff := cmp.Diff(figures{Durations: w.Durations, Firsts: w.Firsts}, figures{Durations: f.Durations, Firsts: f.Firsts}, near()); diff != "" {
			t.Errorf("%s of %s: %s", q.Metric, name, diff)
		}
	}
}

// value is a metric as two numbers that add up.
func value(metric usage.Metric, s usage.Sum, runs int64) (a, b string) {
	n := func(n int64) string { return strconv.FormatInt(n, 10) }
	switch metric {
	case usage.TokenCount:
		return n(s.Input + 10*s.CachedInput + 100*s.CacheWrite), n(s.Output + 10*s.Reasoning)
	case usage.Runs:
		return n(runs), "0"
	case usage.Attempts:
		return n(s.Attempts), "0"
	case usage.Errors:
		return n(s.Errors), n(s.Ended())
	case usage.Fallback:
		return n(s.Fallback), n(s.Attempts)
	default:
		return s.Cost.String(), n(s.Unpriced)
	}
}

// checkSums adds the report up in every direction.
func checkSums(t *testing.T, q usage.Query, r usage.Report) {
	t.Helper()
	var groups usage.Sum
	var runs int64
	for i, g := range r.Groups {
		groups, runs = plus(groups, g.Sum), runs+g.Runs
		var subs usage.Sum
		for _, s := range g.Subs {
			subs = plus(subs, s.Sum)
		}
		if g.OtherSubs != nil {
			subs = plus(subs, g.OtherSubs.Sum)
		}
		if diff := cmp.Diff(g.Sum, subs); diff != "" && q.Sub != "" {
			t.Errorf("%s against the sum of its parts: %s", g.ID, diff)
		}
		if i > 0 && q.Metric == usage.Cost && g.Cost.Cmp(r.Groups[i-1].Cost) > 0 {
			t.Errorf("%s comes after %s, which is cheaper", g.ID, r.Groups[i-1].ID)
		}
		if g.Name == "" {
			t.Errorf("%q has no name", g.ID)
		}
	}
	if r.Others != nil {
		groups, runs = plus(groups, r.Others.Sum), runs+r.Others.Runs
	}
	if diff := cmp.Diff(r.Totals.Sum, groups); diff != "" {
		t.Error("totals against the sum of the groups:", diff)
	}
	if by := q.Group; runs != r.Totals.Runs && (by == usage.ByTeam || by == usage.ByTemplate || by == usage.ByLearner) {
		t.Errorf("%d runs of all groups, want %d", runs, r.Totals.Runs)
	}
	for i, p := range r.Points {
		if i > 0 && !p.Start.Equal(r.Points[i-1].End) || !p.End.After(p.Start) {
			t.Errorf("%s begins at %s, but the bucket before ends at %s", p.Start, p.Start, r.Points[i-1].End)
		}
	}
	if n := len(r.Points); !r.Points[0].Start.Equal(q.From) || !r.Points[n-1].End.Equal(q.To) {
		t.Errorf("buckets from %s to %s, want %s to %s", r.Points[0].Start, r.Points[n-1].End, q.From, q.To)
	}
}

func plus(a, b usage.Sum) usage.Sum {
	return usage.Sum{
		Attempts: a.Attempts + b.Attempts, Running: a.Running + b.Running, Errors: a.Errors + b.Errors,
		Cancelled: a.Cancelled + b.Cancelled, Fallback: a.Fallback + b.Fallback,
		Tokens: usage.Tokens{
			Input: a.Input + b.Input, CachedInput: a.CachedInput + b.CachedInput, CacheWrite: a.CacheWrite + b.CacheWrite,
			Output: a.Output + b.Output, Reasoning: a.Reasoning + b.Reasoning,
		},
		UnknownUsage: a.UnknownUsage + b.UnknownUsage, Unpriced: a.Unpriced + b.Unpriced,
		Cost: a.Cost.Add(b.Cost), FallbackCost: a.FallbackCost.Add(b.FallbackCost),
	}
}

// checkLines adds up the file as whoever gets it would, by group, and the JSON.
func checkLines(t *testing.T, q usage.Query, r usage.Report, lines []usage.Line) {
	t.Helper()
	var file bytes.Buffer
	if err := usage.WriteCSV(&file, q, lines); err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(&file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]usage.Sum{}
	for i, line := range lines {
		at := map[string]string{}
		for column, name := range records[0] {
			at[name] = records[i+1][column]
		}
		n := func(name string) int64 {
			n, err := strconv.ParseInt(at[name], 10, 64)
			if err != nil {
				t.Fatal(name, err)
			}
			return n
		}
		cost := usage.Sum{}.Cost
		if at["cost_usd"] != "" {
			cost = usd(t, at["cost_usd"])
		}
		sum := usage.Sum{
			Attempts: n("attempts"), Running: n("running"), Errors: n("errors"), Cancelled: n("cancelled"), Fallback: n("fallback_attempts"),
			Tokens:       usage.Tokens{Input: n("input_tokens"), CachedInput: n("cached_input_tokens"), CacheWrite: n("cache_write_tokens"), Output: n("output_tokens"), Reasoning: n("reasoning_tokens")},
			UnknownUsage: n("unknown_usage"), Unpriced: n("unpriced"), Cost: cost, FallbackCost: usd(t, at["fallback_cost_usd"]),
		}
		sums[line.Group.ID] = plus(sums[line.Group.ID], sum)
	}
	for _, g := range r.Groups {
		if diff := cmp.Diff(g.Sum, sums[g.ID]); diff != "" {
			t.Errorf("the file's lines of %s: %s", g.ID, diff)
		}
	}
	text, err := usage.JSON(q, r)
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Totals struct {
			CostUSD  *price.USD `json:"costUsd"`
			Attempts int64
			Runs     int64
		}
		Groups []struct {
			ID           string
			CostUSD      *price.USD `json:"costUsd"`
			TotalTokens  int64
			Values, Subs []any
		}
		Buckets []struct{ Value any }
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	same := func(a, b *price.USD) bool { return (a == nil) == (b == nil) && (a == nil || a.Equal(*b)) }
	if got := document.Totals; !same(got.CostUSD, r.Totals.KnownCost()) || got.Attempts != r.Totals.Attempts || got.Runs != r.Totals.Runs ||
		len(document.Groups) != len(r.Groups) || len(document.Buckets) != len(r.Points) {
		t.Errorf("JSON says %+v, want %+v", document.Totals, r.Totals)
	}
	for i, g := range document.Groups {
		if want := r.Groups[i]; g.ID != want.ID || !same(g.CostUSD, want.KnownCost()) || g.TotalTokens != want.Tokens.Total() || len(g.Subs) != len(want.Subs) || len(g.Values) != len(want.Points) {
			t.Errorf("JSON says %+v, want %+v", g, want)
		}
	}
}

func TestReportDaysOfTheZone(t *testing.T) {
	for _, c := range []struct {
		zone, first, last string
		hours             []float64
	}{
		{"UTC", "2026-02-28", "2026-03-01", []float64{24, 24}},
		{"Europe/Berlin", "2026-03-28", "2026-03-30", []float64{24, 23, 24}},
		{"Europe/Berlin", "2026-10-24", "2026-10-26", []float64{24, 25, 24}},
		{"Australia/Lord_Howe", "2026-04-04", "2026-04-06", []float64{24, 24.5, 24}},
		{"America/Sao_Paulo", "2018-11-03", "2018-11-05", []float64{24, 23, 24}}, // at midnight
		{"America/Sao_Paulo", "2018-02-16", "2018-02-18", []float64{24, 25, 24}},
		{"Asia/Beirut", "2026-03-28", "2026-03-30", []float64{24, 23, 24}},
		{"Pacific/Apia", "2011-12-29", "2011-12-31", []float64{24, 24}}, // no 30th
	} {
		t.Run(c.zone+" "+c.first, func(t *testing.T) {
			db := pgtest.Tx(t)
			query := url.Values{"from": {c.first}, "to": {c.last}}.Encode()
			now := instant(t, "2026-11-24T12:00:00Z")
			empty := report(t, db, query, now, zone(t, c.zone))
			var hours []float64
			var attempts []attempt
			for _, d := range empty.Points {
				hours = append(hours, d.End.Sub(d.Start).Hours())
				for _, at := range []time.Time{d.Start, d.End.Add(-time.Millisecond)} {
					attempts = append(attempts, attempt{at: at, model: "x/y", status: "ok"})
				}
			}
			if diff := cmp.Diff(c.hours, hours); diff != "" {
				t.Fatal("hours:", diff)
			}
			outside := []attempt{
				{at: empty.Points[0].Start.Add(-time.Millisecond), model: "x/y", status: "ok"},
				{at: empty.Points[len(empty.Points)-1].End, model: "x/y", status: "ok"},
			}
			insert(t, db, append(attempts, outside...)...)
			for _, d := range report(t, db, query, now, zone(t, c.zone)).Points {
				date := d.Start.Format(time.DateOnly)
				if d.Attempts != 2 {
					t.Errorf("%s: %d attempts, want 2", date, d.Attempts)
				}
				var want int64
				err := db.QueryRow(context.Background(), `select count(*) from prompt_attempts where (created_at at time zone $1)::date = $2::date`,
					c.zone, date).Scan(&want)
				if err != nil || want != d.Attempts {
					t.Errorf("%s: %d attempts, Postgres says %d (%v)", date, d.Attempts, want, err)
				}
			}
		})
	}
}

func TestReportWithoutAttempts(t *testing.T) {
	got := report(t, pgtest.Tx(t), "range=7d", instant(t, "2026-11-24T12:00:00Z"), time.UTC)
	if len(got.Points) != 7 || len(got.Groups) != 0 || got.Totals.Attempts != 0 || got.Totals.Latency != nil {
		t.Errorf("%d days, %d groups, totals %+v", len(got.Points), len(got.Groups), got.Totals)
	}
	if got.Totals.ErrorRate() != 0 || got.Totals.FallbackShare() != 0 || got.Totals.FallbackCostShare() != 0 {
		t.Error("shares of nothing are not 0")
	}
}

func TestRates(t *testing.T) {
	db := pgtest.Tx(t)
	now := instant(t, "2026-11-24T12:00:00Z")
	row := func(status, keySource, cost string) attempt {
		return attempt{at: now, model: "x/y", status: status, keySource: keySource, cost: cost}
	}
	insert(t, db,
		row("ok", "user", "1"), row("ok", "fallback", "3"), row("ok", "fallback", ""),
		row("error", "", "0"), row("interrupted", "user", ""), row("cancelled", "user", "0"),
		row("running", "user", ""), row("running", "user", ""))
	got := report(t, db, "range=today", now, time.UTC).Totals
	if got.Ended() != 6 || got.Priced() != 4 || got.Unpriced != 2 || got.UnknownUsage != 5 {
		t.Errorf("%d ended, %d priced, %d unpriced, %d of unknown usage, want 6, 4, 2, 5", got.Ended(), got.Priced(), got.Unpriced, got.UnknownUsage)
	}
	if got.ErrorRate() != 2.0/6 || got.FallbackShare() != 2.0/8 || got.FallbackCostShare() != 0.75 {
		t.Errorf("error rate %v, fallback share %v and %v of the cost, want 1/3, 1/4, 3/4", got.ErrorRate(), got.FallbackShare(), got.FallbackCostShare())
	}
}

func TestOptions(t *testing.T) {
	db := pgtest.Tx(t)
	ctx := context.Background()
	now := instant(t, "2026-11-24T12:00:00Z")
	var beta, alpha uuid.UUID
	gone, unused := uuid.New(), uuid.New()
	if err := db.QueryRow(ctx, `insert into teams (name) values ('Beta') returning id`).Scan(&beta); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow(ctx, `insert into teams (name) values ('Alpha') returning id`).Scan(&alpha); err != nil {
		t.Fatal(err)
	}
	insert(t, db,
		attempt{at: now, model: "openai/b", status: "ok", team: &beta},
		attempt{at: now, model: "openai/a", status: "running", team: &alpha},
		attempt{at: now, model: "groq/openai/a", status: "error", team: &gone},
		attempt{at: now, model: "groq/openai/a", status: "ok"},
		attempt{at: now.AddDate(0, 0, -1), model: "old/old", status: "ok"})

	q, err := usage.ParseQuery(url.Values{"range": {"today"}, "model": {"x/chosen"}, "team": {unused.String()}}, now, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	got, err := usage.NewStore(postgres.NewReader(db)).Options(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	deleted := []usage.Team{{ID: gone, Name: "Deleted team"}, {ID: unused, Name: "Deleted team"}}
	if bytes.Compare(gone[:], unused[:]) > 0 {
		deleted[0], deleted[1] = deleted[1], deleted[0]
	}
	want := usage.Options{
		Providers: []string{"groq", "openai"},
		Models:    []string{"groq/openai/a", "openai/a", "openai/b", "x/chosen"},
		Teams:     append([]usage.Team{{ID: alpha, Name: "Alpha"}, {ID: beta, Name: "Beta"}}, deleted...),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReportLeavesTheTransactionAsItWas(t *testing.T) {
	db := pgtest.Tx(t)
	settings := func() (all string) {
		err := db.QueryRow(context.Background(), `
			select concat_ws(' ', current_setting('transaction_read_only'), current_setting('statement_timeout'),
			  current_setting('work_mem'), current_setting('jit'))`).Scan(&all)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := settings()
	report(t, db, "", instant(t, "2026-11-24T12:00:00Z"), time.UTC)
	if after := settings(); after != before {
		t.Errorf("settings were %s and are %s", before, after)
	}
}

func TestReportThatTakesTooLong(t *testing.T) {
	t.Parallel() // waits for 5 s
	pool := pgtest.Database(t)
	ctx := context.Background()
	q, err := usage.ParseQuery(nil, time.Now(), time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback(ctx) }()
	if _, err := lock.Exec(ctx, `lock table prompt_attempts`); err != nil {
		t.Fatal(err)
	}

	t.Run("for the caller", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if _, err := usage.NewStore(postgres.NewReader(pool)).Report(short, q); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("error %v, want fault.Unavailable", err)
		}
	})
	t.Run("for us", func(t *testing.T) {
		if _, err := usage.NewStore(postgres.NewReader(pool)).Report(ctx, q); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("error %v, want fault.Unavailable", err)
		}
	})
}
