package key

import (
	"context"
	"sync"
)

// slots bound how many checks go on at once.
type slots struct {
	all chan struct{}

	mu  sync.Mutex
	per map[string]chan struct{}
}

func newSlots() slots {
	return slots{all: make(chan struct{}, mostChecks), per: map[string]chan struct{}{}}
}

// enter waits for a place, which leave gives back.
func (s *slots) enter(ctx context.Context, provider string) (leave func(), err error) {
	s.mu.Lock()
	own := s.per[provider]
	if own == nil {
		own = make(chan struct{}, mostChecksPerProvider)
		s.per[provider] = own
	}
	s.mu.Unlock()
	for _, place := range []chan struct{}{own, s.all} {
		select {
		case place <- struct{}{}:
		case <-ctx.Done():
			if place == s.all {
				<-own
			}
			return nil, ctx.Err()
		}
	}
	return func() { <-s.all; <-own }, nil
}
