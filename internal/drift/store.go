package drift

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Store reads and tries out who may do what.
type Store struct {
	db     postgres.DB
	reader postgres.Reader
}

// NewStore returns a Store on the database.
func NewStore(db postgres.DB) *Store { return &Store{db, postgres.NewReader(db)} }

// Check compares the database with what the migrations make. An error means that it
// could not be compared, which is not the same as no drift: fault.Conflict when the
// database is of another version than the program.
func (s *Store) Check(ctx context.Context, now time.Time) (Result, error) {
	want, err := Expected()
	if err != nil {
		return Result{}, err
	}
	got, err := s.Read(ctx)
	if err != nil {
		return Result{}, err
	}
	for _, version := range want.Versions {
		if !slices.Contains(got.Versions, version) {
			return Result{}, fault.New(fault.Conflict, "Migration %d is missing in the database, so it cannot be compared. Run promptops migrate.", version)
		}
	}
	for _, version := range got.Versions {
		if !slices.Contains(want.Versions, version) {
			return Result{}, fault.New(fault.Conflict, "The database has migration %d, which this program does not know, so it cannot be compared. Use the newer program.", version)
		}
	}
	return Result{CheckedAt: now, Facts: len(want.Facts), Differences: compare(want, got)}, nil
}

// Read takes a snapshot of the database. Partitions are in it, and tables of others
// in schema public.
func (s *Store) Read(ctx context.Context) (got Snapshot, err error) {
	err = s.reader.Read(ctx, func(tx pgx.Tx) error {
		// Postgres writes out names with their schema only where it is not in the path.
		if _, err := tx.Exec(ctx, `select set_config('search_path', '', true)`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `select to_regclass('ops.schema_migrations') is not null and to_regclass('ops.facts_version') is not null`)
		if err != nil {
			return err
		}
		if migrated, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool]); err != nil {
			return err
		} else if !migrated {
			return fault.New(fault.Conflict, "The database is not migrated, or tables are missing, so it cannot be compared. Run promptops migrate.")
		}
		if rows, err = tx.Query(ctx, `select version_id from ops.schema_migrations where version_id > 0 order by 1`); err != nil {
			return err
		}
		if got.Versions, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
			return err
		}
		if rows, err = tx.Query(ctx, `select coalesce(bool_and(complete), true) from ops.facts_version`); err != nil {
			return err
		}
		if got.Watched, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool]); err != nil {
			return err
		}
		got.Facts, err = readFacts(ctx, tx)
		return err
	})
	if err != nil {
		return got, fmt.Errorf("read who may do what: %w", err)
	}
	return got, nil
}
