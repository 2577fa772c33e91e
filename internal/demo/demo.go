// Package demo fills a database with learners, teams, lessons and half a year of
// runs that never happened, so that a first look at the dashboard shows
// something, and takes exactly that away again.
package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
	budgets "github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/internal/seal"
)

const (
	domain = "demo.promptcademy.test"

	// Learner is the demo learner to try the run endpoint with. She has a key of
	// her own for openai; at all other providers the fallback key pays.
	Learner = "ada@" + domain
)

// Store puts the demo into a database and takes it out.
type Store struct {
	db   postgres.DB
	ring *seal.Ring
	zone *time.Location // where budget days begin

	largeMonth int64 // attempts from which on a month is emptied at once rather than row by row
}

// NewStore returns a Store on db whose provider keys are sealed with ring. They
// all open the built-in sandbox and nothing else. What the demo spent counts
// against budgets, whose days begin in zone.
func NewStore(db postgres.DB, ring *seal.Ring, zone *time.Location) *Store {
	return &Store{db, ring, zone, 100_000}
}

// Present reports whether there is demo data.
func (s *Store) Present(ctx context.Context) (bool, error) {
	return present(ctx, s.db)
}

// Shown is Present for the banner on every page: where the database cannot say,
// the page has worse to tell.
func (s *Store) Shown(ctx context.Context) bool {
	shown, err := present(ctx, s.db)
	return shown && err == nil
}

func present(ctx context.Context, db postgres.DB) (found bool, err error) {
	err = db.QueryRow(ctx, `select exists (select from ops.demo_records)`).Scan(&found)
	return found, postgres.Fault(err)
}

// Load fills in the demo as of now, with costs at the prices of the book: all of
// it or, if anything fails, nothing. fault.Conflict: there is demo data already,
// or the learners are not ours to add to, because Supabase keeps them.
func (s *Store) Load(ctx context.Context, book *price.Book, now time.Time) error {
	if err := mayLoad(ctx, s.db); err != nil {
		return err
	}
	w := newWorld(book, now)
	if err := s.makeMonths(ctx, w.first, w.now); err != nil {
		return err
	}
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		if err := alone(ctx, tx); err != nil {
			return err
		}
		if err := mayLoad(ctx, tx); err != nil {
			return err
		}
		// First of all, as runs take it before they look at keys and teams.
		if _, err := tx.Exec(ctx, `lock table ops.budget_counters in share row exclusive mode`); err != nil {
			return err
		}
		if err := (loader{tx, s.ring, &w}).load(ctx); err != nil {
			return err
		}
		return budgets.NewBudgetStore(tx, s.zone).Recount(ctx, now)
	})
	if err != nil {
		return postgres.Fault(fmt.Errorf("load demo data: %w", err))
	}
	// Without statistics of its new rows Postgres reads them in clumsy ways until
	// it comes round to counting them itself.
	if _, err := s.db.Exec(ctx, `analyze public.prompt_runs, public.prompt_attempts`); err != nil {
		return postgres.Fault(fmt.Errorf("analyze demo data: %w", err))
	}
	return nil
}

// alone makes others who load or clear wait until the transaction is over.
func alone(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('ops.demo_records'))`)
	return err
}

// mayLoad refuses where the demo is or must not be. Where Supabase keeps the
// learners, rows that its auth server did not write would break its own pages.
func mayLoad(ctx context.Context, db postgres.DB) error {
	found, err := present(ctx, db)
	if err != nil {
		return err
	}
	if found {
		return fault.New(fault.Conflict, "There is demo data already. Remove it first: promptops demo clear.")
	}
	var ours bool
	err = db.QueryRow(ctx, `
		select has_table_privilege('auth.users', 'insert') and has_table_privilege('auth.users', 'delete')
		   and not row_security_active('auth.users')
		   and not exists (select from pg_attribute where attrelid = 'auth.users'::regclass and attname = 'encrypted_password')`).Scan(&ours)
	if err != nil {
		return postgres.Fault(err)
	}
	if !ours {
		return fault.New(fault.Conflict, "Demo data needs learners of its own, and in this database Supabase keeps them. Use another database, or start without DATABASE_URL.")
	}
	return nil
}

// makeMonths makes the partitions that the runs go to, each month by itself:
// meanwhile nobody else can store a run.
func (s *Store) makeMonths(ctx context.Context, first, last time.Time) error {
	for month := first.AddDate(0, 0, 1-first.Day()); !month.After(last); month = month.AddDate(0, 1, 0) {
		var err error
		for range 10 { // it gives up when others hold its locks for half a second
			_, err = s.db.Exec(ctx, `select ops.ensure_partitions($1::date, $1::date)`, month)
			if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "55P03" {
				break
			}
		}
		if err != nil {
			return postgres.Fault(fmt.Errorf("make partitions: %w", err))
		}
	}
	return nil
}
