package run

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/provider"
)

// Before a provider hears of a run, others can read that it goes on; when Run
// returns, they can read how it ended.
func TestStartIsCommittedFirst(t *testing.T) {
	w := makeWorld(t)
	type state struct {
		run     string
		planned string
	}
	var seen []state
	call := w.call("openai/good")
	w.double.before = func(string) {
		var s state
		err := w.pool.QueryRow(w.ctx, `
			select r.status, r.plan -> 'attempts' -> 0 ->> 'model'
			from public.prompt_runs r where r.id = $1`, call.ID).Scan(&s.run, &s.planned)
		if err != nil {
			t.Error(err)
		}
		seen = append(seen, s)
	}
	heard := &hearing{}
	e := w.run(call, heard)
	if len(seen) != 1 || seen[0] != (state{"running", "openai/good"}) {
		t.Errorf("the provider found %+v", seen)
	}
	heard.order = append(heard.order, "end")
	if heard.order[0] != "start" {
		t.Errorf("heard %v", heard.order)
	}
	w.checkRows(call, e, Success)
}

// Start is heard only when the run is committed, and before any provider is.
func TestStartIsHeardAfterTheCommit(t *testing.T) {
	w := makeWorld(t)
	call := w.call("openai/good", "google/good")
	var early atomic.Bool
	var started atomic.Bool
	w.double.before = func(string) { early.Store(early.Load() || !started.Load()) }
	listener := starts(func() {
		if row := w.runRow(call.ID); row.Status != "running" {
			t.Errorf("stored as %s", row.Status)
		}
		if n := w.double.calls.Load(); n != 0 {
			t.Errorf("%d calls were made before", n)
		}
		started.Store(true)
	})
	w.run(call, listener)
	if !started.Load() || early.Load() {
		t.Errorf("started %v, a provider was called before %v", started.Load(), early.Load())
	}
}

// starts is a Listener for the start alone.
type starts func()

func (s starts) Start(uuid.UUID, bool) { s() }
func (starts) Delta(string, string)    {}
func (starts) Result(Result)           {}

// Without the database nothing is run.
func TestDatabaseAway(t *testing.T) {
	w := makeWorld(t)
	template := w.template(&w.ada, "Hi", true)
	w.Store.startPatience = 50 * time.Millisecond
	w.pool.Close()
	for _, id := range []*uuid.UUID{nil, &template} {
		call := w.call("openai/good", "google/good")
		call.Request.TemplateID = id
		heard := &hearing{}
		e, err := w.Run(w.ctx, call, heard)
		if fault.KindOf(err) != fault.Unavailable || e.Results != nil {
			t.Errorf("got %s, %v", encoded(t, e), err)
		}
		if len(heard.order) != 0 {
			t.Errorf("heard %v", heard.order)
		}
	}
	if n := w.double.calls.Load(); n != 0 {
		t.Errorf("%d calls were made", n)
	}
	if strings.Contains(w.logs.String(), "ai_run_success") {
		t.Errorf("logged %s", w.logs)
	}
}

// A database that can be read but not written lets nothing run either.
func TestDatabaseReadOnly(t *testing.T) {
	w := makeWorld(t)
	w.exec(`alter table public.prompt_runs rename to away`)
	if _, err := w.Run(w.ctx, w.call("openai/good"), nil); err == nil {
		t.Error("ran without a record")
	}
	if n := w.double.calls.Load(); n != 0 {
		t.Errorf("%d calls were made", n)
	}
	var runs int
	w.must(w.pool.QueryRow(w.ctx, `select count(*) from public.away`).Scan(&runs))
	if runs != 0 {
		t.Errorf("half a start is stored: %d runs", runs)
	}
}

// An outcome that cannot be recorded is not answered.
func TestDatabaseGoesMeanwhile(t *testing.T) {
	t.Run("away", func(t *testing.T) {
		w := makeWorld(t)
		w.Store.outcomePatience = 50 * time.Millisecond
		w.double.before = func(string) { w.pool.Close() }
		call := w.call("openai/good")
		e, err := w.Run(w.ctx, call, nil)
		if fault.KindOf(err) != fault.Unavailable || e.Results != nil {
			t.Errorf("got %s, %v", encoded(t, e), err)
		}
		for _, event := range w.logs.of(t, call.ID)[1:] {
			if event["event"] != "run_not_recorded" {
				t.Errorf("logged %v", event)
			}
		}
	})
	t.Run("it does not answer", func(t *testing.T) {
		w := makeWorld(t)
		w.Store.outcomePatience = 100 * time.Millisecond
		tx, err := w.pool.Begin(w.ctx)
		w.must(err)
		defer func() { w.must(tx.Rollback(w.ctx)) }()
		w.double.before = func(string) {
			if _, err := tx.Exec(w.ctx, `lock table public.prompt_contents`); err != nil {
				t.Error(err)
			}
		}
		e, err := w.Run(w.ctx, w.call("openai/good"), nil)
		if fault.KindOf(err) != fault.Unavailable || e.Results != nil {
			t.Errorf("got %s, %v", encoded(t, e), err)
		}
	})
}

// A caller who goes away cancels what still runs; what was used so far is kept.
func TestAbandoned(t *testing.T) {
	for _, stream := range []bool{false, true} {
		w := makeWorld(t)
		ctx, leave := context.WithCancel(w.ctx)
		defer leave()
		call := w.call("openai/good", "anthropic/hang", "google/hang-body", "groq/no-key")
		call.Request.Stream = stream
		// Leave when the first is done and the others are at work; when they
		// stream, when one has begun.
		heard := &hearing{}
		var done, hanging atomic.Int32
		leaveWhenReady := func() {
			if done.Load() == 1 && hanging.Load() == 2 {
				leave()
			}
		}
		heard.onResult = func(r Result) {
			if r.Model == "openai/good" {
				done.Add(1)
				leaveWhenReady()
			}
		}
		counted := false
		heard.onDelta = func(model string) {
			if model == "google/hang-body" && !counted {
				counted = true
				hanging.Add(1)
				leaveWhenReady()
			}
		}
		w.double.before = func(model string) {
			if model == "hang" || model == "hang-body" && !stream {
				hanging.Add(1)
				leaveWhenReady()
			}
		}
		e, err := w.Run(ctx, call, heard)
		w.must(err)
		w.checkRows(call, e, Cancelled)
		w.checkSecrets(e)
		for model, want := range map[string]provider.Class{"openai/good": "", "anthropic/hang": provider.ClassCancelled, "google/hang-body": provider.ClassCancelled, "groq/no-key": provider.ClassMissingKey} {
			if r := resultOf(t, e, model); (r.Error == nil) != (want == "") || r.Error != nil && r.Error.Class != want {
				t.Errorf("%s: %s", model, describe(r))
			}
		}
		if u := resultOf(t, e, "anthropic/hang").Usage; u == nil || u.Source != "estimated" || u.InputTokens == 0 || u.OutputTokens != 0 {
			t.Errorf("used %s", encoded(t, u))
		}
		if r := resultOf(t, e, "google/hang-body"); r.Usage == nil || (r.Output != nil) != stream {
			t.Errorf("got %s", encoded(t, r))
		}
		events := w.logs.of(t, call.ID)
		if len(events) != 2 {
			t.Fatalf("logged %v", events)
		}
		checkFieldsOf(t, events[1], "error status durationMs results errors")
		checkEvent(t, events[1], object{"event": "ai_run_error", "level": "ERROR", "status": 499.0, "error": "the caller went away", "durationMs": float64(e.DurationMs)})
		if results, ok := events[1]["results"].([]any); !ok || len(results) != 4 {
			t.Errorf("results %v", events[1]["results"])
		}
		leave()
	}
}

// Whoever is gone before anything began has run nothing.
func TestGoneBeforeTheStart(t *testing.T) {
	w := makeWorld(t)
	ctx, leave := context.WithCancel(w.ctx)
	leave()
	if _, err := w.Run(ctx, w.call("openai/good"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if n := w.double.calls.Load(); n != 0 {
		t.Errorf("%d calls were made", n)
	}
	var runs int
	w.must(w.pool.QueryRow(w.ctx, `select count(*) from public.prompt_runs`).Scan(&runs))
	if runs != 0 {
		t.Errorf("%d runs are stored", runs)
	}
}
