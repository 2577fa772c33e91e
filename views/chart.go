package views

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/go-echarts/go-echarts/v2/charts"
	"github.com/go-echarts/go-echarts/v2/opts"
	"github.com/go-echarts/go-echarts/v2/types"
	"github.com/shopspring/decimal"
)

// Chart is a figure: what charts.js draws, and the same numbers as a table for
// everybody who does not see the drawing.
type Chart struct {
	ID      string         // unique on the page; also names the JSON block
	Title   string         // "Daily cost"
	Unit    string         // "US dollars per day"
	Summary string         // one sentence in place of the drawing
	Total   string         // shown at the right of the title
	Options map[string]any // ECharts options; "fmt:…" and "css:…" are looked up by charts.js
	Legend  []LegendItem
	Mark    *Mark // a line across the chart; nil: none
	Table   ChartTable
	Empty   string // why there is nothing to draw; "" when there is something

	// RangeForm is the id of the form of filters in which dragging over the columns
	// chooses the first and the last day; "": none. It needs links.
	RangeForm string
}

// LegendItem is one series with its sum over the whole chart.
type LegendItem struct {
	Name   string
	Value  string
	Swatch int // 1..8, 0 for "Other"
}

// ChartTable is the table under a chart. Foot may be empty.
type ChartTable struct {
	Head []string
	Rows [][]string // the first cell of a row is its heading
	Foot []string

	links *ChartLinks
}

// ModelDays is what one model used, day by day.
type ModelDays struct {
	Model  string            // "openai/gpt-5-mini"
	Cost   []decimal.Decimal // US dollars, one per day; attempts without a price are not in it
	Tokens []int64           // one per day
}

const (
	maxSeries = 8       // colours that stay apart, also for the colour-blind
	otherName = "Other" // the series into which everything beyond is added up
)

// Swatches gives the models with the largest share of cost or tokens a colour
// of their own, 1..8 in order. All others share colour 0. One model has the
// same colour in every chart and table of a page.
func Swatches(models []ModelDays) map[string]int {
	var allCost decimal.Decimal
	var allTokens int64
	costs := make(map[string]decimal.Decimal, len(models))
	tokens := make(map[string]int64, len(models))
	for _, m := range models {
		costs[m.Model], tokens[m.Model] = sum(m.Cost), sumInt(m.Tokens)
		allCost, allTokens = allCost.Add(costs[m.Model]), allTokens+tokens[m.Model]
	}
	weight := func(model string) float64 {
		var ofCost, ofTokens float64
		if allCost.IsPositive() {
			ofCost = costs[model].Div(allCost).InexactFloat64()
		}
		if allTokens > 0 {
			ofTokens = float64(tokens[model]) / float64(allTokens)
		}
		return max(ofCost, ofTokens)
	}
	ranked := make([]string, len(models))
	for i, m := range models {
		ranked[i] = m.Model
	}
	slices.SortFunc(ranked, func(a, b string) int {
		switch wa, wb := weight(a), weight(b); {
		case wa > wb:
			return -1
		case wa < wb:
			return 1
		case a < b:
			return -1
		default:
			return 1
		}
	})
	swatches := make(map[string]int, len(ranked))
	for i, model := range ranked {
		if i < maxSeries {
			swatches[model] = i + 1
		} else {
			swatches[model] = 0
		}
	}
	return swatches
}

// DailyCost is the chart of cost by day, stacked by model. days are the first
// moments of the days in the operator's zone, as long as every model's Cost.
func DailyCost(days []time.Time, models []ModelDays, swatches map[string]int) Chart {
	return stackedDaily(daily{
		id: "daily-cost", title: "Daily cost", unit: "US dollars per day", format: "usd",
		empty: "Nothing to draw: no attempt of these days has a cost that is known and more than nothing.",
		days:  days,
		value: func(m ModelDays, day int) decimal.Decimal { return m.Cost[day] },
		text:  MoneyExact,
		short: Money,
		part:  moneyPart,
	}, models, swatches)
}

// DailyTokens is the chart of tokens by day, stacked by model.
func DailyTokens(days []time.Time, models []ModelDays, swatches map[string]int) Chart {
	count := func(d decimal.Decimal) string { return Count(d.IntPart()) }
	short := func(d decimal.Decimal) string { return CountShort(d.IntPart()) }
	return stackedDaily(daily{
		id: "daily-tokens", title: "Daily tokens", unit: "Input and output tokens per day", format: "count",
		empty: "Nothing to draw: no attempt of these days is known to have used tokens.",
		days:  days,
		value: func(m ModelDays, day int) decimal.Decimal { return decimal.NewFromInt(m.Tokens[day]) },
		text:  count,
		short: short,
		part:  func(d, _ decimal.Decimal) string { return short(d) },
	}, models, swatches)
}

// daily is what differs between the charts of a day's amounts.
type daily struct {
	id, title, unit string
	empty           string // why there may be nothing to draw
	format          string // name in the table of formatters in charts.js
	days            []time.Time
	value           func(m ModelDays, day int) decimal.Decimal
	text, short     func(decimal.Decimal) string
	part            func(d, whole decimal.Decimal) string // short, beside a whole
}

// series is one colour of a stack.
type series struct {
	name   string
	swatch int
	values []decimal.Decimal
}

func stackedDaily(d daily, models []ModelDays, swatches map[string]int) Chart {
	stack := stackSeries(d, models, swatches)
	totals := make([]decimal.Decimal, len(d.days))
	for _, s := range stack {
		for i, v := range s.values {
			totals[i] = totals[i].Add(v)
		}
	}
	empty := ""
	if sum(totals).IsZero() {
		empty = d.empty
	}
	return Chart{
		ID: d.id, Title: d.title, Unit: d.unit, Empty: empty,
		Summary: dailySummary(d, totals),
		Total:   d.short(sum(totals)),
		Options: dailyOptions(d, stack),
		Legend:  dailyLegend(d, stack, sum(totals)),
		Table:   dailyTable(d, stack, totals),
	}
}

// stackSeries orders the models by colour and adds up those without one.
func stackSeries(d daily, models []ModelDays, swatches map[string]int) []series {
	stack := make([]series, maxSeries+1)
	for _, m := range models {
		swatch := swatches[m.Model]
		place, name := swatch-1, m.Model
		if swatch == 0 {
			place, name = maxSeries, otherName
		}
		s := &stack[place]
		s.name, s.swatch = name, swatch
		if s.values == nil {
			s.values = make([]decimal.Decimal, len(d.days))
		}
		for day := range d.days {
			s.values[day] = s.values[day].Add(d.value(m, day))
		}
	}
	return slices.DeleteFunc(stack, func(s series) bool { return s.name == "" })
}

func dailyOptions(d daily, stack []series) map[string]any {
	labels := make([]string, len(d.days))
	for i, day := range d.days {
		labels[i] = day.Format(time.DateOnly)
	}
	bar := charts.NewBar()
	bar.SetGlobalOptions(
		charts.WithLegendOpts(opts.Legend{Show: opts.Bool(false)}),
		charts.WithXAxisOpts(opts.XAxis{Type: "category", AxisLabel: &opts.AxisLabel{Formatter: "fmt:day"}}),
		charts.WithYAxisOpts(opts.YAxis{Type: "value", AxisLabel: &opts.AxisLabel{Formatter: types.FuncStr("fmt:" + d.format + "Short")}}),
	)
	bar.SetXAxis(labels)
	for _, s := range stack {
		data := make([]opts.BarData, len(s.values))
		for i, v := range s.values {
			// The digits as they are: a float would make 0.1 + 0.2 of them.
			data[i].Value = json.Number(v.String())
		}
		bar.AddSeries(s.name, data,
			charts.WithBarChartOpts(opts.BarChart{Stack: "day"}),
			charts.WithItemStyleOpts(opts.ItemStyle{Color: "css:" + chartColour(s.swatch)}))
	}
	bar.Validate()
	options := bar.JSON()
	delete(options, "color")   // every series has its own
	delete(options, "title")   // is in the page's HTML
	delete(options, "toolbox") // nothing in it
	options["tooltip"] = map[string]any{
		"trigger":        "none",     // charts.js shows the day's values itself, in HTML of the page
		"renderMode":     "richText", // tooltips of ECharts write style attributes, which the CSP refuses
		"valueFormatter": "fmt:" + d.format,
	}
	return options
}

func chartColour(swatch int) string {
	if swatch == 0 {
		return "--chart-other"
	}
	return "--chart-" + strconv.Itoa(swatch)
}

func dailyLegend(d daily, stack []series, whole decimal.Decimal) []LegendItem {
	items := make([]LegendItem, len(stack))
	for i, s := range stack {
		items[i] = LegendItem{Name: s.name, Value: d.part(sum(s.values), whole), Swatch: s.swatch}
	}
	return items
}

// dailyTable has one row per day, the newest first.
func dailyTable(d daily, stack []series, totals []decimal.Decimal) ChartTable {
	t := ChartTable{Head: []string{"Day", "Total"}, Foot: []string{"Total", d.text(sum(totals))}}
	for _, s := range stack {
		t.Head = append(t.Head, s.name)
		t.Foot = append(t.Foot, d.text(sum(s.values)))
	}
	for i, day := range slices.Backward(d.days) {
		row := []string{day.Format("Mon 2 Jan 2006"), d.text(totals[i])}
		for _, s := range stack {
			row = append(row, d.text(s.values[i]))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// tableBelow ends the sentence that stands for a drawing.
const tableBelow = " The numbers are in the table below."

func dailySummary(d daily, totals []decimal.Decimal) string {
	if len(totals) == 0 {
		return d.title + ": no days."
	}
	highest := 0
	for i := range totals {
		if totals[i].GreaterThan(totals[highest]) {
			highest = i
		}
	}
	return d.title + " by model, " + DayRange(d.days[0], d.days[len(d.days)-1]) + ": " + d.short(sum(totals)) +
		" in all, most on " + d.days[highest].Format("2 January") + " with " + d.short(totals[highest]) +
		"." + tableBelow
}

func sum(values []decimal.Decimal) decimal.Decimal {
	var total decimal.Decimal
	for _, v := range values {
		total = total.Add(v)
	}
	return total
}

func sumInt(values []int64) int64 {
	var total int64
	for _, v := range values {
		total += v
	}
	return total
}
