package run

import "sync"

// gather lets many callers share one piece of work. Whatever waits when a worker
// is free is handed to do in one batch; do answers everyone itself. Nothing waits
// for a batch to fill: alone, a caller is served at once.
type gather[Q any] struct {
	do      func(batch []Q)
	workers int // at once
	most    int // in one batch

	mu      sync.Mutex
	waiting []Q
	working int
}

// add hands in q and does not wait.
func (g *gather[Q]) add(q Q) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, q)
	if g.working < g.workers {
		g.working++
		go g.work()
	}
}

func (g *gather[Q]) work() {
	for {
		g.mu.Lock()
		n := min(len(g.waiting), g.most)
		if n == 0 {
			g.working--
			g.mu.Unlock()
			return
		}
		batch := g.waiting[:n:n]
		g.waiting = g.waiting[n:]
		g.mu.Unlock()
		g.do(batch)
	}
}
