package handlers

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/outreach"
	"github.com/promptcademy/promptops/views"
)

const keyHealthPath = "/keys/health"

// keyHealthPage is GET /keys/health.
func (s *Server) keyHealthPage(c echo.Context) error {
	status, problem := http.StatusOK, ""
	query, err := outreach.ParseQuery(c.QueryParams())
	if err != nil && fault.KindOf(err) == fault.Invalid {
		status, problem = http.StatusUnprocessableEntity, filterProblem(err)
		query, err = outreach.ParseQuery(nil)
	}
	if err != nil {
		return err
	}
	scope, err := outreachScope(c, query.TeamID)
	if err != nil {
		return err
	}
	ctx, now := c.Request().Context(), s.Now()
	report, err := s.Outreach.Report(ctx, scope, query, now)
	if err != nil {
		return err
	}
	page := s.keyHealthView(c, report, query, now)
	page.Page, page.Problem, page.Lead = s.page(c, "Key Health"), problem, scope.As != nil
	if err := s.keyHealthTrend(c, &page, report.Figures, scope, now); err != nil {
		return err
	}
	if scope.As == nil {
		if page.Filters.Teams, err = s.teamOptions(c, query.TeamID); err != nil {
			return err
		}
	}
	page.Whose = whose(page.Page.Teams, page.Filters.Teams)
	return s.render(c, status, views.KeyHealth(page))
}

// keyHealthCSV is GET /keys/health.csv: all learners of the list that the page
// shows for the same query.
func (s *Server) keyHealthCSV(c echo.Context) error {
	query, err := outreach.ParseQuery(c.QueryParams())
	if err != nil {
		return err
	}
	scope, err := outreachScope(c, query.TeamID)
	if err != nil {
		return err
	}
	learners, err := s.Outreach.List(c.Request().Context(), scope, query, s.Now())
	if err != nil {
		return err
	}
	var file bytes.Buffer
	if err := outreach.WriteCSV(&file, learners); err != nil {
		return err
	}
	c.Response().Header().Set("Content-Disposition", `attachment; filename="key-health-`+query.Show+`.csv"`)
	return c.Blob(http.StatusOK, "text/csv; charset=utf-8", file.Bytes())
}

// outreachScope is whom the page is about: for a lead always only their teams.
func outreachScope(c echo.Context, team *uuid.UUID) (outreach.Scope, error) {
	teams, err := scopeOf(c).teamIDs(team)
	return outreach.Scope{As: scopeOf(c).learner, Teams: teams}, err
}

// keyHealthTrend puts the trend on the page, of all learners or of one team: the
// learners of several teams overlap.
func (s *Server) keyHealthTrend(c echo.Context, page *views.KeyHealthPage, today outreach.Figures, scope outreach.Scope, now time.Time) error {
	var team *uuid.UUID
	switch {
	case len(scope.Teams) == 1:
		team = &scope.Teams[0]
	case scope.As != nil:
		page.NoTrend = "Choose one of your teams to see how it developed. A learner may be in several of them, so there is no sum."
		return nil
	}
	days, err := s.Outreach.Trend(c.Request().Context(), team, now)
	if err != nil {
		return err
	}
	if len(days) == 0 {
		page.NoTrend = "This is counted once a day from now on. Tomorrow there are two days to compare: yesterday and how it is then."
		return nil
	}
	var shown []views.HealthDay
	for _, d := range append(days, outreach.Day{Day: s.Outreach.Today(now), Learners: today.Learners, Usable: today.With, ActiveWithout: today.ActiveWithout, Broken: today.Broken}) {
		shown = append(shown, views.HealthDay{Day: d.Day, Learners: d.Learners, Usable: d.Usable, Active: d.ActiveWithout, Broken: d.Broken})
	}
	trend := views.HealthTrend(shown)
	page.Trend = &trend
	return nil
}

// teamOptions are the teams that an admin can choose.
func (s *Server) teamOptions(c echo.Context, chosen *uuid.UUID) ([]views.Option, error) {
	teams, err := s.Outreach.Teams(c.Request().Context())
	if err != nil {
		return nil, err
	}
	options := []views.Option{{Label: "All learners"}}
	for _, t := range teams {
		options = append(options, views.Option{Value: t.ID.String(), Label: t.Name})
	}
	id := ""
	if chosen != nil {
		id = chosen.String()
		if !slices.ContainsFunc(options, func(o views.Option) bool { return o.Value == id }) {
			return nil, fault.New(fault.NotFound, "There is no such team.")
		}
	}
	choose(options, id)
	return options, nil
}

// whose says whose figures the page shows.
func whose(led *views.TeamSwitch, teams []views.Option) string {
	if led != nil {
		return led.Now
	}
	for _, t := range teams {
		if t.Selected {
			return t.Label
		}
	}
	return "All learners"
}

// chosenLearners reads the learners of a form: ids, with the revision that was
// shown.
func chosenLearners(values url.Values) ([]outreach.Chosen, error) {
	var chosen []outreach.Chosen
	for _, text := range values["learner"] {
		id, revision, _ := strings.Cut(text, ".")
		learner, err := uuid.Parse(id)
		if err != nil {
			return nil, fault.New(fault.NotFound, "There is no such learner among those that you see here.")
		}
		n, _ := strconv.Atoi(revision) // anything else was never shown: somebody changed it meanwhile
		chosen = append(chosen, outreach.Chosen{ID: learner, Revision: n})
	}
	return chosen, nil
}

// backTo is the list that a form was sent from, as a query.
func backTo(values url.Values) string {
	back, err := url.ParseQuery(values.Get("back"))
	if err != nil {
		return ""
	}
	query, err := outreach.ParseQuery(back)
	if err != nil {
		return ""
	}
	return query.Values().Encode()
}

// workOn is POST /keys/health/actions.
func (s *Server) workOn(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	learners, err := chosenLearners(form)
	if err != nil {
		return err
	}
	back := strings.TrimSuffix(keyHealthPath+"?"+backTo(form), "?") + "#learners"
	if len(learners) == 0 {
		setFlash(c, flashNobodyChosen)
		return c.Redirect(http.StatusSeeOther, back)
	}
	action := outreach.Action{Verb: outreach.Verb(form.Get("action")), Learners: learners, Note: form.Get("note"), By: actorOf(c)}
	if action.Verb == outreach.Snooze {
		if action.Until, err = s.dayOf(c, form.Get("until")); err != nil {
			return err
		}
	}
	scope, err := outreachScope(c, nil)
	if err != nil {
		return err
	}
	outcome, err := s.Outreach.Act(c.Request().Context(), scope, action, s.Now())
	if err != nil {
		return err
	}
	setFlash(c, flashOutreach+"?"+outcomeCounts(string(action.Verb), outcome.Done, outcome.Refused).Encode())
	return c.Redirect(http.StatusSeeOther, back)
}

// dayOf is the beginning of a day in the operator's zone.
func (s *Server) dayOf(c echo.Context, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.ParseInLocation(time.DateOnly, text, s.zone(c))
	if err != nil {
		return time.Time{}, fault.InvalidFields([]fault.Field{{Field: "until", Message: "is not a day; write it like 2026-12-31"}})
	}
	return at, nil
}

// outcomeCounts is what the next page says.
func outcomeCounts(verb string, done int, refused []outreach.Refusal) url.Values {
	counts := url.Values{"verb": {verb}, "done": {strconv.Itoa(done)}}
	names := map[string]string{
		outreach.RefusedHasKey: "key", outreach.RefusedMeanwhile: "meanwhile", outreach.RefusedNothing: "nothing", outreach.RefusedOpenAlready: "open",
	}
	by := map[string]int{}
	for _, r := range refused {
		by[names[r.Why]]++
	}
	for name, n := range by {
		counts.Set(name, strconv.Itoa(n))
	}
	return counts
}

// learnerKeysPage is GET /keys/health/learners/:id.
func (s *Server) learnerKeysPage(c echo.Context) error {
	id, err := idParam(c, "id")
	if err != nil {
		return err
	}
	scope, err := outreachScope(c, nil)
	if err != nil {
		return err
	}
	ctx, now := c.Request().Context(), s.Now()
	found, err := s.Outreach.Find(ctx, scope, []uuid.UUID{id}, now)
	if err != nil {
		return err
	}
	history, err := s.Outreach.History(ctx, id, historySize)
	if err != nil {
		return err
	}
	nudges, err := s.Outreach.Nudges(ctx, id, historySize)
	if err != nil {
		return err
	}
	page := s.learnerKeysView(c, found[id], history, nudges, now)
	page.Page = s.page(c, found[id].Called())
	return s.render(c, http.StatusOK, views.LearnerKeys(page))
}

const historySize = 50

// invalid is a fault about fields of a form; anything else is to be answered as it
// is.
func invalid(err error) (*fault.Error, bool) {
	f, ok := errors.AsType[*fault.Error](err)
	return f, ok && f.Kind == fault.Invalid
}
