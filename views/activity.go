package views

import (
	"strconv"
	"time"
)

// ActivityPage is User Activity: what learners do, and what that costs.
type ActivityPage struct {
	Page
	Choice    PeriodChoice
	Teams     []Option // the first is all that may be seen, with the value ""
	Problem   string   // why the filters could not be used as given; "" when they could
	Narrowed  bool     // a team is chosen
	Limited   bool     // only some teams may be seen, or one is chosen
	Period    string   // "25 Oct – 23 Nov 2026"
	Empty     bool     // nobody did anything, ever: nothing below is shown
	Before    string   // the days before, to which figures are compared
	Going     bool     // the period is not over
	Figures   []KeyFigure
	Active    Chart
	Learning  Chart
	Cohorts   []CohortLine
	Weeks     []string // heads of the cohorts' columns: "0", "1" …
	Funnel    []FunnelLine
	Lessons   []LessonLine
	Events    []EventLine
	Templates []TemplateLine
	ByTeam    []TeamLine
	MoreTeams string // how many are not in ByTeam, "450"; "" when all are
	Quiet     []QuietLine
	MoreQuiet string            // how many are not in Quiet
	CSV       map[string]string // address by table
}

// CohortLine are those who signed up in a week.
type CohortLine struct {
	Week  string // "3 Nov 2026"
	Size  string
	Cells []CohortCell
}

// CohortCell is who of a cohort was active in one week.
type CohortCell struct {
	Share string // "45%"
	Exact string // "9 of 20, so far"
	Shade int    // 0..9: how dark
	Going bool   // the week is not over
}

// CohortCellOf is part of whole.
func CohortCellOf(part, whole int, going bool) CohortCell {
	c := CohortCell{Share: "–", Exact: Count(int64(part)) + " of " + Count(int64(whole)), Going: going}
	if whole > 0 {
		share := float64(part) / float64(whole)
		c.Share = strconv.FormatFloat(share*100, 'f', 0, 64) + "%"
		c.Shade = min(int(share*10), 9)
	}
	if going {
		c.Exact += ", so far"
	}
	return c
}

// FunnelLine is one step from sign-up on.
type FunnelLine struct {
	Name       string
	Reached    string
	OfStart    string  // of those who signed up, "45.2%"
	OfLast     string  // of those who reached the step before; "" for the first one
	SinceStart string  // median time
	SinceLast  string  // median time
	Bar        float64 // OfStart, 0 to 1
}

// LessonLine is what became of a lesson.
type LessonLine struct{ Title, Started, Completed, Rate, RateExact, Score string }

// EventLine is how often something was done with templates.
type EventLine struct{ Event, Count string }

// TemplateLine is what was done with a template.
type TemplateLine struct{ Title, RunsHref, Used, Viewed, Forked, Shared, Created string }

// TeamLine is what was run for a team.
type TeamLine struct {
	Name, Href, Members, Active, Lessons, Runs string
	Cost, Each                                 string // "Unknown", and "–", when they are
	Exact, Unpriced                            string
	LastRun                                    Moment
}

// QuietLine is a learner who has run nothing since a run failed.
type QuietLine struct {
	Email, Href, RunHref string
	At                   Moment
	Error                string // "Rate limited"
	Days                 string // "12 days"
}

// width is a share's bar in its 48 units.
func (f FunnelLine) width() string {
	return strconv.FormatFloat(min(max(f.Bar, 0), 1)*48, 'f', 1, 64)
}

// Span writes a time that may be long, with its two largest units: "3 d 4 h",
// "2 h 5 min", "40 s".
func Span(d time.Duration) string {
	two := func(big, small time.Duration, bigUnit, smallUnit string) string {
		text := Count(int64(d/big)) + " " + bigUnit
		if rest := d % big / small; rest > 0 {
			text += " " + strconv.FormatInt(int64(rest), 10) + " " + smallUnit
		}
		return text
	}
	const day = 24 * time.Hour
	switch {
	case d >= day:
		return two(day, time.Hour, "d", "h")
	case d >= time.Hour:
		return two(time.Hour, time.Minute, "h", "min")
	case d >= time.Minute:
		return two(time.Minute, time.Second, "min", "s")
	default:
		return strconv.FormatInt(int64(d/time.Second), 10) + " s"
	}
}
