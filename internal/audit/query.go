package audit

import (
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
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
	q := Query{zone: zone}
	var problems []fault.Field
	refuse := func(field, message string) {
		problems = append(problems, fault.Field{Field: field, Message: message})
	}
	text := func(field string) string {
		value := strings.TrimSpace(values.Get(field))
		if len(value) > 200 || strings.ContainsFunc(value, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }) {
			refuse(field, "is not one line of at most 200 bytes")
			return ""
		}
		return value
	}
	q.SubjectType, q.SubjectID, q.Action = text("subject"), text("id"), text("action")
	switch who := text("who"); who {
	case "":
	case nobody:
		q.NoOperator = true
	default:
		id, err := uuid.Parse(who)
		if err != nil {
			refuse("who", "is not the id of an operator")
		}
		q.OperatorID = &id
	}
	day := func(field string) time.Time {
		value := text(field)
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
	if before := text("before"); before != "" {
		id, err := strconv.ParseInt(before, 10, 64)
		if err != nil || id < 1 {
			refuse("before", "is not the number of an entry")
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
	set("who", q.Who())
	set("subject", q.SubjectType)
	set("id", q.SubjectID)
	set("action", q.Action)
	set("from", q.FirstDay())
	set("to", q.LastDay())
	if q.Before != 0 {
		set("before", strconv.FormatInt(q.Before, 10))
	}
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

// OlderThan returns the same query for entries older than that of this id; 0: the
// newest.
func (q Query) OlderThan(id int64) Query {
	q.Before = id
	return q
}

// Narrowed says whether it leaves entries out, older ones aside.
func (q Query) Narrowed() bool { return len(q.OlderThan(0).Values()) > 0 }
