package forecast_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/forecast"
	"github.com/promptcademy/promptops/internal/price"
)

func usd(s string) price.USD {
	amount, err := price.ParseUSD(s)
	if err != nil {
		panic(err)
	}
	return amount
}

func dollars(f float64) price.USD { return price.NewUSD(decimal.NewFromFloat(f).Round(6)) }

func days(n int, cost string) []price.USD {
	all := make([]price.USD, n)
	for i := range all {
		all[i] = usd(cost)
	}
	return all
}

func TestDaysThatAreAllTheSame(t *testing.T) {
	for name, m := range map[string]forecast.Month{
		"first moment of the month": {Complete: days(60, "10"), Own: 0, Left: 29},
		"in the middle":             {Complete: days(60, "10"), Own: 14, Today: usd("5"), Passed: 0.5, Left: 15},
		"two weeks known":           {Complete: days(14, "10"), Own: 14, Today: usd("2.5"), Passed: 0.25, Left: 15},
		"last day":                  {Complete: days(200, "10"), Own: 29, Today: usd("7.5"), Passed: 0.75, Left: 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := forecast.Of(m)
			if !f.Enough() || math.Abs(f.Guess-300) > 1e-9 || math.Abs(f.Low-300) > 1e-9 || math.Abs(f.High-300) > 1e-9 {
				t.Errorf("%+v, want 300 and nothing else", f)
			}
		})
	}
}

func TestSpentIsExact(t *testing.T) {
	complete := append(days(40, "1"), usd("0.1"), usd("0.2"), usd("0.000000000000000001"))
	f := forecast.Of(forecast.Month{Complete: complete, Own: 3, Today: usd("0.3"), Passed: 0.5, Left: 10})
	if f.Spent.String() != "0.600000000000000001" {
		t.Errorf("spent %s", f.Spent)
	}
}

func TestTooFewDays(t *testing.T) {
	for name, c := range map[string]struct {
		m     forecast.Month
		known int
	}{
		"nothing ever":        {forecast.Month{Complete: days(60, "0"), Own: 10, Left: 20}, 0},
		"no days":             {forecast.Month{Today: usd("3"), Left: 29}, 0},
		"thirteen days":       {forecast.Month{Complete: days(13, "1"), Own: 13, Left: 16}, 13},
		"begun a week ago":    {forecast.Month{Complete: append(days(50, "0"), days(8, "1")...), Own: 20, Left: 9}, 8},
		"own more than known": {forecast.Month{Complete: days(3, "1"), Own: 5, Left: 9}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			if f := forecast.Of(c.m); f.Enough() || f.Known != c.known {
				t.Errorf("%+v, want no guess and %d days", f, c.known)
			}
		})
	}
}

// Weekends cost a tenth: a month that ends with a weekend is not guessed as if it
// ended with two more Mondays.
func TestWeekdays(t *testing.T) {
	pattern := []string{"1", "1", "10", "10", "10", "10", "10"} // Saturday first
	var complete []price.USD
	for i := range 56 {
		complete = append(complete, usd(pattern[i%7]))
	}
	f := forecast.Of(forecast.Month{Complete: complete, Own: 10, Left: 1}) // today is a Saturday
	if want := 1 + 1 + 10*5 + 1 + 1 + 10.0*3; math.Abs(f.Guess-want) > 1e-9 {
		t.Errorf("guess %v, want %v", f.Guess, want)
	}
}

func TestOneOddDayBendsNothing(t *testing.T) {
	complete := days(56, "10")
	complete[30] = usd("5000")
	f := forecast.Of(forecast.Month{Complete: complete, Own: 10, Left: 19, Passed: 0})
	if math.Abs(f.Guess-300) > 1e-9 {
		t.Errorf("guess %v, want 300", f.Guess)
	}
}

func TestPlainTrend(t *testing.T) {
	var rising, falling, restless []price.USD
	for i := range 56 {
		rising = append(rising, dollars(10*math.Pow(1.1, float64(i/7))))
		falling = append(falling, dollars(10*math.Pow(0.9, float64(i/7))))
		restless = append(restless, dollars(10+float64(i/7%2)))
	}
	for name, c := range map[string]struct {
		days []price.USD
		want float64
	}{"rising": {rising, 0.1}, "falling": {falling, -0.1}, "restless": {restless, 0}} {
		if f := forecast.Of(forecast.Month{Complete: c.days, Own: 10, Left: 19}); math.Abs(f.Growth-c.want) > 1e-4 {
			t.Errorf("%s: growth %v, want %v", name, f.Growth, c.want)
		}
	}
}

// Whatever the days: nothing is ever guessed below what is spent, the range is in
// order, and the same days give the same answer.
func TestNeverBelowWhatIsSpent(t *testing.T) {
	chance := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		var complete []price.USD
		for range chance.IntN(100) {
			cost := 0.0
			if chance.IntN(3) > 0 {
				cost = math.Exp(3 * chance.NormFloat64())
			}
			complete = append(complete, dollars(cost))
		}
		m := forecast.Month{Complete: complete, Own: chance.IntN(31), Today: dollars(chance.Float64()), Passed: chance.Float64(), Left: chance.IntN(31)}
		f := forecast.Of(m)
		if again := forecast.Of(m); !cmp.Equal(again, f) {
			t.Fatalf("twice the same, and %+v is not %+v", f, again)
		}
		if !f.Enough() {
			continue
		}
		spent := f.Spent.Decimal().InexactFloat64()
		for _, v := range []float64{f.Guess, f.Low, f.High} {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < spent {
				t.Fatalf("%+v holds less than the %v that is spent", f, spent)
			}
		}
		if f.Low > f.Guess || f.Guess > f.High {
			t.Fatalf("%+v is out of order", f)
		}
	}
}

// In made-up worlds with weekends and noise, the truth lies in the range about as
// often as it says; somewhat less often where they grow, but not so that it shows.
func TestRangeHoldsTheTruth(t *testing.T) {
	for name, world := range map[string]struct {
		weeks       int
		noise       float64 // of a day
		weekly      float64 // of a whole week
		growth      float64 // of a week
		least, most float64
	}{
		"steady":           {8, 0.25, 0, 0, 0.74, 0.90},
		"restless weeks":   {8, 0.2, 0.15, 0, 0.70, 0.90},
		"noisy":            {8, 0.7, 0, 0, 0.70, 0.90},
		"four weeks known": {4, 0.25, 0.05, 0, 0.70, 0.92},
		"two weeks known":  {2, 0.25, 0, 0, 0.62, 0.97},
		"growing":          {8, 0.2, 0.03, 0.03, 0.60, 0.92},
	} {
		t.Run(name, func(t *testing.T) {
			chance := rand.New(rand.NewPCG(11, 13))
			const worlds = 400
			inside, off := 0, 0.0
			for range worlds {
				var scale float64
				cost := func(day int) float64 {
					if day%7 == 0 {
						scale = math.Exp(world.growth*float64(day/7) + world.weekly*chance.NormFloat64())
					}
					level := 100.0
					if day%7 >= 5 {
						level = 20
					}
					return level * scale * math.Exp(world.noise*chance.NormFloat64())
				}
				past, own, left := 7*world.weeks, 3+chance.IntN(12), 5+chance.IntN(16)
				m := forecast.Month{Own: own, Left: left}
				for day := range past {
					m.Complete = append(m.Complete, dollars(cost(day)))
				}
				truth := 0.0
				for _, day := range m.Complete[past-min(own, past):] {
					truth += day.Decimal().InexactFloat64()
				}
				for day := range left + 1 {
					truth += cost(past + day)
				}
				f := forecast.Of(m)
				if f.Low <= truth && truth <= f.High {
					inside++
				}
				off += math.Abs(f.Guess/truth - 1)
			}
			share := float64(inside) / worlds
			t.Logf("%.0f %% inside, %.1f %% off on average", 100*share, 100*off/worlds)
			if share < world.least || share > world.most {
				t.Errorf("the truth was inside %.0f %% of the time", 100*share)
			}
		})
	}
}

func BenchmarkOf(b *testing.B) {
	b.ReportAllocs()
	m := forecast.Month{Complete: days(87, "10"), Own: 20, Left: 10}
	for b.Loop() {
		forecast.Of(m)
	}
}
