// Package load puts load on a server and measures how it takes it: in a closed
// loop, where every connection sends again as soon as it has been answered, or
// in an open one, where calls are due at a fixed rate whatever the answers do.
package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Call makes one call and checks its answer. Status is that of HTTP, 0 if there
// was no answer; an error says why the answer is not the one expected.
type Call func(ctx context.Context) (status int, err error)

// Times of a load.
type Times struct {
	Warmup   time.Duration // before the measurement; its calls count as answered, and no more
	Duration time.Duration // of the measurement
}

// Result is what a load came to.
type Result struct {
	Latency  Histogram     // of the calls measured that were answered as expected
	Elapsed  time.Duration // from the end of the warm-up to the last answer
	Answered int64         // as expected, warm-up included
	Statuses map[int]int64 // of all answers, warm-up included
	Failed   int64
	Failure  error // the first one
}

// Rate is calls per second.
func (r *Result) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Latency.Count()) / r.Elapsed.Seconds()
}

// Err is an error if any call failed, or none was measured: then the other
// numbers mean nothing.
func (r *Result) Err() error {
	switch {
	case r.Failed > 0:
		return fmt.Errorf("%d of %d calls failed (answers by status: %v); the first: %w", r.Failed, r.Failed+r.Answered, r.Statuses, r.Failure)
	case r.Latency.Count() == 0:
		return fmt.Errorf("no call was measured (%d answered during warm-up)", r.Answered)
	}
	return nil
}

// Closed keeps every one of calls, each on a goroutine of its own, busy: it is
// made again as soon as it returns. Latency is counted from the moment of
// sending. The first failure ends the load; so does ctx.
func Closed(ctx context.Context, times Times, calls []Call) *Result {
	begin := time.Now()
	until := begin.Add(times.Warmup + times.Duration)
	return all(ctx, begin.Add(times.Warmup), calls, func(ctx context.Context) (time.Time, bool) {
		now := time.Now()
		return now, now.Before(until) && ctx.Err() == nil
	})
}

// Open makes calls at a fixed rate per second. Latency is counted from the
// moment at which a call was due, not from the one at which it was sent: when
// all of calls are under way, which bounds how much is in flight, those that are
// due wait, and their waiting is part of what is measured. So a server that
// stalls cannot hide it by slowing the load down. The first failure ends the
// load; so does ctx.
func Open(ctx context.Context, times Times, rate float64, calls []Call) *Result {
	begin := time.Now()
	total := int64(rate * (times.Warmup + times.Duration).Seconds())
	var next atomic.Int64
	return all(ctx, begin.Add(times.Warmup), calls, func(ctx context.Context) (time.Time, bool) {
		n := next.Add(1) - 1
		due := begin.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		return due, n < total && sleep(ctx, time.Until(due))
	})
}

// all runs every call on a goroutine of its own, each time that turn says when
// it was due, until turn says no more. Calls due from from on are measured.
func all(ctx context.Context, from time.Time, calls []Call, turn func(context.Context) (due time.Time, more bool)) *Result {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	results := make([]Result, len(calls))
	var workers sync.WaitGroup
	for i, call := range calls {
		r := &results[i]
		r.Statuses = map[int]int64{}
		workers.Go(func() {
			for {
				due, more := turn(ctx)
				if !more {
					return
				}
				status, err := call(ctx)
				r.count(status, err, due, from)
				if err != nil {
					stop()
					return
				}
			}
		})
	}
	workers.Wait()
	total := &Result{Statuses: map[int]int64{}}
	for i := range results {
		total.merge(&results[i])
	}
	return total
}

func (r *Result) count(status int, err error, due, from time.Time) {
	if status != 0 {
		r.Statuses[status]++
	}
	if err != nil {
		r.Failed++
		r.Failure = err
		return
	}
	r.Answered++
	if now := time.Now(); !due.Before(from) {
		r.Latency.Record(now.Sub(due))
		r.Elapsed = now.Sub(from)
	}
}

func (r *Result) merge(other *Result) {
	r.Latency.Merge(&other.Latency)
	r.Elapsed = max(r.Elapsed, other.Elapsed)
	r.Answered += other.Answered
	r.Failed += other.Failed
	if r.Failure == nil {
		r.Failure = other.Failure
	}
	for status, n := range other.Statuses {
		r.Statuses[status] += n
	}
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
