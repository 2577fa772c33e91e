// Package params reads the parameters of an address, and collects what is wrong with
// them, so that whoever asked hears of everything at once.
package params

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

// Reader reads parameters. One that is missing or empty is the zero value of its
// type, and so is one that is refused.
type Reader struct {
	values   url.Values
	problems []fault.Field
}

// From returns a Reader of an address's parameters.
func From(values url.Values) *Reader { return &Reader{values: values} }

// Refuse notes what is wrong with a parameter.
func (r *Reader) Refuse(name, message string) {
	r.problems = append(r.problems, fault.Field{Field: name, Message: message})
}

// RefuseAll notes what others found wrong with parameters.
func (r *Reader) RefuseAll(problems []fault.Field) { r.problems = append(r.problems, problems...) }

// Refused says whether anything was.
func (r *Reader) Refused() bool { return len(r.problems) > 0 }

// Err is one fault.Invalid that names all that was refused, or nil.
func (r *Reader) Err() error {
	if !r.Refused() {
		return nil
	}
	return fault.InvalidFields(r.problems)
}

// longest is how many bytes a text can have.
const longest = 255

// Text reads one line of text without the blanks around it.
func (r *Reader) Text(name string) string {
	value := strings.TrimSpace(r.values.Get(name))
	switch {
	case len(value) > longest:
		r.Refuse(name, "is too long")
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		r.Refuse(name, "holds characters that cannot be searched for")
	default:
		return value
	}
	return ""
}

// OneOf reads one of some words.
func OneOf[T ~string](r *Reader, name string, allowed ...T) T {
	value := T(r.values.Get(name))
	if value == "" || slices.Contains(allowed, value) {
		return value
	}
	list, last := "", len(allowed)-1
	for i, word := range allowed {
		switch i {
		case 0:
		case last:
			list += " or "
		default:
			list += ", "
		}
		list += string(word)
	}
	r.Refuse(name, "must be "+list)
	return ""
}

// ID reads an id.
func (r *Reader) ID(name string) *uuid.UUID {
	value := r.values.Get(name)
	if value == "" {
		return nil
	}
	id, err := uuid.Parse(value)
	if err != nil {
		r.Refuse(name, "is not an id")
		return nil
	}
	return &id
}

// Number reads a number from 1 on.
func (r *Reader) Number(name string) int64 {
	value := r.values.Get(name)
	if value == "" {
		return 0
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 1 {
		r.Refuse(name, "is not a number from 1 on")
		return 0
	}
	return n
}

// Days reads from and to, the first and the last of some days of a zone: the first
// instant that counts, and the first that no longer does. Either can be zero.
func (r *Reader) Days(zone *time.Location) (from, to time.Time) {
	day := func(name string) time.Time {
		value := strings.TrimSpace(r.values.Get(name))
		if value == "" {
			return time.Time{}
		}
		at, err := time.ParseInLocation(time.DateOnly, value, zone)
		if err != nil || at.Year() < 2000 || at.Year() > 9998 {
			r.Refuse(name, "is not a day like 2026-11-24")
			return time.Time{}
		}
		return at
	}
	from, to = day("from"), day("to")
	if !to.IsZero() {
		to = to.AddDate(0, 0, 1) // the day itself included
	}
	if !from.IsZero() && !to.IsZero() && !from.Before(to) {
		r.Refuse("from", "is after to; choose an earlier day")
	}
	return from, to
}

// FirstDay is how Days reads where it begins; empty if that is any.
func FirstDay(from time.Time, zone *time.Location) string {
	if from.IsZero() {
		return ""
	}
	return from.In(zone).Format(time.DateOnly)
}

// LastDay is how Days reads where it ends; empty if that is any.
func LastDay(to time.Time, zone *time.Location) string {
	if to.IsZero() {
		return ""
	}
	return to.In(zone).AddDate(0, 0, -1).Format(time.DateOnly)
}

// Set adds a parameter unless it is empty.
func Set(values url.Values, name, value string) {
	if value != "" {
		values.Set(name, value)
	}
}

// SetID adds an id unless there is none.
func SetID(values url.Values, name string, id *uuid.UUID) {
	if id != nil {
		values.Set(name, id.String())
	}
}

// SetNumber adds a number unless it is 0.
func SetNumber(values url.Values, name string, n int64) {
	if n != 0 {
		values.Set(name, strconv.FormatInt(n, 10))
	}
}
