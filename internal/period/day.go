package period

import "time"

// Day is a date, of no zone in particular.
type Day struct {
	year  int
	month time.Month
	day   int
}

// DayOf returns the date on which an instant falls in a zone.
func DayOf(at time.Time, zone *time.Location) Day {
	y, m, d := at.In(zone).Date()
	return Day{y, m, d}
}

func (d Day) utc() time.Time { return time.Date(d.year, d.month, d.day, 0, 0, 0, 0, time.UTC) }

// String returns the date like 2026-10-31.
func (d Day) String() string { return d.utc().Format(time.DateOnly) }

// Plus returns the date n days later.
func (d Day) Plus(n int) Day {
	y, m, dd := d.utc().AddDate(0, 0, n).Date()
	return Day{y, m, dd}
}

// Until returns how many days later e is.
func (d Day) Until(e Day) int { return int(e.utc().Sub(d.utc()) / (24 * time.Hour)) }

// Monday returns the first day of the week.
func (d Day) Monday() Day { return d.Plus(-(int(d.utc().Weekday()) + 6) % 7) }

// Start returns the first instant of the date in a zone. Days do not always
// have 24 hours, and where clocks are put forward at midnight they do not begin
// at midnight.
func (d Day) Start(zone *time.Location) time.Time {
	at := time.Date(d.year, d.month, d.day, 0, 0, 0, 0, zone)
	if DayOf(at, zone).Until(d) > 0 { // midnight was left out, and this is before the gap
		_, at = at.ZoneBounds()
	}
	return at
}

// Starts returns the instants at which the dates from first to last begin, and
// at last the one at which last ends: one more than there are dates, in order. A
// date that the zone's calendar left out begins where the next one does.
func Starts(first, last Day, zone *time.Location) []time.Time {
	var all []time.Time
	for d := first; d.Until(last) >= -1; d = d.Plus(1) {
		all = append(all, d.Start(zone))
	}
	return all
}
