package period

import "time"

// Hour is a stretch of time within which the clocks of a zone show the same hour
// and the same day. Where clocks change it may be shorter than an hour, or be
// followed by another one of the same hour.
type Hour struct {
	Start, End time.Time
	Weekday    int // 0 is Monday
	Clock      int // 0 to 23
}

// HoursBetween returns the hours of a zone from one instant to another, in order
// and without gaps. The first and the last are cut off there.
func HoursBetween(from, to time.Time, zone *time.Location) []Hour {
	var all []Hour
	for at := from.In(zone); at.Before(to); {
		h := Hour{Start: at, Weekday: (int(at.Weekday()) + 6) % 7, Clock: at.Hour()}
		past := time.Duration(at.Minute())*time.Minute + time.Duration(at.Second())*time.Second + time.Duration(at.Nanosecond())
		h.End = at.Add(time.Hour - past)
		if _, change := at.ZoneBounds(); !change.IsZero() && change.Before(h.End) {
			h.End = change
		}
		if h.End.After(to) {
			h.End = to.In(zone)
		}
		all = append(all, h)
		at = h.End.In(zone)
	}
	return all
}
