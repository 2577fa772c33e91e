package views

import (
	"strconv"
	"testing"

	"github.com/a-h/templ"
)

func TestEstimate(t *testing.T) {
	for dollars, want := range map[float64]string{
		0: "$0", -1: "$0", 0.0123: "$0.012", 0.5: "$0.50", 0.999: "$1.00", 1: "$1.00", 3.404: "$3.40", 99.994: "$99.99", 100: "$100", 1240.4: "$1,240",
	} {
		if got := Estimate(dollars); got != want {
			t.Errorf("%v is %s, want %s", dollars, got, want)
		}
	}
}

func TestChangePercent(t *testing.T) {
	for _, c := range []struct {
		before, after float64
		want          string
	}{
		{0, 0, "0%"}, {0, 1, "new"}, {1, 0, "gone"}, {1, 1.5, "+50%"}, {2, 1, "−50%"}, {100, 103.5, "+3.5%"}, {1, 1.0001, "+<0.1%"}, {1, 100, "+9,900%"},
	} {
		if got := ChangePercent(c.before, c.after); got != c.want {
			t.Errorf("%v after %v: %s, want %s", c.after, c.before, got, c.want)
		}
	}
}

func TestHourShade(t *testing.T) {
	for _, c := range []struct {
		value, most float64
		want        int
	}{{0, 10, 0}, {0.001, 10, 1}, {2, 10, 1}, {2.1, 10, 2}, {10, 10, HourShades}, {1, 0, 0}, {3 * 0.1, 0.5, 3}} {
		if got := HourShade(c.value, c.most); got != c.want {
			t.Errorf("%v of %v has shade %d, want %d", c.value, c.most, got, c.want)
		}
	}
}

func TestHourScaleLeavesOutTheWildest(t *testing.T) {
	values := []float64{1000}
	for range 39 {
		values = append(values, 2)
	}
	if got := HourScale(values); got != 2 {
		t.Errorf("scale %v, want 2", got)
	}
	if HourScale(nil) != 0 || HourScale([]float64{3}) != 3 || HourShade(1000, 2) != HourShades {
		t.Error("few values or wild ones")
	}
}

func TestForecastBarIsWithinItsWidth(t *testing.T) {
	b := ForecastBarOf(10, 20, 15, 30, 50, 25)
	if b.Spent >= 0.4 || b.Spent < 0.38 || b.Low >= b.Guess || b.High != 1 || b.Budget != 1 || ForecastBarOf(1, 2, 1, 3, 0, 0) != (ForecastBar{}) {
		t.Errorf("%+v", b)
	}
}

func forecastCard() ForecastCard {
	return ForecastCard{
		Month: "November 2026", Budgets: "/settings/budgets", Against: "/usage?key=fallback",
		Lines: []ForecastLine{
			{Label: "All keys", Spent: "$301.23", Exact: "$301.2345", Guess: "$412", Range: "between $388 and $447", Bar: ForecastBarOf(301, 412, 388, 447, 0, 447)},
			{
				Label: "Of that, on fallback keys", Spent: "$120.00", Exact: "$120.00", Guess: "$280", Range: "between $250 and $310",
				Note: "The daily budget of $10.00 comes to $300.00 in the 30 days of the month; the forecast is 93.3% of that.",
				Says: "May be over budget", Kind: "warning", Bar: ForecastBarOf(120, 280, 250, 310, 300, 447),
			},
		},
		Method: []string{"What is spent is exact.", "In 80 of 100 cases the month should end within the range."},
	}
}

func usagePatterns(name string) UsagePatterns {
	hours := &UsageHours{
		Title: "Cost by hour of the week", Note: "What an hour cost on average.", Summary: "Most on Tuesdays from 14 to 15 h: $1.20 an hour.",
		Zone: "Europe/Berlin", Legend: []string{"up to $0.24", "up to $0.48", "up to $0.72", "up to $0.96", "up to $1.20"}, Other: "/usage?metric=runs#hours", OtherIs: "Runs by hour",
	}
	for weekday := range 7 {
		row := HourRow{Name: WeekdayName(weekday), Short: WeekdayName(weekday)[:3]}
		if weekday == 1 {
			row.Href = "/runs?from=2026-11-24&to=2026-11-24"
		}
		for clock := range 24 {
			row.Cells = append(row.Cells, HourCell{Value: "$" + strconv.Itoa(clock), Title: row.Name + ", " + HourSpan(clock) + ": $" + strconv.Itoa(clock), Shade: (clock + weekday) % 6})
		}
		hours.Days = append(hours.Days, row)
	}
	return UsagePatterns{
		Hours: hours,
		Movers: &UsageMovers{
			By: "model", Against: "compared with 26 Sep – 25 Oct 2026", Partial: "Today is not over: of the day it is compared with, the same hours count.",
			Up: []MoverLine{
				{Name: name, Href: "/runs?from=2026-11-21&to=2026-11-23&model=a", Before: "$1.20", After: "$4.30", Change: "+$3.10", Exact: "+$3.1001", Percent: "+258%"},
				{Name: "No team", Before: "$0.00", After: "$0.02", Change: "+$0.02", Exact: "+$0.02", Percent: "new"},
			},
		},
	}
}

// patternPages are the parts of AI Usage that show patterns, in every state.
func patternPages() map[string]templ.Component {
	few := ForecastCard{
		Month: "November 2026", Method: []string{"What is spent is exact."},
		Lines: []ForecastLine{{Label: "With these filters", Spent: "$0.12", Exact: "$0.12", Missing: "Not enough days yet: a forecast needs 14 complete days, and there are 3."}},
	}
	bare := usagePatterns("gpt-5-mini")
	bare.Hours = nil
	return map[string]templ.Component{
		"forecast": Forecast(forecastCard()), "forecast-few-days": Forecast(few),
		"usage-patterns": Patterns(usagePatterns("gpt-5-mini")), "usage-movers": Patterns(bare),
	}
}
