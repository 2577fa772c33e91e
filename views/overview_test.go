package views

import (
	"testing"
	"time"

	"github.com/a-h/templ"
)

func TestChangeOf(t *testing.T) {
	for _, test := range []struct{ now, before, want string }{
		{"0", "0", "as yesterday by now"}, {"2", "2.0", "as yesterday by now"}, {"1", "0", "none yesterday by now"}, {"0", "3", "some yesterday by now"},
		{"1.5", "1", "50% more than yesterday by now"}, {"1", "4", "75% less than yesterday by now"}, {"1000", "999", "much as yesterday by now"},
		{"500", "1", "more than ten times yesterday’s by now"},
	} {
		if got := ChangeOf(usd(test.now), usd(test.before)); got.Text != test.want {
			t.Errorf("%s after %s: %q, want %q", test.now, test.before, got, test.want)
		}
	}
}

// overviewPages are the overview on a bad day, on a good one, and before anything
// was run.
func overviewPages() map[string]templ.Component {
	models := []ModelDays{modelDays("openai/gpt-5-mini", [3]string{"1", "2", "3"}, [3]int64{1, 2, 3})}
	days := []time.Time{time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)}
	use := LimitUseOf(usd("22.5"), ptr(usd("25")))
	bad := OverviewPage{
		Page: page("Overview", "/"), Until: "24 Nov 2026, until 14:05 · Europe/Berlin", Budget: &use, Cost: DailyCost(days, models, Swatches(models)),
		Concern: []Concern{
			{"error", "OpenAI has no fallback key that can be used.", "/keys/fallback", "Fallback Keys"},
			{"warning", "Fallback keys have used 90.0% of today’s budget of $25.00.", "/settings/budgets", "Budgets"},
		},
		Figures: []KeyFigure{
			{Label: "Cost", Value: "$22.50", Exact: "$22.5012", Note: "$22.50 on fallback keys", Badge: "1 unpriced", Change: Change{"12% more than yesterday by now", "up"}, Href: "/usage?range=today"},
			{Label: "Runs", Value: "120", Note: "240 attempts", Change: Change{"as yesterday by now", ""}, Href: "/runs?range=today"},
		},
	}
	good, fresh := bad, bad
	good.Concern, good.Budget = nil, nil
	fresh.Concern, fresh.Budget, fresh.Empty = nil, nil, true
	return map[string]templ.Component{"overview": Overview(bad), "overview-calm": Overview(good), "overview-new": Overview(fresh)}
}
