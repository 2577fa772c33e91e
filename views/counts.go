package views

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/go-echarts/go-echarts/v2/charts"
	"github.com/go-echarts/go-echarts/v2/opts"
	"github.com/go-echarts/go-echarts/v2/types"
)

// Counts is one series of numbers by day that are not parts of a whole.
type Counts struct {
	Name   string
	Values []int64 // one per day
}

// DailyCounts is a chart of numbers by day, side by side: as lines, which differ
// also in their strokes, or as bars.
func DailyCounts(id, title, unit, total string, bars bool, days []time.Time, all []Counts) Chart {
	c := Chart{ID: id, Title: title, Unit: unit, Total: total, Options: countOptions(bars, days, all), Table: countTable(days, all)}
	c.Summary = title + ", " + DayRange(days[0], days[len(days)-1]) + "."
	for i, s := range all {
		last := s.Values[len(s.Values)-1]
		value := Count(last)
		if bars {
			value = Count(sumInt(s.Values))
		}
		c.Legend = append(c.Legend, LegendItem{Name: s.Name, Value: value, Swatch: i + 1})
		highest := slices.Max(s.Values)
		c.Summary += " " + s.Name + ": at most " + Count(highest) + ", on the last day " + Count(last) + "."
	}
	c.Summary += tableBelow
	if !slices.ContainsFunc(all, func(s Counts) bool { return slices.Max(s.Values) > 0 }) {
		c.Empty = "Nothing to draw: there were none in these days."
	}
	return c
}

var strokes = []string{"solid", "dashed", "dotted"}

func countOptions(bars bool, days []time.Time, all []Counts) map[string]any {
	labels := make([]string, len(days))
	for i, day := range days {
		labels[i] = day.Format(time.DateOnly)
	}
	global := []charts.GlobalOpts{
		charts.WithLegendOpts(opts.Legend{Show: opts.Bool(false)}),
		charts.WithXAxisOpts(opts.XAxis{Type: "category", AxisLabel: &opts.AxisLabel{Formatter: "fmt:day"}}),
		charts.WithYAxisOpts(opts.YAxis{Type: "value", MinInterval: 1, AxisLabel: &opts.AxisLabel{Formatter: types.FuncStr("fmt:countShort")}}),
	}
	var options map[string]any
	if bars {
		bar := charts.NewBar()
		bar.SetGlobalOptions(global...)
		bar.SetXAxis(labels)
		for i, s := range all {
			data := make([]opts.BarData, len(s.Values))
			for at, n := range s.Values {
				data[at].Value = json.Number(strconv.FormatInt(n, 10))
			}
			bar.AddSeries(s.Name, data, charts.WithItemStyleOpts(opts.ItemStyle{Color: "css:" + chartColour(i+1)}))
		}
		bar.Validate()
		options = bar.JSON()
	} else {
		chart := charts.NewLine()
		chart.SetGlobalOptions(global...)
		chart.SetXAxis(labels)
		for i, s := range all {
			data := make([]opts.LineData, len(s.Values))
			for at, n := range s.Values {
				data[at].Value = json.Number(strconv.FormatInt(n, 10))
			}
			colour := "css:" + chartColour(i+1)
			chart.AddSeries(s.Name, data,
				charts.WithLineChartOpts(opts.LineChart{ShowSymbol: opts.Bool(len(days) == 1), SymbolSize: 6}), // of a single day there is no line
				charts.WithLineStyleOpts(opts.LineStyle{Color: colour, Width: 2, Type: strokes[i%len(strokes)]}),
				charts.WithItemStyleOpts(opts.ItemStyle{Color: colour}))
		}
		chart.Validate()
		options = chart.JSON()
	}
	delete(options, "color")
	delete(options, "title")
	delete(options, "toolbox")
	options["tooltip"] = map[string]any{"trigger": "none", "renderMode": "richText", "valueFormatter": "fmt:count", "total": false}
	return options
}

func countTable(days []time.Time, all []Counts) ChartTable {
	t := ChartTable{Head: []string{"Day"}}
	for _, s := range all {
		t.Head = append(t.Head, s.Name)
	}
	for i, day := range slices.Backward(days) {
		row := []string{day.Format("Mon 2 Jan 2006")}
		for _, s := range all {
			row = append(row, Count(s.Values[i]))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}
