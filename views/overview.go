package views

import (
	"strconv"

	"github.com/shopspring/decimal"
)

// OverviewPage is the first page: what needs somebody, and how today goes.
type OverviewPage struct {
	Page
	Until   string // "24 Nov 2026, until 14:05": what is counted
	Concern []Concern
	Figures []KeyFigure
	Budget  *LimitUse // of all fallback keys today; nil: there is no daily budget
	Cost    Chart     // DailyCost of the last two weeks
	Empty   bool      // nothing was run in those

	Forecast *ForecastCard // of this month
}

// Concern is something that needs somebody.
type Concern struct {
	Kind string // "error" for what hurts now, "warning" for what soon may
	Text string
	Href string // where it is explained and mended
	Link string // what the link says
}

// word says how bad it is, for those who do not see colours.
func (c Concern) word() string {
	if c.Kind == "error" {
		return "Now"
	}
	return "Soon"
}

// ChangeOf says how much more or less something is than before, in words:
// "12% more than yesterday by now".
func ChangeOf(now, before decimal.Decimal) Change {
	switch {
	case now.Equal(before):
		return Change{"as yesterday by now", ""}
	case before.IsZero():
		return Change{"none yesterday by now", "up"}
	case now.IsZero():
		return Change{"some yesterday by now", "down"}
	}
	percent := now.Sub(before).Div(before).InexactFloat64() * 100
	more, way := "more", "up"
	if percent < 0 {
		percent, more, way = -percent, "less", "down"
	}
	if percent >= 1000 {
		return Change{"more than ten times yesterday’s by now", way}
	}
	if percent < 0.5 {
		return Change{"much as yesterday by now", ""}
	}
	return Change{strconv.FormatFloat(percent, 'f', 0, 64) + "% " + more + " than yesterday by now", way}
}
