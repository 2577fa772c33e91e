package eventlog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// node is a process that logs.
type node struct {
	*Tee
	*Writer
	Log *slog.Logger
}

func newNode(db postgres.DB, name string) node {
	tee := NewTee(io.Discard)
	log := slog.New(slog.NewJSONHandler(tee, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.MessageKey {
			a.Key = "event"
		}
		return a
	}}))
	return node{tee, NewWriter(tee, db, name, log), log}
}

// at logs events of a moment, one after another.
func (n node) at(t *testing.T, at time.Time, level slog.Level, event string, args ...any) {
	t.Helper()
	r := slog.NewRecord(at, level, event, 0)
	r.Add(args...)
	must(t, n.Log.Handler().Handle(t.Context(), r))
}

func (n node) write(t *testing.T) {
	t.Helper()
	must(t, n.RunOnce(t.Context(), noon))
}

func newStore(db postgres.DB) *Store { return NewStore(postgres.NewReader(db), 30) }

// today is the filter of the day of noon.
func today(t *testing.T, query ...string) Filter {
	t.Helper()
	values := map[string][]string{"range": {"today"}}
	for i := 0; i < len(query); i += 2 {
		values[query[i]] = []string{query[i+1]}
	}
	f, err := ParseFilter(values, noon, time.UTC)
	must(t, err)
	return f
}

func names(events []Event) (all []string) {
	for _, e := range events {
		all = append(all, e.Name)
	}
	return all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// proxy stands between a program and the database, and can cut them off.
type proxy struct {
	t        *testing.T
	target   string
	listener net.Listener

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// throughProxy is a pool of one connection that leads through a proxy.
func throughProxy(t *testing.T, db *pgxpool.Pool) (*pgxpool.Pool, *proxy) {
	t.Helper()
	config := db.Config().ConnConfig
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{t: t, target: net.JoinHostPort(config.Host, fmt.Sprint(config.Port)), listener: listener, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { _ = listener.Close(); p.away(true) })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	address := listener.Addr().(*net.TCPAddr)
	url := fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", config.User, config.Password, address.Port, config.Database)
	pool, err := postgres.Open(t.Context(), url, PoolOptions)
	must(t, err)
	t.Cleanup(pool.Close)
	return pool, p
}

func (p *proxy) serve(client net.Conn) {
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.target)
	p.mu.Lock()
	cut := p.cut || err != nil
	if !cut {
		p.conns[client], p.conns[server] = true, true
	}
	p.mu.Unlock()
	if cut {
		_ = client.Close()
		return
	}
	go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
	_, _ = io.Copy(client, server)
	_ = client.Close()
}

// away takes the database away, or gives it back.
func (p *proxy) away(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = yes
	for conn := range p.conns {
		_ = conn.Close()
	}
	clear(p.conns)
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func one[T any](t *testing.T, db *pgxpool.Pool, sql string, args ...any) (v T) {
	t.Helper()
	must(t, db.QueryRow(t.Context(), sql, args...).Scan(&v))
	return v
}

func testDatabase(t *testing.T) *pgxpool.Pool { return pgtest.Database(t) }
