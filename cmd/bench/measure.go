package main

import (
	"context"
	"fmt"
	"time"

	"github.com/promptcademy/promptops/internal/load"
)

const closedConnections = 64

// round measures everything once. Who is compared is measured one right after
// the other.
func (w *world) round(ctx context.Context, times load.Times, r *report) error {
	if err := w.closedLoop(ctx, times, r); err != nil {
		return err
	}
	for _, p := range paces {
		if err := w.openLoop(ctx, times, p, r); err != nil {
			return err
		}
	}
	return nil
}

// closedLoop measures how much goes through.
func (w *world) closedLoop(ctx context.Context, times load.Times, r *report) error {
	direct, err := w.saturate(ctx, times, w.direct, nil)
	if err != nil {
		return fmt.Errorf("sandbox directly: %w", err)
	}
	proxied, err := w.saturate(ctx, times, w.proxied, map[figure]usage{figureCPUProxy: cpuOf(w.proxy.pid())})
	if err != nil {
		return fmt.Errorf("reverse proxy: %w", err)
	}
	without, err := w.saturate(ctx, times, w.oneUnrecorded, map[figure]usage{figureCPUUnrecorded: cpuOf(w.unrecorded.pid())})
	if err != nil {
		return fmt.Errorf("promptops without recording: %w", err)
	}
	mallocs, counted := w.mallocs(ctx)
	ours, err := w.saturate(ctx, times, w.oneModel, map[figure]usage{figureCPU: cpuOf(w.server.pid()), figureCPUPostgres: w.cpuOfPostgres})
	w.acknowledged(ours.Result, 1)
	if err != nil {
		return fmt.Errorf("promptops, 1 model: %w", err)
	}
	if after, ok := w.mallocs(ctx); counted && ok {
		r.add(figureAllocs, (after-mallocs)/float64(ours.Answered))
	}
	three, err := w.saturate(ctx, times, w.threeModels, map[figure]usage{figureCPUThree: cpuOf(w.server.pid()), figureCPUThreePG: w.cpuOfPostgres})
	w.acknowledged(three.Result, 3)
	if err != nil {
		return fmt.Errorf("promptops, 3 models: %w", err)
	}

	r.add(figureDirect, direct.Rate())
	r.add(figureProxy, proxied.Rate())
	r.add(figureUnrecorded, without.Rate())
	r.add(figureOurs, ours.Rate())
	r.add(figureThree, three.Rate())
	r.add(figureRatio, ours.Rate()/proxied.Rate())
	r.add(figureOfUnrecorded, ours.Rate()/without.Rate())
	r.add(figureOfDirect, ours.Rate()/direct.Rate())
	r.add(figureThreeRatio, three.Rate()/proxied.Rate())
	r.add(figureThreeCalls, 3*three.Rate()/proxied.Rate())
	for _, s := range []saturated{proxied, without, ours, three} {
		for f, seconds := range s.cpu {
			r.add(f, seconds/float64(s.Answered)*10_000)
		}
	}
	return nil
}

// saturated is a closed loop's result, and the processor time it took in all.
type saturated struct {
	*load.Result
	cpu map[figure]float64
}

// usage reads how much processor time was used until now.
type usage func() (seconds float64, ok bool)

func cpuOf(pid int) usage { return func() (float64, bool) { return cpu(pid) } }

func (w *world) saturate(ctx context.Context, times load.Times, requests []load.Request, used map[figure]usage) (saturated, error) {
	calls, closeAll := load.Calls(closedConnections, requests)
	defer closeAll()
	before := map[figure]float64{}
	for f, read := range used {
		if seconds, ok := read(); ok {
			before[f] = seconds
		}
	}
	s := saturated{load.Closed(ctx, times, calls), map[figure]float64{}}
	for f, seconds := range before {
		if after, ok := used[f](); ok {
			s.cpu[f] = after - seconds
		}
	}
	return s, s.Err()
}

// openLoop measures how much longer a call takes through promptops than without.
func (w *world) openLoop(ctx context.Context, times load.Times, p pace, r *report) error {
	var results []*load.Result
	for i, requests := range [][]load.Request{w.directSlow, w.oneSlow} {
		calls, closeAll := load.Calls(p.connections, requests)
		result := load.Open(ctx, times, p.rate, calls)
		closeAll()
		if i == 1 {
			w.acknowledged(result, 1)
		}
		if err := result.Err(); err != nil {
			return fmt.Errorf("at %g/s: %w", p.rate, err)
		}
		results = append(results, result)
	}
	for i, q := range []float64{0.5, 0.99} {
		direct, ours := results[0].Latency.Quantile(q), results[1].Latency.Quantile(q)
		r.add(p.direct[i], milliseconds(direct))
		r.add(p.ours[i], milliseconds(ours))
		r.add(p.added[i], milliseconds(ours-direct))
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
