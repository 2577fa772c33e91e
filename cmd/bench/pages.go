package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/load"
	"github.com/promptcademy/promptops/internal/postgres/embedded"
)

// pagesCommand measures pages in place of the run endpoint.
const pagesCommand = "pages"

// pageSettings of a benchmark of pages.
type pageSettings struct {
	promptops string
	sandbox   string
	data      string // folder to keep databases in; "": they are thrown away
	sizes     []int  // attempts, smallest first
	learners  int
	teams     int
	requests  int // of each page
	only      string
	heavy     time.Duration // of each measurement of runs beside pages; 0: none
	log       string
}

func pagesMain(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("bench pages", flag.ExitOnError)
	var s pageSettings
	set.StringVar(&s.promptops, "promptops", "bin/promptops", "the binary to measure")
	set.StringVar(&s.sandbox, "sandbox", "bin/sandbox", "the binary of internal/provider/sandbox/run")
	set.StringVar(&s.data, "data", "", "folder to keep the databases in, to be used again; none: they are thrown away")
	set.IntVar(&s.learners, "learners", 20_000, "how many learners")
	set.IntVar(&s.teams, "teams", 500, "how many teams")
	set.IntVar(&s.requests, "requests", 40, "how often each page is asked for")
	set.StringVar(&s.only, "only", "", "only pages whose address contains one of these, separated by commas")
	set.DurationVar(&s.heavy, "heavy", 6*time.Second, "time of each of the rounds in which runs are measured beside heavy pages; 0: none")
	set.StringVar(&s.log, "log", os.DevNull, "file for the server's log lines")
	sizes := set.String("sizes", "100000,1000000,10000000", "numbers of attempts, separated by commas")
	short := set.Bool("short", false, "-sizes 20000,100000 -heavy 2s")
	if err := set.Parse(args); err != nil {
		return err
	}
	if *short {
		*sizes, s.heavy = "20000,100000", 2*time.Second
	}
	for text := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 {
			return fmt.Errorf("%q is no number of attempts", text)
		}
		s.sizes = append(s.sizes, n)
	}
	slices.Sort(s.sizes)
	if set.NArg() > 0 || s.requests < 1 {
		set.Usage()
		os.Exit(2)
	}
	r := pageReport{sizes: s.sizes}
	var err error
	for i, size := range s.sizes {
		if err = measurePages(ctx, s, size, i == len(s.sizes)-1, &r); err != nil {
			err = fmt.Errorf("with %d attempts: %w", size, err)
			break
		}
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	return errors.Join(err, r.print(os.Stdout))
}

// measurePages fills a database, starts the server on it and asks for every page.
func measurePages(ctx context.Context, s pageSettings, size int, last bool, r *pageReport) (err error) {
	w, server, err := newPageWorld(ctx, s, size)
	defer func() { err = errors.Join(err, w.close()) }()
	if err != nil {
		return err
	}
	views, err := viewsOf(handlers.Pages(), w.facts, s.only)
	if err != nil {
		return err
	}
	admin, err := w.signIn(ctx, server, "--email", "admin@bench.test", "--role", "admin")
	if err != nil {
		return err
	}
	lead, err := w.signIn(ctx, server, "--email", "lead@bench.test", "--role", "team_lead", "--learner", w.facts["lead-email"])
	if err != nil {
		return err
	}
	progress("%d attempts: %d pages", size, len(views))
	for _, v := range views {
		browser := admin
		if v.lead {
			browser = lead
		}
		t, err := browser.measure(ctx, v.address, s.requests)
		if err != nil {
			return err
		}
		r.add(v, size, t)
	}
	if last && s.heavy > 0 {
		return w.besidePages(ctx, s, server, admin, r)
	}
	return nil
}

// pageWorld is a server with a database full of demo data.
type pageWorld struct {
	world
	kept  bool
	facts map[string]string // what addresses are made of, see viewsOf
}

func newPageWorld(ctx context.Context, s pageSettings, size int) (w *pageWorld, address string, err error) {
	w = &pageWorld{}
	if w.dir, err = os.MkdirTemp("", "promptops-bench-"); err != nil {
		return w, "", err
	}
	if err := os.Chmod(w.dir, 0o755); err != nil { // the database server's user passes through
		return w, "", err
	}
	if w.promptops, err = filepath.Abs(s.promptops); err != nil {
		return w, "", err
	}
	folder := filepath.Join(w.dir, "postgres")
	if s.data != "" {
		if folder, err = filepath.Abs(filepath.Join(s.data, strconv.Itoa(size))); err != nil {
			return w, "", err
		}
		w.kept = true
	}
	if w.postgres, err = embedded.Start(ctx, embedded.Options{Dir: folder}); err != nil {
		return w, "", err
	}
	box, err := w.startSandbox(s.sandbox, 0)
	if err != nil {
		return w, "", err
	}
	listen, err := freeAddress()
	if err != nil {
		return w, "", err
	}
	w.env = environment(map[string]string{
		"DATABASE_URL": w.postgres.URL(), "PROMPTOPS_MASTER_KEYS": masterKeys, "SUPABASE_JWT_SECRET": randomText(),
		"PROMPTOPS_LISTEN": listen, "OPENAI_BASE_URL": box + "/openai/v1",
	})
	if err := w.fillPages(ctx, s, size); err != nil {
		return w, "", err
	}
	log, err := os.OpenFile(s.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return w, "", err
	}
	defer log.Close()
	if _, err := w.serve(ctx, w.promptops, w.env, listen, log); err != nil {
		return w, "", err
	}
	return w, "http://" + listen, w.settled(ctx)
}

// masterKeys seal the keys of databases that are kept, so they are always the same;
// what they seal opens nothing but the sandbox.
const masterKeys = "1:cHJvbXB0b3BzIGJlbmNoIG9mIHBhZ2VzLCAzMiBieXQ="

// close leaves a database that is to be used again.
func (w *pageWorld) close() error {
	if !w.kept {
		return w.world.close()
	}
	var problems []error
	for _, p := range slices.Backward(w.processes) {
		problems = append(problems, p.stop())
	}
	if w.postgres != nil {
		problems = append(problems, w.postgres.Stop())
	}
	return errors.Join(append(problems, os.RemoveAll(w.dir))...)
}

// fillPages fills in the demo, unless it is there, and what runs of our own need.
func (w *pageWorld) fillPages(ctx context.Context, s pageSettings, size int) error {
	if _, err := w.command(ctx, "", "migrate"); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, w.postgres.URL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var there bool
	if err := conn.QueryRow(ctx, `select exists (select from ops.demo_records)`).Scan(&there); err != nil {
		return err
	}
	if !there {
		progress("%d attempts: making them", size)
		cmd := exec.CommandContext(ctx, w.promptops, "demo", "load", "--attempts", strconv.Itoa(size),
			"--learners", strconv.Itoa(s.learners), "--teams", strconv.Itoa(s.teams))
		cmd.Env, cmd.Dir, cmd.Stderr = w.env, w.dir, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("promptops demo load: %w", err)
		}
	}
	for _, sql := range []string{
		`update ops.fallback_keys set status = 'disabled' where label like 'Demo %'`, // the sandbox within the server is slow on purpose
		`delete from ops.fallback_keys where label like 'bench %'`,
		`delete from ops.operators where email like '%@bench.test'`,
		fmt.Sprintf(`
			insert into auth.users (id, aud, role, email, created_at)
			select gen_random_uuid(), 'authenticated', 'authenticated', 'learner' || n || '@bench.test', now()
			from generate_series(1, %d) n
			where not exists (select from auth.users where email = 'learner' || n || '@bench.test')`, benchLearners),
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	for i := range 2 {
		if _, err := w.command(ctx, "sandbox-"+randomText(), "key", "add", "--provider", "openai", "--label", fmt.Sprintf("bench %d", i)); err != nil {
			return err
		}
	}
	w.facts, err = readFacts(ctx, conn)
	return err
}

// settled waits until what nodes keep ready for pages is there.
func (w *pageWorld) settled(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, w.postgres.URL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		var done bool
		err := conn.QueryRow(ctx, `
			select exists (select from ops.key_health_days where day >= current_date)
			   and (exists (select from ops.fallback_stretch where learners)
			        or (select count(*) < 1000 from (select from auth.users limit 1000) x)
			           and (select count(*) < 50000 from (select from public.prompt_attempts where created_at > now() - interval '14 days' limit 50000) x))
			   and not exists (select from ops.usage_marks where slot < now() - interval '2 hours')`).Scan(&done)
		if err != nil || done {
			return err
		}
	}
	return errors.New("the sums that pages read have not been made within three minutes")
}

// browser is somebody who is signed in.
type browser struct {
	client *http.Client
	server string
}

// signIn makes an operator, unless there is one, and goes through the one-time link.
func (w *pageWorld) signIn(ctx context.Context, server string, operator ...string) (*browser, error) {
	link, err := w.command(ctx, "", append([]string{"operator", "add", "--link"}, operator...)...)
	if err != nil {
		return nil, err
	}
	_, token, found := strings.Cut(link, "/sign-in/link/")
	if !found {
		return nil, fmt.Errorf("promptops operator add printed no link: %q", link)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	b := &browser{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, server}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, server+"/sign-in/link/"+strings.TrimSpace(token), nil)
	if err != nil {
		return nil, err
	}
	answer, err := b.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusSeeOther {
		return nil, fmt.Errorf("signing in was answered with %s", answer.Status)
	}
	return b, nil
}

// measure asks for a page again and again, less often if it takes very long. The
// first answers are not counted.
func (b *browser) measure(ctx context.Context, address string, times int) (pageTime, error) {
	var h load.Histogram
	var t pageTime
	for n, begin := 0, time.Now(); n < times+uncounted && (h.Count() < 3 || time.Since(begin) < longEnough); n++ {
		took, status, err := b.get(ctx, address)
		if err != nil {
			return t, err
		}
		if n < uncounted {
			continue
		}
		if status != http.StatusOK && status != http.StatusSeeOther {
			t.refused = status
		}
		h.Record(took)
	}
	t.p50, t.p95 = h.Quantile(0.5), h.Quantile(0.95)
	return t, nil
}

const (
	uncounted  = 2
	longEnough = 10 * time.Second
)

// get asks for a page and says how long it took until all of it was there.
func (b *browser) get(ctx context.Context, address string) (took time.Duration, status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.server+address, nil)
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	answer, err := b.client.Do(request)
	if err != nil {
		return 0, 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return time.Since(begin), answer.StatusCode, err
}
