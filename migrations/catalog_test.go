package migrations_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/migrations"
)

// Deleting or changing a row looks for those that refer to it.
func TestForeignKeysHaveAnIndex(t *testing.T) {
	missing := query[string](t, pgtest.Tx(t), `
		select conrelid::regclass || ' ' || pg_get_constraintdef(oid)
		from pg_constraint c
		where contype = 'f' and conparentid = 0
		  and connamespace in ('public'::regnamespace, 'ops'::regnamespace)
		  and not exists (
		    select from pg_index i
		    where i.indrelid = c.conrelid and i.indisvalid and i.indpred is null
		      and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] <@ c.conkey
		      and c.conkey <@ (i.indkey::int2[])[0:cardinality(c.conkey) - 1])`)
	if len(missing) > 0 {
		t.Errorf("no index for %s", strings.Join(missing, "\n"))
	}
}

// Flags that are the same in most rows: an index on them would help nobody.
var flags = []string{"prompt_templates.is_public", "lessons.published", "usage_sums.kind"}

// What is counted is asked for in a zone, with which its indexes begin.
var behindTheZone = []string{"active_learners.learner_id", "active_members.team_id", "activity_sums.kind", "activity_sums.subject_id"}

// Every query of a learner is filtered by these columns.
func TestPolicyColumnsHaveAnIndex(t *testing.T) {
	columns := query[string](t, pgtest.Tx(t), `
		select distinct c.relname || '.' || a.attname
		from pg_policy p
		join pg_class c on c.oid = p.polrelid
		join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
		  and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid and d.refobjsubid > 0
		join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid
		where not exists (select from pg_index i where i.indrelid = c.oid and i.indisvalid and i.indkey[0] = a.attnum)
		order by 1`)
	if diff := cmp.Diff(slices.Sorted(slices.Values(slices.Concat(flags, behindTheZone))), columns); diff != "" {
		t.Errorf("policy columns without an index (-want +got):\n%s", diff)
	}
}

// An index alone does not help a policy that cannot use it: where every other
// way is forbidden, no table is read from end to end.
func TestPoliciesUseTheirIndexes(t *testing.T) {
	tx := pgtest.Tx(t)
	exec(t, tx, users)
	exec(t, tx, world)
	exec(t, tx, `set local enable_seqscan = off`)
	for _, table := range query[string](t, tx, `
		select distinct tablename::text from pg_policies where schemaname = 'public' order by 1`) {
		if slices.ContainsFunc(flags, func(flag string) bool { return strings.HasPrefix(flag, table+".") }) {
			continue
		}
		columns := "*"
		if table == "user_api_keys" {
			columns = "id, label"
		}
		err := undone(func(done error) error {
			return postgres.AsRole(context.Background(), tx, "authenticated", map[string]any{"sub": lea}, func(tx pgx.Tx) error {
				plan := strings.Join(query[string](t, tx, `explain (costs off) select `+columns+` from public.`+table), "\n")
				if strings.Contains(plan, "Seq Scan on "+table) {
					t.Errorf("%s is read from end to end:\n%s", table, plan)
				}
				return done
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestDownAndUpAgain(t *testing.T) {
	ctx := t.Context()
	pool := pgtest.Database(t)
	before := describe(t, pool)
	exec(t, pool, users)
	exec(t, pool, world)

	steps, err := postgres.Status(ctx, pool, migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	for range steps {
		if _, err := postgres.Down(ctx, pool, migrations.FS); err != nil {
			t.Fatal(err)
		}
	}
	left := query[string](t, pool, `
		select format('%s.%s', n.nspname, o.name) from (
		  select relnamespace as ns, relname as name from pg_class union all
		  select pronamespace, proname from pg_proc union all
		  select typnamespace, typname from pg_type where typelem = 0 and typrelid = 0) o
		join pg_namespace n on n.oid = o.ns
		where n.nspname in ('public', 'ops') order by 1`)
	want := []string{"ops.schema_migrations", "ops.schema_migrations_id_seq", "ops.schema_migrations_pkey"}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	if accounts := query[int](t, pool, `select count(*)::int from auth.users`)[0]; accounts != 6 {
		t.Errorf("%d accounts are left, want 6", accounts)
	}

	if err := postgres.Migrate(ctx, pool, migrations.FS); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, describe(t, pool)); diff != "" {
		t.Errorf("after down and up (-before +after):\n%s", diff)
	}
	exec(t, pool, world)
}

// describe lists everything the migrations make in schemas public and ops that
// a dump would: relations, columns, constraints, indexes, functions, policies,
// grants. The owner's name and column positions are left out.
func describe(t testing.TB, db postgres.DB) []string {
	t.Helper()
	return query[string](t, db, `
		with s as (select oid, nspname from pg_namespace where nspname in ('public', 'ops')),
		c as (
		  select c.oid, c.relowner, c.relacl, c.relkind, c.relrowsecurity, c.relforcerowsecurity,
		         s.nspname || '.' || c.relname as name
		  from pg_class c join s on s.oid = c.relnamespace),
		granted as (
		  select name, (aclexplode(relacl)).*, relowner as owner from c
		  union all
		  select name || '.' || a.attname, (aclexplode(a.attacl)).*, c.relowner
		  from c join pg_attribute a on a.attrelid = c.oid
		  union all
		  select p.oid::regprocedure::text, (aclexplode(coalesce(p.proacl, acldefault('f', p.proowner)))).*, p.proowner
		  from pg_proc p join s on s.oid = p.pronamespace
		  union all
		  select 'schema ops', (aclexplode(n.nspacl)).*, n.nspowner from pg_namespace n where n.nspname = 'ops')
		select format('relation %s %s rls %s %s', relkind, name, relrowsecurity, relforcerowsecurity) from c
		union all
		select format('column %s.%s %s default %s', name, attname, format_type(atttypid, atttypmod), pg_get_expr(adbin, adrelid))
		       || case when attnotnull then ' not null' else '' end || attidentity::text || attgenerated::text
		from c join pg_attribute a on a.attrelid = c.oid left join pg_attrdef on adrelid = c.oid and adnum = attnum
		where attnum > 0 and not attisdropped and relkind in ('r', 'p')
		union all
		select format('constraint on %s: %s', name, pg_get_constraintdef(k.oid)) from c join pg_constraint k on k.conrelid = c.oid
		union all
		select 'index ' || indexdef from pg_indexes where schemaname in (select nspname from s)
		union all
		select 'function ' || pg_get_functiondef(p.oid) from pg_proc p join s on s.oid = p.pronamespace
		union all
		select format('policy %s on %s for %s to %s using %s check %s', policyname, tablename, cmd, roles, qual, with_check)
		from pg_policies where schemaname in (select nspname from s)
		union all
		select format('grant %s on %s to %s', privilege_type, name, grantee::regrole) || case when is_grantable then ' with grant option' else '' end
		from granted where grantee <> owner
		union all
		select format('schema public can be used by %s', r) from unnest(array['anon', 'authenticated', 'service_role']) r
		where has_schema_privilege(r, 'public', 'usage')
		order by 1`)
}
