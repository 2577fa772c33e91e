package views

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"
)

func threeDays() []time.Time {
	first := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	return []time.Time{first, first.AddDate(0, 0, 1), first.AddDate(0, 0, 2)}
}

func modelDays(model string, costs [3]string, tokens [3]int64) ModelDays {
	m := ModelDays{Model: model, Tokens: tokens[:]}
	for _, c := range costs {
		m.Cost = append(m.Cost, usd(c))
	}
	return m
}

// tenModels cost 10, 9, … 1 dollars a day; the last one is free but busy.
func tenModels() []ModelDays {
	var models []ModelDays
	for i := range 10 {
		cost := fmt.Sprint(10 - i)
		models = append(models, modelDays("p/m"+fmt.Sprint(i), [3]string{cost, cost, cost}, [3]int64{1, 1, 1}))
	}
	models[9].Cost = []decimal.Decimal{{}, {}, {}}
	models[9].Tokens = []int64{1000, 1000, 1000}
	return models
}

func TestSwatchesGoToTheLargestShares(t *testing.T) {
	want := map[string]int{
		"p/m9": 1, // nearly all tokens, though it costs nothing
		"p/m0": 2, "p/m1": 3, "p/m2": 4, "p/m3": 5, "p/m4": 6, "p/m5": 7, "p/m6": 8,
		"p/m7": 0, "p/m8": 0,
	}
	if diff := cmp.Diff(want, Swatches(tenModels())); diff != "" {
		t.Errorf("swatches (-want +got):\n%s", diff)
	}
}

func TestDailyCostAddsUpTheRest(t *testing.T) {
	models := tenModels()
	chart := DailyCost(threeDays(), models, Swatches(models))

	if last := chart.Legend[len(chart.Legend)-1]; last != (LegendItem{Name: "Other", Value: "$15.00", Swatch: 0}) {
		t.Errorf("last item of the legend = %+v", last)
	}
	if len(chart.Legend) != 9 {
		t.Errorf("%d items in the legend, want 8 and Other", len(chart.Legend))
	}
	if chart.Total != "$162.00" {
		t.Errorf("total = %s, want $162.00", chart.Total)
	}
	if first := chart.Table.Rows[0]; first[0] != "Mon 23 Nov 2026" || first[1] != "$54.00" || first[len(first)-1] != "$5.00" {
		t.Errorf("first row = %q", first)
	}
	for _, row := range append(chart.Table.Rows, chart.Table.Foot) {
		if len(row) != len(chart.Table.Head) {
			t.Errorf("row %q has %d cells under %d heads", row[0], len(row), len(chart.Table.Head))
		}
	}
}

func TestChartCarriesDigitsAndNoCode(t *testing.T) {
	models := []ModelDays{modelDays("openai/gpt-5-mini", [3]string{"0.1", "0.000000000000000001934", "0"}, [3]int64{1, 2, 3})}
	chart := DailyCost(threeDays(), models, Swatches(models))
	encoded, err := json.Marshal(chart.Options)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"value":0.1},{"value":0.000000000000000001934},{"value":0}`,
		`"data":["2026-11-21","2026-11-22","2026-11-23"]`,
		`"formatter":"fmt:usdShort"`, `"valueFormatter":"fmt:usd"`,
		`"color":"css:--chart-1"`, `"renderMode":"richText"`,
	} {
		if !strings.Contains(string(encoded), want) {
			t.Errorf("options have no %s:\n%s", want, encoded)
		}
	}
	if strings.Contains(string(encoded), "__f__") || strings.Contains(string(encoded), "function") {
		t.Errorf("options carry code:\n%s", encoded)
	}
	want := "Daily cost by model, 21 – 23 Nov 2026: $0.10 in all, most on 21 November with $0.10. The numbers are in the table below."
	if chart.Summary != want {
		t.Errorf("summary = %s", chart.Summary)
	}
}

func TestChartsWithoutModelsOrDays(t *testing.T) {
	if chart := DailyTokens(threeDays(), nil, nil); chart.Total != "0" || len(chart.Legend) != 0 || len(chart.Table.Rows) != 3 {
		t.Errorf("no models: total %s, legend %v, %d rows", chart.Total, chart.Legend, len(chart.Table.Rows))
	}
	if chart := DailyTokens(nil, nil, nil); chart.Summary != "Daily tokens: no days." {
		t.Errorf("no days: %s", chart.Summary)
	}
}
