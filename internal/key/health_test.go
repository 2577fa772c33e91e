package key

import (
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/provider"
)

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
