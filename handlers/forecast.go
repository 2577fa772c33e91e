package handlers

import (
	"context"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/forecast"
	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/usage"
	"github.com/promptcademy/promptops/views"
)

// forecastFor is what this month will have cost, by the filters of a query and not by
// its days; nil where that would be too much to count. The daily budget is compared
// with what it limits: all that fallback keys pay.
func (s *Server) forecastFor(ctx context.Context, store *usage.Store, q usage.Query, daily *price.USD, now time.Time) (*views.ForecastCard, error) {
	month := monthAround(now, q.Zone)
	days, counted, err := store.DailyCost(ctx, q, month.boundaries)
	if err != nil || !counted {
		return nil, err
	}
	return forecastView(month, days, q, daily, now), nil
}

// month is the one in which an instant is, and the days before it that a forecast
// rests on.
type month struct {
	name       string
	boundaries []time.Time // of the days from the first that counts up to today
	own        int         // complete days of the month
	left       int         // days of it after today
}

func monthAround(now time.Time, zone *time.Location) month {
	local := now.In(zone)
	today := period.DayOf(now, zone)
	first := today.Plus(1 - local.Day())
	next := period.DayOf(time.Date(local.Year(), local.Month()+1, 1, 12, 0, 0, 0, time.UTC), time.UTC)
	from := today.Plus(-7 * forecast.MostWeeks)
	if from.Until(first) < 0 {
		from = first
	}
	return month{local.Format("January 2006"), period.Starts(from, today, zone), first.Until(today), today.Until(next) - 1}
}

// days is how many days the month has.
func (m month) days() int64 { return int64(m.own + 1 + m.left) }

func forecastView(m month, days []usage.DayCost, q usage.Query, daily *price.USD, now time.Time) *views.ForecastCard {
	today, tomorrow := m.boundaries[len(m.boundaries)-2], m.boundaries[len(m.boundaries)-1]
	of := func(part func(usage.DayCost) price.USD) forecast.Forecast {
		known := forecast.Month{Own: m.own, Left: m.left, Passed: now.Sub(today).Seconds() / tomorrow.Sub(today).Seconds()}
		for _, day := range days[:len(days)-1] {
			known.Complete = append(known.Complete, part(day))
		}
		known.Today = part(days[len(days)-1])
		return forecast.Of(known)
	}
	all := of(func(d usage.DayCost) price.USD { return d.Cost })
	fallback := of(func(d usage.DayCost) price.USD { return d.Fallback })
	budgeted := daily != nil && onlyByKey(q) && q.KeySource != "user"

	card := &views.ForecastCard{Month: m.name, Method: forecastMethod(all, unpricedOf(days[len(days)-1-m.own:]))}
	lines := []forecastLine{{label: "All keys", f: all}}
	switch {
	case q.KeySource == "fallback":
		lines[0].label = "Fallback keys"
	case q.Narrowed():
		lines[0].label = "With these filters"
	case budgeted:
		lines = append(lines, forecastLine{label: "Of that, on fallback keys", f: fallback})
	}
	if budgeted {
		card.Budgets = budgetsPath
		if q.KeySource == "" {
			card.Against = "/usage?key=fallback"
		}
		last := &lines[len(lines)-1]
		last.daily, last.budget = daily, price.NewUSD(daily.Decimal().Mul(decimal.NewFromInt(m.days())))
	}
	largest := 0.0
	for _, l := range lines {
		largest = max(largest, l.f.High, dollars(l.budget))
	}
	for _, l := range lines {
		card.Lines = append(card.Lines, l.view(m, largest))
	}
	return card
}

func unpricedOf(days []usage.DayCost) (unpriced int64) {
	for _, day := range days {
		unpriced += day.Unpriced
	}
	return unpriced
}

// dollars is an amount for drawing and for guesses.
func dollars(amount price.USD) float64 { return amount.Decimal().InexactFloat64() }

// forecastLine is the forecast of a part of the cost, with its budget if it has one.
type forecastLine struct {
	label  string
	f      forecast.Forecast
	daily  *price.USD
	budget price.USD // of the month
}

func (l forecastLine) view(m month, largest float64) views.ForecastLine {
	spent := l.f.Spent.Decimal()
	line := views.ForecastLine{Label: l.label, Spent: views.Money(spent), Exact: views.MoneyExact(spent)}
	if !l.f.Enough() {
		line.Missing = fmt.Sprintf("Not enough days yet to say what %s will come to: a forecast needs %d complete days, and there %s.",
			m.name, 7*forecast.FewestWeeks, map[bool]string{true: "is 1", false: fmt.Sprintf("are %d", l.f.Known)}[l.f.Known == 1])
		return line
	}
	line.Guess = views.Estimate(l.f.Guess)
	line.Range = "between " + views.Estimate(l.f.Low) + " and " + views.Estimate(l.f.High)
	line.Bar = views.ForecastBarOf(dollars(l.f.Spent), l.f.Guess, l.f.Low, l.f.High, dollars(l.budget), largest)
	if l.daily == nil {
		return line
	}
	budget := dollars(l.budget)
	line.Note = fmt.Sprintf("The daily budget of %s comes to %s in the %d days of the month", views.Money(l.daily.Decimal()), views.Money(l.budget.Decimal()), m.days())
	if budget > 0 {
		line.Note += "; the forecast is " + views.PercentOf(decimal.NewFromFloat(l.f.Guess), l.budget.Decimal()) + " of that"
	}
	line.Note += "."
	switch {
	case l.f.Guess > budget:
		line.Kind, line.Says = "error", "Over budget"
	case l.f.High > budget:
		line.Kind, line.Says = "warning", "May be over budget"
	}
	if line.Says != "" {
		line.Note += " A day that reaches its budget refuses further runs on fallback keys."
	}
	return line
}

// forecastMethod says how the guess was made.
func forecastMethod(f forecast.Forecast, unpriced int64) (all []string) {
	switch {
	case !f.Enough():
		all = append(all, "What is spent is exact. The rest of a month is guessed from complete weeks, which there are too few of.")
	default:
		ordinary := fmt.Sprintf("what its weekday cost on average in the last %d complete weeks", f.Weeks)
		if f.Trimmed() {
			ordinary += ", without the dearest and the cheapest of each weekday"
		}
		all = append(all, "What is spent is exact. Each day to come is expected to cost "+ordinary+"; of today, the part that is left.")
	}
	if f.Growth != 0 {
		word := "risen"
		if f.Growth < 0 {
			word = "fallen"
		}
		percent := decimal.NewFromFloat(f.Growth * 100).Abs().Round(1)
		all = append(all, "These weeks have plainly "+word+", by "+percent.String()+"% from one to the next: they are brought to the level of the last one, and the days to come go on at half that pace.")
	}
	if f.Enough() {
		text := fmt.Sprintf("In %d of 100 cases the month should end within the range. It comes from drawing weeks at random from those that are known, and is wider where they differ much or are few.", forecast.Chance)
		all = append(all, text+" Holidays, new courses and whatever else is unlike those weeks are not in it.")
	}
	if unpriced > 0 {
		all = append(all, plural(unpriced, "attempt", "attempts")+" of this month without a price "+map[bool]string{true: "is", false: "are"}[unpriced == 1]+" in none of these amounts: what they cost is unknown.")
	}
	return all
}
