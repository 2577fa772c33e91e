package rollup

import (
	"encoding/binary"
	"slices"
	"time"
)

// Part is a part of a plan. Nothing that it tells to read ever changes under the same
// version: whatever was counted of it once is what would be counted of it again. That
// is so of sums, which belong to the id of their period, and as well of the rows of a
// period whose sums hold: none of them was written, changed or deleted since it was
// summed, or there would be a mark.
type Part struct {
	Plan
	Version     string // of the sums
	RowsVersion string // "": they may change at any moment
}

// Parts is Plan in at most three parts: one of whole days, whose versions are new once
// a day, one of parts of days, new every quarter of an hour, and the rest.
func (k Known) Parts(kind Kind, boundaries []time.Time) []Part {
	whole := k.Plan(kind, boundaries)
	parts := k.split(whole)
	if len(parts[ofRest].From) > mostSpans { // very much has just changed
		parts = k.split(Plan{Buckets: whole.Buckets, sums: whole.sums})
		parts[ofRest].From, parts[ofRest].To = whole.From, whole.To
	}
	return slices.DeleteFunc(parts, func(p Part) bool { return len(p.Periods)+len(p.From) == 0 })
}

// The places of parts.
const (
	ofDays = iota
	ofHours
	ofRest
)

func (k Known) split(whole Plan) []Part {
	parts := make([]Part, ofRest+1)
	for i, s := range whole.sums {
		p := &parts[s.level.part()]
		p.Periods, p.Buckets = append(p.Periods, s.id), append(p.Buckets, whole.Buckets[i])
		p.Version += s.version()
	}
	for i := range whole.From {
		from, to := whole.From[i], whole.To[i]
		for from.Before(to) {
			s, found := k.around(from, to)
			if !found {
				break
			}
			parts[ofRest].rows(from, latest(from, s.from))
			from = latest(from, s.from)
			at, until := s.level.part(), s.to
			if until.After(to) { // a part of it, up to a moment that may be this one
				at, until = ofHours, latest(from, to.Truncate(slotLength))
			}
			parts[at].rows(from, until)
			parts[at].RowsVersion += s.version()
			if from = until; s.to.After(to) {
				break
			}
		}
		parts[ofRest].rows(from, to)
	}
	return parts
}

// around returns the period in which an instant is, or else the next one that begins
// before to: the longest that ends by then, or the shortest that does not.
func (k Known) around(at, to time.Time) (found summed, ok bool) {
	for _, s := range k.periods {
		if !s.from.Before(to) || ok && s.from.After(at) {
			break
		}
		if s.from.After(at) {
			at = s.from
		}
		if s.to.After(at) && (!ok || s.suits(found, to)) {
			found, ok = s, true
		}
	}
	return found, ok
}

// suits says whether a period covers what is before to better than another one.
func (s summed) suits(than summed, to time.Time) bool {
	switch beyond := s.to.After(to); {
	case beyond != than.to.After(to):
		return !beyond
	case beyond:
		return s.to.Before(than.to)
	default:
		return s.to.After(than.to)
	}
}

// part is the place of a level among Parts.
func (l Level) part() int {
	if l >= day {
		return ofDays
	}
	return ofHours
}

// version tells a period from all others, also from one that had its id before the
// database was restored.
func (s summed) version() string {
	return string(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(s.id)), uint64(s.at.UnixMicro())))
}
