package account

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/promptcademy/promptops/internal/loop"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Sweeper removes sessions and sign-in links that have ended, and forgets old
// failures. Nothing depends on it: what has ended is never honoured. It may
// run on any number of nodes.
type Sweeper struct {
	db  postgres.DB
	log *slog.Logger
}

// NewSweeper returns a Sweeper of the rows in db.
func NewSweeper(db postgres.DB, log *slog.Logger) *Sweeper {
	return &Sweeper{db: db, log: log}
}

const sweepInterval = time.Hour

// Run sweeps at once and then every hour, until ctx is over; then it returns
// nil. An error of one sweep is logged and left to the next.
func (s *Sweeper) Run(ctx context.Context) error {
	return loop.Every(ctx, s.log, "account_sweep_failed", sweepInterval, s.RunOnce)
}

// RunOnce removes what has ended at now.
func (s *Sweeper) RunOnce(ctx context.Context, now time.Time) error {
	_, err := s.db.Exec(ctx, `
		delete from ops.sessions
		where expires_at <= $1 or last_seen_at <= $2`,
		now, now.Add(-SessionIdle))
	if err != nil {
		return postgres.Fault(fmt.Errorf("sweep sessions: %w", err))
	}
	_, err = s.db.Exec(ctx, `
		delete from ops.sign_in_links
		where expires_at <= $1`,
		now)
	if err != nil {
		return postgres.Fault(fmt.Errorf("sweep sign-in links: %w", err))
	}
	// Rows that an attempt is using have a later turn: waiting for two of them
	// in another order than the attempt does would be a deadlock.
	_, err = s.db.Exec(ctx, `
		delete from ops.sign_in_failures
		where subject in (
		  select subject
		  from ops.sign_in_failures
		  where last_at <= $1
		  for update skip locked
		)`,
		now.Add(-throttleForget))
	if err != nil {
		return postgres.Fault(fmt.Errorf("sweep sign-in failures: %w", err))
	}
	return nil
}
