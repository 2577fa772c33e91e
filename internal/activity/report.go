package activity

import (
	"bytes"
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

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
	Before    Before // the same of the period before

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

// Before are figures of the period of as many days before the one asked for.
type Before struct {
	Active    int
	Monthly   int // in the thirty days until its end
	PerDay    float64
	SignUps   int
	Started   int64
	Completed int64
	Spent     Spent
}

// Stickiness is the part of the month's active learners that comes on a day, 0 to
// 1.
func (r Report) Stickiness() float64 { return stickiness(r.PerDay, r.Monthly) }

// Stickiness is that of the period before.
func (b Before) Stickiness() float64 { return stickiness(b.PerDay, b.Monthly) }

func stickiness(perDay float64, monthly int) float64 {
	if monthly == 0 {
		return 0
	}
	return perDay / float64(monthly)
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
	Scored    int64     // of those completed
	Score     price.USD // the sum of their scores: exact, as money is
}

func (l *Lesson) add(o Lesson) {
	l.Started, l.Completed, l.Scored, l.Score = l.Started+o.Started, l.Completed+o.Completed, l.Scored+o.Scored, l.Score.Add(o.Score)
}

// Average is the average score; nil: none has one.
func (l Lesson) Average() *float64 {
	if l.Scored == 0 {
		return nil
	}
	return new(l.Score.Decimal().DivRound(decimal.NewFromInt(l.Scored), 4).InexactFloat64())
}

// EventCount is how often something was done with templates.
type EventCount struct {
	Event string
	Count int64
}

// Template is what was done with one template.
type Template struct {
	ID                                    uuid.UUID
	Title                                 string // "" when it is not for the reader
	Used, Viewed, Forked, Shared, Created int64
}

func (t *Template) add(o Template) {
	t.Used, t.Viewed, t.Forked, t.Shared, t.Created = t.Used+o.Used, t.Viewed+o.Viewed, t.Forked+o.Forked, t.Shared+o.Shared, t.Created+o.Created
}

func (t *Template) all() int64 { return t.Used + t.Viewed + t.Forked + t.Shared + t.Created }

// Team is what was run for a team, and what its present members learned.
type Team struct {
	ID        uuid.UUID
	Name      string // "" when it is gone
	Members   int64
	Active    int       // learners who ran something for it
	Completed int64     // lessons, by members
	LastRunAt time.Time // in the period
	Spent
}

func (t *Team) addRuns(spent Spent, lastAt time.Time) {
	t.add(spent)
	if lastAt.After(t.LastRunAt) {
		t.LastRunAt = lastAt
	}
}

// Quiet is a learner whose last run failed, and who has run nothing since.
type Quiet struct {
	LearnerID uuid.UUID
	Email     string
	RunID     uuid.UUID
	At        time.Time
	Class     string // of the error; "" when none is known
}

// horizon is how many days a set of days can hold: two of the longest periods and
// the month before.
const horizon = 832

// daySet is on which of the days that are looked at somebody was active.
type daySet [horizon / 64]uint64

func (s *daySet) has(day int) bool { return s[day/64]&(1<<(day%64)) != 0 }

func (s *daySet) add(day int) { s[day/64] |= 1 << (day % 64) }

// each calls fn with every day of the set, in order.
func (s *daySet) each(fn func(day int)) {
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			fn(i*64 + bits.TrailingZeros64(word))
		}
	}
}

// any says whether one of the days from first to last is in the set.
func (s *daySet) any(first, last int) bool {
	first, last = max(first, 0), min(last, horizon-1)
	for i := first / 64; first <= last && i <= last/64; i++ {
		word := s[i]
		if i == first/64 {
			word &= ^uint64(0) << (first % 64)
		}
		if i == last/64 {
			word &= ^uint64(0) >> (63 - last%64)
		}
		if word != 0 {
			return true
		}
	}
	return false
}

// setOf reads a bit string, whose first bit is the first of the days looked at.
func setOf(b []byte) (s daySet) {
	for i, eight := range b[:min(len(b), horizon/8)] {
		s[i/8] |= uint64(bits.Reverse8(eight)) << (i % 8 * 8)
	}
	return s
}

// signUp is an account that was made in the period, in the one before it, or in a
// week of the cohorts.
type signUp struct {
	ID        uuid.UUID
	CreatedAt time.Time
	FirstKey  time.Time // zero: none
	did       int       // place of what is known of them; -1: nothing
}

func daysOf(q Query) []Day {
	starts := period.Starts(q.FirstDay(), q.LastDay(), q.Zone)
	days := make([]Day, len(starts)-1)
	for i := range days {
		days[i] = Day{Day: q.FirstDay().Plus(i), Start: starts[i], End: starts[i+1]}
	}
	return days
}

// dayOf is the place of a day in the period; -1: it is not in it.
func (c *count) dayOf(at time.Time) int {
	day := c.q.FirstDay().Until(period.DayOf(at, c.q.Zone))
	if day < 0 || day >= len(c.report.Days) {
		return -1
	}
	return day
}

// finish fills in everything that depends on who was active when.
func (c *count) finish(now time.Time) {
	r := c.report
	base, end := c.base, c.base+len(r.Days)
	r.Active, r.Before.Active = c.active(base, end), c.active(base-len(r.Days), base)
	r.PerDay, r.Monthly = c.month(end)
	r.Before.PerDay, r.Before.Monthly = c.month(base)
	c.countDays(base, end)
	r.Weekly = r.Days[len(r.Days)-1].Weekly
	before, _ := c.q.Before()
	for _, s := range c.signUps {
		if i := c.dayOf(s.CreatedAt); i >= 0 {
			r.Days[i].SignUps++
			r.SignUps++
		} else if s.CreatedAt.Before(c.q.From) && !s.CreatedAt.Before(before) {
			r.Before.SignUps++
		}
	}
	c.countCohorts(now)
	c.countFunnel()
}

// active is how many learners were active on one of the days from first on and
// before end.
func (c *count) active(first, end int) (n int) {
	for i := range c.learners.all {
		if c.learners.all[i].days.any(first, end-1) {
			n++
		}
	}
	return n
}

// month is how many learners were active in the thirty days before end: on a day,
// on average, and in all.
func (c *count) month(end int) (perDay float64, all int) {
	var month daySet
	for day := max(end-monthDays, 0); day < end; day++ {
		month.add(day)
	}
	visits := 0
	for at := range c.learners.all {
		days := 0
		for i, word := range c.learners.all[at].days {
			days += bits.OnesCount64(word & month[i])
		}
		if visits += days; days > 0 {
			all++
		}
	}
	return float64(visits) / monthDays, all
}

// countDays counts who was active on each day, and in the week and the month until
// it. A learner counts from a day on which they were active until they have not
// been for a week, or a month.
func (c *count) countDays(base, end int) {
	days := c.report.Days
	weekly, monthly := make([]int, len(days)+1), make([]int, len(days)+1) // how many more than the day before
	from, until := 0, 0
	span := func(changes []int, length, seen, next int) {
		from, until = max(seen, base), min(seen+length, next, end)
		if from < until {
			changes[from-base]++
			changes[until-base]--
		}
	}
	for i := range c.learners.all {
		l := &c.learners.all[i]
		last := -1
		l.days.each(func(day int) {
			if last >= 0 {
				span(weekly, weekDays, last, day)
				span(monthly, monthDays, last, day)
			}
			if day >= base && day < end {
				days[day-base].Active++
			}
			last = day
		})
		if last >= 0 {
			span(weekly, weekDays, last, end)
			span(monthly, monthDays, last, end)
		}
	}
	week, month := 0, 0
	for i := range days {
		week, month = week+weekly[i], month+monthly[i]
		days[i].Weekly, days[i].Monthly = week, month
	}
}

func (c *count) countCohorts(now time.Time) {
	first, weeks := c.q.cohorts()
	base := c.plan.first.Until(first)
	today := period.DayOf(now, c.q.Zone)
	reached := max(min(weeks, max(first.Until(today), -1)/weekDays+1), 0) // weeks that have begun
	cohorts := make([]Cohort, reached)
	for i := range cohorts {
		cohorts[i] = Cohort{Week: first.Plus(weekDays * i), Active: make([]int, reached-i), Going: first.Plus(weekDays*reached).Until(today) < 0}
	}
	for _, s := range c.signUps {
		at := first.Until(period.DayOf(s.CreatedAt, c.q.Zone))
		if at < 0 || at/weekDays >= len(cohorts) {
			continue
		}
		cohort := &cohorts[at/weekDays]
		cohort.Size++
		if s.did < 0 {
			continue
		}
		l := &c.learners.all[s.did]
		for week := range cohort.Active {
			monday := base + (at/weekDays+week)*weekDays
			if l.days.any(monday, monday+weekDays-1) {
				cohort.Active[week]++
			}
		}
	}
	c.report.Cohorts = cohorts
}

// countFunnel follows those who signed up in the period.
func (c *count) countFunnel() {
	steps := make([]Step, 4)
	sinceStart, sinceLast := make([][]time.Duration, 4), make([][]time.Duration, 4)
	for _, s := range c.signUps {
		if s.CreatedAt.Before(c.q.From) {
			continue
		}
		reached := [4]time.Time{s.CreatedAt, s.FirstKey}
		if s.did >= 0 {
			l := &c.learners.all[s.did]
			reached[2], reached[3] = l.firstRun, l.firstLesson
		}
		for i, at := range reached {
			if at.IsZero() {
				continue
			}
			steps[i].Reached++
			if i == 0 {
				continue
			}
			if took := at.Sub(s.CreatedAt); took >= 0 {
				sinceStart[i] = append(sinceStart[i], took)
			}
			if before := reached[i-1]; !before.IsZero() {
				steps[i].AfterLast++
				if took := at.Sub(before); took >= 0 {
					sinceLast[i] = append(sinceLast[i], took)
				}
			}
		}
	}
	for i := range steps {
		steps[i].SinceStart, steps[i].SinceLast = median(sinceStart[i]), median(sinceLast[i])
	}
	c.report.Funnel = steps
}

// countEvents sums up templates by what was done.
func (r *Report) countEvents() {
	var all Template
	for _, t := range r.Templates {
		all.add(t)
	}
	for _, e := range []EventCount{{"viewed", all.Viewed}, {"used", all.Used}, {"forked", all.Forked}, {"shared", all.Shared}, {"created", all.Created}} {
		if e.Count > 0 {
			r.Events = append(r.Events, e)
		}
	}
	slices.SortStableFunc(r.Events, func(a, b EventCount) int { return cmp.Compare(b.Count, a.Count) })
}

func mostUsed(templates []Template) []Template {
	slices.SortFunc(templates, func(a, b Template) int {
		return cmp.Or(cmp.Compare(b.Used, a.Used), cmp.Compare(b.all(), a.all()), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return templates[:min(len(templates), mostTemplates)]
}

// sortLessons puts them in their order; those that are not for the reader last.
func sortLessons(lessons []Lesson, positions map[uuid.UUID]int) {
	place := func(l Lesson) int {
		if position, known := positions[l.ID]; known {
			return position
		}
		return math.MaxInt
	}
	slices.SortFunc(lessons, func(a, b Lesson) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a.Title, b.Title), bytes.Compare(a.ID[:], b.ID[:]))
	})
}

// sortQuiet puts the latest first.
func sortQuiet(quiet []Quiet) {
	slices.SortFunc(quiet, func(a, b Quiet) int {
		return cmp.Or(b.At.Compare(a.At), bytes.Compare(b.RunID[:], a.RunID[:]))
	})
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
