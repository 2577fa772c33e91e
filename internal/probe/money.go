package probe

import (
	"fmt"

	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/runbook"
)

// Budget judges what fallback keys cost today against the daily budget; nil:
// there is none.
func Budget(spent price.USD, limit *price.USD) runbook.Reading {
	cents := func(u price.USD) string { return "$" + u.Decimal().StringFixed(2) }
	if limit == nil {
		return reading(runbook.Warning, cents(spent)+" today", "There is no daily budget: nothing stops the spending.")
	}
	value := cents(spent) + " of " + cents(*limit)
	if !limit.Decimal().IsPositive() {
		return reading(runbook.Warning, value, "The daily budget is nothing: no run on a fallback key is let through.")
	}
	part := spent.Decimal().Div(limit.Decimal())
	detail := fmt.Sprintf("%s%% of the daily budget, spent and set aside for runs that are going on.", part.Shift(2).Round(0))
	switch {
	case part.GreaterThanOrEqual(decimal.NewFromInt(1)):
		return reading(runbook.Critical, value, detail, "Runs on fallback keys are refused until the day ends.")
	case part.GreaterThan(decimal.New(8, -1)):
		return reading(runbook.Warning, value, detail)
	}
	return reading(runbook.OK, value, detail)
}
