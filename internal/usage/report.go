package usage

import (
	"cmp"
	"slices"
	"time"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
)

// Report is the answer to a Query. All of it was counted at the same moment,
// and sums are exact: Totals, the Days and the Models each add up to the same.
type Report struct {
	Totals Totals
	Days   []Day      // every day of the range, oldest first, also those without attempts
	Models []ModelRow // dearest first
}

// Totals are the figures of the whole range.
type Totals struct {
	Sum
	Runs    int64
	Latency *Latency // nil: no attempt was ok
}

// ModelRow is what one model did in the whole range.
type ModelRow struct {
	Provider string
	Model    string   // as requested: "openai/gpt-5-mini"
	Sum               // a run asks a model once: as many attempts as runs
	Share    float64  // of the totals' cost, 0 to 1
	Latency  *Latency // nil: no attempt was ok
}

// Day is one day.
type Day struct {
	Start, End time.Time // in the query's zone; 23, 24 or 25 hours
	Sum
	Models []ModelSum // those with attempts, in the order of Report.Models
}

// Date returns the day like 2026-10-31.
func (d Day) Date() string { return d.Start.Format(time.DateOnly) }

// ModelSum is what one model did on one day.
type ModelSum struct {
	Provider string
	Model    string
	Sum
}

// Sum adds up attempts.
type Sum struct {
	Attempts     int64 // all of them, running ones too
	Running      int64 // have no outcome yet
	Errors       int64 // got no answer; also those whose server died
	Cancelled    int64 // nobody waited for the answer any more
	Fallback     int64 // were paid with a fallback key
	Tokens             // of the attempts that know theirs
	UnknownUsage int64 // may have used tokens, but nobody knows how many
	Cost         price.USD
	FallbackCost price.USD // the part of Cost that fallback keys paid
	Unpriced     int64     // ended, and are not in Cost: what they cost is unknown
}

// Tokens are counted by category: Input includes CachedInput and CacheWrite,
// Output includes Reasoning.
type Tokens struct {
	Input       int64
	CachedInput int64
	CacheWrite  int64
	Output      int64
	Reasoning   int64
}

// Total is Input + Output.
func (t Tokens) Total() int64 { return t.Input + t.Output }

// Latency is how long attempts that were ok took: the shortest duration that at
// least half, 95 % or 99 % did not exceed, at most 2 % off (see rollup.Histogram).
type Latency struct {
	P50, P95, P99 time.Duration
}

// Ended is the number of attempts that have an outcome.
func (s Sum) Ended() int64 { return s.Attempts - s.Running }

// Priced is the number of attempts that make up Cost. Where it is 0 and
// Unpriced is not, the cost is unknown rather than zero.
func (s Sum) Priced() int64 { return s.Ended() - s.Unpriced }

// ErrorRate is the part of the attempts with an outcome that failed, 0 to 1.
func (s Sum) ErrorRate() float64 { return ratio(s.Errors, s.Ended()) }

// FallbackShare is the part of the attempts that fallback keys paid, 0 to 1.
func (s Sum) FallbackShare() float64 { return ratio(s.Fallback, s.Attempts) }

// FallbackCostShare is the part of the cost that fallback keys paid, 0 to 1.
func (s Sum) FallbackCostShare() float64 { return costRatio(s.FallbackCost, s.Cost) }

func (s *Sum) add(o Sum) {
	s.Attempts += o.Attempts
	s.Running += o.Running
	s.Errors += o.Errors
	s.Cancelled += o.Cancelled
	s.Fallback += o.Fallback
	s.Input += o.Input
	s.CachedInput += o.CachedInput
	s.CacheWrite += o.CacheWrite
	s.Output += o.Output
	s.Reasoning += o.Reasoning
	s.UnknownUsage += o.UnknownUsage
	s.Cost = s.Cost.Add(o.Cost)
	s.FallbackCost = s.FallbackCost.Add(o.FallbackCost)
	s.Unpriced += o.Unpriced
}

func ratio(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

func costRatio(part, whole price.USD) float64 {
	if whole.IsZero() {
		return 0
	}
	return part.Decimal().Div(whole.Decimal()).InexactFloat64()
}

// row is what one model did in a part of a day with keys of one source.
type row struct {
	Day       int // from 1
	Provider  string
	Model     string
	KeySource string
	Runs      int64
	Attempts  int64
	Running   int64
	Errors    int64
	Cancelled int64
	Tokens
	UnknownUsage int64
	Cost         price.USD
	Unpriced     int64
	Latency      []byte  // packed; see rollup.Histogram
	Durations    []int32 // ms; of the attempts that were ok, where they are not packed
}

func (r row) sum() Sum {
	sum := Sum{
		Attempts: r.Attempts, Running: r.Running, Errors: r.Errors, Cancelled: r.Cancelled, Tokens: r.Tokens, UnknownUsage: r.UnknownUsage,
		Cost: r.Cost, Unpriced: r.Unpriced,
	}
	if r.KeySource == "fallback" {
		sum.Fallback, sum.FallbackCost = r.Attempts, r.Cost
	}
	return sum
}

// newReport puts rows together; boundaries are those of Query.
func newReport(boundaries []time.Time, rows []row, runs int64) Report {
	r := Report{Days: make([]Day, len(boundaries)-1)}
	r.Totals.Runs = runs
	for i := range r.Days {
		r.Days[i].Start, r.Days[i].End = boundaries[i], boundaries[i+1]
	}
	place := map[[2]string]int{} // of a provider's model in r.Models
	var latencies []*rollup.Histogram
	onDay := map[modelDay]int{} // its place in the day's Models
	for _, row := range rows {
		name := [2]string{row.Provider, row.Model}
		at, ok := place[name]
		if !ok {
			at = len(r.Models)
			place[name] = at
			r.Models = append(r.Models, ModelRow{Provider: row.Provider, Model: row.Model})
			latencies = append(latencies, &rollup.Histogram{})
		}
		sum := row.sum()
		r.Models[at].add(sum)
		latencies[at].Add(row.Latency)
		latencies[at].AddDurations(row.Durations)
		day := &r.Days[row.Day-1]
		day.add(sum)
		in, ok := onDay[modelDay{row.Day, at}]
		if !ok {
			in = len(day.Models)
			onDay[modelDay{row.Day, at}] = in
			day.Models = append(day.Models, ModelSum{Provider: row.Provider, Model: row.Model})
		}
		day.Models[in].add(sum)
	}
	var all rollup.Histogram
	for at := range r.Models {
		r.Models[at].Latency = latencyOf(latencies[at])
		r.Totals.add(r.Models[at].Sum)
		all.Merge(latencies[at])
	}
	r.Totals.Latency = latencyOf(&all)

	slices.SortFunc(r.Models, func(a, b ModelRow) int {
		return cmp.Or(
			b.Cost.Cmp(a.Cost),
			cmp.Compare(b.Attempts, a.Attempts),
			cmp.Compare(a.Model, b.Model),
			cmp.Compare(a.Provider, b.Provider),
		)
	})
	for i, m := range r.Models {
		r.Models[i].Share = costRatio(m.Cost, r.Totals.Cost)
		place[[2]string{m.Provider, m.Model}] = i
	}
	for _, day := range r.Days {
		slices.SortFunc(day.Models, func(a, b ModelSum) int {
			return place[[2]string{a.Provider, a.Model}] - place[[2]string{b.Provider, b.Model}]
		})
	}
	return r
}

// modelDay is a model, by its place in Report.Models, on a day.
type modelDay struct{ day, model int }

func latencyOf(h *rollup.Histogram) *Latency {
	if h.Total() == 0 {
		return nil
	}
	return &Latency{h.Percentile(50), h.Percentile(95), h.Percentile(99)}
}
