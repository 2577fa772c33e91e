package usage

import "time"

// day is a date, of no zone in particular.
type day struct {
	year  int
	month time.Month
	day   int
}

// dayOf returns the date on which an instant falls in a zone.
func dayOf(at time.Time, zone *time.Location) day {
	y, m, d := at.In(zone).Date()
	return day{y, m, d}
}

func (d day) utc() time.Time { return time.Date(d.year, d.month, d.day, 0, 0, 0, 0, time.UTC) }

// String returns the date like 2026-10-31.
func (d day) String() string { return d.utc().Format(time.DateOnly) }

// plus returns the date n days later.
func (d day) plus(n int) day {
	y, m, dd := d.utc().AddDate(0, 0, n).Date()
	return day{y, m, dd}
}

// until returns how many days later e is.
func (d day) until(e day) int { return int(e.utc().Sub(d.utc()) / (24 * time.Hour)) }

// start returns the first instant of the date in a zone. Days do not always
// have 24 hours, and where clocks are put forward at midnight they do not begin
// at midnight.
func (d day) start(zone *time.Location) time.Time {
	at := time.Date(d.year, d.month, d.day, 0, 0, 0, 0, zone)
	if dayOf(at, zone).until(d) > 0 { // midnight was left out, and this is before the gap
		_, at = at.ZoneBounds()
	}
	return at
}
