package sandbox

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const key = "sandbox-key-0001"

// call posts to a sandbox in OpenAI's format, or gets if body is empty.
func call(t *testing.T, s *Sandbox, provider, key, body string) *httptest.ResponseRecorder {
	t.Helper()
	path, method, header, value := "/v1/chat/completions", http.MethodPost, "Authorization", "Bearer "+key
	switch provider {
	case "anthropic":
		path, header, value = "/v1/messages", "X-Api-Key", key
	case "google":
		path, header, value = "/v1beta/models/gemini-3.5-flash:generateContent", "X-Goog-Api-Key", key
	}
	if body == "" {
		method, path = http.MethodGet, "/v1/models"
	}
	r := httptest.NewRequest(method, "/"+provider+path, strings.NewReader(body))
	r.Header.Set(header, value)
	r.Header.Set("Anthropic-Version", "2023-06-01")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

const question = `{"model":"gpt-5-mini","messages":[{"role":"user","content":"Explain rain to a child"}]}`

func TestAnswersAreTheSameEveryTime(t *testing.T) {
	first, second := call(t, New(NoDelay), "openai", key, question), call(t, New(NoDelay), "openai", key, question)
	if first.Code != http.StatusOK || first.Body.String() != second.Body.String() {
		t.Errorf("%d\n%s\n%s", first.Code, first.Body, second.Body)
	}
	other := call(t, New(NoDelay), "openai", key, strings.Replace(question, "rain", "snow", 1))
	if first.Body.String() == other.Body.String() {
		t.Error("another prompt gets the same answer")
	}
}

func TestRememberedAnswersAreTheSame(t *testing.T) {
	fresh, remembering := New(NoDelay), New(NoDelay, Remember)
	for _, provider := range []string{"openai", "anthropic", "google", "xai"} {
		for _, body := range []string{
			question,
			strings.Replace(question, "rain", "snow", 1),
			strings.Replace(question, `{"model"`, `{"stream":true,"model"`, 1),
			strings.Replace(question, "gpt-5-mini", "gpt-5-mini-fault-429-retry", 1),
			`{"model":"m"}`,
		} {
			if provider == "anthropic" {
				body = strings.Replace(body, "{", `{"max_tokens":50,`, 1)
			}
			if provider == "google" {
				body = strings.ReplaceAll(strings.ReplaceAll(body, "messages", "contents"), `"content":"Explain rain to a child"`, `"parts":[{"text":"Explain rain"}]`)
			}
			for _, key := range []string{key, "sandbox-key-fault-500", "sk-no-key-of-the-sandbox"} {
				want := call(t, fresh, provider, key, body)
				for range 3 {
					got := call(t, remembering, provider, key, body)
					if got.Code != want.Code || got.Body.String() != want.Body.String() || !cmp.Equal(got.Result().Header, want.Result().Header) {
						t.Errorf("%s: %d %v %s, want %d %v %s", provider, got.Code, got.Result().Header, got.Body, want.Code, want.Result().Header, want.Body)
					}
				}
			}
		}
	}
	for i, bill := range fresh.Billed() {
		if again := remembering.Billed()[i]; again.Calls != 3*bill.Calls || again.Output != 3*bill.Output || again.Unfinished != 3*bill.Unfinished {
			t.Errorf("billed %+v for three times %+v", again, bill)
		}
	}
	// Neither refusals nor streams; for Google the body's model and stream mean nothing.
	if n := len(remembering.memory.answers); n != 3*2+4 {
		t.Errorf("%d answers are remembered", n)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	s := New(NoDelay, Remember)
	for i := range remembered + 5 {
		call(t, s, "openai", key, strings.Replace(question, "rain", strings.Repeat("rain ", i+1), 1))
	}
	if n := len(s.memory.answers); n != remembered {
		t.Errorf("%d answers are remembered", n)
	}
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Latency(60*time.Millisecond), Remember)
		for range 2 { // composed, and remembered
			begin := time.Now()
			if w := call(t, s, "openai", key, question); w.Code != http.StatusOK || time.Since(begin) != 60*time.Millisecond {
				t.Errorf("%d after %v", w.Code, time.Since(begin))
			}
		}
		begin := time.Now()
		w := call(t, s, "openai", key, strings.Replace(question, `{"model"`, `{"stream":true,"model"`, 1))
		if !strings.Contains(w.Body.String(), "[DONE]") || time.Since(begin) != 60*time.Millisecond {
			t.Errorf("streamed in %v: %s", time.Since(begin), w.Body)
		}
	})
}

func TestAnswerFitsThePrompt(t *testing.T) {
	a := compose(prompt{provider: "openai", model: "gpt-5-mini", turns: []string{"Explain rain"}, system: "Be brief"})
	for _, want := range []string{"sandbox", "gpt-5-mini", "“Explain rain”", "2 words", "“Be brief”"} {
		if !strings.Contains(a.text(), want) {
			t.Errorf("no %q in %q", want, a.text())
		}
	}
	if n := len(strings.Split(a.text(), "\n\n")); n != 3 {
		t.Errorf("%d paragraphs", n)
	}
}

func TestTokensAreTheText(t *testing.T) {
	for _, text := range []string{"", "a", "Two words", "a  b\n\nc", "Donaudampfschifffahrtsgesellschaft fährt", "日本語のテキストです", strings.Repeat("x", 100)} {
		pieces := tokens(text)
		if strings.Join(pieces, "") != text {
			t.Errorf("tokens(%q) = %q", text, pieces)
		}
		for _, piece := range pieces {
			if len(piece) > 8 || piece == "" {
				t.Errorf("tokens(%q) has %q", text, piece)
			}
		}
	}
}

func TestLimitCoversReasoningToo(t *testing.T) {
	free := compose(prompt{model: "gpt-5", turns: []string{"Tell me a story"}})
	for limit := 1; limit < 300; limit++ {
		a := compose(prompt{model: "gpt-5", turns: []string{"Tell me a story"}, maxTokens: limit})
		if a.tally.output > limit || a.tally.output != a.tally.reasoning+len(a.pieces) || (a.finish == "length") != (a.text() != free.text()) {
			t.Errorf("limit %d: %s after %+v, %d bytes", limit, a.finish, a.tally, len(a.text()))
		}
	}
}

func TestOnlySandboxKeysAreTaken(t *testing.T) {
	tests := map[string]struct {
		status int
		shape  string
	}{
		"openai":     {401, `{"error":{"code":"invalid_api_key","message":"Incorrect API key provided: sk-r*********wxyz`},
		"mistral":    {401, `{"detail":"Unauthorized"}`},
		"openrouter": {401, `{"error":{"code":401,`},
		"deepseek":   {401, `{"error":{"code":"invalid_request_error","message":"Authentication Fails`},
		"xai":        {400, `{"code":"Client specified an invalid argument","error":"Incorrect`},
		"anthropic":  {401, `{"error":{"message":"invalid x-api-key","type":"authentication_error"}`},
		"google":     {400, `{"error":{"code":400,"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","domain":"googleapis.com","reason":"API_KEY_INVALID"}]`},
	}
	for provider, want := range tests {
		w := call(t, New(NoDelay), provider, "sk-real-key-vwxyz", question)
		if w.Code != want.status || !strings.HasPrefix(w.Body.String(), want.shape) {
			t.Errorf("%s: %d %s", provider, w.Code, w.Body)
		}
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	tests := []struct{ provider, body, want string }{
		{"openai", `{`, "could not parse"},
		{"openai", `{"model":"m"}`, "Missing required parameter"},
		{"openai", `{"model":"gpt-5","max_tokens":5,"messages":[{"role":"user","content":"x"}]}`, "max_completion_tokens"},
		{"mistral", `{"model":"m","stream_options":{},"messages":[{"role":"user","content":"x"}]}`, "Extra inputs"},
		{"anthropic", `{"model":"m","messages":[{"role":"user","content":"x"}]}`, "max_tokens: Field required"},
		{"anthropic", `{"model":"m","max_tokens":5,"messages":[]}`, "at least one message"},
		{"anthropic", `{"model":"m","max_tokens":5,"messages":[{"role":"system","content":"x"}]}`, "Unexpected role"},
		{"anthropic", `{"model":"m","max_tokens":5,"stop_sequences":["\n"],"messages":[{"role":"user","content":"x"}]}`, "non-whitespace"},
		{"google", `{}`, "contents is not specified"},
		{"google", `{"contents":[{"role":"assistant","parts":[{"text":"x"}]}]}`, "valid role"},
	}
	for _, tt := range tests {
		w := call(t, New(NoDelay), tt.provider, key, tt.body)
		if w.Code < 400 || w.Code > 422 || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s: %d %s", tt.provider, tt.body, w.Code, w.Body)
		}
	}
}

func TestFaultsByKey(t *testing.T) {
	w := call(t, New(NoDelay), "openai", key+"-fault-529", question)
	if w.Code != 529 {
		t.Errorf("HTTP %d", w.Code)
	}
	// The model's goes before the key's.
	w = call(t, New(NoDelay), "openai", key+"-fault-529", strings.Replace(question, "gpt-5-mini", "gpt-5-mini-fault-429-retry", 1))
	if w.Code != 429 || w.Header().Get("Retry-After") != "2" {
		t.Errorf("HTTP %d, %v", w.Code, w.Header())
	}
}

// Every fault that the package comment promises does something.
func TestDocumentedFaults(t *testing.T) {
	source, err := os.ReadFile("sandbox.go")
	if err != nil {
		t.Fatal(err)
	}
	faults := regexp.MustCompile(`(?m)^//\t-fault-(\S+)`).FindAllStringSubmatch(string(source), -1)
	if len(faults) < 20 {
		t.Fatalf("only %d faults are documented", len(faults))
	}
	usual := call(t, New(NoDelay), "openai", key, strings.Replace(question, "gpt", "x", 1)).Body.String()
	for _, fault := range faults {
		if strings.Contains(fault[1], "hang") || strings.HasPrefix(fault[1], "close") || strings.Contains(fault[1], "stream") || fault[1] == "crlf" || fault[1] == "slow" {
			continue // seen over real connections, in the provider's tests
		}
		w := call(t, New(NoDelay), "openai", key, strings.Replace(question, "gpt-5-mini", "gpt-5-mini-fault-"+fault[1], 1))
		if body := w.Body.String(); w.Code == http.StatusOK && len(body) > len(usual)/2 && len(body) < 2*len(usual) {
			t.Errorf("%s: HTTP %d, %.80s", fault[1], w.Code, body)
		}
	}
}

func TestBooks(t *testing.T) {
	s := New(NoDelay)
	var usage struct {
		Usage struct {
			Prompt     int64 `json:"prompt_tokens"`
			Completion int64 `json:"completion_tokens"`
			Details    struct {
				Reasoning int64 `json:"reasoning_tokens"`
			} `json:"completion_tokens_details"`
		}
	}
	for range 3 {
		w := call(t, s, "openai", key, question)
		if err := json.Unmarshal(w.Body.Bytes(), &usage); err != nil {
			t.Fatal(err)
		}
	}
	call(t, s, "openai", key, strings.Replace(question, "gpt-5-mini", "gpt-5-mini-fault-500", 1)) // costs nothing
	want := []Bill{{Provider: "openai", Model: "gpt-5-mini", Calls: 3, Input: 3 * usage.Usage.Prompt, Output: 3 * usage.Usage.Completion, Reasoning: 3 * usage.Usage.Details.Reasoning}}
	if diff := cmp.Diff(want, s.Billed()); diff != "" {
		t.Error(diff)
	}
}

func TestAbandonedStreamIsBilledAsFarAsItGot(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	server, err := Start(ctx, "", NoDelay)
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Replace(question, `"model":"gpt-5-mini"`, `"stream":true,"model":"gpt-5-mini-fault-close-stream"`, 1)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/openai/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the stream ended properly")
	}
	// It was closed by a panic, which writes its bill before the connection goes.
	bills := server.Billed()
	if len(bills) != 1 || bills[0].Unfinished != 1 || bills[0].Output != bills[0].Reasoning+5 {
		t.Errorf("billed %+v", bills)
	}
}

func TestStart(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	server, err := Start(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	get := func() error {
		resp, err := http.Get(server.URL + "/openai/v1/models")
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	stop()
	for get() == nil { // until it is closed
		time.Sleep(time.Millisecond)
	}
	for _, addr := range []string{"0.0.0.0:0", ":0", "nonsense"} {
		if _, err := Start(t.Context(), addr); err == nil {
			t.Errorf("listens on %s", addr)
		}
	}
}

func TestPace(t *testing.T) {
	for _, model := range []string{"gpt-5", "gpt-5-mini", "claude-opus-5-5", "gemini-3.5-flash"} {
		p := paceOf(model)
		if p.first < 50*time.Millisecond || p.first > 300*time.Millisecond || p.word < 10*time.Millisecond || p.word > 20*time.Millisecond {
			t.Errorf("%s: %+v", model, p)
		}
	}
	if paceOf("gpt-5").first <= paceOf("gpt-5-mini").first {
		t.Error("the small model is not the faster one")
	}
}
