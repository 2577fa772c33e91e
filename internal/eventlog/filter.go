package eventlog

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/params"
	"github.com/promptcademy/promptops/internal/period"
)

// Filter is which events to list. The zero value of a field lets all pass.
type Filter struct {
	period.Period        // From and To include Start and End
	Start, End    string // time of the first and of the last day, "14:05"; "" is the whole day
	Level         string // "info", "warn" or "error": that and worse
	Source        string
	Event         string
	RequestID     string
	Learner       string // id or e-mail address
	Text          string // anywhere in the event, in capitals or not
}

// levels are the least that Filter.Level lets pass.
var levels = map[string]slog.Level{"info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

const defaultRange = "7d"

// Ranges are the choices of days that make sense for events, which are not kept for
// ever.
var Ranges = []string{"today", "7d", "30d", period.Custom}

// ParseFilter reads a Filter from the parameters of a URL: range, from and to as
// package period has them (without them, the last 7 days), and
//
//	start, end                times of the first and the last day, like 14:05: wider by up to five minutes
//	level                     info, warn or error
//	source, event, request    as they are logged
//	learner                   an id or an e-mail address
//	q                         a text
//
// Bad values come back as one fault.Invalid that names them all.
func ParseFilter(values url.Values, now time.Time, zone *time.Location) (Filter, error) {
	days := url.Values{}
	maps.Copy(days, values)
	if days.Get("range") == "" && days.Get("from") == "" && days.Get("to") == "" {
		days.Set("range", defaultRange)
	}
	p := params.From(values)
	chosen, problems := period.Parse(days, now, zone)
	p.RefuseAll(problems)
	f := Filter{
		Period: chosen, Level: params.OneOf(p, "level", "info", "warn", "error"), Source: p.Text("source"), Event: p.Text("event"),
		RequestID: p.Text("request"), Learner: p.Text("learner"), Text: p.Text("q"),
	}
	if len(problems) == 0 {
		f.hours(p)
	}
	if err := p.Err(); err != nil {
		return Filter{}, err
	}
	return f, nil
}

// hours takes the times of day in, on whole slots: what is counted is counted by
// those.
func (f *Filter) hours(p *params.Reader) {
	at := func(field string, day period.Day) (time.Time, bool) {
		value := p.Text(field)
		if value == "" {
			return time.Time{}, false
		}
		clock, err := time.Parse("15:04", value)
		if err != nil {
			p.Refuse(field, "is not a time of day; write it like 14:05")
			return time.Time{}, false
		}
		on := day.Start(f.Zone)
		y, m, d := on.Date()
		return time.Date(y, m, d, clock.Hour(), clock.Minute(), 0, 0, f.Zone), true
	}
	first, last := f.FirstDay(), f.LastDay()
	if from, given := at("start", first); given {
		if from = from.Truncate(slot); from.After(f.From) {
			f.From, f.Start = from, from.In(f.Zone).Format("15:04")
		}
	}
	if to, given := at("end", last); given {
		if to = to.Add(slot - 1).Truncate(slot); to.Before(f.To) {
			f.To, f.End = to, to.In(f.Zone).Format("15:04")
		}
	}
	if !p.Refused() && !f.From.Before(f.To) {
		p.Refuse("end", "is not after start")
	}
}

// Values is the inverse of ParseFilter: the shortest parameters that ask for the
// same.
func (f Filter) Values() url.Values {
	values := url.Values{}
	f.AddTo(values)
	for name, value := range map[string]string{
		"start": f.Start, "end": f.End, "level": f.Level, "source": f.Source, "event": f.Event, "request": f.RequestID, "learner": f.Learner, "q": f.Text,
	} {
		params.Set(values, name, value)
	}
	return values
}

// LastDay is the last day, also where it is not counted to its end.
func (f Filter) LastDay() period.Day { return period.DayOf(f.To.Add(-time.Nanosecond), f.Zone) }

// Narrowed says whether anything but the time is chosen.
func (f Filter) Narrowed() bool {
	return cmp.Or(f.Level, f.Source, f.Event, f.RequestID, f.Learner, f.Text) != ""
}

// Within is the same filter of another time, on whole slots.
func (f Filter) Within(from, to time.Time) Filter {
	f.Range, f.From, f.To, f.Start, f.End = period.Custom, from, to, "", ""
	if !from.Equal(f.FirstDay().Start(f.Zone)) {
		f.Start = from.In(f.Zone).Format("15:04")
	}
	if !to.Equal(f.LastDay().Plus(1).Start(f.Zone)) {
		f.End = to.In(f.Zone).Format("15:04")
	}
	return f
}

// Live says whether events that are logged at now can pass.
func (f Filter) Live(now time.Time) bool { return !f.To.Before(now) && !f.From.After(now) }

// Cursor is a place in a list: right before the event of an instant and an id in the
// list, or right after it. The zero value is the beginning.
type Cursor struct {
	At    time.Time
	ID    uuid.UUID
	Newer bool // what is before it in the list
}

// ParseCursor reads what Cursor.String wrote.
func ParseCursor(text string) (Cursor, error) {
	micros, id, _ := strings.Cut(text, "-")
	n, err := strconv.ParseInt(micros, 10, 64)
	if err != nil || n < 0 || n > time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() {
		return Cursor{}, fmt.Errorf("%q is no place in a list", text)
	}
	c := Cursor{At: time.UnixMicro(n).UTC()}
	c.ID, err = uuid.Parse(id)
	return c, err
}

func (c Cursor) String() string {
	if c.At.IsZero() {
		return ""
	}
	return fmt.Sprintf("%016d-%s", c.At.UnixMicro(), c.ID)
}

// Place is where an event stands in every list.
func (e Event) Place() Cursor { return Cursor{At: e.At, ID: e.ID} }
