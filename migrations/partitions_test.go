package migrations_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/migrations"
)

func ensurePartitions(t testing.TB, db postgres.DB, first, last string) int {
	t.Helper()
	return query[int](t, db, `select ops.ensure_partitions($1, $2)`, first, last)[0]
}

func TestPartitionsAreMadeOnce(t *testing.T) {
	tx := pgtest.Tx(t)
	for _, c := range []struct {
		first, last string
		made        int
	}{
		{"2026-11-30", "2027-02-01", 12}, // over the end of the year; any day stands for its month
		{"2026-11-01", "2027-02-28", 0},
		{"2026-10-01", "2027-01-01", 3},
		{"2027-03-02", "2027-03-01", 3},
		{"2028-02-01", "2028-01-31", 0}, // the wrong way round
	} {
		if made := ensurePartitions(t, tx, c.first, c.last); made != c.made {
			t.Errorf("%s to %s made %d tables, want %d", c.first, c.last, made, c.made)
		}
	}
	want := []string{"2026_10", "2026_11", "2026_12", "2027_01", "2027_02", "2027_03"}
	for _, parent := range []string{"prompt_runs", "prompt_attempts", "prompt_contents"} {
		got := query[string](t, tx, `
			select right(inhrelid::regclass::text, 7) from pg_inherits where inhparent = $1::regclass order by 1`, "public."+parent)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("months of %s (-want +got):\n%s", parent, diff)
		}
	}
}

func TestPartitionsAreUTCMonthsInEverySession(t *testing.T) {
	for _, session := range []struct{ timezone, datestyle string }{
		{"UTC", "ISO"},
		{"America/St_Johns", "ISO, MDY"},
		{"Pacific/Auckland", "German"},
		{"Asia/Kolkata", "SQL, DMY"}, // writes "IST", which reads as Israel's
	} {
		t.Run(session.timezone, func(t *testing.T) {
			tx := pgtest.Tx(t)
			exec(t, tx, `select set_config('timezone', $1, true), set_config('datestyle', $2, true)`, session.timezone, session.datestyle)
			if made := query[int](t, tx, `select ops.ensure_partitions(date '2026-10-31', date '2027-01-01')`)[0]; made != 12 {
				t.Errorf("made %d tables, want 12", made)
			}
			if got := query[string](t, tx, `select current_setting('timezone') || current_setting('lock_timeout')`)[0]; got != session.timezone+"0" {
				t.Errorf("the session's settings became %s", got)
			}
			exec(t, tx, `set local timezone = 'UTC'; set local datestyle = 'ISO'`)
			got := query[string](t, tx, `
				select pg_get_expr(relpartbound, oid) from pg_class
				where oid in (select inhrelid from pg_inherits where inhparent = 'public.prompt_attempts'::regclass) order by relname`)
			want := []string{
				"FOR VALUES FROM ('2026-10-01 00:00:00+00') TO ('2026-11-01 00:00:00+00')",
				"FOR VALUES FROM ('2026-11-01 00:00:00+00') TO ('2026-12-01 00:00:00+00')",
				"FOR VALUES FROM ('2026-12-01 00:00:00+00') TO ('2027-01-01 00:00:00+00')",
				"FOR VALUES FROM ('2027-01-01 00:00:00+00') TO ('2027-02-01 00:00:00+00')",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("bounds (-want +got):\n%s", diff)
			}
		})
	}
}

// writeRun writes a run as the recorder does: run, attempts, contents.
func writeRun(ctx context.Context, db postgres.DB, createdAt string) error {
	return postgres.InTx(ctx, db, func(tx pgx.Tx) error {
		var id string
		err := tx.QueryRow(ctx, `
			insert into public.prompt_runs (id, created_at, user_id, models)
			values (gen_random_uuid(), $1::timestamptz, $2, '{a/b,a/c}') returning id`, createdAt, ann).Scan(&id)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, provider, model)
			select $1, n, $2::timestamptz, $3, 'a', 'a/b' from generate_series(0, 1) n`, id, createdAt, ann)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			insert into public.prompt_contents (run_id, created_at, user_id, messages) values ($1, $2::timestamptz, $3, '[]')`, id, createdAt, ann)
		return err
	})
}

func TestRunsLandInTheirMonth(t *testing.T) {
	tx := pgtest.Tx(t)
	exec(t, tx, users)
	ensurePartitions(t, tx, "2026-12-01", "2027-01-01")
	for _, c := range []struct{ at, month string }{
		{"2026-12-01T00:00:00Z", "2026_12"},
		{"2026-12-31T23:59:59.999999Z", "2026_12"},
		{"2027-01-01T00:00:00Z", "2027_01"},
		{"2027-01-01T00:30:00+01:00", "2026_12"},
		{"2027-01-31T23:59:59.999999Z", "2027_01"},
	} {
		if err := writeRun(t.Context(), tx, c.at); err != nil {
			t.Fatalf("%s: %v", c.at, err)
		}
		got := query[string](t, tx, `
			select tableoid::regclass::text from public.prompt_runs where created_at = $1::timestamptz union all
			select tableoid::regclass::text from public.prompt_attempts where created_at = $1::timestamptz union all
			select tableoid::regclass::text from public.prompt_contents where created_at = $1::timestamptz`, c.at)
		want := []string{
			"ops.prompt_runs_" + c.month,
			"ops.prompt_attempts_" + c.month, "ops.prompt_attempts_" + c.month,
			"ops.prompt_contents_" + c.month,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.at, diff)
		}
		for _, table := range []string{"prompt_contents", "prompt_attempts", "prompt_runs"} {
			exec(t, tx, `delete from public.`+table+` where created_at = $1::timestamptz`, c.at)
		}
	}
	if err := writeRun(t.Context(), tx, "2027-02-01T00:00:00Z"); sqlState(err) != "23514" {
		t.Errorf("a month without a partition: %v, want 23514", err)
	}
}

// Runs that a version before nodes were known left behind are closed.
func TestRunsLeftBehindAreClosed(t *testing.T) {
	ctx := t.Context()
	pool := pgtest.Database(t)
	for {
		name, err := postgres.Down(ctx, pool, migrations.FS)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "0005") {
			break
		}
	}
	exec(t, pool, users)
	ensurePartitions(t, pool, "2026-12-01", "2026-12-01")
	if err := writeRun(ctx, pool, "2026-12-01T00:00:00Z"); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Migrate(ctx, pool, migrations.FS); err != nil {
		t.Fatal(err)
	}
	got := query[string](t, pool, `
		select status || ' ' || unpriced from public.prompt_runs union all
		select status || ' ' || error_class || coalesce(cost_usd::text, ' of unknown cost') from public.prompt_attempts`)
	want := []string{"interrupted 2", "interrupted interrupted of unknown cost", "interrupted interrupted of unknown cost"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("runs and attempts (-want +got):\n%s", diff)
	}
}

func TestFourNodesMakePartitionsAtOnce(t *testing.T) {
	pool := pgtest.Database(t)
	var made atomic.Int64
	var nodes errgroup.Group
	for range 4 {
		nodes.Go(func() error {
			var n int64
			err := pool.QueryRow(t.Context(), `select ops.ensure_partitions('2026-10-01', '2027-03-01')`).Scan(&n)
			made.Add(n)
			return err
		})
	}
	if err := nodes.Wait(); err != nil {
		t.Fatal(err)
	}
	if made.Load() != 18 {
		t.Errorf("four nodes say they made %d tables, want 18 in all", made.Load())
	}
}

// Runs are written, and accounts change, while months are added: neither is
// ever the victim of a deadlock, and nothing is lost.
func TestPartitionsAreMadeWhileRunsGoOn(t *testing.T) {
	pool := pgtest.Database(t)
	exec(t, pool, users)
	ensurePartitions(t, pool, "2026-10-01", "2026-10-01")

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var written atomic.Int64
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				if err := writeRun(t.Context(), pool, "2026-10-15T12:00Z"); err != nil {
					t.Error(err)
					return
				}
				written.Add(1)
			}
		})
	}
	writers.Go(func() {
		for ctx.Err() == nil {
			if _, err := pool.Exec(t.Context(), `update auth.users set last_sign_in_at = now()`); err != nil {
				t.Error(err)
				return
			}
		}
	})

	made := 0
	for month := range 12 {
		for {
			var n int
			err := pool.QueryRow(t.Context(), `select ops.ensure_partitions($1, $1)`, fmt.Sprintf("2027-%02d-01", month+1)).Scan(&n)
			if err == nil {
				made += n
				break
			}
			if sqlState(err) != "55P03" { // lock_not_available: again
				t.Fatal(err)
			}
		}
	}
	stop()
	writers.Wait()
	if made != 36 {
		t.Errorf("made %d tables, want 36", made)
	}
	got := query[int64](t, pool, `
		select count(*) from public.prompt_runs union all
		select count(*) / 2 from public.prompt_attempts union all
		select count(*) from public.prompt_contents`)
	want := written.Load()
	if diff := cmp.Diff([]int64{want, want, want}, got); diff != "" || want == 0 {
		t.Errorf("written %d, found (-want +got):\n%s", want, diff)
	}
}

// A transaction that met the tables in another order than we lock them goes on;
// making partitions gives up and can be called again.
func TestMakingPartitionsLosesAgainstRuns(t *testing.T) {
	pool := pgtest.Database(t)
	exec(t, pool, users)
	ensurePartitions(t, pool, "2026-10-01", "2026-10-01")
	if err := writeRun(t.Context(), pool, "2026-10-15T12:00Z"); err != nil {
		t.Fatal(err)
	}

	writer, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Rollback(context.Background()) }()
	exec(t, writer, `update public.prompt_attempts set status = 'ok'`)
	makerPID := make(chan uint32, 1)
	maker := make(chan error, 1)
	go func() {
		maker <- pool.AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error {
			makerPID <- conn.Conn().PgConn().PID()
			_, err := conn.Exec(t.Context(), `select ops.ensure_partitions('2026-11-01', '2026-11-01')`)
			return err
		})
	}()
	pid := <-makerPID
	for waits := false; !waits && len(maker) == 0; time.Sleep(5 * time.Millisecond) { // until it holds the runs and wants the attempts
		waits = query[bool](t, pool, `select exists (select from pg_locks where pid = $1 and not granted)`, pid)[0]
	}
	exec(t, writer, `update public.prompt_runs set models = '{}'`) // waits for the maker, which waits for us
	if err := writer.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-maker; sqlState(err) != "55P03" {
		t.Errorf("making partitions: %v, want 55P03", err)
	}
	if made := ensurePartitions(t, pool, "2026-11-01", "2026-11-01"); made != 3 {
		t.Errorf("made %d tables afterwards, want 3", made)
	}
}
