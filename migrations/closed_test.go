package migrations_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// apiRoles are the ones the Data API can act as.
var apiRoles = []string{"anon", "authenticated", "service_role"}

func TestSchemaOpsIsClosed(t *testing.T) {
	tx := pgtest.Tx(t)
	exec(t, tx, `select ops.ensure_partitions('2026-10-01', '2026-10-01')`)
	checkOpsIsClosed(t, tx)
}

// checkOpsIsClosed walks everything in schema ops, partitions included.
func checkOpsIsClosed(t *testing.T, db postgres.DB) {
	t.Helper()
	relations := query[string](t, db, `
		select relname::text from pg_class
		where relnamespace = 'ops'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f', 'S')`)
	if len(relations) < 10 {
		t.Fatalf("schema ops holds only %v", relations)
	}
	for _, relation := range relations {
		for _, role := range apiRoles {
			if _, err := asRole(db, role, `select from ops.`+relation); sqlState(err) != "42501" {
				t.Errorf("%s reads ops.%s: %v, want 42501", role, relation, err)
			}
		}
	}
	for _, call := range []string{`ops.member_team_ids()`, `ops.led_learner_ids()`, `ops.ensure_partitions('2026-10-01', '2026-10-01')`, `ops.ensure_log_days('2026-10-01', '2026-10-01')`, `ops.drop_log_days('2026-10-01')`} {
		for _, role := range apiRoles {
			if _, err := asRole(db, role, `select `+call); sqlState(err) != "42501" {
				t.Errorf("%s calls %s: %v, want 42501", role, call, err)
			}
		}
	}

	// The schema's own lock is one thing, what would be behind it another.
	got := query[string](t, db, `
		select format('%s on %s to %s', privilege_type, name, grantee) from (
		  select c.relname::text as name, a.privilege_type, a.grantee::regrole::text as grantee
		  from pg_class c, aclexplode(c.relacl) a
		  where c.relnamespace = 'ops'::regnamespace and a.grantee <> c.relowner
		  union all
		  select c.relname || '.' || att.attname, a.privilege_type, a.grantee::regrole::text
		  from pg_class c join pg_attribute att on att.attrelid = c.oid, aclexplode(att.attacl) a
		  where c.relnamespace = 'ops'::regnamespace and a.grantee <> c.relowner
		  union all
		  select p.proname, a.privilege_type, a.grantee::regrole::text
		  from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
		  where p.pronamespace = 'ops'::regnamespace and a.grantee <> p.proowner
		  union all
		  select 'schema', a.privilege_type, a.grantee::regrole::text
		  from pg_namespace n, aclexplode(n.nspacl) a
		  where n.nspname = 'ops' and a.grantee <> n.nspowner) granted
		order by 1`)
	// Policies call these as the learner, and views of public show these columns of the
	// rows that policies let leads see.
	want := []string{
		"EXECUTE on led_learner_ids to authenticated",
		"EXECUTE on led_sharing_team_ids to authenticated",
		"EXECUTE on led_team_ids to authenticated",
		"EXECUTE on member_team_ids to authenticated",
		"EXECUTE on owned_template_ids to authenticated",
		"EXECUTE on shared_template_ids to authenticated",
		"SELECT on active_learners.completed_days to authenticated",
		"SELECT on active_learners.first_completed_at to authenticated",
		"SELECT on active_learners.learned to authenticated",
		"SELECT on active_learners.learner_id to authenticated",
		"SELECT on active_learners.zone to authenticated",
		"SELECT on active_members.days to authenticated",
		"SELECT on active_members.first_run_at to authenticated",
		"SELECT on active_members.last_run_at to authenticated",
		"SELECT on active_members.last_run_failed to authenticated",
		"SELECT on active_members.last_run_id to authenticated",
		"SELECT on active_members.learner_id to authenticated",
		"SELECT on active_members.team_id to authenticated",
		"SELECT on active_members.zone to authenticated",
		"SELECT on activity_sums.cost to authenticated",
		"SELECT on activity_sums.kind to authenticated",
		"SELECT on activity_sums.last_at to authenticated",
		"SELECT on activity_sums.runs to authenticated",
		"SELECT on activity_sums.starts_at to authenticated",
		"SELECT on activity_sums.subject_id to authenticated",
		"SELECT on activity_sums.unpriced to authenticated",
		"SELECT on activity_sums.whole to authenticated",
		"SELECT on activity_sums.zone to authenticated",
		"SELECT on team_fallbacks to authenticated",
		"SELECT on usage_sums to authenticated",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grants in schema ops (-want +got):\n%s", diff)
	}
}

// Every function that runs with its owner's rights pins its search path, or a
// caller could slip it a table of their own.
func TestDefinerFunctionsPinTheirSearchPath(t *testing.T) {
	loose := query[string](t, pgtest.Tx(t), `
		select oid::regprocedure::text from pg_proc
		where pronamespace in ('ops'::regnamespace, 'public'::regnamespace) and prosecdef
		  and not coalesce(proconfig @> array['search_path=""'], false)`)
	if len(loose) > 0 {
		t.Errorf("no search_path on %v", loose)
	}
}

func TestNobodyReadsSealedKeys(t *testing.T) {
	tx := pgtest.Tx(t)
	exec(t, tx, users)
	exec(t, tx, world)
	readable := []string{"id", "user_id", "provider", "label", "last_four", "status", "cooling_until", "last_verified_at",
		"last_used_at", "last_error_at", "last_error_class", "last_error_message", "created_at", "updated_at",
		"status_reason", "status_at", "suspect", "last_success_at"}
	for _, role := range []string{"authenticated", "service_role"} {
		got := query[string](t, tx, `
			select attname::text from pg_attribute
			where attrelid = 'public.user_api_keys'::regclass and attnum > 0 and not attisdropped
			  and has_column_privilege($1, attrelid, attnum, 'select')
			order by attnum`, role)
		if diff := cmp.Diff(readable, got); diff != "" {
			t.Errorf("%s reads (-want +got):\n%s", role, diff)
		}
	}
	for _, role := range apiRoles {
		for _, sql := range []string{
			`select ciphertext from public.user_api_keys`,
			`select fingerprint from public.user_api_keys`,
			`select * from public.user_api_keys`,
			`select k from public.user_api_keys k`,
			`select to_jsonb(k) from public.user_api_keys k`,
			`select count(*) from public.user_api_keys where fingerprint = 'fp'`,
			`select id from public.user_api_keys order by ciphertext`,
			`delete from public.user_api_keys returning ciphertext`,
			`update public.user_api_keys set label = encode(ciphertext, 'hex')`,
			`copy public.user_api_keys to stdout`,
		} {
			if _, err := asRole(tx, role, sql); sqlState(err) != "42501" {
				t.Errorf("%s: %s: %v, want 42501", role, sql, err)
			}
		}
	}
	if rows, err := asRole(tx, "service_role", `select id, status from public.user_api_keys`); err != nil || rows != 6 {
		t.Errorf("service_role sees the status of %d keys (%v), want 6", rows, err)
	}
	if got := query[string](t, tx, `select encode(ciphertext, 'escape') || fingerprint from public.user_api_keys limit 1`); fmt.Sprint(got) != "[sealedfp]" {
		t.Errorf("we ourselves read %v", got)
	}
}
