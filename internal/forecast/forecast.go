// Package forecast says what a month will have cost when it ends.
//
// What is spent is exact. What is still to come is a guess, and a plain float:
//
//   - The days to come are like their weekdays were in the last eight complete weeks:
//     the average of eight Mondays without the dearest and the cheapest one. Weeks
//     are counted back from yesterday, so that the newest days are in them. Today
//     counts for the part of it that is left.
//   - Where the eight weeks plainly rose or fell (at least four of five pairs of weeks
//     agree), they are brought to the level of the last one first, and the days to
//     come go on at half that pace. A trend that is not plain leaves the guess as it is,
//     and widens the range to its side by what it would have changed.
//   - The range holds 80 of 100 outcomes: weeks are drawn at random from those eight,
//     once as the weeks to come and once as the weeks that the guess rests on, and the
//     tenth part of the differences at either end is left out. The draw is the same
//     every time, so the same days give the same range. Fewer weeks make it wider.
//
// It knows of no holidays and no plans: weeks unlike the last eight are not in it.
package forecast

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/promptcademy/promptops/internal/price"
)

const (
	// MostWeeks is how many complete weeks a guess rests on at most.
	MostWeeks = 8
	// FewestWeeks is how many it needs.
	FewestWeeks = 2
	// Chance is how many of a hundred outcomes lie in the range.
	Chance = 80

	week       = 7
	draws      = 500
	trimFrom   = 5    // weeks, from which on the dearest and the cheapest are left out
	agreeing   = 0.6  // pairs of weeks that rose less those that fell, of all pairs: four of five
	mostGrowth = 0.25 // of a week, as a logarithm: beyond it, it is no trend
)

// widen is how much wider the range is for so few weeks: the 90th percentile of
// Student's distribution over that of the normal one, by the number of weeks.
var widen = [MostWeeks + 1]float64{2: 2.40, 3: 1.47, 4: 1.28, 5: 1.20, 6: 1.15, 7: 1.12, 8: 1.10}

// Month is what is known of a month that goes on.
type Month struct {
	Complete []price.USD // cost of each day up to yesterday, oldest first; also of the months before
	Own      int         // how many of these, the last ones, are of this month
	Today    price.USD   // spent so far
	Passed   float64     // the part of today that is over, 0 to 1
	Left     int         // days of the month after today
}

// Forecast is what a month will have cost. Without a guess it says only what is
// spent.
type Forecast struct {
	Spent     price.USD // of this month, exact
	Guess     float64   // dollars at the end of the month; never less than Spent, like the other two
	Low, High float64   // 80 of 100 outcomes lie between them
	Weeks     int       // complete weeks that the guess rests on; 0: there is none
	Known     int       // complete days since the first one that cost anything
	Growth    float64   // of a week, 0.05 is 5 % more; 0 where the weeks show no trend
}

// Enough says whether there is a guess.
func (f Forecast) Enough() bool { return f.Weeks > 0 }

// Trimmed says whether the dearest and the cheapest of each weekday were left out.
func (f Forecast) Trimmed() bool { return f.Weeks >= trimFrom }

// Of makes the forecast of a month.
func Of(m Month) Forecast {
	f := Forecast{Spent: m.Today}
	for _, day := range m.Complete[max(len(m.Complete)-m.Own, 0):] {
		f.Spent = f.Spent.Add(day)
	}
	known := m.Complete
	for len(known) > 0 && known[0].IsZero() {
		known = known[1:]
	}
	f.Known = len(known)
	weeks := weeksOf(known)
	if len(weeks) < FewestWeeks {
		return f
	}
	growth, plain := trend(weeks)
	rising := levelled(weeks, growth)
	trending := sumOf(partsLeft(m, growth), averages(rising))
	if plain {
		weeks = rising
	} else {
		growth = 0
	}
	parts := partsLeft(m, growth)
	rest := sumOf(parts, averages(weeks))
	low, high := spread(weeks, parts)
	spent := f.Spent.Decimal().InexactFloat64()
	f.Weeks, f.Growth = len(weeks), math.Expm1(growth)
	f.Guess = spent + rest
	f.Low = spent + max(min(rest, rest+low, trending+low), 0)
	f.High = spent + max(rest, rest+high, trending+high)
	return f
}

// levelled are the weeks at the level of the last one.
func levelled(weeks [][week]float64, growth float64) [][week]float64 {
	level := slices.Clone(weeks)
	for at := range level {
		for day := range level[at] {
			level[at][day] *= math.Exp(growth * float64(len(weeks)-1-at))
		}
	}
	return level
}

// weeksOf cuts the last days into complete weeks, oldest first. The first day of
// each has the weekday of today.
func weeksOf(days []price.USD) [][week]float64 {
	n := min(len(days)/week, MostWeeks)
	days = days[len(days)-n*week:]
	weeks := make([][week]float64, n)
	for i, day := range days {
		weeks[i/week][i%week] = day.Decimal().InexactFloat64()
	}
	return weeks
}

// trend is the growth of a week as a logarithm: the middle one of the slopes of all
// pairs of weeks, which no single odd week can bend. It is plain if they agree.
func trend(weeks [][week]float64) (growth float64, plain bool) {
	if len(weeks) < MostWeeks {
		return 0, false
	}
	var slopes []float64
	agree := 0
	for later := range weeks {
		for earlier := range later {
			a, b := total(weeks[earlier]), total(weeks[later])
			if a <= 0 || b <= 0 {
				return 0, false
			}
			slope := math.Log(b/a) / float64(later-earlier)
			slopes = append(slopes, slope)
			switch {
			case slope > 0:
				agree++
			case slope < 0:
				agree--
			}
		}
	}
	slices.Sort(slopes)
	middle := (slopes[(len(slopes)-1)/2] + slopes[len(slopes)/2]) / 2
	return max(-mostGrowth, min(middle, mostGrowth)), math.Abs(float64(agree)) >= agreeing*float64(len(slopes))
}

func total(w [week]float64) (sum float64) {
	for _, day := range w {
		sum += day
	}
	return sum
}

// part is how much of a day is to come, and how many weeks ahead it is.
type part struct {
	weekday int // 0 is today's
	week    int
	share   float64 // of an ordinary day of that weekday
}

func partsLeft(m Month, growth float64) []part {
	parts := make([]part, m.Left+1)
	for i := range parts {
		parts[i] = part{i % week, i / week, math.Exp(growth / 2 * float64(i/week+1))}
	}
	parts[0].share *= 1 - max(0, min(m.Passed, 1))
	return parts
}

// averages are the ordinary days, by weekday.
func averages(weeks [][week]float64) (days [week]float64) {
	for day := range days {
		lowest, highest, sum := math.Inf(1), math.Inf(-1), 0.0
		for _, w := range weeks {
			sum += w[day]
			lowest, highest = min(lowest, w[day]), max(highest, w[day])
		}
		n := float64(len(weeks))
		if len(weeks) >= trimFrom {
			sum, n = sum-lowest-highest, n-2
		}
		days[day] = max(sum, 0) / n
	}
	return days
}

func sumOf(parts []part, days [week]float64) (sum float64) {
	for _, p := range parts {
		sum += p.share * days[p.weekday]
	}
	return sum
}

// spread is how far below and above the guess what comes may be.
func spread(weeks [][week]float64, parts []part) (low, high float64) {
	chance := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // not a secret, and the same every time on purpose
	n := len(weeks)
	scale := widen[n] * math.Sqrt(float64(n)/float64(n-1))
	drawn := make([][week]float64, n)
	differences := make([]float64, draws)
	for i := range differences {
		for at := range drawn {
			drawn[at] = weeks[chance.IntN(n)]
		}
		guess := sumOf(parts, averages(drawn))
		outcome, ahead := 0.0, -1
		var coming [week]float64
		for _, p := range parts {
			if p.week != ahead {
				ahead, coming = p.week, weeks[chance.IntN(n)]
			}
			outcome += p.share * coming[p.weekday]
		}
		differences[i] = scale * (outcome - guess)
	}
	slices.Sort(differences)
	const outside = draws * (100 - Chance) / 200
	return differences[outside], differences[draws-1-outside]
}
