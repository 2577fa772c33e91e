package load

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var times = Times{Warmup: time.Second, Duration: 4 * time.Second}

// taking is a call that takes d, n times.
func taking(n int, d time.Duration) []Call {
	calls := make([]Call, n)
	for i := range calls {
		calls[i] = func(context.Context) (int, error) {
			time.Sleep(d)
			return 200, nil
		}
	}
	return calls
}

func near(got, want time.Duration) bool { return max(got-want, want-got) <= want/256 }

func TestClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := Closed(t.Context(), times, taking(3, 100*time.Millisecond))
		if r.Err() != nil || r.Latency.Count() != 3*40 || r.Answered != 3*50 || r.Statuses[200] != 3*50 || r.Rate() != 30 {
			t.Errorf("%v: measured %d, answered %d, %v, %v/s", r.Err(), r.Latency.Count(), r.Answered, r.Statuses, r.Rate())
		}
		if got := r.Latency.Quantile(0.99); !near(got, 100*time.Millisecond) {
			t.Errorf("p99 %v", got)
		}
	})
}

func TestOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := Open(t.Context(), times, 50, taking(10, 100*time.Millisecond))
		if r.Err() != nil || r.Latency.Count() != 200 || r.Answered != 250 {
			t.Errorf("%v: measured %d, answered %d", r.Err(), r.Latency.Count(), r.Answered)
		}
		if got := r.Latency.Max(); got != 100*time.Millisecond {
			t.Errorf("longest %v", got)
		}
	})
}

// A server that stalls for two seconds is seen to by every call that was due
// meanwhile, though there is only one connection.
func TestOpenCountsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		stalling := func(context.Context) (int, error) {
			if n++; n == 21 { // due at 2 s
				time.Sleep(2 * time.Second)
			}
			return 200, nil
		}
		r := Open(t.Context(), times, 10, []Call{stalling})
		if r.Latency.Count() != 40 || r.Latency.Max() != 2*time.Second {
			t.Errorf("measured %d, longest %v", r.Latency.Count(), r.Latency.Max())
		}
		// 20 calls were due between 2 and 4 s, and waited 2 s, 1.9 s, … 0.1 s.
		if got := r.Latency.Quantile(0.75); !near(got, time.Second) {
			t.Errorf("a quarter waited %v or more, want 1s", got)
		}
	})
}

func TestFailureEndsTheLoad(t *testing.T) {
	refused := errors.New("refused")
	for name, loop := range map[string]func(context.Context, []Call) *Result{
		"closed": func(ctx context.Context, calls []Call) *Result { return Closed(ctx, times, calls) },
		"open":   func(ctx context.Context, calls []Call) *Result { return Open(ctx, times, 30, calls) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin, n := time.Now(), 0
				calls := append(taking(2, 100*time.Millisecond), func(context.Context) (int, error) {
					time.Sleep(100 * time.Millisecond)
					if n++; n == 5 {
						return 503, refused
					}
					return 200, nil
				})
				r := loop(t.Context(), calls)
				if !errors.Is(r.Err(), refused) || r.Failed != 1 || r.Statuses[503] != 1 || r.Answered == 0 {
					t.Errorf("%v, %d failed, %v", r.Err(), r.Failed, r.Statuses)
				}
				if took := time.Since(begin); took > time.Second {
					t.Errorf("went on for %v", took)
				}
			})
		})
	}
}

func TestNothingMeasuredIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 450*time.Millisecond)
		defer cancel()
		if r := Open(ctx, times, 10, taking(1, 0)); r.Err() == nil || r.Answered != 5 {
			t.Errorf("%v after %d answers", r.Err(), r.Answered)
		}
	})
}
