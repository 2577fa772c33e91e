package activity

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/price"
)

// Report is the answer to a Query.
type Report struct {
	Active    int     // learners who were active in the period
	Weekly    int     // in the last seven days of the period
	Monthly   int     // in its last thirty days
	PerDay    float64 // active learners on a day, on average over those thirty days
	SignUps   int
	Started   int64 // lessons
	Completed int64
	Spent     Spent

	Days      []Day
	Cohorts   []Cohort // the newest last
	Funnel    []Step   // sign-up, first key, first run, first lesson completed
	Lessons   []Lesson // in their order; those with progress in the period
	Events    []EventCount
	Templates []Template // the most used first
	Teams     []Team     // the dearest first; those that ran something in the period
	Quiet     []Quiet    // the latest first, up to mostQuiet
	QuietAll  int        // how many there are
}

// Stickiness is the part of the month's active learners that comes on a day, 0 to
// 1.
func (r Report) Stickiness() float64 {
	if r.Monthly == 0 {
		return 0
	}
	return r.PerDay / float64(r.Monthly)
}

// Spent is what runs cost.
type Spent struct {
	Runs     int64
	Cost     price.USD // of the priced attempts
	Unpriced int64     // attempts that are not in Cost
}

// Known says whether anything of the cost is known.
func (s Spent) Known() bool { return s.Unpriced == 0 || !s.Cost.IsZero() }

func (s *Spent) add(o Spent) {
	s.Runs, s.Unpriced, s.Cost = s.Runs+o.Runs, s.Unpriced+o.Unpriced, s.Cost.Add(o.Cost)
}

// Day is one day of the period.
type Day struct {
	period.Day
	Start, End       time.Time // 23, 24 or 25 hours
	Active           int       // learners on this day
	Weekly, Monthly  int       // on this day or in the 6, or 29, days before
	SignUps          int
	LessonsStarted   int64
	LessonsCompleted int64
}

// Cohort are those who signed up in a week.
type Cohort struct {
	Week   period.Day // its Monday
	Size   int
	Active []int // of them, in the week of sign-up and in each one after it until the period's end
	Going  bool  // the last week is not over
}

// Step is how many of those who signed up in the period got somewhere until its
// end.
type Step struct {
	Reached    int
	AfterLast  int            // of those who reached the step before, too
	SinceStart *time.Duration // median time since sign-up; nil: nobody
	SinceLast  *time.Duration // median time since the step before, of those who took it before
}

// Lesson is what became of a lesson in the period.
type Lesson struct {
	ID        uuid.UUID
	Title     string // "" when it is not for the reader
	Started   int64
	Completed int64
	Finished  int64    // of those started in the period, completed until its end
	Score     *float64 // median of those completed in the period; nil: none has one
}

// EventCount is how often something was done with templates.
type EventCount struct {
	Event    string
	Count    int64
	Learners int64
}

// Template is what was done with one template.
type Template struct {
	ID                                    uuid.UUID
	Title                                 string // "" when it is not for the reader
	Used, Viewed, Forked, Shared, Created int64
	Learners                              int64
}

// Team is what was run for a team.
type Team struct {
	ID      uuid.UUID
	Name    string // "" when it is gone
	Members int64
	Active  int // learners who ran something for it
	Spent
}

// Quiet is a learner whose last run failed, and who has run nothing since.
type Quiet struct {
	LearnerID uuid.UUID
	Email     string
	RunID     uuid.UUID
	At        time.Time
	Class     string // of the error; "" when none is known
}

// horizon is how many days a set of days can hold: the longest period and the
// month before it.
const horizon = 448

// daySet is on which of the scanned days somebody was active.
type daySet [horizon / 64]uint64

func (s *daySet) has(day int) bool { return s[day/64]&(1<<(day%64)) != 0 }

// any says whether one of the days from first to last is in the set.
func (s *daySet) any(first, last int) bool {
	for day := max(first, 0); day <= min(last, horizon-1); day++ {
		if s.has(day) {
			return true
		}
	}
	return false
}

// setOf reads a bit string, whose first bit is the first day.
func setOf(b []byte) (s daySet) {
	for i, eight := range b {
		s[i/8] |= uint64(bits.Reverse8(eight)) << (i % 8 * 8)
	}
	return s
}

// learnerFacts are what is known of one learner.
type learnerFacts struct {
	days     daySet
	firstRun *time.Time // in the period
}

// signUp is an account that was made in the period or in a week of the cohorts.
type signUp struct {
	ID        uuid.UUID
	CreatedAt time.Time
}

// count fills in everything that depends on who was active on which day.
func (r *Report) count(q Query, now time.Time, learners map[uuid.UUID]*learnerFacts, signUps []signUp) {
	scanFirst, _ := q.scanned()
	base := scanFirst.Until(q.FirstDay()) // the period's first day among those scanned
	starts := period.Starts(q.FirstDay(), q.LastDay(), q.Zone)
	r.Days = make([]Day, len(starts)-1)
	for i := range r.Days {
		r.Days[i] = Day{Day: q.FirstDay().Plus(i), Start: starts[i], End: starts[i+1]}
	}
	last := base + len(r.Days) - 1
	visits := 0 // days on which somebody was active, over the last month
	for _, l := range learners {
		seen := -horizon // the last day on which this one was active
		for day := max(base+1-monthDays, 0); day <= last; day++ {
			if l.days.has(day) {
				seen = day
				if day > last-monthDays {
					visits++
				}
			}
			if day < base {
				continue
			}
			d := &r.Days[day-base]
			switch since := day - seen; {
			case since == 0:
				d.Active++
				fallthrough
			case since < weekDays:
				d.Weekly++
				fallthrough
			case since < monthDays:
				d.Monthly++
			}
		}
		if seen >= base {
			r.Active++
		}
	}
	r.Weekly, r.Monthly = r.Days[len(r.Days)-1].Weekly, r.Days[len(r.Days)-1].Monthly
	r.PerDay = float64(visits) / monthDays
	for _, s := range signUps {
		if s.CreatedAt.Before(q.From) {
			continue
		}
		if day := q.FirstDay().Until(period.DayOf(s.CreatedAt, q.Zone)); day < len(r.Days) {
			r.Days[day].SignUps++
			r.SignUps++
		}
	}
	r.countCohorts(q, now, learners, signUps)
}

func (r *Report) countCohorts(q Query, now time.Time, learners map[uuid.UUID]*learnerFacts, signUps []signUp) {
	scanFirst, _ := q.scanned()
	first, weeks := q.cohorts()
	base := scanFirst.Until(first)
	today := period.DayOf(now, q.Zone)
	reached := min(weeks, max(first.Until(today), -1)/weekDays+1) // weeks that have begun
	r.Cohorts = make([]Cohort, max(reached, 0))
	for i := range r.Cohorts {
		r.Cohorts[i] = Cohort{Week: first.Plus(weekDays * i), Active: make([]int, reached-i), Going: first.Plus(weekDays*reached).Until(today) < 0}
	}
	for _, s := range signUps {
		at := first.Until(period.DayOf(s.CreatedAt, q.Zone))
		if at < 0 || at/weekDays >= len(r.Cohorts) {
			continue
		}
		cohort := &r.Cohorts[at/weekDays]
		cohort.Size++
		l := learners[s.ID]
		if l == nil {
			continue
		}
		for week := range cohort.Active {
			monday := base + (at/weekDays+week)*weekDays
			if l.days.any(monday, monday+weekDays-1) {
				cohort.Active[week]++
			}
		}
	}
}

// countFunnel follows those who signed up in the period; keys and lessons are when
// they did that first.
func (r *Report) countFunnel(q Query, learners map[uuid.UUID]*learnerFacts, signUps []signUp, keys, lessons map[uuid.UUID]time.Time) {
	r.Funnel = make([]Step, 4)
	sinceStart, sinceLast := make([][]time.Duration, 4), make([][]time.Duration, 4)
	for _, s := range signUps {
		if s.CreatedAt.Before(q.From) {
			continue
		}
		reached := [4]time.Time{s.CreatedAt, keys[s.ID], {}, lessons[s.ID]}
		if l := learners[s.ID]; l != nil && l.firstRun != nil {
			reached[2] = *l.firstRun
		}
		for i, at := range reached {
			if at.IsZero() {
				continue
			}
			r.Funnel[i].Reached++
			if i == 0 {
				continue
			}
			if took := at.Sub(s.CreatedAt); took >= 0 {
				sinceStart[i] = append(sinceStart[i], took)
			}
			if before := reached[i-1]; !before.IsZero() {
				r.Funnel[i].AfterLast++
				if took := at.Sub(before); took >= 0 {
					sinceLast[i] = append(sinceLast[i], took)
				}
			}
		}
	}
	for i := range r.Funnel {
		r.Funnel[i].SinceStart, r.Funnel[i].SinceLast = median(sinceStart[i]), median(sinceLast[i])
	}
}

// median is the one in the middle, or half-way between the two there.
func median(all []time.Duration) *time.Duration {
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	low, high := all[(len(all)-1)/2], all[len(all)/2]
	return new(low + (high-low)/2)
}

func sortTeams(teams []Team) {
	slices.SortFunc(teams, func(a, b Team) int {
		return cmp.Or(b.Cost.Cmp(a.Cost), cmp.Compare(b.Runs, a.Runs), cmp.Compare(a.Name, b.Name), bytes.Compare(a.ID[:], b.ID[:]))
	})
}
