// Package activity answers what learners do: who comes back, what they learn, how
// far newcomers get, and what that costs. Active is who ran a prompt, started or
// completed a lesson, or did something with a template.
package activity

import (
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/params"
	"github.com/promptcademy/promptops/internal/period"
)

// Query is whose activity to look at, and in which days.
type Query struct {
	period.Period
	TeamID *uuid.UUID // as in the URL

	// TeamIDs limit everything to these teams: their members, and the runs made for
	// them. nil: everybody. They are not part of the URL.
	TeamIDs []uuid.UUID
}

// ParseQuery reads a Query from the parameters of a URL: range, from and to as
// package period has them, and team. Bad values come back as one fault.Invalid
// that names them all.
func ParseQuery(values url.Values, now time.Time, zone *time.Location) (Query, error) {
	p := params.From(values)
	days, problems := period.Parse(values, now, zone)
	p.RefuseAll(problems)
	q := Query{Period: days, TeamID: p.ID("team")}
	if err := p.Err(); err != nil {
		return Query{}, err
	}
	return q, nil
}

// Values is the inverse of ParseQuery.
func (q Query) Values() url.Values {
	values := url.Values{}
	q.AddTo(values)
	params.SetID(values, "team", q.TeamID)
	return values
}

const (
	fewestCohorts = 8  // weeks of sign-ups that are shown, however short the period is
	mostCohorts   = 16 // and however long
	monthDays     = 30
	weekDays      = 7

	// QuietDays is how long a learner has to be silent to have gone quiet.
	QuietDays = 7
)

// cohorts is the first week of sign-ups, and how many there are.
func (q Query) cohorts() (first period.Day, weeks int) {
	last := q.LastDay().Monday()
	weeks = min(max(q.FirstDay().Monday().Until(last)/weekDays+1, fewestCohorts), mostCohorts)
	return last.Plus(-weekDays * (weeks - 1)), weeks
}

// Before is the period of as many days that ends where this one begins.
func (q Query) Before() (from, to time.Time) {
	return q.FirstDay().Plus(q.FirstDay().Until(q.LastDay().Plus(1)) * -1).Start(q.Zone), q.From
}

// scanned are the days that have to be looked at: for the period before and its
// last day's month, and for the first week of sign-ups.
func (q Query) scanned() (first, last period.Day) {
	first, _ = q.cohorts()
	from, _ := q.Before()
	for _, day := range []period.Day{period.DayOf(from, q.Zone), q.FirstDay().Plus(-monthDays)} {
		if day.Until(first) > 0 {
			first = day
		}
	}
	return first, q.LastDay()
}
