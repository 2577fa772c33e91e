package handlers

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// While runs go on, a page is followed by a rest of so many times what it took: pages
	// then take no more of the machine than runs can spare.
	restAfterPage = 3
	usualPage     = 50 * time.Millisecond // how long the next one is taken to take
	longestWait   = 2 * time.Second       // of a page for its turn, whatever others do
)

// courtesy lets pages give way to the runs that this process works on: one page at a
// time, and then a rest. Without runs no page waits. The zero value is ready.
type courtesy struct {
	runs atomic.Int64 // that go on

	mu   sync.Mutex
	next time.Time // when the next page may begin
}

// run notes that a run goes on until done is called.
func (c *courtesy) run() (done func()) {
	c.runs.Add(1)
	return func() { c.runs.Add(-1) }
}

// page waits for the turn of a page, and returns what has to be called when it is
// shown.
func (c *courtesy) page(ctx context.Context) (done func()) {
	if c.runs.Load() == 0 {
		return func() {}
	}
	begin := c.turn(time.Now())
	select {
	case <-time.After(time.Until(begin)):
	case <-ctx.Done():
	}
	return func() { c.rest(begin, time.Now()) }
}

// turn is when a page that is asked for now may begin.
func (c *courtesy) turn(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	begin := now.Add(min(max(c.next.Sub(now), 0), longestWait))
	c.next = begin.Add(usualPage)
	return begin
}

// rest keeps the next page waiting after one that has taken from begin until now.
func (c *courtesy) rest(begin, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if next := now.Add(restAfterPage * now.Sub(begin)); next.After(c.next) {
		c.next = next
	}
}
