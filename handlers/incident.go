package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/incident"
	"github.com/promptcademy/promptops/views"
)

// maxIncidentForm has room for every part of a post-mortem at its longest, in any
// script: a character takes up to twelve bytes of a form.
const maxIncidentForm = 1 << 20

// incidentPage is GET /incidents/:id.
func (s *Server) incidentPage(c echo.Context) error {
	id, err := numberParam(c, "id")
	if err != nil {
		return err
	}
	return s.renderIncident(c, id, nil, nil)
}

// numberParam is a number in the address; what is none is fault.NotFound.
func numberParam(c echo.Context, name string) (int64, error) {
	n, err := strconv.ParseInt(c.Param(name), 10, 64)
	if err != nil || n < 1 || c.Param(name) != strconv.FormatInt(n, 10) {
		return 0, fault.New(fault.NotFound, "There is nothing at this address.").Because(err)
	}
	return n, nil
}

// postMortem is GET /incidents/:id/post-mortem.md.
func (s *Server) postMortem(c echo.Context) error {
	id, err := numberParam(c, "id")
	if err != nil {
		return err
	}
	r, err := s.Incidents.Report(c.Request().Context(), id, s.Now())
	if err != nil {
		return err
	}
	header := c.Response().Header()
	header.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", fmt.Sprintf("incident-%d-%s.md", r.ID, r.DetectedAt.Format(time.DateOnly))))
	header.Set("Cache-Control", "no-store")
	return c.Blob(http.StatusOK, "text/markdown; charset=utf-8", []byte(incident.PostMortem(r, s.providerName, s.Now())))
}

// editIncident is POST /incidents/:id.
func (s *Server) editIncident(c echo.Context) error {
	return s.changeIncident(c, func(ctx context.Context, id int64, form url.Values) (string, error) {
		now, err := s.Incidents.Find(ctx, id)
		if err != nil {
			return "", err
		}
		draft, err := s.draftOf(c, form, now.DetectedAt)
		if err != nil {
			return "", err
		}
		return flashIncidentSaved, s.Incidents.Edit(ctx, actorOf(c), id, revisionOf(form), draft, s.Now())
	})
}

// revisionOf is the revision that a form was made from; what is none is that of
// nothing, which is a conflict.
func revisionOf(form url.Values) int {
	n, _ := strconv.Atoi(form.Get("revision"))
	return n
}

var stepFlashes = map[incident.Step]string{
	incident.Acknowledge: flashIncidentAcknowledged, incident.Mitigate: flashIncidentMitigated,
	incident.Resolve: flashIncidentResolved, incident.Reopen: flashIncidentReopened,
}

// moveIncident is POST /incidents/:id/status.
func (s *Server) moveIncident(c echo.Context) error {
	return s.changeIncident(c, func(ctx context.Context, id int64, form url.Values) (string, error) {
		step := incident.Step(form.Get("do"))
		return stepFlashes[step], s.Incidents.Take(ctx, actorOf(c), id, step, s.Now())
	})
}

// addNote is POST /incidents/:id/notes.
func (s *Server) addNote(c echo.Context) error {
	return s.changeIncident(c, func(ctx context.Context, id int64, form url.Values) (string, error) {
		return flashNoteAdded, s.Incidents.AddNote(ctx, actorOf(c), id, form.Get("body"), s.Now())
	})
}

// changeNote is POST /incidents/:id/notes/:note.
func (s *Server) changeNote(c echo.Context) error {
	noteID, err := numberParam(c, "note")
	if err != nil {
		return err
	}
	return s.changeIncident(c, func(ctx context.Context, id int64, form url.Values) (string, error) {
		form.Set("note", strconv.FormatInt(noteID, 10))
		version, err := strconv.Atoi(form.Get("version"))
		if err != nil {
			return "", fault.New(fault.Malformed, "The form does not say which version of the note it changes.")
		}
		switch form.Get("do") {
		case "edit":
			return flashNoteChanged, s.Incidents.EditNote(ctx, actorOf(c), id, noteID, version, form.Get("body"), s.Now())
		case "delete":
			return flashNoteDeleted, s.Incidents.DeleteNote(ctx, actorOf(c), id, noteID, version, s.Now())
		}
		return "", fault.New(fault.Malformed, "The form does not say what to do with this note.")
	})
}

// recordReading is POST /incidents/:id/reading.
func (s *Server) recordReading(c echo.Context) error {
	return s.changeIncident(c, func(ctx context.Context, id int64, form url.Values) (string, error) {
		check := form.Get("check")
		if s.Reading == nil || check == "" {
			return "", fault.InvalidFields([]fault.Field{{Field: "check", Message: "cannot be recorded; choose one of those that there are"}})
		}
		r, err := s.readCheck(c, check)
		if err != nil {
			return "", err
		}
		return flashReadingRecorded, s.Incidents.Record(ctx, actorOf(c), id, check, r, s.Now())
	})
}

// writePostMortem is POST /incidents/:id/post-mortem.
func (s *Server) writePostMortem(c echo.Context) error {
	return s.changeIncident(c, func(ctx context.Context, id int64, form url.Values) (string, error) {
		texts := incident.Texts{Summary: form.Get("summary"), WentWell: form.Get("wentWell"), WentBadly: form.Get("wentBadly"), Lessons: form.Get("lessons")}
		return flashIncidentSaved, s.Incidents.Write(ctx, actorOf(c), id, revisionOf(form), texts, s.Now())
	})
}

// addFollowUp is POST /incidents/:id/follow-ups.
func (s *Server) addFollowUp(c echo.Context) error {
	return s.changeIncident(c, func(ctx context.Context, id int64, form url.Values) (string, error) {
		task, err := taskOf(form)
		if err != nil {
			return "", err
		}
		return flashFollowUpAdded, s.Incidents.AddFollowUp(ctx, actorOf(c), id, task, s.Now())
	})
}

func taskOf(form url.Values) (incident.Task, error) {
	owner, err := personOf(form.Get("ownerId"))
	if err != nil {
		return incident.Task{}, fault.InvalidFields([]fault.Field{{Field: "ownerId", Message: "is nobody; choose an admin"}})
	}
	return incident.Task{Body: form.Get("task"), OwnerID: owner, DueOn: form.Get("dueOn")}, nil
}

// doFollowUp is POST /incidents/:id/follow-ups/:follow.
func (s *Server) doFollowUp(c echo.Context) error {
	followID, err := numberParam(c, "follow")
	if err != nil {
		return err
	}
	return s.changeIncident(c, func(ctx context.Context, id int64, form url.Values) (string, error) {
		form.Set("follow", strconv.FormatInt(followID, 10))
		if form.Get("do") == "edit" {
			task, err := taskOf(form)
			if err != nil {
				return "", err
			}
			return flashFollowUpChanged, s.Incidents.EditFollowUp(ctx, actorOf(c), id, followID, revisionOf(form), task, s.Now())
		}
		return flashFollowUpChanged, s.Incidents.DoFollowUp(ctx, actorOf(c), id, followID, revisionOf(form), incident.Deed(form.Get("do")), s.Now())
	})
}

// changeIncident does something to an incident, says so and shows what it is now.
func (s *Server) changeIncident(c echo.Context, change func(ctx context.Context, id int64, form url.Values) (done string, err error)) error {
	id, err := numberParam(c, "id")
	if err != nil {
		return err
	}
	form, err := formUpTo(c, maxIncidentForm)
	if err != nil {
		return err
	}
	done, err := change(c.Request().Context(), id, form)
	if err != nil {
		return s.renderIncident(c, id, form, err)
	}
	setFlash(c, done)
	return c.Redirect(http.StatusSeeOther, incidentsPath+"/"+strconv.FormatInt(id, 10))
}

// renderIncident shows an incident; form, if any, was refused.
func (s *Server) renderIncident(c echo.Context, id int64, form url.Values, refused error) error {
	status, problem, problems, err := s.refusal(refused)
	if err != nil {
		return err
	}
	now, zone := s.Now(), s.zone(c)
	r, err := s.Incidents.Report(c.Request().Context(), id, now)
	if err != nil {
		return err
	}
	page := s.incidentView(c, r, now, zone)
	page.Page = s.page(c, "Incident "+page.ID+": "+r.Title)
	page.Problem, page.CheckProblem = problem, problems["check"]
	typed := url.Values{
		"title": {r.Title}, "severity": {strconv.Itoa(int(r.Severity))}, "detectedAt": {r.DetectedAt.In(zone).Format(minute)}, "leadName": {r.LeadName}, "leadId": {idText(r.LeadID)},
	}
	var fields map[string]string
	if form.Has("title") {
		fields = problems
		for _, field := range []string{"title", "severity", "detectedAt", "leadId"} {
			typed.Set(field, form.Get(field))
		}
	}
	if page.Form, err = s.incidentForm(c, typed, fields); err != nil {
		return err
	}
	page.Editing = form.Has("title")
	if err := s.taskForms(c, &page, r.FollowUps, form, problems); err != nil {
		return err
	}
	page.Texts = textViews(r.Texts(), form, problems)
	refusedNote(&page, form, problems)
	return s.render(c, status, views.Incident(page))
}

// taskForms fills in the forms that add and change follow-ups: what was typed goes
// back to where it was typed.
func (s *Server) taskForms(c echo.Context, page *views.IncidentPage, list []incident.FollowUp, form url.Values, problems map[string]string) error {
	people, err := s.Incidents.People(c.Request().Context())
	if err != nil {
		return err
	}
	typed := func(owner, name string) views.TaskForm {
		return views.TaskForm{Task: form.Get("task"), DueOn: form.Get("dueOn"), Owners: personOptions(people, owner, name), Problems: problems, Open: true}
	}
	lost := form.Has("task") // also where what it was typed for is gone
	for i, f := range list {
		row := &page.FollowUps[i]
		row.Form = views.TaskForm{Task: f.Body, Owners: personOptions(people, idText(f.OwnerID), f.OwnerName)}
		if f.DueOn != nil {
			row.Form.DueOn = f.DueOn.Format(time.DateOnly)
		}
		if form.Has("task") && form.Get("follow") == row.ID {
			row.Form, lost = typed(form.Get("ownerId"), f.OwnerName), false
		}
	}
	page.Task = views.TaskForm{Owners: personOptions(people, "", "")}
	if lost {
		page.Task = typed(form.Get("ownerId"), "")
	}
	return nil
}

func idText(id *uuid.UUID) string {
	if id == nil {
		return ""
	}
	return id.String()
}

// refusedNote puts what was typed back to where it was typed.
func refusedNote(page *views.IncidentPage, form url.Values, problems map[string]string) {
	if !form.Has("body") {
		return
	}
	if problem := problems["body"]; problem != "" {
		page.Problem = "Nothing was saved. The note: " + problem
	}
	if !form.Has("note") {
		page.Note = form.Get("body")
		return
	}
	for i := range page.Entries {
		if e := &page.Entries[i]; e.ID == form.Get("note") && e.Own {
			e.Typed, e.Editing = form.Get("body"), true
			return
		}
	}
	page.Note = form.Get("body") // the note is not theirs, or taken back: no word is lost
}

// textViews are the parts of the post-mortem that people write.
func textViews(saved incident.Texts, form url.Values, problems map[string]string) []views.IncidentText {
	texts := []views.IncidentText{
		{Field: "summary", Label: "Summary", Hint: "What happened and why, in a few sentences.", Text: saved.Summary},
		{Field: "wentWell", Label: "What went well", Text: saved.WentWell, Hint: "What to keep. Lines that begin with “- ” become a list."},
		{Field: "wentBadly", Label: "What went badly", Text: saved.WentBadly, Hint: "What made it worse, or take longer."},
		{Field: "lessons", Label: "What we learned", Text: saved.Lessons, Hint: "What leads to a follow-up."},
	}
	if !form.Has("summary") {
		return texts
	}
	for i := range texts {
		t := &texts[i]
		if typed := form.Get(t.Field); typed != t.Text {
			t.Saved, t.Text = t.Text, typed
			if t.Saved == "" {
				t.Saved = "Nothing."
			}
		}
		t.Problem = problems[t.Field]
	}
	return texts
}

// incidentView writes out an incident.
func (s *Server) incidentView(c echo.Context, r incident.Report, now time.Time, zone *time.Location) views.IncidentPage {
	page := views.IncidentPage{
		IncidentRow: incidentRow(r.Incident, zone), By: r.AcknowledgedName, Step: r.Step, Revision: strconv.Itoa(r.Revision),
		FollowUps: followUpViews(r.FollowUps, now.In(zone)), Markdown: incident.PostMortem(r, s.providerName, now),
		Acknowledged: momentOf(r.AcknowledgedAt, zone), Mitigated: momentOf(r.MitigatedAt, zone), Resolved: momentOf(r.ResolvedAt, zone),
	}
	for _, step := range r.Allowed() {
		page.Steps = append(page.Steps, views.IncidentStep{Do: string(step), Label: stepLabels[step], Primary: len(page.Steps) == 0 && step != incident.Reopen})
	}
	if !r.Incomplete {
		runs := runsLink(r.Impact, zone, pagesOf(c)("/runs"))
		page.Impact, page.Failures = impactFigures(r.Impact, runs), s.failureViews(r.Impact, runs)
		if runs(nil) != "" {
			page.RunsNote = "Numbers that are links lead to the runs of these days; the numbers themselves are of the incident’s time only."
		}
	}
	for _, e := range r.Entries {
		page.Entries = append(page.Entries, s.entryView(e, *callerOf(c).operatorID, zone))
	}
	if r.Status != incident.Resolved && s.Reading != nil {
		page.Checks = s.checkOptions(r.CheckID)
	}
	return page
}

var stepLabels = map[incident.Step]string{
	incident.Acknowledge: "Acknowledge", incident.Mitigate: "Mark as mitigated", incident.Resolve: "Resolve", incident.Reopen: "Reopen",
}

// checkOptions are the checks to record, the one that the incident began with
// chosen.
func (s *Server) checkOptions(own string) []views.Option {
	var options []views.Option
	listed := own == ""
	if s.Readable != nil {
		for _, check := range s.Readable() {
			options = append(options, views.Option{Value: check.ID, Label: check.Title})
			listed = listed || check.ID == own
		}
	}
	if !listed {
		options = append(options, views.Option{Value: own, Label: own})
	}
	choose(options, own)
	return options
}

// runsLink returns what makes addresses of the runs behind a number: "" where there
// is no page of them.
func runsLink(i incident.Impact, zone *time.Location, exists bool) func(url.Values) string {
	return func(filter url.Values) string {
		if !exists {
			return ""
		}
		values := url.Values{"range": {"custom"}, "from": {i.From.In(zone).Format(time.DateOnly)}, "to": {i.To.In(zone).Format(time.DateOnly)}}
		for name, value := range filter {
			values[name] = value
		}
		return addressOf("/runs", values)
	}
}

func impactFigures(i incident.Impact, runs func(url.Values) string) []views.IncidentFigure {
	figure := func(label, value, note, href string) views.IncidentFigure {
		return views.IncidentFigure{KeyFigure: views.KeyFigure{Label: label, Value: value, Note: note}, Href: href}
	}
	cost := figure("Fallback cost", views.Money(i.Fallback.Decimal()), "while it went on", runs(url.Values{"key": {"fallback"}}))
	cost.Exact = views.MoneyExact(i.Fallback.Decimal())
	if i.Unknown > 0 {
		cost.Note = "and of " + plural(i.Unknown, "attempt", "attempts") + " unknown"
		if i.Fallback.IsZero() {
			cost.Value = "Unknown"
		}
	}
	return []views.IncidentFigure{
		figure("Duration", incident.Span(i.Duration()), "since it was detected", ""),
		figure("Runs failed", views.Count(i.Failed), "of "+plural(i.Runs, "run", "runs"), runs(url.Values{"status": {"error"}})),
		figure("Answered in part", views.Count(i.Partial), "and "+views.Count(i.Interrupted)+" interrupted", runs(url.Values{"status": {"partial"}})),
		figure("Learners hit", views.Count(i.Learners), "by such runs", ""),
		figure("Teams hit", views.Count(i.Teams), "by such runs", ""),
		cost,
	}
}

func (s *Server) failureViews(i incident.Impact, runs func(url.Values) string) []views.IncidentFailure {
	var failures []views.IncidentFailure
	for _, f := range i.Failures {
		failure := views.IncidentFailure{
			Provider: s.providerName(f.Provider), Failed: views.Count(f.Failed), Attempts: views.Count(f.Attempts), Rate: views.Percent(f.Failed, f.Attempts),
			Href: runs(url.Values{"provider": {f.Provider}}),
		}
		for _, class := range f.Classes {
			shown := views.IncidentClass{Name: "not known", Count: views.Count(class.Failed)}
			if class.Class != "" {
				shown.Name, shown.Href = views.Words(class.Class), runs(url.Values{"provider": {f.Provider}, "class": {class.Class}})
			}
			failure.Classes = append(failure.Classes, shown)
		}
		failures = append(failures, failure)
	}
	return failures
}

// kinds are the words, the icon and the tone of what is on a time line.
var kinds = map[incident.Kind][3]string{
	incident.KindStart: {"Start", "alert", "error"}, incident.KindReading: {"Check", "check", ""}, incident.KindNote: {"Note", "runbook", ""},
	incident.KindAcknowledge: {"Acknowledged", "check", "info"}, incident.KindMitigate: {"Mitigated", "info", "warning"},
	incident.KindResolve: {"Resolved", "check", "success"}, incident.KindReopen: {"Reopened", "alert", "error"},
	incident.KindEdit: {"Changed", "info", ""}, incident.KindFollowUp: {"Follow-up", "runs", ""},
	incident.KindKey: {"Key", "key", "warning"}, incident.KindAction: {"Action", "settings", "info"},
	incident.KindErrors: {"Errors", "activity", "warning"}, incident.KindDeploy: {"Deploy", "backup", "info"},
}

func (s *Server) entryView(e incident.Entry, viewer uuid.UUID, zone *time.Location) views.IncidentEntry {
	look := kinds[e.Kind]
	shown := views.IncidentEntry{At: views.MomentOf(e.At, zone), Kind: look[0], Icon: look[1], Tone: look[2], Title: e.Title, Body: e.Body, Who: e.Actor, Deleted: momentOf(e.DeletedAt, zone)}
	if shown.Title == look[0] {
		shown.Title = "" // it is said already
	}
	if e.Kind == incident.KindReading {
		shown.Kind, shown.Tone = "Check "+e.Verdict, views.VerdictTone(e.Verdict)
		if shown.Tone != "success" {
			shown.Icon = "alert"
		}
	}
	if e.Provider != "" {
		shown.Title = s.providerName(e.Provider) + ": " + e.Title
	}
	for _, change := range e.Changes {
		shown.Changes = append(shown.Changes, changeView(change, zone))
	}
	if e.Kind != incident.KindNote {
		return shown
	}
	shown.ID, shown.Typed, shown.Version = strconv.FormatInt(e.ID, 10), e.Body, strconv.Itoa(len(e.History))
	shown.Own = e.ActorID != nil && *e.ActorID == viewer && e.DeletedAt == nil
	for _, was := range e.History {
		shown.Earlier = append(shown.Earlier, views.IncidentEarlier{Body: was.Body, Until: views.MomentOf(was.Until, zone)})
	}
	if e.DeletedAt != nil {
		shown.Earlier = append(shown.Earlier, views.IncidentEarlier{Body: e.Body, Until: views.MomentOf(*e.DeletedAt, zone)})
	}
	return shown
}

// changeView writes out a change, times in the zone of who looks.
func changeView(change incident.Change, zone *time.Location) views.AuditDetail {
	local := func(value string) string {
		if at, err := time.Parse(time.RFC3339, value); err == nil && change.Field == incident.FieldDetected {
			return views.MomentOf(at, zone).Local
		}
		if value == "" {
			return "empty"
		}
		return value
	}
	return views.AuditDetail{Label: views.Words(change.Field), From: local(change.From), To: local(change.To), Changed: true}
}
