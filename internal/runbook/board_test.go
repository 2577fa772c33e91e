package runbook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/fault"
)

func board(t *testing.T, patience time.Duration, checks ...Check) *Board {
	t.Helper()
	b := NewBoard(checks, slog.New(slog.DiscardHandler), time.Now)
	b.patience = patience
	return b
}

func good(context.Context) (Reading, error) { return Reading{Verdict: OK, Value: "fine"}, nil }

func ids(b *Board) []string {
	var ids []string
	for _, c := range b.Checks() {
		ids = append(ids, c.ID)
	}
	return ids
}

// Two hundred checks that hang, and that no deadline ends, hold up nobody else, and
// are never more than two hundred.
func TestHangingChecks(t *testing.T) {
	release := make(chan struct{})
	var running atomic.Int64
	checks := []Check{{ID: "good", Run: good}}
	for i := range 200 {
		checks = append(checks, Check{ID: fmt.Sprint("hangs-", i), Run: func(context.Context) (Reading, error) {
			running.Add(1)
			defer running.Add(-1)
			<-release
			return Reading{Verdict: OK, Value: "late"}, nil
		}})
	}
	b := board(t, 300*time.Millisecond, checks...)
	before := runtime.NumGoroutine()
	for range 3 {
		began := time.Now()
		results := b.Read(t.Context(), ids(b), func(string) Freshness { return Again })
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %s", took)
		}
		if len(results) != 201 || results[0].Verdict != OK {
			t.Fatalf("%d results, the good check says %v", len(results), results[0].Verdict)
		}
		for _, r := range results[1:] {
			if r.Verdict != Unknown || r.Detail == "" || r.At.IsZero() {
				t.Fatalf("%s says %+v", r.ID, r.Reading)
			}
		}
	}
	if got := running.Load(); got != 200 {
		t.Errorf("%d are running after three pages", got)
	}
	close(release)
	for deadline := time.Now().Add(time.Minute); running.Load() > 0 || runtime.NumGoroutine() > before+5; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left of %d", runtime.NumGoroutine(), before)
		}
	}
	if r := b.Read(t.Context(), []string{"hangs-7"}, nil)[0]; r.Value != "late" {
		t.Errorf("what came late is not kept: %+v", r)
	}
}

func TestAFastCheckDoesNotWaitForASlowOne(t *testing.T) {
	slow := Check{ID: "slow", Run: func(ctx context.Context) (Reading, error) { <-ctx.Done(); return Reading{}, ctx.Err() }}
	b := board(t, time.Minute, slow, Check{ID: "good", Run: good})
	go b.Read(t.Context(), []string{"slow", "good"}, nil)
	if r := b.Read(t.Context(), []string{"good"}, nil)[0]; r.Verdict != OK {
		t.Errorf("%+v", r)
	}
}

func TestReadingsAreKept(t *testing.T) {
	var asked atomic.Int64
	b := board(t, time.Minute, Check{ID: "a", Run: func(context.Context) (Reading, error) {
		return Reading{Verdict: OK, Value: fmt.Sprint(asked.Add(1))}, nil
	}})
	now := time.Now()
	b.Now = func() time.Time { return now }
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { b.Read(t.Context(), []string{"a", "none"}, nil) })
	}
	all.Wait()
	if asked.Load() != 1 {
		t.Errorf("asked %d times by 20 at once", asked.Load())
	}
	anew := func(string) Freshness { return Anew }
	again := func(string) Freshness { return Again }
	for _, step := range []struct {
		later time.Duration
		fresh func(string) Freshness
		want  int64
	}{{time.Second / 2, again, 1}, {time.Second, again, 2}, {9 * time.Second, nil, 2}, {2 * time.Second, nil, 3}, {-time.Hour, nil, 4}, {0, nil, 4}, {0, anew, 5}} {
		now = now.Add(step.later)
		b.Read(t.Context(), []string{"a"}, step.fresh)
		if asked.Load() != step.want {
			t.Errorf("after %s more: asked %d times, want %d", step.later, asked.Load(), step.want)
		}
	}
}

// What could not look is never good, and says nothing that is not for people.
func TestCheckThatCannotLook(t *testing.T) {
	secret := errors.New("password=hunter2")
	for name, run := range map[string]func(context.Context) (Reading, error){
		"error":         func(context.Context) (Reading, error) { return Reading{Verdict: OK, Value: "x"}, secret },
		"panic":         func(context.Context) (Reading, error) { panic(secret) },
		"no reading":    func(context.Context) (Reading, error) { return Reading{}, nil },
		"no value":      func(context.Context) (Reading, error) { return Reading{Verdict: OK}, nil },
		"other verdict": func(context.Context) (Reading, error) { return Reading{Verdict: "green", Value: "x"}, nil },
		"deadline":      func(context.Context) (Reading, error) { return Reading{}, context.DeadlineExceeded },
		"known reason": func(context.Context) (Reading, error) {
			return Reading{}, fault.New(fault.Unavailable, "It is away.").Because(secret)
		},
		"hears of it":     func(ctx context.Context) (Reading, error) { <-ctx.Done(); return Reading{}, ctx.Err() },
		"does not listen": func(context.Context) (Reading, error) { select {} },
	} {
		b := board(t, 200*time.Millisecond, Check{ID: "a", Run: run})
		r := b.Read(t.Context(), []string{"a"}, nil)[0]
		if r.Verdict != Unknown || r.Value == "" || r.Detail == "" || strings.Contains(r.Detail+r.Value, "hunter2") {
			t.Errorf("%s: %+v", name, r.Reading)
		}
		if name == "known reason" && r.Detail != "It is away." {
			t.Errorf("%s: %q", name, r.Detail)
		}
	}
}

// Who leaves does not end the check for those who stay.
func TestWhoeverAskedLeaves(t *testing.T) {
	release := make(chan struct{})
	b := board(t, time.Minute, Check{ID: "a", Run: func(ctx context.Context) (Reading, error) {
		select {
		case <-release:
			return Reading{Verdict: OK, Value: "fine"}, nil
		case <-ctx.Done():
			return Reading{}, ctx.Err()
		}
	}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := b.Read(ctx, []string{"a"}, nil)[0]; r.Verdict != Unknown {
		t.Errorf("left: %+v", r.Reading)
	}
	close(release)
	if r := b.Read(t.Context(), []string{"a"}, nil)[0]; r.Verdict != OK {
		t.Errorf("stayed: %+v", r.Reading)
	}
}

func TestWorse(t *testing.T) {
	order := []Verdict{OK, Unknown, Warning, Critical}
	for i, a := range order {
		for j, b := range order {
			if a.Worse(b) != (i > j) {
				t.Errorf("%s worse than %s: %v", a, b, a.Worse(b))
			}
		}
	}
}
