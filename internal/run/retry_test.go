package run

import (
	"strings"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/provider"
)

// The table of PRODUCT.md §3, row by row.
func TestDecide(t *testing.T) {
	failure := func(class provider.Class, status int, retryAfter time.Duration) *provider.Failure {
		return &provider.Failure{Class: class, HTTPStatus: status, RetryAfter: retryAfter}
	}
	const plenty = time.Minute
	for _, c := range []struct {
		name string
		s    situation
		want Action
		wait time.Duration
	}{
		{"401, another key", situation{failure: failure(provider.ClassInvalidKey, 401, 0), moreKeys: true, left: plenty}, NextKey, 0},
		{"401, no other", situation{failure: failure(provider.ClassInvalidKey, 401, 0), left: plenty}, GiveUp, 0},
		{"Gemini's bad key is a 400", situation{failure: failure(provider.ClassInvalidKey, 400, 0), moreKeys: true, left: plenty}, NextKey, 0},
		{"403", situation{failure: failure(provider.ClassPermission, 403, 0), moreKeys: true, left: plenty}, NextKey, 0},
		{"402", situation{failure: failure(provider.ClassBilling, 402, 0), moreKeys: true, left: plenty}, NextKey, 0},
		{"402, no other", situation{failure: failure(provider.ClassBilling, 402, 0), left: plenty}, GiveUp, 0},
		{"billing by 429 never waits", situation{failure: failure(provider.ClassBilling, 429, time.Second), left: plenty}, GiveUp, 0},
		{"billing by 429, another key", situation{failure: failure(provider.ClassBilling, 429, time.Second), moreKeys: true, left: plenty}, NextKey, 0},
		{"a key that cannot be opened", situation{failure: failure(provider.ClassMissingKey, 0, 0), moreKeys: true, left: plenty}, NextKey, 0},

		{"429, another key", situation{failure: failure(provider.ClassRateLimited, 429, 2*time.Second), moreKeys: true, left: plenty}, NextKey, 0},
		{"429, no other, it fits", situation{failure: failure(provider.ClassRateLimited, 429, 2*time.Second), left: plenty}, Again, 2 * time.Second},
		{"429, waited once already", situation{failure: failure(provider.ClassRateLimited, 429, 2*time.Second), waited: true, left: plenty}, GiveUp, 0},
		{"429, it does not fit", situation{failure: failure(provider.ClassRateLimited, 429, 2*time.Second), left: 2 * time.Second}, GiveUp, 0},
		{"429 without a hint", situation{failure: failure(provider.ClassRateLimited, 429, 0), left: plenty}, GiveUp, 0},

		{"500", situation{failure: failure(provider.ClassProviderError, 500, 0), moreKeys: true, left: plenty}, Again, 100 * time.Millisecond},
		{"500, the second retry", situation{failure: failure(provider.ClassProviderError, 500, 0), retries: 1, left: plenty}, Again, 200 * time.Millisecond},
		{"500 after two retries", situation{failure: failure(provider.ClassProviderError, 500, 0), retries: 2, moreKeys: true, left: plenty}, GiveUp, 0},
		{"503 with Retry-After", situation{failure: failure(provider.ClassOverloaded, 503, 3*time.Second), left: plenty}, Again, 3 * time.Second},
		{"529", situation{failure: failure(provider.ClassOverloaded, 529, 0), left: plenty}, Again, 100 * time.Millisecond},
		{"the provider's own timeout", situation{failure: failure(provider.ClassTimeout, 504, 0), left: plenty}, Again, 100 * time.Millisecond},
		{"a broken connection", situation{failure: failure(provider.ClassNetwork, 0, 0), left: plenty}, Again, 100 * time.Millisecond},
		{"no time left", situation{failure: failure(provider.ClassNetwork, 0, 0), left: 100 * time.Millisecond}, GiveUp, 0},

		{"our own timeout", situation{failure: failure(provider.ClassTimeout, 0, 0), left: 0}, GiveUp, 0},
		{"400", situation{failure: failure(provider.ClassBadRequest, 400, 0), moreKeys: true, left: plenty}, GiveUp, 0},
		{"404", situation{failure: failure(provider.ClassNotFound, 404, 0), moreKeys: true, left: plenty}, GiveUp, 0},
		{"too long", situation{failure: failure(provider.ClassContextLength, 413, 0), moreKeys: true, left: plenty}, GiveUp, 0},
		{"blocked", situation{failure: failure(provider.ClassContentFilter, 400, 0), moreKeys: true, left: plenty}, GiveUp, 0},
		{"408 is a 4xx", situation{failure: failure(provider.ClassTimeout, 408, 0), left: plenty}, GiveUp, 0},
		{"nonsense with status 200", situation{failure: failure(provider.ClassProviderError, 200, 0), left: plenty}, GiveUp, 0},

		{"a byte was streamed", situation{failure: failure(provider.ClassProviderError, 500, 0), moreKeys: true, streamed: true, left: plenty}, GiveUp, 0},
		{"the caller left", situation{failure: failure(provider.ClassCancelled, 0, 0), moreKeys: true, left: plenty}, GiveUp, 0},
		{"the server stops", situation{failure: failure(provider.ClassInterrupted, 0, 0), moreKeys: true, left: plenty}, GiveUp, 0},
	} {
		c.s.backoff, c.s.jitter = 100*time.Millisecond, 0.5
		got := decide(c.s)
		if got.action != c.want || got.wait != c.wait || got.reason == "" {
			t.Errorf("%s: %s after %s because %q, want %s after %s", c.name, got.action, got.wait, got.reason, c.want, c.wait)
		}
	}
}

// Whatever happens, an attempt comes to an end: no chain of failures makes more
// tries than keys and retries allow.
func TestDecideEnds(t *testing.T) {
	for _, class := range []provider.Class{provider.ClassRateLimited, provider.ClassProviderError, provider.ClassNetwork, provider.ClassInvalidKey} {
		status := map[provider.Class]int{provider.ClassRateLimited: 429, provider.ClassProviderError: 500, provider.ClassInvalidKey: 401}[class]
		s := situation{failure: &provider.Failure{Class: class, HTTPStatus: status, RetryAfter: time.Millisecond}, left: time.Hour}
		tries := 1
		for ; tries < 10; tries++ {
			d := decide(s)
			if d.action == GiveUp {
				break
			}
			if class == provider.ClassRateLimited {
				s.waited = true
			}
			s.retries++
		}
		if want := map[provider.Class]int{provider.ClassRateLimited: 2, provider.ClassInvalidKey: 1}[class]; tries != max(want, 1) && tries != 1+maxRetries {
			t.Errorf("%s: %d tries", class, tries)
		}
	}
}

func TestBackoffVariesAndGrows(t *testing.T) {
	for retries := range 3 {
		low, high := situation{backoff: time.Second, retries: retries}, situation{backoff: time.Second, retries: retries, jitter: 1}
		if low.pause() != time.Duration(0.75*float64(time.Second<<retries)) || high.pause() != time.Duration(1.25*float64(time.Second<<retries)) {
			t.Errorf("retry %d pauses %s to %s", retries, low.pause(), high.pause())
		}
	}
}

// What a key is refused for, another one is used for; the waterfall shows it.
func TestKeyFailover(t *testing.T) {
	w := makeWorld(t)
	w.exec(`update public.user_api_keys set label = 'own'`)
	bad := map[string]bool{secrets["user"]: true}
	w.double.refuseKey = func(secret string) bool { return bad[secret] }
	call := w.call("openai/good")
	e := w.run(call, nil)
	r := e.Results[0]
	if e.Status != Success || r.Attempts != 2 || *r.KeySource != "fallback" {
		t.Fatalf("got %s", encoded(t, r))
	}
	w.checkRows(call, e, Success)
	var log string
	w.must(w.pool.QueryRow(w.ctx, `select try_log::text from public.prompt_attempts where run_id = $1`, call.ID).Scan(&log))
	for _, want := range []string{`"class": "invalid_key"`, `"action": "next_key"`, `"httpStatus": 401`, `"keySource": "user"`, `"action": "done"`, `"keySource": "fallback"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the tries %s lack %s", log, want)
		}
	}
	w.checkSecrets(e, log)

	// With nothing left to try, it is the last key's failure.
	w.warm()
	bad[secrets["openai"]] = true
	e = w.run(w.call("openai/good"), nil)
	if r := e.Results[0]; r.Error == nil || r.Error.Class != provider.ClassInvalidKey || r.Attempts != 2 || !r.Cost.IsZero() {
		t.Errorf("got %s", encoded(t, r))
	}
}

// A stream changes keys as long as nobody has read a word of it, and never after.
func TestStreamFailsOverUntilTheFirstByte(t *testing.T) {
	w := makeWorld(t)
	w.double.refuseKey = func(secret string) bool { return secret == secrets["user"] }
	call := w.call("openai/good", "google/error-in-200")
	call.Request.Stream = true
	heard := &hearing{}
	e := w.run(call, heard)
	heard.check(t, e)
	if r := e.Results[0]; r.Status != AttemptOK || r.Attempts != 2 || *r.Output != goodText {
		t.Errorf("got %s", encoded(t, r))
	}
	if r := e.Results[1]; r.Error == nil || r.Attempts != 1 || r.Output == nil {
		t.Errorf("got %s", encoded(t, r))
	}
}

// A rate limit rests the key for every node, and the next run takes another.
func TestRateLimitCoolsTheKeyForAllNodes(t *testing.T) {
	w := makeWorld(t)
	other := w.node()
	call := w.call("anthropic/429-retry")
	call.Request.Config.TimeoutMs = ptr(11_000) // its 12 s do not fit
	e := w.run(call, nil)
	if r := e.Results[0]; r.Error == nil || r.Error.Class != provider.ClassRateLimited || r.Attempts != 1 {
		t.Errorf("got %s", encoded(t, r))
	}
	check := func(name string, w *world) {
		t.Helper()
		calls := w.double.calls.Load()
		e := w.run(w.call("anthropic/good"), nil)
		r := e.Results[0]
		if r.Error == nil || r.Error.Class != provider.ClassMissingKey || r.Error.RetryAfterMs < 1 || r.Error.RetryAfterMs > 12_000 || r.Attempts != 0 {
			t.Errorf("%s: got %s", name, encoded(t, r))
		}
		if w.double.calls.Load() != calls {
			t.Errorf("%s: the key was used", name)
		}
	}
	check("the node that knows", w)
	w.Health.Wait()
	check("another node", other)
	_, _, err := w.Keys.AddFallback(w.ctx, key.NewFallback{Provider: "anthropic", Label: "Second", Secret: key.Secret(secrets["google"]), Sandbox: true})
	w.must(err)
	if e := other.run(other.call("anthropic/good"), nil); e.Status != Success {
		t.Errorf("got %s", encoded(t, e))
	}

	// When it is over, the key is as good as before, without anybody's doing.
	w.exec(`update ops.fallback_keys set cooling_until = now() where label = 'Main'`)
	w.exec(`delete from ops.fallback_keys where label = 'Second'`)
	if e := w.node().run(w.call("anthropic/good"), nil); e.Status != Success {
		t.Errorf("got %s", encoded(t, e))
	}
}

// A rate limit that ends in time is waited for, once.
func TestRateLimitIsWaitedFor(t *testing.T) {
	w := makeWorld(t)
	w.double.limits.Store(1)
	started := time.Now()
	e := w.run(w.call("google/good"), nil)
	if r := e.Results[0]; r.Status != AttemptOK || r.Attempts != 2 || time.Since(started) < time.Second {
		t.Errorf("got %s after %s", encoded(t, r), time.Since(started))
	}
	w.warm()
	w.double.limits.Store(2)
	e = w.run(w.call("google/good"), nil)
	if r := e.Results[0]; r.Error == nil || r.Error.Class != provider.ClassRateLimited || r.Attempts != 2 {
		t.Errorf("got %s", encoded(t, r))
	}
}
