package sandbox

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"time"
)

// Entry is one call of a model, billed or not, as the ledger has it.
type Entry struct {
	ID              string // the answer's X-Request-Id, which no other call has
	Provider, Model string
	Marker          string // what the request has between "[[" and "]]", to find it again
	Fault           string // that was played
	Begun, Ended    time.Time

	Billed, Finished                             bool  // not finished: broken off, by either side
	Input, Cached, CacheWrite, Output, Reasoning int64 // as in Bill
}

// Ledger makes the sandbox keep an Entry of every call and give each an id of its
// own, so that a test can tell which call was whose.
func Ledger(s *Sandbox) { s.ledger = &ledger{} }

// ledger is what Ledger keeps. A nil one keeps nothing.
type ledger struct {
	mu      sync.Mutex
	opened  int
	entries []Entry
}

var marked = regexp.MustCompile(`\[\[(.*?)\]\]`)

// open begins an entry; nil without a ledger.
func (l *ledger) open(provider string, body []byte) *Entry {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	l.opened++
	e := &Entry{ID: fmt.Sprintf("req_%08d", l.opened), Provider: provider, Begun: time.Now()}
	l.mu.Unlock()
	if marker := marked.FindSubmatch(body); marker != nil {
		e.Marker = string(marker[1])
	}
	return e
}

func (l *ledger) close(e *Entry) {
	if l == nil {
		return
	}
	if e.Ended.IsZero() {
		e.Ended = time.Now()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, *e)
}

func (e *Entry) bill(t tally, finished bool) {
	if e == nil {
		return
	}
	e.Billed, e.Finished = true, finished
	if finished {
		e.Ended = time.Now() // before the caller has the answer, and goes on
	}
	e.Input, e.Cached, e.CacheWrite = int64(t.input), int64(t.cached), int64(t.cacheWrite)
	e.Output, e.Reasoning = int64(t.output), int64(t.reasoning)
}

// Entries lists the calls that are over, in the order in which they ended. It
// needs Ledger.
func (s *Sandbox) Entries() []Entry {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	return slices.Clone(s.ledger.entries)
}

// Begun is how many calls have come, over or not. It needs Ledger.
func (s *Sandbox) Begun() int {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	return s.ledger.opened
}

// Odds are the probabilities of faults, by their names without "-fault-".
type Odds map[string]float64

// Chaos makes calls that ask for no fault meet one at random, from now on; nil
// odds end it.
func (s *Sandbox) Chaos(seed uint64, odds Odds) {
	c := &chaos{random: rand.New(rand.NewPCG(seed, seed))}
	for name, probability := range odds {
		c.faults = append(c.faults, chance{name, probability})
	}
	slices.SortFunc(c.faults, func(a, b chance) int { // the same seed, the same faults
		if a.fault < b.fault {
			return -1
		}
		return 1
	})
	s.chaos.Store(c)
}

type chance struct {
	fault       string
	probability float64
}

type chaos struct {
	mu     sync.Mutex
	random *rand.Rand
	faults []chance
}

// pick is a fault, or none. A nil chaos has none.
func (c *chaos) pick() string {
	if c == nil {
		return ""
	}
	c.mu.Lock()
	at := c.random.Float64()
	c.mu.Unlock()
	for _, f := range c.faults {
		if at < f.probability {
			return f.fault
		}
		at -= f.probability
	}
	return ""
}
