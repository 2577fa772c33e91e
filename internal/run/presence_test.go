package run

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
)

// join makes the world a node of its own. kill ends its connection as the death of
// its process would.
func (w *world) join() (p *Presence, kill func()) {
	w.t.Helper()
	p, err := Join(w.ctx, w.pool, "test", w.Log)
	w.must(err)
	w.t.Cleanup(p.Leave)
	w.Store = NewStore(w.pool, StoreOptions{Node: p.ID, Log: w.Log})
	return p, func() {
		w.t.Helper()
		pid := p.conn.PgConn().PID()
		w.must(p.conn.Close(context.Background()))
		p.conn = nil
		for there := true; there; { // Postgres notices a moment later
			w.must(w.pool.QueryRow(w.ctx, `select exists (select from pg_stat_activity where pid = $1)`, pid).Scan(&there))
		}
	}
}

// hanging is a run that goes on until it is let go.
func (w *world) hanging(call Call) (letGo func() (Envelope, error)) {
	w.t.Helper()
	begun, goOn := make(chan struct{}), make(chan struct{})
	goAhead := sync.OnceFunc(func() { close(goOn) })
	w.t.Cleanup(goAhead)
	w.double.before = func(string) { close(begun); <-goOn }
	type outcome struct {
		Envelope
		error
	}
	ended := make(chan outcome, 1)
	go func() {
		e, err := w.Run(w.ctx, call, nil)
		ended <- outcome{e, err}
	}()
	<-begun
	w.double.before = nil
	return func() (Envelope, error) {
		goAhead()
		o := <-ended
		return o.Envelope, o.error
	}
}

// Runs of a process that is gone are closed by whoever starts or lives, at once;
// those of one that lives are left alone.
func TestOrphansAreClosed(t *testing.T) {
	w := makeWorld(t)
	w.limited("daily_usd, runs_per_minute", usd(t, "1"), 100)
	_, kill := w.join()
	call := w.keyed("k", "a", "anthropic/good", "groq/no-key")
	letGo := w.hanging(call)
	defer func() { _, _ = letGo() }()

	other := w.node()
	p, _ := other.join()
	w.must(p.RunOnce(w.ctx, time.Now()))
	if row := w.runRow(call.ID); row.Status != "running" {
		t.Fatalf("a run of a living node is %s", row.Status)
	}
	if used := w.used(ofPlatform); used.IsZero() {
		t.Error("nothing is set aside")
	}
	if _, err := other.Run(w.ctx, other.keyed("k", "a", "google/good"), nil); fault.KindOf(err) != fault.Conflict {
		t.Errorf("the key is in use: %v", err)
	}

	kill()
	w.must(p.RunOnce(w.ctx, time.Now()))
	row := w.runRow(call.ID)
	if row.Status != "interrupted" || row.FinishedAt == nil || *row.Unpriced != 2 {
		t.Errorf("the run is %+v", row)
	}
	attempts := w.attemptRows(call.ID)
	if len(attempts) != 2 {
		t.Fatalf("%d attempts", len(attempts))
	}
	for i, a := range attempts {
		if a.Status != "interrupted" || *a.ErrorClass != "interrupted" || a.CostUsd != nil || a.InputTokens != nil || a.Model != call.Request.Models[i] {
			t.Errorf("attempt %d is %+v", i, a)
		}
	}
	if *attempts[0].KeySource != key.Fallback || attempts[0].FallbackKeyID == nil || attempts[0].Tries != 1 || attempts[1].KeySource != nil {
		t.Errorf("keys of %+v", attempts)
	}
	for _, of := range []scope{ofPlatform, ofKey, ofLearner} {
		if used := w.used(of); !used.IsZero() {
			t.Errorf("%s: %s are still set aside", of, used)
		}
	}
	events := w.logs.of(t, call.ID)
	if last := events[len(events)-1]; last["event"] != "ai_run_error" || !strings.Contains(last["error"].(string), "interrupted") || last["userId"] != w.ada.String() {
		t.Errorf("logged %v", events)
	}
	if e := other.run(other.keyed("k", "a", "google/good"), nil); e.Replayed || e.Status != Success {
		t.Errorf("its key is not free: %s", encoded(t, e))
	}
	var nodes int
	w.must(w.pool.QueryRow(w.ctx, `select count(*) from ops.nodes`).Scan(&nodes))
	if nodes != 1 {
		t.Errorf("%d nodes are known", nodes)
	}
}

// A node that was taken for dead and is not has the last word: what it knows of the
// run is the truth, and counted once.
func TestTrueOutcomeReplacesInterrupted(t *testing.T) {
	w := makeWorld(t)
	w.limited("daily_usd, concurrent_runs", usd(t, "1"), 5)
	_, kill := w.join()
	call := w.keyed("k", "a", "anthropic/good")
	letGo := w.hanging(call)
	p, _ := w.node().join()
	kill()
	w.must(p.RunOnce(w.ctx, time.Now()))
	if row := w.runRow(call.ID); row.Status != "interrupted" {
		t.Fatalf("the run is %s", row.Status)
	}
	again := w.run(w.keyed("k", "a", "anthropic/good"), nil) // who asked has asked again

	e, err := letGo()
	w.must(err)
	w.checkRows(call, e, Success)
	for _, of := range []scope{ofPlatform, ofKey, ofLearner} {
		if used, spent := w.used(of), w.spent(); !used.Equal(spent) || spent.IsZero() {
			t.Errorf("%s: counted %s, spent %s", of, used, spent)
		}
	}
	if e := w.run(w.keyed("k", "a", "anthropic/good"), nil); e.RequestID != again.RequestID {
		t.Errorf("the key answers with %s, want %s", e.RequestID, again.RequestID)
	}
	var running int
	w.must(w.pool.QueryRow(w.ctx, `select coalesce(sum(running), 0) from ops.learner_pace`).Scan(&running))
	if running != 0 {
		t.Errorf("%d count as running", running)
	}
}

// A node whose connection breaks comes back by itself, and its runs go on: those
// who watch it wait a little.
func TestPresenceComesBack(t *testing.T) {
	w := makeWorld(t)
	p, kill := w.join()
	kill()
	watching, _ := w.node().join()
	w.must(watching.lookAfter(w.ctx, silentAfter, missedAfter))
	w.must(p.show(w.ctx))
	other, _ := w.node().join()
	w.must(other.RunOnce(w.ctx, time.Now()))
	var nodes int
	w.must(w.pool.QueryRow(w.ctx, `select count(*) from ops.nodes`).Scan(&nodes))
	if nodes != 3 {
		t.Errorf("%d nodes are known", nodes)
	}
}

// Recover also finds runs of nodes that nobody knows of.
func TestRecover(t *testing.T) {
	w := makeWorld(t)
	w.Store = NewStore(w.pool, StoreOptions{Node: uuid.New(), Log: w.Log})
	call := w.call("google/good")
	letGo := w.hanging(call)
	defer func() { _, _ = letGo() }()
	for _, want := range []int{1, 0} {
		if closed, err := Recover(w.ctx, w.pool, false, w.Log); err != nil || closed != want {
			t.Errorf("closed %d, %v; want %d", closed, err, want)
		}
	}
	if row := w.runRow(call.ID); row.Status != "interrupted" {
		t.Errorf("the run is %s", row.Status)
	}
}

// When the server has to stop, what still runs is closed as interrupted, and told.
func TestStopping(t *testing.T) {
	w := makeWorld(t)
	stopping, stop := context.WithCancel(w.ctx)
	w.Stopping = stopping
	w.double.before = func(model string) {
		if model == "hang" {
			stop()
		}
	}
	call := w.keyed("k", "a", "anthropic/hang")
	e := w.run(call, nil)
	if r := e.Results[0]; r.Error == nil || r.Error.Class != "interrupted" || r.Usage == nil || r.Usage.Source != "estimated" {
		t.Errorf("got %s", encoded(t, r))
	}
	if row, a := w.runRow(call.ID), w.attemptRows(call.ID)[0]; row.Status != "interrupted" || a.Status != "interrupted" {
		t.Errorf("stored as %s, %s", row.Status, a.Status)
	}
	w.Stopping, w.double.before = nil, nil
	if e := w.run(w.keyed("k", "a", "google/good"), nil); e.Replayed {
		t.Error("its key is not free")
	}
}

// An outcome that comes while the database is away is kept, and written when it is
// back; the same request then gets it.
func TestOutcomeIsKeptForTheDatabase(t *testing.T) {
	w := makeWorld(t)
	w.Store.outcomePatience = 200 * time.Millisecond
	call := w.keyed("k", "a", "google/good")
	tx, err := w.pool.Begin(w.ctx)
	w.must(err)
	w.double.before = func(string) {
		if _, err := tx.Exec(w.ctx, `lock table public.prompt_attempts`); err != nil {
			t.Error(err)
		}
	}
	_, err = w.Run(w.ctx, call, nil)
	if f, ok := errors.AsType[*fault.Error](err); !ok || f.Kind != fault.Unavailable || f.RetryAfter <= 0 {
		t.Errorf("got %v", err)
	}
	if n := w.Store.Unwritten(); n != 1 {
		t.Errorf("%d outcomes are kept", n)
	}
	w.double.before = nil
	w.must(tx.Rollback(w.ctx))
	w.must(w.Store.Settle(w.ctx))
	if row := w.runRow(call.ID); row.Status != "success" {
		t.Errorf("stored as %s", row.Status)
	}
	if e := w.run(w.keyed("k", "a", "google/good"), nil); !e.Replayed || e.RequestID != call.ID {
		t.Errorf("got %s", encoded(t, e))
	}
}

// Connections that break in the middle of everything lose nothing and count
// nothing twice.
func TestBrokenConnections(t *testing.T) {
	w := makeWorld(t)
	w.limited("daily_usd, concurrent_runs", usd(t, "100"), 50)
	const enough = 10 // runs that were told, however slow they are
	var toldSoFar atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for round := 0; (round < 30 || toldSoFar.Load() < enough) && w.ctx.Err() == nil; round++ {
			time.Sleep(20 * time.Millisecond)
			_, _ = w.pool.Exec(w.ctx, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`)
		}
	}()
	told := map[uuid.UUID]Envelope{}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		call := w.call("anthropic/good", "openai/good", "google/good")
		if e, err := w.Run(w.ctx, call, nil); err == nil {
			told[e.RequestID] = e
			toldSoFar.Add(1)
		} else if fault.KindOf(err) != fault.Unavailable {
			t.Error(err)
		}
	}
	w.must(w.Store.Settle(w.ctx))
	if len(told) < enough {
		t.Errorf("only %d runs", len(told))
	}
	for id, e := range told {
		row := w.runRow(id)
		if row.Status != string(e.Status) || !row.TotalCostUsd.Equal(e.TotalCost) || *row.TotalTokens != e.TotalTokens || len(w.attemptRows(id)) != 3 {
			t.Errorf("told %s, stored %+v", encoded(t, e), row)
		}
	}
	for _, of := range []scope{ofPlatform, ofKey, ofLearner} {
		if used, spent := w.used(of), w.spent(); !used.Equal(spent) {
			t.Errorf("%s: counted %s, spent %s", of, used, spent)
		}
	}
	var left, running int
	w.must(w.pool.QueryRow(w.ctx, `select (select count(*) from public.prompt_runs where status = 'running'), (select coalesce(sum(running), 0) from ops.learner_pace)`).Scan(&left, &running))
	if left != 0 || running != 0 {
		t.Errorf("%d runs go on, %d count as running", left, running)
	}
}

// Whoever closes the runs of a dead node locks the pace of their learners in the one
// order that writers have: it holds none while it waits for the first.
func TestRunsAreClosedInOrder(t *testing.T) {
	t.Parallel()
	w := makeWorld(t)
	learners := make([]uuid.UUID, 30)
	runs := make([]uuid.UUID, len(learners))
	for i := range learners {
		learners[i], runs[i] = uuid.New(), NewID(time.Now())
		w.exec(`insert into auth.users (id, email) values ($1, $2)`, learners[i], learners[i].String()+"@example.org")
		w.exec(`insert into ops.learner_pace (user_id, running) values ($1, 1)`, learners[i])
		w.exec(`insert into ops.idempotency (owner_id, key, user_id, request_hash, run_id, created_at) values ($1, 'k', $1, '', $2, now())`, learners[i], runs[i])
		w.exec(`insert into public.prompt_runs (id, created_at, user_id, models, config, stream, plan, node_id) values ($1, $2, $3, '{m}', '{}', false, '{"paced": true, "attempts": []}', $4)`,
			runs[i], CreatedAt(runs[i]), learners[i], uuid.New())
	}
	slices.SortFunc(learners, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	for _, table := range []struct{ name, column string }{{"ops.idempotency", "owner_id"}, {"ops.learner_pace", "user_id"}} {
		first, err := w.pool.Begin(w.ctx)
		w.must(err)
		_, err = first.Exec(w.ctx, `select from `+table.name+` where `+table.column+` = $1 for update`, learners[0])
		w.must(err)
		gaveUp, giveUp := context.WithCancel(w.ctx)
		ended := make(chan error, 1)
		go func() {
			tx, err := w.pool.Begin(gaveUp)
			if err == nil {
				_, err = closeRuns(gaveUp, tx, `true`)
				_ = tx.Rollback(w.ctx)
			}
			ended <- err
		}()
		for waits := false; !waits; time.Sleep(time.Millisecond) {
			w.must(w.pool.QueryRow(w.ctx, `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')`).Scan(&waits))
		}
		var free int
		w.must(w.pool.QueryRow(w.ctx, `select count(*) from (select from `+table.name+` for update skip locked) t`).Scan(&free))
		if free != len(learners)-1 {
			t.Errorf("%s: %d of %d rows are free while the first is waited for", table.name, free, len(learners)-1)
		}
		giveUp()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", table.name, err)
		}
		w.must(first.Rollback(w.ctx))
	}
	closed, err := Recover(w.ctx, w.pool, true, w.Log)
	w.must(err)
	if closed != len(learners) {
		t.Errorf("%d closed", closed)
	}
}
