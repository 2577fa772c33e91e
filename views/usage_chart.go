package views

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-echarts/go-echarts/v2/charts"
	"github.com/go-echarts/go-echarts/v2/opts"
	"github.com/go-echarts/go-echarts/v2/types"
	"github.com/shopspring/decimal"
)

// TimeChart is one metric over time: stacked, as parts of a whole, or as lines.
type TimeChart struct {
	ID, Title, Unit string
	Format          TimeFormat
	Buckets         []TimeBucket
	Stacked         bool
	Series          []TimeSeries
	Whole           []*decimal.Decimal // of each bucket; nil: the series are no parts of anything
	Total           string             // of all buckets
	Before          *TimeSeries        // the same of the period before, drawn as a dashed line
	Limit           *decimal.Decimal   // a line that values should stay below
	LimitName       string
}

// TimeFormat is how the numbers of a TimeChart are written.
type TimeFormat string

// The formats, by their names in charts.js.
const (
	USDFormat     TimeFormat = "usd"
	CountFormat   TimeFormat = "count"
	PercentFormat TimeFormat = "percent" // 0 to 100
	MsFormat      TimeFormat = "ms"
)

// TimeBucket is how one bucket is called.
type TimeBucket struct {
	Axis string // "2026-11-23", which charts.js shortens, or as it is: "23 Nov, 14:00"
	Name string // in full: "Mon 23 Nov 2026"
}

// TimeSeries is one colour of a TimeChart.
type TimeSeries struct {
	Name   string
	Swatch int // 1..8, 0 for "Other"
	Values []*decimal.Decimal
	Total  string
}

// HourBucket names an hour; from is in the zone of whoever looks.
func HourBucket(from time.Time) TimeBucket {
	return TimeBucket{from.Format("2 Jan, 15:04"), from.Format("Mon 2 Jan 2006, 15:04 MST")}
}

// DayBucket names a day.
func DayBucket(from time.Time) TimeBucket {
	return TimeBucket{from.Format(time.DateOnly), from.Format("Mon 2 Jan 2006")}
}

// WeekBucket names a week, or what of it is in the period; upto is the first instant
// after it.
func WeekBucket(from, upto time.Time) TimeBucket {
	last := upto.Add(-time.Nanosecond)
	return TimeBucket{from.Format("2 Jan"), DayRange(from, last)}
}

// Write writes a number in full; a dash for one that is not known.
func (f TimeFormat) Write(d *decimal.Decimal) string {
	if d == nil {
		return "–"
	}
	switch f {
	case USDFormat:
		return MoneyExact(*d)
	case PercentFormat:
		return percent(d.InexactFloat64())
	case MsFormat:
		return Milliseconds(d.IntPart())
	default:
		return Count(d.IntPart())
	}
}

// Chart draws it.
func (t TimeChart) Chart() Chart {
	c := Chart{ID: t.ID, Title: t.Title, Unit: t.Unit, Total: t.Total, Options: t.options(), Table: t.table(), Summary: t.summary(), Empty: t.empty()}
	for _, s := range t.Series {
		c.Legend = append(c.Legend, LegendItem{Name: s.Name, Value: s.Total, Swatch: s.Swatch})
	}
	if t.Before != nil {
		c.Legend = append(c.Legend, LegendItem{Name: t.Before.Name, Value: t.Before.Total})
	}
	return c
}

func (t TimeChart) options() map[string]any {
	labels := make([]string, len(t.Buckets))
	for i, b := range t.Buckets {
		labels[i] = b.Axis
	}
	y := opts.YAxis{Type: "value", AxisLabel: &opts.AxisLabel{Formatter: types.FuncStr("fmt:" + string(t.Format) + "Short")}}
	limited := t.Limit != nil && t.highest().Mul(decimal.NewFromInt(4)).GreaterThan(*t.Limit)
	if limited && t.highest().LessThan(*t.Limit) {
		y.Max = t.Limit.Mul(decimal.NewFromFloat(1.05)).IntPart() // else the line would be outside
	}
	global := []charts.GlobalOpts{
		charts.WithLegendOpts(opts.Legend{Show: opts.Bool(false)}),
		charts.WithXAxisOpts(opts.XAxis{Type: "category", AxisLabel: &opts.AxisLabel{Formatter: "fmt:day"}}),
		charts.WithYAxisOpts(y),
	}
	line := charts.NewLine()
	line.SetGlobalOptions(global...)
	line.SetXAxis(labels)
	var options map[string]any
	if t.Stacked {
		bar := charts.NewBar()
		bar.SetGlobalOptions(global...)
		bar.SetXAxis(labels)
		for _, s := range t.Series {
			data := make([]opts.BarData, len(s.Values))
			for i, v := range s.Values {
				data[i].Value = exactly(v)
			}
			bar.AddSeries(s.Name, data, charts.WithBarChartOpts(opts.BarChart{Stack: "all"}), charts.WithItemStyleOpts(opts.ItemStyle{Color: "css:" + chartColour(s.Swatch)}))
		}
		t.addBefore(line)
		if t.Before != nil {
			bar.Overlap(line)
		}
		bar.Validate()
		options = bar.JSON()
	} else {
		for i, s := range t.Series {
			t.addLine(line, s, strokes[i/4%len(strokes)], "css:"+chartColour(s.Swatch), limited && i == 0)
		}
		t.addBefore(line)
		line.Validate()
		options = line.JSON()
	}
	delete(options, "color")   // every series has its own
	delete(options, "title")   // is in the page's HTML
	delete(options, "toolbox") // nothing in it
	options["tooltip"] = map[string]any{
		"trigger": "none", "renderMode": "richText", "valueFormatter": "fmt:" + string(t.Format),
		"total": t.Stacked && t.Before == nil, // what is beside a stack is no part of it
	}
	return options
}

func (t TimeChart) addBefore(line *charts.Line) {
	if t.Before != nil {
		t.addLine(line, *t.Before, "dashed", "css:--muted", false)
	}
}

func (t TimeChart) addLine(line *charts.Line, s TimeSeries, stroke, colour string, limited bool) {
	data := make([]opts.LineData, len(s.Values))
	for i, v := range s.Values {
		data[i].Value = exactly(v)
	}
	all := []charts.SeriesOpts{
		charts.WithLineChartOpts(opts.LineChart{ShowSymbol: opts.Bool(len(t.Buckets) < 3), SymbolSize: 6}), // of a single bucket there is no line
		charts.WithLineStyleOpts(opts.LineStyle{Color: colour, Width: 2, Type: stroke}),
		charts.WithItemStyleOpts(opts.ItemStyle{Color: colour}),
	}
	if limited {
		all = append(all,
			charts.WithMarkLineNameYAxisItemOpts(opts.MarkLineNameYAxisItem{Name: t.LimitName, YAxis: t.Limit.IntPart()}),
			charts.WithMarkLineStyleOpts(opts.MarkLineStyle{
				Symbol: []string{"none", "none"}, Label: &opts.Label{Show: opts.Bool(true), Position: "insideStartTop", Formatter: t.LimitName, Color: "css:--color-error"},
				LineStyle: &opts.LineStyle{Color: "css:--color-error", Type: "dotted", Width: 1.5},
			}))
	}
	line.AddSeries(s.Name, data, all...)
}

// exactly keeps the digits as they are: a float would make 0.1 + 0.2 of them.
func exactly(d *decimal.Decimal) any {
	if d == nil {
		return nil
	}
	return json.Number(d.String())
}

func (t TimeChart) highest() decimal.Decimal {
	var highest decimal.Decimal
	for _, s := range t.Series {
		for _, v := range s.Values {
			if v != nil && v.GreaterThan(highest) {
				highest = *v
			}
		}
	}
	return highest
}

// table has one row per bucket, the newest first.
func (t TimeChart) table() ChartTable {
	all := slices.Clone(t.Series)
	head, foot := []string{"From"}, []string{"All"}
	if t.Whole != nil {
		all = slices.Insert(all, 0, TimeSeries{Name: "Total", Values: t.Whole, Total: t.Total})
	}
	if t.Before != nil {
		all = append(all, *t.Before)
	}
	for _, s := range all {
		head, foot = append(head, s.Name), append(foot, s.Total)
	}
	table := ChartTable{Head: head, Foot: foot}
	for i, b := range slices.Backward(t.Buckets) {
		row := []string{b.Name}
		for _, s := range all {
			row = append(row, t.Format.Write(s.Values[i]))
		}
		table.Rows = append(table.Rows, row)
	}
	return table
}

func (t TimeChart) summary() string {
	if len(t.Buckets) == 0 {
		return t.Title + ": no days."
	}
	var b strings.Builder
	b.WriteString(t.Title + ", " + t.Buckets[0].Name + " to " + t.Buckets[len(t.Buckets)-1].Name + ":")
	values, whole := t.Whole, "in all"
	if values == nil {
		values, whole = t.Series[0].Values, t.Series[0].Name+" in all"
	}
	if t.Total != "" {
		b.WriteString(" " + t.Total + " " + whole + ",")
	}
	highest := -1
	for i, v := range values {
		if v != nil && (highest < 0 || v.GreaterThan(*values[highest])) {
			highest = i
		}
	}
	if highest >= 0 {
		b.WriteString(" most on " + t.Buckets[highest].Name + " with " + t.Format.Write(values[highest]) + ".")
	} else {
		b.WriteString(" nothing is known.")
	}
	b.WriteString(" The numbers are in the table below.")
	return b.String()
}

// ChangeFrom says how a figure changed against before, in a sign and in words:
// "+12%, up from $3.20".
func ChangeFrom(now, before decimal.Decimal, text string) Change {
	switch {
	case now.Equal(before):
		return Change{Text: "as before"}
	case before.IsZero():
		return Change{"none before", "up"}
	case now.IsZero():
		return Change{"−100%, down from " + text, "down"}
	}
	percent := now.Sub(before).Div(before).InexactFloat64() * 100
	return changeOf(percent, "%", text)
}

// PointsFrom is ChangeFrom of a share, 0 to 100: "+1.2 points, up from 3.4%".
func PointsFrom(now, before float64, text string) Change {
	if now == before {
		return Change{Text: "as before"}
	}
	return changeOf(now-before, " points", text)
}

func changeOf(by float64, unit, text string) Change {
	sign, word := "+", "up"
	if by < 0 {
		sign, word, by = "−", "down", -by
	}
	decimals := 0
	if by < 10 {
		decimals = 1
	}
	amount := strconv.FormatFloat(by, 'f', decimals, 64)
	if by >= 1000 {
		amount = Count(int64(by))
	}
	if amount == "0.0" {
		amount = "<0.1"
	}
	return Change{sign + amount + unit + ", " + word + " from " + text, word}
}

// Change is how a figure differs from the period before.
type Change struct {
	Text string // "+12%, up from $3.20"; "" when nothing is compared
	Way  string // "up", "down" or "" for neither
}
