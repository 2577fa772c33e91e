package views

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// UsagePatterns is what AI Usage says beside its sums: when it happens, and what
// changed most.
type UsagePatterns struct {
	Hours  *UsageHours  // nil: not counted for these filters
	Movers *UsageMovers // nil: there is nothing to compare with
}

// UsageHours is when in the week the usage is, by the clock of whoever looks.
type UsageHours struct {
	Title   string // "Cost by hour of the week"
	Note    string // what a cell is: "On average in an hour, …"
	Summary string // "Most on Tuesdays from 14 to 15 h: $1.20 an hour."
	Zone    string
	Days    []HourRow // Monday first
	Legend  []string  // what each shade is at most, the lightest first; as many as there are shades
	Other   string    // address of the other metric
	OtherIs string    // "Runs by hour"
}

// HourRow is a weekday.
type HourRow struct {
	Name  string // "Monday"
	Short string // "Mon"
	Href  string // its runs; "" where several days of the period are such
	Cells []HourCell
}

// HourCell is one hour of a weekday.
type HourCell struct {
	Value string // "$1.20"; "–" where the period has no such hour
	Title string // "Monday, 14 to 15 h: $1.20 an hour, $5.01 in all, of 4 h"
	Shade int    // 0 for nothing to HourShades
}

// HourShades is how many shades there are beside nothing.
const HourShades = 5

var weekdays = []string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}

// WeekdayName is the name of a weekday, 0 is Monday.
func WeekdayName(weekday int) string { return weekdays[weekday] }

// HourSpan writes an hour of the clock: "14 to 15 h".
func HourSpan(clock int) string { return fmt.Sprintf("%d to %d h", clock, clock+1) }

// HourScale is what the darkest shade stands for: what 95 of 100 cells that have
// anything do not exceed, so that one wild hour does not pale all others.
func HourScale(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)*95+99)/100-1]
}

// HourShade is the shade of a value on a scale: even steps, so that twice the shade
// is twice the value, up to the darkest.
func HourShade(value, scale float64) int {
	if value <= 0 || scale <= 0 {
		return 0
	}
	return max(1, min(int(math.Ceil(value/scale*HourShades-1e-9)), HourShades))
}

// UsageMovers is what rose and fell most against as many days before.
type UsageMovers struct {
	By       string // "model"
	Against  string // "compared with 26 Sep – 25 Oct 2026"
	Partial  string // that today is compared with a part of a day; "" where the period is over
	Up, Down []MoverLine
}

// MoverLine is one part that changed.
type MoverLine struct {
	Name    string
	Href    string // its runs; "" where no filter expresses it
	Before  string // "$1.20"
	After   string
	Change  string // "+$3.10"
	Exact   string // all digits of the change
	Percent string // "+258%", "new", "gone"
}

// ChangePercent writes how much something changed in parts of a hundred, with its
// sign: "+12%", "−3.4%", "new", "gone".
func ChangePercent(before, after float64) string {
	switch {
	case before == 0 && after == 0:
		return "0%"
	case before == 0:
		return "new"
	case after == 0:
		return "gone"
	}
	percent := (after/before - 1) * 100
	sign := "+"
	if percent < 0 {
		sign, percent = "−", -percent
	}
	switch {
	case percent >= 1000:
		return sign + Count(int64(math.Round(min(percent, 1e15)))) + "%"
	case percent >= 10:
		return sign + strconv.FormatFloat(percent, 'f', 0, 64) + "%"
	case percent < 0.05:
		return sign + "<0.1%"
	default:
		return sign + strconv.FormatFloat(percent, 'f', 1, 64) + "%"
	}
}

// Average writes how many there are of something on average: "12", "3.4", "0.25".
func Average(n float64) string {
	switch {
	case n >= 100 || n == math.Trunc(n):
		return Count(int64(math.Round(min(n, 1e15))))
	case n >= 10:
		return strconv.FormatFloat(n, 'f', 1, 64)
	default:
		return strconv.FormatFloat(n, 'f', 2, 64)
	}
}
