package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/embedded"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func TestFaultSortsErrors(t *testing.T) {
	ours := fault.New(fault.NotFound, "no such run")
	for _, test := range []struct {
		name string
		err  error
		away bool
	}{
		{"shutting down", &pgconn.PgError{Code: "57P01"}, true},
		{"crashed", &pgconn.PgError{Code: "57P02"}, true},
		{"starting", &pgconn.PgError{Code: "57P03"}, true},
		{"full", &pgconn.PgError{Code: "53300"}, true},
		{"connection failure", fmt.Errorf("store: %w", &pgconn.PgError{Code: "08006"}), true},
		{"cut", fmt.Errorf("store: %w", io.ErrUnexpectedEOF), true},
		{"cancelled by us", context.Canceled, false},
		{"too slow", context.DeadlineExceeded, false},
		{"statement timeout", &pgconn.PgError{Code: "57014"}, false},
		{"unique violation", &pgconn.PgError{Code: "23505"}, false},
		{"no rows", pgx.ErrNoRows, false},
		{"a fault", ours, false},
		{"nothing", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := postgres.Fault(test.err)
			if !test.away {
				if !errors.Is(got, test.err) || (got == nil) != (test.err == nil) {
					t.Errorf("changed to %v", got)
				}
				return
			}
			wantUnavailable(t, got)
			if !errors.Is(got, test.err) {
				t.Error("the cause is lost for the log")
			}
		})
	}
}

func wantUnavailable(t *testing.T, err error) {
	t.Helper()
	unavailable, ok := errors.AsType[*fault.Error](err)
	if !ok || unavailable.Kind != fault.Unavailable {
		t.Fatalf("got %v, want unavailable", err)
	}
	if unavailable.RetryAfter != 2*time.Second {
		t.Errorf("retry after %s, want 2s", unavailable.RetryAfter)
	}
}

func TestFaultWhenTheServerGoesAway(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	openUp(t, dir)
	server, err := embedded.Start(ctx, embedded.Options{Dir: filepath.Join(dir, "postgres"), Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Stop() }()
	pool, err := postgres.Open(ctx, server.URL(), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	tx, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}

	_, err = tx.Exec(ctx, `select 1`)
	wantUnavailable(t, postgres.Fault(err)) // cut off in a transaction
	_ = tx.Rollback(ctx)
	_, err = pool.Exec(ctx, `select 1`)
	wantUnavailable(t, postgres.Fault(err)) // nobody to connect to
	wantUnavailable(t, postgres.Fault(postgres.InTx(ctx, pool, func(pgx.Tx) error { return nil })))
}

func TestFaultOfAClosedPool(t *testing.T) {
	pool := pgtest.EmptyDatabase(t)
	pool.Close()
	_, err := pool.Exec(context.Background(), `select 1`)
	wantUnavailable(t, postgres.Fault(err))
}

func TestFaultOfATerminatedConnection(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.EmptyDatabase(t)
	_, err := pool.Exec(ctx, `select pg_terminate_backend(pg_backend_pid())`)
	wantUnavailable(t, postgres.Fault(err))
}

// openUp lets the server's user, who is another one when we are root, pass
// through the test's folder.
func openUp(t *testing.T, dir string) {
	t.Helper()
	for ; len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
