package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

var (
	ann = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	bob = uuid.MustParse("22222222-2222-4222-8222-222222222222")
)

func TestOpenNeverShowsThePassword(t *testing.T) {
	good := pgtest.EmptyURL(t)
	config, err := pgconn.ParseConfig(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, url string
		want      fault.Kind
		says      string
	}{
		{"not percent-encoded", "postgres://user:hunter2%zz@localhost/db", fault.Invalid, "percent-encoded"},
		{"a bad port", "postgres://user:hunter2@localhost:notaport/db", fault.Invalid, "not valid"},
		{"a bad option", "postgres://user:hunter2@localhost/db?sslmode=hunter2", fault.Invalid, "not valid"},
		{"a wrong password", strings.Replace(good, config.Password, "hunter2", 1), fault.Unavailable, "password authentication failed"},
		{"nobody listens", "postgres://user:hunter2@127.0.0.1:1/db", fault.Unavailable, "connection refused"},
		{"no such host", "postgres://user:hunter2@promptops.invalid/db", fault.Unavailable, "promptops.invalid"},
		{"no such database", strings.Replace(good, config.Database, "nowhere", 1), fault.Unavailable, "does not exist"},
	} {
		t.Run(test.name, func(t *testing.T) {
			pool, err := postgres.Open(context.Background(), test.url, postgres.Options{})
			if err == nil {
				pool.Close()
				t.Fatal("opened")
			}
			if got := fault.KindOf(err); got != test.want {
				t.Errorf("kind %q, want %q", got, test.want)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if strings.Contains(e.Error(), "hunter2") {
					t.Errorf("the password is in %q", e)
				}
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("%q does not say %q", err, test.says)
			}
		})
	}
}

func TestOpenSizesThePool(t *testing.T) {
	url := pgtest.EmptyURL(t)
	for _, test := range []struct {
		name     string
		url      string
		opts     postgres.Options
		maxConns int32
		appName  string
	}{
		{"by default", url, postgres.Options{}, 16, "promptops"},
		{"as the URL says", url + "&pool_max_conns=3&application_name=mine", postgres.Options{}, 3, "mine"},
		{"as the caller says", url + "&pool_max_conns=3&application_name=mine", postgres.Options{MaxConns: 5, ApplicationName: "bench"}, 5, "bench"},
	} {
		t.Run(test.name, func(t *testing.T) {
			pool, err := postgres.Open(context.Background(), test.url, test.opts)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			if got := pool.Config().MaxConns; got != test.maxConns {
				t.Errorf("%d connections at most, want %d", got, test.maxConns)
			}
			var appName string
			if err := pool.QueryRow(context.Background(), `show application_name`).Scan(&appName); err != nil {
				t.Fatal(err)
			}
			if appName != test.appName {
				t.Errorf("application_name %q, want %q", appName, test.appName)
			}
		})
	}
}

// values is what every store reads and writes.
type values struct {
	ID      uuid.UUID
	Other   *uuid.UUID
	None    *uuid.UUID
	IDs     []uuid.UUID
	Cost    decimal.Decimal
	Price   *decimal.Decimal
	NoPrice *decimal.Decimal
	Costs   []decimal.Decimal
	At      time.Time
}

func TestValuesSurviveTheWay(t *testing.T) {
	price := decimal.RequireFromString("0.000000000125")
	want := values{
		ID: ann, Other: &bob, IDs: []uuid.UUID{ann, bob},
		Cost: decimal.RequireFromString("-12345678901234567890.5"), Price: &price,
		Costs: []decimal.Decimal{price, decimal.Zero},
		At:    time.Date(2026, 11, 24, 8, 0, 0, 123456000, time.UTC),
	}
	const sql = `
		select $1::uuid id, $2::uuid other, $3::uuid none, $4::uuid[] ids,
		       $5::numeric cost, $6::numeric price, $7::numeric no_price, $8::numeric[] costs,
		       $9::timestamptz at`
	args := []any{want.ID, want.Other, want.None, want.IDs, want.Cost, want.Price, want.NoPrice, want.Costs, want.At}
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, // binary
		pgx.QueryExecModeExec,           // text, where the driver cannot ask the server
		pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			rows, err := pgtest.Tx(t).Query(context.Background(), sql, append([]any{mode}, args...)...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[values])
			if err != nil {
				t.Fatal(err)
			}
			got.At = got.At.UTC()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-sent +received)\n%s", diff)
			}
		})
	}
}

func TestCopyTakesTheSameValues(t *testing.T) {
	ctx := context.Background()
	tx := pgtest.Tx(t)
	if _, err := tx.Exec(ctx, `create temp table copied (id uuid, other uuid, cost numeric, none numeric)`); err != nil {
		t.Fatal(err)
	}
	cost := decimal.RequireFromString("0.25")
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"id", "other", "cost", "none"},
		pgx.CopyFromRows([][]any{{ann, &bob, cost, (*decimal.Decimal)(nil)}}))
	if err != nil {
		t.Fatal(err)
	}
	var same bool
	if err := tx.QueryRow(ctx, `select id = $1 and other = $2 and cost = $3 and none is null from copied`, ann, bob, cost).Scan(&same); err != nil {
		t.Fatal(err)
	}
	if !same {
		t.Error("copied values differ")
	}
}

func TestInTx(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.EmptyDatabase(t)
	if _, err := pool.Exec(ctx, `create table seen (n int primary key)`); err != nil {
		t.Fatal(err)
	}
	insert := func(tx postgres.DB, n int) error {
		_, err := tx.Exec(ctx, `insert into seen values ($1)`, n)
		return err
	}
	boom := errors.New("boom")

	if err := postgres.InTx(ctx, pool, func(tx pgx.Tx) error { return insert(tx, 1) }); err != nil {
		t.Fatal(err)
	}
	if err := postgres.InTx(ctx, pool, func(tx pgx.Tx) error { return errors.Join(insert(tx, 2), boom) }); !errors.Is(err, boom) {
		t.Errorf("got %v, want fn's own error", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		_ = postgres.InTx(ctx, pool, func(tx pgx.Tx) error { _ = insert(tx, 3); panic("fn panics") })
	}()
	err := postgres.InTx(ctx, pool, func(tx pgx.Tx) error {
		if err := postgres.InTx(ctx, tx, func(inner pgx.Tx) error { return errors.Join(insert(inner, 4), boom) }); !errors.Is(err, boom) {
			t.Errorf("inner: got %v", err)
		}
		return insert(tx, 5)
	})
	if err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	err = postgres.InTx(cancelled, pool, func(tx pgx.Tx) error {
		cancel()
		return insert(tx, 6)
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}

	rows, err := pool.Query(ctx, `select n from seen order by n`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1, 5}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	// One that was cut off is given back when it is closed, which takes a moment.
	for deadline := time.Now().Add(time.Minute); pool.Stat().AcquiredConns() != 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections were not given back", pool.Stat().AcquiredConns())
		}
	}
}

func TestIsUnique(t *testing.T) {
	ctx := context.Background()
	tx := pgtest.Tx(t)
	if _, err := tx.Exec(ctx, `create temp table single (n int constraint one_of_each unique); insert into single values (1)`); err != nil {
		t.Fatal(err)
	}
	_, err := tx.Exec(ctx, `insert into single values (1)`)
	for constraint, want := range map[string]bool{"": true, "one_of_each": true, "other": false} {
		if got := postgres.IsUnique(err, constraint); got != want {
			t.Errorf("IsUnique(err, %q) = %v, want %v", constraint, got, want)
		}
	}
	if postgres.IsUnique(nil, "") || postgres.IsUnique(errors.New("23505"), "") {
		t.Error("no violation is taken for one")
	}
}
