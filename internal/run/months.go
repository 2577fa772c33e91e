package run

import (
	"context"
	"fmt"
	"log/slog"
	"time"

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
	ticker := time.NewTicker(time.Hour)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := m.RunOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
				m.log.Error("partitions_not_made", "error", err)
			}
		}
	}
}

// RunOnce makes the partitions of this month and the next ones.
func (m *Months) RunOnce(ctx context.Context, now time.Time) error {
	var made int
	err := m.store.db.QueryRow(ctx, `select ops.ensure_partitions($1::date, $2::date)`,
		now.UTC(), now.UTC().AddDate(0, monthsAhead, 0)).Scan(&made)
	if err != nil {
		return postgres.Fault(fmt.Errorf("make partitions: %w", err))
	}
	if made > 0 {
		m.log.Info("partitions_made", "tables", made)
	}
	return nil
}
