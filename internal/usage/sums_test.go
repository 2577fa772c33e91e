package usage_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/usage"
)

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
