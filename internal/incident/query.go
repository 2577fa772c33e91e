package incident

import (
	"net/url"
	"strconv"
	"time"

	"github.com/promptcademy/promptops/internal/fault"
)

// Filter says which incidents; the zero value means all.
type Filter struct {
	Status   string // a Status, "unresolved", or empty
	Severity Severity
	From, To time.Time // detected not before From, and before To; zero: any time
	Before   int64     // only those started before this one; 0: from the newest on
}

// Query is a Filter as an address has it.
type Query struct {
	Filter
	zone *time.Location
}

// Unresolved is the status of a filter that lets through what goes on.
const Unresolved = "unresolved"

// ParseQuery reads status, severity (1 to 3), from and to (days of a zone) and
// before. Other parameters are left alone. Bad values are fault.Invalid.
func ParseQuery(values url.Values, zone *time.Location) (Query, error) {
	q := Query{zone: zone}
	var problems []fault.Field
	refuse := func(field, message string) {
		problems = append(problems, fault.Field{Field: field, Message: message})
	}
	switch status := values.Get("status"); status {
	case "", Unresolved, string(Open), string(Mitigated), string(Resolved):
		q.Status = status
	default:
		refuse("status", "is not open, mitigated, resolved or unresolved")
	}
	switch severity := values.Get("severity"); severity {
	case "":
	case "1", "2", "3":
		q.Severity = Severity(severity[0] - '0')
	default:
		refuse("severity", "is not 1, 2 or 3")
	}
	day := func(field string) time.Time {
		value := values.Get(field)
		if value == "" {
			return time.Time{}
		}
		at, err := time.ParseInLocation(time.DateOnly, value, zone)
		if err != nil || at.Year() < 2000 || at.Year() > 9998 {
			refuse(field, "is not a day like 2026-11-24")
		}
		return at
	}
	q.From, q.To = day("from"), day("to")
	if !q.To.IsZero() {
		q.To = q.To.AddDate(0, 0, 1) // the day itself included
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		refuse("from", "is after to; choose an earlier day")
	}
	if before := values.Get("before"); before != "" {
		id, err := strconv.ParseInt(before, 10, 64)
		if err != nil || id < 1 {
			refuse("before", "is not the number of an incident")
		}
		q.Before = id
	}
	if len(problems) > 0 {
		return Query{zone: zone}, fault.InvalidFields(problems)
	}
	return q, nil
}

// Values is the query as ParseQuery reads it.
func (q Query) Values() url.Values {
	values := url.Values{}
	set := func(name, value string) {
		if value != "" {
			values.Set(name, value)
		}
	}
	set("status", q.Status)
	set("severity", q.SeverityText())
	set("from", q.FirstDay())
	set("to", q.LastDay())
	if q.Before != 0 {
		set("before", strconv.FormatInt(q.Before, 10))
	}
	return values
}

// SeverityText is "1", "2", "3", or empty for all.
func (q Query) SeverityText() string {
	if q.Severity == 0 {
		return ""
	}
	return strconv.Itoa(int(q.Severity))
}

// FirstDay is the day it begins with, empty if that is any.
func (q Query) FirstDay() string {
	if q.From.IsZero() {
		return ""
	}
	return q.From.In(q.zone).Format(time.DateOnly)
}

// LastDay is the day it ends with, empty if that is any.
func (q Query) LastDay() string {
	if q.To.IsZero() {
		return ""
	}
	return q.To.In(q.zone).AddDate(0, 0, -1).Format(time.DateOnly)
}

// OlderThan returns the same query for incidents older than that of this id; 0: the
// newest.
func (q Query) OlderThan(id int64) Query {
	q.Before = id
	return q
}

// Narrowed says whether it leaves incidents out, older ones aside.
func (q Query) Narrowed() bool { return len(q.OlderThan(0).Values()) > 0 }
