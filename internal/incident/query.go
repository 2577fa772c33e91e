package incident

import (
	"net/url"
	"strconv"
	"time"

	"github.com/promptcademy/promptops/internal/params"
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
	q, p := Query{zone: zone}, params.From(values)
	q.Status = params.OneOf(p, "status", string(Open), string(Mitigated), string(Resolved), Unresolved)
	if severity := params.OneOf(p, "severity", "1", "2", "3"); severity != "" {
		q.Severity = Severity(severity[0] - '0')
	}
	q.From, q.To = p.Days(zone)
	q.Before = p.Number("before")
	if err := p.Err(); err != nil {
		return Query{zone: zone}, err
	}
	return q, nil
}

// Values is the query as ParseQuery reads it.
func (q Query) Values() url.Values {
	values := url.Values{}
	params.Set(values, "status", q.Status)
	params.Set(values, "severity", q.SeverityText())
	params.Set(values, "from", q.FirstDay())
	params.Set(values, "to", q.LastDay())
	params.SetNumber(values, "before", q.Before)
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
func (q Query) FirstDay() string { return params.FirstDay(q.From, q.zone) }

// LastDay is the day it ends with, empty if that is any.
func (q Query) LastDay() string { return params.LastDay(q.To, q.zone) }

// OlderThan returns the same query for incidents older than that of this id; 0: the
// newest.
func (q Query) OlderThan(id int64) Query {
	q.Before = id
	return q
}

// Narrowed says whether it leaves incidents out, older ones aside.
func (q Query) Narrowed() bool { return len(q.OlderThan(0).Values()) > 0 }
