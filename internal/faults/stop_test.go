package faults

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/provider/sandbox"
)

// begun waits until a run has called its provider.
func (w *world) begun(marker string) {
	w.t.Helper()
	await(w.t, "the run goes on", time.Minute, func() bool {
		return value[int](w, `select count(*) from public.prompt_runs where client_request_id = $1 and status = 'running'`, marker) == 1
	})
}

func one(t *testing.T, answers <-chan answer) answer {
	t.Helper()
	select {
	case a := <-answers:
		return a
	case <-time.After(2 * time.Minute):
		t.Fatal("no answer within two minutes")
		return answer{}
	}
}

// later sends without waiting for the answer.
func later(ctx context.Context, node string, a ask) <-chan answer {
	answers := make(chan answer, 1)
	go func() { answers <- send(ctx, node, a) }()
	return answers
}

// A node that is asked to stop lets its runs end.
func TestStopWaitsForRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Millisecond)
	w.addPeople(1)
	w.addFallback("openai", "", 1)
	n := w.addNode(nil)
	for _, stream := range []bool{false, true} {
		if stream {
			n.start()
		}
		a := ask{who: w.people[0], marker: uuid.NewString(), models: []string{"openai/gpt-5-mini-fault-slow"}, stream: stream, config: map[string]any{"timeoutMs": 60_000}}
		answers := later(w.ctx, n.URL(), a)
		w.begun(a.marker)
		must(t, n.cmd.Process.Signal(syscall.SIGTERM))
		got := one(t, answers)
		n.ends(time.Minute, 0)
		if !got.acknowledged() || got.envelope.Status != "success" {
			t.Errorf("answered %v, HTTP %d %s", got.err, got.status, got.body)
		}
		b := w.books()
		b.asTold([]answer{got})
		b.balance()
	}
}

// When a provider hangs, the node does not wait for ever: it closes what runs as
// interrupted, says so to the client, and ends well.
func TestStopInterruptsWhatHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Millisecond)
	w.addPeople(1)
	w.addFallback("openai", "1", 1)
	w.addFallback("google", "1", 1)
	w.exec(`insert into ops.budgets (daily_usd, concurrent_runs) values (5, 10)`)
	n := w.addNode(map[string]string{"PROMPTOPS_SHUTDOWN_TIMEOUT": "1s"})
	var answers []<-chan answer
	for _, stream := range []bool{false, true} {
		a := ask{who: w.people[0], marker: uuid.NewString(), key: uuid.NewString(), models: []string{"openai/gpt-5-mini-fault-hang", "google/gemini-3.8-flash"},
			stream: stream, config: map[string]any{"timeoutMs": 60_000}}
		answers = append(answers, later(w.ctx, n.URL(), a))
		await(t, "one of the two models has answered", time.Minute, func() bool {
			return slices.ContainsFunc(w.box.Entries(), func(e sandbox.Entry) bool { return e.Marker == a.marker && e.Finished })
		})
	}
	n.end(time.Minute, 0)
	var told []answer
	for _, one := range answers {
		got := <-one
		told = append(told, got)
		if !got.acknowledged() || len(got.envelope.Results) != 2 || got.envelope.Results[0].class() != "interrupted" || got.envelope.Results[1].Status != "ok" {
			t.Errorf("answered %v, HTTP %d %s", got.err, got.status, got.body)
		}
	}
	b := w.books()
	b.asTold(told)
	b.balance()
	b.interruptedAreLogged()
	for _, r := range b.runs {
		if r.Status != "interrupted" || of(r.attempts[0].ErrorClass) != "interrupted" {
			t.Errorf("stored as %s: %+v", r.Status, r.attempts)
		}
	}
	if left := value[int](w, `select count(*) from ops.nodes`); left != 0 {
		t.Errorf("%d nodes are left", left)
	}

	// The keys may be used again, and this time nobody stops.
	n.start()
	for _, a := range told {
		again := a.ask
		again.models = []string{"google/gemini-3.8-flash"}
		if got := send(w.ctx, n.URL(), again); !got.acknowledged() || got.replayed {
			t.Errorf("the key of an interrupted run cannot be used again: HTTP %d %s", got.status, got.body)
		}
	}
}

// A client that leaves takes the upstream call along, at once.
func TestLeavingCancelsTheCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Millisecond)
	w.addPeople(1)
	w.addFallback("openai", "1", 1)
	n := w.addNode(nil)
	var took []time.Duration
	for i := range 10 {
		a := ask{who: w.people[0], marker: uuid.NewString(), key: uuid.NewString(), models: []string{"openai/gpt-5-mini"}, stream: i%2 == 1,
			config: map[string]any{"timeoutMs": 60_000}}
		fault := "hang"
		if i > 5 {
			fault = "hang-stream"
		}
		w.box.Chaos(0, sandbox.Odds{fault: 1})
		ctx, leave := context.WithCancel(w.ctx)
		before := w.box.Begun()
		answers := later(ctx, n.URL(), a)
		await(t, "the call has arrived", time.Minute, func() bool { return w.box.Begun() > before })
		left := time.Now()
		leave()
		one(t, answers)
		await(t, "the call ends", 30*time.Second, func() bool {
			for _, e := range w.box.Entries() {
				if e.Marker == a.marker {
					took = append(took, e.Ended.Sub(left))
					return true
				}
			}
			return false
		})
		await(t, "the run is closed", time.Minute, func() bool { return len(w.books().byMarker[a.marker][0].attempts) == 1 })
		r := w.books().byMarker[a.marker][0]
		at := r.attempts[0]
		if r.Status != "cancelled" || at.Status != "cancelled" || of(at.UsageSource) != "estimated" || at.Tries != 1 || of(at.Input) == 0 || at.Cost == nil || !at.Cost.IsPositive() {
			t.Errorf("stored as %s: %s, %d tries, input %d, %s, cost %v", r.Status, at.Status, at.Tries, of(at.Input), of(at.UsageSource), at.Cost)
		}
		await(t, "it is logged with status 499", time.Minute, func() bool { return n.logged("ai_run_error", r.ID.String(), `"status":499`) })
		w.box.Chaos(0, nil)
		if again := send(w.ctx, n.URL(), a); !again.acknowledged() || again.replayed {
			t.Errorf("the key of an abandoned run cannot be used again: HTTP %d %s", again.status, again.body)
		}
	}
	slices.Sort(took)
	t.Logf("of 10 calls the slowest was cancelled after %v", took[9])
	if took[4] > time.Second || took[9] > 10*time.Second { // a busy machine may hold up one or the other
		t.Errorf("calls went on for %v after their clients had left", took)
	}
	w.books().balance()
}
