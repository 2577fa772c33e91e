package handlers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/promptcademy/promptops/internal/account"
)

// frame is one server-sent event.
type frame struct{ Event, Data string }

// frames reads a stream strictly: event, data, empty line.
func frames(t *testing.T, text string) []frame {
	t.Helper()
	found, err := readFrames(text)
	must(t, err)
	return found
}

func readFrames(text string) ([]frame, error) {
	var found []frame
	for block := range strings.SplitSeq(strings.TrimSuffix(text, "\n\n"), "\n\n") {
		if strings.HasPrefix(block, ":") {
			continue // a heartbeat
		}
		event, data, ok := strings.Cut(block, "\n")
		name, isEvent := strings.CutPrefix(event, "event: ")
		payload, isData := strings.CutPrefix(data, "data: ")
		if !ok || !isEvent || !isData || !json.Valid([]byte(payload)) {
			return nil, fmt.Errorf("not an event with JSON data: %q", block)
		}
		found = append(found, frame{name, payload})
	}
	return found, nil
}

func TestRunStreams(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai", "anthropic", "google")
	models := []string{"openai/gpt-5-mini", "anthropic/claude-haiku-5-5", "google/gemini-3.8-flash", "openai/gpt-5-mini-fault-500"}
	answer := s.visitor().run(s.token(s.learner("ada@example.org")),
		`{"prompt":"Explain RAG to a chef","stream":true,"models":["`+strings.Join(models, `","`)+`"]}`).wants(t, http.StatusOK)
	if got := answer.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
		t.Errorf("Content-Type is %q", got)
	}
	all := frames(t, answer.Text)
	id := answer.Header.Get("X-Request-ID")
	if first := all[0]; first.Event != "start" || first.Data != `{"requestId":"`+id+`"}` {
		t.Errorf("the first event is %v, want start with the id of X-Request-ID %s", first, id)
	}

	text, results := map[string]string{}, map[string]runResult{}
	for _, f := range all[1 : len(all)-1] {
		switch f.Event {
		case "delta":
			var delta struct{ Model, Text string }
			must(t, json.Unmarshal([]byte(f.Data), &delta))
			if _, over := results[delta.Model]; over {
				t.Errorf("%s gives text after its result", delta.Model)
			}
			text[delta.Model] += delta.Text
		case "result":
			var result runResult
			must(t, json.Unmarshal([]byte(f.Data), &result))
			results[result.Model] = result
		default:
			t.Errorf("unexpected event %v", f)
		}
	}
	for _, model := range models[:3] {
		if r := results[model]; r.Output == nil || *r.Output == "" || *r.Output != text[model] {
			t.Errorf("%s: the deltas add up to %q, the result is %+v", model, text[model], r)
		}
	}
	if failed := results[models[3]]; failed.Error == nil || failed.Error.Class != "provider_error" && failed.Error.Class != "overloaded" {
		t.Errorf("the model that fails has the result %+v", failed)
	}

	last := all[len(all)-1]
	var done runAnswer
	must(t, json.Unmarshal([]byte(last.Data), &done))
	if last.Event != "done" || done.RequestID != id || done.Status != "partial" || len(done.Results) != len(models) {
		t.Errorf("the last event is %v, want done, partial, with %d results", last, len(models))
	}
	for i, r := range done.Results {
		if r.Model != models[i] || r.Output != nil {
			t.Errorf("result %d of done is %+v, want that of %s without its output", i, r, models[i])
		}
		if r.Cost != results[r.Model].Cost {
			t.Errorf("%s costs %s in done and %s in its result", r.Model, r.Cost, results[r.Model].Cost)
		}
	}
	if n := s.count(t, `select count(*) from public.prompt_runs where id = $1 and status = 'partial' and stream`, id); n != 1 {
		t.Error("the run is not recorded as it was answered")
	}
}

// Before the run is recorded as started, an error is an ordinary answer.
func TestStreamRejectsLikeAnyRequest(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	answer := s.visitor().run(s.token(s.learner("ada@example.org")), `{"prompt":"x","models":["nobody/x"],"stream":true}`).
		wants(t, http.StatusUnprocessableEntity)
	if got := answer.run(t); got.Error == nil || !slices.Equal(got.Error.fields(), []string{"models[0]"}) {
		t.Errorf("got %s", answer.Text)
	}
}

// A caller who leaves is not worked for any longer.
func TestStreamEndsWhenTheCallerLeaves(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+runPath,
		strings.NewReader(`{"prompt":"x","models":["openai/gpt-5-mini-fault-hang-stream"],"stream":true}`))
	must(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+s.token(s.learner("ada@example.org")))
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() && lines.Text() != "event: delta" {
	}
	leave()

	id := response.Header.Get("X-Request-ID")
	eventually(t, "the run is recorded as cancelled", func() bool {
		return s.count(t, `select count(*) from public.prompt_runs r join public.prompt_attempts a on a.run_id = r.id
			where r.id = $1 and r.status = 'cancelled' and a.status = 'cancelled' and a.usage_source = 'estimated'`, id) == 1
	})
	eventually(t, "the run is logged with 499", func() bool {
		events := s.Events.Of(t, id)
		return events[len(events)-1]["msg"] == "ai_run_error" && events[len(events)-1]["status"] == float64(499)
	})
}

func TestRunFromOtherOrigins(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	token := s.token(s.learner("ada@example.org"))
	const body = `{"prompt":"Hello","models":["openai/gpt-5-mini"]}`

	for origin, allowed := range map[string]bool{frontend: true, "https://evil.example.com": false, "null": false, frontend + ".evil.example.com": false} {
		preflight := s.visitor().send(http.MethodOptions, runPath, nil, "Origin", origin,
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type,idempotency-key")
		actual := s.visitor().run(token, body, "Origin", origin, "Sec-Fetch-Site", "cross-site").wants(t, http.StatusOK)
		rejected := s.visitor().run(token, `{}`, "Origin", origin).wants(t, http.StatusUnprocessableEntity)
		for name, answer := range map[string]reply{"preflight": preflight, "answer": actual, "rejection": rejected} {
			want := ""
			if allowed {
				want = origin
			}
			if got := answer.Header.Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("%s to %s: Access-Control-Allow-Origin is %q, want %q", name, origin, got, want)
			}
			if answer.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s to %s allows credentials: the dashboard's cookie is for the dashboard", name, origin)
			}
			if !slices.Contains(answer.Header.Values("Vary"), "Origin") {
				t.Errorf("%s to %s lacks Vary: Origin", name, origin)
			}
		}
		if !allowed {
			continue
		}
		preflight.wants(t, http.StatusNoContent)
		headers := strings.ToLower(preflight.Header.Get("Access-Control-Allow-Headers"))
		for _, header := range []string{"authorization", "content-type", "idempotency-key", "x-request-id"} {
			if !strings.Contains(headers, header) {
				t.Errorf("the preflight does not allow %s: %q", header, headers)
			}
		}
		if exposed := actual.Header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, "X-Request-ID") || !strings.Contains(exposed, "Retry-After") {
			t.Errorf("exposed headers are %q", exposed)
		}
	}
}

// What another site makes a browser send with the operator's cookie is refused.
func TestForgedRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	admin := s.as(account.RoleAdmin)
	json := `{"prompt":"Hello","models":["openai/gpt-5-mini"]}`
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example.com"},
		{"Sec-Fetch-Site", "cross-site", "Origin", frontend}, // may use the API, but not with the cookie
		{"Origin", "https://evil.example.com"},               // an old browser
	} {
		answer := admin.send(http.MethodPost, runPath, strings.NewReader(json), append(header, "Content-Type", "application/json")...).wants(t, http.StatusForbidden)
		s.wantsRejectionLogged(t, answer.run(t).RequestID, http.StatusForbidden, nil)
		for _, path := range []string{"/sign-out", "/playground", "/demo/clear", "/account/password"} {
			admin.post(path, "prompt=x", header...).wants(t, http.StatusForbidden)
		}
	}
	admin.get("/playground").wants(t, http.StatusOK) // still signed in
	if n := s.count(t, `select count(*) from public.prompt_runs`); n != 0 {
		t.Errorf("%d runs", n)
	}
}
