package faults

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// A learner's limits hold over all nodes together, also while one is killed.
func TestPaceHoldsOverAllNodes(t *testing.T) {
	t.Parallel()
	const perMinute, atOnce = 30, 3
	w := newWorld(t, 40*time.Millisecond)
	w.addPeople(2)
	w.addFallback("openai", "", 1)
	w.exec(`insert into ops.budgets (runs_per_minute, concurrent_runs) values ($1, $2)`, perMinute, atOnce)
	w.addNode(nil)
	w.addNode(nil)
	c := newCrowd()
	begin := time.Now()
	load, stop := context.WithCancel(w.ctx)
	defer stop()
	var callers sync.WaitGroup
	for i := range 8 {
		random := rand.New(rand.NewPCG(*seed, uint64(i)))
		callers.Go(func() {
			for load.Err() == nil {
				a := ask{who: w.people[0], marker: uuid.NewString(), models: []string{"openai/gpt-5-mini"}}
				if random.IntN(2) == 0 {
					a.key = uuid.NewString()
				}
				got := c.add(send(w.ctx, w.nodes[random.IntN(2)].URL(), a))
				if got.status != http.StatusOK {
					sleep(load, 20*time.Millisecond)
				}
			}
		})
	}
	await(t, "both limits are reached", 50*time.Second, func() bool { return c.acknowledged() >= perMinute && len(c.refusals()) == 2 })
	rest := time.Second
	if *long {
		rest = 75 * time.Second // the window moves on
	}
	sleep(w.ctx, rest)
	stop()
	callers.Wait()
	lasted := time.Since(begin).Round(time.Millisecond)
	b := w.books()
	b.asTold(c.answers)
	b.balance()

	var begins []time.Time
	type edge struct {
		at time.Time
		by int
	}
	var edges []edge
	for _, e := range w.box.Entries() {
		begins = append(begins, e.Begun)
		edges = append(edges, edge{e.Begun, 1}, edge{e.Ended, -1})
	}
	slices.SortFunc(begins, time.Time.Compare)
	for i := range begins {
		n := 0
		for _, other := range begins[i:] {
			if other.Sub(begins[i]) < 59*time.Second { // calls begin a moment after they are let in
				n++
			}
		}
		if n > perMinute {
			t.Errorf("%d runs in the minute from %v", n, begins[i])
			break
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return a.at.Compare(b.at) })
	running, most := 0, 0
	for _, e := range edges {
		running += e.by
		most = max(most, running)
	}
	if most > atOnce {
		t.Errorf("%d runs at once", most)
	}
	told := 0
	for _, a := range c.answers {
		switch a.status {
		case http.StatusOK:
			told++
		case http.StatusTooManyRequests:
			wait, err := strconv.Atoi(a.retry)
			if err != nil || wait < 1 || wait > 60 {
				t.Errorf("Retry-After is %q", a.retry)
			}
		default:
			t.Errorf("%v HTTP %d %s", a.err, a.status, a.body)
		}
	}
	refused := c.refusals()
	t.Logf("in %v %d runs, at most %d at once, refused: %v", lasted, told, most, refused)
	if told < perMinute || len(refused) != 2 {
		t.Errorf("%d runs, want at least %d, and both limits reached: %v", told, perMinute, refused)
	}

	// Who was refused was not run: the same key is good once there is room.
	w.exec(`update ops.budgets set runs_per_minute = 600`)
	i := slices.IndexFunc(c.answers, func(a answer) bool { return a.status == http.StatusTooManyRequests && a.ask.key != "" })
	if got := send(w.ctx, w.nodes[0].URL(), c.answers[i].ask); !got.acknowledged() || got.replayed {
		t.Errorf("the key of a refused request: HTTP %d %s", got.status, got.body)
	}
}
