package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// double plays a provider at its worst, in all three wire formats. The model's
// name says how: "good" answers well, the names below do not. It shows the key
// it was given wherever it can.
type double struct {
	*httptest.Server
	calls  atomic.Int32
	before func(model string) // if set, called before anything is answered

	refuseKey func(secret string) bool // if set: 401 for these
	limits    atomic.Int32             // so many calls are rate limited for a second
}

func newDouble(t testing.TB) *double {
	t.Helper()
	d := &double{}
	d.Server = httptest.NewServer(d)
	t.Cleanup(func() {
		d.CloseClientConnections()
		d.Close()
	})
	return d
}

// asked is one request, understood.
type asked struct {
	wire, model, secret string
	stream              bool
}

func understand(r *http.Request, body []byte) asked {
	var request struct {
		Model  string `json:"model"`
		Stream bool   `json:"stream"`
	}
	_ = json.Unmarshal(body, &request)
	a := asked{model: request.Model, stream: request.Stream}
	a.wire, _, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch a.wire {
	case "openai":
		a.secret = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	case "anthropic":
		a.secret = r.Header.Get("X-Api-Key")
	case "google":
		a.secret = r.Header.Get("X-Goog-Api-Key")
		_, rest, _ := strings.Cut(r.URL.Path, "/models/")
		var method string
		a.model, method, _ = strings.Cut(rest, ":")
		a.stream = method == "streamGenerateContent"
	}
	return a
}

var (
	greeting = []string{"A recipe", " you look up", " before you", " cook. é ☕"}
	goodText = strings.Join(greeting, "")
	hugeText = strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	dirty    = "before\x00after \u2028 \\u0000 </script>"
)

const tenMegabytes = 10 << 20

func (d *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	d.calls.Add(1)
	a := understand(r, body)
	if d.before != nil {
		d.before(a.model)
	}
	w.Header().Set("X-Request-Id", "req-"+a.secret)
	w.Header().Set("Request-Id", a.secret[:12])
	if d.refuseKey != nil && d.refuseKey(a.secret) {
		a.model = "401"
	}
	if d.limits.Add(-1) >= 0 {
		w.Header().Set("Retry-After", "1")
		a.model = "429"
	}
	switch a.model {
	case "401", "402", "429", "500", "529":
		refuse(w, a)
	case "429-retry":
		w.Header().Set("Retry-After", "12")
		refuse(w, a)
	case "429-date":
		w.Header().Set("Retry-After", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		refuse(w, a)
	case "hang":
		<-r.Context().Done()
	case "hang-body":
		a.begin(w)
		<-r.Context().Done()
	case "drip":
		a.header(w)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, ": still thinking\n"); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	case "close":
		panic(http.ErrAbortHandler)
	case "close-body":
		a.begin(w)
		panic(http.ErrAbortHandler)
	case "end-early":
		a.begin(w)
	case "garbage":
		a.header(w)
		_, _ = io.CopyN(w, rand.NewChaCha8([32]byte{1}), tenMegabytes)
	case "endless-line":
		a.header(w)
		_, _ = io.WriteString(w, `data: {"`+a.secret)
		_, _ = w.Write(bytes.Repeat([]byte("x"), tenMegabytes))
	case "html":
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<html><body>Sign in, %s</body></html>", a.secret)
	case "wrong-types":
		a.header(w)
		_, _ = io.WriteString(w, a.sse(`{"choices":"none","content":"none","candidates":"none","delta":[],"type":7}`))
	case "deep":
		a.header(w)
		_, _ = io.WriteString(w, a.sse(strings.Repeat(`{"choices":[`, 200_000)))
	case "redirect":
		w.Header().Set("Location", d.URL+"/openai/v1/elsewhere?key="+a.secret)
		w.WriteHeader(http.StatusTemporaryRedirect)
	case "error-in-200":
		a.begin(w)
		_, _ = io.WriteString(w, a.sse(a.failure("your key "+a.secret+" made me stumble", `"code":"server_error"`)))
	case "limit-in-200":
		a.header(w)
		_, _ = io.WriteString(w, a.sse(a.failure("too fast for "+a.secret[:20], `"code":429`)))
	case "huge-line":
		a.answer(w, []string{hugeText}, "\n")
	case "crlf":
		a.answer(w, greeting, "\r\n")
	case "dirty":
		a.answer(w, []string{dirty}, "\n")
	case "lies":
		a.answer(w, greeting, "\n")
	case "echo":
		a.answer(w, []string{"Your key is ", a.secret[:9], a.secret[9:20], a.secret[20:], ", isn't it?"}, "\n")
	default:
		a.answer(w, greeting, "\n")
	}
}

// refuse answers with the status that the model's name begins with.
func refuse(w http.ResponseWriter, a asked) {
	var status int
	_, _ = fmt.Sscanf(a.model, "%d", &status)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, a.failure(fmt.Sprintf("No, %s (%s***%s), not %q", a.secret, a.secret[:7], a.secret[len(a.secret)-4:], "Bearer "+a.secret[3:18]), `"param":"`+a.secret+`"`))
}

func (a asked) failure(message, more string) string {
	text, _ := json.Marshal(message)
	return fmt.Sprintf(`{"type":"error","error":{"message":%s,%s},"request_id":"%s"}`, text, more, a.secret)
}

// header announces a stream where one was asked for.
func (a asked) header(w http.ResponseWriter) {
	kind := "application/json"
	if a.stream {
		kind = "text/event-stream"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(http.StatusOK)
}

// sse is a JSON text as it is sent: as one event of a stream, or just so.
func (a asked) sse(data string) string {
	if !a.stream {
		return data
	}
	return "data: " + data + "\n\n"
}

// begin sends the beginning of an answer: of a stream a word or two, of a whole
// answer nothing that makes sense by itself, unless an error follows.
func (a asked) begin(w http.ResponseWriter) {
	a.header(w)
	switch {
	case a.stream:
		events := a.events(greeting)
		for _, event := range events[:len(events)/2] {
			_, _ = io.WriteString(w, a.sse(event))
		}
	case a.model != "error-in-200":
		whole := a.whole(goodText)
		_, _ = io.WriteString(w, whole[:len(whole)/2])
	}
	_ = http.NewResponseController(w).Flush()
}

// answer answers well, with a text in pieces.
func (a asked) answer(w http.ResponseWriter, pieces []string, lineEnd string) {
	a.header(w)
	if !a.stream {
		_, _ = io.WriteString(w, a.whole(strings.Join(pieces, "")))
		return
	}
	events := a.events(pieces)
	if a.wire == "openai" {
		events = append(events, "[DONE]")
	}
	for i, event := range events {
		lines := "data: " + event + "\n\n"
		if lineEnd != "\n" {
			lines = ": a comment\n\nid: " + fmt.Sprint(i) + "\nretry: 1\nevent: message\n" + "data:" + event + "\n\n"
		}
		_, _ = io.WriteString(w, strings.ReplaceAll(lines, "\n", lineEnd))
		_ = http.NewResponseController(w).Flush()
	}
}

// tokens are what the double counts: 11 in, 3 of them cached, 7 out; in the
// words of each format. One that lies says something impossible.
func (a asked) tokens() string {
	n := func(n int) string {
		if a.model == "lies" {
			return []string{`-5`, `1e300`, `"many"`, `9223372036854775807`}[n%4]
		}
		return fmt.Sprint(n)
	}
	switch a.wire {
	case "openai":
		return fmt.Sprintf(`"usage":{"prompt_tokens":%s,"completion_tokens":%s,"prompt_tokens_details":{"cached_tokens":%s},"completion_tokens_details":{"reasoning_tokens":%s}}`,
			n(11), n(7), n(3), n(2))
	case "anthropic":
		return fmt.Sprintf(`"usage":{"input_tokens":%s,"cache_read_input_tokens":%s,"cache_creation_input_tokens":%s,"output_tokens":%s}`, n(4), n(3), n(4), n(7))
	default:
		return fmt.Sprintf(`"usageMetadata":{"promptTokenCount":%s,"cachedContentTokenCount":%s,"candidatesTokenCount":%s,"thoughtsTokenCount":%s}`,
			n(11), n(3), n(5), n(2))
	}
}

// whole is an answer in one piece.
func (a asked) whole(s string) string {
	text, _ := json.Marshal(s)
	switch a.wire {
	case "openai":
		return fmt.Sprintf(`{"id":"%s","choices":[{"index":0,"message":{"role":"assistant","content":%s},"finish_reason":"stop"}],%s}`, a.secret, text, a.tokens())
	case "anthropic":
		return fmt.Sprintf(`{"type":"message","id":"%s","content":[{"type":"text","text":%s}],"stop_reason":"end_turn",%s}`, a.secret, text, a.tokens())
	default:
		return fmt.Sprintf(`{"responseId":"%s","candidates":[{"index":0,"content":{"parts":[{"text":%s}]},"finishReason":"STOP"}],%s}`, a.secret, text, a.tokens())
	}
}

// events is an answer as the events of a stream.
func (a asked) events(pieces []string) []string {
	var events []string
	add := func(format string, args ...any) { events = append(events, fmt.Sprintf(format, args...)) }
	if a.wire == "anthropic" {
		add(`{"type":"message_start","message":{"id":"%s",%s}}`, a.secret, a.tokens())
		add(`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)
	}
	for i, piece := range pieces {
		text, _ := json.Marshal(piece)
		switch a.wire {
		case "openai":
			add(`{"id":"%s","choices":[{"index":0,"delta":{"content":%s}}]}`, a.secret, text)
		case "anthropic":
			add(`{"type":"content_block_delta","delta":{"type":"text_delta","text":%s}}`, text)
		default:
			last := ""
			if i == len(pieces)-1 {
				last = `"finishReason":"STOP",`
			}
			add(`{"responseId":"%s","candidates":[{%s"content":{"parts":[{"text":%s}]}}],%s}`, a.secret, last, text, a.tokens())
		}
	}
	switch a.wire {
	case "openai":
		add(`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`)
		add(`{"choices":[],%s}`, a.tokens())
	case "anthropic":
		add(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},%s}`, a.tokens())
		add(`{"type":"message_stop"}`)
	}
	return events
}
