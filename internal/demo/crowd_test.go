package demo_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/demo"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

var size = demo.Size{Attempts: 9000, Learners: 400, Teams: 12, Days: 180}

func TestLoadMany(t *testing.T) {
	ctx := context.Background()
	db := pgtest.Database(t)
	store, book, ring := setUp(t, db)
	before := rowCounts(t, db)
	told := int64(0)
	if err := store.LoadMany(ctx, book, size, now, func(n int64) { told = n }); err != nil {
		t.Fatal(err)
	}
	if told != size.Attempts {
		t.Errorf("told of %d attempts in the end, want %d", told, size.Attempts)
	}
	t.Run("is consistent", func(t *testing.T) { checkConsistency(t, db) })
	t.Run("has keys for the sandbox", func(t *testing.T) { checkKeys(t, db, ring) })
	t.Run("counts against budgets", func(t *testing.T) { checkCounters(t, db, 20) })
	t.Run("is as large as it was asked to be", func(t *testing.T) {
		counts, err := store.Count(ctx)
		want := demo.Counts{Learners: 400, Teams: 12, Templates: counts.Templates, Lessons: counts.Lessons, FallbackKeys: counts.FallbackKeys, Runs: counts.Runs, Attempts: 9000}
		if err != nil || counts != want || counts.Templates < 50 || counts.Runs < 3000 || counts.Runs > 7000 {
			t.Errorf("%+v, %v", counts, err)
		}
		for name, sql := range map[string]string{
			"statuses of runs":                         `select count(distinct status) >= 4 from prompt_runs`,
			"failures":                                 `select count(distinct error_class) >= 6 from prompt_attempts`,
			"unpriced attempts":                        `select count(*) > 0 from prompt_attempts where cost_source = 'unpriced'`,
			"keys of the learners' own that pay":       `select count(*) > 500 from prompt_attempts where key_source = 'user'`,
			"keys that failed":                         `select count(*) > 5 from user_api_keys where status in ('invalid', 'billing')`,
			"learners who ran nothing":                 `select count(*) > 0 from auth.users u where not exists (select from prompt_runs where user_id = u.id)`,
			"days of Key Health for every team":        `select count(*) = 90 * 13 from ops.key_health_days where provider = 'any'`,
			"marks for all who sum":                    `select not exists (select from prompt_attempts a where not exists (select from ops.usage_marks where slot = date_bin('15 minutes', a.created_at, 'epoch')))`,
			"nobody's address twice, however it reads": `select count(*) = count(distinct lower(email)) from auth.users`,
		} {
			if !one[bool](t, db, sql) {
				t.Errorf("there are no %s", name)
			}
		}
	})
	t.Run("is not loaded twice", func(t *testing.T) {
		if err := store.LoadMany(ctx, book, size, now, nil); fault.KindOf(err) != fault.Conflict {
			t.Errorf("error %v, want fault.Conflict", err)
		}
	})
	made := digestOf(t, db)
	if cleared, err := store.Clear(ctx, now); err != nil || cleared.Attempts != size.Attempts {
		t.Fatalf("%+v, %v", cleared, err)
	}
	if diff := cmp.Diff(before, rowCounts(t, db)); diff != "" {
		t.Error("before the demo and after it:", diff)
	}
	if err := store.LoadMany(ctx, book, size, now, nil); err != nil {
		t.Fatal(err)
	}
	if again := digestOf(t, db); again != made {
		t.Error("the same size and moment made another demo")
	}

	// Whole months are emptied at once, but not those in which there is anything else.
	survivors := realData(t, db, ring) // in November
	exec(t, db, `delete from ops.usage_marks`)
	november := one[int](t, db, `select count(*) from prompt_attempts where created_at >= '2026-11-01Z'`)
	cleared, err := store.EmptyingFrom(1).Clear(ctx, now)
	if err != nil || cleared.Attempts != size.Attempts {
		t.Fatalf("%+v, %v", cleared, err)
	}
	if left := one[int](t, db, `select count(*) from prompt_attempts`); left != 3 || november < 1000 {
		t.Errorf("%d attempts are left of 3 real ones; there were %d in their month", left, november)
	}
	if !one[bool](t, db, `select count(distinct slot) filter (where slot < '2026-11-01Z') > 5 * 30 * 96 from ops.usage_marks`) {
		t.Error("whoever makes sums is not told of the months that were emptied")
	}
	survivors.check(t, db, ring)
	checkCounters(t, db, 2)
}

// digestOf is a hash of all runs, attempts and keys, but for the ids that are given
// when something is stored.
func digestOf(t *testing.T, db postgres.DB) string {
	return one[string](t, db, `
		select md5(string_agg(line, '' order by line))
		from (
		  select concat_ws(' ', run_id, ordinal, a.user_id, team_id, template_id, model, a.status, user_key_id, cost_usd, input_tokens, error_class, duration_ms) as line
		  from prompt_attempts a
		  union all
		  select concat_ws(' ', id, user_id, status, created_at, last_used_at, last_error_at) from user_api_keys
		) lines`)
}

func TestLoadManyIsForAnEmptyDatabase(t *testing.T) {
	for name, sql := range map[string]string{
		"a learner": `insert into auth.users (id, email) values (gen_random_uuid(), 'real@example.com')`,
		"a run of a deleted account": `
			select ops.ensure_partitions('2026-11-01', '2026-11-01');
			insert into public.prompt_runs (id, created_at, user_id, models) values (gen_random_uuid(), '2026-11-02Z', gen_random_uuid(), '{}')`,
	} {
		t.Run(name, func(t *testing.T) {
			db := pgtest.Database(t)
			store, book, _ := setUp(t, db)
			exec(t, db, sql)
			before := rowCounts(t, db)
			err := store.LoadMany(context.Background(), book, size, now, nil)
			if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "empty database") {
				t.Errorf("error %v, want fault.Conflict", err)
			}
			if diff := cmp.Diff(before, rowCounts(t, db)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Stopped half-way it can be cleared, and leaves nothing.
func TestLoadManyIsCleared(t *testing.T) {
	db := pgtest.Database(t)
	store, book, _ := setUp(t, db)
	before := rowCounts(t, db)
	ctx, stop := context.WithCancel(context.Background())
	err := store.LoadMany(ctx, book, size, now, func(n int64) {
		if n > 2000 {
			stop()
		}
	})
	if err == nil || one[int](t, db, `select count(*) from prompt_attempts`) == 0 {
		t.Fatalf("error %v, and nothing was stored", err)
	}
	if _, err := store.Clear(context.Background(), now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, rowCounts(t, db)); diff != "" {
		t.Error(diff)
	}
}

func TestSizesThatMakeNoSense(t *testing.T) {
	store := demo.NewStore(pgtest.Tx(t), nil, nil)
	for field, size := range map[string]demo.Size{
		"attempts": {0, 10, 1, 10}, "days": {10, 10, 1, 0}, "learners": {10, 2_000_000, 1, 10}, "teams": {10, 10, 11, 10},
	} {
		err := store.LoadMany(context.Background(), nil, size, now, nil)
		refused, ok := errors.AsType[*fault.Error](err)
		if !ok || refused.Kind != fault.Invalid || len(refused.Details) != 1 || refused.Details[0].Field != field {
			t.Errorf("%+v: %v", size, err)
		}
	}
}
