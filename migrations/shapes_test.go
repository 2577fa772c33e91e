package migrations_test

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/drift"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/embedded"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/migrations"
)

// server is a Postgres server of one test's own: roles belong to a server, so
// these tests cannot share one.
type server struct{ superuser *url.URL }

func startServer(t *testing.T) server {
	t.Helper()
	dir, err := os.MkdirTemp("", "migrations-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // the server's user passes through
		t.Fatal(err)
	}
	running, err := embedded.Start(context.Background(), embedded.Options{Dir: filepath.Join(dir, "postgres"), Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.Stop(); err != nil {
			t.Error(err)
		}
	})
	address, err := url.Parse(running.URL())
	if err != nil {
		t.Fatal(err)
	}
	return server{address}
}

// asSuperuser opens a database as the superuser.
func (s server) asSuperuser(t *testing.T, database string) *pgxpool.Pool {
	t.Helper()
	return s.open(t, s.superuser.User, database)
}

// as opens a database as a role whose password is its name.
func (s server) as(t *testing.T, role, database string) *pgxpool.Pool {
	t.Helper()
	return s.open(t, url.UserPassword(role, role), database)
}

func (s server) open(t *testing.T, user *url.Userinfo, database string) *pgxpool.Pool {
	t.Helper()
	address := *s.superuser
	address.User, address.Path = user, "/"+database
	pool, err := postgres.Open(context.Background(), address.String(), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// checkShape compares a migrated database with a plain one that a superuser
// migrated, and tries every policy. The accounts are made through superuser.
func checkShape(t *testing.T, db, superuser *pgxpool.Pool) {
	t.Helper()
	if diff := cmp.Diff(describe(t, pgtest.Tx(t)), describe(t, db)); diff != "" {
		t.Errorf("not as on plain Postgres (-plain +here):\n%s", diff)
	}
	exec(t, superuser, users)
	exec(t, db, world)
	checkPolicies(t, db)
	checkOpsIsClosed(t, db)
	if made := ensurePartitions(t, db, "2026-11-01", "2026-11-01"); made != 3 {
		t.Errorf("made %d partitions, want 3", made)
	}
	if found, err := drift.NewStore(db).Check(t.Context(), time.Now()); err != nil || len(found.Differences) > 0 {
		t.Errorf("has drifted (%v): %+v", err, found.Differences)
	}
	// Where it may not make learners it borrows some that are in no team.
	exec(t, superuser, `insert into auth.users (id, email) select gen_random_uuid(), n || '@example.org' from generate_series(1, 4) n`)
	if tried, err := drift.NewStore(db).Try(t.Context(), time.Now()); err != nil || len(tried.Wrong()) > 0 {
		t.Errorf("acting as learners (%v): %+v", err, tried.Wrong())
	}
	exec(t, superuser, `delete from auth.users where id = $1`, ann)
	left := query[int](t, db, `
		select count(*)::int from public.user_api_keys where user_id = $1 union all
		select count(*)::int from public.prompt_contents where user_id = $1 union all
		select count(*)::int from public.prompt_attempts where user_id = $1`, ann)
	if diff := cmp.Diff([]int{0, 0, 2}, left); diff != "" {
		t.Errorf("keys, contents and attempts of a deleted account (-want +got):\n%s", diff)
	}
}

// A role that may not create roles is told exactly what a superuser has to do,
// all of it at once.
func TestPlainPostgresWithoutSuperuser(t *testing.T) {
	ctx := context.Background()
	srv := startServer(t)
	root := srv.asSuperuser(t, "postgres")
	for _, c := range []struct {
		role, attributes, prepare string
		hint                      string // empty: it works at once
	}{
		{role: "alone", hint: `create role anon nologin; grant anon to alone; ` +
			`create role authenticated nologin; grant authenticated to alone; ` +
			`create role service_role nologin; grant service_role to alone;`},
		{role: "strangers", hint: `grant anon to strangers; grant authenticated to strangers; grant service_role to strangers;`},
		{role: "Odd name", prepare: `grant anon, service_role to "Odd name"`, hint: `grant authenticated to "Odd name";`},
		{role: "prepared", prepare: `grant anon, authenticated, service_role to prepared`},
		{role: "maker", attributes: "createrole", prepare: `
			drop database alone; drop database strangers; drop database "Odd name"; drop database prepared;
			drop role anon; drop role authenticated; drop role service_role`},
	} {
		t.Run(c.role, func(t *testing.T) {
			exec(t, root, `create role "`+c.role+`" login password '`+c.role+`' `+c.attributes)
			exec(t, root, `create database "`+c.role+`" owner "`+c.role+`"`)
			for sql := range strings.SplitSeq(c.prepare, ";") {
				exec(t, root, sql)
			}
			db := srv.as(t, c.role, c.role)
			err := postgres.Migrate(ctx, db, migrations.FS)
			if c.hint != "" {
				_, hint, found := strings.Cut(errorText(err), "As a superuser run: ")
				if !found || hint != c.hint {
					t.Fatalf("the error is %q, want the hint %q", errorText(err), c.hint)
				}
				exec(t, root, hint)
				err = postgres.Migrate(ctx, db, migrations.FS)
			}
			if err != nil {
				t.Fatal(err)
			}
			checkShape(t, db, srv.asSuperuser(t, c.role))
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// supabaseRoles are what a project's server has. Its role postgres, which is no
// superuser there, is called dashboard here.
const supabaseRoles = `
	create role anon nologin;
	create role authenticated nologin;
	create role service_role nologin bypassrls;
	create role authenticator login noinherit;
	grant anon, authenticated, service_role to authenticator;
	create role supabase_auth_admin noinherit createrole login;
	create role dashboard login password 'dashboard' nosuperuser createdb createrole replication bypassrls;
	grant anon, authenticated, service_role, pg_monitor, pg_read_all_data, pg_signal_backend to dashboard`

// supabaseAuth is schema auth, which belongs to the authentication server.
const supabaseAuth = `
	create schema auth authorization supabase_auth_admin;
	set role supabase_auth_admin;
	create table auth.users (
	  instance_id uuid,
	  id uuid primary key,
	  aud varchar(255),
	  role varchar(255),
	  email varchar(255),
	  encrypted_password varchar(255),
	  email_confirmed_at timestamptz,
	  last_sign_in_at timestamptz,
	  raw_app_meta_data jsonb,
	  raw_user_meta_data jsonb,
	  is_super_admin boolean,
	  created_at timestamptz,
	  updated_at timestamptz,
	  phone text unique default null,
	  banned_until timestamptz,
	  is_sso_user boolean not null default false,
	  deleted_at timestamptz,
	  is_anonymous boolean not null default false
	);
	create unique index users_email_partial_key on auth.users (email) where not is_sso_user;
	alter table auth.users enable row level security;
	create function auth.uid() returns uuid language sql stable as $f$
	  select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
	    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $f$;
	create function auth.role() returns text language sql stable as $f$
	  select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''),
	    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'))::text $f$;
	create function auth.email() returns text language sql stable as $f$
	  select coalesce(nullif(current_setting('request.jwt.claim.email', true), ''),
	    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'))::text $f$;
	create function auth.jwt() returns jsonb language sql stable as $f$
	  select coalesce(nullif(current_setting('request.jwt.claim', true), ''),
	    nullif(current_setting('request.jwt.claims', true), ''))::jsonb $f$;
	reset role;
	grant usage on schema auth to anon, authenticated, service_role, dashboard;
	revoke create on schema auth from dashboard;
	grant select, references on auth.users to dashboard with grant option;
	grant usage on schema public to anon, authenticated, service_role`

// Projects older than 2026-10-30 granted the Data API everything on every new
// table.
const grantEverything = `
	alter default privileges for role dashboard in schema public grant all on tables to anon, authenticated, service_role;
	alter default privileges for role dashboard in schema public grant all on sequences to anon, authenticated, service_role;
	alter default privileges for role dashboard in schema public grant all on functions to anon, authenticated, service_role`

func TestSupabase(t *testing.T) {
	srv := startServer(t)
	root := srv.asSuperuser(t, "postgres")
	exec(t, root, supabaseRoles)
	for project, defaults := range map[string]string{"older": grantEverything, "newer": ""} {
		t.Run(project, func(t *testing.T) {
			exec(t, root, `create database `+project+` owner dashboard`)
			superuser := srv.asSuperuser(t, project)
			exec(t, superuser, supabaseAuth)
			exec(t, superuser, defaults)
			before := supabaseState(t, superuser)

			db := srv.as(t, "dashboard", project)
			var nodes sync.WaitGroup
			for range 4 {
				nodes.Go(func() {
					if err := postgres.Migrate(t.Context(), db, migrations.FS); err != nil {
						t.Error(err)
					}
				})
			}
			nodes.Wait()
			if diff := cmp.Diff(before, supabaseState(t, superuser)); diff != "" {
				t.Errorf("what belongs to Supabase has changed (-before +after):\n%s", diff)
			}
			checkShape(t, db, superuser)
		})
	}
}

// supabaseState lists the roles with their memberships, and schema auth.
func supabaseState(t *testing.T, superuser *pgxpool.Pool) []string {
	t.Helper()
	return query[string](t, superuser, `
		select format('role %s', r) from pg_roles r
		union all
		select format('%s has %s', member::regrole, roleid::regrole) from pg_auth_members
		union all
		select format('relation %s of %s: %s', relname, relowner::regrole, relacl) from pg_class where relnamespace = 'auth'::regnamespace
		union all
		select format('column %s of %s', attname, attrelid::regclass) from pg_attribute where attrelid = 'auth.users'::regclass
		union all
		select format('function of %s: %s %s', proowner::regrole, pg_get_functiondef(oid), proacl) from pg_proc where pronamespace = 'auth'::regnamespace
		union all
		select format('schema of %s: %s', nspowner::regrole, nspacl) from pg_namespace where nspname = 'auth'
		order by 1`)
}
