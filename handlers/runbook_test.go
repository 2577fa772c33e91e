package handlers_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/probe"
	"github.com/promptcademy/promptops/internal/runbook"
)

// liveChecks are those of the program, as far as a site of the tests has what they
// look at; see cmd/promptops/checks.go.
func liveChecks(db *pgxpool.Pool, now func() time.Time) []runbook.Check {
	p := probe.New(db, now)
	says := func(r runbook.Reading) func(context.Context) (runbook.Reading, error) {
		return func(context.Context) (runbook.Reading, error) { return r, nil }
	}
	return []runbook.Check{
		{ID: "fallback-keys", Title: "Usable fallback keys", Fix: runbook.Fix{Text: "Add a key.", Href: "/keys/fallback", Label: "Fallback Keys"},
			Run: says(probe.FallbackKeys([]probe.KeyState{{Provider: "OpenAI"}, {Provider: "OpenAI", Reason: "out of credit"}, {Provider: "Mistral", Reason: "refused by the provider"}}))},
		{ID: "rls-errors", Title: "Statements refused by the database", Fix: runbook.Fix{Text: "See what was refused.", Href: "/rls", Label: "Row-level security"}, Run: says(probe.JudgeRefused([]probe.Refused{{What: "table teams, as authenticated on /usage", Recent: 2, FirstAt: now().Add(-time.Minute), LastAt: now()}}))},
		{ID: "rls-drift", Title: "Policies and grants are as they should be", Fix: runbook.Fix{Text: "See what differs.", Href: "/rls", Label: "Row-level security"}, Run: says(probe.JudgeDrift(0, 0))},
		{ID: "run-errors", Title: "Failed calls to providers", Fix: runbook.Fix{Text: "Read what the failed runs say."}, Run: p.RunErrors},
		{ID: "learners-without-keys", Title: "Learners without a usable key", Fix: runbook.Fix{Text: "Write to them."}, Run: p.LearnersWithoutKeys},
		{ID: "budget-today", Title: "Today’s cost against the budget", Fix: runbook.Fix{Text: "Set the daily budget.", Href: "/settings/budgets", Label: "Budgets"}, Run: says(runbook.Reading{Verdict: runbook.Warning, Value: "$21.40 of $25.00", Detail: "86% of the daily budget."})},
		{ID: "latency-p95", Title: "How long runs take", Fix: runbook.Fix{Text: "See which model is slow.", Href: "/runbook/slow-runs", Label: "Slow runs"}, Run: p.LatencyP95},
		{ID: "provider-reachability", Title: "Providers can be reached", Harmless: true, Fix: runbook.Fix{Text: "Follow “Provider outage”.", Href: "/runbook/provider-outage", Label: "Provider outage"}, Run: says(probe.JudgeReach(nil))},
		{ID: "database", Title: "The database answers", Harmless: true, Fix: runbook.Fix{Text: "Start it again.", Href: "/runbook/slow-runs", Label: "Slow runs"}, Run: p.Database},
		{ID: "connection-pool", Title: "Database connections in use", Harmless: true, Fix: runbook.Fix{Text: "End what holds them."}, Run: says(probe.Pools([]probe.PoolState{{Name: "pages", Used: 1, Max: 16}, {Name: "runs", Used: 0, Max: 16}}))},
		{ID: "partitions", Title: "Tables for the months ahead", Harmless: true, Fix: runbook.Fix{Text: "Restart a node."}, Run: p.Months},
		{ID: "replication", Title: "Replicas keep up", Harmless: true, Fix: runbook.Fix{Text: "Connect it again."}, Run: p.Replication},
		{ID: "newest-backup", Title: "Newest backup", Fix: runbook.Fix{Text: "Look at the backups of the host."}, Run: p.Backup},
		{ID: "migrations", Title: "The schema is up to date", Harmless: true, Fix: runbook.Fix{Text: "Run promptops migrate."}, Run: says(runbook.Reading{Verdict: runbook.OK, Value: "All 13 applied"})},
		{ID: "master-keys", Title: "Stored keys open", Fix: runbook.Fix{Text: "Put it back."}, Run: says(probe.MasterKeys(3, 0, ""))},
		{ID: "clock", Title: "Clocks agree", Harmless: true, Fix: runbook.Fix{Text: "Turn on time synchronisation."}, Run: says(probe.JudgeClock(2*time.Millisecond, 0))},
	}
}

func TestRunbookPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	admin.get("/runbook").wants(t, http.StatusOK).shows(t, "“Missing API key” errors", "Leaked key", "Act now", "1 of 3 usable",
		"Mistral: none of 1 can be used (refused by the provider).", `href="/settings/budgets"`, "check-database", "Measured at")
	page := admin.get("/runbook/missing-api-key").wants(t, http.StatusOK).shows(t, "The built-in text", "1 of 3 usable", `id="check-fallback-keys"`,
		`hx-get="/runbook/checks/fallback-keys?`, `href="/runbook/missing-api-key?recheck=fallback-keys#check-fallback-keys"`, "<table>", `href="/playground"`)
	if strings.Contains(page.Text, "{{check") || strings.Contains(page.Text, "style=\"") {
		t.Error("a check is not where it belongs, or something is inline")
	}
	admin.get("/runbook/print").wants(t, http.StatusOK).shows(t, "Leaked key", "Slow runs", `id="check-database-2"`)
	admin.get("/runbook?q=PITR").wants(t, http.StatusOK).shows(t, "<mark>PITR</mark>", "/runbook/truncated-tables")
	admin.get("/runbook?q=%3Cscript%3E").wants(t, http.StatusOK).shows(t, "No procedure holds “&lt;script&gt;”")
	admin.get("/runbook/nothing").wants(t, http.StatusNotFound)
}

// Texts of the program link only to pages that there are, or that are being built.
func TestBuiltInRunbookPointsAtSomething(t *testing.T) {
	t.Parallel()
	var soon []string
	s := newSite(t)
	paths := map[string]bool{}
	for _, r := range s.Handler().(*echo.Echo).Routes() {
		paths[r.Path] = r.Method == http.MethodGet || paths[r.Path]
	}
	for _, p := range runbook.BuiltIn() {
		rendered := runbook.Render(p.Markdown, runbook.Places{
			Page: func(path string) bool {
				slug, procedure := strings.CutPrefix(path, "/runbook/")
				return paths[path] || slices.Contains(soon, path) || procedure && slices.ContainsFunc(runbook.BuiltIn(), func(o runbook.Procedure) bool { return o.Slug == slug })
			},
			Check: func(id string) bool { _, ok := s.Checks.Check(id); return ok },
		})
		for _, problem := range rendered.Problems {
			t.Errorf("%s: %s", p.Slug, problem)
		}
	}
}

func TestLeadsReadTheRunbookWithoutOthersFigures(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	lead, _ := s.leadOf("lead@example.org", "Design")
	v := s.visitor(s.session(lead))
	for _, path := range []string{"/runbook", "/runbook/print", "/runbook/missing-api-key", "/runbook/cost-spike"} {
		page := v.get(path).wants(t, http.StatusOK)
		for _, secret := range []string{"1 of 3 usable", "$21.40", "active learner", "/edit", "/history", "/runbook/new"} {
			if strings.Contains(page.Text, secret) {
				t.Errorf("%s shows a lead %q", path, secret)
			}
		}
	}
	v.get("/runbook/slow-runs").wants(t, http.StatusOK).shows(t, "Answers in", "Live check “How long runs take”: only administrators see it.")
	v.get("/runbook/checks/fallback-keys", "HX-Request", "true").wants(t, http.StatusNotFound)
	v.get("/runbook/checks/database", "HX-Request", "true").wants(t, http.StatusOK).shows(t, "Answers in")
	v.get("/runbook/missing-api-key/edit").wants(t, http.StatusForbidden)
}

func TestAskingAgain(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := newSite(t, func(h *handlers.Server) {
		h.Checks = runbook.NewBoard([]runbook.Check{
			{ID: "database", Title: "<b>Counted", Fix: runbook.Fix{Text: "<i>Fix", Href: "/nowhere", Label: "Nowhere"}, Run: func(context.Context) (runbook.Reading, error) {
				return runbook.Reading{Verdict: runbook.Critical, Value: fmt.Sprintf("<u>%d times", asked.Add(1))}, nil
			}},
		}, h.Log, h.Now)
	})
	admin := s.as(account.RoleAdmin)
	page := admin.get("/runbook/slow-runs").shows(t, "&lt;u&gt;1 times", "&lt;b&gt;Counted", "&lt;i&gt;Fix", "Act now", "There is no check “clock”")
	if strings.Contains(page.Text, "/nowhere") {
		t.Error("a page that is not there is linked")
	}
	admin.get("/runbook").shows(t, "&lt;u&gt;1 times")
	s.Clock.Advance(2 * time.Second)
	admin.get("/runbook/slow-runs?recheck=database").shows(t, "&lt;u&gt;2 times")
	s.Clock.Advance(2 * time.Second)
	admin.get("/runbook?recheck=all").shows(t, "&lt;u&gt;3 times")
	s.Clock.Advance(2 * time.Second)
	fragment := admin.get("/runbook/checks/database?at=%2Frunbook%2Fslow-runs&anchor=check-database-2", "HX-Request", "true").wants(t, http.StatusOK).
		shows(t, "&lt;u&gt;4 times", `id="check-database-2"`, "/runbook/slow-runs?recheck=database#check-database-2")
	if strings.Contains(fragment.Text, "<html") {
		t.Error("the fragment is a page")
	}
	admin.get("/runbook/checks/database?at=%2F%2Fevil.example&anchor=%22x", "HX-Request", "true").shows(t, `id="check-database"`, `href="/runbook?recheck`)
	answer := admin.get("/runbook/checks/database").wants(t, http.StatusSeeOther)
	if to := answer.Header.Get("Location"); to != "/runbook?recheck=database#check-database" {
		t.Errorf("without scripts: %s", to)
	}
}

func runbookForm(do, from, built, markdown string) string {
	return url.Values{"do": {do}, "from": {from}, "built": {built}, "markdown": {markdown}}.Encode()
}

func TestTwoAdminsEditAProcedure(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ann, bob := s.as(account.RoleAdmin), s.as(account.RoleAdmin)
	const text = "# DNS <x>\r\n\r\none\r\n\r\ntwo\r\n\r\nthree\r\n"
	ann.post("/runbook/new", url.Values{"do": {"save"}, "slug": {"dns"}, "markdown": {text}}.Encode()).wants(t, http.StatusSeeOther)
	ann.get("/runbook/dns").wants(t, http.StatusOK).shows(t, "The procedure is in the runbook.", "DNS &lt;x&gt;", "Version 1 by")
	ann.get("/runbook/dns/edit").wants(t, http.StatusOK).shows(t, `name="from" value="1"`, "# DNS &lt;x&gt;")
	bob.get("/runbook/dns/edit").wants(t, http.StatusOK)

	ann.post("/runbook/dns/edit", runbookForm("save", "1", "", strings.Replace(text, "one", "ONE of Ann", 1))).wants(t, http.StatusSeeOther)
	bob.post("/runbook/dns/edit", runbookForm("save", "1", "", strings.Replace(text, "three", "THREE of Bob", 1))).wants(t, http.StatusSeeOther)
	bob.get("/runbook/dns").shows(t, "ONE of Ann", "THREE of Bob", "Version 3", "holds their changes and yours")
	late := ann.post("/runbook/dns/edit", runbookForm("save", "1", "", strings.Replace(text, "three", "late words of Ann", 1))).wants(t, http.StatusConflict).
		shows(t, "Nothing was saved yet", "late words of Ann", "THREE of Bob", `name="from" value="3"`)
	if strings.Count(late.Text, "text-old") != 2 || strings.Count(late.Text, "text-new") != 2 || !strings.Contains(late.Text, "<textarea") {
		t.Error("the two texts are not compared")
	}
	ann.get("/runbook/dns").shows(t, "Version 3")
	ann.post("/runbook/dns/edit", runbookForm("save", "3", "", "# DNS\n\nlate words of Ann\n")).wants(t, http.StatusSeeOther)

	ann.get("/runbook/dns/history").wants(t, http.StatusOK).shows(t, "Version 4", "In force", "/runbook/dns/diff?from=3&amp;to=4")
	ann.get("/runbook/dns/diff?from=3&to=4").wants(t, http.StatusOK).shows(t, "<del>THREE of Bob</del>", "<ins>late words of Ann</ins>")
	ann.get("/runbook/dns/diff?from=3&to=9").wants(t, http.StatusNotFound)
	ann.get("/runbook/dns/diff").wants(t, http.StatusNotFound)
	bob.post("/runbook/dns/restore", "number=3&seen=3").wants(t, http.StatusConflict)
	bob.post("/runbook/dns/restore", "number=3&seen=4").wants(t, http.StatusSeeOther)
	bob.post("/runbook/dns/remove", "seen=5").wants(t, http.StatusSeeOther)
	bob.get("/runbook/dns").wants(t, http.StatusNotFound)
	bob.get("/runbook").shows(t, "/runbook/dns/history")
	bob.get("/runbook/dns/history").shows(t, "This procedure was removed")
	ann.post("/runbook/dns/edit", runbookForm("save", "5", "", "# DNS\n\ntyped meanwhile\n")).wants(t, http.StatusConflict).shows(t, "typed meanwhile", "Somebody removed")
	bob.post("/runbook/dns/restore", "number=5&seen=6").wants(t, http.StatusSeeOther)
	bob.get("/runbook/dns").shows(t, "ONE of Ann", "Version 7")
}

func TestRefusedEdits(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	admin.post("/runbook/slow-runs/edit", runbookForm("preview", "0", "x", "# T\n\n<script>alert(1)</script>\n\n[a](javascript:x) [b](/nowhere)\n\n{{check \"database\"}}\n{{check \"none\"}}\n")).
		wants(t, http.StatusOK).shows(t, "Nothing is saved yet", "HTML is not shown", "is neither of the web", "leads to no page", "There is no check “none”", "Live check “The database answers”")
	admin.post("/runbook/slow-runs/edit", runbookForm("save", "0", "", "no title, <b> kept")).wants(t, http.StatusUnprocessableEntity).shows(t, "no title, &lt;b&gt; kept", "must begin with its title")
	admin.post("/runbook/new", url.Values{"slug": {"a b"}, "markdown": {"kept"}}.Encode()).wants(t, http.StatusUnprocessableEntity).shows(t, "kept", "small letters", `value="a b"`)
	admin.post("/runbook/slow-runs/edit", runbookForm("save", "x", "", "# T\n")).wants(t, http.StatusBadRequest)
	admin.post("/runbook/slow-runs/edit", runbookForm("save", "0", "", "# T\n"+strings.Repeat("é", 200<<10))).wants(t, http.StatusRequestEntityTooLarge)
	admin.post("/runbook/new", "markdown=x", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site").wants(t, http.StatusForbidden)
	admin.get("/runbook/slow-runs").shows(t, "The built-in text")
}

// Without the database the runbook is there for whoever was signed in lately.
func TestRunbookWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	leads, _ := s.leadOf("lead@example.org", "Design")
	admin, lead := s.as(account.RoleAdmin), s.visitor(s.session(leads))
	out := s.as(account.RoleAdmin)
	never := s.as(account.RoleAdmin) // has a session that this node has not seen since it was made
	for _, v := range []*visitor{admin, lead, out} {
		v.get("/runbook").wants(t, http.StatusOK)
	}
	out.post("/sign-out", "").wants(t, http.StatusSeeOther)
	s.loseDatabase()

	for _, path := range []string{"/runbook", "/runbook/slow-runs", "/runbook/print"} {
		s.Clock.Advance(11 * time.Second)
		admin.get(path).wants(t, http.StatusOK).shows(t, "The built-in text: the database does not answer, edits are not shown.", "Does not answer", "Act now", "The database does not answer right now")
		lead.get(path).wants(t, http.StatusOK).shows(t, "Does not answer")
	}
	if page := lead.get("/runbook/missing-api-key").wants(t, http.StatusOK); strings.Contains(page.Text, "1 of 3 usable") {
		t.Error("without the database a lead sees more")
	}
	admin.get("/runbook?q=leaked").wants(t, http.StatusOK).shows(t, "leaked-key")
	admin.get("/runbook/checks/database", "HX-Request", "true").wants(t, http.StatusOK).shows(t, "Does not answer")
	// Nothing else is.
	for _, path := range []string{"/usage", "/runbook/new", "/runbook/slow-runs/edit", "/settings/audit"} {
		admin.get(path).wants(t, http.StatusServiceUnavailable)
	}
	admin.post("/runbook/slow-runs/edit", runbookForm("save", "0", "", "# T\n")).wants(t, http.StatusServiceUnavailable)
	for name, v := range map[string]*visitor{"never seen": never, "signed out": out} {
		if answer := v.get("/runbook"); answer.StatusCode == http.StatusOK || strings.Contains(answer.Text, "Leaked key") {
			t.Errorf("%s: status %d", name, answer.StatusCode)
		}
	}
	s.visitor().get("/runbook").wants(t, http.StatusSeeOther)
	s.Clock.Advance(time.Hour)
	admin.get("/runbook").wants(t, http.StatusServiceUnavailable)
}
