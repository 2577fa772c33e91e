package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promptcademy/promptops/internal/loop"
	"github.com/promptcademy/promptops/internal/postgres"
)

// monthsAhead is how long runs go on if nobody makes partitions any more.
const monthsAhead = 3

// Months keeps partitions ready for the months to come. Without one, a run
// could not be recorded and would be refused.
type Months struct {
	store *Store
	log   *slog.Logger
}

// NewMonths returns the loop; RunOnce has to succeed once before runs are taken.
func NewMonths(store *Store, log *slog.Logger) *Months { return &Months{store, log} }

// Run looks every hour until ctx is done. Any number of nodes may.
func (m *Months) Run(ctx context.Context) error {
	return loop.Every(ctx, m.log, "partitions_not_made", time.Hour, m.RunOnce)
}

// RunOnce makes the partitions of this month and the next ones.
func (m *Months) RunOnce(ctx context.Context, now time.Time) error {
	made, err := EnsureMonths(ctx, m.store.pool, now, now.AddDate(0, monthsAhead, 0))
	if made > 0 {
		m.log.Info("partitions_made", "tables", made)
	}
	return err
}

// EnsureMonths makes the partitions of every month from first to last that are
// missing, and returns how many tables that were. Each month is a transaction of
// its own, which gives way to runs that are being recorded and tries again.
func EnsureMonths(ctx context.Context, db postgres.DB, first, last time.Time) (made int, err error) {
	const tries = 20
	month := time.Date(first.UTC().Year(), first.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	for ; !month.After(last); month = month.AddDate(0, 1, 0) {
		var tables int
		for range tries {
			err = db.QueryRow(ctx, `select ops.ensure_partitions($1::date, $1::date)`, month).Scan(&tables)
			if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "55P03" { // lock_not_available
				break
			}
		}
		if err != nil {
			return made, postgres.Fault(fmt.Errorf("make partitions of %s: %w", month.Format("2006-01"), err))
		}
		made += tables
	}
	return made, nil
}
