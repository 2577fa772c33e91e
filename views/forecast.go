package views

import (
	"math"
	"strconv"

	"github.com/shopspring/decimal"
)

// ForecastCard is what this month will have cost.
type ForecastCard struct {
	Month   string // "November 2026"
	Lines   []ForecastLine
	Method  []string // how the guess was made, a paragraph each
	Budgets string   // address of the page that sets the daily budget; "" where nothing is compared with it
	Against string   // address of AI Usage with what each day cost against it; "" there
}

// ForecastLine is the forecast of all cost, or of a part of it.
type ForecastLine struct {
	Label   string // "Everything", "Fallback keys"
	Spent   string // "$301.23"
	Exact   string // all digits of what is spent, shown on hover
	Guess   string // "$412"; "" where there is none
	Range   string // "between $388 and $447"
	Missing string // why there is no guess
	Note    string // "38% of $310.00, the daily budgets of November"; may be empty
	Says    string // "Over budget"; "" where all is well
	Kind    string // how bad that is: "warning" or "error"
	Bar     ForecastBar
}

// ForecastBar is what is drawn: parts of the width, 0 to 1. Budget is 0 where there
// is none.
type ForecastBar struct{ Spent, Guess, Low, High, Budget float64 }

// ForecastBarOf brings amounts to one scale: largest is nearly the whole width.
func ForecastBarOf(spent, guess, low, high, budget, largest float64) ForecastBar {
	part := func(amount float64) float64 {
		if largest <= 0 {
			return 0
		}
		return max(0, min(amount/largest*0.97, 1))
	}
	return ForecastBar{part(spent), part(guess), part(low), part(high), part(budget)}
}

// Estimate writes an amount of dollars of which only the first digits say anything:
// "$412", "$1,240", "$3.40", "$0.012".
func Estimate(dollars float64) string {
	switch {
	case dollars <= 0 || math.IsNaN(dollars):
		return "$0"
	case dollars >= 100:
		return "$" + Count(int64(math.Round(min(dollars, 1e15))))
	case dollars >= 1:
		return Money(decimal.NewFromFloat(dollars).Round(2))
	default:
		places := 1 - int32(math.Floor(math.Log10(dollars)))
		return Money(decimal.NewFromFloat(dollars).Round(min(places, 20)))
	}
}

// forecastUnits is how wide a bar is in its own units.
const forecastUnits = 200

func forecastUnit(part float64) string { return strconv.FormatFloat(part*forecastUnits, 'f', 1, 64) }

// rest is the width of what is still to come.
func (b ForecastBar) rest() float64 { return max(b.Guess-b.Spent, 0) }

func (b ForecastBar) spread() float64 { return max(b.High-b.Low, 0.004) }
