package faults

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/learner"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider/sandbox"
	"github.com/promptcademy/promptops/internal/seal"
	"github.com/promptcademy/promptops/migrations"
)

var (
	long = flag.Bool("long", false, "the long form: minutes of it")
	race = flag.Bool("nodes-race", false, "build the nodes with the race detector")
	seed = flag.Uint64("seed", 0, "what chance begins with; 0: something new")
)

const jwtSecret = "a secret of the tests, which is long enough to sign with"

var binaryDir string

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "6") // what goes on at once mostly waits
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	var err error
	if binaryDir, err = os.MkdirTemp("", "promptops-faults-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(binaryDir)
	os.Exit(code)
}

// server is the Postgres that is stopped and killed here, by one test at a time. It
// comes back by itself whenever it ends, and is gone soon after us.
var (
	server     = sync.OnceValues(pgtest.StartServer)
	serverFree sync.Mutex
)

// world is a platform: a database, a sandbox in place of the providers, nodes.
type world struct {
	t     *testing.T
	ctx   context.Context // ends before a test can hang
	url   string          // of the database
	pool  *pgxpool.Pool
	box   *sandbox.Server
	keys  *key.Store
	env   map[string]string
	nodes []*node

	people []*person
}

// person is a learner.
type person struct {
	id    uuid.UUID
	token string
}

// newWorld makes one on the server that all other tests use, too.
func newWorld(t *testing.T, latency time.Duration) *world {
	t.Helper()
	return newWorldOn(t, pgtest.URL(t), latency)
}

// newFragileWorld makes one on a server of its own, to be broken.
func newFragileWorld(t *testing.T, latency time.Duration) *world {
	t.Helper()
	serverFree.Lock()
	t.Cleanup(serverFree.Unlock)
	address, err := server()
	must(t, err)
	parsed, err := url.Parse(address)
	must(t, err)
	admin, err := pgx.Connect(t.Context(), address)
	must(t, err)
	defer admin.Close(t.Context())
	name := "faults_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	_, err = admin.Exec(t.Context(), `create database `+name)
	must(t, err)
	parsed.Path = "/" + name
	return newWorldOn(t, parsed.String(), latency)
}

func newWorldOn(t *testing.T, address string, latency time.Duration) *world {
	t.Helper()
	t.Logf("-seed %d", *seed)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, url: address}
	var err error
	// What tests write has to outlast a crash of the server as well.
	w.pool, err = postgres.Open(ctx, w.url, postgres.Options{MaxConns: 8, ApplicationName: "faults", Session: `set synchronous_commit = on`})
	must(t, err)
	t.Cleanup(w.pool.Close)
	must(t, postgres.Migrate(ctx, w.pool, migrations.FS))

	w.box, err = sandbox.Start(ctx, "", sandbox.Latency(latency), sandbox.Ledger)
	must(t, err)
	ringText, err := seal.NewRing()
	must(t, err)
	ring, err := seal.ParseRing(ringText)
	must(t, err)
	w.keys = key.NewStore(w.pool, ring)
	w.env = map[string]string{
		"DATABASE_URL":          w.url,
		"PROMPTOPS_MASTER_KEYS": ringText,
		"SUPABASE_JWT_SECRET":   jwtSecret,
		"OPENAI_BASE_URL":       w.box.URL + "/openai/v1",
		"ANTHROPIC_BASE_URL":    w.box.URL + "/anthropic",
		"GEMINI_BASE_URL":       w.box.URL + "/google",
		"MISTRAL_BASE_URL":      w.box.URL + "/mistral/v1",
	}
	return w
}

// addNode starts one more node.
func (w *world) addNode(more map[string]string) *node {
	w.t.Helper()
	n := &node{t: w.t, address: freeAddress(w.t)}
	env := map[string]string{"PROMPTOPS_LISTEN": n.address}
	for _, settings := range []map[string]string{w.env, more} {
		for name, value := range settings {
			env[name] = value
		}
	}
	n.env = environment(env)
	w.nodes = append(w.nodes, n)
	w.t.Cleanup(func() {
		n.close()
		for _, word := range []string{"panic", "DATA RACE", "40P01", "run_not_recorded", "runs_lost"} { // 40P01: a deadlock
			if strings.Contains(n.errors.String(), word) || strings.Contains(n.said.String(), word) {
				w.t.Errorf("a node said %q", word)
			}
		}
		if w.t.Failed() {
			w.t.Logf("of the node %s\nstandard error:\n%.4000s\nwarnings:\n%.8000s", n.address, n.errors.String(), n.warnings())
		}
	})
	n.start()
	return n
}

// warnings are the log lines that are not of single runs.
func (n *node) warnings() string {
	var b strings.Builder
	for line := range strings.Lines(n.said.String()) {
		if !strings.Contains(line, `"level":"INFO"`) && !strings.Contains(line, `"event":"ai_run_error"`) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// addPeople signs learners up.
func (w *world) addPeople(n int) {
	w.t.Helper()
	for range n {
		p := &person{id: uuid.New()}
		email := p.id.String() + "@example.org"
		w.exec(`insert into auth.users (id, email) values ($1, $2)`, p.id, email)
		var err error
		p.token, err = learner.Mint(jwtSecret, learner.Issuer(""), learner.Learner{ID: p.id, Email: email}, time.Hour, time.Now())
		must(w.t, err)
		w.people = append(w.people, p)
	}
}

// addFallback adds a fallback key; an empty cap is none.
func (w *world) addFallback(providerID, monthlyCap string, priority int) {
	w.t.Helper()
	n := key.NewFallback{Provider: providerID, Label: "f" + uuid.NewString(), Secret: key.Secret("sandbox-" + uuid.NewString()), Priority: priority}
	if monthlyCap != "" {
		usd, err := price.ParseUSD(monthlyCap)
		must(w.t, err)
		n.MonthlyCapUSD = &usd
	}
	_, _, err := w.keys.AddFallback(w.ctx, n)
	must(w.t, err)
}

func (w *world) addUserKey(p *person, providerID string) {
	w.t.Helper()
	_, _, err := w.keys.AddUser(w.ctx, key.NewUser{LearnerID: p.id, Provider: providerID, Secret: key.Secret("sandbox-" + uuid.NewString())})
	must(w.t, err)
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.pool.Exec(w.ctx, sql, args...)
	must(w.t, err)
}

func value[T any](w *world, sql string, args ...any) (v T) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.ctx, sql, args...).Scan(&v); err != nil {
		w.t.Fatalf("%v\n%s", err, sql)
	}
	return v
}

// postmaster is the server's process.
func (w *world) postmaster() int {
	w.t.Helper()
	folder := value[string](w, `show data_directory`)
	content, err := os.ReadFile(filepath.Join(folder, "postmaster.pid"))
	must(w.t, err)
	line, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(line)
	must(w.t, err)
	return pid
}

// restart ends the database server, by SIGINT (fast) or SIGQUIT (at once, as in a
// crash), and returns when it is back.
func (w *world) restart(signal syscall.Signal) {
	w.t.Helper()
	pid := w.postmaster()
	must(w.t, syscall.Kill(pid, signal))
	w.awaitDatabase(pid)
}

func (w *world) awaitDatabase(old int) {
	w.t.Helper()
	folder := ""
	await(w.t, "the database is back", 2*time.Minute, func() bool {
		ctx, cancel := context.WithTimeout(w.ctx, 2*time.Second)
		defer cancel()
		if w.pool.QueryRow(ctx, `show data_directory`).Scan(&folder) != nil {
			return false
		}
		content, err := os.ReadFile(filepath.Join(folder, "postmaster.pid"))
		return err == nil && !strings.HasPrefix(string(content), strconv.Itoa(old)+"\n")
	})
}

// pause stops every process of the server that serves a client, and returns what
// lets them go on.
func (w *world) pause() (resume func()) {
	w.t.Helper()
	pids := []int{w.postmaster()} // first, so that no others come
	must(w.t, syscall.Kill(pids[0], syscall.SIGSTOP))
	rows, err := w.pool.Query(w.ctx, `select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`)
	must(w.t, err)
	others, err := pgx.CollectRows(rows, pgx.RowTo[int])
	must(w.t, err)
	for _, pid := range others {
		if syscall.Kill(pid, syscall.SIGSTOP) == nil { // it may have ended
			pids = append(pids, pid)
		}
	}
	resume = sync.OnceFunc(func() {
		for _, pid := range slices.Backward(pids) {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	})
	w.t.Cleanup(resume)
	return resume
}

// seen waits until every node has shown itself since the server came back. One
// that dies before is missed half a minute later only.
func (w *world) seen() {
	w.t.Helper()
	await(w.t, "the nodes are seen again", time.Minute, func() bool {
		return value[int](w, `select count(*) from ops.nodes where heartbeat_at > pg_postmaster_start_time()`) >= len(w.nodes)
	})
}

// settled waits until no run goes on any more.
func (w *world) settled() time.Duration {
	w.t.Helper()
	begin := time.Now()
	await(w.t, "no run is left running", 2*time.Minute, func() bool {
		return value[int](w, `select count(*) from public.prompt_runs where status = 'running'`) == 0
	})
	return time.Since(begin)
}

func await(t *testing.T, what string, within time.Duration, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, within)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
