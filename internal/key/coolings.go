package key

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/postgres"
)

const (
	// defaultCooling is for a rate limit that does not say how long it lasts.
	defaultCooling = 5 * time.Second
	// coolingStep is by how much an end has to move to be written again: a
	// provider that refuses a thousand calls a second is written down once.
	coolingStep = time.Second

	coolingPatience = 10 * time.Second
)

// Coolings rests keys that a provider has rate limited. This node knows at once;
// the others read it from the key's row with the next run.
type Coolings struct {
	store *Store
	log   *slog.Logger

	mu      sync.Mutex
	until   map[uuid.UUID]time.Time
	writing sync.WaitGroup
}

// NewCoolings returns an empty Coolings.
func NewCoolings(store *Store, log *slog.Logger) *Coolings {
	return &Coolings{store: store, log: log, until: map[uuid.UUID]time.Time{}}
}

// Cool rests a key for as long as the provider asked; 0: it did not say. It does
// not wait until that is written.
func (c *Coolings) Cool(k Key, retryAfter time.Duration, message string, now time.Time) {
	if retryAfter <= 0 {
		retryAfter = defaultCooling
	}
	until := now.Add(retryAfter)
	c.mu.Lock()
	defer c.mu.Unlock()
	if until.Sub(c.until[k.ID]) < coolingStep {
		return
	}
	c.until[k.ID] = until
	for id, over := range c.until {
		if over.Before(now) {
			delete(c.until, id)
		}
	}
	c.writing.Go(func() { c.write(k, until, message, now) })
}

// Wait returns when everything is written, or has failed to be.
func (c *Coolings) Wait() { c.writing.Wait() }

// write notes the end in the key's row. A key that somebody disabled, or that
// turned out to be bad, stays what it is.
func (c *Coolings) write(k Key, until time.Time, message string, now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), coolingPatience)
	defer cancel()
	_, err := c.store.db.Exec(ctx, `
		update `+tableOf(k.Source)+`
		set status = 'cooling', cooling_until = greatest(cooling_until, $2),
		    last_error_at = $3, last_error_class = 'rate_limited', last_error_message = $4, updated_at = now()
		where id = $1 and status in ('healthy', 'cooling')`, k.ID, until, now, message)
	if err != nil {
		c.log.Warn("key_cooling_not_written", "keyId", k.ID, "error", postgres.Fault(err))
	}
}

// Apply returns the key as it is when what this node knows is added to what its
// row says.
func (c *Coolings) Apply(k Key) Key {
	c.mu.Lock()
	until, known := c.until[k.ID]
	c.mu.Unlock()
	if !known || (k.Status != Healthy && k.Status != Cooling) {
		return k
	}
	if k.Status == Healthy || k.CoolingUntil == nil || k.CoolingUntil.Before(until) {
		k.Status, k.CoolingUntil = Cooling, &until
	}
	return k
}
