package provider_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/provider"
)

func serve(t testing.TB, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

func clientOf(wire provider.Wire, baseURL string) provider.Client {
	return provider.New(provider.Spec{ID: "acme", Name: "Acme", Wire: wire, BaseURL: baseURL}, nil)
}

var wires = []provider.Wire{provider.WireOpenAI, provider.WireAnthropic, provider.WireGemini}

func TestRequestsOnTheWire(t *testing.T) {
	type sent struct {
		Path string
		Key  string
		Body string
	}
	temperature, topP, limit := 0.7, 0.9, 64
	full := provider.Call{
		Secret: "key-of-sixteen-characters", Model: "m/1",
		Messages: []provider.Message{
			{Role: provider.RoleSystem, Content: "S1"}, {Role: provider.RoleUser, Content: "U <&>"},
			{Role: provider.RoleAssistant, Content: "A"}, {Role: provider.RoleSystem, Content: "S2"}, {Role: provider.RoleUser, Content: "Ü"},
		},
		Temperature: &temperature, MaxTokens: &limit, TopP: &topP, Stop: []string{"\n\n", "END"},
	}
	bare := provider.Call{Secret: "key-of-sixteen-characters", Model: "m", Messages: []provider.Message{{Role: provider.RoleUser, Content: "U"}}}
	const messages = `"messages":[{"role":"system","content":"S1"},{"role":"user","content":"U <&>"},{"role":"assistant","content":"A"},{"role":"system","content":"S2"},{"role":"user","content":"Ü"}]`
	tests := []struct {
		id     string
		call   provider.Call
		stream bool
		want   sent
	}{
		{"openai", full, false, sent{"POST /chat/completions", "Bearer key-of-sixteen-characters", `{"model":"m/1",` + messages + `,"temperature":0.7,"max_completion_tokens":64,"top_p":0.9,"stop":["\n\n","END"]}`}},
		{"openai", bare, false, sent{"POST /chat/completions", "Bearer key-of-sixteen-characters", `{"model":"m","messages":[{"role":"user","content":"U"}]}`}},
		{"openai", bare, true, sent{"POST /chat/completions", "Bearer key-of-sixteen-characters", `{"model":"m","messages":[{"role":"user","content":"U"}],"stream":true,"stream_options":{"include_usage":true}}`}},
		{"mistral", full, true, sent{"POST /chat/completions", "Bearer key-of-sixteen-characters", `{"model":"m/1",` + messages + `,"temperature":0.7,"max_tokens":64,"top_p":0.9,"stop":["\n\n","END"],"stream":true}`}},
		{"openrouter", bare, false, sent{"POST /chat/completions", "Bearer key-of-sixteen-characters", `{"model":"m","messages":[{"role":"user","content":"U"}],"usage":{"include":true}}`}},
		{"anthropic", full, false, sent{"POST /v1/messages", "key-of-sixteen-characters 2023-06-01", `{"model":"m/1","max_tokens":64,"system":"S1\n\nS2","messages":[{"role":"user","content":"U <&>"},{"role":"assistant","content":"A"},{"role":"user","content":"Ü"}],"temperature":0.7,"top_p":0.9,"stop_sequences":["END"]}`}},
		{"anthropic", bare, true, sent{"POST /v1/messages", "key-of-sixteen-characters 2023-06-01", `{"model":"m","max_tokens":4096,"messages":[{"role":"user","content":"U"}],"stream":true}`}},
		{"google", full, false, sent{"POST /v1beta/models/m%2F1:generateContent", "key-of-sixteen-characters", `{"systemInstruction":{"parts":[{"text":"S1\n\nS2"}]},"contents":[{"role":"user","parts":[{"text":"U <&>"}]},{"role":"model","parts":[{"text":"A"}]},{"role":"user","parts":[{"text":"Ü"}]}],"generationConfig":{"temperature":0.7,"maxOutputTokens":64,"topP":0.9,"stopSequences":["\n\n","END"]}}`}},
		{"google", bare, true, sent{"POST /v1beta/models/m:streamGenerateContent?alt=sse", "key-of-sixteen-characters", `{"contents":[{"role":"user","parts":[{"text":"U"}]}]}`}},
	}
	for _, tt := range tests {
		for _, slash := range []string{"", "/", "//"} {
			var got sent
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = sent{r.Method + " " + r.URL.RequestURI(), strings.TrimSpace(r.Header.Get("Authorization") + r.Header.Get("X-Goog-Api-Key") + r.Header.Get("X-Api-Key") + " " + r.Header.Get("Anthropic-Version")), strings.TrimSpace(string(body))}
				if r.Header.Get("Content-Type") != "application/json" {
					t.Errorf("content type %q", r.Header.Get("Content-Type"))
				}
			})
			c := clientAt(t, recorded{provider: tt.id}, server.URL+slash)
			_, _ = complete(t.Context(), t, c, tt.call, tt.stream)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s: %s", tt.id, diff)
			}
		}
	}
}

func TestGeminiRefusesPathsAsNames(t *testing.T) {
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked for %s", r.URL) })
	for _, model := range []string{"", "..", "../x", "a/../b", "a//b", "/a", "a/", "./a", "a?key=1", "a#b", "a:countTokens", "a%2e", `a\b`, "a b", "a\nb", strings.Repeat("a", 300)} {
		_, failure := complete(t.Context(), t, clientOf(provider.WireGemini, server.URL), ask(model, "Why?"), false)
		if failure == nil || failure.Class != provider.ClassNotFound {
			t.Errorf("%q: %v", model, failure)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("followed to %s with %v", r.URL, r.Header) })
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/"+r.Header.Get("Authorization"), http.StatusTemporaryRedirect)
	})
	for _, wire := range wires {
		for _, c := range []provider.Client{clientOf(wire, server.URL), provider.New(provider.Spec{Wire: wire, BaseURL: server.URL}, http.DefaultClient)} {
			_, failure := complete(t.Context(), t, c, ask("m", "Why?"), false)
			if failure == nil || failure.Class != provider.ClassProviderError || failure.HTTPStatus != http.StatusTemporaryRedirect {
				t.Errorf("%s: %v", wire, failure)
			}
			if err := c.Check(t.Context(), secret); err == nil {
				t.Errorf("%s: a redirect passes for a good key", wire)
			}
		}
	}
	if http.DefaultClient.CheckRedirect != nil {
		t.Error("the shared client was changed")
	}
}

func TestUnreachableProviders(t *testing.T) {
	closed := serve(t, nil)
	closed.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mute.Close() })
	go func() {
		for {
			conn, err := mute.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	for name, baseURL := range map[string]string{
		"nobody there": closed.URL, "hangs up": "http://" + mute.Addr().String(), "no such name": "http://provider.invalid",
	} {
		_, failure := complete(t.Context(), t, clientOf(provider.WireOpenAI, baseURL), ask("m", "Why?"), true)
		if failure == nil || failure.Class != provider.ClassNetwork || failure.HTTPStatus != 0 {
			t.Errorf("%s: %v", name, failure)
		} else if strings.Contains(failure.Message, "127.0.0.1") || strings.Contains(failure.Message, "provider.invalid") {
			t.Errorf("%s: shows an address: %s", name, failure.Message)
		}
	}
	_, failure := complete(t.Context(), t, clientOf(provider.WireOpenAI, "::no address::"), ask("m", "Why?"), false)
	if failure == nil || failure.Class != provider.ClassProviderError {
		t.Errorf("bad address: %v", failure)
	}
}

// A provider that repeats the key in every place it can.
func TestTheKeyIsNeverRepeated(t *testing.T) {
	const key = "sk-live-5tgb6yhn7ujm8ik9olQAZ"
	bodies := []string{
		`{"error":{"message":"key %","code":"%","type":"%","request_id":"%"}}`, `{"error":"%"}`, `{"detail":[{"loc":["%"],"msg":"%"}]}`, `"%"`, `%`, `<p>%</p>`,
		`{"id":"%","choices":[{"index":0,"message":{"content":"You sent %"},"delta":{"content":"You sent %"},"finish_reason":"%"}]}`,
		`{"id":"%","content":[{"type":"text","text":"You sent %"}],"stop_reason":"%"}`,
		`{"responseId":"%","candidates":[{"content":{"parts":[{"text":"You sent %"}]},"finishReason":"%"}]}`,
		`{"promptFeedback":{"blockReason":"%","blockReasonMessage":"because %"}}`,
	}
	for _, body := range bodies {
		for _, status := range []int{200, 302, 400, 401, 429, 500} {
			for _, stream := range []bool{false, true} {
				server := serve(t, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Request-Id", key)
					w.Header().Set("Location", "/"+key)
					w.Header().Set("Retry-After", key)
					if stream {
						w.Header().Set("Content-Type", "text/event-stream")
					}
					w.WriteHeader(status)
					answer := strings.ReplaceAll(body, "%", key)
					if stream {
						answer = "event: " + key + "\ndata: " + answer + "\n\n"
					}
					_, _ = io.WriteString(w, answer)
				})
				for _, wire := range wires {
					call := ask("m", "Why?")
					call.Secret = key
					reply, failure := complete(t.Context(), t, clientOf(wire, server.URL), call, stream)
					noSecret(t, key, reply.Text, reply.FinishReason, reply.RequestID)
					if failure != nil {
						noSecret(t, key, failure.Error(), failure.RequestID)
					}
					if err := clientOf(wire, server.URL).Check(t.Context(), key); err != nil {
						noSecret(t, key, err.Error())
					}
				}
			}
		}
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, body := range map[string]string{
		"empty": "", "empty object": "{}", "null": "null", "number": "1", "array": "[]", "web page": "<html></html>", "text": "OK",
		"no choices": `{"choices":[],"content":null,"candidates":[]}`, "choices of another kind": `{"choices":"a","content":"a","candidates":"a"}`,
		"text of another kind": `{"choices":[{"message":{"content":{"a":1}}}],"content":[{"text":1}],"candidates":[{"content":{"parts":[{"text":1}]}}]}`,
		"an empty choice":      `{"choices":[{}]}`, "two documents": `{"choices":[{"message":{"content":"a"}}]}{}`, "10 MB": strings.Repeat("x", 10<<20), "deep": strings.Repeat("[", 100_000),
	} {
		for _, kind := range []string{"application/json", "text/event-stream", "text/html", "text/plain"} {
			for _, stream := range []bool{false, true} {
				server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", kind)
					_, _ = io.WriteString(w, body)
				})
				for _, wire := range wires {
					reply, failure := complete(t.Context(), t, clientOf(wire, server.URL), ask("m", "Why?"), stream)
					if failure == nil || reply.Text != "" || (failure.Class != provider.ClassProviderError && (failure.Class != provider.ClassNetwork || !stream)) {
						t.Errorf("%s: %s as %s, stream %v: %v, text %q", wire, name, kind, stream, failure, reply.Text)
					}
				}
			}
		}
	}
}

// Some servers cannot stream and answer with one document.
func TestDocumentInsteadOfStream(t *testing.T) {
	for _, r := range []recorded{answers[0], {file: "anthropic/success.json", want: reply("Hello! Ready.", "stop", nil, "")}, {file: "gemini/success.json", want: reply("Hello there", "stop", nil, "")}} {
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			_, _ = w.Write(load(t, r.file))
		})
		got, failure := complete(t.Context(), t, clientAt(t, r, server.URL), ask("m", "Why?"), true)
		if failure != nil || got.Text != r.want.Text || got.FinishReason != "stop" || got.Usage == nil {
			t.Errorf("%s: %v, %+v", r.file, failure, got)
		}
	}
}

func TestStreamThatNeverEnds(t *testing.T) {
	piece := `data: {"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("x", 1<<20) + `"}}]}` + "\n\n"
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, piece); err != nil {
				return
			}
		}
	})
	reply, failure := complete(t.Context(), t, clientOf(provider.WireOpenAI, server.URL), ask("m", "Why?"), true)
	if failure == nil || failure.Class != provider.ClassProviderError || !strings.Contains(failure.Message, "too large") || len(reply.Text) != 8<<20 {
		t.Errorf("%v, %d bytes", failure, len(reply.Text))
	}
}

// An answer that is complete stays so, although its connection is never closed.
func TestStreamLeftOpen(t *testing.T) {
	for _, r := range streams {
		server := serve(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write(load(t, r.file))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-req.Context().Done():
			case <-time.After(300 * time.Millisecond):
				panic(http.ErrAbortHandler)
			}
		})
		got, failure := complete(t.Context(), t, clientAt(t, r, server.URL), ask("m", "Why?"), true)
		if failure != nil || got.Text != r.want.Text {
			t.Errorf("%s: %v, %+v", r.file, failure, got)
		}
	}
}

// The status of a refusal counts although its body never comes.
func TestRefusalThatHangs(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	_, failure := complete(t.Context(), t, clientOf(provider.WireOpenAI, server.URL), ask("m", "Why?"), false)
	if failure == nil || failure.Class != provider.ClassRateLimited || failure.RetryAfter != 7*time.Second {
		t.Errorf("%v", failure)
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	for _, spec := range provider.Known {
		var connections atomic.Int64
		server, _ := startSandbox(t)
		front := httptest.NewUnstartedServer(server.Sandbox)
		front.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				connections.Add(1)
			}
		}
		front.Start()
		registry := provider.NewRegistry(nil, nil)
		registry.UseSandbox(front.URL)
		c, _ := registry.Client(spec.ID, true)
		for range 5 {
			for _, fault := range []string{"", "-fault-429"} {
				_, _ = complete(t.Context(), t, c, ask("m"+fault, "Why?"), false)
				_, _ = complete(t.Context(), t, c, ask("m"+fault, "Why?"), true)
			}
			_ = c.Check(t.Context(), secret)
		}
		front.Close()
		// The rest of a stream is waited for, but not for long: on a busy machine
		// now and then one is given up. A kind of call that keeps none takes five.
		if n := connections.Load(); n > 4 {
			t.Errorf("%s: %d connections for 25 calls one after the other", spec.ID, n)
		}
	}
}

// Only some providers say with the check that there is money left, and a limit
// that is not set says nothing.
func TestInspectSeesCredit(t *testing.T) {
	for _, test := range []struct {
		provider, body string
		credit         bool
		class          provider.Class
	}{
		{"openai", `{"data":[]}`, false, ""},
		{"deepseek", `{"is_available":true,"balance_infos":[]}`, true, ""},
		{"deepseek", `{"is_available":false}`, false, provider.ClassBilling},
		{"openrouter", `{"data":{"label":"x","limit_remaining":3.5}}`, true, ""},
		{"openrouter", `{"data":{"label":"x","limit_remaining":0}}`, false, provider.ClassBilling},
		{"openrouter", `{"data":{"label":"x","limit_remaining":null}}`, false, ""},
		{"openrouter", `{"error":{"code":401,"message":"User not found."}}`, false, provider.ClassInvalidKey},
	} {
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, test.body) })
		credit, err := clientAt(t, recorded{provider: test.provider}, server.URL).Inspect(t.Context(), secret)
		class := provider.Class("")
		if failure, ok := errors.AsType[*provider.Failure](err); ok {
			class = failure.Class
		}
		if credit != test.credit || class != test.class {
			t.Errorf("%s, %s: credit %v, %v", test.provider, test.body, credit, err)
		}
	}
}

func TestCheckFallsBack(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/models" {
			_, _ = io.WriteString(w, `{"object":"list","data":[]}`)
			return
		}
		http.NotFound(w, r)
	})
	if err := clientAt(t, recorded{provider: "deepseek"}, server.URL).Check(t.Context(), secret); err != nil {
		t.Errorf("DeepSeek without a balance: %v", err)
	}
	err := clientAt(t, recorded{provider: "openrouter"}, server.URL).Check(t.Context(), secret)
	if failure, ok := errors.AsType[*provider.Failure](err); !ok || failure.Class != provider.ClassNotFound {
		t.Errorf("OpenRouter's public list of models proves a key: %v", err)
	}
}

func BenchmarkComplete(b *testing.B) {
	for _, stream := range []bool{false, true} {
		name, body := "whole", `{"id":"chatcmpl-1","object":"chat.completion","created":1761000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"A short answer to a short question."},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}`
		if stream {
			piece, err := json.Marshal(map[string]any{"id": "chatcmpl-1", "choices": []any{map[string]any{"index": 0, "delta": map[string]any{"content": "word "}, "finish_reason": nil}}})
			if err != nil {
				b.Fatal(err)
			}
			name, body = "stream of 20", strings.Repeat("data: "+string(piece)+"\n\n", 20)+"data: [DONE]\n\n"
		}
		b.Run(name, func(b *testing.B) {
			server := serve(b, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if stream {
					w.Header().Set("Content-Type", "text/event-stream")
				} else {
					w.Header().Set("Content-Type", "application/json")
				}
				_, _ = io.WriteString(w, body)
			})
			c := clientOf(provider.WireOpenAI, server.URL)
			call := ask("m", "A short question?")
			var onText func(string)
			if stream {
				onText = func(string) {}
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Complete(b.Context(), call, onText); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
