package drift

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// change is something done to the database, and what is found of it.
type change struct {
	sql      string
	object   string
	kind     Kind
	severity Severity
	mend     string // part of the SQL that mends it
}

var changes = []change{
	// Policies: gone, loosened by one word, tightened, added.
	{`drop policy teams_select on public.teams`, "policy teams_select on public.teams", Missing, Warning, "create policy teams_select on public.teams"},
	{`alter policy user_api_keys_select on public.user_api_keys using (true)`, "policy user_api_keys_select on public.user_api_keys", Different, Critical, "drop policy user_api_keys_select"},
	{`alter policy prompt_runs_select on public.prompt_runs using (user_id = (select auth.uid()) or team_id = any (array(select ops.led_team_ids())) or true)`,
		"policy prompt_runs_select on public.prompt_runs", Different, Critical, "create policy prompt_runs_select"},
	{`alter policy lessons_select on public.lessons to public`, "policy lessons_select on public.lessons", Different, Critical, "to authenticated"},
	{`alter policy lessons_select on public.lessons to anon, authenticated`, "policy lessons_select on public.lessons", Different, Critical, "to authenticated"},
	{`alter policy prompt_templates_update on public.prompt_templates with check (true)`, "policy prompt_templates_update on public.prompt_templates", Different, Critical, "with check"},
	{`alter policy lessons_select on public.lessons using (false)`, "policy lessons_select on public.lessons", Different, Warning, "using (published)"},
	{`drop policy user_progress_update on public.user_progress; create policy user_progress_update on public.user_progress for all to authenticated
	   using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()))`, "policy user_progress_update on public.user_progress", Different, Critical, "for update"},
	{`create policy "a "" b" on public.teams for delete using (true)`, `policy a " b on public.teams`, Unexpected, Critical, `drop policy "a "" b" on public.teams`},
	{`create policy less on public.teams as restrictive for select using (false)`, "policy less on public.teams", Unexpected, Warning, "drop policy less"},
	{`create policy open on ops.operators using (true)`, "policy open on ops.operators", Unexpected, Critical, "drop policy open on ops.operators"},

	// Grants.
	{`revoke select on public.teams from authenticated`, "grant select on table public.teams to authenticated", Missing, Warning, "grant select on table public.teams to authenticated"},
	{`revoke select (last_four) on public.user_api_keys from authenticated`, "grant select (last_four) on table public.user_api_keys to authenticated", Missing, Warning, "grant select (last_four)"},
	{`revoke usage on schema public from anon`, "grant usage on schema public to anon", Missing, Warning, "grant usage on schema public to anon"},
	{`revoke execute on function ops.led_team_ids() from authenticated`, "grant execute on function ops.led_team_ids() to authenticated", Missing, Warning, "grant execute"},
	{`grant select on public.teams to anon`, "grant select on table public.teams to anon", Unexpected, Critical, "revoke select on table public.teams from anon"},
	{`grant select on public.user_api_keys to authenticated`, "grant select on table public.user_api_keys to authenticated", Unexpected, Critical, "grant select (last_four)"},
	{`grant select (ciphertext) on public.user_api_keys to authenticated`, "grant select (ciphertext) on table public.user_api_keys to authenticated", Unexpected, Critical, "revoke select (ciphertext)"},
	{`grant truncate on public.prompt_runs to service_role`, "grant truncate on table public.prompt_runs to service_role", Unexpected, Critical, "revoke truncate"},
	{`grant select on public.lessons to public`, "grant select on table public.lessons to public", Unexpected, Critical, "from public"},
	{`grant select on public.teams to authenticated with grant option`, "grant select on table public.teams to authenticated", Different, Critical, "revoke grant option for select"},
	{`grant usage on schema ops to authenticated`, "grant usage on schema ops to authenticated", Unexpected, Critical, "revoke usage on schema ops"},
	{`grant create on schema public to public`, "grant create on schema public to public", Unexpected, Critical, "revoke create on schema public from public"},
	{`grant select on ops.operators to service_role`, "grant select on table ops.operators to service_role", Unexpected, Critical, "revoke select on table ops.operators"},
	{`grant usage on sequence public.template_events_id_seq to authenticated`, "grant usage on sequence public.template_events_id_seq to authenticated", Unexpected, Critical, "revoke usage on sequence"},
	{`grant execute on function ops.facts_changed() to public`, "grant execute on function ops.facts_changed() to public", Unexpected, Critical, "revoke execute"},
	{`grant pg_read_all_data to anon`, "membership of role anon in pg_read_all_data", Unexpected, Critical, "revoke pg_read_all_data from anon"},
	{`alter role authenticated bypassrls`, "role authenticated", Different, Critical, "nobypassrls"},

	// Row-level security itself.
	{`alter table public.prompt_contents disable row level security`, "table public.prompt_contents", Different, Critical, "enable row level security"},
	{`alter table public.teams force row level security`, "table public.teams", Different, Warning, "no force row level security"},
	{`alter table ops.operators enable row level security`, "table ops.operators", Different, Warning, "disable row level security"},

	// Triggers and rules.
	{`create function public.spy() returns trigger language plpgsql as $$ begin return null; end $$; create trigger spy after insert on public.user_api_keys for each row execute function public.spy()`,
		"trigger spy on public.user_api_keys", Unexpected, Critical, "drop trigger spy on public.user_api_keys"},
	{`drop trigger facts_changed on public.team_members`, "trigger facts_changed on public.team_members", Missing, Warning, "CREATE TRIGGER facts_changed"},
	{`drop trigger facts_changed on auth.users`, "trigger facts_changed on auth.users", Missing, Warning, "ON auth.users"},
	{`alter table public.team_members disable trigger facts_changed`, "trigger facts_changed on public.team_members", Different, Warning, "enable trigger facts_changed"},
	{`drop trigger facts_changed on ops.budgets; create trigger facts_changed after delete on ops.budgets for each row execute function ops.facts_changed()`,
		"trigger facts_changed on ops.budgets", Different, Critical, "FOR EACH STATEMENT"},
	{`alter table ops.prompt_attempts_2026_10 disable trigger mark_usage_update`, "trigger mark_usage_update on ops.prompt_attempts_2026_10", Different, Warning, "alter table ops.prompt_attempts_2026_10 enable trigger"},
	{`create rule r as on delete to public.lessons do instead nothing`, "rule r on public.lessons", Unexpected, Critical, "drop rule r on public.lessons"},

	// Functions.
	{`create or replace function ops.led_team_ids() returns setof uuid language sql stable security definer set search_path = '' as $$ select id from public.teams $$`,
		"function ops.led_team_ids()", Different, Critical, "FUNCTION ops.led_team_ids()"},
	{`alter function ops.member_team_ids() reset search_path`, "function ops.member_team_ids()", Different, Critical, "search_path"},
	{`alter function ops.led_learner_ids() security invoker`, "function ops.led_learner_ids()", Different, Critical, "SECURITY DEFINER"},
	{`alter function ops.pack_durations(integer[]) security definer`, "function ops.pack_durations(integer[])", Different, Critical, "ops.pack_durations"},
	{`alter function ops.member_team_ids() owner to service_role`, "function ops.member_team_ids()", Different, Critical, "owner to current_user"},
	{`drop function ops.ensure_partitions(date, date)`, "function ops.ensure_partitions(date,date)", Missing, Warning, "revoke all on function"},
	{`create function ops.led_team_ids(integer) returns int language sql security definer as $$ select 1 $$`, "function ops.led_team_ids(integer)", Unexpected, Critical, "drop function ops.led_team_ids(integer)"},

	// Partitions follow their table, and stay closed.
	{`grant select on ops.prompt_contents_2026_10 to authenticated`, "grant select on table ops.prompt_contents_2026_10 to authenticated", Unexpected, Critical, "revoke select on table ops.prompt_contents_2026_10"},
	{`alter table ops.prompt_runs_2026_10 enable row level security`, "table ops.prompt_runs_2026_10", Different, Warning, "disable row level security"},

	// What others made.
	{`create table public.notes (id int); grant select on public.notes to anon`, "table public.notes", Unexpected, Critical, "alter table public.notes enable row level security"},
	{`create table public.notes (id int, said text); grant update (said) on public.notes to authenticated`, "table public.notes", Unexpected, Critical, "enable row level security"},
	{`create view public.peek as select * from public.user_api_keys; grant select on public.peek to anon`, "view public.peek", Unexpected, Critical, "security_invoker"},
	{`create materialized view public.peek as select * from public.prompt_contents; grant select on public.peek to authenticated`, "materialized view public.peek", Unexpected, Critical, "revoke all on table public.peek"},
}

// changed makes a change in a transaction that the test's end undoes.
func changed(t *testing.T, sql ...string) pgx.Tx {
	t.Helper()
	tx := pgtest.Tx(t)
	for _, one := range append([]string{`select ops.ensure_partitions('2026-10-01', '2026-11-01')`}, sql...) {
		run(t, tx, one)
	}
	return tx
}

func run(t *testing.T, db postgres.DB, sql string) {
	t.Helper()
	if _, err := db.Exec(context.Background(), sql); err != nil {
		t.Fatalf("%v\nin: %s", err, sql)
	}
}

func check(t *testing.T, db postgres.DB) Result {
	t.Helper()
	found, err := NewStore(db).Check(context.Background(), time.Now())
	must(t, err)
	return found
}

func TestEveryChangeIsFoundAndMended(t *testing.T) {
	for _, c := range changes {
		t.Run(c.object, func(t *testing.T) {
			tx := changed(t, c.sql)
			found := check(t, tx).Differences
			if len(found) != 1 {
				t.Fatalf("after %s\n%d differences: %+v", c.sql, len(found), found)
			}
			d := found[0]
			if d.Object != c.object || d.Kind != c.kind || d.Severity != c.severity || d.Why == "" || d.rank == 0 {
				t.Errorf("found %+v", d)
			}
			if (d.Expected == "") != (c.kind == Unexpected) || (d.Got == "") != (c.kind == Missing) || d.Expected == d.Got {
				t.Errorf("expected %q, got %q", d.Expected, d.Got)
			}
			if !strings.Contains(d.SQL, c.mend) {
				t.Errorf("the SQL is %q, want %q in it", d.SQL, c.mend)
			}
			run(t, tx, d.SQL)
			if left := check(t, tx).Differences; len(left) > 0 {
				t.Errorf("after the mending SQL:\n%s\nthere is still: %+v", d.SQL, left)
			}
		})
	}
}

// Whatever is changed together: the script of all mends leaves nothing.
func TestManyChangesAreMendedTogether(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			tx := changed(t)
			done := 0
			for _, i := range random.Perm(len(changes)) {
				if done == 10 {
					break
				}
				// Some exclude each other.
				if err := postgres.InTx(context.Background(), tx, func(tx pgx.Tx) error {
					_, err := tx.Exec(context.Background(), changes[i].sql)
					return err
				}); err == nil {
					done++
				}
			}
			found := check(t, tx)
			if len(found.Differences) < 5 {
				t.Errorf("seed %d: only %d differences", seed, len(found.Differences))
			}
			if !slices.IsSortedFunc(found.Differences, func(a, b Difference) int { return strings.Compare(string(a.Severity), string(b.Severity)) }) {
				t.Errorf("seed %d: the critical ones are not first", seed)
			}
			run(t, tx, found.Script())
			if left := check(t, tx).Differences; len(left) > 0 {
				t.Errorf("seed %d: after\n%s\nthere is still: %+v", seed, found.Script(), left)
			}
		})
	}
}

func TestNoFalseAlarms(t *testing.T) {
	for what, sql := range map[string][]string{
		"nothing": nil,
		"a year":  {`select ops.ensure_partitions('2027-01-01', '2027-12-01')`},
		"another program's functions and closed tables": {
			`create function public.handle_new_user() returns trigger language plpgsql security definer as $$ begin return new; end $$`,
			`create trigger on_auth_user_created after insert on auth.users for each row execute function public.handle_new_user()`,
			`create table public.profiles (id uuid, name text); alter table public.profiles enable row level security; grant select on public.profiles to anon, authenticated`,
			`create policy own on public.profiles using (id = auth.uid())`,
			`create table public.closed (id bigint generated always as identity)`,
			`create view public.names with (security_invoker = true) as select name from public.teams; grant select on public.names to anon`,
			`create view public.profile_names as select 1 as n; grant select on public.profile_names to anon`,
		},
		"rights of roles that the Data API does not reach": {
			`create role drift_reports`, `grant select on public.teams to drift_reports`, `grant usage on schema ops to drift_reports`,
		},
		"the same, written otherwise": {
			`drop policy lessons_select on public.lessons`, `CREATE POLICY lessons_select ON public.lessons AS PERMISSIVE FOR SELECT TO authenticated USING ((((published))))`,
		},
		"nobody looks into schema public by default": {`revoke usage on schema public from public`},
	} {
		t.Run(what, func(t *testing.T) {
			if found := check(t, changed(t, sql...)).Differences; len(found) > 0 {
				t.Errorf("found %+v", found)
			}
		})
	}
}

// What is gone with a table or a function is not reported one by one.
func TestWhatIsGoneIsReportedOnce(t *testing.T) {
	found := check(t, changed(t, `drop table public.lessons cascade`)).Differences
	if len(found) != 1 || found[0].Object != "table public.lessons" || found[0].Kind != Missing || !strings.HasPrefix(found[0].SQL, "-- ") {
		t.Errorf("found %+v", found)
	}
}

// An owner's grants become its rights as the owner, and are lost with them.
func TestAnOwnerOfTheDataAPI(t *testing.T) {
	tx := changed(t, `alter table public.lessons owner to authenticated`)
	result := check(t, tx)
	if len(result.Differences) != 2 || result.Differences[0].Object != "table public.lessons" || result.Differences[0].Severity != Critical || result.Critical() != 1 {
		t.Errorf("found %+v", result.Differences)
	}
	run(t, tx, result.Script())
	if left := check(t, tx).Differences; len(left) > 0 {
		t.Errorf("still %+v", left)
	}
}

func TestWhatIsGoneWithAFunction(t *testing.T) {
	tx := changed(t, `drop function ops.led_team_ids() cascade`)
	result := check(t, tx)
	var objects []string
	for _, d := range result.Differences {
		objects = append(objects, d.Object)
	}
	want := "[function ops.led_team_ids() policy active_members_select on ops.active_members policy activity_sums_select on ops.activity_sums policy prompt_attempts_select on public.prompt_attempts policy prompt_runs_select on public.prompt_runs policy team_fallbacks_select on ops.team_fallbacks policy team_templates_delete on public.team_templates policy usage_sums_select on ops.usage_sums]"
	if got := fmt.Sprint(objects); got != want {
		t.Errorf("found %s", got)
	}
	run(t, tx, result.Script())
	if left := check(t, tx).Differences; len(left) > 0 {
		t.Errorf("still %+v", left)
	}
}

// An unknown table in our schema is not dropped by copying some SQL.
func TestUnknownTablesAreLookedAtFirst(t *testing.T) {
	found := check(t, changed(t, `create table ops.notes (id int)`)).Differences
	if len(found) != 1 || found[0].Kind != Unexpected || found[0].Severity != Warning || !strings.HasPrefix(found[0].SQL, "-- Look at what it holds") {
		t.Errorf("found %+v", found)
	}
}

// Whoever does not let our triggers onto their table has not drifted.
func TestAccountsOfSomebodyElse(t *testing.T) {
	tx := changed(t, `drop trigger facts_changed on auth.users`, `drop trigger facts_changed_by_delete on auth.users`, `update ops.facts_version set complete = false`,
		`drop trigger mark_accounts on auth.users`, `drop trigger mark_accounts_by_update on auth.users`)
	if found := check(t, tx).Differences; len(found) > 0 {
		t.Errorf("found %+v", found)
	}
}

func TestOtherVersionsCannotBeCompared(t *testing.T) {
	for sql, want := range map[string]string{
		`delete from ops.schema_migrations where version_id = 14`:                                                "Migration 14 is missing",
		`insert into ops.schema_migrations (version_id, is_applied) overriding user value values (999999, true)`: "migration 999999",
		`alter table ops.schema_migrations rename to gone`:                                                       "not migrated",
	} {
		t.Run(want, func(t *testing.T) {
			_, err := NewStore(changed(t, sql)).Check(context.Background(), time.Now())
			if fault.KindOf(err) != fault.Conflict || !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%s: %v", sql, err)
			}
		})
	}
	_, err := NewStore(pgtest.EmptyDatabase(t)).Check(context.Background(), time.Now())
	if fault.KindOf(err) != fault.Conflict {
		t.Errorf("an empty database: %v", err)
	}
}
