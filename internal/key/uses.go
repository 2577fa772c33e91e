package key

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
)

const flushEvery = 5 * time.Second

// Uses remembers when keys were last used and writes it down every few seconds:
// an update per attempt would make every run wait for the rows of busy keys.
type Uses struct {
	store *Store
	log   *slog.Logger

	mu   sync.Mutex
	last map[Source]map[uuid.UUID]time.Time
}

// NewUses returns an empty Uses; Run writes.
func NewUses(store *Store, log *slog.Logger) *Uses {
	return &Uses{store: store, log: log, last: map[Source]map[uuid.UUID]time.Time{User: {}, Fallback: {}}}
}

// Touch notes that a key was used.
func (u *Uses) Touch(k Key, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if at.After(u.last[k.Source][k.ID]) {
		u.last[k.Source][k.ID] = at
	}
}

// Apply returns the key as it is when what is not yet written is added to it.
func (u *Uses) Apply(k Key) Key {
	u.mu.Lock()
	at, known := u.last[k.Source][k.ID]
	u.mu.Unlock()
	if known && (k.LastUsedAt == nil || k.LastUsedAt.Before(at)) {
		k.LastUsedAt = &at
	}
	return k
}

// Run writes every few seconds until ctx is done.
func (u *Uses) Run(ctx context.Context) error {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := u.Flush(ctx); err != nil && ctx.Err() == nil {
				u.log.Warn("key_uses_not_written", "error", err)
			}
		}
	}
}

// Flush writes what was noted since the last time. What could not be written is
// kept for the next time.
func (u *Uses) Flush(ctx context.Context) error {
	u.mu.Lock()
	noted := u.last
	u.last = map[Source]map[uuid.UUID]time.Time{User: {}, Fallback: {}}
	u.mu.Unlock()

	var batch pgx.Batch
	// Tables and rows are locked in the same order on every node, lest two wait
	// for each other.
	for _, source := range []Source{User, Fallback} {
		var ids []uuid.UUID
		var times []time.Time
		for id, at := range noted[source] {
			ids, times = append(ids, id), append(times, at)
		}
		if len(ids) > 0 {
			batch.Queue(`
				with locked as (
				  select id from `+tableOf(source)+` where id = any($1) order by id for update
				)
				update `+tableOf(source)+` k
				set last_used_at = greatest(k.last_used_at, u.at)
				from unnest($1::uuid[], $2::timestamptz[]) as u (id, at)
				join locked using (id)
				where k.id = u.id`, ids, times)
		}
	}
	if batch.Len() == 0 {
		return nil
	}
	err := u.store.db.SendBatch(ctx, &batch).Close()
	if err != nil {
		for source, keys := range noted {
			for id, at := range keys {
				u.Touch(Key{ID: id, Source: source}, at)
			}
		}
	}
	return postgres.Fault(err)
}
