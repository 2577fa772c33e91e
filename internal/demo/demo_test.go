package demo_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/demo"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
	budgets "github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/internal/seal"
)

var now = time.Date(2026, 11, 24, 16, 8, 57, 123456789, time.UTC)

// setUp returns what the demo needs, in a database with prices.
func setUp(t testing.TB, db postgres.DB) (*demo.Store, *price.Book, *seal.Ring) {
	t.Helper()
	ctx := context.Background()
	prices := price.NewStore(db)
	if _, err := prices.Seed(ctx); err != nil {
		t.Fatal(err)
	}
	book, err := prices.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	text, err := seal.NewRing()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := seal.ParseRing(text)
	if err != nil {
		t.Fatal(err)
	}
	return demo.NewStore(db, ring, time.UTC), book, ring
}

func exec(t testing.TB, db postgres.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(context.Background(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func one[T any](t testing.TB, db postgres.DB, sql string, args ...any) (value T) {
	t.Helper()
	if err := db.QueryRow(context.Background(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%v\n%s", err, sql)
	}
	return value
}

// rowCounts counts the rows of every table there is. Partitions are counted as
// the table they belong to: the demo may leave empty ones.
func rowCounts(t testing.TB, db postgres.DB) map[string]int64 {
	t.Helper()
	rows, err := db.Query(context.Background(), `
		select format('%I.%I', n.nspname, c.relname)
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname in ('public', 'ops', 'auth') and c.relkind in ('r', 'p') and not c.relispartition
		  and c.relname not in ('usage_marks', 'activity_marks', 'key_health_marks', 'account_marks') -- of every change, until sums are made anew`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, table := range tables {
		counts[table] = one[int64](t, db, `select count(*) from `+table)
	}
	return counts
}

func TestLoadAndClear(t *testing.T) {
	ctx := context.Background()
	db := pgtest.Database(t)
	store, book, ring := setUp(t, db)
	survivors := realData(t, db, ring)
	recount(t, db)
	before := rowCounts(t, db)
	if present, err := store.Present(ctx); err != nil || present || store.Shown(ctx) {
		t.Fatalf("there is demo data in a new database (%v, %v)", present, err)
	}
	if counts, err := store.Clear(ctx, now); err != nil || counts != (demo.Counts{}) {
		t.Fatalf("clearing nothing: %+v, %v", counts, err)
	}

	if err := store.Load(ctx, book, now); err != nil {
		t.Fatal(err)
	}
	if present, err := store.Present(ctx); err != nil || !present || !store.Shown(ctx) {
		t.Fatalf("there is no demo data after loading it (%v, %v)", present, err)
	}
	t.Run("is consistent", func(t *testing.T) { checkConsistency(t, db) })
	t.Run("has what was asked for", func(t *testing.T) { checkContent(t, db) })
	t.Run("counts against budgets", func(t *testing.T) { checkCounters(t, db, 5) })
	t.Run("has keys for the sandbox", func(t *testing.T) { checkKeys(t, db, ring) })
	t.Run("is not loaded twice", func(t *testing.T) {
		loaded := rowCounts(t, db)
		if err := store.Load(ctx, book, now); fault.KindOf(err) != fault.Conflict {
			t.Errorf("error %v, want fault.Conflict", err)
		}
		if diff := cmp.Diff(loaded, rowCounts(t, db)); diff != "" {
			t.Error(diff)
		}
	})

	// What people do meanwhile, part of it with the demo.
	ada := one[uuid.UUID](t, db, `select id from auth.users where email = $1`, demo.Learner)
	team := one[uuid.UUID](t, db, `select id from ops.demo_records where kind = 'team' order by id limit 1`)
	template := one[uuid.UUID](t, db, `select id from ops.demo_records where kind = 'template' order by id limit 1`)
	lesson := one[uuid.UUID](t, db, `select id from ops.demo_records where kind = 'lesson' order by id limit 1`)
	demoKey := one[uuid.UUID](t, db, `select id from ops.demo_records where kind = 'fallback_key' order by id limit 1`)
	kept := survivors.run(t, db, runOptions{learner: &survivors.learner, team: &team, template: &template, userKey: &survivors.userKey})
	before["public.prompt_runs"]++
	before["public.prompt_attempts"]++
	before["public.prompt_contents"]++
	survivors.run(t, db, runOptions{learner: &survivors.learner, fallbackKey: &demoKey})
	survivors.run(t, db, runOptions{operator: &survivors.operator, fallbackKey: &demoKey})
	survivors.run(t, db, runOptions{learner: &ada, fallbackKey: &survivors.fallbackKey})
	exec(t, db, `insert into team_members (team_id, user_id) values ($1, $2)`, team, survivors.learner)
	exec(t, db, `insert into team_members (team_id, user_id) values ($1, $2)`, survivors.team, ada)
	exec(t, db, `insert into user_progress (user_id, lesson_id) values ($1, $2)`, survivors.learner, lesson)
	exec(t, db, `insert into user_progress (user_id, lesson_id) values ($1, $2)`, ada, survivors.lesson)
	exec(t, db, `insert into template_events (template_id, user_id, event) values ($1, $2, 'viewed')`, template, survivors.learner)
	exec(t, db, `insert into template_events (template_id, user_id, event) values ($1, $2, 'viewed')`, survivors.template, ada)
	exec(t, db, `insert into prompt_templates (owner_id, title, body) values ($1, 'Ada''s own', 'x')`, ada)
	exec(t, db, `insert into team_templates (team_id, template_id, shared_by) values ($1, $2, $3)`, team, survivors.template, survivors.learner)

	loaded := rowCounts(t, db)
	counts, err := store.Count(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cleared, err := store.Clear(ctx, now)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(counts, cleared); diff != "" {
		t.Error("what Count promised against what Clear did:", diff)
	}
	after := rowCounts(t, db)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error("before the demo and after it:", diff)
	}
	for table, removed := range map[string]int64{
		"public.prompt_runs": cleared.Runs, "public.prompt_attempts": cleared.Attempts, "auth.users": cleared.Learners,
		"public.teams": cleared.Teams, "public.lessons": cleared.Lessons, "ops.fallback_keys": cleared.FallbackKeys,
	} {
		if loaded[table]-after[table] != removed || removed == 0 {
			t.Errorf("%s: %d rows said to be removed, %d were", table, removed, loaded[table]-after[table])
		}
	}
	if n := one[int](t, db, `
		select (select count(*) from prompt_runs where id = $1 and team_id is null and template_id is null)
		     + (select count(*) from prompt_attempts where run_id = $1 and team_id is null and template_id is null and cost_usd = 0.25)
		     + (select count(*) from prompt_contents where run_id = $1 and team_id is null)`, kept); n != 3 {
		t.Error("a real learner's run did not stay, without the demo's team and template")
	}
	survivors.check(t, db, ring)
	checkCounters(t, db, 3)
	if store.Shown(ctx) {
		t.Error("there is demo data after clearing it")
	}

	if err := store.Load(ctx, book, now); err != nil {
		t.Fatalf("loading once more: %v", err)
	}
	if again := one[uuid.UUID](t, db, `select id from auth.users where email = $1`, demo.Learner); again != ada {
		t.Error("the same demo has other ids the second time")
	}
}

// recount does for rows that a test wrote what runs would have done.
func recount(t testing.TB, db postgres.DB) {
	t.Helper()
	if err := budgets.NewBudgetStore(db, time.UTC).Recount(context.Background(), now); err != nil {
		t.Fatal(err)
	}
}

// checkCounters checks that exactly what the rows of this month say counts
// against budgets, and that there are so many counters at least.
func checkCounters(t *testing.T, db postgres.DB, atLeast int) {
	t.Helper()
	rows, err := db.Query(context.Background(), `
		with spent as (
		  select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD') as day, fallback_key_id, user_id, cost_usd
		  from prompt_attempts
		  where key_source = 'fallback' and cost_usd > 0 and to_char(created_at at time zone 'UTC', 'YYYY-MM') = '2026-11'
		), sums as (
		  select 'platform' as scope, '00000000-0000-0000-0000-000000000000'::uuid as subject, day as period, sum(cost_usd) from spent group by day
		  union all
		  select 'learner', user_id, day, sum(cost_usd) from spent where user_id is not null group by user_id, day
		  union all
		  select 'key', fallback_key_id, '2026-11-01', sum(cost_usd) from spent group by fallback_key_id
		)
		select concat_ws(' ', scope, subject, period, 'counted', trim_scale(used_usd), 'spent', trim_scale(sum))
		from sums full join (select scope, subject, period::text, used_usd from ops.budget_counters where used_usd <> 0) c using (scope, subject, period)
		order by used_usd is not distinct from sum, 1`)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		var scope, subject, period, counted, spent string
		if _, err := fmt.Sscanf(line, "%s %s %s counted %s spent %s", &scope, &subject, &period, &counted, &spent); err != nil || counted != spent {
			t.Errorf("%s", line)
		}
	}
	if len(lines) < atLeast {
		t.Errorf("%d counters, want %d at least", len(lines), atLeast)
	}
}

func checkKeys(t *testing.T, db postgres.DB, ring *seal.Ring) {
	ctx := context.Background()
	ada := one[uuid.UUID](t, db, `select id from auth.users where email = $1`, demo.Learner)
	keys := key.NewStore(db, ring)
	var providers []string
	for _, spec := range provider.Known {
		providers = append(providers, spec.ID)
	}
	candidates, err := keys.Candidates(ctx, &ada, providers)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range providers {
		sources := ""
		for _, k := range candidates[id] {
			if k.Label == "A real one" {
				continue
			}
			sources += string(k.Source) + " "
			if !k.Sandbox || k.Status != key.Healthy {
				t.Errorf("%s key %q: sandbox %v, %s", id, k.Label, k.Sandbox, k.Status)
			}
			secret, err := keys.Open(k)
			if err != nil || !strings.HasPrefix(secret.Reveal(), "sandbox-"+id) {
				t.Errorf("%s key %q is not one for the sandbox (%v)", id, k.Label, err)
			}
		}
		want := "fallback "
		if id == "openai" {
			want = "user fallback "
		}
		if sources != want {
			t.Errorf("%s: keys of %s, want %s", id, sources, want)
		}
	}
	if n := one[int](t, db, `
		select count(*) from user_api_keys k join ops.demo_records d on d.id = k.user_id and d.kind = 'learner'
		where not exists (select from ops.demo_records r where r.kind = 'user_key' and r.id = k.id)`); n != 0 {
		t.Errorf("%d keys of demo learners would be used at real providers", n)
	}
}

func TestLoadIsAllOrNothing(t *testing.T) {
	ctx := context.Background()
	db := pgtest.Database(t)
	store, book, _ := setUp(t, db)
	before := rowCounts(t, db)
	exec(t, db, `alter table prompt_contents add constraint full_disk check (false)`) // nearly the last that is stored
	if err := store.Load(ctx, book, now); err == nil {
		t.Fatal("loaded what cannot be stored")
	}
	if diff := cmp.Diff(before, rowCounts(t, db)); diff != "" {
		t.Error("something stayed behind:", diff)
	}
	exec(t, db, `alter table prompt_contents drop constraint full_disk`)

	t.Run("and once", func(t *testing.T) {
		done := make(chan error)
		for range 2 {
			go func() { done <- store.Load(ctx, book, now) }()
		}
		kinds := map[string]int{}
		for range 2 {
			if err := <-done; err != nil {
				kinds[fmt.Sprint(fault.KindOf(err))]++
			} else {
				kinds["loaded"]++
			}
		}
		if diff := cmp.Diff(map[string]int{"loaded": 1, "conflict": 1}, kinds); diff != "" {
			t.Error(diff)
		}
		if n := one[int](t, db, `select count(*) from auth.users`); n != 120 {
			t.Errorf("%d learners, want 120", n)
		}
	})
}

func TestLoadRefusesWhereSupabaseKeepsTheLearners(t *testing.T) {
	for name, setUpSQL := range map[string]string{
		"its auth server's table": `alter table auth.users add column encrypted_password text`,
		"no privilege": `
			create role somebody;
			grant usage on schema auth, ops to somebody;
			grant select on all tables in schema auth, ops to somebody;
			set local role somebody`,
		"row-level security": `
			create role somebody;
			grant usage on schema auth, ops to somebody;
			grant all on all tables in schema auth, ops to somebody;
			set local role somebody`,
	} {
		t.Run(name, func(t *testing.T) {
			db := pgtest.Tx(t)
			store, book, _ := setUp(t, db)
			exec(t, db, setUpSQL)
			if err := store.Load(context.Background(), book, now); fault.KindOf(err) != fault.Conflict {
				t.Errorf("error %v, want fault.Conflict", err)
			}
		})
	}
}
