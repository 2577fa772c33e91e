package usage

import (
	"cmp"
	"slices"
	"time"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
)

// Report is the answer to a Query. All of it was counted at the same moment, and
// sums are exact: Groups and Others add up to Totals, and so do Points. Runs are
// the exception: one that asks several models is one run of each.
type Report struct {
	Totals Totals
	Points []Point  // every bucket, oldest first, also those without attempts
	Groups []Group  // the largest by the metric first, MostGroups at most
	Others *Group   // all that are not in Groups
	Before *Earlier // if the query compares
}

const (
	// MostGroups is how many Groups a Report has, MostDivided how many if they are divided
	// further, and MostSubs into how many each of them.
	MostGroups  = 100
	MostDivided = 25
	MostSubs    = 10

	// MostLines is how many Groups have Points of their own.
	MostLines = 8
)

// Totals are figures of some time.
type Totals struct {
	Sum
	Runs       int64
	Latency    *Latency // nil: no attempt was ok, or it was not asked for
	FirstToken *Latency // likewise
}

// Point is what happened in one bucket of time.
type Point struct {
	Start, End time.Time // in the query's zone
	Totals               // Latency and FirstToken if they are the metric
}

// Group is what attempts did that have one value of a dimension.
type Group struct {
	ID     string // of the dimension: a name, an account's id …; "": none, and of Others
	Name   string
	Filter string // how the URL filters by it; "": it cannot
	Totals
	RunsUnknown bool   // Runs is not known: those of several groups do not add up
	Count       int    // of Others: how many groups it is
	Points      []Sums // like Report.Points, of the first MostLines groups, unless the metric is one of durations
	Subs        []Group
	OtherSubs   *Group
}

// Sums are the figures of which a Group's Points are made: those of the metric.
type Sums struct {
	Sum
	Runs int64
}

// Earlier is as much time just before, divided likewise.
type Earlier struct {
	From, To time.Time
	Totals   Totals
	Points   []Point // as many as Report.Points
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
	s.Cost = addMoney(s.Cost, o.Cost)
	s.FallbackCost = addMoney(s.FallbackCost, o.FallbackCost)
	s.Unpriced += o.Unpriced
}

// addMoney makes nothing new of what one of them is already: that is so of most.
func addMoney(a, b price.USD) price.USD {
	switch {
	case b.IsZero():
		return a
	case a.IsZero():
		return b
	default:
		return a.Add(b)
	}
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

func (s *Sum) sub(o Sum) {
	s.Attempts -= o.Attempts
	s.Running -= o.Running
	s.Errors -= o.Errors
	s.Cancelled -= o.Cancelled
	s.Fallback -= o.Fallback
	s.Input -= o.Input
	s.CachedInput -= o.CachedInput
	s.CacheWrite -= o.CacheWrite
	s.Output -= o.Output
	s.Reasoning -= o.Reasoning
	s.UnknownUsage -= o.UnknownUsage
	s.Cost = s.Cost.Sub(o.Cost)
	s.FallbackCost = s.FallbackCost.Sub(o.FallbackCost)
	s.Unpriced -= o.Unpriced
}

// addsUp says whether runs of the groups of a dimension add up: all attempts of a
// run are of the same team, template and learner.
func (d Dimension) addsUp() bool { return d == ByTeam || d == ByTemplate || d == ByLearner }

// weight orders groups: the larger, the earlier.
func (m Metric) weight(t *tally) int64 {
	switch m {
	case TokenCount:
		return t.Tokens.Total()
	case Runs:
		return t.runs
	case Errors:
		return t.Errors
	case Fallback:
		return t.Fallback
	case Cost:
		return 0 // money is compared first of all the rest
	default:
		return t.Attempts
	}
}

// orders are the columns that compare looks at, and rest all others.
func (m Metric) orders() (these, rest []string) {
	these = append([]string{"cost", "attempts"}, m.columns()...)
	return these, slices.DeleteFunc(measureNames(), func(name string) bool { return slices.Contains(these, name) })
}

func (m Metric) compare(a, b part) int {
	// One after the other: there may be very many, and money is slow to compare.
	if by := cmp.Compare(m.weight(b.tally), m.weight(a.tally)); by != 0 {
		return by
	}
	if by := b.Cost.Cmp(a.Cost); by != 0 {
		return by
	}
	return cmp.Or(cmp.Compare(b.Attempts, a.Attempts), cmp.Compare(a.id, b.id))
}

// rankedBy adds cells of groups up and writes them down in order.
func rankedBy(metric Metric, cells []Cell) answer {
	parts, place := make([]part, 0, len(cells)), make(map[string]int, len(cells))
	for i := range cells {
		c := &cells[i]
		at, known := place[c.Grp]
		if !known {
			at = len(parts)
			place[c.Grp], parts = at, append(parts, part{c.Grp, &tally{}})
		}
		parts[at].add(c)
		if known {
			cells[at].plus(c)
		} else {
			cells[at] = *c // which stands here or further on
		}
	}
	slices.SortFunc(parts, metric.compare)
	sorted := make([]Cell, len(parts))
	for i, p := range parts {
		sorted[i] = cells[place[p.id]]
	}
	return answerOf(sorted)
}

// plus adds what was counted of the same place without durations.
func (c *Cell) plus(o *Cell) {
	for _, m := range measures() {
		if m.count != nil {
			*m.count(c) += *m.count(o)
		} else {
			*m.money(c) = addMoney(*m.money(c), *m.money(o))
		}
	}
}

// part is a group, or a part of one, by its ID.
type part struct {
	id string
	*tally
}

// key is the place of a cell in a set.
type key struct {
	bucket     int32 // from 1
	group, sub string
}

// Cell is what was counted in one place, from sums or from rows.
type Cell struct {
	Bucket    int32
	Grp, Sub  string
	Runs      int64
	Attempts  int64
	Running   int64
	Errors    int64
	Cancelled int64
	Fallback  int64
	Tokens
	UnknownUsage int64
	Cost         price.USD
	FallbackCost price.USD
	Unpriced     int64
	Latency      []byte // packed; see rollup.Histogram
	FirstToken   []byte
}

// tally adds cells up.
type tally struct {
	Sum
	runs           int64
	latency, first *rollup.Histogram
}

func (t *tally) add(c *Cell) {
	t.runs += c.Runs
	t.Sum.add(Sum{
		Attempts: c.Attempts, Running: c.Running, Errors: c.Errors, Cancelled: c.Cancelled, Fallback: c.Fallback, Tokens: c.Tokens,
		UnknownUsage: c.UnknownUsage, Cost: c.Cost, FallbackCost: c.FallbackCost, Unpriced: c.Unpriced,
	})
	t.latency = addDurations(t.latency, c.Latency)
	t.first = addDurations(t.first, c.FirstToken)
}

func addDurations(h *rollup.Histogram, packed []byte) *rollup.Histogram {
	if len(packed) == 0 {
		return h
	}
	if h == nil {
		h = &rollup.Histogram{}
	}
	h.Add(packed)
	return h
}

func (t *tally) totals() Totals {
	if t == nil {
		return Totals{}
	}
	return Totals{Sum: t.Sum, Runs: t.runs, Latency: latencyOf(t.latency), FirstToken: latencyOf(t.first)}
}

func latencyOf(h *rollup.Histogram) *Latency {
	if h == nil || h.Total() == 0 {
		return nil
	}
	return &Latency{h.Percentile(50), h.Percentile(95), h.Percentile(99)}
}

// tallies are the cells of a set.
type tallies map[key]*tally

func (all tallies) add(of set, c *Cell) {
	k := key{bucket: 1}
	if of.bucket {
		k.bucket = c.Bucket
	}
	if of.group {
		k.group = c.Grp
	}
	if of.sub {
		k.sub = c.Sub
	}
	t := all[k]
	if t == nil {
		t = &tally{}
		all[k] = t
	}
	t.add(c)
}

// points are the buckets between boundaries, counted or not. Unless durations were
// asked for they are known of some attempts only, and left out.
func (all tallies) points(boundaries []time.Time, durations bool) []Point {
	points := make([]Point, len(boundaries)-1)
	for i := range points {
		points[i] = Point{boundaries[i], boundaries[i+1], all[key{bucket: int32(i + 1)}].totals()}
		if !durations {
			points[i].Latency, points[i].FirstToken = nil, nil
		}
	}
	return points
}

// largest are the cells of a dimension, the largest first, most at most; count is how
// many there are. There may be very many.
func (all tallies) largest(metric Metric, most int) (parts []part, count int) {
	for k, t := range all {
		if t.Attempts == 0 {
			continue
		}
		count++
		p := part{k.group + k.sub, t}
		if len(parts) == most && metric.compare(parts[most-1], p) < 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(parts, p, metric.compare)
		parts = slices.Insert(parts[:min(len(parts), most-1)], at, p)
	}
	return parts, count
}

// groupsFrom are the largest parts of a whole, and what they leave of it.
func groupsFrom(parts []part, count int, whole Totals, by Dimension) (groups []Group, others *Group) {
	rest := Group{Count: count - len(parts), Totals: Totals{Sum: whole.Sum, Runs: whole.Runs}, RunsUnknown: !by.addsUp()}
	groups = make([]Group, 0, len(parts))
	for _, p := range parts {
		g := Group{ID: p.id, Totals: p.totals()}
		groups = append(groups, g)
		rest.Sum.sub(g.Sum)
		rest.Runs -= g.Runs
	}
	if rest.RunsUnknown {
		rest.Runs = 0
	}
	if rest.Count == 0 {
		return groups, nil
	}
	return groups, &rest
}

// of are the cells of one group.
func (all tallies) of(group string) tallies {
	some := tallies{}
	for k, t := range all {
		if k.group == group {
			some[key{bucket: k.bucket, sub: k.sub}] = t
		}
	}
	return some
}

// KnownCost is nil where nothing of the cost is known. That is so, too, where all
// that is priced are refusals, which cost nothing.
func (s Sum) KnownCost() *price.USD {
	if s.Cost.IsZero() && s.Unpriced > 0 {
		return nil
	}
	return &s.Cost
}
