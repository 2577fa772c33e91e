package views

import (
	"strings"
	"testing"

	"github.com/shopspring/decimal"
)

// usageChart is a metric of three days, of models.
func usageChart(models []ModelDays) TimeChart {
	swatches := Swatches(models)
	c := TimeChart{ID: "usage-cost", Title: "Cost", Unit: "US dollars per day by model", Format: USDFormat, Stacked: true, Total: "$1.25"}
	for _, day := range threeDays() {
		c.Buckets = append(c.Buckets, DayBucket(day))
	}
	c.Whole = make([]*decimal.Decimal, 3)
	for i := range c.Whole {
		c.Whole[i] = new(decimal.Decimal)
	}
	for _, m := range models {
		s := TimeSeries{Name: m.Model, Swatch: swatches[m.Model], Total: Money(sum(m.Cost))}
		for i, cost := range m.Cost {
			s.Values = append(s.Values, &cost)
			*c.Whole[i] = c.Whole[i].Add(cost)
		}
		c.Series = append(c.Series, s)
	}
	return c
}

func usagePage(models []ModelDays) UsagePage {
	swatches := Swatches(models)
	total := usd("1.25079")
	costs := []*decimal.Decimal{&total}
	for _, m := range models {
		cost := sum(m.Cost)
		costs = append(costs, &cost)
	}
	amounts := Amounts(costs)
	p := UsagePage{
		Page: page("AI Usage", "/usage"), Period: "21 – 23 Nov 2026", Unpriced: "2", CSV: "/usage.csv?range=7d&model=a%2Fb", JSON: "/usage.json?range=7d&model=a%2Fb",
		Filters: UsageFilters{
			Ranges: UsageRanges("7d"), From: "2026-11-21", To: "2026-11-23", Today: "2026-11-23",
			Providers: []Option{{"", "All providers", false}, {"openai", "OpenAI", true}},
			Models:    []Option{{"", "All models", true}, {"openai/gpt-5-mini", "openai/gpt-5-mini", false}},
			Teams:     []Option{{"", "All teams", true}},
			Groups:    []Option{{"model", "model", true}, {"team", "team", false}}, Subs: []Option{{"", "nothing else", true}, {"team", "team", false}},
			Metrics: []Option{{"cost", "Cost", true}, {"latency", "Duration", false}}, Buckets: []Option{{"hour", "hour", false}, {"day", "day", true}},
		},
		Figures: []UsageFigure{
			{KeyFigure: KeyFigure{Label: "Cost", Value: "$1.25", Exact: "$1.25079", Note: "$0.25 per run", Badge: "2 unpriced"}, Href: "/runs?range=7d"},
			{KeyFigure: KeyFigure{Label: "Runs", Value: "5"}},
		},
		Charts: []Chart{usageChart(models).Chart()},
		Table: UsageTable{
			By: "model", Head: "Model", Providers: true, Durations: []string{"P95"}, HasUnknown: true, Note: "A run that asks several models counts once in the total.",
			Total: UsageRow{
				Runs: "5", Attempts: "12", Errors: "1", Input: "60,000", Cached: "1,000", Output: "34,424", Reasoning: "800", Cost: amounts[0], Unpriced: "2",
				Fallback: "25.0%", Durations: []string{"2.30 s"}, Href: "/runs?range=7d",
			},
		},
	}
	for i, m := range models {
		p.Table.Rows = append(p.Table.Rows, UsageRow{
			Name: m.Model, Title: m.Model, Href: "/runs?model=x&range=7d", Provider: "Provider", Swatch: swatches[m.Model], Runs: "5", Attempts: "6", Errors: "1", ErrorRate: "16.7%",
			Input: "30,000", Cached: "500", Output: "17,212", Reasoning: "400", Cost: amounts[i+1], Share: "50.0%", ShareBar: 0.5, Fallback: "0%", Durations: []string{"1.83 s"},
		})
	}
	last := &p.Table.Rows[len(p.Table.Rows)-1]
	last.Cost, last.Unpriced, last.Share, last.ShareBar = Amount{}, "2", "–", 0
	return p
}

// dividedUsagePage has lines, compared, and groups with parts.
func dividedUsagePage() UsagePage {
	p := usagePage(tenModels())
	ms := func(all ...int64) (values []*decimal.Decimal) {
		for _, n := range all {
			if n < 0 {
				values = append(values, nil)
			} else {
				values = append(values, ptr(decimal.NewFromInt(n)))
			}
		}
		return values
	}
	chart := TimeChart{
		ID: "usage-latency", Title: "Duration", Unit: "Of answered attempts, per day", Format: MsFormat, Total: "P95 9.00 s", Limit: ptr(decimal.NewFromInt(15_000)), LimitName: "15 s",
		Series: []TimeSeries{
			{Name: "P50", Swatch: 1, Values: ms(800, -1, 1200), Total: "1.00 s"}, {Name: "P95", Swatch: 2, Values: ms(8000, -1, 9000), Total: "9.00 s"},
		},
		Before: &TimeSeries{Name: "P95 of the period before", Values: ms(5000, 6000, 7000), Total: "6.00 s"},
	}
	for _, day := range threeDays() {
		chart.Buckets = append(chart.Buckets, DayBucket(day))
	}
	p.Charts, p.Against, p.Filters.Compare, p.Filters.Narrowed, p.Filters.Clear = []Chart{chart.Chart()}, "18 – 20 Nov 2026", true, true, "/usage"
	p.Filters.Learner, p.Filters.Template = "ada@example.org", &Option{Value: "t1", Label: "Explain it"}
	p.Figures[0].Change, p.Figures[1].Change = ChangeFrom(usd("1.25"), usd("1"), "$1.00"), ChangeFrom(usd("5"), usd("6"), "6")
	p.Table.By, p.Table.Head, p.Table.Providers, p.Table.Cut = "team", "Team", false, "The 2 largest are shown, all others as one line. The CSV has all of them."
	row := p.Table.Rows[0]
	sub, rest := row, row
	sub.Sub, sub.Name, sub.Swatch = true, "gpt-5-mini", 0
	rest.Rest, rest.Name, rest.Href, rest.Title, rest.Runs, rest.Swatch = true, "Others (3)", "", "", "–", 0
	restOfSub := rest
	restOfSub.Sub = true
	p.Table.Rows = []UsageRow{row, sub, restOfSub, row, rest}
	return p
}

func TestChangeFrom(t *testing.T) {
	for _, test := range []struct{ now, before, want, way string }{
		{"2", "2.0", "as before", ""}, {"1", "0", "none before", "up"}, {"0", "3", "−100%, down from 3", "down"}, {"1.5", "1", "+50%, up from 1", "up"},
		{"1", "4", "−75%, down from 4", "down"}, {"1000", "999", "+0.1%, up from 999", "up"}, {"10000", "9999", "+<0.1%, up from 9999", "up"}, {"500", "1", "+49,900%, up from 1", "up"},
	} {
		if got := ChangeFrom(usd(test.now), usd(test.before), test.before); got.Text != test.want || got.Way != test.way {
			t.Errorf("%s after %s: %+v, want %q", test.now, test.before, got, test.want)
		}
	}
	if got := PointsFrom(4.6, 3.4, "3.4%"); got.Text != "+1.2 points, up from 3.4%" {
		t.Errorf("points: %+v", got)
	}
}

// The limit is drawn only where values come near it, and the axis then reaches it.
func TestTheLimitOfAChart(t *testing.T) {
	limit := decimal.NewFromInt(15_000)
	for highest, want := range map[int64]string{1000: "", 9000: `"max":15750`, 20_000: `"yAxis":15000`} {
		value := decimal.NewFromInt(highest)
		c := TimeChart{Format: MsFormat, Limit: &limit, LimitName: "15 s", Buckets: []TimeBucket{{"a", "a"}}, Series: []TimeSeries{{Name: "P95", Values: []*decimal.Decimal{&value}}}}
		page := render(t, ChartFigure(c.Chart()))
		if drawn := strings.Contains(page, `"yAxis":15000`); drawn != (want != "") || !strings.Contains(page, want) {
			t.Errorf("values up to %d ms: drawn %v, want %q", highest, drawn, want)
		}
	}
}
