package key

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/provider"
)

// checks plays the key check of every OpenAI-style provider: what it answers is
// set by secret.
type checks struct {
	*httptest.Server
	mu     sync.Mutex
	answer map[string]string // "401", "500", "hang", a body; else the list of models
	asked  map[string]int
	most   int // checks at the same time
	now    int
}

func newChecks(t testing.TB) *checks {
	t.Helper()
	c := &checks{answer: map[string]string{}, asked: map[string]int{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(func() {
		c.CloseClientConnections()
		c.Close()
	})
	return c
}

func (c *checks) set(secret, answer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer[secret] = answer
}

func (c *checks) count(secret string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[secret]
}

func (c *checks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secret := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	c.mu.Lock()
	answer := c.answer[secret]
	c.asked[secret]++
	c.now++
	c.most = max(c.most, c.now)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.now--
	}()
	var status int
	switch _, err := fmt.Sscanf(answer, "%d", &status); {
	case answer == "hang":
		<-r.Context().Done()
	case answer == "slow":
		time.Sleep(20 * time.Millisecond)
		_, _ = io.WriteString(w, `{"data":[]}`)
	case err == nil && status != 0:
		w.Header().Set("X-Request-Id", "req-of-the-provider")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"message":"No, not with %s"}}`, secret)
	case answer != "":
		_, _ = io.WriteString(w, answer)
	default:
		_, _ = io.WriteString(w, `{"data":[]}`)
	}
}

// ward is what a Health looks after.
type ward struct {
	*Health
	t      testing.TB
	pool   *pgxpool.Pool
	checks *checks
	said   *lockedBuffer

	mu        sync.Mutex
	exhausted []string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWard(t testing.TB) *ward {
	t.Helper()
	w := &ward{t: t, pool: pgtest.Database(t), checks: newChecks(t), said: &lockedBuffer{}}
	w.Health = w.node(NewStore(w.pool, ring(t, oldKey)))
	return w
}

// node is one more process that looks after the same keys.
func (w *ward) node(s *Store) *Health {
	overrides := map[string]string{}
	for _, id := range []string{"openai", "deepseek", "openrouter", "groq"} {
		overrides[id] = w.checks.URL
	}
	h := NewHealth(s, HealthOptions{
		Log: slog.New(slog.NewJSONHandler(w.said, nil)), Providers: provider.NewRegistry(provider.NewHTTPClient(), overrides), Now: time.Now,
		Exhausted: func(ctx context.Context, tx pgx.Tx, provider, why string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.exhausted = append(w.exhausted, provider+": "+why)
			_, err := tx.Exec(ctx, `select 1`)
			return err
		},
	})
	w.t.Cleanup(h.Stop)
	return h
}

func (w *ward) fallback(provider, secret string) Key {
	w.t.Helper()
	return addFallback(w.t, w.store, NewFallback{Provider: provider, Label: "of " + secret, Secret: Secret(secret)})
}

// get reads a key's row.
func (w *ward) get(k Key) Key {
	w.t.Helper()
	found, err := w.store.find(within(w.t), k.Source, k.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

func (w *ward) once(now time.Time) {
	w.t.Helper()
	if err := w.RunOnce(within(w.t), now); err != nil {
		w.t.Fatal(err)
	}
}

// refused is what a call sees that the provider refuses now.
func refused(class provider.Class, status int) Observation {
	run := uuid.New()
	return Observation{Kind: ByAttempt, At: time.Now(), StartedAt: time.Now(), Class: class, HTTPStatus: status, Message: "No.", RunID: &run, ProviderCall: "call-1"}
}

// events is the evidence of a key, in order.
func (w *ward) events(k Key) []string {
	w.t.Helper()
	rows, err := w.pool.Query(within(w.t), `
		select concat_ws(' ', kind, class, http_status, from_status || '→' || to_status, case when run_id is not null then 'run' end,
		                 provider_request_id, case when user_id is not null then 'owned' end)
		from ops.key_events where key_id = $1 and reason <> '' order by id`, k.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	said, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.t.Fatal(err)
	}
	return said
}

func (w *ward) expectEvents(k Key, want ...string) {
	w.t.Helper()
	if got := strings.Join(w.events(k), "\n"); got != strings.Join(want, "\n") {
		w.t.Errorf("%s has the evidence\n%s\nwant\n%s", k.Label, got, strings.Join(want, "\n"))
	}
}

func (w *ward) expectStatus(k Key, want Status) Key {
	w.t.Helper()
	got := w.get(k)
	if got.Status != want {
		w.t.Errorf("%s is %s, want %s: %v", k.Label, got.Status, want, w.events(k))
	}
	return got
}
