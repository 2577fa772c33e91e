package handlers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/activity"
	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/demo"
	"github.com/promptcademy/promptops/internal/drift"
	"github.com/promptcademy/promptops/internal/eventlog"
	"github.com/promptcademy/promptops/internal/history"
	"github.com/promptcademy/promptops/internal/incident"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/learner"
	"github.com/promptcademy/promptops/internal/notify"
	"github.com/promptcademy/promptops/internal/outreach"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/provider/sandbox"
	"github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/internal/runbook"
	"github.com/promptcademy/promptops/internal/seal"
	"github.com/promptcademy/promptops/internal/team"
	"github.com/promptcademy/promptops/internal/telemetry"
	"github.com/promptcademy/promptops/internal/usage"
	"github.com/promptcademy/promptops/internal/view"
	"github.com/promptcademy/promptops/static"
)

const (
	jwtSecret   = "a secret of the tests, which is long enough to sign with"
	frontend    = "https://learn.example.org" // the origin that CORS lets in
	openAIModel = "openai/gpt-5-mini"
)

// site is the program as its clients see it: the real handlers behind a real
// socket, on a database of the test's own, with a sandbox for the providers.
type site struct {
	*handlers.Server
	t       testing.TB
	URL     string
	DB      *pgxpool.Pool
	Keys    *key.Store
	Book    *price.Book
	Sandbox *sandbox.Server
	Clock   *clock
	Events  *events
}

// newSite starts a site without data. change, if given, may replace what the
// handlers are made of before they are put together.
func newSite(t testing.TB, change ...func(*handlers.Server)) *site {
	t.Helper()
	ctx := t.Context()
	s := &site{t: t, DB: pgtest.Database(t), Clock: newClock(), Events: &events{}}
	log := s.Events.logger()

	ring, err := seal.NewRing()
	must(t, err)
	keyRing, err := seal.ParseRing(ring)
	must(t, err)
	s.Keys = key.NewStore(s.DB, keyRing)

	priceStore := price.NewStore(s.DB)
	_, err = priceStore.Seed(ctx)
	must(t, err)
	prices := price.NewPrices(priceStore, log)
	must(t, prices.RunOnce(ctx, s.Clock.Now()))
	s.Book = prices.Book()

	_, err = run.EnsureMonths(ctx, s.DB, s.Clock.Now(), s.Clock.Now())
	must(t, err)
	verifier, err := learner.NewVerifier(ctx, learner.Options{JWTSecret: jwtSecret})
	must(t, err)
	assets, err := static.Load()
	must(t, err)

	s.Sandbox, err = sandbox.Start(ctx, "", sandbox.NoDelay)
	must(t, err)
	providers := provider.NewRegistry(provider.NewHTTPClient(), nil)
	providers.UseSandbox(s.Sandbox.URL)

	channels := notify.NewStore(s.DB, keyRing, notify.Options{AllowPrivate: true})
	ownKeys := key.NewOwnKeys(s.Keys, providers, log)
	health := key.NewHealth(s.Keys, key.HealthOptions{Log: log, Providers: providers, Now: s.Clock.Now})
	server := httptest.NewUnstartedServer(nil)
	s.URL = "http://" + server.Listener.Addr().String()
	s.Server = &handlers.Server{
		Accounts: account.NewStore(s.DB, log),
		Sessions: account.NewSessions(s.DB, account.SessionOptions{Now: s.Clock.Now}),
		Teams:    team.NewStore(s.DB),
		Learners: learner.NewStore(s.DB),
		Verifier: verifier,
		Runner: &run.Runner{
			Providers: providers, Keys: s.Keys, Uses: key.NewUses(s.Keys, log), Health: health, Prices: prices,
			Store: run.NewStore(s.DB, run.StoreOptions{Log: log}), Log: log, Now: s.Clock.Now, Backoff: time.Millisecond,
		},
		OwnKeys: ownKeys, TestKey: health.Test, Audit: audit.NewStore(s.DB), Incidents: incident.NewStore(s.DB), Logs: eventlog.NewStore(postgres.NewReader(s.DB), 30), Drift: drift.NewStore(s.DB),
		Endpoints: provider.NewEndpoints(s.DB, providers, log), Fallbacks: key.NewFallbacks(s.DB, keyRing, time.UTC),
		Providers: providers, Prices: prices, PriceStore: priceStore, PriceJobs: price.NewJobs(s.DB, postgres.NewReader(s.DB), time.UTC), Budgets: run.NewBudgetStore(s.DB, time.UTC), Usage: usage.NewStore(postgres.NewReader(s.DB)), History: history.NewStore(postgres.NewReader(s.DB)), Activity: activity.NewStore(postgres.NewReader(s.DB)), Views: view.NewStore(s.DB), Demo: demo.NewStore(s.DB, keyRing, time.UTC), Assets: assets,
		Outreach: outreach.NewStore(s.DB, postgres.NewReader(s.DB), time.UTC), Channels: channels, Notifications: notify.NewDispatcher(channels, log),
		Metrics: telemetry.NewMetrics("test", telemetry.NewModels(func(string, string) bool { return true }), nil),
		Runbook: runbook.NewStore(s.DB), Checks: runbook.NewBoard(liveChecks(s.DB, s.Clock.Now), log, s.Clock.Now),
		Ready: func(ctx context.Context) error { return s.DB.Ping(ctx) },
		Log:   log, Now: s.Clock.Now, Zone: time.UTC,
		BaseURL: s.URL, CORSOrigins: []string{frontend},
	}
	t.Cleanup(health.Stop)
	for _, c := range change {
		c(s.Server)
	}
	if s.Runner != nil && s.Runner.Health != health {
		t.Cleanup(s.Runner.Health.Stop)
	}
	server.Config.Handler = asDescribed(t, s.Handler())
	server.Start()
	t.Cleanup(server.Close)
	return s
}

// withDemo fills in the demo data.
func (s *site) withDemo() *site {
	s.t.Helper()
	must(s.t, s.Demo.Load(s.t.Context(), s.Book, s.Clock.Now()))
	return s
}

// withKeys stores a fallback key for each provider given, which opens the
// sandbox.
func (s *site) withKeys(providers ...string) *site {
	s.t.Helper()
	for _, id := range providers {
		_, _, err := s.Keys.AddFallback(s.t.Context(), key.NewFallback{
			Provider: id, Label: id, Secret: key.Secret("sandbox-" + id + "-of-the-tests"), Sandbox: true,
		})
		must(s.t, err)
	}
	return s
}

// learner makes an account of the platform.
func (s *site) learner(email string) uuid.UUID {
	s.t.Helper()
	id := uuid.New()
	_, err := s.DB.Exec(s.t.Context(), `insert into auth.users (id, aud, role, email) values ($1, 'authenticated', 'authenticated', $2)`, id, email)
	must(s.t, err)
	return id
}

// token is an access token of a learner, whether or not there is such an account.
func (s *site) token(id uuid.UUID) string {
	s.t.Helper()
	token, err := learner.Mint(jwtSecret, "", learner.Learner{ID: id}, time.Hour, s.Clock.Now())
	must(s.t, err)
	return token
}

// ownKey gives a learner a key of their own, which opens the sandbox.
func (s *site) ownKey(id uuid.UUID, providerID string) {
	s.t.Helper()
	stored, _, err := s.Keys.AddUser(s.t.Context(), key.NewUser{LearnerID: id, Provider: providerID, Label: "mine", Secret: "sandbox-of-a-learner"})
	must(s.t, err)
	_, err = s.DB.Exec(s.t.Context(), `insert into ops.demo_records (kind, id) values ('user_key', $1)`, stored.ID)
	must(s.t, err)
}

// operator makes an operator; password may be empty. A team lead gets a learner
// account to be.
func (s *site) operator(email string, role account.Role, password string) account.Operator {
	s.t.Helper()
	n := account.NewOperator{Email: email, Name: "", Role: role, Password: password}
	if role == account.RoleTeamLead {
		id := s.learner("learner-" + email)
		n.LearnerID = &id
	}
	operator, err := s.Accounts.Create(s.t.Context(), audit.CommandLine, n, s.Clock.Now())
	must(s.t, err)
	return operator
}

// leadOf is a team lead of new teams with these names.
func (s *site) leadOf(email string, names ...string) (lead account.Operator, teams []uuid.UUID) {
	s.t.Helper()
	lead = s.operator(email, account.RoleTeamLead, "")
	for _, name := range names {
		id := s.team(name)
		s.join(id, *lead.LearnerID, "lead")
		teams = append(teams, id)
	}
	return lead, teams
}

// team makes a team without members.
func (s *site) team(name string) (id uuid.UUID) {
	s.t.Helper()
	must(s.t, s.DB.QueryRow(s.t.Context(), `insert into public.teams (name) values ($1) returning id`, name).Scan(&id))
	return id
}

// join makes a learner "lead" or "member" of a team.
func (s *site) join(teamID, learnerID uuid.UUID, role string) {
	s.t.Helper()
	_, err := s.DB.Exec(s.t.Context(), `
		insert into public.team_members (team_id, user_id, role) values ($1, $2, $3)
		on conflict (team_id, user_id) do update set role = excluded.role`, teamID, learnerID, role)
	must(s.t, err)
}

// session signs an operator in without the form and returns the cookie.
func (s *site) session(operator account.Operator) *http.Cookie {
	s.t.Helper()
	answer := httptest.NewRecorder()
	must(s.t, s.Sessions.Start(answer, httptest.NewRequest(http.MethodPost, "/", nil), operator, s.Clock.Now()))
	return answer.Result().Cookies()[0]
}

// visitor is a browser: it keeps cookies and does not follow redirects.
type visitor struct {
	t    testing.TB
	site *site
	http.Client
}

func (s *site) visitor(cookies ...*http.Cookie) *visitor {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	must(s.t, err)
	v := &visitor{t: s.t, site: s}
	v.Jar = jar
	v.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	request, err := http.NewRequest(http.MethodGet, s.URL, nil)
	must(s.t, err)
	jar.SetCookies(request.URL, cookies)
	return v
}

// as is a visitor who is signed in.
func (s *site) as(role account.Role) *visitor {
	s.t.Helper()
	return s.visitor(s.session(s.operator(strings.ToLower(uuid.NewString())+"@example.org", role, "")))
}

func (v *visitor) get(path string, header ...string) reply {
	v.t.Helper()
	return v.send(http.MethodGet, path, nil, header...)
}

// post sends a form: "name", "value", …
func (v *visitor) post(path, form string, header ...string) reply {
	v.t.Helper()
	return v.send(http.MethodPost, path, strings.NewReader(form), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, header...)...)
}

// send sends a request with header lines "Name", "value", …
func (v *visitor) send(method, path string, body io.Reader, header ...string) reply {
	v.t.Helper()
	request, err := http.NewRequestWithContext(v.t.Context(), method, v.site.URL+path, body)
	must(v.t, err)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := v.Do(request)
	must(v.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(v.t, err)
	return reply{response, string(text)}
}

// reply is a response whose body has been read.
type reply struct {
	*http.Response
	Text string
}

func (r reply) wants(t testing.TB, status int) reply {
	t.Helper()
	if r.StatusCode != status {
		t.Errorf("%s %s: status %d, want %d; body:\n%.2000s", r.Request.Method, r.Request.URL.RequestURI(), r.StatusCode, status, r.Text)
	}
	return r
}

func (r reply) shows(t testing.TB, pieces ...string) reply {
	t.Helper()
	for _, piece := range pieces {
		if !strings.Contains(r.Text, piece) {
			t.Errorf("%s %s does not show %q; body:\n%.3000s", r.Request.Method, r.Request.URL.RequestURI(), piece, r.Text)
		}
	}
	return r
}

// setCookie is the cookie of that name that the answer sets, nil if it does not.
func (r reply) setCookie(name string) *http.Cookie {
	for _, cookie := range r.Cookies() {
		if cookie.Name == name {
			return cookie
		}
	}
	return nil
}

// clock runs from a fixed moment and can be put forward.
type clock struct {
	start time.Time
	began time.Time

	mu    sync.Mutex
	ahead time.Duration
}

// newClock starts at noon, so that no test crosses midnight.
func newClock() *clock {
	return &clock{start: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), began: time.Now()}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.start.Add(time.Since(c.began) + c.ahead)
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// events is the log of a site.
type events struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (e *events) Write(line []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lines.Write(line)
}

func (e *events) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(e, nil)) }

// Text is all that was logged.
func (e *events) Text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lines.String()
}

// Of returns the events about a request.
func (e *events) Of(t testing.TB, requestID string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(e.Text()) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("a line of the log is not JSON: %q", line)
		}
		if event["requestId"] == requestID {
			found = append(found, event)
		}
	}
	return found
}

// eventually polls until done says so.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// loseDatabase makes every further query fail as if the server were away.
func (s *site) loseDatabase() { s.DB.Close() }
