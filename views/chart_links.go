package views

import (
	"encoding/json"
	"maps"
	"strings"

	"github.com/shopspring/decimal"
)

// ChartLinks say where a click on a chart leads: to a page with the days of the
// column, and with what the series stands for. All of them are paths of this site.
type ChartLinks struct {
	To      string   `json:"to"`      // the page with every filter but days: "/runs?team=7"
	Columns []string `json:"columns"` // the parameters of each column's days, "from=2026-11-21&to=2026-11-21", oldest first
	Series  []string `json:"series"`  // those of each series, "model=openai%2Fgpt-5-mini", in the order of the legend; "" where there is no such filter
	All     string   `json:"-"`       // the parameters of all columns' days
}

// maxLinkedRows is how many rows may have a link in every cell: more would be very
// long on the wire, and nothing to tab through.
const maxLinkedRows = 31

// Linked makes the columns of a chart lead to where links say, and so the table
// below it, which has a row for each column, the newest first, and in the end of
// each row a cell for each series.
func (c Chart) Linked(links ChartLinks) Chart {
	c.Options = maps.Clone(c.Options)
	c.Options["links"] = links
	c.Table.links = &links
	return c
}

// hint says what the mouse can do with the drawing.
func (c Chart) hint() string {
	switch {
	case c.Table.links == nil:
		return ""
	case c.RangeForm != "":
		return "Click a column for its runs, drag over several to look at those days only."
	default:
		return "Click a column for its runs."
	}
}

// href is where a cell leads, "" for nowhere. Row -1 is the table's head.
func (t ChartTable) href(row, cell int) string {
	if t.links == nil {
		return ""
	}
	days, series := t.links.All, ""
	if row >= 0 {
		column := len(t.Rows) - 1 - row
		if column >= len(t.links.Columns) {
			return ""
		}
		days = t.links.Columns[column]
	}
	if days == "" {
		return ""
	}
	if cell > 0 {
		at := cell - (len(t.Head) - len(t.links.Series))
		if at < 0 || t.links.Series[at] == "" || row >= 0 && (len(t.Rows) > maxLinkedRows || isNothing(t.Rows[row][cell])) {
			return ""
		}
		series = "&" + t.links.Series[at]
	} else if row < 0 {
		return ""
	}
	separator := "?"
	if strings.Contains(t.links.To, "?") {
		separator = "&"
	}
	return t.links.To + separator + days + series
}

// isNothing says whether a cell of a table of numbers holds none.
func isNothing(cell string) bool {
	return cell == "" || cell == "0" || cell == "$0.00" || cell == "–"
}

// Mark is a line across all columns of a chart, such as a budget.
type Mark struct {
	Name  string      `json:"name"`  // "Daily budget"
	Text  string      `json:"text"`  // its value: "$25.00"
	Value json.Number `json:"value"` // in the unit of the axis
}

// Marked draws a line across a chart. It is left out of the drawing where it would
// be so far above everything that nothing else could be seen; the legend says it
// all the same.
func (c Chart) Marked(name, text string, value decimal.Decimal) Chart {
	mark := Mark{Name: name, Text: text, Value: json.Number(value.String())}
	c.Options = maps.Clone(c.Options)
	c.Options["mark"] = mark
	c.Mark = &mark
	c.Summary = strings.TrimSuffix(c.Summary, tableBelow) + " " + name + ": " + text + "." + tableBelow
	return c
}

// empty says why there is nothing to draw, "" where there is something: a rate of 0
// is something, a sum of 0 is not.
func (t TimeChart) empty() string {
	for _, s := range t.Series {
		for _, v := range s.Values {
			if v != nil && (!t.Stacked || !v.IsZero()) {
				return ""
			}
		}
	}
	if t.Format == USDFormat {
		return "Nothing to draw: no attempt of this time has a cost that is known and more than nothing."
	}
	return "Nothing to draw: there is none of it in this time."
}
