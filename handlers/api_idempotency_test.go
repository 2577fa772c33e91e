package handlers_test

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/promptcademy/promptops/internal/run"
)

const oneModel = `{"prompt":"hi","models":["openai/gpt-5-mini"]}`

func TestIdempotentRuns(t *testing.T) {
	s := newSite(t).withKeys("openai", "google")
	v := s.visitor()
	token := s.token(s.learner("ada@example.org"))

	first := v.run(token, oneModel, "Idempotency-Key", "a key").wants(t, http.StatusOK)
	if first.Header.Get("Idempotent-Replayed") != "" {
		t.Error("the first answer is marked as replayed")
	}
	again := v.run(token, oneModel, "Idempotency-Key", "a key").wants(t, http.StatusOK)
	if again.Header.Get("Idempotent-Replayed") != "true" || again.Text != first.Text {
		t.Errorf("again: %v\n%s\n%s", again.Header, first.Text, again.Text)
	}
	if id := again.Header.Get("X-Request-ID"); id != first.run(t).RequestID {
		t.Errorf("X-Request-ID %s of a replay of %s", id, first.run(t).RequestID)
	}
	other := v.run(token, `{"prompt":"ho","models":["openai/gpt-5-mini"]}`, "Idempotency-Key", "a key").wants(t, http.StatusUnprocessableEntity)
	if fields := other.run(t).Error.fields(); len(fields) != 1 || fields[0] != "Idempotency-Key" {
		t.Errorf("fields %v", fields)
	}
	if n := s.count(t, `select count(*) from public.prompt_runs`); n != 1 {
		t.Errorf("%d runs", n)
	}
	if log := s.Events.Text(); strings.Count(log, `"ai_run_success"`) != 1 || strings.Count(log, `"ai_run_replayed"`) != 1 {
		t.Errorf("logged %s", log)
	}
}

func TestIdempotentStreams(t *testing.T) {
	s := newSite(t).withKeys("openai", "google")
	v := s.visitor()
	token := s.token(s.learner("ada@example.org"))
	body := `{"prompt":"hi","models":["openai/gpt-5-mini","google/gemini-3.8-flash"],"stream":true}`
	first := frames(t, v.run(token, body, "Idempotency-Key", "k").wants(t, http.StatusOK).Text)
	again := v.run(token, body, "Idempotency-Key", "k").wants(t, http.StatusOK)
	if again.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("headers %v", again.Header)
	}
	var events []string
	said := map[string]string{}
	for _, f := range first {
		said[f.Event] = f.Data
	}
	for _, f := range frames(t, again.Text) {
		events = append(events, f.Event)
		if (f.Event == "start" || f.Event == "done") && f.Data != said[f.Event] {
			t.Errorf("%s says %s, first it was %s", f.Event, f.Data, said[f.Event])
		}
	}
	if got := strings.Join(events, " "); got != "start result result done" {
		t.Errorf("events %s", got)
	}
}

func TestIdempotencyKeysThatAreNone(t *testing.T) {
	s := newSite(t).withKeys("openai")
	v := s.visitor()
	token := s.token(s.learner("ada@example.org"))
	for _, key := range []string{"", "é", strings.Repeat("k", run.MaxIdempotencyKey+1)} {
		answer := v.run(token, oneModel, "Idempotency-Key", key).wants(t, http.StatusUnprocessableEntity)
		if fields := answer.run(t).Error.fields(); len(fields) != 1 || fields[0] != "Idempotency-Key" {
			t.Errorf("%q: fields %v", key, fields)
		}
	}
	v.run(token, oneModel, "Idempotency-Key", strings.Repeat("~", run.MaxIdempotencyKey)).wants(t, http.StatusOK)
}

func TestRateLimitedRuns(t *testing.T) {
	s := newSite(t).withKeys("openai")
	v := s.visitor()
	ada, bob := s.token(s.learner("ada@example.org")), s.token(s.learner("bob@example.org"))
	_, err := s.DB.Exec(t.Context(), `insert into ops.budgets (runs_per_minute) values (2)`)
	must(t, err)
	for _, want := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests} {
		answer := v.run(ada, oneModel).wants(t, want)
		wait, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
		if (want == http.StatusTooManyRequests) != (wait >= 1 && wait <= 60) {
			t.Errorf("status %d, Retry-After %q", want, answer.Header.Get("Retry-After"))
		}
	}
	v.run(bob, oneModel).wants(t, http.StatusOK)
}

var serverTiming = regexp.MustCompile(`^own;dur=\d+\.\d\d, upstream;dur=\d+\.\d\d$`)

func TestServerTiming(t *testing.T) {
	s := newSite(t).withKeys("openai")
	v := s.visitor()
	token := s.token(s.learner("ada@example.org"))
	for _, answer := range []reply{
		v.run(token, oneModel).wants(t, http.StatusOK),
		v.run(token, `{"prompt":"hi","models":["openai/gpt-5-mini"],"stream":true}`).wants(t, http.StatusOK),
		v.run(token, `{`).wants(t, http.StatusBadRequest),
		v.run("no token", oneModel).wants(t, http.StatusUnauthorized),
		v.get(runPath).wants(t, http.StatusMethodNotAllowed),
	} {
		if got := answer.Header.Get("Server-Timing"); !serverTiming.MatchString(got) {
			t.Errorf("%d: Server-Timing %q", answer.StatusCode, got)
		}
	}
}
