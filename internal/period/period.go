// Package period is a choice of days: as it stands in a URL, and where its days
// begin in the zone of whoever looks.
package period

import (
	"net/url"
	"time"

	"github.com/promptcademy/promptops/internal/fault"
)

// Period is one day or several that follow each other.
type Period struct {
	Range    string    // the name of a Range, or Custom
	From, To time.Time // the first instant that counts, and the first that no longer does
	Zone     *time.Location
}

// Range is a choice of days that ends today.
type Range struct {
	Name string // as in the URL
	Days int
}

// Ranges are the choices, shortest first.
var Ranges = []Range{{"today", 1}, {"7d", 7}, {"30d", 30}, {"90d", 90}, {"180d", 180}}

const (
	// Custom is the Range of a Period whose first and last day were given.
	Custom = "custom"

	// MaxDays is how long a Period can be.
	MaxDays = 400

	defaultRange = "30d"
)

// Parse reads a Period from the parameters of a URL:
//
//	range     one of Ranges; without it and without dates, the last 30 days
//	from, to  first and last day, like 2026-10-31, if range is absent or "custom"; to is today if absent
//
// What is wrong with them comes back by parameter.
func Parse(values url.Values, now time.Time, zone *time.Location) (Period, []fault.Field) {
	p := Period{Range: values.Get("range"), Zone: zone}
	from, to := values.Get("from"), values.Get("to")
	if p.Range == "" {
		p.Range = defaultRange
		if from != "" || to != "" {
			p.Range = Custom
		}
	}
	first, last := DayOf(now, zone), DayOf(now, zone)
	var problems []fault.Field
	if p.Range == Custom {
		first, last, problems = parseDays(from, to, last)
	} else if days, ok := daysOf(p.Range); ok {
		first = last.Plus(1 - days)
	} else {
		problems = []fault.Field{{Field: "range", Message: "is not a range of days; use one like 30d, or custom with from and to"}}
	}
	p.From, p.To = first.Start(zone), last.Plus(1).Start(zone)
	return p, problems
}

func daysOf(name string) (days int, ok bool) {
	for _, r := range Ranges {
		if r.Name == name {
			return r.Days, true
		}
	}
	return 0, false
}

func parseDays(from, to string, today Day) (first, last Day, problems []fault.Field) {
	refuse := func(field, message string) { problems = append(problems, fault.Field{Field: field, Message: message}) }
	read := func(field, value string) Day {
		at, err := time.Parse(time.DateOnly, value)
		switch {
		case value == "":
			refuse(field, "is missing")
		case err != nil:
			refuse(field, "is not a day; write it like 2026-10-31")
		default:
			return DayOf(at, time.UTC)
		}
		return today
	}
	first, last = read("from", from), today
	if to != "" {
		last = read("to", to)
	}
	if len(problems) > 0 {
		return today, today, problems
	}
	switch days := first.Until(last) + 1; {
	case days < 1:
		refuse("to", "is before from")
	case days > MaxDays:
		refuse("from", "is more than 400 days before to; choose a shorter range")
	}
	return first, last, problems
}

// FirstDay returns the first day.
func (p Period) FirstDay() Day { return DayOf(p.From, p.Zone) }

// LastDay returns the last day.
func (p Period) LastDay() Day { return DayOf(p.To.Add(-time.Nanosecond), p.Zone) }

// AddTo is the inverse of Parse: it sets the parameters that ask for the same.
func (p Period) AddTo(values url.Values) {
	if p.Range == Custom {
		values.Set("from", p.FirstDay().String())
		values.Set("to", p.LastDay().String())
		return
	}
	values.Set("range", p.Range)
}
