package eventlog

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsLoggedIsStoredInItsOrder(t *testing.T) {
	db := testDatabase(t)
	n := newNode(db, "one")
	for _, name := range []string{"a", "b", "c", "d"} {
		n.at(t, noon, slog.LevelInfo, name, "source", "s", "requestId", "r1", "userId", "0193a5b0-0000-7000-8000-000000000001", "n", 1)
	}
	n.at(t, noon.Add(-48*time.Hour), slog.LevelError, "earlier") // of a day that nobody has made
	n.write(t)
	events, err := newStore(db).OfRequest(t.Context(), "r1", noon.Add(-time.Hour))
	must(t, err)
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, names(events)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if e := events[0]; e.Source != "s" || e.Node != "one" || string(e.Attributes) != `{"n":1}` || !e.At.Equal(noon) || e.UserID == nil || e.ID.Version() != 7 {
		t.Errorf("%+v", e)
	}
	if got := one[int64](t, db, `select sum(n)::bigint from ops.log_counts`); got != 5 {
		t.Errorf("%d are counted, want 5", got)
	}
	n.write(t) // nothing
	n.at(t, noon, slog.LevelInfo, "a", "source", "s")
	n.write(t)
	if got := one[int64](t, db, `select n from ops.log_counts where event = 'a'`); got != 2 {
		t.Errorf("a is counted %d times, want 2", got)
	}
}

func TestNobodyWaitsForADatabaseThatIsAway(t *testing.T) {
	db := testDatabase(t)
	pool, way := throughProxy(t, db)
	n := newNode(pool, "one")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stored := func(name string) int64 {
		return one[int64](t, db, `select count(*) from ops.log_events where event = $1`, name)
	}
	n.Log.Info("before")
	eventually(t, "the first event is stored", func() bool { return stored("before") == 1 })

	way.away(true)
	text := strings.Repeat("x", 10_000)
	begun := time.Now()
	for range 3000 { // 30 MB, of which 8 to 16 have room
		n.Log.Info("meanwhile", "text", text)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("logging took %v", took)
	}
	eventually(t, "events are dropped", func() bool { return n.Dropped() > 0 })
	way.away(false)
	n.Log.Info("after")

	eventually(t, "the drop is told of", func() bool { return stored("log_events_dropped") == 1 })
	eventually(t, "what had room is stored", func() bool { return stored("meanwhile")+n.Dropped() >= 3000 })
	if told := one[int64](t, db, `select (attributes ->> 'events')::bigint from ops.log_events where event = 'log_events_dropped'`); told != n.Dropped() {
		t.Errorf("told of %d, dropped %d", told, n.Dropped())
	}
	if said := stored("log_events_not_written"); said > 1 { // or none, when there was no room for it either
		t.Errorf("that they could not be written is said %d times", said)
	}
	n.Log.Info("last")
	stop()
	must(t, <-ended)
	must(t, n.Flush(t.Context()))
	if stored("last") != 1 {
		t.Error("what was logged before the end is not stored")
	}
	stored2, counted := one[int64](t, db, `select count(*) from ops.log_events`), one[int64](t, db, `select sum(n)::bigint from ops.log_counts`)
	if stored2 != counted {
		t.Errorf("%d are stored, %d counted", stored2, counted)
	}
}

func TestABatchIsStoredOnce(t *testing.T) {
	db := testDatabase(t)
	n := newNode(db, "one")
	n.Log.Info("a")
	n.Writer.lines = n.take(nil)
	n.parse(noon)
	batch := slices.Clone(n.waiting)
	n.waiting = nil
	must(t, n.Writer.write(t.Context(), batch))
	n.waiting, n.tries = batch, 1 // its answer got lost
	n.Log.Info("b")
	n.write(t)
	if got := one[int64](t, db, `select count(*) from ops.log_events`); got != 2 || n.Dropped() != 0 {
		t.Errorf("%d stored, %d dropped", got, n.Dropped())
	}
}

func TestEventsThatAreRefusedDoNotKeepTheOthers(t *testing.T) {
	db := testDatabase(t)
	_, err := db.Exec(t.Context(), `alter table ops.log_events add constraint fussy check (event <> 'bad')`)
	must(t, err)
	n := newNode(db, "one")
	n.Log.Info("bad")
	for range mostTries - 1 {
		if n.RunOnce(t.Context(), noon) == nil {
			t.Fatal("it was stored")
		}
	}
	n.write(t)
	n.Log.Info("good")
	n.write(t)
	if got := one[int64](t, db, `select count(*) from ops.log_events where event = 'good'`); got != 1 || n.Dropped() != 1 {
		t.Errorf("%d stored, %d dropped", got, n.Dropped())
	}
}

func TestOldDaysAreDropped(t *testing.T) {
	db := testDatabase(t)
	n := newNode(db, "one")
	for day := range 5 {
		n.at(t, noon.AddDate(0, 0, -day), slog.LevelInfo, "x")
	}
	n.write(t)
	days := NewDays(db, 2, n.Log)
	must(t, days.RunOnce(t.Context(), noon))
	must(t, days.RunOnce(t.Context(), noon)) // finds nothing to do
	if events, counts := one[int64](t, db, `select count(*) from ops.log_events`), one[int64](t, db, `select count(*) from ops.log_counts`); events != 3 || counts != 3 {
		t.Errorf("%d events and %d counts are left, want 3", events, counts)
	}
	if got := one[int64](t, db, `select count(*) from pg_inherits where inhparent = 'ops.log_events'::regclass`); got != 3+daysAhead {
		t.Errorf("%d days, want %d", got, 3+daysAhead)
	}
	n.at(t, noon.AddDate(0, 0, -4), slog.LevelInfo, "x") // its day is gone …
	if n.RunOnce(t.Context(), noon) == nil {
		t.Error("it was stored without a day")
	}
	n.write(t) // … and is made again
}
