package run

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

// keyed is a call with an idempotency key, of a request that is named.
func (w *world) keyed(key, request string, models ...string) Call {
	call := w.call(models...)
	hash := sha256.Sum256([]byte(request))
	call.IdempotencyKey, call.RequestHash = key, hash[:]
	return call
}

func TestReplay(t *testing.T) {
	w := makeWorld(t)
	for _, models := range [][]string{{"openai/good", "google/good"}, {"openai/good", "groq/no-key"}, {"google/html"}} {
		name := models[len(models)-1]
		first := w.run(w.keyed(name, "a", models...), nil)
		calls := w.double.calls.Load()
		for _, node := range []*world{w, w.node()} {
			heard := &hearing{}
			again := node.run(node.keyed(name, "a", models...), heard)
			if !again.Replayed || encoded(t, again) != encoded(t, first) {
				t.Errorf("%v: first %s, again %s", models, encoded(t, first), encoded(t, again))
			}
			if len(heard.started) != 1 || heard.started[0] != first.RequestID || encoded(t, heard.results) != encoded(t, first.Results) {
				t.Errorf("%v: heard %v, %s", models, heard.started, encoded(t, heard.results))
			}
		}
		if n := w.double.calls.Load() - calls; n != 0 {
			t.Errorf("%v: %d calls to run again what had run", models, n)
		}
		_, err := w.Run(w.ctx, w.keyed(name, "b", models...), nil)
		if f, ok := errors.AsType[*fault.Error](err); !ok || f.Kind != fault.Invalid || len(f.Details) != 1 || f.Details[0].Field != "Idempotency-Key" {
			t.Errorf("another request: %v", err)
		}
	}
	var runs int
	w.must(w.pool.QueryRow(w.ctx, `select count(*) from public.prompt_runs`).Scan(&runs))
	if runs != 3 {
		t.Errorf("%d runs are stored, want 3", runs)
	}

	// The same key of somebody else is another key.
	bob := uuid.New()
	w.exec(`insert into auth.users (id, email) values ($1, 'bob@example.org')`, bob)
	call := w.keyed("google/html", "a", "google/good")
	call.LearnerID = &bob
	if e := w.run(call, nil); e.Replayed || e.Status != Success {
		t.Errorf("bob got %s", encoded(t, e))
	}

	// A day later it is forgotten.
	w.exec(`update ops.idempotency set created_at = created_at - interval '24 hours'`)
	if e := w.run(w.keyed("google/html", "another", "google/good"), nil); e.Replayed || e.Status != Success {
		t.Errorf("got %s", encoded(t, e))
	}
}

// Whoever asks the same while the first runs is told to wait, on every node.
func TestFirstIsStillRunning(t *testing.T) {
	w := makeWorld(t)
	begun := make(chan struct{})
	goOn := make(chan struct{})
	w.double.before = func(string) { close(begun); <-goOn }
	var all sync.WaitGroup
	all.Go(func() {
		if e, err := w.Run(w.ctx, w.keyed("k", "a", "google/good"), nil); err != nil || e.Status != Success {
			t.Errorf("got %s, %v", encoded(t, e), err)
		}
	})
	<-begun
	for _, node := range []*world{w, w.node()} {
		_, err := node.Run(w.ctx, node.keyed("k", "a", "google/good"), nil)
		if f, ok := errors.AsType[*fault.Error](err); !ok || f.Kind != fault.Conflict || f.RetryAfter < time.Second {
			t.Errorf("the same request: %v", err)
		}
		_, err = node.Run(w.ctx, node.keyed("k", "b", "google/good"), nil)
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("another request: %v", err)
		}
	}
	close(goOn)
	all.Wait()
	w.double.before = nil
	if e := w.run(w.keyed("k", "a", "google/good"), nil); !e.Replayed {
		t.Errorf("got %s", encoded(t, e))
	}
}

// However many ask at the same moment on two nodes, one runs.
func TestSameKeyAtTheSameMoment(t *testing.T) {
	w := makeWorld(t)
	nodes := []*world{w, w.node()}
	for round := range 10 {
		key := uuid.NewString()
		var mu sync.Mutex
		ran := map[uuid.UUID]int{}
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				node := nodes[i%2]
				for {
					e, err := node.Run(w.ctx, node.keyed(key, "a", "google/good", "anthropic/good"), nil)
					if fault.KindOf(err) == fault.Conflict && err != nil {
						time.Sleep(time.Millisecond)
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					ran[e.RequestID]++
					return
				}
			})
		}
		all.Wait()
		if len(ran) != 1 {
			t.Fatalf("round %d: %d runs for one key: %v", round, len(ran), ran)
		}
	}
	if n := w.double.calls.Load(); n != 20 {
		t.Errorf("%d calls for 10 runs of two models", n)
	}
}

// A run that was abandoned has no answer to give again: its key is free.
func TestAbandonedKeyIsFree(t *testing.T) {
	w := makeWorld(t)
	ctx, leave := context.WithCancel(w.ctx)
	w.double.before = func(string) { leave() }
	if _, err := w.Run(ctx, w.keyed("k", "a", "google/hang"), nil); err != nil {
		t.Fatal(err)
	}
	w.double.before = nil
	if e := w.run(w.keyed("k", "a", "google/good"), nil); e.Replayed || e.Status != Success {
		t.Errorf("got %s", encoded(t, e))
	}
}

// A caller who leaves when everything is done has still got a run with an answer.
func TestLeavingAfterTheEnd(t *testing.T) {
	w := makeWorld(t)
	ctx, leave := context.WithCancel(w.ctx)
	call := w.keyed("k", "a", "google/good")
	e, err := w.Run(ctx, call, &hearing{onResult: func(Result) { leave() }})
	w.must(err)
	w.checkRows(call, e, Success)
	if again := w.run(w.keyed("k", "a", "google/good"), nil); !again.Replayed || again.RequestID != e.RequestID {
		t.Errorf("got %s", encoded(t, again))
	}
}

// What was refused before it ran leaves the key free.
func TestRefusedKeyIsFree(t *testing.T) {
	w := makeWorld(t)
	call := w.keyed("k", "a", "google/good")
	stranger := uuid.New()
	call.Request.TeamID = &stranger
	if _, err := w.Run(w.ctx, call, nil); fault.KindOf(err) != fault.Invalid {
		t.Fatalf("got %v", err)
	}
	if e := w.run(w.keyed("k", "b", "google/good"), nil); e.Replayed {
		t.Errorf("got %s", encoded(t, e))
	}
}

// With the learner goes what was said, here too.
func TestAnswersGoWithTheLearner(t *testing.T) {
	w := makeWorld(t)
	w.run(w.keyed("k", "a", "google/good"), nil)
	w.exec(`delete from auth.users where id = $1`, w.ada)
	var left int
	w.must(w.pool.QueryRow(w.ctx, `select count(*) from ops.idempotency`).Scan(&left))
	if left != 0 {
		t.Errorf("%d answers are left", left)
	}
}
