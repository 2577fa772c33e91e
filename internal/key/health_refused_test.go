package key

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/provider"
)

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
