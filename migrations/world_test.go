package migrations_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promptcademy/promptops/internal/postgres"
)

// The people of every test. Ann, Tom and Lea are in team red, which Lea leads;
// Ann, Bob and Bea are in team blue, which Bea leads. Zoe is in none.
const (
	ann = "00000000-0000-4000-8000-0000000000a1"
	tom = "00000000-0000-4000-8000-0000000000a2"
	lea = "00000000-0000-4000-8000-0000000000a3"
	bob = "00000000-0000-4000-8000-0000000000b1"
	bea = "00000000-0000-4000-8000-0000000000b2"
	zoe = "00000000-0000-4000-8000-0000000000c1"

	red  = "00000000-0000-4000-8000-00000000ed00"
	blue = "00000000-0000-4000-8000-00000000b100"
)

// users are made apart from the rest, since on Supabase another role does it.
const users = `
	insert into auth.users (id, email) values
	  ('` + ann + `', 'ann@example.org'), ('` + tom + `', 'tom@example.org'), ('` + lea + `', 'lea@example.org'),
	  ('` + bob + `', 'bob@example.org'), ('` + bea + `', 'bea@example.org'), ('` + zoe + `', 'zoe@example.org')`

// world is what they have. The last two digits of an id say whose it is.
const world = `
	select ops.ensure_partitions('2026-10-01', '2026-10-01');

	insert into public.teams (id, name) values ('` + red + `', 'red'), ('` + blue + `', 'blue');
	insert into public.team_members (team_id, user_id, role) values
	  ('` + red + `', '` + ann + `', 'member'), ('` + red + `', '` + tom + `', 'member'), ('` + red + `', '` + lea + `', 'lead'),
	  ('` + blue + `', '` + bob + `', 'member'), ('` + blue + `', '` + bea + `', 'lead');

	insert into public.user_api_keys (id, user_id, provider, ciphertext, fingerprint, last_four)
	select ('00000000-0000-4000-8000-0000000ee0' || right(id::text, 2))::uuid, id, 'openai', 'sealed', 'fp', '1234' from auth.users;

	insert into public.prompt_templates (id, owner_id, title, body, is_public) values
	  ('00000000-0000-4000-8000-00000000fea1', '` + ann + `', 'private', 'x', false),
	  ('00000000-0000-4000-8000-00000001fea1', '` + ann + `', 'shared with red', 'x', false),
	  ('00000000-0000-4000-8000-00000000fea2', '` + tom + `', 'private', 'x', false),
	  ('00000000-0000-4000-8000-00000000fe00', null, 'the platform''s', 'x', true);
	insert into public.team_templates (team_id, template_id, shared_by) values
	  ('` + red + `', '00000000-0000-4000-8000-00000001fea1', '` + ann + `');
	insert into public.template_events (template_id, user_id, event)
	select '00000000-0000-4000-8000-00000000fe00', id, 'used' from auth.users;

	insert into public.lessons (id, slug, title, published) values
	  ('00000000-0000-4000-8000-000000001e01', 'first', 'First', true),
	  ('00000000-0000-4000-8000-000000001e02', 'second', 'Second', true),
	  ('00000000-0000-4000-8000-000000001e03', 'draft', 'Draft', false);
	insert into public.user_progress (user_id, lesson_id)
	select id, '00000000-0000-4000-8000-000000001e01' from auth.users;

	-- Each has a run for every team of theirs and one for none.
	insert into public.prompt_runs (id, created_at, user_id, team_id, models)
	select gen_random_uuid(), '2026-10-15T12:00Z', u.id, t.team_id, '{openai/gpt-5-mini}'
	from auth.users u, lateral (
	  select team_id from public.team_members m where m.user_id = u.id union all select null) t;
	insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, team_id, provider, model)
	select id, 0, created_at, user_id, team_id, 'openai', models[1] from public.prompt_runs;
	insert into public.prompt_contents (run_id, created_at, user_id, team_id, messages)
	select id, created_at, user_id, team_id, '[]' from public.prompt_runs;

	insert into ops.team_fallbacks (team_id, user_id, provider, attempts, cost_usd, unpriced)
	select distinct on (team_id, user_id) team_id, user_id, 'openai', 1, 0, 0 from public.prompt_runs where team_id is not null and user_id is not null;

	-- The sums of every team, and of what else there is.
	insert into ops.usage_sums (period_id, kind, subject_id, provider, model, key_source, runs, attempts, running, errors, cancelled,
	  input, cached_input, cache_write, output, reasoning, unknown_usage, cost, unpriced)
	select 0, kind, id, '', '', 'user', 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
	from public.teams, unnest(array['team', 'template', 'learner']) kind;

	-- What is counted of them.
	insert into ops.activity_periods (zone, whole, starts_at, ends_at) values ('UTC', 'day', '2026-10-15', '2026-10-16');
	insert into ops.activity_sums (zone, whole, starts_at, kind, subject_id, runs)
	select 'UTC', 'day', '2026-10-15', case when team_id is null then 'all' else 'team' end, team_id, count(*) from public.prompt_runs group by team_id;
	insert into ops.active_learners (zone, learner_id, days, learned, completed_days, round)
	select 'UTC', id, '1', '1', '{}', 0 from auth.users;
	insert into ops.active_members (zone, team_id, learner_id, days, round)
	select 'UTC', team_id, user_id, '1', 0 from public.prompt_runs where team_id is not null`

func exec(t testing.TB, db postgres.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%v\nin: %s", err, sql)
	}
}

func query[T any](t testing.TB, db postgres.DB, sql string, args ...any) []T {
	t.Helper()
	rows, err := db.Query(context.Background(), sql, args...)
	if err != nil {
		t.Fatalf("%v\nin: %s", err, sql)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%v\nin: %s", err, sql)
	}
	return got
}

// as runs fn as a learner and undoes what it did.
func as(t testing.TB, db postgres.DB, learner string, fn func(tx pgx.Tx) error) error {
	t.Helper()
	return undone(func(done error) error {
		return postgres.AsLearner(context.Background(), db, uuid.MustParse(learner), func(tx pgx.Tx) error {
			if err := fn(tx); err != nil {
				return err
			}
			return done
		})
	})
}

// asRole runs one statement as a role without claims, undoes it and returns how
// many rows it met.
func asRole(db postgres.DB, role, sql string) (rows int64, err error) {
	err = undone(func(done error) error {
		return postgres.InTx(context.Background(), db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(context.Background(), `set local role `+pgx.Identifier{role}.Sanitize()); err != nil {
				return err
			}
			tag, err := tx.Exec(context.Background(), sql)
			if err != nil {
				return err
			}
			rows = tag.RowsAffected()
			return done
		})
	})
	return rows, err
}

// undone calls fn with an error to return, so that a transaction is rolled
// back, when all went well.
func undone(fn func(done error) error) error {
	done := errors.New("done")
	if err := fn(done); !errors.Is(err, done) {
		return err
	}
	return nil
}

func sqlState(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}
