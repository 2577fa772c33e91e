package key

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/provider"
)

const (
	// So many faults in this time, and more than there were successes, are a storm.
	stormSpan   = time.Minute
	stormFaults = 5
	stormPieces = 6
	// Whoever gives a call less time than this and does not wait for the answer
	// learns nothing about the provider.
	shortestPatience = 5 * time.Second
	// What was kept in mind is forgotten after this, whatever came of it.
	mindSpan = 30 * time.Minute
)

// mind is what this node knows of keys beyond their rows: states that are being
// written, or that the facts at hand are too old for, and how calls went lately. It
// is empty, and then costs nothing, as long as all is well.
type mind struct {
	size atomic.Int64 // of the maps: read without the lock

	mu     sync.Mutex
	number int64
	known  map[uuid.UUID]known
	recent map[uuid.UUID]*recent
}

// known is a key's state as this node knows it.
type known struct {
	state    state
	number   int64 // of the last change
	base     int64 // revision of the row that it began with
	revision int64 // of the row that says the same; 0: it is not written
	failed   bool  // and cannot be
	at       time.Time
}

// recent is how calls with a key went in the last minute, counted in pieces of it.
type recent struct {
	pieces     [stormPieces]piece
	permission time.Time // when a 403 was last looked into
	at         time.Time
}

type piece struct {
	number    int64 // of all pieces since 1970
	faults    [len(outages)]int
	successes int
}

func (m *mind) empty() bool { return m.size.Load() == 0 }

// apply adds what is known of a key, unless its row is as new.
func (m *mind) apply(k Key) Key {
	if m.empty() {
		return k
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.add(k)
}

func (m *mind) add(k Key) Key {
	n, ok := m.known[k.ID]
	switch {
	case !ok || k.Status == Disabled:
		return k
	case n.revision != 0 && k.revision >= n.revision, n.failed && k.revision > n.base:
		delete(m.known, k.ID)
		m.count()
		return k
	}
	return k.with(n.state)
}

// see judges by what this node knows, and keeps in mind what follows; number is
// for written.
func (m *mind) see(k Key, o Observation) (v verdict, storm bool, number int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.count()
	k = m.add(k)
	o.storm = m.weather(k.ID, o)
	v = judge(k.state(), o)
	if o.Class == provider.ClassPermission && v.keep {
		r := m.lately(k.ID, o.At)
		if o.At.Sub(r.permission) < permissionEvery {
			return verdict{state: v.state}, false, 0
		}
		r.permission = o.At
	}
	if !v.changed {
		return v, o.storm, 0
	}
	m.number++
	if m.known == nil {
		m.known = map[uuid.UUID]known{}
	}
	m.known[k.ID] = known{state: v.state, number: m.number, base: k.revision, at: o.At}
	return v, o.storm, m.number
}

// written notes what the row says after a change was written, unless there has
// been another since.
func (m *mind) written(id uuid.UUID, number int64, after Key, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.count()
	n, ok := m.known[id]
	if !ok || n.number != number {
		return
	}
	switch {
	case err != nil:
		n.failed = true // it holds here for as long as the rest lasts
	case after.ID == uuid.Nil:
		delete(m.known, id)
		return
	default:
		n.state, n.revision = after.state(), after.revision
	}
	m.known[id] = n
}

// learn keeps in mind what somebody else than Saw has just written.
func (m *mind) learn(after Key, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.known[after.ID]; ok {
		m.number++
		m.known[after.ID] = known{state: after.state(), number: m.number, revision: after.revision, at: at}
	}
}

// weather counts a call, and says whether it was one fault too many. Only of keys
// with faults anything is counted.
func (m *mind) weather(id uuid.UUID, o Observation) bool {
	which := slices.Index(outages[:], o.Class)
	if o.Class == "" {
		if r := m.recent[id]; r != nil {
			r.now(o.At).successes++
		}
		return false
	}
	if which < 0 || o.Class == provider.ClassTimeout && o.HTTPStatus == 0 && o.Latency < shortestPatience {
		return false
	}
	r := m.lately(id, o.At)
	r.now(o.At).faults[which]++
	faults, successes := 0, 0
	for _, p := range r.pieces {
		if p.number > pieceOf(o.At)-stormPieces {
			faults += p.faults[which]
			successes += p.successes
		}
	}
	if faults < stormFaults || faults <= successes {
		return false
	}
	r.pieces = [stormPieces]piece{} // the next storm takes as many again
	return true
}

// now is the piece of a minute that an instant falls into.
func (r *recent) now(at time.Time) *piece {
	number := pieceOf(at)
	p := &r.pieces[number%stormPieces]
	if p.number != number {
		*p = piece{number: number}
	}
	return p
}

func pieceOf(at time.Time) int64 { return at.UnixNano() / int64(stormSpan/stormPieces) }

func (m *mind) lately(id uuid.UUID, at time.Time) *recent {
	r := m.recent[id]
	if r == nil {
		r = &recent{}
		if m.recent == nil {
			m.recent = map[uuid.UUID]*recent{}
		}
		m.recent[id] = r
	}
	r.at = at
	return r
}

// forget drops what is over.
func (m *mind) forget(now time.Time) {
	if m.empty() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, n := range m.known {
		if now.Sub(n.at) > mindSpan || n.failed && !n.state.resting(now) {
			delete(m.known, id)
		}
	}
	for id, r := range m.recent {
		if now.Sub(r.at) > 2*stormSpan && now.Sub(r.permission) > permissionEvery {
			delete(m.recent, id)
		}
	}
	m.count()
}

func (m *mind) count() { m.size.Store(int64(len(m.known) + len(m.recent))) }
