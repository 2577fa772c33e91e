// Package memo remembers answers that cannot change, as many as there is room for.
package memo

import (
	"crypto/sha256"
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Key is the hash of a question and of everything that its answer depends on.
type Key [sha256.Size]byte

// ofKey is about what an answer takes beside itself.
const ofKey = 256

// Memory keeps answers within some bytes. What was asked for longest ago goes first.
// Any number of goroutines may use it; none may change an answer.
type Memory[V any] struct {
	most  int
	weigh func(V) int

	mu    sync.Mutex
	kept  *simplelru.LRU[Key, V]
	bytes int
}

// New returns a Memory of so many bytes. weigh says how many an answer takes.
func New[V any](most int, weigh func(V) int) *Memory[V] {
	m := &Memory[V]{most: most, weigh: weigh}
	// It is the bytes that count, and not how many there are. A size below one is all that it refuses.
	m.kept, _ = simplelru.NewLRU(math.MaxInt, func(_ Key, gone V) { m.bytes -= ofKey + weigh(gone) })
	return m
}

// Get returns an answer, if it is remembered.
func (m *Memory[V]) Get(key Key) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.Get(key)
}

// Put remembers an answer, unless it would take the place of very many others.
func (m *Memory[V]) Put(key Key, answer V) {
	bytes := ofKey + m.weigh(answer)
	if bytes > m.most/6 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept.Remove(key)
	m.kept.Add(key, answer)
	for m.bytes += bytes; m.bytes > m.most; {
		m.kept.RemoveOldest()
	}
}

// Len is how many answers are remembered.
func (m *Memory[V]) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.Len()
}
