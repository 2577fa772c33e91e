package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/views"
)

const (
	auditPath     = "/settings/audit"
	auditPageSize = 50
	auditPatience = 10 * time.Second // for verifying while somebody waits
)

// auditPage is GET /settings/audit.
func (s *Server) auditPage(c echo.Context) error {
	status, problem := http.StatusOK, ""
	query, err := audit.ParseQuery(c.QueryParams(), s.zone(c))
	if fault.KindOf(err) == fault.Invalid && err != nil {
		status, problem = http.StatusUnprocessableEntity, filterProblem(err)
	} else if err != nil {
		return err
	}
	ctx := c.Request().Context()
	entries, err := s.Audit.List(ctx, query.Filter, auditPageSize+1)
	if err != nil {
		return err
	}
	choices, err := s.Audit.Choices(ctx)
	if err != nil {
		return err
	}
	last, since, err := s.Audit.LastVerification(ctx)
	if err != nil {
		return err
	}
	page := auditView(entries, query, last, since, s.zone(c), pagesOf(c))
	page.Page = s.page(c, "Audit log")
	page.Filters = auditFilters(query, choices, s.Now().In(s.zone(c)))
	page.Filters.Problem = problem
	return s.render(c, status, views.Audit(page))
}

// auditCSV is GET /settings/audit.csv: all entries that the filters let through.
func (s *Server) auditCSV(c echo.Context) error {
	query, err := audit.ParseQuery(c.QueryParams(), s.zone(c))
	if err != nil {
		return err
	}
	header := c.Response().Header()
	header.Set("Content-Type", "text/csv; charset=utf-8")
	header.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", "audit-log-"+s.Now().In(s.zone(c)).Format(time.DateOnly)+".csv"))
	err = s.Audit.WriteCSV(c.Request().Context(), c.Response(), query.OlderThan(0).Filter)
	if err != nil && c.Response().Committed {
		s.Log.Error("audit_log_cut_off", "requestId", requestID(c), "error", err)
		panic(http.ErrAbortHandler) // half a file must not look like a whole one
	}
	if err != nil {
		header.Del("Content-Disposition")
		header.Del("Content-Type")
	}
	return err
}

// verifyAudit is POST /settings/audit/verify.
func (s *Server) verifyAudit(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), auditPatience)
	defer cancel()
	operator := callerOf(c).operator
	v, err := s.Audit.VerifyAs(ctx, audit.Operator(operator.ID, operator.Email), s.Now())
	if err != nil {
		return err
	}
	if v.Broken != 0 {
		s.Log.Error("audit_log_broken", "entry", v.Broken, "entries", v.Entries, "operatorId", operator.ID)
	} else {
		setFlash(c, flashAuditWhole)
	}
	return c.Redirect(http.StatusSeeOther, auditPath)
}

// auditSubjects are the pages of what is done something to, by type.
var auditSubjects = map[string]string{
	"audit_log": auditPath, "budgets": budgetsPath, "fallback_key": "/keys/fallback", "learner": "/keys/health", "outreach": "/keys/health",
	"operator": "/settings/operators", "team": "/settings/teams", "provider": "/settings/providers", "channel": "/settings/channels",
	"incident": incidentsPath, "price": pricesPath, "price_job": pricesPath + "/jobs",
}

// pagesOf says which pages there are.
func pagesOf(c echo.Context) func(path string) bool {
	routes := c.Echo().Routes()
	return func(path string) bool {
		return slices.ContainsFunc(routes, func(r *echo.Route) bool { return r.Method == http.MethodGet && r.Path == path })
	}
}

// auditView writes out entries, of which there may be one more than a page has.
func auditView(entries []audit.Entry, q audit.Query, last *audit.Verification, since int64, zone *time.Location, isPage func(string) bool) views.AuditPage {
	page := views.AuditPage{CSV: addressOf(auditPath+".csv", q.OlderThan(0).Values())}
	if q.Before != 0 {
		page.Newest = addressOf(auditPath, q.OlderThan(0).Values())
	}
	if len(entries) > auditPageSize {
		entries = entries[:auditPageSize]
		page.Older = addressOf(auditPath, q.OlderThan(entries[auditPageSize-1].ID).Values())
	}
	for _, e := range entries {
		page.Entries = append(page.Entries, auditEntry(e, zone, isPage))
	}
	if since > 0 {
		page.Added = views.Count(since)
	}
	if last != nil {
		page.Verified = &views.AuditVerified{
			At: views.MomentOf(last.At, zone), By: last.By.Name, Entries: views.Count(int64(last.Entries)), Head: last.Head,
		}
		if last.Broken != 0 {
			page.Verified.Broken = strconv.FormatInt(last.Broken, 10)
		}
	}
	return page
}

func auditEntry(e audit.Entry, zone *time.Location, isPage func(string) bool) views.AuditEntry {
	entry := views.AuditEntry{
		ID: strconv.FormatInt(e.ID, 10), At: views.MomentOf(e.At, zone), Who: e.Actor.Name, Action: e.Action,
		Subject: e.SubjectLabel, Kind: views.Words(e.SubjectType), Details: views.AuditDetails(e.Details),
	}
	if entry.Subject == "" {
		entry.Subject = e.SubjectID
	}
	if path := auditSubjects[e.SubjectType]; path != "" && path != auditPath && isPage(path) && entry.Subject != "" {
		entry.Href = path
	}
	if e.SubjectType != "" && e.SubjectID != "" {
		entry.History = addressOf(auditPath, url.Values{"subject": {e.SubjectType}, "id": {e.SubjectID}})
	}
	return entry
}

func addressOf(path string, values url.Values) string {
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}

func auditFilters(q audit.Query, choices audit.Choices, now time.Time) views.AuditFilters {
	filters := views.AuditFilters{
		Who: []views.Option{{Label: "Everybody"}}, Subjects: []views.Option{{Label: "All subjects"}},
		Action: q.Action, Actions: choices.Actions, From: q.FirstDay(), To: q.LastDay(), Today: now.Format(time.DateOnly),
		SubjectID: q.SubjectID, Narrowed: q.Narrowed(),
	}
	for _, o := range choices.Operators {
		filters.Who = append(filters.Who, views.Option{Value: o.ID.String(), Label: o.Email})
	}
	filters.Who = append(filters.Who, views.Option{Value: "nobody", Label: "No operator: command line, program"})
	for _, kind := range choices.SubjectTypes {
		filters.Subjects = append(filters.Subjects, views.Option{Value: kind, Label: views.Words(kind)})
	}
	choose(filters.Who, q.Who())
	choose(filters.Subjects, q.SubjectType)
	return filters
}
