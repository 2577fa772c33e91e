// Package usage answers what the AI Usage page asks: tokens, money, errors and
// durations per day and model, counted from prompt_attempts.
package usage

import (
	"cmp"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/params"
	"github.com/promptcademy/promptops/internal/period"
)

// Query is which attempts to count, and how to show them. The zero value of a
// filter lets all pass; of the rest it is the default.
type Query struct {
	Range      string    // the name of a period.Range, or period.Custom
	From, To   time.Time // the first instant that counts, and the first that no longer does
	Zone       *time.Location
	Provider   string // "openai"
	Model      string // as requested: "openai/gpt-5-mini"
	TeamID     *uuid.UUID
	KeySource  string // "user" or "fallback"
	TemplateID *uuid.UUID
	Learner    string // e-mail address

	Group   Dimension // what the lines of the table are: ByModel if empty
	Sub     Dimension // what each of them is divided into; "": nothing
	Metric  Metric    // what the chart shows: Cost if empty
	Bucket  Bucket    // how the chart divides time: Days if empty
	Compare bool      // with as many days before

	// TeamIDs are the teams to which whoever asks is limited; nil is no limit. It
	// is never read from a URL.
	TeamIDs []uuid.UUID
}

// Dimension is what attempts can be told apart by.
type Dimension string

// The dimensions, as they stand in the URL.
const (
	ByProvider Dimension = "provider"
	ByModel    Dimension = "model"
	ByTeam     Dimension = "team"
	ByKey      Dimension = "key" // whose key paid
	ByTemplate Dimension = "template"
	ByLearner  Dimension = "learner"
)

// Dimensions are all of them.
var Dimensions = []Dimension{ByModel, ByProvider, ByTeam, ByKey, ByTemplate, ByLearner}

// Metric is what a chart can show.
type Metric string

// The metrics, as they stand in the URL.
const (
	Cost       Metric = "cost"
	TokenCount Metric = "tokens"
	Runs       Metric = "runs"
	Attempts   Metric = "attempts"
	Errors     Metric = "errors"  // the part of the attempts with an outcome that failed
	Durations  Metric = "latency" // of attempts that were answered
	FirstToken Metric = "first_token"
	Fallback   Metric = "fallback" // the part of the attempts that fallback keys paid
)

// Metrics are all of them.
var Metrics = []Metric{Cost, TokenCount, Runs, Attempts, Errors, Durations, FirstToken, Fallback}

// Bucket is a length into which time is divided.
type Bucket string

// The buckets, as they stand in the URL.
const (
	Hours Bucket = "hour"
	Days  Bucket = "day"
	Weeks Bucket = "week" // from Monday
)

// Buckets are all of them.
var Buckets = []Bucket{Hours, Days, Weeks}

// MostDaysOfHours is how many days can be divided into hours.
const MostDaysOfHours = 14

// ParseQuery reads a Query from the parameters of a URL:
//
//	range       one of period.Ranges; without it and without dates, the last 30 days
//	from, to    first and last day, like 2026-10-31, if range is absent or "custom"; to is today if absent
//	provider, model, team, key   filters, as on Runs; empty ones let all pass
//	template, learner            (an e-mail address)
//	group, sub                   Dimensions; by model and no further if absent
//	metric                       one of Metrics; cost if absent
//	bucket                       hour (of MostDaysOfHours at most), day or week; day if absent
//	compare                      "previous" or nothing
//
// Days begin and end at midnight in zone. Bad values come back as one
// fault.Invalid that names them all.
func ParseQuery(values url.Values, now time.Time, zone *time.Location) (Query, error) {
	p := params.From(values)
	q := Query{
		Zone:       zone,
		Provider:   p.Text("provider"),
		Model:      p.Text("model"),
		TeamID:     p.ID("team"),
		KeySource:  params.OneOf(p, "key", "user", "fallback"),
		TemplateID: p.ID("template"),
		Learner:    p.Text("learner"),
		Group:      cmp.Or(params.OneOf(p, "group", Dimensions...), ByModel),
		Sub:        params.OneOf(p, "sub", Dimensions...),
		Metric:     cmp.Or(params.OneOf(p, "metric", Metrics...), Cost),
		Bucket:     cmp.Or(params.OneOf(p, "bucket", Buckets...), Days),
		Compare:    params.OneOf(p, "compare", "previous") != "",
	}
	if q.Sub == q.Group {
		q.Sub = "" // nothing would be told apart
	}
	days, problems := period.Parse(values, now, zone)
	p.RefuseAll(problems)
	q.Range, q.From, q.To = days.Range, days.From, days.To
	if n := q.days(); !p.Refused() && q.Bucket == Hours && n > MostDaysOfHours {
		p.Refuse("bucket", fmt.Sprintf("cannot be hour for %d days; choose %d days or fewer, or days or weeks", n, MostDaysOfHours))
	}
	if err := p.Err(); err != nil {
		return Query{}, err
	}
	return q, nil
}

// FirstDay returns the first day, like 2026-10-31.
func (q Query) FirstDay() string { return q.period().FirstDay().String() }

// LastDay returns the last day.
func (q Query) LastDay() string { return q.period().LastDay().String() }

func (q Query) period() period.Period {
	return period.Period{Range: q.Range, From: q.From, To: q.To, Zone: q.Zone}
}

// days is how many days there are.
func (q Query) days() int { return q.period().FirstDay().Until(q.period().LastDay()) + 1 }

// Values is the inverse of ParseQuery: the shortest parameters that ask for the
// same.
func (q Query) Values() url.Values {
	values := q.Filters()
	set := func(name, value, byDefault string) {
		if value != byDefault && value != "" {
			values.Set(name, value)
		}
	}
	set("group", string(q.Group), string(ByModel))
	set("sub", string(q.Sub), "")
	set("metric", string(q.Metric), string(Cost))
	set("bucket", string(q.Bucket), string(Days))
	if q.Compare {
		values.Set("compare", "previous")
	}
	return values
}

// Filters are the parameters of the days and filters alone, which other pages
// understand, too.
func (q Query) Filters() url.Values {
	values := url.Values{}
	q.period().AddTo(values)
	params.Set(values, "provider", q.Provider)
	params.Set(values, "model", q.Model)
	params.Set(values, "key", q.KeySource)
	params.Set(values, "learner", q.Learner)
	params.SetID(values, "team", q.TeamID)
	params.SetID(values, "template", q.TemplateID)
	return values
}

// Narrowed says whether there is a filter.
func (q Query) Narrowed() bool {
	return q.Provider != "" || q.Model != "" || q.TeamID != nil || q.KeySource != "" || q.TemplateID != nil || q.Learner != ""
}

// Previous is the query of as many days before, divided likewise.
func (q Query) Previous() Query {
	first, n := q.period().FirstDay(), q.days()
	q.Range, q.From, q.To = period.Custom, first.Plus(-n).Start(q.Zone), first.Start(q.Zone)
	return q
}

// boundaries are the instants at which the query's buckets begin, and at last the
// one at which the last one ends. Weeks that are not whole are cut off.
func (q Query) boundaries() []time.Time {
	var all []time.Time
	for d := q.period().FirstDay(); ; d = d.Plus(1) {
		at := d.Start(q.Zone)
		if len(all) > 0 && !at.After(all[len(all)-1]) {
			continue // a day that the zone's calendar left out
		}
		if last := len(all) - 1; q.Bucket == Hours && last >= 0 {
			for hour := nextHour(all[last].In(q.Zone)); hour.Before(at); hour = nextHour(hour) {
				all = append(all, hour)
			}
		}
		ended := !at.Before(q.To)
		if q.Bucket != Weeks || len(all) == 0 || ended || d.Monday() == d {
			all = append(all, at)
		}
		if ended {
			return all
		}
	}
}

// nextHour returns when the clock next shows a full hour. Where clocks are put
// back or forward by half an hour, that is half an hour away.
func nextHour(at time.Time) time.Time {
	return at.Add(time.Hour - time.Duration(at.Minute())*time.Minute - time.Duration(at.Second())*time.Second)
}

// mirrored are the boundaries of the buckets of Previous that correspond to this
// query's: of the same day in order, as long after its beginning. What a longer day
// has more is in its last bucket.
func (q Query) mirrored() []time.Time {
	n := q.days()
	all := q.boundaries()
	for i, at := range all {
		day := period.DayOf(at, q.Zone)
		before := day.Plus(-n)
		starts, ends := before.Start(q.Zone), before.Plus(1).Start(q.Zone)
		if at = starts.Add(at.Sub(day.Start(q.Zone))); at.After(ends) {
			at = ends
		}
		all[i] = at
	}
	return all
}

// withDefaults fills in what the zero value leaves open.
func (q Query) withDefaults() Query {
	q.Group, q.Metric, q.Bucket = cmp.Or(q.Group, ByModel), cmp.Or(q.Metric, Cost), cmp.Or(q.Bucket, Days)
	return q
}

// columns are what has to be counted of every bucket and group for a metric.
func (m Metric) columns() []string {
	switch m {
	case TokenCount:
		return []string{"input", "cached_input", "cache_write", "output", "reasoning", "unknown_usage"}
	case Runs:
		return []string{"runs"}
	case Errors:
		return []string{"attempts", "running", "errors"}
	case Fallback:
		return []string{"attempts", "fallback"}
	case Attempts:
		return []string{"attempts"}
	case Cost:
		return []string{"cost", "attempts", "running", "unpriced"}
	default:
		return []string{}
	}
}
