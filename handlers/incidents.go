package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/incident"
	"github.com/promptcademy/promptops/views"
)

const (
	incidentsPath    = "/incidents"
	incidentPageSize = 50
	toDoShown        = 50
	checkPatience    = 10 * time.Second // for a check while somebody waits
)

// openIncidents are those that every page tells of, to admins and to leads of a
// team. Only admins have a page for each.
func (s *Server) openIncidents(c echo.Context, admin bool) []views.OpenIncident {
	return openViews(s.Incidents.Shown(c.Request().Context(), s.Now()), admin, s.zone(c))
}

func openViews(briefs []incident.Brief, admin bool, zone *time.Location) []views.OpenIncident {
	var open []views.OpenIncident
	for _, b := range briefs {
		o := views.OpenIncident{Title: b.Title, Severity: b.Severity.String(), Status: string(b.Status), Since: views.MomentOf(b.DetectedAt, zone), Href: incidentsPath}
		if admin {
			o.Href += "/" + strconv.FormatInt(b.ID, 10)
		}
		open = append(open, o)
	}
	return open
}

// incidentsPage is GET /incidents. Team leads see what goes on, and no figures.
func (s *Server) incidentsPage(c echo.Context) error {
	if scopeOf(c).learner != nil {
		return s.leadIncidents(c)
	}
	status, problem := http.StatusOK, ""
	query, err := incident.ParseQuery(c.QueryParams(), s.zone(c))
	if err != nil && fault.KindOf(err) == fault.Invalid {
		status, problem = http.StatusUnprocessableEntity, filterProblem(err)
	} else if err != nil {
		return err
	}
	ctx := c.Request().Context()
	list, err := s.Incidents.List(ctx, query.Filter, incidentPageSize+1)
	if err != nil {
		return err
	}
	measures, err := s.Incidents.Measure(ctx, query.Filter)
	if err != nil {
		return err
	}
	toDo, total, err := s.Incidents.OpenFollowUps(ctx, toDoShown)
	if err != nil {
		return err
	}
	page := incidentsView(list, query, s.zone(c))
	page.Page, page.Filters, page.Filters.Problem = s.page(c, "Incidents"), incidentFilters(query, s.Now().In(s.zone(c))), problem
	if measures.Incidents > 0 {
		page.Figures = measureFigures(measures, total)
	}
	page.FollowUps = followUpViews(toDo, s.Now().In(s.zone(c)))
	if more := total - int64(len(toDo)); more > 0 {
		page.MoreToDo = views.Count(more)
	}
	return s.render(c, status, views.Incidents(page))
}

func (s *Server) leadIncidents(c echo.Context) error {
	briefs, err := s.Incidents.Unresolved(c.Request().Context())
	if err != nil {
		return err
	}
	return s.render(c, http.StatusOK, views.LeadIncidents(views.LeadIncidentsPage{Page: s.page(c, "Incidents"), Open: openViews(briefs, false, s.zone(c))}))
}

// incidentsCSV is GET /incidents.csv: all incidents that the filters let through.
func (s *Server) incidentsCSV(c echo.Context) error {
	query, err := incident.ParseQuery(c.QueryParams(), s.zone(c))
	if err != nil {
		return err
	}
	header := c.Response().Header()
	header.Set("Content-Type", "text/csv; charset=utf-8")
	header.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", "incidents-"+s.Now().In(s.zone(c)).Format(time.DateOnly)+".csv"))
	err = s.Incidents.WriteCSV(c.Request().Context(), c.Response(), query.OlderThan(0).Filter)
	if err != nil && c.Response().Committed {
		s.Log.Error("incidents_cut_off", "requestId", requestID(c), "error", err)
		panic(http.ErrAbortHandler) // half a file must not look like a whole one
	}
	if err != nil {
		header.Del("Content-Disposition")
		header.Del("Content-Type")
	}
	return err
}

// newIncident is GET /incidents/new, by hand or from ?check=<id>&step=<slug>.
func (s *Server) newIncident(c echo.Context) error {
	origin := incident.Origin{CheckID: c.QueryParam("check"), Step: stepOf(c.QueryParam("step"))}
	form := url.Values{"severity": {"2"}, "leadId": {callerOf(c).operatorID.String()}}
	var err error
	if origin, err = s.readInto(c, origin); err != nil && fault.KindOf(err) != fault.Invalid {
		return err
	}
	if r := origin.Reading; r != nil {
		form.Set("title", strings.TrimSuffix(r.Title+": "+r.Value, ": "))
	}
	return s.renderNewIncident(c, origin, form, err)
}

// startIncident is POST /incidents.
func (s *Server) startIncident(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	origin := incident.Origin{CheckID: form.Get("check"), Step: stepOf(form.Get("step"))}
	draft, err := s.draftOf(c, form, time.Time{})
	if err != nil {
		return s.renderNewIncident(c, origin, form, err)
	}
	if origin, err = s.readInto(c, origin); err != nil {
		return s.renderNewIncident(c, origin, form, err)
	}
	id, err := s.Incidents.Start(c.Request().Context(), actorOf(c), draft, origin, s.Now())
	if err != nil {
		return s.renderNewIncident(c, origin, form, err)
	}
	s.Log.Info("incident_started", "incidentId", id, "severity", draft.Severity.String(), "operatorId", callerOf(c).operatorID)
	setFlash(c, flashIncidentStarted)
	return c.Redirect(http.StatusSeeOther, incidentsPath+"/"+strconv.FormatInt(id, 10))
}

// readInto takes the reading of the check that an incident starts from. It is
// fault.Invalid, without a check, when there is none like that.
func (s *Server) readInto(c echo.Context, from incident.Origin) (incident.Origin, error) {
	if from.CheckID == "" || s.Reading == nil {
		from.CheckID = ""
		return from, nil
	}
	r, err := s.readCheck(c, from.CheckID)
	if err != nil {
		from.CheckID = ""
		return from, err
	}
	from.Reading = &r
	return from, nil
}

// readCheck takes the reading of a check. One that could not be taken says why;
// fault.Invalid, on the field check, is for a check that there is not.
func (s *Server) readCheck(c echo.Context, id string) (incident.Reading, error) {
	ctx, cancel := context.WithTimeout(c.Request().Context(), checkPatience)
	defer cancel()
	r, err := s.Reading(ctx, id)
	switch {
	case err == nil:
		return r, nil
	case fault.KindOf(err) == fault.NotFound:
		return r, fault.InvalidFields([]fault.Field{{Field: "check", Message: "is no check that there is; start without it, or choose another"}})
	case c.Request().Context().Err() != nil:
		return r, err
	}
	s.Log.Warn("check_not_read", "requestId", requestID(c), "check", id, "error", err)
	why := asFault(err).Message
	if ctx.Err() != nil {
		why = "It did not answer in time."
	}
	return incident.Unread(id, why, s.Now()), nil
}

var slug = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,79}$`)

// stepOf is a step of the runbook as an address names it; what is none is left out.
func stepOf(value string) string {
	if !slug.MatchString(value) {
		return ""
	}
	return value
}

const minute = "2006-01-02T15:04" // as browsers send a day and a time

// draftOf reads what an operator decides about an incident. kept is when it was
// detected so far: a form has minutes only, and one that was not changed changes
// nothing.
func (s *Server) draftOf(c echo.Context, form url.Values, kept time.Time) (incident.Draft, error) {
	d := incident.Draft{Title: form.Get("title"), DetectedAt: kept}
	if n, err := strconv.Atoi(form.Get("severity")); err == nil {
		d.Severity = incident.Severity(n)
	}
	var problems []fault.Field
	id, err := personOf(form.Get("leadId"))
	if err != nil {
		problems = append(problems, fault.Field{Field: "leadId", Message: "is nobody; choose an admin"})
	}
	d.LeadID = id
	if typed := form.Get("detectedAt"); typed != "" && (kept.IsZero() || typed != kept.In(s.zone(c)).Format(minute)) {
		if len(typed) > len(minute) {
			typed = typed[:len(minute)] // some browsers send seconds
		}
		if d.DetectedAt, err = time.ParseInLocation(minute, typed, s.zone(c)); err != nil {
			problems = append(problems, fault.Field{Field: "detectedAt", Message: "is not a moment like 2026-11-24T13:00"})
		}
	}
	if len(problems) > 0 {
		return d, fault.InvalidFields(problems)
	}
	return d, nil
}

func personOf(value string) (*uuid.UUID, error) {
	if value == "" {
		return nil, nil
	}
	id, err := uuid.Parse(value)
	return &id, err
}

// renderNewIncident shows the form; refused is why what was typed was not taken.
func (s *Server) renderNewIncident(c echo.Context, from incident.Origin, form url.Values, refused error) error {
	status, problem, problems, err := s.refusal(refused)
	if err != nil {
		return err
	}
	page := views.NewIncidentPage{Page: s.page(c, "Start an incident"), CheckID: from.CheckID, Step: from.Step, Problem: problem}
	if problems["check"] != "" {
		page.Problem = problems["check"]
	}
	if page.Form, err = s.incidentForm(c, form, problems); err != nil {
		return err
	}
	if r := from.Reading; r != nil {
		page.Reading = &views.IncidentReading{Title: r.Title, Verdict: r.Verdict, Value: r.Value, Detail: r.Detail, At: views.MomentOf(r.At, s.zone(c))}
	}
	return s.render(c, status, views.NewIncident(page))
}

func (s *Server) incidentForm(c echo.Context, form url.Values, problems map[string]string) (views.IncidentForm, error) {
	people, err := s.Incidents.People(c.Request().Context())
	if err != nil {
		return views.IncidentForm{}, err
	}
	f := views.IncidentForm{
		Title: form.Get("title"), DetectedAt: form.Get("detectedAt"), Zone: s.zone(c).String(), Problems: problems,
		Leads: personOptions(people, form.Get("leadId"), form.Get("leadName")),
	}
	for _, severity := range incident.Severities {
		f.Severities = append(f.Severities, views.Option{Value: strconv.Itoa(int(severity)), Label: severity.String() + ": " + severity.Words()})
	}
	choose(f.Severities, form.Get("severity"))
	return f, nil
}

// personOptions are the operators to choose from, and who is chosen already even
// if they could not be chosen any more.
func personOptions(people []incident.Person, chosen, name string) []views.Option {
	options := []views.Option{{Label: "Nobody yet"}}
	found := chosen == ""
	for _, p := range people {
		options = append(options, views.Option{Value: p.ID.String(), Label: p.Name})
		found = found || p.ID.String() == chosen
	}
	if !found && name != "" {
		options = append(options, views.Option{Value: chosen, Label: name})
	}
	choose(options, chosen)
	return options
}

func incidentsView(list []incident.Listed, q incident.Query, zone *time.Location) views.IncidentsPage {
	page := views.IncidentsPage{CSV: addressOf(incidentsPath+".csv", q.OlderThan(0).Values())}
	if q.Before != 0 {
		page.Newest = addressOf(incidentsPath, q.OlderThan(0).Values())
	}
	if len(list) > incidentPageSize {
		list = list[:incidentPageSize]
		page.Older = addressOf(incidentsPath, q.OlderThan(list[incidentPageSize-1].ID).Values())
	}
	for _, i := range list {
		row := incidentRow(i.Incident, zone)
		if i.OpenFollowUps > 0 {
			row.FollowUps = views.Count(i.OpenFollowUps)
		}
		page.Incidents = append(page.Incidents, row)
	}
	return page
}

func incidentRow(i incident.Incident, zone *time.Location) views.IncidentRow {
	row := views.IncidentRow{
		ID: strconv.FormatInt(i.ID, 10), Title: i.Title, Severity: i.Severity.String(), Words: i.Severity.Words(), Status: string(i.Status),
		Lead: i.LeadName, Detected: views.MomentOf(i.DetectedAt, zone),
	}
	if d, ok := i.ToAcknowledge(); ok {
		row.ToAcknowledge = incident.Span(d)
	}
	if d, ok := i.ToResolve(); ok {
		row.ToResolve = incident.Span(d)
	}
	return row
}

func incidentFilters(q incident.Query, now time.Time) views.IncidentFilters {
	f := views.IncidentFilters{
		Statuses: []views.Option{
			{Label: "Every status"}, {Value: incident.Unresolved, Label: "Not resolved"},
			{Value: "open", Label: "Open"}, {Value: "mitigated", Label: "Mitigated"}, {Value: "resolved", Label: "Resolved"},
		},
		Severities: []views.Option{{Label: "Every severity"}, {Value: "1", Label: "SEV1"}, {Value: "2", Label: "SEV2"}, {Value: "3", Label: "SEV3"}},
		From:       q.FirstDay(), To: q.LastDay(), Today: now.Format(time.DateOnly), Narrowed: q.Narrowed(),
	}
	choose(f.Statuses, q.Status)
	choose(f.Severities, q.SeverityText())
	return f
}

// measureFigures say how well incidents were looked after.
func measureFigures(m incident.Measures, toDo int64) []views.KeyFigure {
	span := func(label string, d *time.Duration, of int64) views.KeyFigure {
		f := views.KeyFigure{Label: label, Value: "–", Note: "of none"}
		if d != nil {
			f.Value, f.Note = incident.Span(*d), "of "+plural(of, "incident", "incidents")
		}
		return f
	}
	return []views.KeyFigure{
		{Label: "Incidents", Value: views.Count(m.Incidents), Note: views.Count(m.Incidents-m.Resolved) + " not resolved"},
		span("Mean to acknowledge", m.MeanToAcknowledge, m.Acknowledged), span("Median to acknowledge", m.MedianToAcknowledge, m.Acknowledged),
		span("Mean to resolve", m.MeanToResolve, m.Resolved), span("Median to resolve", m.MedianToResolve, m.Resolved),
		{Label: "Left to do", Value: views.Count(toDo), Note: "over all incidents"},
	}
}

func followUpViews(list []incident.FollowUp, today time.Time) []views.FollowUpRow {
	var rows []views.FollowUpRow
	for _, f := range list {
		row := views.FollowUpRow{
			ID: strconv.FormatInt(f.ID, 10), IncidentID: strconv.FormatInt(f.IncidentID, 10), Incident: f.IncidentTitle,
			Body: f.Body, Owner: f.OwnerName, Late: f.Late(today), Done: f.DoneAt != nil, Revision: strconv.Itoa(f.Revision),
		}
		if f.DueOn != nil {
			row.Due = f.DueOn.Format("2 Jan 2006")
		}
		rows = append(rows, row)
	}
	return rows
}
