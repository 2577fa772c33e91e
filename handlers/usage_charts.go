package handlers

import (
	"time"

	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/usage"
	"github.com/promptcademy/promptops/views"
)

// slowRun is how long a run may take before somebody is told.
const slowRun = 15 * time.Second

// usageCharts draw the metric over time.
func usageCharts(r usage.Report, q usage.Query, name func(usage.Dimension, usage.Group) string) []views.Chart {
	chart := views.TimeChart{ID: "usage-" + string(q.Metric), Title: metricName(q.Metric), Buckets: bucketNames(r.Points, q.Bucket)}
	per := " per " + string(q.Bucket) + " by " + dimensionName(q.Group)
	switch q.Metric {
	case usage.TokenCount:
		chart.Unit, chart.Format = "Input and output tokens"+per, views.CountFormat
		categories := tokenCategories(r, q)
		stackGroups(&chart, r, q, name)
		return []views.Chart{chart.Chart(), categories.Chart()}
	case usage.Runs:
		chart.Unit, chart.Format = "Runs"+per, views.CountFormat
		if q.Group == usage.ByModel || q.Group == usage.ByProvider || q.Group == usage.ByKey {
			chart.Unit += "; one that asks several models counts with each"
			lineGroups(&chart, r, q, name)
			return []views.Chart{chart.Chart()}
		}
		stackGroups(&chart, r, q, name)
	case usage.Attempts:
		chart.Unit, chart.Format = "Attempts"+per, views.CountFormat
		stackGroups(&chart, r, q, name)
	case usage.Errors:
		chart.Unit, chart.Format = "Part of the attempts that failed,"+per, views.PercentFormat
		lineGroups(&chart, r, q, name)
	case usage.Fallback:
		chart.Unit, chart.Format = "Part of the attempts that fallback keys paid,"+per, views.PercentFormat
		lineGroups(&chart, r, q, name)
	case usage.Durations, usage.FirstToken:
		chart.Unit, chart.Format = "Of answered attempts, per "+string(q.Bucket), views.MsFormat
		linePercentiles(&chart, r, q.Metric)
	default:
		chart.Unit, chart.Format = "US dollars"+per, views.USDFormat
		stackGroups(&chart, r, q, name)
	}
	return []views.Chart{chart.Chart()}
}

func bucketNames(points []usage.Point, bucket usage.Bucket) []views.TimeBucket {
	names := make([]views.TimeBucket, len(points))
	for i, p := range points {
		switch bucket {
		case usage.Hours:
			names[i] = views.HourBucket(p.Start)
		case usage.Weeks:
			names[i] = views.WeekBucket(p.Start, p.End)
		default:
			names[i] = views.DayBucket(p.Start)
		}
	}
	return names
}

// measure is a metric of some time as a chart draws it; nil: nothing to draw.
func measure(metric usage.Metric, sum usage.Sum, runs int64) *decimal.Decimal {
	count := func(n int64) *decimal.Decimal { return new(decimal.NewFromInt(n)) }
	rate := func(part, whole int64) *decimal.Decimal {
		if whole == 0 {
			return nil
		}
		return new(decimal.NewFromInt(part).Mul(decimal.NewFromInt(100)).DivRound(decimal.NewFromInt(whole), 4))
	}
	switch metric {
	case usage.TokenCount:
		return count(sum.Tokens.Total())
	case usage.Runs:
		return count(runs)
	case usage.Attempts:
		return count(sum.Attempts)
	case usage.Errors:
		return rate(sum.Errors, sum.Ended())
	case usage.Fallback:
		return rate(sum.Fallback, sum.Attempts)
	default:
		return new(sum.Cost.Decimal())
	}
}

// shortly writes a metric for a legend.
func shortly(metric usage.Metric, value *decimal.Decimal) string {
	switch {
	case value == nil:
		return "–"
	case metric == usage.Cost:
		return views.Money(*value)
	case metric == usage.Errors || metric == usage.Fallback:
		return views.PercentFormat.Write(value)
	default:
		return views.CountShort(value.IntPart())
	}
}

func pointSeries(points []usage.Point, metric usage.Metric) []*decimal.Decimal {
	values := make([]*decimal.Decimal, len(points))
	for i, p := range points {
		values[i] = measure(metric, p.Sum, p.Runs)
	}
	return values
}

// stackGroups shows the groups with a line of their own, and the rest, as parts of
// the whole.
func stackGroups(chart *views.TimeChart, r usage.Report, q usage.Query, name func(usage.Dimension, usage.Group) string) {
	chart.Stacked, chart.Whole = true, pointSeries(r.Points, q.Metric)
	chart.Total = shortly(q.Metric, measure(q.Metric, r.Totals.Sum, r.Totals.Runs))
	rest := make([]decimal.Decimal, len(r.Points))
	for i, whole := range chart.Whole {
		rest[i] = *whole
	}
	left := *measure(q.Metric, r.Totals.Sum, r.Totals.Runs)
	for _, s := range groupSeries(r, q, name) {
		chart.Series = append(chart.Series, s.TimeSeries)
		for i, v := range s.Values {
			rest[i] = rest[i].Sub(*v)
		}
		left = left.Sub(*s.total)
	}
	if n := groupCount(r) - len(chart.Series); n > 0 {
		other := views.TimeSeries{Name: "Other (" + views.Count(int64(n)) + ")", Total: shortly(q.Metric, &left)}
		for i := range rest {
			other.Values = append(other.Values, &rest[i])
		}
		chart.Series = append(chart.Series, other)
	}
	addBefore(chart, r, q.Metric)
}

// lineGroups shows figures that do not add up: of all, and of the groups with a
// line of their own.
func lineGroups(chart *views.TimeChart, r usage.Report, q usage.Query, name func(usage.Dimension, usage.Group) string) {
	all := measure(q.Metric, r.Totals.Sum, r.Totals.Runs)
	chart.Total = shortly(q.Metric, all)
	for _, s := range groupSeries(r, q, name) {
		chart.Series = append(chart.Series, s.TimeSeries)
	}
	if len(r.Groups) > 1 {
		chart.Series = append(chart.Series, views.TimeSeries{Name: "All", Values: pointSeries(r.Points, q.Metric), Total: chart.Total})
	}
	addBefore(chart, r, q.Metric)
}

// groupLine is the series of a group.
type groupLine struct {
	views.TimeSeries
	total *decimal.Decimal
}

func groupSeries(r usage.Report, q usage.Query, name func(usage.Dimension, usage.Group) string) []groupLine {
	var all []groupLine
	taken := map[string]bool{}
	for i, g := range r.Groups[:min(len(r.Groups), usage.MostLines)] {
		line := groupLine{total: measure(q.Metric, g.Sum, g.Runs)}
		line.Name, line.Swatch, line.Total = name(q.Group, g), swatchOf(i), shortly(q.Metric, line.total)
		if q.Group == usage.ByModel || taken[line.Name] { // a model of two providers, or two teams of one name
			line.Name = g.ID
		}
		taken[line.Name] = true
		for _, p := range g.Points {
			line.Values = append(line.Values, measure(q.Metric, p.Sum, p.Runs))
		}
		all = append(all, line)
	}
	return all
}

func groupCount(r usage.Report) int {
	n := len(r.Groups)
	if r.Others != nil {
		n += r.Others.Count
	}
	return n
}

func addBefore(chart *views.TimeChart, r usage.Report, metric usage.Metric) {
	if r.Before != nil {
		chart.Before = &views.TimeSeries{
			Name: "Period before", Values: pointSeries(r.Before.Points, metric),
			Total: shortly(metric, measure(metric, r.Before.Totals.Sum, r.Before.Totals.Runs)),
		}
	}
}

// tokenCategories divide the tokens by what they were.
func tokenCategories(r usage.Report, q usage.Query) views.TimeChart {
	chart := views.TimeChart{
		ID: "usage-token-categories", Title: "Tokens by category", Unit: "Tokens per " + string(q.Bucket) + "; nothing is counted twice", Format: views.CountFormat,
		Buckets: bucketNames(r.Points, q.Bucket), Stacked: true, Whole: pointSeries(r.Points, usage.TokenCount), Total: views.CountShort(r.Totals.Tokens.Total()),
	}
	for i, category := range []struct {
		name string
		of   func(usage.Tokens) int64
	}{
		{"Input", func(t usage.Tokens) int64 { return t.Input - t.CachedInput - t.CacheWrite }},
		{"Cached input", func(t usage.Tokens) int64 { return t.CachedInput }},
		{"Written to the cache", func(t usage.Tokens) int64 { return t.CacheWrite }},
		{"Output", func(t usage.Tokens) int64 { return t.Output - t.Reasoning }},
		{"Reasoning", func(t usage.Tokens) int64 { return t.Reasoning }},
	} {
		s := views.TimeSeries{Name: category.name, Swatch: i + 1, Total: views.CountShort(category.of(r.Totals.Tokens))}
		for _, p := range r.Points {
			s.Values = append(s.Values, new(decimal.NewFromInt(category.of(p.Tokens))))
		}
		chart.Series = append(chart.Series, s)
	}
	return chart
}

// linePercentiles shows how long half, 95 % and 99 % took at most.
func linePercentiles(chart *views.TimeChart, r usage.Report, metric usage.Metric) {
	of := func(t usage.Totals) *usage.Latency { return t.Latency }
	if metric == usage.FirstToken {
		of = func(t usage.Totals) *usage.Latency { return t.FirstToken }
	} else {
		chart.Limit, chart.LimitName = new(decimal.NewFromInt(slowRun.Milliseconds())), "15 s"
	}
	for i, p := range []struct {
		name string
		of   func(*usage.Latency) time.Duration
	}{
		{"P50", func(l *usage.Latency) time.Duration { return l.P50 }},
		{"P95", func(l *usage.Latency) time.Duration { return l.P95 }},
		{"P99", func(l *usage.Latency) time.Duration { return l.P99 }},
	} {
		value := func(t usage.Totals) *decimal.Decimal {
			l := of(t)
			if l == nil {
				return nil
			}
			return new(decimal.NewFromInt(p.of(l).Milliseconds()))
		}
		s := views.TimeSeries{Name: p.name, Swatch: i + 1, Total: views.MsFormat.Write(value(r.Totals))}
		for _, point := range r.Points {
			s.Values = append(s.Values, value(point.Totals))
		}
		chart.Series = append(chart.Series, s)
		if p.name != "P95" {
			continue
		}
		chart.Total = "P95 " + s.Total
		if r.Before != nil {
			before := views.TimeSeries{Name: "P95 of the period before", Total: views.MsFormat.Write(value(r.Before.Totals))}
			for _, point := range r.Before.Points {
				before.Values = append(before.Values, value(point.Totals))
			}
			chart.Before = &before
		}
	}
}
