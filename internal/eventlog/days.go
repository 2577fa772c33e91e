package eventlog

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

const (
	daysAhead = 3
	dayTries  = 10
)

// Days keeps the partitions of the days to come ready, and drops those that are
// older than events are kept. Any number of nodes may.
type Days struct {
	db   postgres.DB
	keep int
	log  *slog.Logger
}

// NewDays returns the loop that keeps events for so many days.
func NewDays(db postgres.DB, keep int, log *slog.Logger) *Days { return &Days{db, keep, log} }

// Run looks at once and then every hour, until ctx is done.
func (d *Days) Run(ctx context.Context) error {
	return loop.Every(ctx, d.log, "log_days_not_kept", time.Hour, d.RunOnce)
}

// RunOnce makes the days that are missing and drops those that are too old. Of the
// oldest day that is kept nothing is missing.
func (d *Days) RunOnce(ctx context.Context, now time.Time) error {
	if _, err := d.call(ctx, `select ops.ensure_log_days($1::date, $1::date + `+fmt.Sprint(daysAhead)+`)`, now); err != nil {
		return fmt.Errorf("make days of the log: %w", err)
	}
	dropped, err := d.call(ctx, `select ops.drop_log_days($1::date)`, KeptFrom(now, d.keep))
	if err != nil {
		return fmt.Errorf("drop days of the log: %w", err)
	}
	if dropped > 0 {
		d.log.Info("log_days_dropped", "days", dropped)
	}
	return nil
}

// call gives way to whoever reads or writes, and tries again.
func (d *Days) call(ctx context.Context, sql string, day time.Time) (n int, err error) {
	for range dayTries {
		err = d.db.QueryRow(ctx, sql, day.UTC().Format(time.DateOnly)).Scan(&n)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "55P03" { // lock_not_available
			break
		}
	}
	return n, postgres.Fault(err)
}

// KeptFrom is since when no event is dropped for its age: the beginning of a day in
// UTC.
func KeptFrom(now time.Time, days int) time.Time {
	y, m, day := now.UTC().Date()
	return time.Date(y, m, day-days, 0, 0, 0, 0, time.UTC)
}
