package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/load"
	"github.com/promptcademy/promptops/internal/postgres/embedded"
)

const (
	learners     = 50
	slowUpstream = 60 * time.Millisecond
	readyTimeout = 30 * time.Second
)

// world is everything that runs during a benchmark. The sandbox runs twice: at
// once, where openai, anthropic and google lead, and after 60 ms, where mistral
// leads.
type world struct {
	dir       string
	promptops string
	env       []string // of promptops
	postgres  *embedded.Server
	processes []*process // in the order in which they were started
	proxy     *process
	server    *process
	metrics   string // address of the server's metrics, if it serves them

	unrecorded *process // the same server, built without recording

	direct, proxied, oneModel, threeModels []load.Request // to what answers at once
	oneUnrecorded                          []load.Request
	directSlow, oneSlow                    []load.Request // to what answers after 60 ms

	runs, attempts int64 // acknowledged
}

// newWorld sets everything up. What it returns is to be closed even if there is
// an error.
func newWorld(ctx context.Context, s settings, r *report) (*world, error) {
	w := &world{}
	progress("setting up")
	var err error
	if w.dir, err = os.MkdirTemp("", "promptops-bench-"); err != nil {
		return w, err
	}
	if err := os.Chmod(w.dir, 0o755); err != nil { // the database server's user passes through
		return w, err
	}
	if w.promptops, err = filepath.Abs(s.promptops); err != nil {
		return w, err
	}
	unrecorded, err := filepath.Abs(s.unrecorded)
	if err != nil {
		return w, err
	}
	if err := w.measureEmptyStart(ctx, r); err != nil {
		return w, fmt.Errorf("start on an empty folder: %w", err)
	}
	if w.postgres, err = embedded.Start(ctx, embedded.Options{Dir: filepath.Join(w.dir, "postgres")}); err != nil {
		return w, err
	}

	fast, err := w.startSandbox(s.sandbox, 0)
	if err != nil {
		return w, err
	}
	slow, err := w.startSandbox(s.sandbox, slowUpstream)
	if err != nil {
		return w, err
	}
	self, err := os.Executable()
	if err != nil {
		return w, err
	}
	proxy, proxyURL, err := startPrinting(exec.Command(self, proxyCommand, fast))
	if err != nil {
		return w, err
	}
	w.processes, w.proxy = append(w.processes, proxy), proxy

	ours, err := freeAddress()
	if err != nil {
		return w, err
	}
	if w.metrics, err = freeAddress(); err != nil {
		return w, err
	}
	w.env = environment(map[string]string{
		"DATABASE_URL":             w.postgres.URL(),
		"PROMPTOPS_MASTER_KEYS":    "1:" + randomText(),
		"SUPABASE_JWT_SECRET":      randomText(),
		"PROMPTOPS_LISTEN":         ours,
		"PROMPTOPS_METRICS_LISTEN": w.metrics,
		"OPENAI_BASE_URL":          fast + "/openai/v1",
		"ANTHROPIC_BASE_URL":       fast + "/anthropic",
		"GEMINI_BASE_URL":          fast + "/google",
		"MISTRAL_BASE_URL":         slow + "/mistral/v1",
	})
	people, err := w.fillIn(ctx)
	if err != nil {
		return w, err
	}
	without, err := freeAddress()
	if err != nil {
		return w, err
	}
	if err := w.prepareRequests(ctx, fast, proxyURL, slow, "http://"+ours, "http://"+without, people); err != nil {
		return w, err
	}

	log, err := os.OpenFile(s.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return w, err
	}
	defer log.Close()
	if _, err := w.serve(ctx, unrecorded, append(slices.Clone(w.env), "PROMPTOPS_LISTEN="+without, "PROMPTOPS_METRICS_LISTEN="), without, log); err != nil {
		return w, fmt.Errorf("without recording: %w", err)
	}
	w.unrecorded = w.server
	took, err := w.serve(ctx, w.promptops, w.env, ours, log)
	if err != nil {
		return w, err
	}
	r.add(figureStart, milliseconds(took))
	time.Sleep(time.Second) // what a start leaves behind
	if idle, ok := memory(w.server.pid(), "VmRSS"); ok {
		r.add(figureMemoryIdle, idle)
	}
	return w, nil
}

// close ends every process and removes what was written.
func (w *world) close() error {
	var problems []error
	for _, p := range slices.Backward(w.processes) {
		problems = append(problems, p.stop())
	}
	if w.postgres != nil {
		problems = append(problems, w.postgres.Stop(), os.RemoveAll(w.postgres.Dir()))
	}
	return errors.Join(append(problems, os.RemoveAll(w.dir))...)
}

func (w *world) startSandbox(binary string, latency time.Duration) (url string, err error) {
	box, url, err := startPrinting(exec.Command(binary, "-latency", latency.String()))
	if err == nil {
		w.processes = append(w.processes, box)
	}
	return url, err
}

// measureEmptyStart starts the server without any database and data.
func (w *world) measureEmptyStart(ctx context.Context, r *report) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	env := environment(map[string]string{"PROMPTOPS_DATA_DIR": filepath.Join(w.dir, "empty"), "PROMPTOPS_LISTEN": address})
	took, err := w.serve(ctx, w.promptops, env, address, nil)
	if err != nil {
		return err
	}
	r.add(figureStartEmpty, milliseconds(took))
	w.processes = w.processes[:len(w.processes)-1]
	_ = w.server.stop() // it is still busy with its first start, so it does not end well
	return nil
}

// serve starts the server and says how long it took until it was ready.
func (w *world) serve(ctx context.Context, binary string, env []string, address string, log io.Writer) (time.Duration, error) {
	cmd := exec.Command(binary, "serve")
	cmd.Env, cmd.Dir, cmd.Stdout = env, w.dir, log
	begin := time.Now()
	server, err := start(cmd)
	if err != nil {
		return 0, err
	}
	w.processes, w.server = append(w.processes, server), server
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		select {
		case <-server.exited:
			return 0, errors.New("promptops serve ended before it was ready")
		case <-ctx.Done():
			return 0, fmt.Errorf("promptops serve is not ready: %w", ctx.Err())
		case <-time.After(time.Millisecond):
			if _, err := get(ctx, "http://"+address+"/readyz"); err == nil {
				return time.Since(begin), nil
			}
		}
	}
}

// command runs a command of promptops to its end and returns what it prints.
func (w *world) command(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, w.promptops, args...)
	cmd.Env, cmd.Dir, cmd.Stdin = w.env, w.dir, strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("promptops %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// person is a learner who runs prompts.
type person struct{ token, team, prompt string }

// fillIn makes the schema, keys, learners in teams, and their tokens.
func (w *world) fillIn(ctx context.Context) ([]person, error) {
	if _, err := w.command(ctx, "", "migrate"); err != nil {
		return nil, err
	}
	for i, provider := range []string{"openai", "openai", "anthropic", "google", "mistral", "mistral"} {
		label := fmt.Sprintf("bench %d", i)
		if _, err := w.command(ctx, "sandbox-"+rand.Text(), "key", "add", "--provider", provider, "--label", label); err != nil {
			return nil, err
		}
	}
	conn, err := pgx.Connect(ctx, w.postgres.URL())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range []string{
		`insert into auth.users (id, aud, role, email, created_at)
		 select gen_random_uuid(), 'authenticated', 'authenticated', 'learner' || n || '@bench.test', now()
		 from generate_series(0, $1::int - 1) n`,
		`insert into public.teams (name) select 'Team ' || n from generate_series(1, $1::int / 10) n`,
		`insert into public.team_members (team_id, user_id)
		 select t.id, u.id
		 from (select id, row_number() over (order by email) n from auth.users) u
		 join (select id, row_number() over (order by name) n from public.teams) t on u.n % ($1::int / 10) = t.n - 1`,
	} {
		if _, err := conn.Exec(ctx, sql, learners); err != nil {
			return nil, err
		}
	}
	rows, err := conn.Query(ctx, `
		select u.email, m.team_id::text
		from auth.users u
		join public.team_members m on m.user_id = u.id
		order by u.email`)
	if err != nil {
		return nil, err
	}
	var people []person
	var email, team string
	_, err = pgx.ForEachRow(rows, []any{&email, &team}, func() error {
		token, err := w.command(ctx, "", "token", "--learner", email, "--ttl", "2h")
		people = append(people, person{token, team, promptOf(len(people))})
		return err
	})
	return people, err
}

// promptOf makes a prompt for each learner: short, but not the same.
func promptOf(n int) string {
	topics := []string{"retrieval-augmented generation", "temperature and top-p", "few-shot examples", "why models hallucinate", "how tokens are counted"}
	readers := []string{"a chef", "a bus driver", "a school class", "my grandmother", "a lawyer", "a new colleague", "a football team", "a nurse", "a poet", "a beekeeper"}
	return fmt.Sprintf("Explain %s to %s in five short steps, each with an example from their own day.", topics[n%len(topics)], readers[n/len(topics)%len(readers)])
}

// prepareRequests writes down what will be sent to whom. The calls to the sandbox
// are those that promptops makes.
func (w *world) prepareRequests(ctx context.Context, fast, proxy, slow, ours, unrecorded string, people []person) error {
	type object map[string]any
	var problems []error
	add := func(list *[]load.Request, url, token string, body object, want string) {
		payload, err := json.Marshal(body)
		if err != nil {
			problems = append(problems, err)
			return
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(payload))
		if err != nil {
			problems = append(problems, err)
			return
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		request, err := load.NewRequest(r, want)
		problems = append(problems, err)
		*list = append(*list, request)
	}
	for i, who := range people {
		messages := []object{{"role": "user", "content": who.prompt}}
		openAI := object{"model": "gpt-5-mini", "messages": messages, "temperature": 0.7, "max_completion_tokens": 512}
		mistral := object{"model": "mistral-small-2603", "messages": messages, "temperature": 0.7, "max_tokens": 512}
		const answered = `"finish_reason":"stop"`
		add(&w.direct, fast+"/openai/v1/chat/completions", "sandbox-bench", openAI, answered)
		add(&w.proxied, proxy+"/openai/v1/chat/completions", "sandbox-bench", openAI, answered)
		add(&w.directSlow, slow+"/mistral/v1/chat/completions", "sandbox-bench", mistral, answered)

		run := func(list *[]load.Request, where string, models ...string) {
			body := object{"prompt": who.prompt, "models": models, "config": object{"temperature": 0.7, "maxTokens": 512}}
			if i%2 == 0 {
				body["teamId"] = who.team
			}
			// Of the whole envelope: an attempt's status is "ok", and quotes in an
			// output are escaped.
			add(list, where+"/api/ai/run", who.token, body, `"status":"success"`)
		}
		run(&w.oneUnrecorded, unrecorded, "openai/gpt-5-mini")
		run(&w.oneModel, ours, "openai/gpt-5-mini")
		run(&w.threeModels, ours, "openai/gpt-5-mini", "anthropic/claude-haiku-5-5", "google/gemini-3.8-flash")
		run(&w.oneSlow, ours, "mistral/mistral-small-2603")
	}
	return errors.Join(problems...)
}

// acknowledged notes runs whose answer said that they are recorded.
func (w *world) acknowledged(r *load.Result, models int64) {
	w.runs += r.Answered
	w.attempts += r.Answered * models
}

// checkRows compares what was acknowledged with what is in the database.
func (w *world) checkRows(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, w.postgres.URL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var runs, attempts, contents, all int64
	err = conn.QueryRow(ctx, `
		select (select count(*) from public.prompt_runs where status = 'success'),
		       (select count(*) from public.prompt_attempts where status = 'ok' and cost_usd > 0),
		       (select count(*) from public.prompt_contents),
		       (select count(*) from public.prompt_runs)`).Scan(&runs, &attempts, &contents, &all)
	if err != nil {
		return err
	}
	if runs != w.runs || attempts != w.attempts || contents != w.runs || all != w.runs {
		return fmt.Errorf("acknowledged were %d runs with %d attempts; recorded are %d runs, %d of them as successful, with %d attempts and %d contents",
			w.runs, w.attempts, all, runs, attempts, contents)
	}
	progress("all %d runs that were acknowledged, with their %d attempts, are in the database", runs, attempts)
	return nil
}

// mallocs is how many objects the server has allocated since its start, if it
// serves metrics.
func (w *world) mallocs(ctx context.Context) (n float64, ok bool) {
	metrics, err := get(ctx, "http://"+w.metrics+"/metrics")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(metrics) {
		if value, found := strings.CutPrefix(line, "go_memstats_mallocs_total "); found {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return n, err == nil
		}
	}
	return 0, false
}

// cpuOfPostgres is the processor time of the database server, all processes
// together.
func (w *world) cpuOfPostgres() (seconds float64, ok bool) {
	file, err := os.ReadFile(filepath.Join(w.postgres.Dir(), "data/postmaster.pid"))
	if err != nil {
		return 0, false
	}
	first, _, _ := strings.Cut(string(file), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return 0, false
	}
	return cpuWithChildren(pid)
}

// get reads what is at an address, if it answers with status 200.
func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s", url, answer.Status)
	}
	return string(body), err
}

// freeAddress is one that nobody listens on, and that no connection which is made
// before it is used is given: those have higher ports.
func freeAddress() (string, error) {
	var err error
	for range 100 {
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+mathrand.IntN(10_000))); err == nil {
			return listener.Addr().String(), listener.Close()
		}
	}
	return "", err
}

// environment is that of a program: what every shell has, and ours.
func environment(ours map[string]string) []string {
	for _, name := range []string{"PATH", "HOME", "PG_BIN"} {
		ours[name] = os.Getenv(name)
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		list = append(list, name+"="+ours[name])
	}
	return list
}

// randomText is 32 random bytes in base64.
func randomText() string {
	var bits [32]byte
	_, _ = rand.Read(bits[:]) // never fails
	return base64.StdEncoding.EncodeToString(bits[:])
}
