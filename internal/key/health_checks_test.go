package key

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/provider"
)

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
