package handlers_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/postgres"
)

// did adds entries to the audit log.
func (s *site) did(entries ...audit.Entry) {
	s.t.Helper()
	for _, e := range entries {
		if e.At.IsZero() {
			e.At = s.Clock.Now()
		}
		must(s.t, postgres.InTx(s.t.Context(), s.DB, func(tx pgx.Tx) error { return audit.Add(s.t.Context(), tx, e) }))
	}
}

// unaudited forgets what making the operators of a test left in the audit log.
func (s *site) unaudited() {
	s.t.Helper()
	_, err := s.DB.Exec(s.t.Context(), `truncate ops.audit_log`)
	must(s.t, err)
}

func TestAuditPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	marta := s.operator("marta@example.org", account.RoleAdmin, "")
	s.unaudited()
	admin := s.visitor(s.session(marta))
	admin.get("/settings/audit").wants(t, http.StatusOK).shows(t, "Nothing has been done yet", "has not been verified yet", `action="/settings/audit/verify"`)

	by := audit.Operator(marta.ID, marta.Email)
	id := uuid.NewString()
	s.did(
		audit.Entry{Actor: audit.CommandLine, Action: "fallback_key.add", SubjectType: "fallback_key", SubjectID: id, SubjectLabel: "main"},
		audit.Entry{Actor: by, Action: "fallback_key.disable", SubjectType: "fallback_key", SubjectID: id, SubjectLabel: "main <script>",
			Details: map[string]any{"reason": "leaked on <b>GitHub</b>", "monthlyCapUsd": audit.Change{From: nil, To: "12.50"}}},
		audit.Entry{Actor: by, Action: "budgets.set", SubjectType: "budgets", SubjectID: "1", At: s.Clock.Now().Add(-48 * time.Hour)},
	)
	page := admin.get("/settings/audit").wants(t, http.StatusOK).shows(t, "fallback_key.disable", "main &lt;script&gt;", "leaked on &lt;b&gt;GitHub",
		"monthly cap USD", "12.50", "command line", "3 so far", `href="/settings/budgets"`, "/settings/audit.csv")
	if strings.Contains(page.Text, `href="/keys/fallback"`) && !strings.Contains(page.Text, "Fallback Keys") {
		t.Error("a page is linked that is not there")
	}
	for path, wants := range map[string][2]string{ // shows the first and not the second
		"?who=nobody":                                  {"fallback_key.add<", "budgets.set<"},
		"?who=" + marta.ID.String():                    {"budgets.set<", "fallback_key.add<"},
		"?subject=budgets":                             {"budgets.set<", "fallback_key.add<"},
		"?action=fallback_key.d":                       {"fallback_key.disable<", "fallback_key.add<"},
		"?from=2026-11-24":                             {"fallback_key.add<", "budgets.set<"},
		"?to=2026-11-22":                               {"budgets.set<", "fallback_key.add<"},
		"?subject=fallback_key&id=" + id + "&before=2": {"fallback_key.add<", "fallback_key.disable<"},
		"?subject=nothing":                             {"No entry matches these filters", "budgets.set<"},
	} {
		answer := admin.get("/settings/audit"+path).wants(t, http.StatusOK).shows(t, wants[0])
		if strings.Contains(answer.Text, wants[1]) {
			t.Errorf("%s shows %s", path, wants[1])
		}
	}
	admin.get("/settings/audit?who=me&from=soon").wants(t, http.StatusUnprocessableEntity).shows(t, "The filters could not be used", "budgets.set")
	admin.get("/settings/audit.csv?who=me").wants(t, http.StatusUnprocessableEntity)

	file := admin.get("/settings/audit.csv?subject=fallback_key").wants(t, http.StatusOK)
	if got := file.Header.Get("Content-Disposition"); got != `attachment; filename="audit-log-2026-11-24.csv"` || strings.Count(file.Text, "\r\n") != 3 {
		t.Errorf("%s, and\n%s", got, file.Text)
	}

	admin.post("/settings/audit/verify", "").wants(t, http.StatusSeeOther)
	admin.get("/settings/audit").wants(t, http.StatusOK).shows(t, "Every entry was read", "The log is whole: 3 entries", "marta@example.org")
	admin.get("/settings/audit").wants(t, http.StatusOK).shows(t, "The log is whole: 3 entries", "audit.verify")
	_, err := s.DB.Exec(t.Context(), `update ops.audit_log set details = '[7]' where id = 2`)
	must(t, err)
	admin.post("/settings/audit/verify", "").wants(t, http.StatusSeeOther)
	admin.get("/settings/audit").wants(t, http.StatusOK).shows(t, "Entry 2 is missing or not as it was written")
	if !strings.Contains(s.Events.Text(), `"msg":"audit_log_broken"`) {
		t.Error("the log does not tell that the audit log is broken")
	}
	// Nor can another site have it verified: each time is an entry.
	admin.post("/settings/audit/verify", "", "Sec-Fetch-Site", "cross-site").wants(t, http.StatusForbidden)
}

// Every entry is on exactly one page, also when more come meanwhile.
func TestAuditPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	for i := range 120 {
		s.did(audit.Entry{Actor: audit.CommandLine, Action: fmt.Sprintf("count.to-%d.", i+1), SubjectType: "count"})
	}
	path, seen := "/settings/audit?subject=count", map[string]int{}
	for pages := 1; ; pages++ {
		page := admin.get(path).wants(t, http.StatusOK)
		for i := range 120 {
			name := fmt.Sprintf(">count.to-%d.<", i+1)
			seen[name] += strings.Count(page.Text, name)
		}
		s.did(audit.Entry{Actor: audit.CommandLine, Action: "more.come", SubjectType: "count"})
		_, rest, more := strings.Cut(page.Text, `href="/settings/audit?before=`)
		if !more {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		before, _, _ := strings.Cut(rest, `"`)
		path = "/settings/audit?before=" + strings.ReplaceAll(before, "&amp;", "&")
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s stands there %d times", name, n)
		}
	}
}

func TestAuditWithoutADatabase(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	admin.get("/settings/audit").wants(t, http.StatusOK)
	s.loseDatabase()
	for _, path := range []string{"/settings/audit", "/settings/audit.csv"} {
		if answer := admin.get(path).wants(t, http.StatusServiceUnavailable); answer.Header.Get("Content-Disposition") != "" {
			t.Errorf("%s: an error is sent as a file", path)
		}
	}
}
