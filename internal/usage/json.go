package usage

import (
	"encoding/json"
	"time"

	"github.com/promptcademy/promptops/internal/price"
)

// JSON is a report for programs: the figures that the page shows, with all digits.
func JSON(q Query, r Report) ([]byte, error) {
	q = q.withDefaults()
	doc := document{
		From: q.FirstDay(), To: q.LastDay(), Zone: q.Zone.String(), Group: q.Group, Sub: q.Sub, Metric: q.Metric, Bucket: q.Bucket,
		Totals: figuresOf(r.Totals, true), Groups: groupsOf(q.Metric, r.Groups), Others: othersOf(r.Others), Buckets: bucketsOf(q.Metric, r.Points),
	}
	if before := r.Before; before != nil {
		doc.Previous = &previous{
			From: before.From.In(q.Zone).Format(time.DateOnly), To: before.To.Add(-time.Nanosecond).In(q.Zone).Format(time.DateOnly),
			Totals: figuresOf(before.Totals, true), Buckets: bucketsOf(q.Metric, before.Points),
		}
	}
	return json.MarshalIndent(doc, "", "  ")
}

type document struct {
	From     string    `json:"from"` // the first day
	To       string    `json:"to"`   // the last day
	Zone     string    `json:"zone"`
	Group    Dimension `json:"group"`
	Sub      Dimension `json:"sub,omitempty"`
	Metric   Metric    `json:"metric"`
	Bucket   Bucket    `json:"bucket"`
	Totals   figures   `json:"totals"`
	Groups   []group   `json:"groups"`           // the largest first
	Others   *group    `json:"others,omitempty"` // all that are not in groups
	Buckets  []bucket  `json:"buckets"`
	Previous *previous `json:"previous,omitempty"`
}

type previous struct {
	From    string   `json:"from"`
	To      string   `json:"to"`
	Totals  figures  `json:"totals"`
	Buckets []bucket `json:"buckets"`
}

type group struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Count int    `json:"count,omitempty"` // of others: how many groups it is
	figures
	Values []any   `json:"values,omitempty"` // the metric in each of the buckets
	Subs   []group `json:"subs,omitempty"`
	Others *group  `json:"others,omitempty"`
}

type figures struct {
	Runs              *int64       `json:"runs"` // null: not known
	Attempts          int64        `json:"attempts"`
	Running           int64        `json:"running"`
	Errors            int64        `json:"errors"`
	Cancelled         int64        `json:"cancelled"`
	FallbackAttempts  int64        `json:"fallbackAttempts"`
	InputTokens       int64        `json:"inputTokens"`
	CachedInputTokens int64        `json:"cachedInputTokens"`
	CacheWriteTokens  int64        `json:"cacheWriteTokens"`
	OutputTokens      int64        `json:"outputTokens"`
	ReasoningTokens   int64        `json:"reasoningTokens"`
	TotalTokens       int64        `json:"totalTokens"`
	UnknownUsage      int64        `json:"unknownUsage"`
	CostUSD           *price.USD   `json:"costUsd"` // null: nothing of it is known
	FallbackCostUSD   price.USD    `json:"fallbackCostUsd"`
	Unpriced          int64        `json:"unpriced"`
	DurationMs        *percentiles `json:"durationMs,omitempty"`
	FirstTokenMs      *percentiles `json:"firstTokenMs,omitempty"`
}

type percentiles struct {
	P50 int64 `json:"p50"`
	P95 int64 `json:"p95"`
	P99 int64 `json:"p99"`
}

type bucket struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	Value any       `json:"value"` // the metric; null: unknown
}

func percentilesOf(l *Latency) *percentiles {
	if l == nil {
		return nil
	}
	return &percentiles{l.P50.Milliseconds(), l.P95.Milliseconds(), l.P99.Milliseconds()}
}

func figuresOf(t Totals, runsKnown bool) figures {
	f := figures{
		Attempts: t.Attempts, Running: t.Running, Errors: t.Errors, Cancelled: t.Cancelled, FallbackAttempts: t.Fallback,
		InputTokens: t.Input, CachedInputTokens: t.CachedInput, CacheWriteTokens: t.CacheWrite, OutputTokens: t.Output,
		ReasoningTokens: t.Reasoning, TotalTokens: t.Tokens.Total(), UnknownUsage: t.UnknownUsage, CostUSD: t.KnownCost(),
		FallbackCostUSD: t.FallbackCost, Unpriced: t.Unpriced, DurationMs: percentilesOf(t.Latency), FirstTokenMs: percentilesOf(t.FirstToken),
	}
	if runsKnown {
		f.Runs = &t.Runs
	}
	return f
}

func groupsOf(metric Metric, all []Group) []group {
	groups := make([]group, len(all))
	for i, g := range all {
		groups[i] = group{ID: g.ID, Name: g.Name, figures: figuresOf(g.Totals, !g.RunsUnknown), Subs: groupsOf(metric, g.Subs), Others: othersOf(g.OtherSubs)}
		for _, p := range g.Points {
			groups[i].Values = append(groups[i].Values, metric.value(Totals{Sum: p.Sum, Runs: p.Runs}))
		}
	}
	return groups
}

func othersOf(g *Group) *group {
	if g == nil {
		return nil
	}
	return &group{Name: "Others", Count: g.Count, figures: figuresOf(g.Totals, !g.RunsUnknown)}
}

func bucketsOf(metric Metric, points []Point) []bucket {
	buckets := make([]bucket, len(points))
	for i, p := range points {
		buckets[i] = bucket{p.Start, p.End, metric.value(p.Totals)}
	}
	return buckets
}

// value is a metric of some time.
func (m Metric) value(t Totals) any {
	switch m {
	case TokenCount:
		return map[string]int64{
			"input": t.Input, "cachedInput": t.CachedInput, "cacheWrite": t.CacheWrite, "output": t.Output, "reasoning": t.Reasoning, "total": t.Tokens.Total(),
		}
	case Runs:
		return t.Runs
	case Attempts:
		return t.Attempts
	case Errors:
		return map[string]int64{"errors": t.Errors, "ended": t.Ended()}
	case Fallback:
		return map[string]int64{"fallback": t.Fallback, "attempts": t.Attempts}
	case Durations:
		return percentilesOf(t.Latency)
	case FirstToken:
		return percentilesOf(t.FirstToken)
	default:
		return t.KnownCost()
	}
}
