package telemetry

import "sync"

// cache keeps what make has made. It forgets nothing: whoever asks keeps the
// number of keys bounded.
type cache[K comparable, V any] struct {
	make func(K) V

	mu   sync.RWMutex
	made map[K]V
}

func (c *cache[K, V]) get(k K) V {
	c.mu.RLock()
	v, ok := c.made[k]
	c.mu.RUnlock()
	if ok {
		return v
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.made[k]; ok {
		return v
	}
	if c.made == nil {
		c.made = map[K]V{}
	}
	v = c.make(k)
	c.made[k] = v
	return v
}
