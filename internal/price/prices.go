package price

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Prices holds the newest Book, so that pricing an attempt asks no database.
type Prices struct {
	store *Store
	log   *slog.Logger
	book  atomic.Pointer[Book]
}

// NewPrices returns a holder with an empty Book; RunOnce fills it.
func NewPrices(store *Store, log *slog.Logger) *Prices {
	p := &Prices{store: store, log: log}
	p.book.Store(NewBook(nil))
	return p
}

// Book returns the prices as they were last loaded. It is never nil.
func (p *Prices) Book() *Book { return p.book.Load() }

// RunOnce loads the prices. When that fails the old Book stays.
func (p *Prices) RunOnce(ctx context.Context, _ time.Time) error {
	book, err := p.store.Load(ctx)
	if err != nil {
		return err
	}
	p.book.Store(book)
	return nil
}

const reloadEvery = 30 * time.Second

// Run loads the prices every 30 seconds until ctx is done, and returns nil. A
// failure is logged; the next try comes with the next tick.
func (p *Prices) Run(ctx context.Context) error {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if err := p.RunOnce(ctx, now); err != nil && ctx.Err() == nil {
				p.log.ErrorContext(ctx, "prices could not be reloaded; the ones known so far stay in use", "error", err)
			}
		}
	}
}
