package key

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/loop"
	"github.com/promptcademy/promptops/internal/postgres"
)

const flushEvery = 5 * time.Second

// Uses remembers when keys were last used, and when that last went well, and writes
// it down every few seconds: an update per attempt would make every run wait for
// the rows of busy keys.
type Uses struct {
	store *Store
	log   *slog.Logger

	mu   sync.Mutex
	last map[Source]map[uuid.UUID]use
}

// use is when a key was last used, and when a call with it last went well.
type use struct{ tried, worked time.Time }

// NewUses returns an empty Uses; Run writes.
func NewUses(store *Store, log *slog.Logger) *Uses {
	return &Uses{store: store, log: log, last: noUses()}
}

func noUses() map[Source]map[uuid.UUID]use {
	return map[Source]map[uuid.UUID]use{User: {}, Fallback: {}}
}

// Touch notes that a key was used.
func (u *Uses) Touch(k Key, at time.Time) { u.note(k, use{tried: at}) }

// Worked notes that a call with a key went well.
func (u *Uses) Worked(k Key, at time.Time) { u.note(k, use{worked: at}) }

func (u *Uses) note(k Key, n use) {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := u.last[k.Source][k.ID]
	u.last[k.Source][k.ID] = use{later(last.tried, n.tried), later(last.worked, n.worked)}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Apply returns the key as it is when what is not yet written is added to it.
func (u *Uses) Apply(k Key) Key {
	u.mu.Lock()
	at := u.last[k.Source][k.ID].tried
	u.mu.Unlock()
	if !at.IsZero() && (k.LastUsedAt == nil || k.LastUsedAt.Before(at)) {
		k.LastUsedAt = &at
	}
	return k
}

// Run writes every few seconds until ctx is done.
func (u *Uses) Run(ctx context.Context) error {
	return loop.Every(ctx, u.log, "key_uses_not_written", flushEvery, func(ctx context.Context, _ time.Time) error { return u.Flush(ctx) })
}

// Flush writes what was noted since the last time. What could not be written is
// kept for the next time.
func (u *Uses) Flush(ctx context.Context) error {
	u.mu.Lock()
	noted := u.last
	u.last = noUses()
	u.mu.Unlock()

	var batch pgx.Batch
	// Tables and rows are locked in the same order on every node, lest two wait
	// for each other.
	for _, source := range []Source{User, Fallback} {
		var ids []uuid.UUID
		var tried, worked []*time.Time
		for id, n := range noted[source] {
			ids, tried, worked = append(ids, id), append(tried, timeOrNull(n.tried)), append(worked, timeOrNull(n.worked))
		}
		if len(ids) > 0 {
			batch.Queue(`
				with locked as (
				  select id from `+tableOf(source)+` where id = any($1) order by id for update
				)
				update `+tableOf(source)+` k
				set last_used_at = greatest(k.last_used_at, u.tried), last_success_at = greatest(k.last_success_at, u.worked)
				from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) as u (id, tried, worked)
				join locked using (id)
				where k.id = u.id`, ids, tried, worked)
		}
	}
	if batch.Len() == 0 {
		return nil
	}
	err := u.store.db.SendBatch(ctx, &batch).Close()
	if err != nil {
		for source, keys := range noted {
			for id, n := range keys {
				u.note(Key{ID: id, Source: source}, n)
			}
		}
	}
	return postgres.Fault(err)
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
