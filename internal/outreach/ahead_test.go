package outreach

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
)

// countNow counts ahead, and waits until it could: transactions of other tests are
// waited for.
func countNow(t testing.TB, s *Store, now time.Time) {
	t.Helper()
	exec(t, s.db, `delete from ops.fallback_stretch`)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err := s.countAhead(context.Background(), worth{1, 1}, now); err != nil {
			t.Fatal(err)
		}
		if one[bool](t, s.db, `select exists (select from ops.fallback_stretch)`) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a transaction does not end: nothing is counted ahead")
		}
	}
}

// momentOf is what a report would know.
func momentOf(t testing.TB, s *Store, now time.Time) (found moment) {
	t.Helper()
	err := s.read(context.Background(), Scope{}, now, func(_ pgx.Tx, m moment) error {
		found = m
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCountedAheadEqualsTheRows(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			db := pgtest.Database(t)
			r := rand.New(rand.NewPCG(seed, 19))
			now := time.Now().UTC().Truncate(time.Microsecond)
			w := newWorld(t, db, r, now, 60, 5, 400)
			s := newStore(db)
			countNow(t, s, now.Add(-17*time.Minute))
			if m := momentOf(t, s, now); !m.counted || len(m.ids) == 0 || len(m.ids) > 40 {
				t.Fatalf("%d learners are counted anew", len(m.ids))
			}
			if sums := one[int](t, db, `select count(*)::int from ops.fallback_sums`); sums == 0 {
				t.Error("nothing was added up")
			}
			checkReport(t, db, s, Scope{}, nil, now)
			checkReport(t, db, s, Scope{Teams: w.teams[:1]}, &w.teams[0], now)
			for range 60 { // what comes later is seen, however long ago it was counted
				if err := disturb(t.Context(), db, r, w, time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			if m := momentOf(t, s, now); !m.counted {
				t.Fatal("everything is counted anew")
			}
			checkReport(t, db, s, Scope{}, nil, now)
			checkLeads(t, db, s, now)
			checkReport(t, db, s, Scope{}, nil, now.Add(36*time.Hour))
			// A clock that is behind, by more than what is kept ready for it, too.
			checkReport(t, db, s, Scope{}, nil, now.Add(-20*time.Minute))
			checkReport(t, db, s, Scope{}, nil, now.Add(-2*time.Hour))
			// What was counted once is brought up to date.
			countNow(t, s, now)
			if n := one[int](t, db, `select count(*)::int from ops.key_health_marks`); n != 0 {
				t.Errorf("%d marks are left", n)
			}
			checkReport(t, db, s, Scope{Teams: w.teams[1:2]}, &w.teams[1], now)
			checkLeads(t, db, s, now)
		})
	}
}

// checkLeads compares what every lead sees with what they see when nothing was added
// up.
func checkLeads(t *testing.T, db *pgxpool.Pool, s *Store, now time.Time) {
	t.Helper()
	same := cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(price.USD.Equal), cmp.Comparer(time.Time.Equal)}
	leads := one[[]uuid.UUID](t, db, `select array_agg(distinct user_id) from public.team_members where role = 'lead'`)
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	exec(t, tx, `delete from ops.fallback_stretch`)
	added := 0
	for _, lead := range leads {
		scope := Scope{As: &lead, Teams: one[[]uuid.UUID](t, db, `select array_agg(team_id) from public.team_members where user_id = $1 and role = 'lead'`, lead)}
		got, want := report(t, s, scope, Query{Show: ShowAll, AllTeams: true}, now), report(t, newStore(tx), scope, Query{Show: ShowAll, AllTeams: true}, now)
		if diff := cmp.Diff(want, got, same); diff != "" {
			t.Errorf("a lead sees (-rows +added up):\n%s", diff)
		}
		added += got.Figures.OnFallback
	}
	if len(leads) < 3 || added == 0 {
		t.Errorf("%d leads see %d learners on fallback keys: too few to compare", len(leads), added)
	}
}

// While many write, some of them slowly, and others count ahead, what is shown is at
// every moment what the rows say.
func TestCountedAheadWhileOthersWrite(t *testing.T) {
	db := pgtest.Database(t)
	r := rand.New(rand.NewPCG(5, 5))
	w := newWorld(t, db, r, time.Now().UTC().Add(-2*time.Hour).Truncate(time.Microsecond), 80, 6, 300)
	s := newStore(db)
	// The triggers know four minutes; here everything comes within a second or is older.
	const fresh = time.Second
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	var wait sync.WaitGroup
	failed := make(chan error, 16)
	background := func(fn func(r *rand.Rand) error) {
		own := rand.New(rand.NewPCG(r.Uint64(), 1))
		wait.Go(func() {
			for ctx.Err() == nil {
				if err := fn(own); err != nil && ctx.Err() == nil {
					failed <- err
					return
				}
			}
		})
	}
	for range 4 {
		background(func(r *rand.Rand) error {
			err := postgres.InTx(ctx, db, func(tx pgx.Tx) error {
				if err := disturb(ctx, tx, r, w, 0); err != nil {
					return err
				}
				time.Sleep(time.Duration(r.IntN(60)*r.IntN(10)) * time.Millisecond) // the clock goes on meanwhile
				return nil
			})
			if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "40P01" {
				return nil // two deleted what refers to each other
			}
			return err
		})
	}
	counted := 0
	for range 2 {
		background(func(r *rand.Rand) error {
			time.Sleep(time.Duration(r.IntN(800)) * time.Millisecond)     // so that something has changed since
			now := time.Now().Add(time.Duration(r.IntN(4)) * time.Minute) // nodes' clocks differ a little
			return s.inCount(ctx, func(tx pgx.Tx) error { return countOnce(ctx, tx, fresh, now) })
		})
	}
	changes := 0
	for compared := 0; compared < 150 && ctx.Err() == nil && len(failed) == 0; {
		q := Query{Show: pick(r, shows...), AllTeams: true, Search: pick(r, "", "", "", "er 1", "@EXAMPLE")}
		if slices.Contains(byProvider, q.Show) && r.IntN(2) == 0 {
			q.Provider = pick(r, append(providers, "nobody's")...)
		}
		err := s.read(ctx, Scope{}, time.Now(), func(tx pgx.Tx, m moment) error {
			if !m.counted {
				return nil
			}
			compared++
			changes += len(m.ids)
			got, err := m.reportChanges(ctx, tx, q)
			if err != nil {
				return err
			}
			m.stretch = stretch{} // from here on nothing but the rows
			want, err := m.reportAll(ctx, tx, q)
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(price.USD.Equal), cmp.Comparer(time.Time.Equal)); diff != "" {
				t.Errorf("%+v, of %d learners (-rows +counted ahead):\n%s", q, len(m.ids), diff)
				stop()
			}
			return err
		})
		if err != nil && ctx.Err() == nil {
			t.Error(err)
			break
		}
		counted = compared
	}
	stop()
	wait.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	if counted < 20 {
		t.Errorf("only %d reports were counted ahead", counted)
	}
	t.Logf("%d reports, of %d learners on average", counted, changes/max(counted, 1))
}

// disturb changes one thing that Key Health knows of. Runs that have just begun are
// at most so old.
func disturb(ctx context.Context, db postgres.DB, r *rand.Rand, w world, young time.Duration) error {
	learner, now := pick(r, w.learners...), time.Now().UTC().Truncate(time.Microsecond)
	do := func(sql string, args ...any) error {
		_, err := db.Exec(ctx, sql, args...)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "23503" {
			return nil // the learner is gone
		}
		return err
	}
	// One row, by place: who writes at the same time shall not wait for long.
	of := func(table, where string) string {
		return fmt.Sprintf(`(select ctid from %s where %s order by md5(ctid::text || %d) limit 1)`, table, where, r.IntN(1000))
	}
	old := `created_at < clock_timestamp() - interval '5 minutes' and created_at > clock_timestamp() - interval '15 days'`
	run := func(at time.Time) error {
		id, source := timed(uuid.New(), at), pick(r, "user", "fallback", "fallback")
		batch := &pgx.Batch{}
		batch.Queue(`insert into public.prompt_runs (id, created_at, user_id, team_id, models) values ($1, $2, $3, $4, '{}')`, id, at, learner, pick(r, w.teams...))
		batch.Queue(`
			insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, provider, model, status, key_source, user_key_id, fallback_key_id, cost_usd)
			values ($1, 0, $2, $3, $4::text, $4 || '/m', 'ok', $5, $1, $1, $6::text::numeric)`, id, at, learner, pick(r, providers...), source, pick(r, "0.1", "0.025", "0"))
		return db.SendBatch(ctx, batch).Close()
	}
	switch r.IntN(14) {
	case 0, 1:
		return run(now.Add(-time.Duration(r.Int64N(int64(young) + 1))))
	case 2:
		return run(now.Add(-5 * time.Minute).Add(-time.Duration(r.Int64N(int64(14 * 24 * time.Hour)))))
	case 3: // goes with its attempts
		return do(`
			with run as (
			  delete from public.prompt_runs r using (select id, created_at from public.prompt_runs where user_id = $1 and `+old+` order by md5(id::text) limit 1) x
			  where r.id = x.id and r.created_at = x.created_at returning r.id, r.created_at
			)
			delete from public.prompt_attempts a using run where a.run_id = run.id and a.created_at = run.created_at`, learner)
	case 4: // as when a price was wrong
		return do(`
			update public.prompt_attempts a set cost_usd = case when cost_usd is null or $2 then cost_usd + 1 end
			from (select run_id, ordinal, created_at from public.prompt_attempts where user_id = $1 and status <> 'running' and `+old+` order by md5(run_id::text) limit 1) x
			where a.run_id = x.run_id and a.ordinal = x.ordinal and a.created_at = x.created_at`, learner, r.IntN(3) > 0)
	case 5:
		return do(`insert into public.user_api_keys (user_id, provider, ciphertext, fingerprint, last_four, status, suspect) values ($1, $2, 'sealed', $3, '1234', $4, nullif($5, ''))`,
			learner, pick(r, providers...), uuid.NewString(), pick(r, keyStatuses...), pick(r, suspects...))
	case 6:
		return do(`delete from public.user_api_keys where ctid = ` + of("public.user_api_keys", "user_id = '"+learner.String()+"'"))
	case 7:
		return do(`update public.user_api_keys set status = $1, suspect = nullif($2, ''), status_at = $3 where ctid = `+of("public.user_api_keys", "user_id = '"+learner.String()+"'"),
			pick(r, keyStatuses...), pick(r, suspects...), now)
	case 8:
		until := pick(r, now.Add(-time.Hour), now.Add(300*time.Millisecond), now.Add(12*time.Hour))
		return do(`update auth.users set banned_until = $2 where id = $1`, learner, until)
	case 9:
		return do(`update auth.users set deleted_at = case when $2 then $3::timestamptz end, is_anonymous = $4, email = $5, banned_until = null where id = $1`,
			learner, r.IntN(4) == 0, now, r.IntN(6) == 0, fmt.Sprintf("%s@example.org", uuid.NewString()))
	case 10:
		return do(`insert into public.team_members (team_id, user_id) values ($1, $2) on conflict do nothing`, pick(r, w.teams...), learner)
	case 11:
		return do(`delete from public.team_members where user_id = $1 and team_id = $2`, learner, pick(r, w.teams...))
	case 12:
		state := pick(r, New, Contacted, Snoozed, Resolved, Reopened)
		var until *time.Time
		if state == Snoozed {
			at := pick(r, now.Add(-time.Hour), now.Add(300*time.Millisecond), now.Add(12*time.Hour))
			until = &at
		}
		return do(`
			insert into ops.outreach (learner_id, state, state_at, snoozed_until) values ($1, $2, $3, $4)
			on conflict (learner_id) do update set state = excluded.state, state_at = excluded.state_at, snoozed_until = excluded.snoozed_until, revision = ops.outreach.revision + 1`,
			learner, state, now, until)
	}
	return do(`delete from ops.outreach where learner_id = $1`, learner)
}

// Where nobody has to wait, nothing is kept ready: and what was, is forgotten.
func TestLittleIsNotCountedAhead(t *testing.T) {
	db := pgtest.Database(t)
	people(t, db, 10)
	s := newStore(db)
	countNow(t, s, noon)
	if m := momentOf(t, s, noon); !m.counted {
		t.Fatal("nothing is counted ahead")
	}
	if err := s.countAhead(t.Context(), worth{attemptsWorth, learnersWorth}, noon.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"fallback_stretch", "fallback_sums", "last_runs", "key_health_learners", "key_health_keys", "key_health_sums", "key_health_marks"} {
		if n := one[int](t, db, `select count(*)::int from ops.`+table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
}

// A key that rests, or is used, changes nothing, and leaves no mark.
func TestMarks(t *testing.T) {
	db := pgtest.Database(t)
	ids := people(t, db, 2)
	giveKey(t, db, ids[0], "healthy")
	left := func(what, sql string, want int) {
		t.Helper()
		exec(t, db, `delete from ops.key_health_marks`)
		exec(t, db, sql)
		if n := one[int](t, db, `select count(*)::int from ops.key_health_marks`); n != want {
			t.Errorf("%s: %d marks, want %d", what, n, want)
		}
	}
	left("use", `update public.user_api_keys set last_used_at = now()`, 0)
	left("rest", `update public.user_api_keys set status = 'cooling', suspect = 'rate_limited', status_at = now()`, 0)
	left("refusal", `update public.user_api_keys set suspect = 'invalid_key'`, 1)
	left("break", `update public.user_api_keys set status = 'invalid', status_at = now()`, 1)
	left("sign in", `update auth.users set last_sign_in_at = now(), updated_at = now()`, 0)
	left("names", `update auth.users set raw_user_meta_data = '{"name": "Ada"}'`, 2)
	left("all keys", `truncate public.user_api_keys`, 1)
	if m := momentOf(t, newStore(db), noon); m.counted {
		t.Error("what is not right any more is used")
	}
}
