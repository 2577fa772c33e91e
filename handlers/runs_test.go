package handlers_test

import (
	"encoding/csv"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/run"
)

// past is a run of a learner, a minute long ago, with what was said.
func (s *site) past(learner, team uuid.UUID, ago time.Duration, prompt string) uuid.UUID {
	s.t.Helper()
	id := run.NewID(s.Clock.Now().Add(-ago))
	at := run.CreatedAt(id)
	exec := func(sql string, args ...any) {
		_, err := s.DB.Exec(s.t.Context(), sql, args...)
		must(s.t, err)
	}
	exec(`select ops.ensure_partitions($1::date, $1::date)`, at)
	exec(`insert into public.prompt_runs (id, created_at, user_id, team_id, models, status, finished_at, duration_ms, total_tokens, total_cost_usd, unpriced)
		values ($1, $2, $3, nullif($4, $5::uuid), '{openai/gpt-5-mini}', 'success', $2, 700, 40, 0.0042, 0)`, id, at, learner, team, uuid.Nil)
	exec(`insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, team_id, provider, model, status, key_source, fallback_key_id, tries, input_tokens, output_tokens, usage_source, cost_usd, cost_source, duration_ms)
		values ($1, 0, $2, $3, nullif($4, $5::uuid), 'openai', 'openai/gpt-5-mini', 'ok', 'fallback', $1, 1, 30, 10, 'reported', 0.0042, 'computed', 690)`, id, at, learner, team, uuid.Nil)
	exec(`insert into public.prompt_contents (run_id, created_at, user_id, team_id, messages, outputs)
		values ($1, $2, $3, nullif($5, $6::uuid), jsonb_build_array(jsonb_build_object('role', 'user', 'content', $4::text)), '{"openai/gpt-5-mini":"an answer"}')`, id, at, learner, prompt, team, uuid.Nil)
	return id
}

// teamOf makes a team; its first member leads it.
func (s *site) teamOf(name string, members ...uuid.UUID) uuid.UUID {
	s.t.Helper()
	id := uuid.New()
	_, err := s.DB.Exec(s.t.Context(), `insert into public.teams (id, name) values ($1, $2)`, id, name)
	must(s.t, err)
	for i, member := range members {
		role := "member"
		if i == 0 {
			role = "lead"
		}
		_, err := s.DB.Exec(s.t.Context(), `insert into public.team_members (team_id, user_id, role) values ($1, $2, $3)`, id, member, role)
		must(s.t, err)
	}
	return id
}

func TestRunsPage(t *testing.T) {
	t.Parallel()
	s := newSite(t).withDemo()
	admin := s.as(account.RoleAdmin)
	page := admin.get("/runs").wants(t, http.StatusOK).shows(t, "<!doctype html>", "1,000+ runs", "Older", "The newest 10,000 at most")
	if n := strings.Count(page.Text, `<th scope="row">`); n != 50 {
		t.Errorf("%d runs on the page", n)
	}
	_, rest, _ := strings.Cut(page.Text, `before=`)
	cursor, _, _ := strings.Cut(rest, `&`)
	second := admin.get("/runs?range=30d&before="+cursor, "HX-Request", "true").wants(t, http.StatusOK).shows(t, "Newer", "Newest")
	if strings.Contains(second.Text, "<html") {
		t.Error("htmx gets the whole page")
	}
	admin.get("/runs?status=error&class=rate_limited&key=fallback&provider=openai&seconds=0.1").wants(t, http.StatusOK).shows(t, `<details class="disclosure filter-more" open>`)
	admin.get("/runs?learner=ada@demo.promptcademy.test").wants(t, http.StatusOK).shows(t, "ada@demo.promptcademy.test", "/learners/")
	admin.get("/runs?learner=nobody@example.org").wants(t, http.StatusOK).shows(t, "No runs match")
	admin.get("/runs?team="+uuid.NewString()).wants(t, http.StatusOK).shows(t, "No runs match")
	admin.get("/runs?range=soon&cost=much&before=1").wants(t, http.StatusUnprocessableEntity).shows(t, "range is not a range of days", "cost is no amount of dollars")
	admin.get("/runs?before=1").wants(t, http.StatusUnprocessableEntity).shows(t, "before is no id of a run")
	admin.get("/runs.csv?range=soon").wants(t, http.StatusUnprocessableEntity)
	newSite(t).as(account.RoleAdmin).get("/runs").wants(t, http.StatusOK).shows(t, "No runs in this period")

	file := admin.get("/runs.csv?range=7d&status=success").wants(t, http.StatusOK)
	if got := file.Header.Get("Content-Disposition"); got != `attachment; filename="runs-2026-11-18-to-2026-11-24.csv"` {
		t.Errorf("Content-Disposition %s", got)
	}
	records, err := csv.NewReader(strings.NewReader(file.Text)).ReadAll()
	must(t, err)
	var want int
	must(t, s.DB.QueryRow(t.Context(), `select count(*) from prompt_runs where status = 'success' and created_at >= '2026-11-18Z' and created_at < '2026-11-25Z'`).Scan(&want))
	if len(records)-1 != want {
		t.Errorf("%d runs in the file, want %d", len(records)-1, want)
	}
}

// From a run the way leads along the list that it was opened from.
func TestRunsNeighbours(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, bob := s.learner("ada@example.org"), s.learner("bob@example.org")
	first, other, last := s.past(ada, uuid.Nil, 3*time.Hour, "a"), s.past(bob, uuid.Nil, 2*time.Hour, "b"), s.past(ada, uuid.Nil, time.Hour, "c")
	admin := s.as(account.RoleAdmin)
	admin.get("/runs/"+other.String()).wants(t, http.StatusOK).shows(t, `href="/runs/`+first.String()+`" rel="next"`, `href="/runs/`+last.String()+`" rel="prev"`, `href="/runs"`)
	page := admin.get("/runs/"+first.String()+"?learner=ada@example.org&range=7d").wants(t, http.StatusOK)
	page.shows(t, `href="/runs/`+last.String()+`?learner=ada%40example.org&amp;range=7d" rel="prev"`)
	if strings.Contains(page.Text, other.String()) || strings.Contains(page.Text, `rel="next"`) {
		t.Error("the way leads to runs that are not in the list")
	}
}

// A lead sees the runs of the teams led, and what was said only if they share it.
func TestRunsOfALead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	lead := s.operator("lead@example.org", account.RoleTeamLead, "")
	ada, bob := s.learner("ada@example.org"), s.learner("bob@example.org")
	mine, theirs := s.teamOf("Kitchen", *lead.LearnerID, ada), s.teamOf("Garden", bob, *lead.LearnerID, ada)
	_, err := s.DB.Exec(t.Context(), `insert into ops.fallback_keys (id, provider, label, ciphertext, fingerprint, last_four) values ($1, 'openai', 'Main account', 'x', 'x', '9f2a')`, uuid.New())
	must(t, err)
	seen := s.past(ada, mine, time.Hour, "asked in the kitchen")
	_, err = s.DB.Exec(t.Context(), `update public.prompt_attempts set fallback_key_id = (select id from ops.fallback_keys)`)
	must(t, err)
	hidden := []uuid.UUID{s.past(bob, theirs, 2*time.Hour, "secret 1"), s.past(ada, theirs, 2*time.Hour, "secret 2"), s.past(ada, uuid.Nil, 2*time.Hour, "secret 3"), s.past(*lead.LearnerID, theirs, 2*time.Hour, "secret 4")}
	visitor := s.visitor(s.session(lead))

	for _, path := range []string{
		"/runs", "/runs?range=180d", "/runs?team=" + mine.String(), "/runs?learner=bob@example.org", "/runs?learner=" + url.QueryEscape("lead@example.org"), "/runs?key=fallback", "/runs?class=timeout",
		"/runs?request=" + hidden[0].String(), "/runs?request=" + hidden[3].String(), "/runs?after=" + hidden[0].String(), "/runs?before=" + seen.String(), "/runs.csv", "/runs.csv?learner=ada@example.org", "/runs?model=openai/gpt-5-mini",
	} {
		page := visitor.get(path).wants(t, http.StatusOK)
		for _, id := range hidden {
			if strings.Contains(strings.ReplaceAll(page.Text, `value="`+id.String(), ""), id.String()) && !strings.Contains(path, id.String()) {
				t.Errorf("%s shows run %s", path, id)
			}
		}
		for _, secret := range []string{"Garden", theirs.String(), "secret", "/runs/" + hidden[0].String(), "/runs/" + hidden[3].String(), "9f2a", "Main account"} {
			if strings.Contains(page.Text, secret) {
				t.Errorf("%s shows %q", path, secret)
			}
		}
	}
	for _, path := range []string{"/runs?team=" + theirs.String(), "/runs.csv?team=" + theirs.String(), "/runs?team=" + strings.ToUpper(theirs.String()), "/runs?team=" + uuid.NewString()} {
		visitor.get(path).wants(t, http.StatusNotFound)
	}
	for _, id := range hidden {
		visitor.get("/runs/"+id.String()).wants(t, http.StatusNotFound)
		visitor.get("/runs/"+id.String()+"?team="+mine.String()).wants(t, http.StatusNotFound)
	}

	visitor.get("/runs").shows(t, seen.String(), "ada@example.org", "Kitchen")
	page := visitor.get("/runs/"+seen.String()).wants(t, http.StatusOK).shows(t, "does not share its prompts", "Fallback key", "ada@example.org")
	for _, secret := range []string{"asked in the kitchen", "9f2a", "Main account", hidden[0].String(), "rel=\"next\""} {
		if strings.Contains(page.Text, secret) {
			t.Errorf("the run shows %q", secret)
		}
	}
	_, err = s.DB.Exec(t.Context(), `update public.teams set share_prompts = true`)
	must(t, err)
	visitor.get("/runs/"+seen.String()).wants(t, http.StatusOK).shows(t, "asked in the kitchen", "an answer")
	_, err = s.DB.Exec(t.Context(), `update public.team_members set role = 'member' where user_id = $1`, lead.LearnerID)
	must(t, err)
	visitor.get("/runs/"+seen.String()).wants(t, http.StatusForbidden)
	visitor.get("/runs").wants(t, http.StatusForbidden)
}
