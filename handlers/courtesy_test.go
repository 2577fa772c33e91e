package handlers

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Pages wait for each other and for a rest, but only as long as runs go on, and never
// longer than two seconds.
func TestPagesGiveWayToRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c courtesy
		page := func(takes time.Duration) (waited time.Duration) {
			asked := time.Now()
			done := c.page(t.Context())
			waited = time.Since(asked)
			time.Sleep(takes)
			done()
			return waited
		}
		for range 3 {
			if waited := page(40 * time.Millisecond); waited != 0 {
				t.Errorf("a page waits for %v, and there are no runs", waited)
			}
		}
		over := c.run()
		for i, step := range []struct{ takes, waits time.Duration }{
			{40 * time.Millisecond, 0},
			{10 * time.Millisecond, 3 * 40 * time.Millisecond},
			{5 * time.Second, usualPage - 10*time.Millisecond},
			{40 * time.Millisecond, longestWait},
		} {
			if waited := page(step.takes); waited != step.waits {
				t.Errorf("page %d waits for %v, want %v", i, waited, step.waits)
			}
		}
		time.Sleep(time.Minute)
		if waited := page(0); waited != 0 {
			t.Errorf("a page waits for %v long after the last one", waited)
		}

		time.Sleep(time.Minute)
		together := make(chan time.Duration)
		for range 3 {
			go func() { together <- page(20 * time.Millisecond) }()
		}
		var all time.Duration
		for range 3 {
			all += <-together
		}
		if all != 0+usualPage+2*usualPage {
			t.Errorf("three pages at once wait for %v in all", all)
		}

		time.Sleep(20 * time.Millisecond)
		gone, leave := context.WithCancel(t.Context())
		leave()
		asked := time.Now()
		c.page(gone)()
		if waited := time.Since(asked); waited != 0 {
			t.Errorf("a page that nobody waits for any more waits for %v", waited)
		}
		over()
		if waited := page(0); waited != 0 {
			t.Errorf("a page waits for %v, and the run is over", waited)
		}
	})
}
