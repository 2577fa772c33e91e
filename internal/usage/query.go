// Package usage answers what the AI Usage page asks: tokens, money, errors and
// durations per day and model, counted from prompt_attempts.
package usage

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

// Query is which attempts to count. The zero value of a filter lets all pass.
type Query struct {
	Range     string    // the name of a Range, or Custom
	From, To  time.Time // the first instant that counts, and the first that no longer does
	Zone      *time.Location
	Provider  string // "openai"
	Model     string // as requested: "openai/gpt-5-mini"
	TeamID    *uuid.UUID
	KeySource string // "user" or "fallback"

	// TeamIDs are the teams to which whoever asks is limited; nil is no limit. It
	// is never read from a URL.
	TeamIDs []uuid.UUID
}

// Range is a choice of days that ends today.
type Range struct {
	Name  string // as in the URL
	Label string
	Days  int
}

// Ranges are the choices, shortest first.
var Ranges = []Range{
	{"today", "Today", 1},
	{"7d", "Last 7 days", 7},
	{"30d", "Last 30 days", 30},
	{"90d", "Last 90 days", 90},
	{"180d", "Last 180 days", 180},
}

const (
	// Custom is the Range of a Query whose first and last day were given.
	Custom = "custom"

	defaultRange = "30d"
	maxDays      = 400
	maxName      = 200 // bytes of a provider's or model's name
)

// ParseQuery reads a Query from the parameters of a URL:
//
//	range       one of Ranges; without it and without dates, the last 30 days
//	from, to    first and last day, like 2026-10-31, if range is absent or "custom"; to is today if absent
//	provider, model, team, key   filters; empty ones let all pass
//
// Days begin and end at midnight in zone. Bad values come back as one
// fault.Invalid that names them all.
func ParseQuery(values url.Values, now time.Time, zone *time.Location) (Query, error) {
	p := parser{values: values}
	q := Query{
		Zone:      zone,
		Provider:  p.name("provider"),
		Model:     p.name("model"),
		TeamID:    p.id("team"),
		KeySource: p.oneOf("key", "user", "fallback"),
	}
	today := dayOf(now, zone)
	first, last := p.days(&q, today)
	if len(p.problems) > 0 {
		return Query{}, fault.InvalidFields(p.problems)
	}
	q.From, q.To = first.start(zone), last.plus(1).start(zone)
	return q, nil
}

// FirstDay returns the first day, like 2026-10-31.
func (q Query) FirstDay() string { return dayOf(q.From, q.Zone).String() }

// LastDay returns the last day.
func (q Query) LastDay() string { return dayOf(q.To.Add(-time.Nanosecond), q.Zone).String() }

// Values is the inverse of ParseQuery: the shortest parameters that ask for the
// same.
func (q Query) Values() url.Values {
	values := url.Values{}
	set := func(name, value string) {
		if value != "" {
			values.Set(name, value)
		}
	}
	if q.Range == Custom {
		set("from", q.FirstDay())
		set("to", q.LastDay())
	} else {
		set("range", q.Range)
	}
	set("provider", q.Provider)
	set("model", q.Model)
	if q.TeamID != nil {
		set("team", q.TeamID.String())
	}
	set("key", q.KeySource)
	return values
}

// boundaries are the instants at which the query's days begin, and at last the
// one at which the last day ends.
func (q Query) boundaries() []time.Time {
	var all []time.Time
	for d := dayOf(q.From, q.Zone); ; d = d.plus(1) {
		at := d.start(q.Zone)
		if len(all) > 0 && !at.After(all[len(all)-1]) {
			continue // a day that the zone's calendar left out
		}
		all = append(all, at)
		if !at.Before(q.To) {
			return all
		}
	}
}

// parser reads parameters and collects what is wrong with them.
type parser struct {
	values   url.Values
	problems []fault.Field
}

func (p *parser) refuse(field, format string, args ...any) {
	p.problems = append(p.problems, fault.Field{Field: field, Message: fmt.Sprintf(format, args...)})
}

// days reads the range into q and returns its first and last day.
func (p *parser) days(q *Query, today day) (first, last day) {
	from, to := p.values.Get("from"), p.values.Get("to")
	q.Range = p.values.Get("range")
	if q.Range == "" {
		q.Range = defaultRange
		if from != "" || to != "" {
			q.Range = Custom
		}
	}
	if q.Range != Custom {
		for _, r := range Ranges {
			if r.Name == q.Range {
				return today.plus(1 - r.Days), today
			}
		}
		p.refuse("range", "is not a range of days; use one like 30d, or custom with from and to")
		return today, today
	}

	before := len(p.problems)
	first, last = p.day("from", from), today
	if to != "" {
		last = p.day("to", to)
	}
	if len(p.problems) > before {
		return today, today
	}
	switch days := first.until(last) + 1; {
	case days < 1:
		p.refuse("to", "is before from")
	case days > maxDays:
		p.refuse("from", "is more than %d days before to; choose a shorter range", maxDays)
	}
	return first, last
}

func (p *parser) day(field, value string) day {
	if value == "" {
		p.refuse(field, "is missing")
		return day{}
	}
	at, err := time.Parse(time.DateOnly, value)
	if err != nil {
		p.refuse(field, "is not a day; write it like 2026-10-31")
		return day{}
	}
	return dayOf(at, time.UTC)
}

func (p *parser) name(field string) string {
	value := p.values.Get(field)
	switch {
	case len(value) > maxName:
		p.refuse(field, "is too long")
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		p.refuse(field, "holds characters that no name has")
	}
	return value
}

func (p *parser) oneOf(field string, allowed ...string) string {
	value := p.values.Get(field)
	if value != "" && !slices.Contains(allowed, value) {
		p.refuse(field, "must be %s", strings.Join(allowed, " or "))
	}
	return value
}

func (p *parser) id(field string) *uuid.UUID {
	value := p.values.Get(field)
	if value == "" {
		return nil
	}
	id, err := uuid.Parse(value)
	if err != nil {
		p.refuse(field, "is not an id")
		return nil
	}
	return &id
}
