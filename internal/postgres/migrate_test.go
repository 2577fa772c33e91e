package postgres_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/migrations"
)

// file is a migration; goose wants its marks at the beginning of a line.
func file(sql string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(strings.ReplaceAll(sql, "\t", ""))}
}

// small has what is hard: every run leaves a trace, and one step cannot run in
// a transaction.
func small() fstest.MapFS {
	return fstest.MapFS{
		"0001_trace.sql": file(`
			-- +goose Up
			create table trace (step int, by int default pg_backend_pid());
			insert into trace values (1);
			select pg_sleep(0.1);
			-- +goose Down
			drop table trace;`),
		"0002_index.sql": file(`
			-- +goose NO TRANSACTION
			-- +goose Up
			create index concurrently trace_step on trace (step);
			-- +goose Down
			drop index concurrently trace_step;`),
		"0003_more.sql": file(`
			-- +goose Up
			insert into trace values (3);
			-- +goose Down
			delete from trace where step = 3;`),
	}
}

// fourNodes migrates one database from four pools at once.
func fourNodes(t *testing.T, url string, migrate func(*pgxpool.Pool) error) {
	t.Helper()
	var nodes sync.WaitGroup
	for range 4 {
		pool, err := postgres.Open(context.Background(), url, postgres.Options{MaxConns: 2})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		nodes.Go(func() {
			if err := migrate(pool); err != nil {
				t.Error(err)
			}
		})
	}
	nodes.Wait()
}

func query[T any](t *testing.T, db postgres.DB, sql string, args ...any) []T {
	t.Helper()
	rows, err := db.Query(context.Background(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestFourNodesMigrateOnce(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.EmptyDatabase(t)
	fourNodes(t, pool.Config().ConnString(), func(pool *pgxpool.Pool) error {
		return postgres.Migrate(ctx, pool, small())
	})
	if diff := cmp.Diff([]int{1, 3}, query[int](t, pool, `select step from trace order by step`)); diff != "" {
		t.Errorf("steps (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]int64{0, 1, 2, 3}, query[int64](t, pool, `select version_id from ops.schema_migrations order by id`)); diff != "" {
		t.Errorf("versions (-want +got)\n%s", diff)
	}
	// Of this database: the server is shared, and others lock on it, too.
	if got := query[int](t, pool, `
		select count(*)::int from pg_locks l join pg_database d on d.oid = l.database
		where l.locktype = 'advisory' and d.datname = current_database()`); got[0] != 0 {
		t.Error("the lock is still held")
	}
	if got := query[bool](t, pool, `select indisvalid from pg_index where indexrelid = 'trace_step'::regclass`); !got[0] {
		t.Error("the index is not valid")
	}
}

func TestFourNodesRunTheRealMigrations(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.EmptyDatabase(t)
	fourNodes(t, pool.Config().ConnString(), func(pool *pgxpool.Pool) error {
		return postgres.Migrate(ctx, pool, migrations.FS)
	})
	steps, err := postgres.Status(ctx, pool, migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		if step.AppliedAt.IsZero() {
			t.Errorf("%s is not applied", step.Name)
		}
	}
	if got := query[string](t, pool, `select table_name::text from information_schema.tables
		where table_schema = 'public' and table_name ~ 'goose|migrations'`); len(got) > 0 {
		t.Errorf("the Data API would show %v", got)
	}
}

func TestMigrateStopsAtAFailure(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.EmptyDatabase(t)
	files := small()
	files["0002_index.sql"] = file(`
		-- +goose Up
		-- +goose StatementBegin
		do $$ begin
			insert into trace values (2);
			raise exception 'role x is missing' using hint = 'As a superuser run: create role x;';
		end $$;
		-- +goose StatementEnd`)
	err := postgres.Migrate(ctx, pool, files)
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"0002_index.sql", "role x is missing", "As a superuser run: create role x;"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if diff := cmp.Diff([]int{1}, query[int](t, pool, `select step from trace`)); diff != "" {
		t.Errorf("steps (-want +got)\n%s", diff)
	}

	// Mended, it goes on where it stopped.
	if err := postgres.Migrate(ctx, pool, small()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1, 3}, query[int](t, pool, `select step from trace order by step`)); diff != "" {
		t.Errorf("steps (-want +got)\n%s", diff)
	}
}

func TestMigrateIgnoresTheTimeLimitOfPages(t *testing.T) {
	ctx := context.Background()
	url := pgtest.EmptyURL(t) + "&statement_timeout=20ms"
	pool, err := postgres.Open(ctx, url, postgres.Options{MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := postgres.Migrate(ctx, pool, small()); err != nil { // its first step sleeps 100 ms
		t.Fatal(err)
	}
	if got := query[string](t, pool, `show statement_timeout`); got[0] != "20ms" {
		t.Errorf("afterwards the pool's limit is %s", got[0])
	}
}

func TestDownAndStatus(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.EmptyDatabase(t)
	applied := func() (versions []int64) {
		t.Helper()
		steps, err := postgres.Status(ctx, pool, small())
		if err != nil {
			t.Fatal(err)
		}
		if len(steps) != 3 {
			t.Fatalf("%d steps, want 3", len(steps))
		}
		for _, step := range steps {
			if !step.AppliedAt.IsZero() {
				versions = append(versions, step.Version)
			}
		}
		return versions
	}
	if got := applied(); got != nil {
		t.Errorf("applied on an empty database: %v", got)
	}
	if got := query[bool](t, pool, `select to_regnamespace('ops') is null`); !got[0] {
		t.Error("looking at the status changed the database")
	}
	if err := postgres.Migrate(ctx, pool, small()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0003_more.sql", "0002_index.sql", "0001_trace.sql"} {
		name, err := postgres.Down(ctx, pool, small())
		if err != nil {
			t.Fatal(err)
		}
		if name != want {
			t.Errorf("took back %s, want %s", name, want)
		}
	}
	if _, err := postgres.Down(ctx, pool, small()); fault.KindOf(err) != fault.NotFound {
		t.Errorf("got %v, want not found", err)
	}
	if got := applied(); got != nil {
		t.Errorf("still applied: %v", got)
	}
	if err := postgres.Migrate(ctx, pool, small()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{1, 2, 3}, applied()); diff != "" {
		t.Errorf("applied (-want +got)\n%s", diff)
	}
}

func TestMigrateLeavesANewerDatabaseAlone(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.EmptyDatabase(t)
	if err := postgres.Migrate(ctx, pool, small()); err != nil {
		t.Fatal(err)
	}
	older := small()
	delete(older, "0003_more.sql")
	if err := postgres.Migrate(ctx, pool, older); err != nil {
		t.Errorf("a node of the version before cannot start: %v", err)
	}
}
