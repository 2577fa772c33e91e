package key

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/loop"
	"github.com/promptcademy/promptops/internal/postgres"
)

const (
	checkEvery = time.Second
	sweepEvery = 15 * time.Second
	cleanEvery = time.Hour
	// Evidence is kept this long.
	eventsFor   = 180 * 24 * time.Hour
	cleanAtOnce = 5000 // rows
)

// Run makes the checks that are due, every second, until ctx is done.
func (h *Health) Run(ctx context.Context) error {
	return loop.Every(ctx, h.Log, "keys_not_checked", checkEvery, h.RunOnce)
}

// RunOnce makes the checks that are due, retires keys that were replaced, and now
// and then notices what else has changed and deletes evidence that is too old.
func (h *Health) RunOnce(ctx context.Context, now time.Time) error {
	h.mind.forget(now)
	problems := []error{h.retire(ctx, now), h.checkDue(ctx, now)}
	if now.Sub(h.swept) >= sweepEvery {
		h.swept = now
		problems = append(problems, h.sweep(ctx, now))
	}
	if now.Sub(h.cleaned) >= cleanEvery {
		h.cleaned = now
		problems = append(problems, h.clean(ctx, now))
	}
	return errors.Join(problems...)
}

// checkDue claims what is due and checks it.
func (h *Health) checkDue(ctx context.Context, now time.Time) error {
	var due []Key
	var problems []error
	for _, source := range []Source{Fallback, User} {
		keys, err := h.store.claim(ctx, source, now)
		due, problems = append(due, keys...), append(problems, err)
	}
	checked := make([]error, len(due))
	var all sync.WaitGroup
	for i, k := range due {
		all.Go(func() {
			_, err := h.check(ctx, k, ByProbe, nil, func() time.Time { return now })
			if fault.KindOf(err) != fault.NotFound { // somebody has just deleted it
				checked[i] = err
			}
		})
	}
	all.Wait()
	return errors.Join(append(problems, checked...)...)
}

// retire disables keys whose replacement has taken over.
func (h *Health) retire(ctx context.Context, now time.Time) error {
	rows, err := h.store.db.Query(ctx, `select id from ops.fallback_keys where retire_at <= $1 and status <> 'disabled'`, now)
	if err != nil {
		return postgres.Fault(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return postgres.Fault(err)
	}
	for _, id := range ids {
		if _, err := h.record(ctx, Fallback, id, Observation{Kind: ByClock, At: now}); err != nil {
			return postgres.Fault(err)
		}
	}
	return nil
}

// clean deletes evidence that is too old, a piece at a time.
func (h *Health) clean(ctx context.Context, now time.Time) error {
	for {
		tag, err := h.store.db.Exec(ctx, `
			delete from ops.key_events where id in (select id from ops.key_events where at < $1 order by at limit $2)`, now.Add(-eventsFor), cleanAtOnce)
		if err != nil || tag.RowsAffected() < cleanAtOnce {
			return postgres.Fault(err)
		}
	}
}
