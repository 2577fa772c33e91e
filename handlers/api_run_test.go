package handlers_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/account"
)

const runPath = "/api/ai/run"

// runAnswer is the part of an answer of the run endpoint, good or bad, that
// these tests look at.
type runAnswer struct {
	RequestID   string      `json:"requestId"`
	Status      string      `json:"status"`
	TotalTokens int64       `json:"totalTokens"`
	TotalCost   json.Number `json:"totalCost"`
	Results     []runResult `json:"results"`
	Error       *runError   `json:"error"`
}

type runResult struct {
	Model     string      `json:"model"`
	Provider  string      `json:"provider"`
	Status    string      `json:"status"`
	Output    *string     `json:"output"`
	Cost      json.Number `json:"cost"`
	KeySource string      `json:"keySource"`
	Usage     struct {
		InputTokens  int64  `json:"inputTokens"`
		OutputTokens int64  `json:"outputTokens"`
		TotalTokens  int64  `json:"totalTokens"`
		Source       string `json:"source"`
	} `json:"usage"`
	Error *struct {
		Class string `json:"class"`
	} `json:"error"`
}

type runError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Details []struct {
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"details"`
}

func (e runError) fields() []string {
	fields := []string{}
	for _, detail := range e.Details {
		fields = append(fields, detail.Field)
	}
	return fields
}

func (r reply) run(t testing.TB) runAnswer {
	t.Helper()
	var answer runAnswer
	if err := json.Unmarshal([]byte(r.Text), &answer); err != nil {
		t.Fatalf("status %d, and the answer is not JSON: %v\n%.1000s", r.StatusCode, err, r.Text)
	}
	return answer
}

// bearer posts a run with an access token.
func (v *visitor) run(token, body string, header ...string) reply {
	v.t.Helper()
	header = append([]string{"Content-Type", "application/json", "Authorization", "Bearer " + token}, header...)
	return v.send(http.MethodPost, runPath, strings.NewReader(body), header...)
}

func TestRunAnswersForThreeWireFormats(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai", "anthropic", "google")
	ada := s.learner("ada@example.org")
	s.ownKey(ada, "openai")
	answer := s.visitor().run(s.token(ada), `{"prompt":"Explain RAG to a chef","system":"Be brief",
		"models":["openai/gpt-5-mini","anthropic/claude-haiku-5-5","google/gemini-3.8-flash"]}`).wants(t, http.StatusOK)
	got := answer.run(t)
	if got.Status != "success" || len(got.Results) != 3 {
		t.Fatalf("status %q with %d results, want success with 3:\n%s", got.Status, len(got.Results), answer.Text)
	}
	var tokens int64
	for i, want := range []struct{ provider, keySource string }{{"openai", "user"}, {"anthropic", "fallback"}, {"google", "fallback"}} {
		r := got.Results[i]
		if r.Provider != want.provider || r.KeySource != want.keySource || r.Status != "ok" || r.Output == nil || *r.Output == "" ||
			r.Usage.InputTokens == 0 || r.Usage.OutputTokens == 0 || r.Usage.Source != "reported" || r.Error != nil {
			t.Errorf("result %d is not an answer of %v: %+v", i, want, r)
		}
		tokens += r.Usage.TotalTokens
	}
	if tokens != got.TotalTokens {
		t.Errorf("totalTokens is %d, the results' are %d", got.TotalTokens, tokens)
	}
	if id := answer.Header.Get("X-Request-ID"); id != got.RequestID || uuid.Validate(id) != nil {
		t.Errorf("X-Request-ID is %q, requestId %q; want the same UUID", id, got.RequestID)
	}
	for header, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := answer.Header.Get(header); got != want {
			t.Errorf("%s is %q, want %q", header, got, want)
		}
	}

	var events []string
	for _, event := range s.Events.Of(t, got.RequestID) {
		events = append(events, event["msg"].(string))
		if event["source"] != "api/ai/run" || event["userId"] != ada.String() {
			t.Errorf("event without source or userId: %v", event)
		}
	}
	if diff := cmp.Diff([]string{"ai_run_start", "ai_run_success"}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	for _, private := range []string{"Explain RAG", "Be brief", *got.Results[0].Output, "sandbox-of-a-learner"} {
		if strings.Contains(s.Events.Text(), private) {
			t.Errorf("the log holds %q", private)
		}
	}
}

// The rejections that the table below asks for. A detail's field stands in
// fields; the order does not matter.
type rejection struct {
	name   string
	body   string
	header []string // beside Content-Type and Authorization, which it can replace
	status int
	code   string
	fields []string
}

func rejections() []rejection {
	const ok = `"prompt":"Hello","models":["openai/gpt-5-mini"]`
	nine := make([]string, 9)
	for i := range nine {
		nine[i] = fmt.Sprintf(`"openai/gpt-5-mini-%d"`, i)
	}
	return []rejection{
		{"empty body", ``, nil, 400, "malformed", []string{"body"}},
		{"only white space", " \n", nil, 400, "malformed", []string{"body"}},
		{"not JSON", `prompt=Hello`, nil, 400, "malformed", []string{"body"}},
		{"cut off", `{"prompt":"He`, nil, 400, "malformed", []string{"body"}},
		{"two values", `{` + ok + `} {}`, nil, 400, "malformed", []string{"body"}},
		{"null", `null`, nil, 400, "malformed", []string{"body"}},
		{"a list", `[]`, nil, 400, "malformed", []string{"body"}},
		{"invalid UTF-8", "{\"prompt\":\"\xff\xfe\",\"models\":[\"openai/a\"]}", nil, 400, "malformed", []string{"prompt"}},
		{"wrong types", `{"prompt":7,"models":"openai/a","config":[],"stream":"yes"}`, nil, 400, "malformed", []string{"config", "models", "prompt", "stream"}},
		{"wrong types inside", `{"prompt":"x","models":["openai/a",3],"config":{"temperature":"hot","maxTokens":1.5,"stop":"x"}}`, nil, 400, "malformed",
			[]string{"config.maxTokens", "config.stop", "config.temperature", "models[1]"}},
		{"unknown fields", `{` + ok + `,"MODELS":[],"n":2,"config":{"seed":1}}`, nil, 400, "malformed", []string{"MODELS", "config.seed", "n"}},
		{"unknown field of a message", `{"messages":[{"role":"user","content":"x","name":"y"}],"models":["openai/a"]}`, nil, 400, "malformed", []string{"messages[0].name"}},
		{"nothing given", `{}`, nil, 422, "invalid", []string{"models", "prompt"}},
		{"prompt and messages", `{` + ok + `,"messages":[{"role":"user","content":"x"}]}`, nil, 422, "invalid", []string{"messages"}},
		{"no message of a user", `{"messages":[{"role":"system","content":"x"}],"models":["openai/a"]}`, nil, 422, "invalid", []string{"messages"}},
		{"bad messages", `{"messages":[{"role":"tool","content":"x"},{"role":"user","content":" "}],"models":["openai/a"]}`, nil, 422, "invalid",
			[]string{"messages[0].role", "messages[1].content"}},
		{"NUL bytes", `{"prompt":"a\u0000b","system":"\u0000","models":["openai/a\u0000"]}`, nil, 422, "invalid", []string{"models[0]", "prompt", "system"}},
		{"no models", `{"prompt":"x","models":[]}`, nil, 422, "invalid", []string{"models"}},
		{"9 models", `{"prompt":"x","models":[` + strings.Join(nine, ",") + `]}`, nil, 422, "invalid", []string{"models"}},
		{"duplicates", `{"prompt":"x","models":["openai/a","openai/b","openai/a"]}`, nil, 422, "invalid", []string{"models[2]"}},
		{"not provider/model", `{"prompt":"x","models":["gpt","/gpt","openai/","openai/a b","nobody/gpt"]}`, nil, 422, "invalid",
			[]string{"models[0]", "models[1]", "models[2]", "models[3]", "models[4]"}},
		{"negative numbers", `{` + ok + `,"config":{"temperature":-1,"maxTokens":-5,"topP":-0.1,"timeoutMs":-1}}`, nil, 422, "invalid",
			[]string{"config.maxTokens", "config.temperature", "config.timeoutMs", "config.topP"}},
		{"too large numbers", `{` + ok + `,"config":{"temperature":2.1,"maxTokens":1000001,"topP":1.5,"timeoutMs":300001}}`, nil, 422, "invalid",
			[]string{"config.maxTokens", "config.temperature", "config.timeoutMs", "config.topP"}},
		{"not UUIDs", `{` + ok + `,"teamId":"mine","templateId":"{9b2e6f5c-0c0f-4a53-9a9e-6f1f2b1f7f11}"}`, nil, 422, "invalid", []string{"teamId", "templateId"}},
		{"somebody else's team", `{` + ok + `,"teamId":"9b2e6f5c-0c0f-4a53-9a9e-6f1f2b1f7f11"}`, nil, 422, "invalid", []string{"teamId"}},
		{"unknown template", `{` + ok + `,"templateId":"9b2e6f5c-0c0f-4a53-9a9e-6f1f2b1f7f11"}`, nil, 422, "invalid", []string{"templateId"}},
		{"variables without a template", `{` + ok + `,"variables":{"a":"b"}}`, nil, 422, "invalid", []string{"variables"}},
		{"more than 1 MiB", `{"prompt":"` + strings.Repeat("x", 2<<20) + `","models":["openai/a"]}`, nil, 413, "too_large", nil},
		{"a form", `prompt=x`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "unsupported_media_type", nil},
		{"no content type", `{` + ok + `}`, []string{"Content-Type", ""}, 415, "unsupported_media_type", nil},
		{"a broken content type", `{` + ok + `}`, []string{"Content-Type", ";;"}, 415, "unsupported_media_type", nil},
		{"no token", `{` + ok + `}`, []string{"Authorization", ""}, 401, "unauthenticated", nil},
		{"an empty token", `{` + ok + `}`, []string{"Authorization", "Bearer"}, 401, "unauthenticated", nil},
		{"another scheme", `{` + ok + `}`, []string{"Authorization", "Basic YTpi"}, 401, "unauthenticated", nil},
		{"not a token", `{` + ok + `}`, []string{"Authorization", "Bearer eyJhbGciOiJub25lIn0.e30."}, 401, "unauthenticated", nil},
	}
}

func TestRunRejects(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	ada := s.learner("ada@example.org")
	token := s.token(ada)
	for _, c := range rejections() {
		t.Run(c.name, func(t *testing.T) {
			answer := s.visitor().run(token, c.body, c.header...).wants(t, c.status)
			got := answer.run(t)
			if got.Error == nil || got.Error.Code != c.code || got.Error.Message == "" {
				t.Fatalf("want the error %q with a message, got %s", c.code, answer.Text)
			}
			fields := got.Error.fields()
			slices.Sort(fields)
			if diff := cmp.Diff(append([]string{}, c.fields...), fields); diff != "" {
				t.Errorf("fields (-want +got):\n%s%s", diff, answer.Text)
			}
			if got.RequestID == "" || got.RequestID != answer.Header.Get("X-Request-ID") {
				t.Errorf("requestId %q, X-Request-ID %q: want the same", got.RequestID, answer.Header.Get("X-Request-ID"))
			}
			var user any
			if c.status != http.StatusUnauthorized {
				user = ada.String()
			}
			s.wantsRejectionLogged(t, got.RequestID, c.status, user)
		})
	}
	if n := s.count(t, `select count(*) from public.prompt_runs`); n != 0 {
		t.Errorf("%d runs were recorded for requests that were rejected", n)
	}
}

// wantsRejectionLogged checks that the request's one event is ai_run_error.
func (s *site) wantsRejectionLogged(t *testing.T, requestID string, status int, userID any) {
	t.Helper()
	logged := s.Events.Of(t, requestID)
	if len(logged) == 0 {
		t.Fatalf("nothing was logged of request %s", requestID)
	}
	event := logged[0]
	for field, want := range map[string]any{"msg": "ai_run_error", "source": "api/ai/run", "status": float64(status), "userId": userID} {
		got, there := event[field]
		if !there || got != want {
			t.Errorf("%s is %v, want %v, in %v", field, got, want, event)
		}
	}
	if event["error"] == "" || event["durationMs"] == nil {
		t.Errorf("error or durationMs is missing in %v", event)
	}
}

func (s *site) count(t testing.TB, sql string, args ...any) (n int64) {
	t.Helper()
	must(t, s.DB.QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

// A body of unknown length is cut off at the same size.
func TestRunRejectsLongChunkedBodies(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	body := struct{ *strings.Reader }{strings.NewReader(`{"prompt":"` + strings.Repeat("x", 2<<20) + `"}`)} // hides its length
	answer := s.visitor().send(http.MethodPost, runPath, body, "Content-Type", "application/json", "Authorization", "Bearer "+s.token(s.learner("a@example.org")))
	if got := answer.wants(t, http.StatusRequestEntityTooLarge).run(t); got.Error == nil || got.Error.Code != "too_large" {
		t.Errorf("got %s", answer.Text)
	}
}

func TestRunWhoMay(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	banned := s.learner("banned@example.org")
	deleted := s.learner("deleted@example.org")
	_, err := s.DB.Exec(t.Context(), `update auth.users set banned_until = $2 where id = $1`, banned, s.Clock.Now().Add(time.Hour))
	must(t, err)
	_, err = s.DB.Exec(t.Context(), `update auth.users set deleted_at = $2 where id = $1`, deleted, s.Clock.Now())
	must(t, err)
	const body = `{"prompt":"Hello","models":["openai/gpt-5-mini"]}`

	for _, c := range []struct {
		name   string
		id     uuid.UUID
		status int
	}{
		{"an account that does not exist", uuid.New(), http.StatusUnauthorized},
		{"banned", banned, http.StatusForbidden},
		{"deleted", deleted, http.StatusForbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.visitor().run(s.token(c.id), body).wants(t, c.status).run(t)
			s.wantsRejectionLogged(t, got.RequestID, c.status, c.id.String())
		})
	}

	t.Run("an expired token", func(t *testing.T) {
		token := s.token(s.learner("late@example.org"))
		s.Clock.Advance(2 * time.Hour)
		answer := s.visitor().run(token, body).wants(t, http.StatusUnauthorized)
		if answer.Header.Get("WWW-Authenticate") == "" {
			t.Error("WWW-Authenticate is missing")
		}
	})
	t.Run("an admin's session", func(t *testing.T) {
		answer := s.as(account.RoleAdmin).send(http.MethodPost, runPath, strings.NewReader(body), "Content-Type", "application/json").wants(t, http.StatusOK)
		if n := s.count(t, `select count(*) from public.prompt_runs where id = $1 and operator_id is not null and user_id is null`, answer.run(t).RequestID); n != 1 {
			t.Error("the run is not recorded as the operator's")
		}
	})
	t.Run("a team lead's session", func(t *testing.T) {
		answer := s.as(account.RoleTeamLead).send(http.MethodPost, runPath, strings.NewReader(body), "Content-Type", "application/json").wants(t, http.StatusForbidden)
		s.wantsRejectionLogged(t, answer.run(t).RequestID, http.StatusForbidden, nil)
	})
}

func TestRunKeepsTheClientsRequestID(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	token := s.token(s.learner("ada@example.org"))
	for id, kept := range map[string]bool{
		"my-request-7":           true,
		strings.Repeat("x", 128): true,
		strings.Repeat("x", 129): false,
		"Grüße":                  false,
		"tab\there":              false,
	} {
		answer := s.visitor().run(token, `{"prompt":"Hello","models":["openai/gpt-5-mini"]}`, "X-Request-ID", id).wants(t, http.StatusOK)
		got := answer.run(t).RequestID
		if answer.Header.Get("X-Request-ID") != got || got == id {
			t.Errorf("X-Request-ID is %q, want our own %q", answer.Header.Get("X-Request-ID"), got)
		}
		for _, event := range s.Events.Of(t, got) {
			if logged := event["clientRequestId"]; (logged == id) != kept || !kept && logged != nil {
				t.Errorf("clientRequestId %q was logged as %v, want it kept: %v", id, logged, kept)
			}
		}
	}
}

func TestAPIAnswersErrorsAsJSON(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(h *handlers.Server) { h.Runner = nil }) // a run panics
	token := s.token(s.learner("ada@example.org"))
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{http.MethodGet, "/api/nothing", 404, "not_found"},
		{http.MethodPost, "/api/ai/run/", 404, "not_found"},
		{http.MethodGet, runPath, 405, "method_not_allowed"},
		{http.MethodDelete, runPath, 405, "method_not_allowed"},
		{http.MethodPost, runPath, 500, "internal"},
	} {
		answer := s.visitor().send(c.method, c.path, strings.NewReader(`{"prompt":"Hello","models":["openai/a"]}`),
			"Content-Type", "application/json", "Authorization", "Bearer "+token).wants(t, c.status)
		got := answer.run(t)
		if got.Error == nil || got.Error.Code != c.code || got.RequestID != answer.Header.Get("X-Request-ID") {
			t.Errorf("%s %s: got %s, want %s", c.method, c.path, answer.Text, c.code)
		}
		for _, secret := range []string{"goroutine", "nil pointer", ".go:"} {
			if strings.Contains(answer.Text, secret) {
				t.Errorf("%s %s shows %q: %s", c.method, c.path, secret, answer.Text)
			}
		}
	}
	if !strings.Contains(s.Events.Text(), "nil pointer") {
		t.Error("the panic is not in the log")
	}
}

func TestRunWithoutADatabase(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	token := s.token(s.learner("ada@example.org"))
	s.loseDatabase()
	answer := s.visitor().run(token, `{"prompt":"Hello","models":["openai/gpt-5-mini"]}`).wants(t, http.StatusServiceUnavailable)
	if answer.Header.Get("Retry-After") == "" {
		t.Error("Retry-After is missing")
	}
	got := answer.run(t)
	if got.Error == nil || got.Error.Code != "unavailable" || strings.Contains(answer.Text, "pool") {
		t.Errorf("got %s", answer.Text)
	}
}
