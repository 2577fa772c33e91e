package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestServeWhileTheDatabaseIsAway(t *testing.T) {
	env := onDatabase(t)
	address, err := url.Parse(env["DATABASE_URL"])
	must(t, err)
	line := newLine(t, address.Host)
	address.Host = line.listener.Addr().String()
	env["DATABASE_URL"] = address.String()

	s := serveWith(t, env).ready()
	line.cut()
	s.eventually("not ready", func() bool { return s.status("/readyz") == http.StatusServiceUnavailable })
	if got := s.status("/healthz"); got != http.StatusOK {
		t.Errorf("/healthz says %d", got)
	}
	line.mend()
	s.ready()
	s.end(syscall.SIGTERM, 0)
	password, _ := address.User.Password()
	hides(t, s, jwtSecret, env["PROMPTOPS_MASTER_KEYS"], ":"+password+"@")
}

// A run that has begun is answered in full before the program ends, and no new
// one is taken.
func TestServeFinishesWhatRuns(t *testing.T) {
	env := onDatabase(t)
	promptops(t, env, "", "demo", "load").exits(t, 0)
	token := strings.TrimSpace(promptops(t, env, "", "token", "--learner", "ada@demo.promptcademy.test").exits(t, 0).stdout)
	s := serveWith(t, env).ready()
	response := s.post(token, `{"prompt":"Explain RAG to a chef","models":["openai/gpt-5-mini","anthropic/claude-haiku-5-5"],"stream":true}`)
	defer response.Body.Close()
	events := bufio.NewReader(response.Body)
	first, err := events.ReadString('\n')
	must(t, err)
	if first != "event: start\n" {
		t.Fatalf("the stream begins with %q", first)
	}
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	rest, err := io.ReadAll(events)
	must(t, err)
	if !strings.Contains(string(rest), "event: done\n") || !strings.Contains(string(rest), `"status":"success"`) {
		t.Errorf("the run was not finished:\n%s", rest)
	}
	<-s.ended
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := s.status("/healthz"); got != 0 {
		t.Errorf("/healthz still says %d", got)
	}
}

func TestServeOnATakenPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	env := onDatabase(t)
	env["PROMPTOPS_LISTEN"] = listener.Addr().String()
	promptops(t, env, "", "serve").exits(t, 1, "cannot listen on "+listener.Addr().String(), "address already in use", "PORT or PROMPTOPS_LISTEN").
		hides(t, "goroutine", jwtSecret)
}

// line is a connection to a server that can be cut.
type line struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	dead  bool
	slow  time.Duration // how much later everything arrives
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
	l.mu.Lock()
	dead := l.dead
	l.mu.Unlock()
	if dead {
		_ = from.Close()
		return
	}
	to, err := net.Dial("tcp", l.to)
	if err != nil {
		_ = from.Close()
		return
	}
	l.mu.Lock()
	l.conns = append(l.conns, from, to)
	if l.dead {
		_, _ = from.Close(), to.Close()
	}
	l.mu.Unlock()
	go func() { l.carry(to, from); _ = to.Close() }()
	l.carry(from, to)
	_ = from.Close()
}

// carry copies until one end closes, each piece as late as the line is slow.
func (l *line) carry(to io.Writer, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		l.mu.Lock()
		late := l.slow
		l.mu.Unlock()
		time.Sleep(late)
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}

func (l *line) slowDown(late time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow = late
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
	l.dead = false
}
