package usage_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/usage"
)

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
