package activity_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/activity"
	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func newKeeper(pool *pgxpool.Pool) *activity.Keeper {
	return activity.NewKeeper(pool, time.UTC, slog.New(slog.DiscardHandler))
}

// keep counts all there is. Transactions of other tests' databases are waited for.
func keep(t testing.TB, k *activity.Keeper) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if done, err := k.RunOnce(context.Background()); err != nil {
			t.Fatal(err)
		} else if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("there is always more to count")
		}
	}
}

// sameReports compares what is counted with what the rows say.
func sameReports(t testing.TB, rows, counted activity.Report) bool {
	t.Helper()
	diff := cmp.Diff(rows, counted, cmp.AllowUnexported(period.Day{}))
	if diff != "" {
		t.Errorf("what is counted differs from the rows (-rows +counted):\n%.3000s", diff)
	}
	return diff == ""
}

// anyQuery is a query of some days, in some zone, of everybody or of some teams.
func anyQuery(t testing.TB, r *rand.Rand, s school) (activity.Query, string) {
	t.Helper()
	name := pick(r, "UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York", "Asia/Kathmandu") // nobody's is the last one
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	from := r.IntN(140)
	v := url.Values{"from": {s.now.AddDate(0, 0, -from).Format(time.DateOnly)}, "to": {s.now.AddDate(0, 0, -r.IntN(from+1)).Format(time.DateOnly)}}
	if r.IntN(2) == 0 {
		v = url.Values{"range": {pick(r, "today", "7d", "30d", "90d", "180d")}}
	}
	q, err := activity.ParseQuery(v, s.now, zone)
	if err != nil {
		t.Fatal(err)
	}
	q.TeamIDs = pick(r, nil, nil, s.teams[:1], s.teams[1:])
	return q, name
}

// What is counted ahead equals the rows and what other SQL says of them, through
// every kind of change, before it is counted again and after.
func TestCountedEqualsTheRows(t *testing.T) {
	pool := pgtest.Database(t)
	r := rand.New(rand.NewPCG(11, 12))
	s := newSchoolIn(t, pool, r, time.Now(), 50, 900)
	for i, zone := range []string{"Europe/Berlin", "Australia/Lord_Howe", "America/New_York", "Nowhere/At-All"} {
		exec(t, pool, `insert into ops.operators (email, role, timezone) values ($1, 'admin', $2)`, fmt.Sprintf("o%d@example.org", i), zone)
	}
	leads := map[int]uuid.UUID{1: s.leadOf(t, s.teams[:1]), 2: s.leadOf(t, s.teams[1:])} // by how many teams they lead
	store, keeper := activity.NewStore(postgres.NewReader(pool)), newKeeper(pool)
	look := func(t *testing.T, times int) {
		t.Helper()
		for range times {
			q, zone := anyQuery(t, r, s)
			got, err := store.Report(t.Context(), q, s.now)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := store.OfRows(t.Context(), q, s.now)
			if err != nil {
				t.Fatal(err)
			}
			if !sameReports(t, rows, got) {
				t.Fatalf("%s in %s, %d teams", q.Values().Encode(), zone, len(q.TeamIDs))
			}
			s.check(t, q, got, zone)
			if q.TeamIDs != nil && !s.sameForTheLead(t, store, leads[len(q.TeamIDs)], q) {
				t.Fatalf("for the lead: %s in %s, %d teams", q.Values().Encode(), zone, len(q.TeamIDs))
			}
		}
	}
	keep(t, keeper)
	for whole, least := range map[string]int{"day": 4 * 150, "week": 4 * 20, "month": 4 * 4} {
		if n := one[int](t, pool, `select count(*) from ops.activity_periods where whole = $1`, whole); n < least {
			t.Fatalf("%d periods of kind %s are counted, want %d at least", n, whole, least)
		}
	}
	look(t, 10)
	some := func(column string) uuid.UUID { return one[uuid.UUID](t, pool, column) }
	long := func(days int) time.Time { return s.now.AddDate(0, 0, -days).Truncate(time.Millisecond) }
	for name, change := range map[string]func(){
		"late runs": func() {
			batch := &pgx.Batch{}
			for range 20 {
				s.queueRun(r, batch, s.learners[r.IntN(len(s.learners))], long(r.IntN(140)))
			}
			if err := pool.SendBatch(t.Context(), batch).Close(); err != nil {
				t.Fatal(err)
			}
		},
		"the last runs fail": func() {
			exec(t, pool, `update prompt_runs set status = 'error' where id in (select max(id::text)::uuid from prompt_runs where status = 'success' group by user_id)`)
		},
		"the first runs go": func() {
			exec(t, pool, `delete from prompt_runs where id in (select min(id::text)::uuid from prompt_runs group by user_id)`)
		},
		"the last runs go": func() {
			exec(t, pool, `delete from prompt_runs where id in (select max(id::text)::uuid from prompt_runs group by user_id)`)
		},
		"a price": func() {
			exec(t, pool, `update prompt_runs set total_cost_usd = total_cost_usd + 0.000000000000001, unpriced = 0 where created_at > $1`, long(20))
		},
		"another team": func() {
			exec(t, pool, `update prompt_runs set team_id = $1 where team_id = $2 and created_at < $3`, s.teams[0], s.teams[1], long(60))
		},
		"members move": func() {
			exec(t, pool, `update team_members set team_id = $1 where team_id = $2 and role = 'member' and user_id not in (select user_id from team_members where team_id = $1)`, s.teams[0], s.teams[2])
		},
		"an account goes": func() {
			exec(t, pool, `delete from auth.users where id = $1`, some(`select user_id from user_progress order by user_id limit 1`))
		},
		"others sign up": func() {
			exec(t, pool, `insert into auth.users (id, email, created_at) select gen_random_uuid(), 'new' || n || '@example.org', $1::timestamptz - n * interval '9 days' from generate_series(1, 9) n`, s.now)
		},
		"accounts are closed": func() {
			exec(t, pool, `update auth.users set deleted_at = now() where id in (select id from auth.users where deleted_at is null order by id limit 4)`)
		},
		"an account is somebody's": func() {
			exec(t, pool, `update auth.users set is_anonymous = not is_anonymous where id = $1`, s.learners[3])
		},
		"an account is older": func() {
			exec(t, pool, `update auth.users set created_at = created_at - interval '20 days' where id = $1`, s.learners[4])
		},
		"a key is added": func() {
			exec(t, pool, `insert into user_api_keys (user_id, provider, ciphertext, fingerprint, last_four, created_at) select id, 'xai', 'x', 'x', 'abcd', created_at + interval '1 hour' from auth.users where id = any ($1)`, s.learners[5:9])
		},
		"keys go":        func() { exec(t, pool, `delete from user_api_keys where fingerprint = '0'`) },
		"keys are older": func() { exec(t, pool, `update user_api_keys set created_at = created_at - interval '1 day'`) },
		"a member leaves": func() {
			exec(t, pool, `delete from team_members where team_id = $1 and role = 'member' and user_id in (select user_id from team_members order by user_id limit 9)`, s.teams[2])
		},
		"keys go all at once": func() { exec(t, pool, `truncate user_api_keys`) },
		"progress": func() {
			exec(t, pool, `update user_progress set status = 'completed', completed_at = started_at + interval '3 days', score = 50 where status = 'started' and started_at < $1`, long(100))
		},
		"a score": func() {
			exec(t, pool, `update user_progress set score = 12.34 where status = 'completed' and completed_at < $1`, long(90))
		},
		"progress begins anew": func() {
			exec(t, pool, `update user_progress set started_at = started_at - interval '2 days' where status = 'started'`)
		},
		"first lessons go": func() {
			exec(t, pool, `delete from user_progress where (user_id, completed_at) in (select user_id, min(completed_at) from user_progress group by user_id)`)
		},
		"a template goes": func() { exec(t, pool, `delete from prompt_templates where id = $1`, s.templates[0]) },
		"late events": func() {
			exec(t, pool, `insert into template_events (template_id, user_id, event, created_at) select $1, id, 'used', $2 from auth.users where created_at < $2`, s.templates[1], long(33))
		},
		"a lesson goes": func() { exec(t, pool, `delete from lessons where id = $1`, s.lessons[0]) },
		"what is undone": func() {
			_ = postgres.InTx(t.Context(), pool, func(tx pgx.Tx) error {
				exec(t, tx, `delete from prompt_runs`)
				return context.Canceled
			})
		},
		"in the last hour": func() {
			batch := &pgx.Batch{}
			for range 10 {
				s.queueRun(r, batch, s.learners[r.IntN(len(s.learners))], s.now.Add(-time.Minute))
			}
			if err := pool.SendBatch(t.Context(), batch).Close(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			change()
			look(t, 1)
			keep(t, keeper)
			look(t, 1)
		})
	}
	if days, err := keeper.Rebuild(t.Context()); err != nil || days < 4*150 {
		t.Errorf("%d days are counted anew, %v", days, err)
	}
	look(t, 3)
	exec(t, pool, `truncate prompt_runs cascade`)
	look(t, 2)
	keep(t, keeper)
	look(t, 2)
}

// Where our triggers are not let onto accounts, nothing of them is remembered.
func TestAccountsOfSomebodyElse(t *testing.T) {
	pool := pgtest.Database(t)
	s := newSchoolIn(t, pool, rand.New(rand.NewPCG(19, 20)), time.Now(), 20, 50)
	keep(t, newKeeper(pool))
	exec(t, pool, `alter table auth.users disable trigger user`)
	exec(t, pool, `update ops.activity_round set accounts = null`)
	store := activity.NewStore(postgres.NewReader(pool))
	q, err := activity.ParseQuery(url.Values{"range": {"90d"}}, s.now, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	before, err := store.Report(t.Context(), q, s.now)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `insert into auth.users (id, email, created_at) values (gen_random_uuid(), 'new@example.org', $1)`, s.now.Add(-time.Hour))
	after, err := store.Report(t.Context(), q, s.now)
	if err != nil || after.SignUps != before.SignUps+1 {
		t.Errorf("%d sign-ups and then %d, %v", before.SignUps, after.SignUps, err)
	}
	keep(t, newKeeper(pool)) // goes on without them
}

// Writers whose transactions end late, and two keepers, at the moment at which what
// they write becomes old enough to be counted.
func TestCountedIsExactWhileOthersWrite(t *testing.T) {
	pool := pgtest.Database(t)
	r := rand.New(rand.NewPCG(13, 14))
	s := newSchoolIn(t, pool, r, time.Now(), 20, 200)
	lead := s.leadOf(t, s.teams[:1])
	keep(t, newKeeper(pool))
	const fresh = 700 * time.Millisecond
	setFresh(t, pool, fresh)
	stop := time.Now().Add(6 * time.Second)
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(15, uint64(i)))
			for time.Now().Before(stop) {
				_ = postgres.InTx(context.Background(), pool, func(tx pgx.Tx) error {
					s.write(t, r, tx)
					time.Sleep(time.Duration(r.IntN(900)) * time.Millisecond)
					if r.IntN(5) == 0 {
						return context.Canceled
					}
					s.write(t, r, tx)
					return nil
				})
			}
		})
	}
	for range 2 {
		all.Go(func() {
			keeper := newKeeper(pool)
			keeper.SetFresh(fresh)
			for time.Now().Before(stop) {
				if _, err := keeper.RunOnce(context.Background()); err != nil {
					t.Error(err)
				}
				time.Sleep(30 * time.Millisecond)
			}
		})
	}
	store := activity.NewStore(postgres.NewReader(pool))
	looks := 0
	for ; time.Now().Before(stop) && !t.Failed(); looks++ {
		s.compare(t, r, pool, store, lead)
	}
	all.Wait()
	if n := one[int](t, pool, `select count(*) from ops.activity_periods where ends_at > $1`, s.now); n == 0 || looks < 3 {
		t.Errorf("nothing of what was written meanwhile was ever counted, or nobody looked: %d periods, %d looks", n, looks)
	}
}

// compare reads what is counted, and the rows, of one moment.
func (s school) compare(t *testing.T, r *rand.Rand, pool *pgxpool.Pool, store *activity.Store, lead uuid.UUID) {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	q, err := activity.ParseQuery(url.Values{"range": {pick(r, "today", "7d", "90d")}}, time.Now(), time.UTC)
	if err != nil {
		t.Error(err)
		return
	}
	q.TeamIDs = pick(r, nil, s.teams[:1])
	here := store.On(postgres.NewReader(tx))
	rows, err := here.OfRows(t.Context(), q, s.now)
	if err != nil {
		t.Error(err)
		return
	}
	counted, err := here.Report(t.Context(), q, s.now)
	if err != nil {
		t.Error(err)
		return
	}
	sameReports(t, rows, counted)
	if q.TeamIDs != nil {
		s.sameForTheLead(t, here, lead, q)
	}
}

// write does one thing to the rows of this moment, or of long ago.
func (s school) write(t *testing.T, r *rand.Rand, tx pgx.Tx) {
	learner := s.learners[r.IntN(len(s.learners))]
	at := time.Now().Add(-time.Duration(r.IntN(1500)) * time.Millisecond)
	if r.IntN(4) == 0 {
		at = s.now.AddDate(0, 0, -r.IntN(100))
	}
	switch r.IntN(9) {
	case 6:
		exec(t, tx, `insert into auth.users (id, email, created_at) values ($1, $2, $3)`, uuid.New(), uuid.NewString()+"@example.org", at)
	case 7:
		exec(t, tx, `insert into public.user_api_keys (user_id, provider, ciphertext, fingerprint, last_four, created_at) values ($1, 'xai', 'x', $2, 'abcd', $3)`, learner, uuid.NewString(), at)
	case 8:
		exec(t, tx, `insert into public.team_members (team_id, user_id) values ($1, $2) on conflict do nothing`, s.teams[r.IntN(3)], learner)
	case 0:
		exec(t, tx, `insert into public.template_events (template_id, user_id, event, created_at) values ($1, $2, 'used', $3)`, s.templates[r.IntN(3)], learner, at)
	case 1:
		exec(t, tx, `insert into public.user_progress (user_id, lesson_id, status, started_at, completed_at, score) values ($1, $2, 'completed', $3, $3, 70) on conflict do nothing`, learner, s.lessons[r.IntN(len(s.lessons))], at)
	case 2:
		exec(t, tx, `delete from public.prompt_runs where id = (select id from public.prompt_runs where user_id = $1 and status <> 'error' order by created_at desc limit 1)`, learner)
	default:
		batch := &pgx.Batch{}
		s.queueRun(r, batch, learner, at)
		if err := tx.SendBatch(context.Background(), batch).Close(); err != nil {
			t.Error(err)
		}
	}
}

// setFresh makes the triggers take for late what is older than fresh.
func setFresh(t testing.TB, db postgres.DB, fresh time.Duration) {
	t.Helper()
	late := fmt.Sprintf("clock_timestamp() - interval '%d microseconds'", fresh.Microseconds())
	exec(t, db, `
		create or replace function ops.mark_activity(variadic times timestamptz[]) returns void language sql security definer set search_path = '' as $$
		  insert into ops.activity_marks select distinct date_bin('15 minutes', at, 'epoch'), pg_current_xact_id() from unnest(times) at where at < `+late+` on conflict do nothing
		$$`)
	for _, table := range []string{"prompt_runs", "template_events"} {
		for event, row := range map[string]string{"insert": "new", "update": "old", "delete": "old"} {
			exec(t, db, fmt.Sprintf(`
				create or replace trigger mark_activity_%s after %[1]s on public.%s for each row
				when (%s.created_at < %s) execute function ops.mark_run()`, event, table, row, late))
		}
	}
	exec(t, db, `create or replace trigger mark_activity_insert after insert on public.user_progress for each row execute function ops.mark_progress()`)
}
