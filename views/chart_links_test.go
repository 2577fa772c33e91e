package views

import (
	"encoding/json"
	"strings"
	"testing"
)

func linkedChart() Chart {
	models := []ModelDays{
		modelDays("openai/gpt-5-mini", [3]string{"0.5", "0", "1.25"}, [3]int64{1, 0, 3}),
		modelDays("a/b&c=<d>", [3]string{"1", "2", "3"}, [3]int64{1, 2, 3}),
	}
	return DailyCost(threeDays(), models, map[string]int{"openai/gpt-5-mini": 1, "a/b&c=<d>": 2}).Linked(ChartLinks{
		To:      "/runs?team=7",
		Columns: []string{"from=2026-11-21&to=2026-11-21", "from=2026-11-22&to=2026-11-22", "from=2026-11-23&to=2026-11-23"},
		Series:  []string{"model=openai%2Fgpt-5-mini", "model=a%2Fb%26c%3D%3Cd%3E"},
		All:     "range=7d",
	})
}

// The table leads where the drawing does: it is the way there for the keyboard, for
// fingers, and without scripts.
func TestTheTableHasTheLinksOfTheChart(t *testing.T) {
	c := linkedChart()
	for _, cell := range []struct {
		row, cell int
		want      string
	}{
		{-1, 0, ""}, {-1, 1, ""},
		{-1, 2, "/runs?team=7&range=7d&model=openai%2Fgpt-5-mini"},
		{0, 0, "/runs?team=7&from=2026-11-23&to=2026-11-23"}, // the newest day is the first row
		{0, 1, ""},
		{0, 2, "/runs?team=7&from=2026-11-23&to=2026-11-23&model=openai%2Fgpt-5-mini"},
		{1, 2, ""}, // nothing was spent
		{1, 3, "/runs?team=7&from=2026-11-22&to=2026-11-22&model=a%2Fb%26c%3D%3Cd%3E"},
		{2, 0, "/runs?team=7&from=2026-11-21&to=2026-11-21"},
	} {
		if got := c.Table.href(cell.row, cell.cell); got != cell.want {
			t.Errorf("row %d, cell %d leads to %q, want %q", cell.row, cell.cell, got, cell.want)
		}
	}
	c.Table.links.To, c.Table.links.Series[1] = "/runs", ""
	if got := c.Table.href(2, 0); got != "/runs?from=2026-11-21&to=2026-11-21" {
		t.Errorf("without other filters it leads to %q", got)
	}
	if got := c.Table.href(2, 3); got != "" {
		t.Errorf("a series without a filter leads to %q", got)
	}
	if got := (ChartTable{Head: []string{"Day", "A"}, Rows: [][]string{{"x", "1"}}}).href(0, 0); got != "" {
		t.Errorf("a chart without links leads to %q", got)
	}
}

func TestLongTablesLeadByDayAndGroupOnly(t *testing.T) {
	table := ChartTable{Head: []string{"Day", "A"}, links: &ChartLinks{To: "/runs", Series: []string{"model=a"}}}
	for range maxLinkedRows + 1 {
		table.Rows = append(table.Rows, []string{"day", "1"})
		table.links.Columns = append(table.links.Columns, "from=x&to=x")
	}
	if table.href(0, 0) == "" || table.href(0, 1) != "" {
		t.Errorf("the day leads to %q, the cell to %q", table.href(0, 0), table.href(0, 1))
	}
}

func TestMarkedChart(t *testing.T) {
	plain := linkedChart()
	marked := plain.Marked("Daily budget", "$2.50", usd("2.5"))
	encoded, err := json.Marshal(marked.Options["mark"])
	if err != nil || string(encoded) != `{"name":"Daily budget","text":"$2.50","value":2.5}` {
		t.Errorf("the mark is %s, %v", encoded, err)
	}
	if !strings.HasSuffix(marked.Summary, "with $4.25. Daily budget: $2.50. The numbers are in the table below.") {
		t.Errorf("summary: %s", marked.Summary)
	}
	if plain.Options["mark"] != nil || plain.Mark != nil {
		t.Error("the chart that was marked has changed, too")
	}
}

func TestChartsWithNothingToDrawSayWhy(t *testing.T) {
	free := []ModelDays{modelDays("a/free", [3]string{"0", "0", "0"}, [3]int64{1, 2, 3})}
	if c := DailyCost(threeDays(), free, Swatches(free)); !strings.HasPrefix(c.Empty, "Nothing to draw: no attempt") {
		t.Errorf("cost: %q", c.Empty)
	}
	if c := DailyTokens(threeDays(), free, Swatches(free)); c.Empty != "" {
		t.Errorf("tokens: %q", c.Empty)
	}
	if c := DailyCounts("a", "A", "as", "0", true, threeDays(), []Counts{{"x", []int64{0, 0, 0}}}); c.Empty == "" {
		t.Error("counts of nothing are drawn")
	}
}
