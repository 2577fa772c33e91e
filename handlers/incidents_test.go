package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/incident"
)

// form is a form's fields as they are sent: "name", "value", …
func form(pairs ...string) string {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		values.Add(pairs[i], pairs[i+1])
	}
	return values.Encode()
}

var revision = regexp.MustCompile(`name="revision" value="(\d+)"`)

// revisionOn is the revision that the forms of a page were made from.
func revisionOn(t testing.TB, page reply) string {
	t.Helper()
	found := revision.FindStringSubmatch(page.Text)
	if found == nil {
		t.Fatalf("no revision on\n%.2000s", page.Text)
	}
	return found[1]
}

// started starts an incident and returns its address.
func (v *visitor) started(pairs ...string) string {
	v.t.Helper()
	at := v.post("/incidents", form(pairs...)).wants(v.t, http.StatusSeeOther).Header.Get("Location")
	if !regexp.MustCompile(`^/incidents/\d+$`).MatchString(at) {
		v.t.Fatalf("sent to %q", at)
	}
	return at
}

func readings(failing bool) func(*handlers.Server) {
	return func(s *handlers.Server) {
		s.Readable = func() []incident.Check {
			return []incident.Check{{ID: "fallback-keys", Title: "Usable fallback keys"}, {ID: "slow", Title: "P95"}}
		}
		s.Reading = func(_ context.Context, id string) (incident.Reading, error) {
			switch {
			case id == "fallback-keys" && failing:
				return incident.Reading{}, errors.New("secret of the inside")
			case id == "fallback-keys":
				return incident.Reading{Title: "Usable fallback keys", Verdict: "failing", Value: "0 at <OpenAI>", Detail: "both are invalid", At: s.Now()}, nil
			}
			return incident.Reading{}, fault.New(fault.NotFound, "There is no such check.")
		}
	}
}

func TestIncidentFromBeginningToEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t, readings(false))
	marta, lena := s.visitor(s.session(named(s, "marta@example.org", "Marta"))), s.visitor(s.session(named(s, "lena@example.org", "")))
	marta.get("/incidents").wants(t, http.StatusOK).shows(t, "There has been no incident", `href="/incidents/new"`)
	marta.get("/incidents/new?check=fallback-keys&step=missing-key").wants(t, http.StatusOK).shows(t, `value="Usable fallback keys: 0 at &lt;OpenAI&gt;"`, "failing", "both are invalid")
	marta.get("/incidents/new?check=nonsense&step=<script>").wants(t, http.StatusUnprocessableEntity).shows(t, "is no check that there is", `name="step" value=""`)

	marta.post("/incidents", form("title", " ", "severity", "9", "leadId", "me", "detectedAt", "soon")).wants(t, http.StatusUnprocessableEntity).
		shows(t, "Nothing was saved", "This is nobody; choose an admin.", "This is not a moment like")
	at := marta.started("title", "OpenAI refuses <our> keys", "severity", "1", "check", "fallback-keys", "step", "missing-key")
	lena.get(at).wants(t, http.StatusOK).shows(t, "OpenAI refuses &lt;our&gt; keys", "SEV1", "Open", "Check failing", "0 at &lt;OpenAI&gt;", "Started as SEV1", "Runbook, missing-key", "Acknowledge")
	lena.get("/usage").wants(t, http.StatusOK).shows(t, "SEV1 Open", `href="`+at+`"`) // on every page

	s.Clock.Advance(4 * time.Minute)
	lena.post(at+"/status", form("do", "acknowledge")).wants(t, http.StatusSeeOther)
	marta.post(at+"/status", form("do", "acknowledge")).wants(t, http.StatusConflict).shows(t, "somebody has acknowledged this incident already")
	lena.get(at).shows(t, "after 4 min", "by lena@example.org")
	lena.post(at+"/notes", form("body", "Asked <b>support</b>\nand wait")).wants(t, http.StatusSeeOther)
	lena.post(at+"/notes", form("body", " ")).wants(t, http.StatusUnprocessableEntity).shows(t, "The note: This must not be empty")
	page := lena.get(at).shows(t, "Asked &lt;b&gt;support&lt;/b&gt;\nand wait", "Change this note")
	note := regexp.MustCompile(`id="note-(\d+)"`).FindStringSubmatch(page.Text)[1]
	if strings.Contains(marta.get(at).Text, "Change this note") {
		t.Error("somebody else’s note can be changed")
	}
	marta.post(at+"/notes/"+note, form("do", "edit", "version", "0", "body", "mine now")).wants(t, http.StatusForbidden)
	lena.post(at+"/notes/"+note, form("do", "edit", "version", "0", "body", "Asked support, twice")).wants(t, http.StatusSeeOther)
	lena.post(at+"/notes/"+note, form("do", "edit", "version", "0", "body", "words of an old window")).wants(t, http.StatusConflict).shows(t, "words of an old window", "Asked support, twice")
	marta.post(at+"/reading", form("check", "fallback-keys")).wants(t, http.StatusSeeOther)
	marta.post(at+"/reading", form("check", "nonsense")).wants(t, http.StatusUnprocessableEntity).shows(t, "is no check that there is")
	marta.post(at+"/follow-ups", form("task", "Watch <keys>", "dueOn", "2026-11-20")).wants(t, http.StatusSeeOther)
	marta.get(at).shows(t, "Watch &lt;keys&gt;", "due 20 Nov 2026", "Late")
	follow := regexp.MustCompile(`/follow-ups/(\d+)"`).FindStringSubmatch(marta.get(at).Text)[1]
	marta.post(at+"/follow-ups/"+follow, form("do", "edit", "revision", "1", "task", "Watch <keys> hourly", "dueOn", "never")).wants(t, http.StatusUnprocessableEntity).
		shows(t, `value="Watch &lt;keys&gt; hourly"`, "This is not a day like")
	lena.post(at+"/follow-ups/"+follow, form("do", "done", "revision", "1")).wants(t, http.StatusSeeOther)
	marta.post(at+"/follow-ups/"+follow, form("do", "edit", "revision", "1", "task", "Watch hourly")).wants(t, http.StatusConflict).shows(t, "somebody else changed this follow-up", `value="Watch hourly"`)
	marta.post(at+"/follow-ups/"+follow, form("do", "undone", "revision", "2")).wants(t, http.StatusSeeOther)
	marta.get("/incidents").shows(t, "Left to do", "Watch &lt;keys&gt;", "Mean to acknowledge", "4 min")

	s.Clock.Advance(30 * time.Minute)
	marta.post(at+"/status", form("do", "mitigate")).wants(t, http.StatusSeeOther)
	lena.post(at+"/status", form("do", "resolve")).wants(t, http.StatusSeeOther)
	lena.post(at+"/status", form("do", "explode")).wants(t, http.StatusBadRequest)
	lena.get(at).shows(t, "Resolved", "after 34 min", "Reopen", "Asked support, twice")
	if strings.Contains(lena.get("/usage").Text, "Open incidents") {
		t.Error("the banner tells of what is resolved")
	}
	file := lena.get(at+"/post-mortem.md").wants(t, http.StatusOK).shows(t, "# Incident 1: OpenAI refuses &lt;our&gt; keys", "after 4 min, by lena@example.org", "Watch &lt;keys&gt;")
	if kind, disposition := file.Header.Get("Content-Type"), file.Header.Get("Content-Disposition"); kind != "text/markdown; charset=utf-8" || disposition != `attachment; filename="incident-1-2026-11-24.md"` {
		t.Errorf("%s, %s", kind, disposition)
	}
	lena.get("/incidents.csv?status=resolved").wants(t, http.StatusOK).shows(t, "SEV1,resolved,,2026-11-24T12:00:0")
	lena.get("/incidents?severity=7").wants(t, http.StatusUnprocessableEntity).shows(t, "severity must be 1, 2 or 3")
	lena.get("/incidents?severity=3").wants(t, http.StatusOK).shows(t, "No incident matches these filters")
	lena.get("/settings/audit?subject=incident").wants(t, http.StatusOK).shows(t, "incident.resolve", "incident.note_edit", "incident.follow_up_add", `href="/incidents"`)
}

// Nobody's words are lost when two write at once.
func TestTwoWriteAPostMortem(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	marta, lena := s.as(account.RoleAdmin), s.as(account.RoleAdmin)
	at := marta.started("title", "Slow runs", "severity", "2")
	seen := revisionOn(t, marta.get(at))
	lena.post(at+"/post-mortem", form("revision", seen, "summary", "What Lena wrote", "wentWell", "", "wentBadly", "", "lessons", "")).wants(t, http.StatusSeeOther)
	refused := marta.post(at+"/post-mortem", form("revision", seen, "summary", "What <Marta> wrote", "wentWell", "this", "wentBadly", "", "lessons", "")).wants(t, http.StatusConflict).
		shows(t, "somebody else has changed this incident", "What &lt;Marta&gt; wrote", "What Lena wrote", "What is saved by now")
	marta.post(at+"/post-mortem", form("revision", revisionOn(t, refused), "summary", "Both", "wentWell", "this", "wentBadly", "", "lessons", "")).wants(t, http.StatusSeeOther)
	marta.get(at).shows(t, "Both")

	long := strings.Repeat("字", 9_999) // takes nine bytes of a form each
	marta.post(at+"/post-mortem", form("revision", revisionOn(t, marta.get(at)), "summary", long, "wentWell", long, "wentBadly", long, "lessons", long)).wants(t, http.StatusSeeOther)
	marta.post(at+"/post-mortem", form("revision", revisionOn(t, marta.get(at)), "summary", long+"two", "wentWell", "kept")).wants(t, http.StatusUnprocessableEntity).
		shows(t, "This must have at most 10,000 characters.", long+"two", ">kept<")

	seen = revisionOn(t, marta.get(at))
	marta.post(at, form("revision", seen, "title", "Slower runs", "severity", "1", "leadId", "", "detectedAt", "")).wants(t, http.StatusSeeOther)
	lena.post(at, form("revision", seen, "title", "Slowest runs", "severity", "1", "leadId", "", "detectedAt", "")).wants(t, http.StatusConflict).
		shows(t, `value="Slowest runs"`, "Slower runs</h1>")
	lena.post(at, form("revision", "nonsense", "title", "x", "severity", "1")).wants(t, http.StatusConflict)
}

// Times are typed and shown in the zone of who looks, and mean the same for all.
func TestIncidentTimesAreOfTheZone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	tokyo := named(s, "tokyo@example.org", "Tokyo")
	_, err := s.DB.Exec(t.Context(), `update ops.operators set timezone = 'Asia/Tokyo' where id = $1`, tokyo.ID)
	must(t, err)
	far, near := s.visitor(s.session(tokyo)), s.as(account.RoleAdmin)
	at := far.started("title", "Slow", "severity", "3", "detectedAt", "2026-11-24T20:30")
	far.get(at).shows(t, "24 Nov 2026, 20:30 JST", `value="2026-11-24T20:30"`, "Time in Asia/Tokyo")
	near.get(at).shows(t, "24 Nov 2026, 11:30 UTC", `value="2026-11-24T11:30"`)
	near.get("/usage").shows(t, "24 Nov 2026, 11:30 UTC")
	far.get(at+"/post-mortem.md").shows(t, "| Detected | 2026-11-24 11:30:00 |")
	near.post(at, form("revision", revisionOn(t, near.get(at)), "title", "Slow", "severity", "3", "leadId", "", "detectedAt", "2026-11-24T10:00")).wants(t, http.StatusSeeOther)
	far.get(at).shows(t, "24 Nov 2026, 20:30 JST", "24 Nov 2026, 19:00 JST") // from, to
	far.post("/incidents", form("title", "Future", "severity", "3", "detectedAt", "2026-11-24T21:30")).wants(t, http.StatusUnprocessableEntity).shows(t, "This is in the future")
	near.get("/incidents?from=2026-11-24&to=2026-11-24").shows(t, "Slow")
	near.get("/incidents?from=2026-11-25").shows(t, "No incident matches")
}

// A team lead sees that something is broken, and nothing else of it.
func TestLeadsSeeOpenIncidents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.visitor(s.session(named(s, "marta@example.org", "Marta")))
	operator, _ := s.leadOf("lead@example.org", "Design")
	lead, idle := s.visitor(s.session(operator)), s.as(account.RoleTeamLead)
	lead.get("/incidents").wants(t, http.StatusOK).shows(t, "Nothing is broken that we know of")
	open := admin.started("title", "Runs are slow", "severity", "2")
	over := admin.started("title", "Old trouble", "severity", "1")
	admin.post(open+"/notes", form("body", "Beta Buccaneers suffer most")).wants(t, http.StatusSeeOther)
	admin.post(over+"/status", form("do", "resolve")).wants(t, http.StatusSeeOther)
	page := lead.get("/incidents").wants(t, http.StatusOK).shows(t, "Runs are slow", "SEV2", "Open", "24 Nov 2026, 12:0", `aria-label="Open incidents"`, `href="/incidents"`)
	for _, secret := range []string{"Old trouble", "Buccaneers", "Marta", open, "Start an incident", "Runs failed", "CSV"} {
		if strings.Contains(page.Text, secret) {
			t.Errorf("a lead sees %q", secret)
		}
	}
	lead.get("/usage").wants(t, http.StatusOK).shows(t, "Runs are slow", "SEV2 Open")
	for _, path := range []string{open, open + "/post-mortem.md", "/incidents.csv", "/incidents/new"} {
		lead.get(path).wants(t, http.StatusForbidden)
	}
	for _, path := range []string{"/incidents", open, open + "/status", open + "/notes", open + "/notes/1", open + "/reading", open + "/post-mortem", open + "/follow-ups", open + "/follow-ups/1"} {
		lead.post(path, form("title", "Mine", "severity", "1", "do", "resolve", "body", "x")).wants(t, http.StatusForbidden)
	}
	if strings.Contains(idle.get("/incidents").wants(t, http.StatusForbidden).Text, "Runs are slow") {
		t.Error("a lead of no team sees the banner")
	}
	if strings.Contains(s.visitor().get("/sign-in").Text, "Runs are slow") {
		t.Error("everybody sees the banner")
	}
}

// A check that cannot be read says so, and never that all is well.
func TestCheckThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newSite(t, readings(true))
	admin := s.as(account.RoleAdmin)
	admin.get("/incidents/new?check=fallback-keys").wants(t, http.StatusOK).shows(t, "could not be measured", "unknown")
	at := admin.started("title", "Blind", "severity", "2", "check", "fallback-keys")
	page := admin.get(at).shows(t, "Check unknown", "could not be measured")
	if strings.Contains(page.Text, "secret of the inside") {
		t.Error("the page shows what is for the log only")
	}
	if !strings.Contains(s.Events.Text(), "secret of the inside") {
		t.Error("the log does not say why")
	}
	without := newSite(t).as(account.RoleAdmin)
	at = without.started("title", "No checks", "severity", "2", "check", "fallback-keys")
	if text := without.get(at).Text; strings.Contains(text, "Record it now") || strings.Contains(text, "could not be measured") {
		t.Error("there are no checks, and yet one was read")
	}
}

// The numbers of the impact are there, also of the demo, and lead to the runs where
// there is a page of them.
func TestIncidentImpactOnThePage(t *testing.T) {
	t.Parallel()
	s := newSite(t).withDemo()
	admin := s.as(account.RoleAdmin)
	begin := s.Clock.Now().Add(-72 * time.Hour)
	at := admin.started("title", "Three days", "severity", "3", "detectedAt", begin.Format("2006-01-02T15:04"))
	var runs, failed int64
	must(t, s.DB.QueryRow(t.Context(), `
		select count(*), count(*) filter (where status = 'error') from public.prompt_runs where created_at >= date_trunc('minute', $1::timestamptz)`, begin).Scan(&runs, &failed))
	if runs == 0 || failed == 0 {
		t.Fatalf("%d runs, %d failed: that proves nothing", runs, failed)
	}
	admin.get(at).wants(t, http.StatusOK).shows(t, "Runs failed", fmt.Sprintf("of %s run", grouped(runs)), ">"+grouped(failed)+"<", "3 d", "Fallback cost", "Learners hit")
}

func TestListOfManyIncidents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	_, err := s.DB.Exec(t.Context(), `
		insert into ops.incidents (title, severity, detected_at, created_at)
		select 'Trouble ' || n, n % 3 + 1, $1::timestamptz - n * interval '1 minute', $1 from generate_series(1, 120) n`, s.Clock.Now())
	must(t, err)
	path, seen := "/incidents?status=open", map[string]bool{}
	for pages := 0; path != ""; pages++ {
		page := admin.get(path).wants(t, http.StatusOK)
		for _, found := range regexp.MustCompile(`>(Trouble \d+)</a></span></th>`).FindAllStringSubmatch(strings.ReplaceAll(page.Text, ">\n<", "><"), -1) {
			if seen[found[1]] {
				t.Errorf("%s is listed twice", found[1])
			}
			seen[found[1]] = true
		}
		older := regexp.MustCompile(`href="([^"]*)" rel="next"`).FindStringSubmatch(page.Text)
		if path = ""; older != nil {
			path = strings.ReplaceAll(older[1], "&amp;", "&")
		}
		if pages > 5 {
			t.Fatal("it never ends")
		}
	}
	if len(seen) != 120 {
		t.Errorf("%d of 120 were listed", len(seen))
	}
	admin.get("/incidents/99999999999999999999").wants(t, http.StatusNotFound)
	admin.get("/incidents/0x1").wants(t, http.StatusNotFound)
	admin.get("/incidents/01").wants(t, http.StatusNotFound)
	s.loseDatabase()
	admin.get("/incidents").wants(t, http.StatusServiceUnavailable)
}
