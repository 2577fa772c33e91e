package handlers_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/drift"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/usage"
)

// drift changes who may do what, and has some statements refused.
func (s *site) drift(email string) account.Operator {
	s.t.Helper()
	for _, sql := range []string{
		`select ops.ensure_partitions(current_date, current_date)`,
		`alter policy prompt_runs_select on public.prompt_runs using (user_id = (select auth.uid()) or team_id = any (array(select ops.led_team_ids())) or true)`,
		`create or replace function ops.member_team_ids() returns setof uuid language sql stable security definer as $$ select id from public.teams $$`,
		`revoke select on public.lessons from authenticated`,
		`create table public.notes (body text); grant select on public.notes to anon`,
	} {
		_, err := s.DB.Exec(s.t.Context(), sql)
		must(s.t, err)
	}
	_, err := s.DB.Exec(s.t.Context(), `
		insert into ops.rls_errors (slot, source, reason, object, role, route, message, hint, first_at, last_at, n)
		select date_bin('5 minutes', at, 'epoch'), 'pool', reason, object, role, route, message, hint, at, at, n
		from (values
		  ('grant', 'table lessons', 'authenticated', 'GET /activity', 'permission denied for table lessons',
		   'Grant the required privileges to the current role with: GRANT SELECT ON public.lessons TO authenticated;', 12, interval '1 minute'),
		  ('policy', 'table prompt_templates', 'authenticated', '', 'new row violates row-level security policy for table "prompt_templates"', '', 1, interval '3 hours'),
		  ('other', '', '', '', '<script>alert(1)</script>', '', 1, interval '5 hours'),
		  ('grant', 'table long_ago', '', '', 'permission denied for table long_ago', '', 1, interval '3 days')) e (reason, object, role, route, message, hint, n, ago),
		  lateral (select $1::timestamptz - ago as at) t`, s.Clock.Now())
	must(s.t, err)
	return named(s, email, "Dora")
}

// tryRLS acts as learners from the page.
func tryRLS(b *tab) {
	js[any](b, `document.querySelector("form[action^='/rls/test']").submit(), 0`)
	b.shows("main", "Not as expected")
	b.settle()
}

func TestRLSPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	page := admin.get("/rls").wants(t, http.StatusOK).shows(t, "Nothing has drifted", "Refused statements", "None.", "Try it out")
	if strings.Contains(page.Text, "SQL that would mend") {
		t.Error("there is nothing to mend")
	}
	dora := s.visitor(s.session(s.drift("dora@example.org")))
	page = dora.get("/rls").wants(t, http.StatusOK).shows(t, "Drifted: 4, of which critical: 3", "policy prompt_runs_select on public.prompt_runs",
		"alter table public.notes enable row level security;", "Not ours", "grant select on table public.lessons to authenticated;",
		"permission denied for table lessons", "GRANT SELECT ON public.lessons", "GET /activity", "12 in the last minutes",
		"&lt;script&gt;alert(1)", "all-sql")
	if strings.Contains(page.Text, "long_ago") {
		t.Error("what was refused days ago is shown")
	}
	dora.post("/rls/test", "").wants(t, http.StatusOK).shows(t, "Not as expected: ", "expected empty", "Closed to all")
	dora.post("/rls/test", "", "Sec-Fetch-Site", "cross-site").wants(t, http.StatusForbidden)

	// What cannot be compared, or tried, is said to be so.
	_, err := s.DB.Exec(t.Context(), `delete from ops.schema_migrations where version_id = 14; drop table public.lessons cascade`)
	must(t, err)
	dora.get("/rls").wants(t, http.StatusOK).shows(t, "It could not be compared", "Migration 14 is missing")
	dora.post("/rls/test", "").wants(t, http.StatusOK).shows(t, "It could not be tried")
}

// A page that Postgres refuses something is counted, with the page's address.
func TestRefusedStatementsKnowTheirRoute(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := t.Context()
	denials := drift.NewDenials()
	pool, err := postgres.Open(ctx, s.DB.Config().ConnString(), postgres.Options{Denied: denials.Note})
	must(t, err)
	t.Cleanup(pool.Close)
	s.Server.Usage = usage.NewStore(postgres.NewReader(pool))
	linus, _ := s.leadOf("linus@example.org", "Design")
	_, err = pool.Exec(ctx, `revoke select on public.prompt_attempts from authenticated`)
	must(t, err)
	s.visitor(s.session(linus)).get("/usage").wants(t, http.StatusInternalServerError)
	must(t, drift.NewRecorder(denials, s.Drift, s.Log).RunOnce(ctx, time.Now()))
	refused, err := s.Drift.Errors(ctx, time.Now().Add(-time.Hour), time.Now())
	must(t, err)
	if len(refused) != 1 || refused[0].Route != "GET /usage" || refused[0].Role != "authenticated" || refused[0].Object != "table prompt_attempts" {
		t.Errorf("kept %+v", refused)
	}
}
