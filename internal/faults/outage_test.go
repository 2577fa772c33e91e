package faults

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/run"
)

// Postgres hangs for some seconds and then goes on. Whoever asks meanwhile is
// told to come back, or waits and is answered; nothing is lost, run twice or left
// open.
func TestDatabaseHangs(t *testing.T) {
	t.Parallel()
	pauses := []time.Duration{7 * time.Second}
	if *long {
		pauses = []time.Duration{time.Second, 4 * time.Second, 7 * time.Second, 12 * time.Second, 25 * time.Second}
	}
	w := newFragileWorld(t, 20*time.Millisecond)
	w.addPeople(4)
	w.addFallback("openai", "10", 1)
	w.addFallback("google", "10", 1)
	w.exec(`insert into ops.budgets (daily_usd, learner_daily_usd, concurrent_runs) values (50, 20, 500)`)
	w.addNode(nil)
	w.addNode(nil)
	c := newCrowd()
	for _, pause := range pauses {
		load, stop := context.WithCancel(w.ctx)
		var callers sync.WaitGroup
		for i := range 8 {
			random := rand.New(rand.NewPCG(*seed, uint64(i)))
			callers.Go(func() {
				for load.Err() == nil {
					a := ask{who: w.people[random.IntN(len(w.people))], marker: uuid.NewString(), models: []string{"openai/gpt-5-mini", "google/gemini-3.8-flash"}[:1+random.IntN(2)]}
					if random.IntN(2) == 0 {
						a.key = uuid.NewString()
					}
					// A caller that is told to come back does, with the same key.
					for tries := range 12 {
						got := c.add(send(w.ctx, w.nodes[(i+tries)%2].URL(), a))
						if a.key == "" || got.acknowledged() {
							break
						}
						sleep(w.ctx, 500*time.Millisecond)
					}
				}
			})
		}
		c.more(50)
		resume := w.pause()
		time.Sleep(pause) // this is the fault
		resume()
		c.more(50)
		stop()
		callers.Wait()
	}
	took := w.settled()
	b := w.books()
	told := b.asTold(c.answers)
	b.balance()
	b.asBilled(w.box.Entries())
	b.onlyOnce(c.answers)
	statuses := map[int]int{}
	for _, a := range c.answers {
		statuses[a.status]++
		if a.err != nil || a.status != http.StatusOK && a.retry == "" {
			t.Errorf("%v HTTP %d, Retry-After %q: %s", a.err, a.status, a.retry, a.body)
		}
	}
	w.replays(c)
	t.Logf("%d requests answered %v; %d runs: %s; %d acknowledged; settled in %v", len(c.answers), statuses, len(b.runs), b.statuses(), told, took.Round(time.Millisecond))
}

// An outcome that comes while the database is away is kept, written when it is
// back, and then the answer to the same request.
func TestOutcomeWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Second)
	w.addPeople(1)
	w.addFallback("openai", "1", 1)
	address, err := url.Parse(w.url)
	must(t, err)
	line := newLine(t, address.Host)
	address.Host = line.listener.Addr().String()
	n := w.addNode(map[string]string{"DATABASE_URL": address.String()})
	a := ask{who: w.people[0], marker: uuid.NewString(), key: uuid.NewString(), models: []string{"openai/gpt-5-mini-fault-slow"}, config: map[string]any{"timeoutMs": 60_000}}
	answers := later(w.ctx, n.URL(), a)
	// Its row alone does not say that the node has heard of it.
	await(t, "the model is asked", time.Minute, func() bool { return w.box.Begun() == 1 })
	line.cut()
	got := one(t, answers)
	if got.status != http.StatusServiceUnavailable || got.retry == "" {
		t.Errorf("without the database: HTTP %d, Retry-After %q %s", got.status, got.retry, got.body)
	}
	if again := send(w.ctx, n.URL(), a); again.status != http.StatusServiceUnavailable || again.retry == "" {
		t.Errorf("the same request while it is away: HTTP %d, Retry-After %q %s", again.status, again.retry, again.body)
	}
	line.mend()
	var replayed answer
	await(t, "the outcome can be asked for", time.Minute, func() bool {
		replayed = send(w.ctx, n.URL(), a)
		return replayed.acknowledged()
	})
	if !replayed.replayed || replayed.envelope.Status != "success" {
		t.Errorf("answered %s", replayed.body)
	}
	b := w.books()
	b.asTold([]answer{replayed})
	b.balance()
	b.asBilled(w.box.Entries())
	if calls := w.box.Entries(); len(calls) != 1 {
		t.Errorf("the model was called %d times", len(calls))
	}
}

// A start is committed, but the node does not hear of it and gives up. The run
// that nobody runs is closed, and the client who was told to come back may.
func TestStartThatNobodyHearsOf(t *testing.T) {
	t.Parallel()
	for name, budgets := range map[string]string{
		"decided by the database": `insert into ops.budgets (daily_usd, learner_daily_usd, concurrent_runs) values (1, 1, 5)`,
		"nothing to decide":       `select`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, time.Millisecond)
			w.addPeople(1)
			w.addFallback("openai", "", 1)
			w.exec(budgets)
			address, err := url.Parse(w.url)
			must(t, err)
			line := newLine(t, address.Host)
			address.Host = line.listener.Addr().String()
			n := w.addNode(map[string]string{"DATABASE_URL": address.String()})
			a := ask{who: w.people[0], marker: uuid.NewString(), models: []string{"openai/gpt-5-mini"}, config: map[string]any{"timeoutMs": 60_000}}
			if name == "decided by the database" {
				a.key = uuid.NewString()
			}
			line.muteAfter(a.marker)
			got := send(w.ctx, n.URL(), a)
			if got.status != http.StatusServiceUnavailable || got.retry == "" {
				t.Errorf("without a word from the database: HTTP %d, Retry-After %q %s", got.status, got.retry, got.body)
			}
			if running := value[int](w, `select count(*) from public.prompt_runs where status = 'running'`); running != 1 {
				t.Fatalf("%d runs are committed as started: the test does not do what it says", running)
			}
			line.cut()
			line.mend()
			w.settled()
			var again answer
			await(t, "the client may come back", time.Minute, func() bool {
				again = send(w.ctx, n.URL(), a)
				return again.acknowledged()
			})
			if again.replayed || again.envelope.Status != "success" {
				t.Errorf("answered %s", again.body)
			}
			b := w.books()
			b.asTold([]answer{again})
			b.balance()
			b.interruptedAreLogged()
			b.asBilled(w.box.Entries())
			if calls := w.box.Entries(); len(calls) != 1 || len(b.runs) != 2 {
				t.Errorf("%d calls, %d runs", len(calls), len(b.runs))
			}
		})
	}
}

// While a run goes on to another key, the change of what is set aside for it is
// committed, but the node does not hear of it. The books come out right all the
// same.
func TestHoldThatNobodyHearsOf(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]time.Duration{"given up": 8 * time.Second, "tried again": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 300*time.Millisecond)
			w.addPeople(1)
			bad, good := key.Secret("sandbox-"+uuid.NewString()+"-fault-401"), key.Secret("sandbox-"+uuid.NewString())
			for i, secret := range []key.Secret{bad, good} {
				// Room for what is set aside once, and not for twice that.
				limit, err := price.ParseUSD("0.0004")
				must(t, err)
				_, _, err = w.keys.AddFallback(w.ctx, key.NewFallback{Provider: "openai", Label: string(secret), Secret: secret, Priority: i + 1, MonthlyCapUSD: &limit})
				must(t, err)
			}
			address, err := url.Parse(w.url)
			must(t, err)
			line := newLine(t, address.Host)
			address.Host = line.listener.Addr().String()
			n := w.addNode(map[string]string{"DATABASE_URL": address.String()})
			a := ask{who: w.people[0], marker: uuid.NewString(), models: []string{"openai/gpt-5-mini"}, config: map[string]any{"timeoutMs": 30_000}}
			line.muteAfter("\x00\x00\x00\x08fallback") // of all that is sent for runs only this statement has it as a parameter
			answers := later(w.ctx, n.URL(), a)
			await(t, "the hold is committed", time.Minute, func() bool {
				return value[int](w, `select count(*) from public.prompt_runs where plan -> 'attempts' -> 0 ->> 'number' = '1'`) == 1
			})
			time.Sleep(back) // nobody can tell from outside when a node has given up
			line.cut()
			line.mend()
			got := one(t, answers)
			if !got.acknowledged() || got.envelope.Results[0].Attempts != map[string]int{"given up": 1, "tried again": 2}[name] {
				t.Errorf("answered HTTP %d %s", got.status, got.body)
			}
			w.settled()
			b := w.books()
			b.asTold([]answer{got})
			b.balance()
			b.asBilled(w.box.Entries())
		})
	}
}

// The database crashes again and again while runs begin, change keys and end.
func TestDatabaseCrashes(t *testing.T) {
	t.Parallel()
	crashes := 3
	if *long {
		crashes = 25
	}
	w := newFragileWorld(t, 5*time.Millisecond)
	w.addPeople(4)
	for _, id := range []string{"openai", "google"} {
		w.addFallback(id, "", 2)
		_, _, err := w.keys.AddFallback(w.ctx, key.NewFallback{Provider: id, Label: "refused", Secret: key.Secret("sandbox-" + uuid.NewString() + "-fault-401"), Priority: 1})
		must(t, err)
	}
	w.exec(`insert into ops.budgets (daily_usd, learner_daily_usd, concurrent_runs) values (50, 20, 500)`)
	w.addNode(nil)
	w.addNode(nil)
	c := newCrowd()
	load, stop := context.WithCancel(w.ctx)
	defer stop()
	var callers sync.WaitGroup
	for i := range 16 {
		random := rand.New(rand.NewPCG(*seed, uint64(i)))
		callers.Go(func() {
			for load.Err() == nil {
				a := ask{who: w.people[random.IntN(len(w.people))], marker: uuid.NewString(), models: []string{"openai/gpt-5-mini", "google/gemini-3.8-flash"}[:1+random.IntN(2)], stream: random.IntN(4) == 0}
				if random.IntN(2) == 0 {
					a.key = uuid.NewString()
				}
				for tries := range 12 {
					got := c.add(send(w.ctx, w.nodes[(i+tries)%2].URL(), a))
					if a.key == "" || got.acknowledged() {
						break
					}
					sleep(w.ctx, 500*time.Millisecond)
				}
			}
		})
	}
	for range crashes {
		c.more(100)
		w.restart(syscall.SIGQUIT)
	}
	c.more(100)
	stop()
	callers.Wait()
	took := w.settled()
	b := w.books()
	told := b.asTold(c.answers)
	b.balance()
	b.asBilled(w.box.Entries())
	b.onlyOnce(c.answers)
	b.interruptedAreLogged()
	w.replays(c)
	doubts := 0
	for _, n := range w.nodes {
		doubts += strings.Count(n.said.String(), "runs_not_written_yet")
	}
	t.Logf("%d crashes, %d commits tried again; %d runs: %s; %d acknowledged; settled in %v", crashes, doubts, len(b.runs), b.statuses(), told, took.Round(time.Millisecond))
}

// line is a connection to a server that can be cut, or lose what the server says.
type line struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	dead  bool
	mute  bool   // the server is not heard any more
	after []byte // it will not be, once this has been sent
	conns []net.Conn
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	l := &line{listener: listener, to: to}
	t.Cleanup(func() { _ = listener.Close(); l.cut() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go l.join(conn)
		}
	}()
	return l
}

func (l *line) join(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", l.to)
	if err != nil {
		return
	}
	defer to.Close()
	l.mu.Lock()
	l.conns = append(l.conns, from, to)
	dead := l.dead
	l.mu.Unlock()
	if dead {
		return
	}
	go func() { l.carry(to, from, true); _ = to.Close() }()
	l.carry(from, to, false)
}

func (l *line) carry(to io.Writer, from io.Reader, sending bool) {
	buffer := make([]byte, 64<<10)
	forRuns := false // as its first message says
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		forRuns = forRuns || sending && bytes.Contains(buffer[:n], []byte(run.PoolOptions.ApplicationName))
		l.mu.Lock()
		if forRuns && l.after != nil && bytes.Contains(buffer[:n], l.after) {
			l.mute, l.after = true, nil
		}
		lost := l.mute && !sending
		l.mu.Unlock()
		if lost {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// muteAfter loses what the server says once these words have been sent to it for
// runs.
func (l *line) muteAfter(words string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.after = []byte(words)
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	for _, conn := range l.conns {
		_ = conn.Close()
	}
	l.conns = nil
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead, l.mute = false, false
}
