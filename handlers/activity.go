package handlers

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/activity"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/views"
)

// teamsOnPage is how many teams the page compares; the file has all.
const teamsOnPage = 50

// activityPage is GET /activity; htmx gets the part that changes with the filters.
func (s *Server) activityPage(c echo.Context) error {
	if view, err := s.opensWith(c, "/activity"); err != nil || view != "" {
		return redirectOr(c, view, err)
	}
	status, problem := http.StatusOK, ""
	query, err := activity.ParseQuery(c.QueryParams(), s.Now(), s.zone(c))
	if err != nil && fault.KindOf(err) == fault.Invalid {
		status, problem = http.StatusUnprocessableEntity, filterProblem(err)
		query, err = activity.ParseQuery(url.Values{}, s.Now(), s.zone(c))
	}
	if err != nil {
		return err
	}
	store, query, err := s.activityOf(c, query)
	if err != nil {
		return err
	}
	report, err := store.Report(c.Request().Context(), query, s.Now())
	if err != nil {
		return err
	}
	page := activityView(report, query, s.Now())
	if page.Teams, err = s.activityTeams(c, store, query); err != nil {
		return err
	}
	page.Page, page.Problem = s.page(c, "User Activity"), problem
	if page.Saved, err = s.savedViews(c, "/activity", query.Values()); err != nil {
		return err
	}
	if c.Request().Header.Get("HX-Request") != "" {
		return s.renderFragment(c, status, views.ActivityContent(page))
	}
	return s.render(c, status, views.Activity(page))
}

// activityCSV is GET /activity.csv: one table of the page.
func (s *Server) activityCSV(c echo.Context) error {
	query, err := activity.ParseQuery(c.QueryParams(), s.Now(), s.zone(c))
	if err != nil {
		return err
	}
	table := cmp.Or(c.QueryParam("table"), "days")
	if !slices.Contains(activity.Tables, table) {
		return fault.InvalidFields([]fault.Field{{Field: "table", Message: "must be one of " + strings.Join(activity.Tables, ", ")}})
	}
	store, query, err := s.activityOf(c, query)
	if err != nil {
		return err
	}
	report, err := store.Report(c.Request().Context(), query, s.Now())
	if err != nil {
		return err
	}
	var file bytes.Buffer
	if err := activity.WriteCSV(&file, report, table); err != nil {
		return err
	}
	return sendCSV(c, fmt.Sprintf("activity-%s-%s-to-%s", table, query.FirstDay(), query.LastDay()), file.Bytes())
}

// activityOf limits a query to whom the operator may see.
func (s *Server) activityOf(c echo.Context, q activity.Query) (*activity.Store, activity.Query, error) {
	who := scopeOf(c)
	var err error
	q.TeamIDs, err = who.teamIDs(q.TeamID)
	if who.learner != nil {
		return s.Activity.As(*who.learner), q, err
	}
	return s.Activity, q, err
}

// activityTeams are the teams to choose from.
func (s *Server) activityTeams(c echo.Context, store *activity.Store, q activity.Query) ([]views.Option, error) {
	options := []views.Option{{Label: "Everybody"}}
	if who := scopeOf(c); who.learner != nil {
		options[0].Label = "All my teams"
		for _, team := range who.teams {
			options = append(options, views.Option{Value: team.ID.String(), Label: team.Name})
		}
	} else {
		teams, err := store.Teams(c.Request().Context())
		if err != nil {
			return nil, err
		}
		for _, team := range teams {
			options = append(options, views.Option{Value: team.ID.String(), Label: team.Name})
		}
	}
	chooseAny(&options, idOf(q.TeamID))
	return options, nil
}

// activityView writes out a report.
func activityView(r activity.Report, q activity.Query, now time.Time) views.ActivityPage {
	query := q.Values()
	page := views.ActivityPage{
		Choice: periodChoice(q.Period, now), Period: views.DayRange(q.From, q.To.Add(-time.Nanosecond).In(q.Zone)),
		Narrowed: q.TeamID != nil, Limited: q.TeamIDs != nil,
		Empty: r.Active == 0 && r.Monthly == 0 && r.SignUps == 0 && len(r.Quiet) == 0, CSV: map[string]string{},
	}
	if page.Empty {
		return page
	}
	for _, table := range activity.Tables {
		query.Set("table", table)
		page.CSV[table] = "/activity.csv?" + query.Encode()
	}
	page.Figures = activityFigures(r)
	before, _ := q.Before()
	page.Before = views.DayRange(before, q.From.Add(-time.Nanosecond).In(q.Zone))
	page.Going = q.To.After(now)
	page.Active, page.Learning = activityCharts(r)
	page.Cohorts, page.Weeks = cohortLines(r.Cohorts)
	page.Funnel = funnelLines(r.Funnel)
	page.Lessons, page.Events, page.Templates = lessonLines(r.Lessons), eventLines(r.Events), templateLines(r.Templates, q)
	page.ByTeam = teamLines(r.Teams[:min(len(r.Teams), teamsOnPage)], q)
	if more := len(r.Teams) - len(page.ByTeam); more > 0 {
		page.MoreTeams = views.Count(int64(more))
	}
	page.Quiet = quietLines(r.Quiet, q.Zone, now)
	if more := r.QuietAll - len(r.Quiet); more > 0 {
		page.MoreQuiet = views.Count(int64(more))
	}
	return page
}

func activityFigures(r activity.Report) []views.KeyFigure {
	stickiness := views.KeyFigure{Label: "Stickiness", Value: "–", Note: "nobody was active in 30 days"}
	if r.Monthly > 0 {
		stickiness.Value = strconv.FormatFloat(r.Stickiness()*100, 'f', 1, 64) + "%"
		stickiness.Note = strconv.FormatFloat(r.PerDay, 'f', 1, 64) + " a day of " + views.Count(int64(r.Monthly)) + " in 30 days"
	}
	before := r.Before
	if r.Monthly > 0 && before.Monthly > 0 {
		stickiness.Change = views.PointsFrom(r.Stickiness()*100, before.Stickiness()*100, strconv.FormatFloat(before.Stickiness()*100, 'f', 1, 64)+"%")
	}
	count := func(now, before int64) views.Change {
		return views.ChangeFrom(decimal.NewFromInt(now), decimal.NewFromInt(before), views.Count(before))
	}
	perLearner, perLesson := costPer("Cost per active learner", r.Spent, int64(r.Active)), costPer("Cost per completed lesson", r.Spent, r.Completed)
	perLearner.Change = costChange(r.Spent, int64(r.Active), before.Spent, int64(before.Active))
	perLesson.Change = costChange(r.Spent, r.Completed, before.Spent, before.Completed)
	return []views.KeyFigure{
		{
			Label: "Active learners", Value: views.Count(int64(r.Active)), Note: views.Count(int64(r.Weekly)) + " in the last 7 days",
			Change: count(int64(r.Active), int64(before.Active)),
		},
		stickiness,
		{Label: "Sign-ups", Value: views.Count(int64(r.SignUps)), Note: "in the period", Change: count(int64(r.SignUps), int64(before.SignUps))},
		{Label: "Lessons completed", Value: views.Count(r.Completed), Note: views.Count(r.Started) + " started", Change: count(r.Completed, before.Completed)},
		perLearner,
		perLesson,
	}
}

// costChange compares what one of something cost; where either is not known, there
// is nothing to compare.
func costChange(now activity.Spent, n int64, before activity.Spent, m int64) views.Change {
	if !now.Known() || !before.Known() || n == 0 || m == 0 {
		return views.Change{}
	}
	return views.ChangeFrom(each(now, n), each(before, m), views.Money(each(before, m)))
}

// costPer is what runs cost, divided by how many there are of something.
func costPer(label string, spent activity.Spent, n int64) views.KeyFigure {
	f := views.KeyFigure{Label: label, Value: "–"}
	if spent.Unpriced > 0 {
		f.Badge = views.Count(spent.Unpriced) + " unpriced"
	}
	if !spent.Known() {
		f.Value, f.Note = "Unknown", "no run has a price"
		return f
	}
	f.Note, f.Exact = views.Money(spent.Cost.Decimal())+" in all", views.MoneyExact(spent.Cost.Decimal())+" in all"
	if n > 0 {
		f.Value = views.Money(each(spent, n))
	}
	return f
}

// each is a part of an amount, to more digits than are shown.
func each(spent activity.Spent, n int64) decimal.Decimal {
	return spent.Cost.Decimal().DivRound(decimal.NewFromInt(n), 12)
}

func activityCharts(r activity.Report) (active, learning views.Chart) {
	days := make([]time.Time, len(r.Days))
	lines := []views.Counts{{Name: "On the day"}, {Name: "In 7 days"}, {Name: "In 30 days"}}
	bars := []views.Counts{{Name: "Started"}, {Name: "Completed"}}
	for i, d := range r.Days {
		days[i] = d.Start
		for n, value := range []int{d.Active, d.Weekly, d.Monthly} {
			lines[n].Values = append(lines[n].Values, int64(value))
		}
		bars[0].Values, bars[1].Values = append(bars[0].Values, d.LessonsStarted), append(bars[1].Values, d.LessonsCompleted)
	}
	return views.DailyCounts("active-learners", "Active learners", "On each day, in the 7 and in the 30 days until it", views.Count(int64(r.Active)), false, days, lines),
		views.DailyCounts("lessons-by-day", "Lessons started and completed", "Lessons per day", views.Count(r.Completed)+" completed", true, days, bars)
}

func cohortLines(cohorts []activity.Cohort) (lines []views.CohortLine, weeks []string) {
	for i, c := range cohorts {
		line := views.CohortLine{Week: dayLabel(c.Week.String()), Size: views.Count(int64(c.Size))}
		for week, active := range c.Active {
			line.Cells = append(line.Cells, views.CohortCellOf(active, c.Size, c.Going && week == len(c.Active)-1))
		}
		lines, weeks = append(lines, line), append(weeks, strconv.Itoa(i))
	}
	return lines, weeks
}

// dayLabel is a date as people write it.
func dayLabel(date string) string {
	at, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return date
	}
	return at.Format("2 Jan 2006")
}

func funnelLines(steps []activity.Step) []views.FunnelLine {
	lines := make([]views.FunnelLine, len(steps))
	for i, step := range steps {
		lines[i] = views.FunnelLine{
			Name: activity.StepNames[i], Reached: views.Count(int64(step.Reached)), OfStart: views.Percent(int64(step.Reached), int64(steps[0].Reached)),
			SinceStart: spanOf(step.SinceStart), SinceLast: spanOf(step.SinceLast),
		}
		if steps[0].Reached > 0 {
			lines[i].Bar = float64(step.Reached) / float64(steps[0].Reached)
		}
		if i > 0 {
			lines[i].OfLast = views.Percent(int64(step.AfterLast), int64(steps[i-1].Reached))
		} else {
			lines[i].SinceStart, lines[i].SinceLast = "", ""
		}
	}
	return lines
}

func spanOf(d *time.Duration) string {
	if d == nil {
		return "–"
	}
	return views.Span(*d)
}

func lessonLines(lessons []activity.Lesson) []views.LessonLine {
	lines := make([]views.LessonLine, len(lessons))
	for i, l := range lessons {
		lines[i] = views.LessonLine{
			Title: cmp.Or(l.Title, "A lesson that is not published"), Started: views.Count(l.Started), Completed: views.Count(l.Completed),
			Rate: views.Percent(l.Completed, l.Started), RateExact: views.Count(l.Completed) + " completed, " + views.Count(l.Started) + " started", Score: "–",
		}
		if average := l.Average(); average != nil {
			lines[i].Score = strconv.FormatFloat(*average, 'f', 1, 64)
		}
	}
	return lines
}

func eventLines(events []activity.EventCount) []views.EventLine {
	lines := make([]views.EventLine, len(events))
	for i, e := range events {
		lines[i] = views.EventLine{Event: strings.ToUpper(e.Event[:1]) + e.Event[1:], Count: views.Count(e.Count)}
	}
	return lines
}

func templateLines(templates []activity.Template, q activity.Query) []views.TemplateLine {
	lines := make([]views.TemplateLine, len(templates))
	for i, t := range templates {
		runs := q.Values()
		runs.Set("template", t.ID.String())
		lines[i] = views.TemplateLine{
			Title: cmp.Or(t.Title, "A template that is private"), RunsHref: "/runs?" + runs.Encode(),
			Used: views.Count(t.Used), Viewed: views.Count(t.Viewed), Forked: views.Count(t.Forked), Shared: views.Count(t.Shared), Created: views.Count(t.Created),
		}
	}
	return lines
}

func teamLines(teams []activity.Team, q activity.Query) []views.TeamLine {
	lines := make([]views.TeamLine, len(teams))
	for i, t := range teams {
		query := q.Values()
		query.Set("team", t.ID.String())
		lines[i] = views.TeamLine{
			Name: cmp.Or(t.Name, "Deleted team"), Href: "/activity?" + query.Encode(),
			Members: views.Count(t.Members), Active: views.Count(int64(t.Active)), Lessons: views.Count(t.Completed), Runs: views.Count(t.Runs), Cost: "Unknown", Each: "–",
			LastRun: views.ShortMomentOf(t.LastRunAt, q.Zone),
		}
		if t.Unpriced > 0 {
			lines[i].Unpriced = views.Count(t.Unpriced)
		}
		if t.Known() {
			lines[i].Cost, lines[i].Exact = views.Money(t.Cost.Decimal()), views.MoneyExact(t.Cost.Decimal())
			lines[i].Each = views.Money(each(t.Spent, int64(max(t.Active, 1))))
		}
	}
	return lines
}

func quietLines(quiet []activity.Quiet, zone *time.Location, now time.Time) []views.QuietLine {
	lines := make([]views.QuietLine, len(quiet))
	for i, q := range quiet {
		lines[i] = views.QuietLine{
			Email: cmp.Or(q.Email, "No address"), Href: learnerPath(q.LearnerID), RunHref: "/runs/" + q.RunID.String(), At: views.ShortMomentOf(q.At, zone),
			Error: "–", Days: plural(int64(now.Sub(q.At)/(24*time.Hour)), "day", "days"),
		}
		if q.Class != "" {
			lines[i].Error = views.ErrorLabels([]string{q.Class})
		}
	}
	return lines
}

func learnerPath(id uuid.UUID) string { return "/learners/" + id.String() }
