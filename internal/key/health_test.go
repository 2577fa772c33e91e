package key

import (
	"bytes"
	"context"
	"errors"
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

	"github.com/promptcademy/promptops/internal/fault"
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

// A key that is refused is in its row when Saw returns; a free check decides.
func TestRefusedKeysAreChecked(t *testing.T) {
	w := newWard(t)
	ctx := within(t)
	dead, stray := w.fallback("openai", "sk-dead-0123456789"), w.fallback("openai", "sk-stray-0123456789")
	broke, rich := w.fallback("openai", "sk-broke-0123456789"), w.fallback("deepseek", "sk-rich-0123456789")
	own := addUser(t, w.store, NewUser{LearnerID: learner(t, w.pool), Provider: "openai", Label: "own", Secret: "sk-own-0123456789"})
	w.checks.set("sk-dead-0123456789", "401")
	w.checks.set("sk-own-0123456789", "401")
	w.checks.set("sk-rich-0123456789", `{"is_available":true}`)

	for _, k := range []Key{dead, stray, own} {
		w.Saw(ctx, k, refused(provider.ClassInvalidKey, 401))
		if got := w.get(k); got.Status == Healthy && k.ID != stray.ID {
			t.Errorf("%s is not suspended when Saw returns", k.Label)
		}
		if k.ID == dead.ID && !w.Suspended(k, time.Now()) {
			t.Error("this node does not know")
		}
	}
	for _, k := range []Key{broke, rich} {
		w.Saw(ctx, k, refused(provider.ClassBilling, 402))
	}
	w.Wait()
	w.expectStatus(dead, Invalid)
	w.expectStatus(stray, Healthy)
	w.expectStatus(broke, Billing)
	w.expectStatus(rich, Healthy)
	w.expectStatus(own, Invalid)
	w.expectEvents(dead, "attempt invalid_key 401 healthy→cooling run call-1", "probe invalid_key 401 cooling→invalid req-of-the-provider")
	w.expectEvents(stray, "attempt invalid_key 401 healthy→cooling run call-1", "probe cooling→healthy")
	w.expectEvents(broke, "attempt billing 402 healthy→cooling run call-1", "probe cooling→billing")
	w.expectEvents(own, "attempt invalid_key 401 healthy→cooling run call-1 owned", "probe invalid_key 401 cooling→invalid req-of-the-provider owned")

	// Facts that are a moment old do not bring a dead key back.
	if got := w.Apply(dead); got.Status != Invalid {
		t.Errorf("with old facts it is %s", got.Status)
	}
	if got := w.Apply(stray); got.Status != Healthy || got.Strikes != 1 {
		t.Errorf("with old facts it is %s after %d", got.Status, got.Strikes)
	}
	// And what came later by another way is not hidden by what this node knew.
	exec(t, w.pool, `update ops.fallback_keys set status = 'healthy' where id = $1`, dead.ID)
	if got := w.Apply(w.get(dead)); got.Status != Healthy {
		t.Errorf("enabled, it is %s", got.Status)
	}

	// The row says why, and the message is scrubbed.
	var class, message, reason string
	if err := w.pool.QueryRow(ctx, `select last_error_class, last_error_message, status_reason from public.user_api_keys where id = $1`, own.ID).Scan(&class, &message, &reason); err != nil {
		t.Fatal(err)
	}
	if class != "invalid_key" || !strings.Contains(message, "[key]") || reason == "" {
		t.Errorf("got %s, %q, %q", class, message, reason)
	}
	var everything string
	if err := w.pool.QueryRow(ctx, `
		select concat((select string_agg(e::text, E'\n') from ops.key_events e), (select string_agg(f::text, E'\n') from ops.fallback_keys f),
		              (select string_agg(u::text, E'\n') from public.user_api_keys u))`).Scan(&everything); err != nil {
		t.Fatal(err)
	}
	everything += w.said.String()
	for _, piece := range []string{"dead-0123", "stray-0123", "broke-0123", "own-0123", "rich-0123"} {
		if strings.Contains(strings.ReplaceAll(everything, "of sk-", ""), "not with sk-"+piece) {
			t.Errorf("a piece of a key is shown: %s", piece)
		}
	}
}

// Of a thousand 401s of one key one is looked into.
func TestRefusalsUnderWay(t *testing.T) {
	w := newWard(t)
	other := w.node(w.store)
	k := w.fallback("openai", "sk-dead-0123456789")
	w.checks.set("sk-dead-0123456789", "401")
	var all sync.WaitGroup
	for i := range 60 {
		h := []*Health{w.Health, other}[i%2]
		all.Go(func() { h.Saw(within(t), k, refused(provider.ClassInvalidKey, 401)) })
	}
	all.Wait()
	w.Wait()
	other.Wait()
	w.expectStatus(k, Invalid)
	if n := w.checks.count("sk-dead-0123456789"); n != 1 {
		t.Errorf("checked %d times", n)
	}
	w.expectEvents(k, "attempt invalid_key 401 healthy→cooling run call-1", "probe invalid_key 401 cooling→invalid req-of-the-provider")
	if len(w.exhausted) != 1 || strings.Count(w.said.String(), "fallback_keys_exhausted") != 1 {
		t.Errorf("told %v, logged %s", w.exhausted, w.said)
	}
}

// While the database is away a refused key is not used on this node, and Saw
// does not wait for long.
func TestRefusedWhileTheDatabaseIsAway(t *testing.T) {
	w := newWard(t)
	k := w.fallback("openai", "sk-dead-0123456789")
	tx, err := w.pool.Begin(within(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(within(t), `lock table ops.fallback_keys`); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	w.Saw(within(t), k, refused(provider.ClassInvalidKey, 401))
	if took := time.Since(started); took > 5*suspendPatience {
		t.Errorf("waited for %s", took)
	}
	if !w.Suspended(k, time.Now()) || w.Apply(k).Unusable("", time.Now()) != IsChecked {
		t.Errorf("it is %+v", w.Apply(k))
	}
	if err := tx.Rollback(within(t)); err != nil {
		t.Fatal(err)
	}
	w.Wait()
	w.expectStatus(k, Healthy) // written late, then checked
}

// Test answers what came of it, and never brings back what a person disabled.
func TestTest(t *testing.T) {
	w := newWard(t)
	ctx := within(t)
	operator := uuid.New()
	k := w.fallback("openai", "sk-one-0123456789")
	for _, c := range []struct {
		name, before, answer string
		ok                   bool
		class                provider.Class
		after                Status
		asked                int
	}{
		{"a good one", "healthy", "", true, "", Healthy, 1},
		{"a dead one", "healthy", "401", false, provider.ClassInvalidKey, Invalid, 2},
		{"dead already", "invalid", "401", false, provider.ClassInvalidKey, Invalid, 1},
		{"good again", "invalid", "", true, "", Healthy, 1},
		{"the provider is down", "healthy", "503", false, provider.ClassOverloaded, Healthy, 1},
		{"not allowed to list", "healthy", "403", false, provider.ClassPermission, Healthy, 1},
		{"disabled and good", "disabled", "", true, "", Disabled, 1},
		{"disabled and dead", "disabled", "401", false, provider.ClassInvalidKey, Disabled, 1},
		{"no answer that makes sense", "healthy", "<html>", false, provider.ClassProviderError, Healthy, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			exec(t, w.pool, `update ops.fallback_keys set status = $1, cooling_until = null, suspect = null, strikes = 0`, c.before)
			w.checks.set("sk-one-0123456789", c.answer)
			asked := w.checks.count("sk-one-0123456789")
			got, err := w.Test(ctx, Fallback, k.ID, &operator, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if got.OK != c.ok || got.Class != c.class || got.Status != c.after || got.Reason == "" || got.Latency <= 0 || (got.Message == "") != c.ok {
				t.Errorf("got %+v", got)
			}
			if n := w.checks.count("sk-one-0123456789") - asked; n != c.asked {
				t.Errorf("asked %d times", n)
			}
			w.expectStatus(k, c.after)
			var by *uuid.UUID
			if err := w.pool.QueryRow(ctx, `select operator_id from ops.key_events order by id desc limit 1`).Scan(&by); err != nil || by == nil || *by != operator {
				t.Errorf("by %v, %v", by, err)
			}
		})
	}
	if _, err := w.Test(ctx, Fallback, uuid.New(), nil, time.Now()); fault.KindOf(err) != fault.NotFound {
		t.Errorf("got %v", err)
	}
	if _, err := w.Test(ctx, User, k.ID, nil, time.Now()); fault.KindOf(err) != fault.NotFound {
		t.Errorf("got %v", err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := w.Test(canceled, Fallback, k.ID, nil, time.Now()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// What is due is checked by one node, whoever looks; what is not due by none.
func TestDueChecksAreMadeOnce(t *testing.T) {
	w := newWard(t)
	now := time.Now()
	var keys []Key
	for i := range 12 {
		secret := fmt.Sprintf("sk-due-%d-0123456789", i)
		w.checks.set(secret, "slow")
		keys = append(keys, w.fallback([]string{"openai", "groq"}[i%2], secret))
	}
	ada := learner(t, w.pool)
	for i := range 6 {
		secret := fmt.Sprintf("sk-own-%d-0123456789", i)
		w.checks.set(secret, "slow")
		keys = append(keys, addUser(t, w.store, NewUser{LearnerID: ada, Provider: "openai", Label: secret, Secret: Secret(secret)}))
	}
	exec(t, w.pool, `update ops.fallback_keys set status = 'invalid', next_probe_at = $1`, now)
	exec(t, w.pool, `update public.user_api_keys set status = 'cooling', suspect = 'rate_limited', cooling_until = $1, next_probe_at = $1`, now)
	disabled, later := w.fallback("groq", "sk-off-0123456789"), w.fallback("groq", "sk-later-0123456789")
	exec(t, w.pool, `update ops.fallback_keys set status = 'disabled', next_probe_at = $1 where id = $2`, now, disabled.ID)
	exec(t, w.pool, `update ops.fallback_keys set status = 'invalid', next_probe_at = $1 where id = $2`, now.Add(time.Hour), later.ID)
	nodes := []*Health{w.Health, w.node(w.store), w.node(w.store)}
	var all sync.WaitGroup
	for _, h := range nodes {
		all.Go(func() {
			for range 4 {
				if err := h.RunOnce(within(t), now); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, k := range keys {
		w.expectStatus(k, Healthy)
		secret, err := w.store.Open(k)
		if err != nil {
			t.Fatal(err)
		}
		if n := w.checks.count(secret.Reveal()); n != 1 {
			t.Errorf("%s was checked %d times", k.Label, n)
		}
	}
	w.expectStatus(disabled, Disabled)
	w.expectStatus(later, Invalid)
	if n := w.checks.count("sk-off-0123456789") + w.checks.count("sk-later-0123456789"); n != 0 {
		t.Errorf("%d checks that were not due", n)
	}
	if w.checks.most > 2*mostChecksPerProvider*len(nodes) {
		t.Errorf("%d checks at once", w.checks.most)
	}
}

// A node that dies in the middle of a check leaves a claim that runs out.
func TestClaimsRunOut(t *testing.T) {
	w := newWard(t)
	now := time.Now()
	k := w.fallback("openai", "sk-due-0123456789")
	exec(t, w.pool, `update ops.fallback_keys set status = 'invalid', next_probe_at = $1`, now)
	if claimed, err := w.store.claim(within(t), Fallback, now); err != nil || len(claimed) != 1 {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	w.once(now.Add(claimFor - time.Second))
	w.expectStatus(k, Invalid)
	w.once(now.Add(claimFor))
	w.expectStatus(k, Healthy)
}

// The last usable key of a provider does not go silently, and it is said once.
func TestExhaustion(t *testing.T) {
	w := newWard(t)
	ctx := within(t)
	now := time.Now()
	first, second := w.fallback("openai", "sk-first-0123456789"), w.fallback("openai", "sk-second-0123456789")
	w.fallback("groq", "sk-fine-0123456789")
	w.checks.set("sk-first-0123456789", "401")
	w.checks.set("sk-second-0123456789", "401")
	expect := func(exhausted, recovered int) {
		t.Helper()
		said := w.said.String()
		if len(w.exhausted) != exhausted || strings.Count(said, `"fallback_keys_exhausted"`) != exhausted || strings.Count(said, `"fallback_keys_recovered"`) != recovered {
			t.Errorf("told %v; %s", w.exhausted, said)
		}
	}
	test := func(k Key) {
		t.Helper()
		if _, err := w.Test(ctx, Fallback, k.ID, nil, now); err != nil {
			t.Fatal(err)
		}
	}
	test(first)
	expect(0, 0)
	test(second)
	expect(1, 0)
	test(second)
	w.once(now)
	expect(1, 0)
	w.checks.set("sk-second-0123456789", "")
	test(second)
	expect(1, 1)

	// What is done elsewhere is noticed by the loop: disabled, expired, deleted.
	nodes := []*Health{w.Health, w.node(w.store)}
	sweep := func() {
		t.Helper()
		now = now.Add(sweepEvery)
		var all sync.WaitGroup
		for _, h := range nodes {
			all.Go(func() {
				if err := h.RunOnce(ctx, now); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	exec(t, w.pool, `update ops.fallback_keys set status = 'disabled' where id = $1`, second.ID)
	sweep()
	expect(2, 1)
	exec(t, w.pool, `update ops.fallback_keys set status = 'healthy' where id = $1`, second.ID)
	sweep()
	expect(2, 2)
	exec(t, w.pool, `update ops.fallback_keys set expires_at = $2 where id = $1`, second.ID, now)
	sweep()
	expect(3, 2)
	exec(t, w.pool, `delete from ops.fallback_keys where provider = 'openai'`)
	sweep()
	expect(3, 2)

	// A short rest is no reason for alarm, a long one is.
	third := w.fallback("openai", "sk-third-0123456789")
	w.Saw(ctx, third, Observation{Kind: ByAttempt, At: now, StartedAt: now, Class: provider.ClassRateLimited, RetryAfter: time.Minute})
	w.Wait()
	expect(3, 2)
	w.Saw(ctx, third, Observation{Kind: ByAttempt, At: now, StartedAt: now, Class: provider.ClassRateLimited, RetryAfter: time.Hour})
	w.Wait()
	expect(4, 2)
	// When the hook fails, nothing is noted, and so it is told of it again.
	broken := w.node(w.store)
	broken.HealthOptions.Exhausted = func(context.Context, pgx.Tx, string, string) error { return errors.New("no alerts today") }
	exec(t, w.pool, `delete from ops.exhausted_providers`)
	if err := broken.sweep(ctx, now); err == nil {
		t.Error("the hook's failure is swallowed")
	}
	sweep()
	expect(5, 2)
}

// A key that was replaced is not used from that instant on, and disabled by the
// loop.
func TestRetirement(t *testing.T) {
	w := newWard(t)
	now := time.Now()
	k := w.fallback("openai", "sk-old-0123456789")
	exec(t, w.pool, `update ops.fallback_keys set retire_at = $1`, now.Add(time.Minute))
	w.once(now)
	k = w.expectStatus(k, Healthy)
	if k.Unusable("", now) != "" || k.Unusable("", now.Add(time.Minute)) != IsReplaced {
		t.Errorf("it can be used: %q, %q", k.Unusable("", now), k.Unusable("", now.Add(time.Minute)))
	}
	w.once(now.Add(time.Minute))
	w.expectStatus(k, Disabled)
	w.expectEvents(k, "clock healthy→disabled")
}

// A success costs nothing while all is well, and puts in order what is not.
func TestSuccess(t *testing.T) {
	w := newWard(t)
	ctx := within(t)
	k := w.fallback("openai", "sk-fine-0123456789")
	version := func() (v int64) {
		t.Helper()
		if err := w.pool.QueryRow(ctx, `select version from ops.facts_version`).Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	before := version()
	well := func() Observation { return Observation{Kind: ByAttempt, At: time.Now(), StartedAt: time.Now()} }
	if n := testing.AllocsPerRun(100, func() { w.Saw(ctx, k, well()) }); n > 0 {
		t.Errorf("a success allocates %v times", n)
	}
	w.Wait()
	if version() != before || len(w.events(k)) != 0 {
		t.Error("a success of a healthy key is written")
	}
	exec(t, w.pool, `update ops.fallback_keys set status = 'cooling', suspect = 'rate_limited', cooling_until = $1, strikes = 3, last_error_at = $1`, time.Now().Add(-time.Second))
	k, before = w.get(k), version()
	for range 5 {
		w.Saw(ctx, k, well())
	}
	w.Wait()
	if got := w.expectStatus(k, Healthy); got.Strikes != 0 || got.Suspect != "" {
		t.Errorf("got %+v", got)
	}
	w.expectEvents(k, "attempt cooling→healthy")
	if after := version(); after != before+1 {
		t.Errorf("the version of the facts went from %d to %d", before, after)
	}
}

// When a rest is over the loop checks the key at once; the next rest is longer all
// the same, since only a call shows that a limit is over.
func TestRestsAreFollowedByAFreeCheck(t *testing.T) {
	w := newWard(t)
	now := time.Now()
	k := w.fallback("openai", "sk-busy-0123456789")
	for _, want := range []time.Duration{limited, 2 * limited, 4 * limited} {
		w.Saw(within(t), w.get(k), Observation{Kind: ByAttempt, At: now, StartedAt: now, Class: provider.ClassRateLimited})
		w.Wait()
		w.once(now.Add(want - time.Second))
		if got := w.expectStatus(k, Cooling); got.CoolingUntil.Sub(now).Round(time.Millisecond) != want {
			t.Errorf("rests for %s, want %s", got.CoolingUntil.Sub(now), want)
		}
		now = now.Add(want + time.Second)
		if got := w.get(k); got.Unusable("", now) != "" {
			t.Error("on trial it cannot be used")
		}
		w.once(now)
		w.expectStatus(k, Healthy)
	}
	if n := w.checks.count("sk-busy-0123456789"); n != 3 {
		t.Errorf("checked %d times", n)
	}
}

// A check that hangs says nothing about the key, and it is not used until one does.
func TestChecksThatHang(t *testing.T) {
	w := newWard(t)
	k := w.fallback("openai", "sk-hang-0123456789")
	w.checks.set("sk-hang-0123456789", "hang")
	w.Saw(within(t), k, refused(provider.ClassInvalidKey, 401))
	got := w.expectStatus(k, Cooling)
	if got.Unusable("", time.Now()) != IsChecked {
		t.Errorf("it is %q", got.Unusable("", time.Now()))
	}
	started := time.Now()
	w.Stop()
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("stopping took %s", took)
	}
	w.expectStatus(k, Cooling)
	// The next start goes on where this one stopped.
	w.checks.set("sk-hang-0123456789", "401")
	if err := w.node(w.store).RunOnce(within(t), time.Now().Add(claimFor)); err != nil {
		t.Fatal(err)
	}
	w.expectStatus(k, Invalid)
}

// A provider that limits a thousand times a second is written down once.
func TestFloodsAreWrittenOnce(t *testing.T) {
	w := newWard(t)
	k := w.fallback("openai", "sk-busy-0123456789")
	now := time.Now()
	for i := range 1000 {
		at := now.Add(time.Duration(i) * time.Millisecond / 2)
		w.Saw(within(t), k, Observation{Kind: ByAttempt, At: at, StartedAt: at, Class: provider.ClassRateLimited, RetryAfter: time.Minute})
	}
	for i := range 1000 {
		at := now.Add(time.Duration(i) * time.Second / 10)
		w.Saw(within(t), k, Observation{Kind: ByAttempt, At: at, StartedAt: at, Class: provider.ClassPermission, HTTPStatus: 403})
	}
	w.Wait()
	if n := len(w.events(k)); n > 4 {
		t.Errorf("%d events: %v", n, w.events(k))
	}
	if n := w.checks.count("sk-busy-0123456789"); n > 1 {
		t.Errorf("checked %d times", n)
	}
}

// Faults of the provider rest a key only when most calls fail, for each class by
// itself, and an impatient caller is not one.
func TestStorms(t *testing.T) {
	now := time.Now()
	fail := func(class provider.Class, latency time.Duration) Observation {
		return Observation{Kind: ByAttempt, Class: class, Latency: latency}
	}
	well := fail("", 0)
	for _, c := range []struct {
		name  string
		calls []Observation
		every time.Duration
		rests bool
	}{
		{"four faults", []Observation{fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0)}, time.Second, false},
		{"five faults", []Observation{fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0)}, time.Second, true},
		{"five faults in five minutes", []Observation{fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0)}, time.Minute, false},
		{"of two classes", []Observation{fail(provider.ClassNetwork, 0), fail(provider.ClassOverloaded, 0), fail(provider.ClassNetwork, 0), fail(provider.ClassOverloaded, 0), fail(provider.ClassNetwork, 0)}, time.Second, false},
		{"as many successes", []Observation{fail(provider.ClassNetwork, 0), well, well, well, well, well, fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0), fail(provider.ClassNetwork, 0)}, time.Second, false},
		{"impatient callers", []Observation{fail(provider.ClassTimeout, time.Second), fail(provider.ClassTimeout, time.Second), fail(provider.ClassTimeout, time.Second), fail(provider.ClassTimeout, time.Second), fail(provider.ClassTimeout, time.Second), fail(provider.ClassTimeout, time.Second)}, time.Second, false},
		{"a provider that hangs", []Observation{fail(provider.ClassTimeout, time.Minute), fail(provider.ClassTimeout, time.Minute), fail(provider.ClassTimeout, time.Minute), fail(provider.ClassTimeout, time.Minute), fail(provider.ClassTimeout, time.Minute)}, time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, k := &mind{}, named(Fallback, "a", nil)
			rests := false
			for i, o := range c.calls {
				o.At = now.Add(time.Duration(i) * c.every)
				o.StartedAt = o.At
				v, _, _ := m.see(k, o)
				rests = rests || v.state.status == Cooling
			}
			if rests != c.rests {
				t.Errorf("rests: %v", rests)
			}
			m.forget(now.Add(time.Hour))
			if !m.empty() {
				t.Error("it is never forgotten")
			}
		})
	}
}

// Evidence that is too old goes, the other stays.
func TestOldEventsAreDeleted(t *testing.T) {
	w := newWard(t)
	now := time.Now()
	exec(t, w.pool, `
		insert into ops.key_events (at, key_source, key_id, provider, kind, from_status, to_status, reason)
		select $1::timestamptz - n * interval '1 day', 'fallback', gen_random_uuid(), 'openai', 'attempt', 'healthy', 'healthy', 'x'
		from generate_series(1, 200) n`, now)
	w.once(now)
	var left int
	if err := w.pool.QueryRow(within(t), `select count(*) from ops.key_events`).Scan(&left); err != nil || left != 180 {
		t.Errorf("%d left, %v", left, err)
	}
}
