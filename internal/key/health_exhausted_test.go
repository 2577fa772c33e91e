package key

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/provider"
)

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
