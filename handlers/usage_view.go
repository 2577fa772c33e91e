package handlers

import (
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/usage"
	"github.com/promptcademy/promptops/views"
)

// usageView writes out a report.
func usageView(r usage.Report, q usage.Query, providerName func(string) string) views.UsagePage {
	page := views.UsagePage{
		Period: views.DayRange(q.From, q.To.Add(-time.Nanosecond).In(q.Zone)),
		Empty:  r.Totals.Attempts == 0,
		CSV:    "/usage.csv?" + q.Values().Encode(),
		JSON:   "/usage.json?" + q.Values().Encode(),
	}
	if r.Before != nil {
		page.Against = views.DayRange(r.Before.From.In(q.Zone), r.Before.To.Add(-time.Nanosecond).In(q.Zone))
	}
	if page.Empty {
		return page
	}
	name := groupNames(q, providerName)
	page.Charts = usageCharts(r, q, name)
	page.Figures = usageFigures(r, q)
	if r.Totals.Unpriced > 0 {
		page.Unpriced = views.Count(r.Totals.Unpriced)
	}
	page.Table = usageTable(r, q, name, providerName)
	return page
}

// groupNames returns how groups and their parts are called on the page.
func groupNames(q usage.Query, providerName func(string) string) func(by usage.Dimension, g usage.Group) string {
	return func(by usage.Dimension, g usage.Group) string {
		switch {
		case by == usage.ByProvider:
			return providerName(g.ID)
		case by == usage.ByModel && (q.Group == usage.ByModel || q.Group == usage.ByProvider):
			return strings.TrimPrefix(g.ID, providerOf(g.ID)+"/")
		default:
			return g.Name
		}
	}
}

func providerOf(model string) string {
	provider, _, _ := strings.Cut(model, "/")
	return provider
}

// runsOf leads to the runs of a query, of some groups if there are filters for them.
func runsOf(q usage.Query, filters ...string) string {
	values := q.Filters()
	for i := 0; i < len(filters); i += 2 {
		values.Set(filters[i], filters[i+1])
	}
	return "/runs?" + values.Encode()
}

// usageFigures are the key figures, compared if there is something to compare with.
func usageFigures(r usage.Report, q usage.Query) []views.UsageFigure {
	figures := keyFigures(r.Totals)
	changes := make([]views.Change, len(figures))
	if r.Before != nil {
		changes = usageChanges(r.Totals, r.Before.Totals)
	}
	links := []string{runsOf(q), runsOf(q), runsOf(q), runsOf(q, "status", "error"), runsOf(q, "key", "fallback"), runsOf(q)}
	if q.KeySource == "user" {
		links[4] = "" // none of these is paid with a fallback key
	}
	all := make([]views.UsageFigure, len(figures))
	for i, figure := range figures {
		all[i] = views.UsageFigure{KeyFigure: figure, Change: changes[i], Href: links[i]}
	}
	return all
}

func usageChanges(now, before usage.Totals) []views.Change {
	was := keyFigures(before)
	count := func(a, b int64, at int) views.Change {
		return views.ChangeFrom(decimal.NewFromInt(a), decimal.NewFromInt(b), was[at].Value)
	}
	rate := func(part, whole, partBefore, wholeBefore int64, at int) views.Change {
		if whole == 0 || wholeBefore == 0 {
			return views.Change{}
		}
		return views.PointsFrom(float64(part)/float64(whole)*100, float64(partBefore)/float64(wholeBefore)*100, was[at].Value)
	}
	changes := []views.Change{
		{}, count(now.Runs, before.Runs, 1), count(now.Tokens.Total(), before.Tokens.Total(), 2),
		rate(now.Errors, now.Ended(), before.Errors, before.Ended(), 3), rate(now.Fallback, now.Attempts, before.Fallback, before.Attempts, 4), {},
	}
	if now.KnownCost() != nil && before.KnownCost() != nil {
		changes[0] = views.ChangeFrom(now.Cost.Decimal(), before.Cost.Decimal(), was[0].Value)
	}
	if now.Latency != nil && before.Latency != nil {
		changes[5] = count(now.Latency.P95.Milliseconds(), before.Latency.P95.Milliseconds(), 5)
	}
	return changes
}

// knownCost is nil where nothing of the cost is known.
func knownCost(sum usage.Sum) *decimal.Decimal {
	known := sum.KnownCost()
	if known == nil {
		return nil
	}
	cost := known.Decimal()
	return &cost
}

func keyFigures(t usage.Totals) []views.KeyFigure {
	cost := views.KeyFigure{Label: "Cost", Value: "Unknown", Note: "no attempt has a price"}
	if known := knownCost(t.Sum); known != nil {
		cost.Value, cost.Exact = views.Money(*known), views.MoneyExact(*known)
		cost.Note = fallbackNote(t.Sum)
	}
	if t.Unpriced > 0 {
		cost.Badge = views.Count(t.Unpriced) + " unpriced"
	}
	tokens := views.KeyFigure{
		Label: "Tokens", Value: views.CountShort(t.Tokens.Total()), Exact: views.Count(t.Tokens.Total()),
		Note: views.CountShort(t.Input) + " in, " + views.CountShort(t.Output) + " out",
	}
	if t.UnknownUsage > 0 {
		tokens.Badge = views.Count(t.UnknownUsage) + " unknown"
	}
	return []views.KeyFigure{
		cost,
		{Label: "Runs", Value: views.Count(t.Runs), Note: plural(t.Attempts, "attempt", "attempts")},
		tokens,
		{Label: "Error rate", Value: views.Percent(t.Errors, t.Ended()), Note: plural(t.Errors, "error", "errors")},
		{Label: "Fallback share", Value: views.Percent(t.Fallback, t.Attempts), Note: "of attempts"},
		{Label: "Duration P95", Value: p95(t.Latency), Note: "of answered attempts"},
	}
}

func fallbackNote(sum usage.Sum) string {
	return views.Money(sum.FallbackCost.Decimal()) + " on fallback keys"
}

// usageTable is a line for each group, and one for what each is divided into.
func usageTable(r usage.Report, q usage.Query, name func(usage.Dimension, usage.Group) string, providerName func(string) string) views.UsageTable {
	t := views.UsageTable{By: dimensionName(q.Group), Head: capital(dimensionName(q.Group)), Providers: q.Group == usage.ByModel, HasUnknown: r.Totals.Unpriced > 0}
	percentiles := percentilesOf(q.Metric)
	for _, p := range percentiles {
		t.Durations = append(t.Durations, p.head)
	}
	var costs []*decimal.Decimal
	add := func(g usage.Group, row views.UsageRow) {
		fillRow(&row, g, percentiles)
		row.Share, row.ShareBar = views.PercentOf(g.Cost.Decimal(), r.Totals.Cost.Decimal()), share(g.Sum, r.Totals.Sum)
		t.Rows = append(t.Rows, row)
		costs = append(costs, knownCost(g.Sum))
	}
	rest := func(g *usage.Group, of usage.Dimension) {
		if g != nil {
			add(*g, views.UsageRow{Name: "Others (" + views.Count(int64(g.Count)) + ")", Sub: of == q.Sub, Rest: true})
		}
	}
	for i, g := range r.Groups {
		row := views.UsageRow{Name: name(q.Group, g), Title: g.Name, Swatch: swatchOf(i)}
		if g.Filter != "" {
			row.Href = runsOf(q, string(q.Group), g.Filter)
		}
		if q.Group == usage.ByModel {
			row.Provider = providerName(providerOf(g.ID))
		}
		add(g, row)
		for _, sub := range g.Subs {
			row := views.UsageRow{Name: name(q.Sub, sub), Title: sub.Name, Sub: true}
			if g.Filter != "" && sub.Filter != "" {
				row.Href = runsOf(q, string(q.Group), g.Filter, string(q.Sub), sub.Filter)
			}
			add(sub, row)
		}
		rest(g.OtherSubs, q.Sub)
	}
	rest(r.Others, q.Group)
	t.Total.Href = runsOf(q)
	fillRow(&t.Total, usage.Group{Totals: r.Totals}, percentiles)
	amounts := views.Amounts(append(costs, knownCost(r.Totals.Sum)))
	for i := range t.Rows {
		t.Rows[i].Cost = amounts[i]
	}
	t.Total.Cost = amounts[len(t.Rows)]
	if r.Others != nil {
		t.Cut = "The " + views.Count(int64(len(r.Groups))) + " largest are shown, all others as one line. The CSV has all of them."
	}
	if by := q.Group; by == usage.ByProvider || by == usage.ByModel || by == usage.ByKey {
		t.Note = "A run that asks several models counts once in the total."
	}
	return t
}

// swatchOf is the colour of a group in the charts.
func swatchOf(place int) int {
	if place < usage.MostLines {
		return place + 1
	}
	return 0
}

// percentile is a column of the table.
type percentile struct {
	head string
	of   func(usage.Totals) *time.Duration
}

func percentilesOf(metric usage.Metric) []percentile {
	pick := func(from func(usage.Totals) *usage.Latency, which func(usage.Latency) time.Duration) func(usage.Totals) *time.Duration {
		return func(t usage.Totals) *time.Duration {
			l := from(t)
			if l == nil {
				return nil
			}
			d := which(*l)
			return &d
		}
	}
	p50 := func(l usage.Latency) time.Duration { return l.P50 }
	p95 := func(l usage.Latency) time.Duration { return l.P95 }
	p99 := func(l usage.Latency) time.Duration { return l.P99 }
	whole := func(t usage.Totals) *usage.Latency { return t.Latency }
	first := func(t usage.Totals) *usage.Latency { return t.FirstToken }
	switch metric {
	case usage.Durations:
		return []percentile{{"P50", pick(whole, p50)}, {"P95", pick(whole, p95)}, {"P99", pick(whole, p99)}}
	case usage.FirstToken:
		return []percentile{{"First token P50", pick(first, p50)}, {"P95", pick(first, p95)}, {"P99", pick(first, p99)}}
	default:
		return []percentile{{"P95", pick(whole, p95)}}
	}
}

// fillRow writes out what a group did, but for its cost.
func fillRow(row *views.UsageRow, g usage.Group, percentiles []percentile) {
	row.Runs = views.Count(g.Runs)
	if g.RunsUnknown {
		row.Runs = "–"
	}
	row.Attempts, row.Errors, row.ErrorRate = views.Count(g.Attempts), views.Count(g.Errors), views.Percent(g.Errors, g.Ended())
	row.Input, row.Cached, row.Output, row.Reasoning = views.Count(g.Input), views.Count(g.CachedInput), views.Count(g.Output), views.Count(g.Reasoning)
	row.Fallback = views.Percent(g.Fallback, g.Attempts)
	if g.Unpriced > 0 {
		row.Unpriced = views.Count(g.Unpriced)
	}
	for _, p := range percentiles {
		text := "–"
		if d := p.of(g.Totals); d != nil {
			text = views.Milliseconds(d.Milliseconds())
		}
		row.Durations = append(row.Durations, text)
	}
}

func share(part, whole usage.Sum) float64 {
	if whole.Cost.IsZero() {
		return 0
	}
	return part.Cost.Decimal().Div(whole.Cost.Decimal()).InexactFloat64()
}

func capital(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

func p95(latency *usage.Latency) string {
	if latency == nil {
		return "–"
	}
	return views.Milliseconds(latency.P95.Milliseconds())
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return views.Count(n) + " " + many
}

// overviewSeries are the days of a report, and what the models with a line of their
// own cost on each, and the rest.
func overviewSeries(r usage.Report) (days []time.Time, models []views.ModelDays, swatches map[string]int) {
	swatches = map[string]int{}
	rest := views.ModelDays{Model: "\x00", Cost: make([]decimal.Decimal, len(r.Points)), Tokens: make([]int64, len(r.Points))}
	for i, p := range r.Points {
		days = append(days, p.Start)
		rest.Cost[i] = p.Cost.Decimal()
	}
	for at, g := range r.Groups[:min(len(r.Groups), usage.MostLines)] {
		m := views.ModelDays{Model: g.ID, Cost: make([]decimal.Decimal, len(days)), Tokens: make([]int64, len(days))}
		for i, p := range g.Points {
			m.Cost[i] = p.Cost.Decimal()
			rest.Cost[i] = rest.Cost[i].Sub(m.Cost[i])
		}
		swatches[m.Model] = swatchOf(at)
		models = append(models, m)
	}
	if len(r.Groups) > usage.MostLines {
		models = append(models, rest)
	}
	return days, models, swatches
}
