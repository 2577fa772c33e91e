package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// served is a running promptops serve.
type served struct {
	t              *testing.T
	cmd            *exec.Cmd
	URL            string
	stdout, stderr output
	ended          chan struct{} // closed when the process has
}

// output is what a process has said so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// serveWith starts promptops serve on a free port; wait for it with ready.
func serveWith(t *testing.T, env environment) *served {
	t.Helper()
	path, err := binary()
	must(t, err)
	address := freeAddress(t)
	s := &served{t: t, cmd: exec.Command(path, "serve"), URL: "http://" + address, ended: make(chan struct{})}
	s.cmd.Env = append(env.list(), "PROMPTOPS_LISTEN="+address)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = t.TempDir(), &s.stdout, &s.stderr
	must(t, s.cmd.Start())
	go func() {
		_ = s.cmd.Wait() // its code is in ProcessState
		close(s.ended)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // does nothing to one that has ended
		select {
		case <-s.ended:
		case <-time.After(90 * time.Second):
			t.Error("serve does not end")
			_ = s.cmd.Process.Kill()
		}
		if t.Failed() {
			t.Logf("standard error:\n%s\nstandard output:\n%.4000s", s.stderr.String(), s.stdout.String())
		}
	})
	return s
}

// openDir is a temporary folder that, unlike t.TempDir, is open to the user that
// Postgres runs as.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "promptops-serve-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// freeAddress is of a port below those that the system hands out: nobody is given
// it before the program listens there.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(20_000+rand.IntN(12_000)))
		if err == nil {
			must(t, listener.Close())
			return listener.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// status is the status of GET path, 0 while nobody answers.
func (s *served) status(path string) int {
	client := http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Get(s.URL + path)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

func (s *served) eventually(what string, done func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		select {
		case <-s.ended:
			s.t.Fatalf("%s: serve has ended with code %d", what, s.cmd.ProcessState.ExitCode())
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: not within two minutes", what)
		}
	}
}

// says waits until an event is on standard output: what the program writes comes
// through a pipe and can be read a moment after its answer.
func (s *served) says(event string) {
	s.t.Helper()
	s.eventually(event+" on standard output", func() bool { return strings.Contains(s.stdout.String(), `"event":"`+event+`"`) })
}

func (s *served) ready() *served {
	s.t.Helper()
	s.eventually("ready", func() bool { return s.status("/readyz") == http.StatusOK })
	return s
}

// end sends a signal and waits for the end; the exit code is -1 after SIGKILL.
func (s *served) end(signal os.Signal, code int) {
	s.t.Helper()
	must(s.t, s.cmd.Process.Signal(signal))
	select {
	case <-s.ended:
	case <-time.After(90 * time.Second):
		s.t.Fatalf("serve does not end after %s", signal)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("exit code %d after %s, want %d", got, signal, code)
	}
}

// run posts a run and returns its id. It is recorded when this returns.
func (s *served) run(token string) (id string) {
	s.t.Helper()
	response := s.post(token, `{"prompt":"Explain RAG to a chef","models":["openai/gpt-5-mini","anthropic/claude-haiku-5-5","google/gemini-3.8-flash"]}`)
	defer response.Body.Close()
	var answer struct{ RequestID, Status string }
	body, err := io.ReadAll(response.Body) // to its end: the node has counted the run then
	must(s.t, err)
	must(s.t, json.Unmarshal(body, &answer))
	if response.StatusCode != http.StatusOK || answer.Status != "success" {
		s.t.Fatalf("status %d, the run is a %q", response.StatusCode, answer.Status)
	}
	return answer.RequestID
}

func (s *served) post(token, body string) *http.Response {
	s.t.Helper()
	request, err := http.NewRequest(http.MethodPost, s.URL+"/api/ai/run", strings.NewReader(body))
	must(s.t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	must(s.t, err)
	return response
}

var signInLink = regexp.MustCompile(`/sign-in/link/(\S+)`)

// A first start, a restart, a crash: the life of the embedded set-up.
func TestServeOnItsOwnDatabase(t *testing.T) {
	data := filepath.Join(openDir(t), "data")
	env := environment{"PROMPTOPS_DATA_DIR": data}

	first := serveWith(t, env).ready()
	first.eventually("the address on the terminal", func() bool { return strings.Contains(first.stderr.String(), "Ctrl-C stops everything") })
	link := signInLink.FindStringSubmatch(first.stderr.String())
	if link == nil || !strings.Contains(first.stderr.String(), first.URL) {
		t.Fatalf("neither the address nor a link on the terminal:\n%s", first.stderr.String())
	}
	if got := first.status("/sign-in/link/" + link[1]); got != http.StatusOK {
		t.Errorf("the link answers %d", got)
	}
	token := strings.TrimSpace(promptops(t, env, "", "token", "--learner", "ada@demo.promptcademy.test").exits(t, 0).stdout)
	id := first.run(token)
	for _, event := range []string{"ai_run_start", "ai_run_success", "server_started"} {
		first.says(event)
	}
	for line := range strings.Lines(first.stdout.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not a JSON object per line: %q", line)
		}
	}

	secrets := []string{token}
	for _, name := range []string{"master-keys", "jwt-secret"} {
		path := filepath.Join(data, name)
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %o, want 600", name, info.Mode().Perm())
		}
		content, err := os.ReadFile(path)
		must(t, err)
		secrets = append(secrets, strings.TrimSpace(string(content)))
	}
	database, err := url.Parse(strings.TrimSpace(promptops(t, env, "", "config", "--show-database-url").exits(t, 0).stdout))
	must(t, err)
	databasePassword, _ := database.User.Password()
	secrets = append(secrets, databasePassword)
	wantsCounters(t, database.String(), ofDemo())
	server := postmaster(t, data)

	first.end(syscall.SIGTERM, 0)
	gone(t, server)
	hides(t, first, append(secrets, "sandbox-openai")...)
	if strings.Contains(first.stdout.String(), link[1]) {
		t.Error("the log holds the sign-in link")
	}

	// Again: the data is there, the old token is good, nothing is filled in twice.
	second := serveWith(t, env).ready()
	second.eventually("the address on the terminal", func() bool { return strings.Contains(second.stderr.String(), "Ctrl-C stops everything") })
	if strings.Contains(second.stderr.String(), "demo data") {
		t.Error("the second start fills in demo data again")
	}
	last := second.run(token)
	server = postmaster(t, data)
	go func() { // it will never be answered
		request, _ := http.NewRequest(http.MethodPost, second.URL+"/api/ai/run", strings.NewReader(`{"prompt":"x","models":["openai/gpt-5-mini-fault-hang"]}`))
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
		}
	}()
	second.eventually("a run hangs", func() bool { return strings.Contains(second.stdout.String(), "gpt-5-mini-fault-hang") })
	second.end(syscall.SIGKILL, -1)
	gone(t, server)

	third := serveWith(t, env).ready()
	third.eventually("the run that hung is closed", func() bool {
		return strings.Contains(third.stdout.String(), "interrupted: the server ended before the run did")
	})
	third.run(token)
	wantsRuns(t, strings.TrimSpace(promptops(t, env, "", "config", "--show-database-url").exits(t, 0).stdout), id, last)
	third.end(os.Interrupt, 0)
	hides(t, third, secrets...)
}

// Whoever changes their mind during the very first start has stopped nothing that
// failed.
func TestServeIsStoppedWhileItFillsInTheDemo(t *testing.T) {
	s := serveWith(t, environment{"PROMPTOPS_DATA_DIR": filepath.Join(openDir(t), "data")})
	s.eventually("the demo is begun", func() bool { return strings.Contains(s.stderr.String(), "Filling in demo data") })
	s.end(syscall.SIGTERM, 0)
}

// wantsRuns checks that runs which were answered are in the database.
func wantsRuns(t *testing.T, database string, ids ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	must(t, err)
	defer conn.Close(t.Context())
	var n int
	must(t, conn.QueryRow(t.Context(), `
		select count(*) from public.prompt_runs r join public.prompt_attempts a on a.run_id = r.id
		where r.id = any($1::text[]::uuid[]) and r.status = 'success' and a.status = 'ok'`, ids).Scan(&n))
	if n != 3*len(ids) {
		t.Errorf("%d attempts of the runs %v are recorded, want three of each", n, ids)
	}
}

// hides checks that a server never said any of these.
func hides(t *testing.T, s *served, secrets ...string) {
	t.Helper()
	said{s.stdout.String(), s.stderr.String(), 0}.hides(t, secrets...)
}

// postmaster is the process id of the embedded database server.
func postmaster(t *testing.T, data string) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(data, "postgres", "data", "postmaster.pid"))
	must(t, err)
	line, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(line)
	must(t, err)
	return pid
}

// gone waits for the end of a process.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); syscall.Kill(pid, 0) == nil && !isZombie(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the database server, process %d, is left behind", pid)
		}
	}
}

// isZombie says whether only the entry of a process is left, for a parent that
// never looks.
func isZombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z")
}
