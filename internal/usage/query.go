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
	"github.com/promptcademy/promptops/internal/period"
)

// Query is which attempts to count. The zero value of a filter lets all pass.
type Query struct {
	Range     string    // the name of a period.Range, or period.Custom
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

const maxName = 200 // bytes of a provider's or model's name

// ParseQuery reads a Query from the parameters of a URL:
//
//	range       one of period.Ranges; without it and without dates, the last 30 days
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
	days, problems := period.Parse(values, now, zone)
	if p.problems = append(p.problems, problems...); len(p.problems) > 0 {
		return Query{}, fault.InvalidFields(p.problems)
	}
	q.Range, q.From, q.To = days.Range, days.From, days.To
	return q, nil
}

// FirstDay returns the first day, like 2026-10-31.
func (q Query) FirstDay() string { return q.period().FirstDay().String() }

// LastDay returns the last day.
func (q Query) LastDay() string { return q.period().LastDay().String() }

func (q Query) period() period.Period {
	return period.Period{Range: q.Range, From: q.From, To: q.To, Zone: q.Zone}
}

// Values is the inverse of ParseQuery: the shortest parameters that ask for the
// same.
func (q Query) Values() url.Values {
	values := url.Values{}
	set := func(name, value string) {
		if value != "" {
			values.Set(name, value)
		}
	}
	q.period().AddTo(values)
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
	for d := q.period().FirstDay(); ; d = d.Plus(1) {
		at := d.Start(q.Zone)
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
