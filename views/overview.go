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
	Figures []LinkedFigure
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

// LinkedFigure is a key figure with its change and the page that explains it.
type LinkedFigure struct {
	KeyFigure
	Change string // against the same hours of the day before; "" where there is nothing to compare
	Href   string
}

// ChangeOf says how much more or less something is than before, in words:
// "12% more than yesterday by now".
func ChangeOf(now, before decimal.Decimal) string {
	switch {
	case now.Equal(before):
		return "as yesterday by now"
	case before.IsZero():
		return "none yesterday by now"
	case now.IsZero():
		return "some yesterday by now"
	}
	percent := now.Sub(before).Div(before).InexactFloat64() * 100
	more := "more"
	if percent < 0 {
		percent, more = -percent, "less"
	}
	if percent >= 1000 {
		return "more than ten times yesterday’s by now"
	}
	if percent < 0.5 {
		return "much as yesterday by now"
	}
	return strconv.FormatFloat(percent, 'f', 0, 64) + "% " + more + " than yesterday by now"
}
