package main

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/internal/runbook"
	"github.com/promptcademy/promptops/internal/seal"
)

// looked is what the checks of a test look at.
type looked struct {
	checked
	t   *testing.T
	url string
}

func look(t *testing.T) *looked {
	t.Helper()
	address := pgtest.URL(t)
	l := &looked{t: t, url: address}
	open := func() *pgxpool.Pool {
		pool, err := postgres.Open(t.Context(), address, postgres.Options{MaxConns: 2})
		must(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	ring, err := seal.ParseRing(newRing(t))
	must(t, err)
	l.checked = checked{
		pool: open(), pages: open(), runs: open(), ring: ring, http: provider.NewHTTPClient(),
		providers: provider.NewRegistry(provider.NewHTTPClient(), nil), zone: time.UTC, now: time.Now,
	}
	_, err = run.EnsureMonths(t.Context(), l.pool, time.Now(), time.Now().AddDate(0, 3, 0))
	must(t, err)
	return l
}

func (l *looked) exec(sql string) {
	l.t.Helper()
	_, err := l.pages.Exec(l.t.Context(), sql)
	must(l.t, err)
}

// key stores a fallback key of OpenAI.
func (l *looked) key(sandbox bool) {
	l.t.Helper()
	_, _, err := key.NewStore(l.pages, l.ring).AddFallback(l.t.Context(), key.NewFallback{
		Provider: "openai", Label: "main", Secret: "sandbox-of-the-tests", Sandbox: sandbox,
	})
	must(l.t, err)
}

// reddened breaks, for each check, what it looks at. A check that is not here
// cannot land: nobody has seen it find anything.
var reddened = map[string]func(l *looked){
	"fallback-keys": func(l *looked) {
		l.key(true)
		l.exec(`update ops.fallback_keys set status = 'billing'`)
	},
	"run-errors": func(l *looked) {
		l.exec(`
			insert into public.prompt_attempts (run_id, ordinal, created_at, provider, model, status, error_class)
			select gen_random_uuid(), 0, now(), 'openai', 'openai/gpt-5-mini', 'error', 'timeout' from generate_series(1, 6)`)
	},
	"learners-without-keys": func(l *looked) {
		l.exec(`
			insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, provider, model, status, error_class)
			values (gen_random_uuid(), 0, now(), gen_random_uuid(), 'openai', 'openai/gpt-5-mini', 'error', 'missing_key')`)
	},
	"budget-today": func(*looked) {}, // there is no budget
	"rls-errors": func(l *looked) {
		l.exec(`
			insert into ops.rls_errors (slot, source, reason, object, role, message, first_at, last_at, n)
			values (date_bin('5 minutes', now(), 'epoch'), 'pool', 'grant', 'table teams', 'authenticated', 'permission denied for table teams', now(), now(), 6)`)
	},
	"rls-drift": func(l *looked) { l.exec(`alter policy teams_select on public.teams using (true)`) },
	"latency-p95": func(l *looked) {
		l.exec(`
			with run as (
			  insert into public.prompt_runs (id, created_at, operator_id, models, status, finished_at, duration_ms)
			  select gen_random_uuid(), now(), gen_random_uuid(), '{openai/gpt-5-mini}', 'success', now(), 16000 from generate_series(1, 20)
			  returning id, created_at
			)
			insert into public.prompt_attempts (run_id, ordinal, created_at, provider, model, status)
			select id, 0, created_at, 'openai', 'openai/gpt-5-mini', 'ok' from run`)
	},
	"provider-reachability": func(l *looked) {
		closed := httptest.NewServer(nil)
		closed.Close()
		l.providers = provider.NewRegistry(provider.NewHTTPClient(), map[string]string{"openai": closed.URL})
		l.key(false)
	},
	"database": func(l *looked) { l.pool.Close() },
	"connection-pool": func(l *looked) {
		for range 2 {
			conn, err := l.pages.Acquire(l.t.Context())
			must(l.t, err)
			l.t.Cleanup(conn.Release)
		}
	},
	"partitions": func(l *looked) {
		next := time.Now().UTC().AddDate(0, 0, -time.Now().UTC().Day()+1).AddDate(0, 1, 0)
		l.exec(`drop table ops.prompt_contents` + next.Format("_2006_01"))
	},
	"replication": func(l *looked) {
		l.exec(`select pg_create_physical_replication_slot('gone', true)`)
		l.t.Cleanup(func() {
			pool, err := postgres.Open(context.Background(), l.url, postgres.Options{})
			must(l.t, err)
			defer pool.Close()
			_, err = pool.Exec(context.Background(), `select pg_drop_replication_slot('gone')`)
			must(l.t, err)
		})
	},
	"newest-backup": func(*looked) {}, // there is none that we know of
	"migrations":    func(l *looked) { l.exec(`delete from ops.schema_migrations where version_id = 13`) },
	"master-keys": func(l *looked) {
		l.key(true)
		ring, err := seal.ParseRing(newRing(l.t))
		must(l.t, err)
		l.ring = ring
	},
	"clock": func(l *looked) {
		// A clock that is put back, as this database sees it: in front of the real one.
		l.exec(`create schema slow; create function slow.clock_timestamp() returns timestamptz language sql as $$ select pg_catalog.clock_timestamp() - interval '1 minute' $$`)
		pool, err := postgres.Open(l.t.Context(), l.url, postgres.Options{Session: `set search_path = slow, pg_catalog, public`})
		must(l.t, err)
		l.t.Cleanup(pool.Close)
		l.pool = pool
	},
}

// The table itself: what every row must have and do.
func TestEveryCheck(t *testing.T) {
	rows := checks(checked{})
	placed := map[string]bool{}
	for _, p := range runbook.BuiltIn() {
		all := runbook.Render(p.Markdown, runbook.Places{Page: func(string) bool { return true }, Check: func(string) bool { return true }})
		for _, id := range all.Checks {
			placed[id] = true
		}
	}
	known := map[string]bool{}
	for _, row := range rows {
		if known[row.ID] {
			t.Errorf("there are two checks %q", row.ID)
		}
		known[row.ID] = true
		if row.Title == "" || row.Fix.Text == "" || row.Run == nil || (row.Fix.Href == "") != (row.Fix.Label == "") || row.Fix.Href != "" && !strings.HasPrefix(row.Fix.Href, "/") {
			t.Errorf("%s: the row is not whole: %+v", row.ID, row.Fix)
		}
		if !placed[row.ID] {
			t.Errorf("%s stands in no procedure: write {{check %q}} where it helps", row.ID, row.ID)
		}
		breaks, ok := reddened[row.ID]
		if !ok {
			t.Errorf("%s: say in reddened how to make it red", row.ID)
			continue
		}
		t.Run(row.ID, func(t *testing.T) {
			t.Parallel()
			l := look(t)
			breaks(l)
			check := checkOf(t, checks(l.checked), row.ID)
			reading, err := check.Run(t.Context())
			if err != nil || reading.Verdict == runbook.OK || reading.Value == "" || reading.Detail == "" {
				t.Errorf("broken, and it says %+v, %v", reading, err)
			}

			done := make(chan struct{})
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			go func() {
				defer close(done)
				if reading, err := check.Run(cancelled); err == nil && reading.Verdict == runbook.OK {
					t.Errorf("cancelled, and it is good: %+v", reading)
				}
			}()
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Error("it does not return when it is cancelled")
			}
		})
	}
	for id := range placed {
		if !known[id] {
			t.Errorf("a procedure places %q, which is no check", id)
		}
	}
}

func checkOf(t *testing.T, rows []runbook.Check, id string) runbook.Check {
	t.Helper()
	i := slices.IndexFunc(rows, func(c runbook.Check) bool { return c.ID == id })
	if i < 0 {
		t.Fatalf("there is no check %s", id)
	}
	return rows[i]
}

// What is in order is good, where there is something to see.
func TestChecksOfASoundSystem(t *testing.T) {
	l := look(t)
	provides := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/models" || r.Header.Get("Authorization") != "" {
			t.Errorf("asked for %s with %v", r.URL, r.Header)
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(provides.Close)
	l.providers = provider.NewRegistry(l.http, map[string]string{"openai": provides.URL + "/v1"})
	l.key(false)
	must(t, run.NewBudgetStore(l.pages, time.UTC).Seed(t.Context(), run.Budgets{DailyUSD: dollars("25"), FallbackMaxTokens: run.DefaultFallbackMaxTokens}))
	for _, check := range checks(l.checked) {
		reading, err := check.Run(t.Context())
		want := runbook.OK
		if check.ID == "newest-backup" {
			want = runbook.Unknown
		}
		if err != nil || reading.Verdict != want {
			t.Errorf("%s: %+v, %v", check.ID, reading, err)
		}
	}
}

// signedIn is a browser that used the first sign-in link.
func (s *served) signedIn() *http.Client {
	s.t.Helper()
	s.eventually("the sign-in link", func() bool { return signInLink.MatchString(s.stderr.String()) })
	jar, err := cookiejar.New(nil)
	must(s.t, err)
	browser := &http.Client{Jar: jar, Timeout: time.Minute}
	response, err := browser.PostForm(s.URL+signInLink.FindString(s.stderr.String()), url.Values{})
	must(s.t, err)
	must(s.t, response.Body.Close())
	return browser
}

// reader opens pages of the runbook.
type reader struct {
	*served
	browser *http.Client
}

func (r reader) open(path string) (status int, text string, took time.Duration) {
	r.t.Helper()
	began := time.Now()
	response, err := r.browser.Get(r.URL + path)
	must(r.t, err)
	defer response.Body.Close()
	text = body(r.t, response)
	return response.StatusCode, text, time.Since(began)
}

// reads opens pages and wants each of the pieces on each.
func (r reader) reads(when string, pieces ...string) {
	r.t.Helper()
	for _, path := range []string{"/runbook", "/runbook/slow-runs", "/runbook/print"} {
		status, text, took := r.open(path)
		if status != http.StatusOK || took > 20*time.Second {
			r.t.Errorf("%s, %s: status %d after %s", when, path, status, took)
		}
		for _, piece := range pieces {
			if !strings.Contains(text, piece) {
				r.t.Errorf("%s: %s does not show %q:\n%.3000s", when, path, piece, text)
			}
		}
	}
}

const builtInText = "The built-in text: the database does not answer, edits are not shown."

func (r reader) recovers() {
	r.t.Helper()
	r.eventually("the runbook as it is in the database", func() bool {
		status, text, _ := r.open("/runbook?recheck=all")
		return status == http.StatusOK && !strings.Contains(text, builtInText) && strings.Contains(text, "Answers in")
	})
}

// The page is opened while every process of the database is paused.
func TestRunbookWhileTheDatabaseIsPaused(t *testing.T) {
	data := filepath.Join(openDir(t), "data")
	s := serveWith(t, environment{"PROMPTOPS_DATA_DIR": data}).ready()
	r := reader{s, s.signedIn()}
	r.reads("at first", "Good", "Answers in")

	server := postmaster(t, data)
	all := append(children(t, server), server)
	resume := func() {
		for _, pid := range all {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	t.Cleanup(resume)
	for _, pid := range all {
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	r.reads("paused", builtInText, "No answer in time", "The database answers", "Act now")
	resume()
	r.recovers()
}

// The same while the way to the database is cut, and while it is slow.
func TestRunbookWhileTheDatabaseIsStoppedAndSlow(t *testing.T) {
	const password = "nine lorries of marzipan"
	env := onDatabase(t)
	promptops(t, env, password+"\n", "operator", "add", "--email", "marta@example.org").exits(t, 0)
	address, err := url.Parse(env["DATABASE_URL"])
	must(t, err)
	line := newLine(t, address.Host)
	address.Host = line.listener.Addr().String()
	env["DATABASE_URL"] = address.String()
	s := serveWith(t, env).ready()
	jar, err := cookiejar.New(nil)
	must(t, err)
	r := reader{s, &http.Client{Jar: jar, Timeout: time.Minute}}
	response, err := r.browser.PostForm(s.URL+"/sign-in", url.Values{"email": {"marta@example.org"}, "password": {password}})
	must(t, err)
	must(t, response.Body.Close())
	r.reads("at first", "Good", "Answers in")

	line.cut()
	r.reads("stopped", builtInText, "Does not answer", "Act now")
	line.mend()
	r.recovers()
	line.slowDown(700 * time.Millisecond)
	r.reads("slow", "The database answers")
	line.slowDown(0)
	r.recovers()
}

func body(t *testing.T, response *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	return string(text)
}

// children are the processes that a process has started.
func children(t *testing.T, parent int) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			must(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}
