package run

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/provider/sandbox"
	"github.com/promptcademy/promptops/internal/seal"
)

// Keys as providers hand them out. No piece of one may ever be seen again.
var secrets = map[string]string{
	"openai":    "sk-proj-Q7w2ZxK9vB4nM1pL8sD3fG6hJ0tR5yC",
	"anthropic": "sk-ant-api03-U4eW8qX2zN7bV1mP6kF9dH3jL0sT5gA-9A",
	"google":    "AQ.Zb8RN6IvY3tW1qE9oU5pL2kJ7hG4fD0sA6zX",
	"mistral":   "sandbox-b5V2nC8xM1zL4kJ7hG0fD3sA6qW9eR",
	"user":      "sk-proj-T0yH4uJ8iK2oL6pM1nB5vC9xZ3aS7dF",
}

// world is everything a run needs, with a real database, a hostile provider
// that plays openai, anthropic and google, and the sandbox for the others.
type world struct {
	*Runner
	t      testing.TB
	ctx    context.Context // ends before a test can hang
	pool   *pgxpool.Pool
	double *double
	box    *sandbox.Server
	logs   *logs
	ada    uuid.UUID // a learner with an openai key of her own
	team   uuid.UUID // and a team
}

// makeWorld makes one. Models called good have prices, others have none.
func makeWorld(t testing.TB) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, pool: pgtest.Database(t), double: newDouble(t), logs: &logs{}, ada: uuid.New(), team: uuid.New()}
	log := slog.New(slog.NewJSONHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: eventName}))

	ringText, err := seal.NewRing()
	w.must(err)
	ring, err := seal.ParseRing(ringText)
	w.must(err)
	keys := key.NewStore(w.pool, ring)
	for _, id := range []string{"openai", "anthropic", "google", "mistral"} {
		_, _, err := keys.AddFallback(ctx, key.NewFallback{Provider: id, Label: "Main", Secret: key.Secret(secrets[id]), Sandbox: true})
		w.must(err)
	}
	w.exec(`insert into auth.users (id, email) values ($1, 'ada@example.org')`, w.ada)
	w.exec(`insert into public.teams (id, name) values ($1, 'Kitchen')`, w.team)
	w.exec(`insert into public.team_members (team_id, user_id) values ($1, $2)`, w.team, w.ada)
	_, _, err = keys.AddUser(ctx, key.NewUser{LearnerID: w.ada, Provider: "openai", Secret: key.Secret(secrets["user"])})
	w.must(err)
	w.exec(`
		insert into ops.model_prices (provider, model, input, output, cache_read, source)
		values ('openai', 'good', 0.123456789, 9.87654321, 0.000000001, 'test'),
		       ('anthropic', 'good', 3, 15, 0.3, 'test'),
		       ('google', 'good', 0, 0.1, null, 'test')`)
	prices := price.NewPrices(price.NewStore(w.pool), log)
	w.must(prices.RunOnce(ctx, time.Now()))

	w.box, err = sandbox.Start(ctx, "", sandbox.NoDelay)
	w.must(err)
	providers := provider.NewRegistry(provider.NewHTTPClient(), map[string]string{
		"openai": w.double.URL + "/openai/v1", "anthropic": w.double.URL + "/anthropic", "google": w.double.URL + "/google",
	})
	providers.UseSandbox(w.box.URL)
	_, err = EnsureMonths(ctx, w.pool, time.Now(), time.Now().Add(time.Hour)) // the month may end before the test does
	w.must(err)
	w.Runner = &Runner{
		Providers: providers, Keys: keys, Uses: key.NewUses(keys, log), Health: key.NewHealth(keys, key.HealthOptions{Log: log, Providers: providers, Now: time.Now}), Prices: prices,
		Store: NewStore(w.pool, StoreOptions{Log: log}), Log: log, Now: time.Now,
		Backoff: time.Millisecond,
	}
	t.Cleanup(func() { w.Health.Stop() })
	return w
}

// warm makes keys that cool usable again.
func (w *world) warm() {
	w.t.Helper()
	w.Health.Wait()
	w.Health = w.health()
	w.exec(`update ops.fallback_keys set status = 'healthy', cooling_until = null, suspect = null, strikes = 0, next_probe_at = null`)
	w.exec(`update public.user_api_keys set status = 'healthy', cooling_until = null, suspect = null, strikes = 0, next_probe_at = null`)
}

// health looks after keys without remembering anything.
func (w *world) health() *key.Health {
	return key.NewHealth(w.Keys, key.HealthOptions{Log: w.Log, Providers: w.Providers, Now: time.Now})
}

// node is another process on the same database.
func (w *world) node() *world {
	other, runner := *w, *w.Runner
	runner.Uses, runner.Health = key.NewUses(w.Keys, w.Log), w.health()
	runner.Store = NewStore(w.pool, StoreOptions{Log: w.Log, Zone: w.Store.zone})
	other.Runner = &runner
	return &other
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.pool.Exec(w.ctx, sql, args...)
	w.must(err)
}

// call is a call of ada's for these models.
func (w *world) call(models ...string) Call {
	return Call{ID: NewID(w.Now()), LearnerID: &w.ada, Request: Request{Prompt: "Explain RAG to a chef", Models: models}}
}

// run runs a call, which must not be an error.
func (w *world) run(call Call, listener Listener) Envelope {
	w.t.Helper()
	e, err := w.Run(w.ctx, call, listener)
	w.must(err)
	return e
}

func eventName(groups []string, attr slog.Attr) slog.Attr {
	if attr.Key == slog.MessageKey && len(groups) == 0 {
		attr.Key = "event"
	}
	return attr
}

// logs is what was logged.
type logs struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(line)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// of returns the events of one run, in order.
func (l *logs) of(t testing.TB, id uuid.UUID) []map[string]any {
	t.Helper()
	var events []map[string]any
	for line := range strings.Lines(l.String()) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("not JSON: %s", line)
		}
		if event["requestId"] == id.String() {
			events = append(events, event)
		}
	}
	return events
}

// checkSecrets checks that no piece of any key is in an answer, what is stored
// of it, what else is given, or the log.
func (w *world) checkSecrets(e Envelope, more ...any) {
	w.t.Helper()
	var rows string
	w.must(w.pool.QueryRow(w.ctx, `
		select concat((select r::text from public.prompt_runs r where id = $1),
		              (select string_agg(a::text, E'\n') from public.prompt_attempts a where run_id = $1),
		              (select c::text from public.prompt_contents c where run_id = $1))`, e.RequestID).Scan(&rows))
	if !strings.Contains(rows, e.RequestID.String()) {
		w.t.Fatal("nothing is stored")
	}
	shown := rows + w.logs.String() + encoded(w.t, e) + encoded(w.t, more)
	for name, secret := range secrets {
		secret = strings.TrimPrefix(secret, "sandbox-") // also a word
		for i := 0; i+6 <= len(secret); i++ {
			if at := strings.Index(shown, secret[i:i+6]); at >= 0 {
				w.t.Fatalf("%q of the key %s is shown: …%s…", secret[i:i+6], name, shown[max(0, at-200):min(len(shown), at+200)])
			}
		}
	}
}

func encoded(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// hearing is a Listener that notes what it hears. It has no lock: the race
// detector finds out when two calls come at once.
type hearing struct {
	started  []uuid.UUID
	deltas   map[string]string
	results  []Result
	order    []string // "start", "delta model", "result model"
	onResult func(Result)
	onDelta  func(model string)
}

func (h *hearing) Start(id uuid.UUID, _ bool) {
	h.started = append(h.started, id)
	h.order = append(h.order, "start")
}

func (h *hearing) Delta(model, text string) {
	if h.deltas == nil {
		h.deltas = map[string]string{}
	}
	h.deltas[model] += text
	h.order = append(h.order, "delta "+model)
	if h.onDelta != nil {
		h.onDelta(model)
	}
}

func (h *hearing) Result(result Result) {
	h.results = append(h.results, result)
	h.order = append(h.order, "result "+result.Model)
	if h.onResult != nil {
		h.onResult(result)
	}
}

// check compares what was heard with the answer.
func (h *hearing) check(t testing.TB, e Envelope) {
	t.Helper()
	if len(h.started) != 1 || h.started[0] != e.RequestID || h.order[0] != "start" {
		t.Errorf("started %v, in order %v", h.started, h.order)
	}
	if len(h.results) != len(e.Results) {
		t.Fatalf("heard %d results of %d", len(h.results), len(e.Results))
	}
	for _, result := range e.Results {
		i := slices.IndexFunc(h.results, func(r Result) bool { return r.Model == result.Model })
		if i < 0 || encoded(t, h.results[i]) != encoded(t, result) {
			t.Errorf("of %s was heard something else than answered:\n%s\n%s", result.Model, encoded(t, h.results), encoded(t, result))
		}
		text := ""
		if result.Output != nil {
			text = *result.Output
		}
		if h.deltas[result.Model] != text {
			t.Errorf("the deltas of %s make %.80q, its output is %.80q", result.Model, h.deltas[result.Model], text)
		}
		at := slices.Index(h.order, "result "+result.Model)
		if slices.Contains(h.order[at+1:], "delta "+result.Model) {
			t.Errorf("%s went on after its result", result.Model)
		}
	}
}

// resultOf is the result of one model.
func resultOf(t testing.TB, e Envelope, model string) Result {
	t.Helper()
	i := slices.IndexFunc(e.Results, func(r Result) bool { return r.Model == model })
	if i < 0 {
		t.Fatalf("no result of %s in %s", model, encoded(t, e))
	}
	return e.Results[i]
}

func describe(r Result) string {
	if r.Error == nil {
		return string(r.Status)
	}
	return fmt.Sprintf("%s %s %d after %d ms: %s", r.Status, r.Error.Class, r.Error.HTTPStatus, r.Error.RetryAfterMs, r.Error.Message)
}
