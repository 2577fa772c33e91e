package run

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A model does not wait for another: this one answers when the others are done,
// and not before.
func TestModelsRunAtTheSameTime(t *testing.T) {
	w := makeWorld(t)
	done := make(chan struct{})
	w.double.before = func(model string) {
		if model != "last" {
			return
		}
		select {
		case <-done:
		case <-w.ctx.Done():
		}
	}
	for _, stream := range []bool{false, true} {
		done = make(chan struct{})
		call := w.call("anthropic/last", "openai/good", "anthropic/good", "google/good")
		call.Request.Stream = stream
		heard := &hearing{}
		heard.onResult = func(Result) {
			if len(heard.results) == 3 {
				close(done)
			}
		}
		e := w.run(call, heard)
		if e.Status != Success || heard.results[3].Model != "anthropic/last" {
			t.Errorf("status %s, heard %v", e.Status, heard.order)
		}
		for i, model := range call.Request.Models {
			if e.Results[i].Model != model {
				t.Errorf("result %d is of %s, want the order of the request", i, e.Results[i].Model)
			}
		}
		if stream {
			heard.check(t, e)
		}
		w.checkRows(call, e, Success)
	}
}

// A listener hears one thing at a time, though eight models talk at once.
func TestListenerHearsOneAtATime(t *testing.T) {
	w := makeWorld(t)
	call := w.call("openai/a", "openai/b", "openai/c", "anthropic/a", "anthropic/b", "google/a", "google/b", "mistral/m")
	call.Request.Stream = true
	heard := &hearing{}
	heard.onDelta = func(string) { time.Sleep(time.Millisecond) }
	e := w.run(call, heard)
	if e.Status != Success {
		t.Errorf("got %s", encoded(t, e))
	}
	heard.check(t, e)
	w.checkRows(call, e, Success)
}

// A listener that panics spoils its own model's attempt at most.
func TestListenerPanics(t *testing.T) {
	w := makeWorld(t)
	call := w.call("openai/good", "google/good")
	call.Request.Stream = true
	heard := &hearing{}
	heard.onDelta = func(model string) {
		if model == "openai/good" {
			panic("a bug of ours")
		}
	}
	e := w.run(call, heard)
	if e.Status != Partial || e.Results[0].Error == nil || e.Results[0].Error.Class != "provider_error" || e.Results[1].Error != nil {
		t.Errorf("got %s", encoded(t, e))
	}
	w.checkRows(call, e, Partial)
}

// A listener that panics at the start leaves no run behind that seems to go on.
func TestListenerPanicsAtTheStart(t *testing.T) {
	w := makeWorld(t)
	call := w.call("google/good")
	func() {
		defer func() { _ = recover() }()
		_, _ = w.Run(w.ctx, call, starts(func() { panic("a bug of ours") }))
		t.Error("did not panic")
	}()
	for w.runRow(call.ID).Status == "running" {
		if !sleep(w.ctx, 5*time.Millisecond) {
			t.Fatal("the run goes on for ever")
		}
	}
	if row := w.runRow(call.ID); row.Status != "interrupted" {
		t.Errorf("stored as %s", row.Status)
	}
}

// Many runs at once do not mix.
func TestManyRunsAtOnce(t *testing.T) {
	w := makeWorld(t)
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			call := w.call("openai/good", "anthropic/echo", "google/good")
			call.Request.Prompt = fmt.Sprintf("prompt %d", i)
			call.Request.Stream = i%2 == 0
			heard := &hearing{}
			e, err := w.Run(w.ctx, call, heard)
			if err != nil || e.RequestID != call.ID || e.Status != Success {
				t.Errorf("got %s, %v", encoded(t, e), err)
				return
			}
			if call.Request.Stream {
				heard.check(t, e)
			}
			w.checkRows(call, e, Success)
			if content := w.contentRow(call.ID); content.Messages[0].Content != call.Request.Prompt {
				t.Errorf("prompt %d is stored as %q", i, content.Messages[0].Content)
			}
		})
	}
	all.Wait()
	var runs, attempts, contents int
	w.must(w.pool.QueryRow(w.ctx, `
		select (select count(*) from public.prompt_runs where status = 'success'),
		       (select count(*) from public.prompt_attempts where status = 'ok'),
		       (select count(*) from public.prompt_contents)`).Scan(&runs, &attempts, &contents))
	if runs != 40 || attempts != 120 || contents != 40 {
		t.Errorf("%d runs, %d attempts, %d contents", runs, attempts, contents)
	}
}

// partitions lists the tables that hold runs.
func (w *world) partitions() []string {
	w.t.Helper()
	rows, err := w.pool.Query(w.ctx, `
		select inhrelid::regclass::text from pg_inherits
		where inhparent in ('public.prompt_runs'::regclass, 'public.prompt_attempts'::regclass, 'public.prompt_contents'::regclass) order by 1`)
	w.must(err)
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		w.must(rows.Scan(&name))
		names = append(names, name)
	}
	w.must(rows.Err())
	return names
}

// Partitions come to be once, by however many nodes, while runs go on.
func TestMonthsWhileRunning(t *testing.T) {
	w := makeWorld(t)
	now := time.Now().UTC()
	first := time.Date(now.Year(), now.Month()+2, 1, 0, 0, 0, 0, time.UTC) // the world may have made the next one
	const months = 6
	var nodes, runs sync.WaitGroup
	stop := make(chan struct{})
	var mu sync.Mutex
	made, ran := 0, 0
	for range 3 {
		nodes.Go(func() {
			n, err := EnsureMonths(w.ctx, w.pool, first, first.AddDate(0, months-1, 0))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			made += n
		})
	}
	for range 4 {
		runs.Go(func() {
			for {
				call := w.call("openai/good", "google/good")
				if e, err := w.Run(w.ctx, call, nil); err != nil || e.Status != Success {
					t.Errorf("got %s, %v", encoded(t, e), err)
					return
				}
				mu.Lock()
				ran++
				mu.Unlock()
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	nodes.Wait()
	close(stop)
	runs.Wait()
	if made != 3*months || ran == 0 {
		t.Errorf("made %d tables beside %d runs, want %d", made, ran, 3*months)
	}
	before := w.partitions()
	if again, err := EnsureMonths(w.ctx, w.pool, first, first.AddDate(0, months-1, 0)); again != 0 || err != nil {
		t.Errorf("made %d again, %v", again, err)
	}
	if diff := cmp.Diff(before, w.partitions()); diff != "" {
		t.Error(diff)
	}
}

// Every month from the first to the last gets its three tables, whatever the
// day and the zone.
func TestEnsureMonths(t *testing.T) {
	w := makeWorld(t)
	log := slog.New(slog.DiscardHandler)
	start := w.partitions()
	sydney := time.FixedZone("Sydney", 11*60*60)
	for _, test := range []struct {
		name        string
		first, last time.Time
		months      []string
	}{
		{"31 January to 1 March", date(2031, 1, 31), date(2031, 3, 1), []string{"2031_01", "2031_02", "2031_03"}},
		{"over the end of a year", date(2032, 12, 1), date(2033, 1, 1), []string{"2032_12", "2033_01"}},
		{"one day", date(2034, 5, 31), date(2034, 5, 31), []string{"2034_05"}},
		{"backwards", date(2035, 5, 1), date(2035, 4, 30), nil},
		{"1 July in Sydney is still June", time.Date(2036, 7, 1, 3, 0, 0, 0, sydney), time.Date(2036, 7, 1, 3, 0, 0, 0, sydney), []string{"2036_06"}},
	} {
		made, err := EnsureMonths(w.ctx, w.pool, test.first, test.last)
		if err != nil || made != 3*len(test.months) {
			t.Errorf("%s: made %d, %v; want %d", test.name, made, err, 3*len(test.months))
		}
		for _, month := range test.months {
			for _, table := range []string{"ops.prompt_runs_", "ops.prompt_attempts_", "ops.prompt_contents_"} {
				var there bool
				w.must(w.pool.QueryRow(w.ctx, `select to_regclass($1) is not null`, table+month).Scan(&there))
				if !there {
					t.Errorf("%s: there is no %s%s", test.name, table, month)
				}
			}
		}
	}

	// A run on the last instant of a month is stored; one where nothing is
	// prepared is refused, and its provider never called.
	now := time.Date(2031, 3, 31, 23, 59, 59, int(999*time.Millisecond), time.UTC)
	w.Now = func() time.Time { return now }
	call := w.call("google/good")
	w.checkRows(call, w.run(call, nil), Success)
	calls := w.double.calls.Load()
	now = now.Add(time.Millisecond)
	if _, err := w.Run(w.ctx, w.call("google/good"), nil); err == nil {
		t.Error("a run was stored nowhere")
	}
	if w.double.calls.Load() != calls {
		t.Error("a provider was called for a run that could not be recorded")
	}
	months := NewMonths(w.Store, log)
	for range 2 {
		w.must(months.RunOnce(w.ctx, now))
	}
	for range monthsAhead + 1 {
		call := w.call("google/good")
		w.checkRows(call, w.run(call, nil), Success)
		now = now.AddDate(0, 1, 0)
	}
	if got, want := len(w.partitions()), len(start)+3*(7+4); got != want {
		t.Errorf("%d tables, want %d", got, want)
	}
	w.pool.Close()
	if err := months.RunOnce(w.ctx, now); err == nil {
		t.Error("made partitions without a database")
	}
}

func date(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 12, 0, 0, 0, time.UTC)
}
