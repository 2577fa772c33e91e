package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/promptcademy/promptops/internal/fault"
)

// versionTable keeps what was applied. Schema public is shared with Supabase's
// Data API, so it lives in our own.
const versionTable = "ops.schema_migrations"

// Migration is one step of the database's history.
type Migration struct {
	Version   int64
	Name      string    // the file's name
	AppliedAt time.Time // zero: not applied yet
}

// Migrate applies what is missing of the migrations at the root of fsys. Any
// number of nodes may call it at once: one applies, the others wait for it.
// When nothing is missing it costs one query. An error names the file that
// failed and what Postgres said; the files before it stay applied.
func Migrate(ctx context.Context, pool *pgxpool.Pool, fsys fs.FS) error {
	steps, err := Status(ctx, pool, fsys)
	if err != nil {
		return err
	}
	if !pending(steps) {
		return nil
	}
	pool, err = patient(ctx, pool)
	if err != nil {
		return err
	}
	defer pool.Close()
	provider, err := newProvider(pool, fsys)
	if err != nil {
		return err
	}
	defer provider.Close()
	return alone(ctx, pool, func() error {
		_, err := provider.Up(ctx)
		return migrationError(err)
	})
}

// Status lists the migrations of fsys, oldest first, and changes nothing.
func Status(ctx context.Context, pool *pgxpool.Pool, fsys fs.FS) ([]Migration, error) {
	provider, err := newProvider(pool, fsys)
	if err != nil {
		return nil, err
	}
	defer provider.Close()
	applied, err := appliedVersions(ctx, pool)
	if err != nil {
		return nil, err
	}
	var steps []Migration
	for _, source := range provider.ListSources() {
		steps = append(steps, Migration{
			Version:   source.Version,
			Name:      source.Path,
			AppliedAt: applied[source.Version],
		})
	}
	return steps, nil
}

// Down takes the newest applied migration back and returns its name. It
// returns a fault.NotFound when none is applied.
func Down(ctx context.Context, pool *pgxpool.Pool, fsys fs.FS) (string, error) {
	pool, err := patient(ctx, pool)
	if err != nil {
		return "", err
	}
	defer pool.Close()
	provider, err := newProvider(pool, fsys)
	if err != nil {
		return "", err
	}
	defer provider.Close()
	var name string
	err = alone(ctx, pool, func() error {
		result, err := provider.Down(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return fault.New(fault.NotFound, "There is no migration to take back.")
		}
		if err == nil {
			name = result.Source.Path
		}
		return migrationError(err)
	})
	return name, err
}

func pending(steps []Migration) bool {
	for _, step := range steps {
		if step.AppliedAt.IsZero() {
			return true
		}
	}
	return false
}

func appliedVersions(ctx context.Context, db DB) (map[int64]time.Time, error) {
	applied := map[int64]time.Time{}
	rows, err := db.Query(ctx, `select version_id, tstamp at time zone current_setting('TimeZone') from `+versionTable)
	if err == nil {
		var version int64
		var at time.Time
		_, err = pgx.ForEachRow(rows, []any{&version, &at}, func() error {
			applied[version] = at
			return nil
		})
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "42P01" || pgErr.Code == "3F000") {
		return applied, nil // an empty database: no such table or schema yet
	}
	if err != nil {
		return nil, fmt.Errorf("read applied migrations: %w", err)
	}
	return applied, nil
}

func newProvider(pool *pgxpool.Pool, fsys fs.FS) (*goose.Provider, error) {
	provider, err := goose.NewProvider(goose.DialectPostgres, stdlib.OpenDBFromPool(pool), fsys,
		goose.WithTableName(versionTable),
		goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return provider, nil
}

// migrationError names the file and adds Postgres' hint, which says what to do.
func migrationError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	name := ""
	if partial, ok := errors.AsType[*goose.PartialError](err); ok {
		name = " " + partial.Failed.Source.Path
		err = partial.Err
	}
	hint := ""
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Hint != "" {
		hint = ". " + pgErr.Hint
	}
	return fmt.Errorf("migration%s: %w%s", name, err, hint)
}

// patient returns a pool to the same database for migrations only: one
// connection for the lock and one to work, without the limit on a statement's
// time that a role may have for the sake of pages.
func patient(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Pool, error) {
	config := pool.Config()
	config.MaxConns, config.MinConns, config.MinIdleConns = 2, 0, 0
	config.ConnConfig.RuntimeParams["statement_timeout"] = "0"
	return pgxpool.NewWithConfig(ctx, config)
}

// goose's own number, so that its command line respects us.
const migrationLock = 4097083626

// alone runs fn while no other node migrates, and makes sure that the version
// table's schema is there.
//
// The lock is our own and not goose's, because goose looks for the version
// table before it locks. It is asked for again and again instead of waited for
// inside the server: a waiting statement holds a snapshot, and CREATE INDEX
// CONCURRENTLY would wait for that, which is a deadlock.
func alone(ctx context.Context, pool *pgxpool.Pool, fn func() error) (err error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("migration lock: %w", err)
	}
	defer conn.Release()
	for {
		var locked bool
		if err := conn.QueryRow(ctx, `select pg_try_advisory_lock($1)`, migrationLock).Scan(&locked); err != nil {
			return fmt.Errorf("migration lock: %w", err)
		}
		if locked {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another node is migrating: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	defer func() {
		_, unlockErr := conn.Exec(context.WithoutCancel(ctx), `select pg_advisory_unlock($1)`, migrationLock)
		err = errors.Join(err, unlockErr)
	}()
	_, err = conn.Exec(ctx, `do $$ begin
		if to_regnamespace('ops') is null then create schema ops; end if;
	end $$`)
	if err != nil {
		return fmt.Errorf("create schema ops: %w", err)
	}
	return fn()
}
