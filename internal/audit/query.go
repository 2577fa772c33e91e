package audit

import (
	"net/url"
	"time"

	"github.com/promptcademy/promptops/internal/params"
)

// nobody is the value of the parameter who for what no operator did.
const nobody = "nobody"

// Query is a Filter as an address has it.
type Query struct {
	Filter
	zone *time.Location
}

// ParseQuery reads who (an operator's id, or "nobody"), subject, id, action, from
// and to (days of a zone) and before. Other parameters are left alone. Bad values
// are fault.Invalid.
func ParseQuery(values url.Values, zone *time.Location) (Query, error) {
	q, p := Query{zone: zone}, params.From(values)
	q.SubjectType, q.SubjectID, q.Action = p.Text("subject"), p.Text("id"), p.Text("action")
	if q.NoOperator = values.Get("who") == nobody; !q.NoOperator {
		q.OperatorID = p.ID("who")
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
	params.Set(values, "who", q.Who())
	params.Set(values, "subject", q.SubjectType)
	params.Set(values, "id", q.SubjectID)
	params.Set(values, "action", q.Action)
	params.Set(values, "from", q.FirstDay())
	params.Set(values, "to", q.LastDay())
	params.SetNumber(values, "before", q.Before)
	return values
}

// Who is an operator's id, "nobody", or empty for everybody.
func (q Query) Who() string {
	switch {
	case q.NoOperator:
		return nobody
	case q.OperatorID != nil:
		return q.OperatorID.String()
	}
	return ""
}

// FirstDay is the day it begins with, empty if that is any.
func (q Query) FirstDay() string { return params.FirstDay(q.From, q.zone) }

// LastDay is the day it ends with, empty if that is any.
func (q Query) LastDay() string { return params.LastDay(q.To, q.zone) }

// OlderThan returns the same query for entries older than that of this id; 0: the
// newest.
func (q Query) OlderThan(id int64) Query {
	q.Before = id
	return q
}

// Narrowed says whether it leaves entries out, older ones aside.
func (q Query) Narrowed() bool { return len(q.OlderThan(0).Values()) > 0 }
