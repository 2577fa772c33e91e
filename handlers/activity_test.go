package handlers_test

import (
	"encoding/csv"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/activity"
)

func TestActivityPage(t *testing.T) {
	t.Parallel()
	s := newSite(t).withDemo()
	admin := s.as(account.RoleAdmin)
	admin.get("/activity").wants(t, http.StatusOK).shows(t, "<!doctype html>", "Who comes back", "From sign-up to the first lesson", "Stickiness", "Cost per completed lesson", "Explain to a newcomer",
		"Changes are against 26 Sep – 25 Oct 2026", "Today is not over", "Completed / started", "Last run")
	fragment := admin.get("/activity?range=180d", "HX-Request", "true").wants(t, http.StatusOK)
	if strings.Contains(fragment.Text, "<html") {
		t.Error("htmx gets the whole page")
	}
	admin.get("/activity?range=soon&team=7").wants(t, http.StatusUnprocessableEntity).shows(t, "range is not a range of days", "team is not an id")
	admin.get("/activity.csv?table=odd").wants(t, http.StatusUnprocessableEntity)
	for _, table := range activity.Tables {
		file := admin.get("/activity.csv?range=90d&table="+table).wants(t, http.StatusOK)
		if records, err := csv.NewReader(strings.NewReader(file.Text)).ReadAll(); err != nil || len(records) < 2 && table != "quiet" {
			t.Errorf("%s: %d records, %v", table, len(records), err)
		}
		if got := file.Header.Get("Content-Disposition"); !strings.Contains(got, `"activity-`+table+`-2026-08-27-to-2026-11-24.csv"`) {
			t.Errorf("%s: %s", table, got)
		}
	}
	newSite(t).as(account.RoleAdmin).get("/activity").wants(t, http.StatusOK).shows(t, "Nobody was active in this period")

	// What learners' runs cost is what their attempts cost.
	q, err := activity.ParseQuery(map[string][]string{"range": {"180d"}}, s.Clock.Now(), time.UTC)
	must(t, err)
	report, err := s.Activity.Report(t.Context(), q, s.Clock.Now())
	must(t, err)
	var cost string
	var unpriced int64
	must(t, s.DB.QueryRow(t.Context(), `
		select trim_scale(sum(cost_usd))::text, count(*) filter (where cost_usd is null and status <> 'running')
		from prompt_attempts where user_id is not null and created_at >= $1 and created_at < $2`, q.From, q.To).Scan(&cost, &unpriced))
	if report.Spent.Cost.String() != cost || report.Spent.Unpriced != unpriced {
		t.Errorf("runs cost %s, %d unpriced; their attempts %s, %d", report.Spent.Cost, report.Spent.Unpriced, cost, unpriced)
	}
}

func TestLearnerPage(t *testing.T) {
	t.Parallel()
	s := newSite(t).withDemo()
	admin := s.as(account.RoleAdmin)
	var ada string
	must(t, s.DB.QueryRow(t.Context(), `select id::text from auth.users where email = 'ada@demo.promptcademy.test'`).Scan(&ada))
	page := admin.get("/learners/"+ada).wants(t, http.StatusOK).shows(t, "ada@demo.promptcademy.test", "Spring cohort", "OpenAI", "Ran a prompt", "Older")
	for n := 0; ; n++ { // to the end of the timeline, which is the beginning
		_, rest, found := strings.Cut(page.Text, `href="/learners/`+ada+`?before=`)
		if !found {
			break
		}
		place, _, _ := strings.Cut(rest, `"`)
		page = admin.get("/learners/"+ada+"?before="+place).wants(t, http.StatusOK).shows(t, "Newest")
		if n > 200 {
			t.Fatal("the timeline has no end")
		}
	}
	page.shows(t, "Signed up")
	for _, path := range []string{"/learners/1", "/learners/" + uuid.NewString()} {
		admin.get(path).wants(t, http.StatusNotFound)
	}
	admin.get("/learners/"+ada+"?before=x").wants(t, http.StatusUnprocessableEntity)
}

// A lead sees the members of the teams led, and of nobody else so much as a name.
func TestActivityOfALead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	lead := s.operator("lead@example.org", account.RoleTeamLead, "")
	ada, bob := s.learner("ada@example.org"), s.learner("bob@example.org")
	mine, theirs := s.teamOf("Kitchen", *lead.LearnerID, ada), s.teamOf("Garden", bob, *lead.LearnerID)
	exec := func(sql string, args ...any) {
		_, err := s.DB.Exec(t.Context(), sql, args...)
		must(t, err)
	}
	exec(`update auth.users set created_at = $1`, s.Clock.Now().AddDate(0, 0, -20))
	for learner, name := range map[uuid.UUID]string{ada: "Knives", bob: "Spades"} {
		exec(`insert into public.prompt_templates (title, body, owner_id, is_public) values ($1, 'x', $2, true)`, name, learner)
		exec(`insert into public.template_events (template_id, user_id, event, created_at) select id, $1, 'used', $2 from public.prompt_templates where title = $3`, learner, s.Clock.Now().Add(-time.Hour), name)
		exec(`insert into public.user_api_keys (user_id, provider, label, ciphertext, fingerprint, last_four) values ($1, 'openai', 'a label of ' || $2, 'x', 'x', '9f2a')`, learner, name)
	}
	seen, hidden, elsewhere := s.past(ada, mine, 10*24*time.Hour, "x"), s.past(bob, theirs, 10*24*time.Hour, "x"), s.past(ada, theirs, time.Hour, "x")
	exec(`update public.prompt_runs set status = 'error' where id = any ($1)`, []uuid.UUID{seen, hidden})
	visitor := s.visitor(s.session(lead))
	secrets := []string{"Garden", theirs.String(), "bob@example.org", bob.String(), hidden.String(), elsewhere.String(), "Spades", "9f2a", "a label of"}
	paths := []string{"/activity", "/activity?range=180d", "/activity?team=" + mine.String(), "/learners/" + ada.String(), "/learners/" + lead.LearnerID.String()}
	for _, table := range activity.Tables {
		paths = append(paths, "/activity.csv?table="+table)
	}
	for _, path := range paths {
		page := visitor.get(path).wants(t, http.StatusOK)
		for _, secret := range secrets {
			if strings.Contains(page.Text, secret) {
				t.Errorf("%s shows %q", path, secret)
			}
		}
	}
	visitor.get("/activity").shows(t, "ada@example.org", "Knives", "Kitchen")
	visitor.get("/learners/"+ada.String()).shows(t, "ada@example.org", seen.String(), "OpenAI", "Healthy")
	for _, path := range []string{
		"/activity?team=" + theirs.String(), "/activity.csv?team=" + theirs.String(), "/activity?team=" + uuid.NewString(), "/activity?team=" + strings.ToUpper(theirs.String()),
		"/activity?range=7d&team={" + theirs.String() + "}", "/learners/" + bob.String(), "/learners/" + strings.ToUpper(bob.String()), "/learners/" + bob.String() + "?team=" + mine.String(), "/learners/" + uuid.NewString(),
	} {
		page := visitor.get(path).wants(t, http.StatusNotFound)
		for _, secret := range []string{"Garden", "bob@example.org", "Spades"} {
			if strings.Contains(page.Text, secret) {
				t.Errorf("%s shows %q", path, secret)
			}
		}
	}
	exec(`delete from public.team_members where team_id = $1 and user_id = $2`, mine, ada)
	visitor.get("/learners/"+ada.String()).wants(t, http.StatusNotFound)
}
