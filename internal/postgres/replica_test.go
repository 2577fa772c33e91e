package postgres_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// lines collects what is logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(of string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), of)
}

// onReplica says where a Reader reads, and what it sees.
func onReplica(t *testing.T, ctx context.Context, r postgres.Reader) (replica bool, rows int) {
	t.Helper()
	err := r.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `select pg_is_in_recovery(), (select count(*) from public.written)`).Scan(&replica, &rows)
	})
	if err != nil {
		t.Fatal(err)
	}
	return replica, rows
}

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), url, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func run(t *testing.T, db postgres.DB, sql string) {
	t.Helper()
	if _, err := db.Exec(context.Background(), sql); err != nil {
		t.Fatal(err)
	}
}

// A real replica: read from while it keeps up, and not when it is behind, stopped or
// not one at all.
func TestReplica(t *testing.T) {
	server, err := pgtest.StartServer()
	if err != nil {
		t.Fatal(err)
	}
	primary := open(t, server)
	run(t, primary, `create role authenticated nologin; create table public.written (n int); grant select on public.written to authenticated`)
	standby := pgtest.StartReplica(t, server)
	var said lines
	replica, err := postgres.OpenReplica(t.Context(), standby.URL(), primary, postgres.Options{}, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(replica.Close)
	reader := postgres.NewReader(primary).Beside(replica)
	now := time.Now()
	looks := func(ahead time.Duration) postgres.ReplicaState {
		now = now.Add(ahead)
		replica.RunOnce(t.Context(), now)
		return replica.State()
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within a minute: %s; state %+v", what, replica.State())
			}
		}
	}

	if there, _ := onReplica(t, t.Context(), reader); there {
		t.Error("it is read from before anybody has looked at it")
	}
	until("it keeps up", func() bool { s := looks(time.Second); return s.Away == "" && s.Age == 0 })
	if there, rows := onReplica(t, t.Context(), reader); !there || rows != 0 {
		t.Errorf("read from the replica %v, %d rows", there, rows)
	}
	if there, _ := onReplica(t, t.Context(), reader.As(ann)); !there {
		t.Error("what a lead sees is read from the primary")
	}
	run(t, primary, `insert into public.written values (1)`)
	if there, rows := onReplica(t, postgres.OnPrimary(t.Context()), reader); there || rows != 1 {
		t.Errorf("whoever has just written reads from the replica %v, %d rows", there, rows)
	}
	until("it has what was written", func() bool { _, rows := onReplica(t, t.Context(), reader); return rows == 1 })

	// It falls behind.
	run(t, open(t, standby.URL()), `select pg_wal_replay_pause()`)
	until("it pauses", func() bool {
		run(t, primary, `insert into public.written values (2)`)
		return looks(time.Second).Age > 0
	})
	if there, _ := onReplica(t, t.Context(), reader); !there {
		t.Error("some seconds are too much")
	}
	if s := looks(postgres.ReplicaBound + time.Second); s.Away == "" || s.Age <= postgres.ReplicaBound {
		t.Errorf("behind for too long: %+v", s)
	}
	if there, rows := onReplica(t, t.Context(), reader); there || rows < 2 {
		t.Errorf("far behind, but read from the replica %v, %d rows", there, rows)
	}
	run(t, open(t, standby.URL()), `select pg_wal_replay_resume()`)
	until("it catches up", func() bool { return looks(time.Second).Away == "" })

	// It goes away: the first who meets that is not kept waiting.
	standby.Stop(t)
	if there, rows := onReplica(t, t.Context(), reader); there || rows < 2 {
		t.Errorf("stopped, but read from the replica %v, %d rows", there, rows)
	}
	if s := replica.State(); !strings.Contains(s.Away, "does not answer") {
		t.Errorf("stopped: %+v", s)
	}
	if s := looks(time.Second); s.Away == "" {
		t.Errorf("still stopped: %+v", s)
	}
	standby.Start(t)
	until("it is back", func() bool { return looks(time.Second).Away == "" })
	if there, _ := onReplica(t, t.Context(), reader); !there {
		t.Error("it is back, but not read from")
	}

	// It goes away under a reader.
	err = reader.Read(t.Context(), func(tx pgx.Tx) error {
		standby.Stop(t)
		_, err := tx.Exec(t.Context(), `select 1`)
		return err
	})
	if fault.KindOf(err) != fault.Unavailable || replica.State().Away == "" {
		t.Errorf("%v, state %+v", err, replica.State())
	}
	if there, _ := onReplica(t, t.Context(), reader); there {
		t.Error("the next page is not read from the primary")
	}
	if away, back := said.count("replica_not_read"), said.count("replica_read "); away != 3 || back != 3 {
		t.Errorf("it was said %d times that it is not read from, and %d times that it is:\n%s", away, back, said.text.String())
	}
}

func TestReplicaThatIsNone(t *testing.T) {
	primary := pgtest.Database(t)
	var said lines
	replica, err := postgres.OpenReplica(t.Context(), primary.Config().ConnString(), primary, postgres.Options{}, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer replica.Close()
	for range 3 {
		replica.RunOnce(t.Context(), time.Now())
	}
	if s := replica.State(); s.Away != "it is no streaming replica" || said.count("replica_not_read") != 1 {
		t.Errorf("%+v\n%s", s, said.text.String())
	}
	if _, err := postgres.OpenReplica(t.Context(), "postgres://u:hunter2@[", primary, postgres.Options{}, slog.Default()); fault.KindOf(err) != fault.Invalid || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("no address at all: %v", err)
	}
}
