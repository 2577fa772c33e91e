package key

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/provider"
)

const (
	writePatience = 10 * time.Second
	// A key that was refused is in its row before the attempt goes on, so that no
	// other node uses it, unless the database takes longer than this.
	suspendPatience = time.Second
)

// Health looks after keys. It is told what calls saw of them, checks those that
// were refused by a free call, and keeps their state with the evidence for it
// (judge says what follows from what). This node knows at once; the others read it
// from the key's row with the next run. It is safe for concurrent use.
type Health struct {
	HealthOptions
	store *Store

	mind    mind
	slots   slots
	life    context.Context // of the checks that were begun by Saw
	end     context.CancelFunc
	working sync.WaitGroup

	swept   time.Time // when it last looked at all providers; only Run uses it
	cleaned time.Time // likewise, when it deleted old events
}

// HealthOptions are what Health needs beside the store.
type HealthOptions struct {
	Log       *slog.Logger
	Providers *provider.Registry
	Now       func() time.Time
	// Exhausted is called when a provider's last usable fallback key is out, in
	// the transaction that notes it: once, however many nodes there are. nil: nobody
	// wants to know.
	Exhausted func(ctx context.Context, tx pgx.Tx, provider string, why string) error
}

// NewHealth returns a Health that knows nothing yet; Run makes the checks that
// are due, and Stop ends what Saw has begun.
func NewHealth(store *Store, options HealthOptions) *Health {
	h := &Health{HealthOptions: options, store: store, slots: newSlots()}
	h.life, h.end = context.WithCancel(context.Background())
	return h
}

// Wait returns when everything that was seen is written, or has failed to be,
// and every check that followed from it is over.
func (h *Health) Wait() { h.working.Wait() }

// Stop breaks off the checks that are going on and waits for what is being
// written. What is left undone other nodes, or the next start, do.
func (h *Health) Stop() {
	h.end()
	h.Wait()
}

// Apply returns the key as it is when what this node knows is added to what its
// row says.
func (h *Health) Apply(k Key) Key { return h.mind.apply(k) }

// Suspended says whether the key was refused since its row was read, so that no
// call should be made with it any more.
func (h *Health) Suspended(k Key, now time.Time) bool {
	if h.mind.empty() {
		return false
	}
	s := h.mind.apply(k).state()
	return s.status == Invalid || s.status == Billing && k.Status != Billing || s.lookedInto() && s.resting(now)
}

// Saw takes what a call saw of a key. It costs nothing where the key is in order
// and the call went well. When the provider refused the key it returns only when
// that is written, or cannot be in time; the rest it does not wait for.
func (h *Health) Saw(ctx context.Context, k Key, o Observation) {
	if o.Class == "" && h.mind.empty() && k.state().plain() {
		return
	}
	switch o.Class {
	case provider.ClassCancelled, provider.ClassInterrupted, provider.ClassMissingKey:
		return // says nothing about the key
	}
	h.consider(ctx, k, o)
}

func (h *Health) consider(ctx context.Context, k Key, o Observation) {
	v, storm, number := h.mind.see(k, o)
	if !v.changed && !v.keep {
		return
	}
	o.storm = storm
	done := make(chan struct{})
	h.working.Go(func() {
		defer close(done)
		h.write(k, o, number)
	})
	if !v.probe || !v.changed {
		return
	}
	timer := time.NewTimer(suspendPatience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		h.Log.WarnContext(ctx, "key_state_not_written_yet", "keyId", k.ID, "keySource", k.Source)
	}
}

// write has the row say what this node knows, and makes the check that follows.
func (h *Health) write(k Key, o Observation, number int64) {
	ctx, cancel := context.WithTimeout(context.Background(), writePatience)
	defer cancel()
	w, err := h.record(ctx, k.Source, k.ID, o)
	h.mind.written(k.ID, number, w.after, err)
	if err != nil {
		h.Log.Warn("key_state_not_written", "keyId", k.ID, "keySource", k.Source, "error", postgres.Fault(err))
		return
	}
	if w.verdict.probe && h.life.Err() == nil {
		h.working.Go(func() {
			if _, err := h.check(h.life, w.after, ByProbe, nil, h.Now); err != nil && h.life.Err() == nil {
				h.Log.Warn("key_not_checked", "keyId", k.ID, "keySource", k.Source, "error", err)
			}
		})
	}
}
