// Package pgtest gives tests a real Postgres. `go test ./internal/foo` just
// works: the first test of a process that asks brings up a private server in a
// temporary folder, and both are gone soon after the process ends, however it
// ends.
//
// The whole suite is faster with one server for all packages:
//
//	go run ./internal/postgres/pgtest/run go test ./...
//
// starts one, tells the tests its address in PGTEST_URL and throws it away
// afterwards. PGTEST_URL is meant for such a server: tests make databases on it
// that only their server's end removes.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/postgres"
)

// Tx returns a transaction on a migrated database. Everything done in it is
// undone when the test ends. Like every transaction it is for one goroutine;
// a test that needs more takes a Database.
func Tx(t testing.TB) pgx.Tx {
	t.Helper()
	ctx := context.Background()
	pool, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	tx, err := pool.Begin(ctx)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	t.Cleanup(func() { _ = tx.Rollback(ctx) })
	return tx
}

// Database returns a pool on a migrated database of the test's own, which is
// dropped when the test ends. pool.Config().ConnString() is its address.
func Database(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return open(t, URL(t))
}

// EmptyDatabase is Database without any migration applied.
func EmptyDatabase(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return open(t, EmptyURL(t))
}

// URL returns the address, with the password, of a migrated database of the
// test's own, for tests that start processes.
func URL(t testing.TB) string {
	t.Helper()
	return clone(t, template)
}

// EmptyURL is URL without any migration applied.
func EmptyURL(t testing.TB) string {
	t.Helper()
	return clone(t, func() (string, error) { return "template0", nil })
}

func open(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(context.Background(), url, postgres.Options{ApplicationName: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func clone(t testing.TB, template func() (string, error)) string {
	t.Helper()
	from, err := template()
	if err != nil {
		t.Fatal(err)
	}
	name, err := create(from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin(`drop database ` + name + ` with (force)`); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	address, err := databaseURL(name)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// create makes a database with a name of its own from a template.
func create(template string) (name string, err error) {
	name = "test_" + strings.ToLower(rand.Text())
	if err := admin(`create database ` + name + ` template ` + template); err != nil {
		return "", fmt.Errorf("create a test's database: %w", err)
	}
	return name, nil
}

// shared is the database of all rolled-back transactions of this process.
var shared = sync.OnceValues(func() (*pgxpool.Pool, error) {
	from, err := template()
	if err != nil {
		return nil, err
	}
	name, err := create(from)
	if err != nil {
		return nil, err
	}
	address, err := databaseURL(name)
	if err != nil {
		return nil, err
	}
	return postgres.Open(context.Background(), address, postgres.Options{MaxConns: 32})
})

// serverURL is the address of the server that tests use.
var serverURL = sync.OnceValues(func() (string, error) {
	if address := os.Getenv("PGTEST_URL"); address != "" {
		return address, nil
	}
	return StartServer()
})

func databaseURL(name string) (string, error) {
	address, err := serverURL()
	if err != nil {
		return "", err
	}
	parsed, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("PGTEST_URL is not a URL")
	}
	parsed.Path = "/" + name
	return parsed.String(), nil
}

// onServer runs fn on a connection to the server's own database.
func onServer(fn func(ctx context.Context, conn *pgx.Conn) error) error {
	address, err := serverURL()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return fmt.Errorf("the test server: %w", err)
	}
	defer conn.Close(ctx)
	return fn(ctx, conn)
}

// admin runs a statement about a database. Sessions of it that are just ending
// are in its way on a busy machine, for longer than the 5 s that Postgres waits.
func admin(sql string) error {
	return onServer(func(ctx context.Context, conn *pgx.Conn) error {
		for {
			_, err := conn.Exec(ctx, sql)
			if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "55006" || ctx.Err() != nil { // object in use
				return err
			}
		}
	})
}
