package handlers

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/usage"
	"github.com/promptcademy/promptops/views"
)

// patterns are what AI Usage shows that is not a sum: the forecast, what changed
// most, and when in the week it happens.
type patterns struct {
	daily    *price.USD // budget; nil: there is none, or it is not shown
	forecast *views.ForecastCard
	moved    *usage.Moved // nil: too much to count, as is a heat that is nil
	heat     *usage.Heat
}

func (s *Server) patternsOf(ctx context.Context, scope scope, q usage.Query) (p patterns, err error) {
	store, now := s.usageFor(scope), s.Now()
	if scope.learner == nil {
		limits, err := s.Budgets.InForce(ctx)
		if err != nil {
			return patterns{}, err
		}
		p.daily = limits.DailyUSD
	}
	if p.forecast, err = s.forecastFor(ctx, store, q, p.daily, now); err != nil {
		return patterns{}, err
	}
	moved, counted, err := store.Movers(ctx, q, now)
	if err != nil {
		return patterns{}, err
	}
	if counted {
		p.moved = &moved
	}
	heat, counted, err := store.Heat(ctx, q, now)
	if err != nil {
		return patterns{}, err
	}
	if counted {
		p.heat = &heat
	}
	return p, nil
}

// addTo puts them onto the page of a report, and leads from its charts to the runs.
func (p patterns) addTo(page *views.UsagePage, r usage.Report, q usage.Query, providerName func(string) string) {
	if page.Empty {
		return
	}
	for i, chart := range page.Charts {
		chart.RangeForm = "filters"
		page.Charts[i] = linkChart(chart, r, q)
	}
	if p.daily != nil && q.KeySource == "fallback" && onlyByKey(q) && q.Metric == usage.Cost && q.Bucket == usage.Days {
		page.Charts[0] = page.Charts[0].Marked("Daily budget", views.Money(p.daily.Decimal()), p.daily.Decimal())
	}
	page.Forecast = p.forecast
	if p.moved != nil {
		page.Patterns.Movers = moversView(*p.moved, q, groupNames(q, providerName))
	}
	if p.heat != nil {
		page.Patterns.Hours = heatView(*p.heat, q)
	}
}

// onlyByKey says whether no filter is set but that of the key source: what is left is
// what budgets are about.
func onlyByKey(q usage.Query) bool {
	q.KeySource = ""
	return !q.Narrowed() && q.TeamIDs == nil
}

// tokenCategoriesID is the one chart whose series are no groups.
const tokenCategoriesID = "usage-token-categories"

// linkChart makes a chart of a report lead to the runs.
func linkChart(chart views.Chart, r usage.Report, q usage.Query) views.Chart {
	series := make([]string, len(chart.Legend))
	if chart.ID != tokenCategoriesID && q.Metric != usage.Durations && q.Metric != usage.FirstToken {
		for i, g := range r.Groups[:min(len(r.Groups), usage.MostLines, len(series))] {
			series[i] = g.Filter
		}
	}
	boundaries := []time.Time{q.From}
	for _, p := range r.Points {
		boundaries = append(boundaries, p.End)
	}
	return chart.Linked(chartLinks(q, boundaries, series))
}

// runsOn is the list of runs with the filters of a query but not its days, and with
// some more.
func runsOn(q usage.Query, more url.Values) string {
	values := q.Filters()
	for _, name := range []string{"range", "from", "to"} {
		values.Del(name)
	}
	for name, value := range more {
		values[name] = value
	}
	if len(values) == 0 {
		return "/runs"
	}
	return "/runs?" + values.Encode()
}

// daysParams are the parameters of the days in which a stretch of time is.
func daysParams(start, end time.Time, zone *time.Location) url.Values {
	return url.Values{
		"from": {period.DayOf(start, zone).String()},
		"to":   {period.DayOf(end.Add(-time.Nanosecond), zone).String()},
	}
}

// chartLinks lead from the buckets of a chart to their runs, and from its series to
// those of a value of the query's group: the value by which the URL filters, "" for
// none. boundaries are those of the buckets.
func chartLinks(q usage.Query, boundaries []time.Time, series []string) views.ChartLinks {
	links := views.ChartLinks{To: runsOn(q, nil), All: daysParams(q.From, q.To, q.Zone).Encode()}
	for i := range len(boundaries) - 1 {
		links.Columns = append(links.Columns, daysParams(boundaries[i], boundaries[i+1], q.Zone).Encode())
	}
	for _, value := range series {
		filter := ""
		if value != "" {
			filter = url.Values{string(q.Group): {value}}.Encode()
		}
		links.Series = append(links.Series, filter)
	}
	return links
}

// heatView writes out the hours of the week: cost, or runs where the page shows
// anything but cost.
func heatView(heat usage.Heat, q usage.Query) *views.UsageHours {
	ofCost := q.Metric == usage.Cost || q.Metric == ""
	other := q.Values()
	view := &views.UsageHours{
		Title: "Runs by hour of the week", Zone: q.Zone.String(), OtherIs: "Cost by hour",
		Note: "How many runs an hour saw on average, of all such hours of the period up to now.",
	}
	other.Del("metric")
	if ofCost {
		view.Title, view.OtherIs = "Cost by hour of the week", "Runs by hour"
		view.Note = "What an hour cost on average, of all such hours of the period up to now."
		other.Set("metric", string(usage.Runs))
	}
	view.Other = "/usage?" + other.Encode() + "#hours"

	value := func(sum usage.HourSum) float64 {
		if ofCost {
			return dollars(sum.Cost) / max(sum.Hours, 1)
		}
		return float64(sum.Runs) / max(sum.Hours, 1)
	}
	var values []float64
	most, mostDay, mostClock := 0.0, 0, 0
	for weekday, hours := range heat {
		for clock, sum := range hours {
			v := value(sum)
			if v > 0 {
				values = append(values, v)
			}
			if v > most {
				most, mostDay, mostClock = v, weekday, clock
			}
		}
	}
	scale := views.HourScale(values)
	write := func(v float64) string {
		if ofCost {
			return views.Estimate(v)
		}
		return views.Average(v)
	}
	for weekday, hours := range heat {
		name := views.WeekdayName(weekday)
		row := views.HourRow{Name: name, Short: name[:3], Href: dayOfWeek(q, weekday)}
		for clock, sum := range hours {
			row.Cells = append(row.Cells, hourCell(sum, ofCost, name+", "+views.HourSpan(clock), write(value(sum)), views.HourShade(value(sum), scale)))
		}
		view.Days = append(view.Days, row)
	}
	if most == 0 {
		view.Summary = "Nothing of it in this period."
		if ofCost {
			view.Summary = "No cost is known in this period."
		}
		return view
	}
	unit := " an hour."
	if !ofCost {
		unit = " " + oneOrMore(write(most), "run", "runs") + " an hour."
	}
	view.Summary = "Most on " + views.WeekdayName(mostDay) + "s from " + views.HourSpan(mostClock) + ": " + write(most) + unit
	for shade := range views.HourShades {
		upTo := scale * float64(shade+1) / views.HourShades
		if shade == views.HourShades-1 {
			upTo = most
		}
		view.Legend = append(view.Legend, "up to "+write(upTo))
	}
	return view
}

// oneOrMore is the word for a number that is written out.
func oneOrMore(number, one, more string) string {
	if number == "1" {
		return one
	}
	return more
}

func hourCell(sum usage.HourSum, ofCost bool, when, average string, shade int) views.HourCell {
	if sum.Hours == 0 {
		return views.HourCell{Value: "–", Title: when + ": not in this period"}
	}
	cell := views.HourCell{Value: average, Shade: shade}
	total := plural(sum.Runs, "run", "runs")
	if ofCost {
		total = views.Money(sum.Cost.Decimal())
		if sum.Cost.IsZero() && sum.Unpriced > 0 {
			cell.Value, average, total = "?", "unknown", "unknown"
		}
	}
	cell.Title = fmt.Sprintf("%s: %s an hour, %s in all, of %s h", when, average, total, views.Average(sum.Hours))
	if ofCost && sum.Unpriced > 0 {
		cell.Title += ", and " + plural(sum.Unpriced, "attempt", "attempts") + " without a price"
	}
	return cell
}

// dayOfWeek leads to the runs of a weekday where the period has just one of them.
func dayOfWeek(q usage.Query, weekday int) string {
	var found []time.Time
	first, last := period.DayOf(q.From, q.Zone), period.DayOf(q.To.Add(-time.Nanosecond), q.Zone)
	if first.Until(last) >= 7 {
		return ""
	}
	for d := first; d.Until(last) >= 0; d = d.Plus(1) {
		if start := d.Start(q.Zone); (int(start.Weekday())+6)%7 == weekday {
			found = append(found, start)
		}
	}
	if len(found) != 1 {
		return ""
	}
	return runsOn(q, daysParams(found[0], found[0].Add(time.Nanosecond), q.Zone))
}

// moversView writes out what changed most.
func moversView(m usage.Moved, q usage.Query, name func(usage.Dimension, usage.Group) string) *views.UsageMovers {
	view := &views.UsageMovers{
		By:      dimensionName(q.Group),
		Against: "compared with " + views.DayRange(m.From, m.To.Add(-time.Nanosecond).In(q.Zone)),
	}
	if m.Partial {
		view.Partial = "Today is not over: of the day it is compared with, the same hours count."
	}
	for _, list := range []struct {
		of   []usage.Mover
		into *[]views.MoverLine
	}{{m.Up, &view.Up}, {m.Down, &view.Down}} {
		for _, mover := range list.of {
			*list.into = append(*list.into, moverLine(mover, q, name))
		}
	}
	return view
}

func moverLine(m usage.Mover, q usage.Query, name func(usage.Dimension, usage.Group) string) views.MoverLine {
	change := m.Change().Decimal()
	sign := "+"
	if change.IsNegative() {
		sign = "−"
	}
	line := views.MoverLine{
		Name: name(q.Group, usage.Group{ID: m.ID, Name: m.Name}), Before: views.Estimate(dollars(m.Before)), After: views.Estimate(dollars(m.After)),
		Change: sign + views.Estimate(change.Abs().InexactFloat64()), Exact: sign + views.MoneyExact(change.Abs()),
		Percent: views.ChangePercent(dollars(m.Before), dollars(m.After)),
	}
	if m.Filter != "" {
		days := daysParams(q.From, q.To, q.Zone)
		days.Set(string(q.Group), m.Filter)
		line.Href = runsOn(q, days)
	}
	return line
}
