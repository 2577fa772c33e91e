package price

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promptcademy/promptops/internal/loop"
)

// Prices holds the newest Book, so that pricing an attempt asks no database.
type Prices struct {
	store *Store
	log   *slog.Logger
	book  atomic.Pointer[Book]

	version atomic.Int64 // of the Book: that of ops.facts_version
	loading sync.Mutex   // whoever needs newer prices waits for one load together
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
	p.loading.Lock()
	defer p.loading.Unlock()
	return p.reload(ctx)
}

func (p *Prices) reload(ctx context.Context) error {
	book, version, err := p.store.load(ctx)
	if err != nil {
		return err
	}
	p.book.Store(book)
	p.version.Store(version)
	return nil
}

const loadPatience = 3 * time.Second

// AtLeast sees to it that the Book is as new as a version of ops.facts_version: a
// run that starts after a price was set is priced by it, on every node. When the
// prices cannot be loaded the ones known so far stay in use; that is logged.
func (p *Prices) AtLeast(ctx context.Context, version int64) {
	if p.version.Load() >= version {
		return
	}
	p.loading.Lock()
	defer p.loading.Unlock()
	if p.version.Load() >= version {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, loadPatience)
	defer cancel()
	if err := p.reload(ctx); err != nil {
		p.log.ErrorContext(ctx, "prices could not be reloaded; the ones known so far stay in use", "error", err)
	}
}

const reloadEvery = 30 * time.Second

// Run loads the prices every 30 seconds until ctx is done, and returns nil. When that
// fails the ones known so far stay in use; it is an error only once a run needs newer
// ones, see AtLeast.
func (p *Prices) Run(ctx context.Context) error {
	return loop.Every(ctx, p.log, "prices_not_reloaded", reloadEvery, p.RunOnce)
}
