package handlers

import (
	"fmt"
	"net/url"
	"strings"
	"time"


	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/usage"
	"github.com/promptcademy/promptops/views"
)

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
	most, mostDay, mostClock := 0.0, 0, 0
	for weekday, hours := range heat {
		for clock, sum := range hours {
			if v := value(sum); v > most {
				most, mostDay, mostClock = v, weekday, clock
			}
		}
	}
	write := func(v float64) string {
		if ofCost {
			return views.Estimate(v)
		}
		return views.Rate(v)
	}
	for weekday, hours := range heat {
		name := views.WeekdayName(weekday)
		row := views.HourRow{Name: name, Short: name[:3], Href: dayOfWeek(q, weekday)}
		for clock, sum := range hours {
			row.Cells = append(row.Cells, hourCell(sum, ofCost, name+", "+views.HourSpan(clock), write(value(sum)), views.HourShade(value(sum), most)))
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
		unit = " runs an hour."
	}
	view.Summary = "Most on " + views.WeekdayName(mostDay) + "s from " + views.HourSpan(mostClock) + ": " + write(most) + unit
	for shade := range views.HourShades {
		view.Legend = append(view.Legend, "up to "+write(most*float64(shade+1)/views.HourShades))
	}
	return view
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
	cell.Title = fmt.Sprintf("%s: %s an hour, %s in all, of %s h", when, average, total, views.Rate(sum.Hours))
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
func moversView(m usage.Moved, q usage.Query) *views.UsageMovers {
	view := &views.UsageMovers{
		By:      strings.ToLower(dimensionName(q.Group)),
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
			*list.into = append(*list.into, moverLine(mover, q))
		}
	}
	return view
}

func moverLine(m usage.Mover, q usage.Query) views.MoverLine {
	change := m.Change().Decimal()
	sign := "+"
	if change.IsNegative() {
		sign = "−"
	}
	line := views.MoverLine{
		Name: m.Name, Before: views.Money(m.Before.Decimal()), After: views.Money(m.After.Decimal()),
		Change: sign + views.Money(change.Abs()), Exact: sign + views.MoneyExact(change.Abs()),
		Percent: views.ChangePercent(dollars(m.Before), dollars(m.After)),
	}
	if m.Filter != "" {
		days := daysParams(q.From, q.To, q.Zone)
		days.Set(string(q.Group), m.Filter)
		line.Href = runsOn(q, days)
	}
	return line
}

