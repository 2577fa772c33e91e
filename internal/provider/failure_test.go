package provider

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var now = time.Date(2026, 10, 27, 12, 0, 0, 0, time.UTC)

func TestOddErrorBodies(t *testing.T) {
	tests := []struct {
		name, body string
		status     int
		class      Class
		message    string
	}{
		{"nothing", "", 500, ClassProviderError, "Acme answered HTTP 500 with nothing at all."},
		{"white space", " \n ", 429, ClassRateLimited, "Acme answered HTTP 429 with nothing at all."},
		{"empty object", "{}", 503, ClassOverloaded, "Acme answered HTTP 503 without an explanation."},
		{"null", "null", 401, ClassInvalidKey, "Acme answered HTTP 401 without an explanation."},
		{"number", "12", 400, ClassBadRequest, "Acme answered HTTP 400 without an explanation."},
		{"string", `"go away"`, 403, ClassPermission, "go away"},
		{"plain text", "upstream connect error or disconnect/reset before headers", 503, ClassOverloaded, "upstream connect error or disconnect/reset before headers"},
		{"web page", "<html><body><h1>502 Bad Gateway</h1></body></html>", 502, ClassProviderError, "Acme answered HTTP 502 with a web page instead of an answer."},
		{"web page in JSON", `{"error":{"message":"<html>\r\n<head><title>401 Authorization Required</title></head>\r\n</html>"}}`, 401, ClassInvalidKey, "401 Authorization Required"},
		{"binary", "\x00\x01\x02\xff\xfe", 500, ClassProviderError, "Acme answered HTTP 500 with something that is not JSON."},
		{"JSON cut off", `{"error":{"message":"x`, 500, ClassProviderError, "Acme answered HTTP 500 with something that is not JSON."},
		{"redirect", "", 302, ClassProviderError, "Acme answered HTTP 302 with a redirect, which is not followed."},
		{"error as string", `{"error":"no such thing"}`, 404, ClassNotFound, "no such thing"},
		{"error as array", `{"error":["first","second"]}`, 400, ClassBadRequest, "first; second"},
		{"error as flag", `{"error":true,"message":"broken"}`, 500, ClassProviderError, "broken"},
		{"errors", `{"errors":[{"message":"one"},{"message":"two"}]}`, 400, ClassBadRequest, "one; two"},
		{"detail", `{"detail":"Not authenticated"}`, 401, ClassInvalidKey, "Not authenticated"},
		{"detail of detail", `{"message":{"detail":[{"loc":["body","top_p"],"msg":"too large"}]}}`, 422, ClassBadRequest, "body.top_p: too large"},
		{"array of errors", `[{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}]`, 503, ClassOverloaded, "busy"},
		{"deep nesting", strings.Repeat(`{"error":`, 5000) + `"x"` + strings.Repeat("}", 5000), 400, ClassBadRequest, "Acme answered HTTP 400 without an explanation."},
		{"control characters", `{"message":"a\u0000b\u001b[31mc\u200bd\ne\tf"}`, 400, ClassBadRequest, "ab[31mcd e f"},
		{"status in the body of a 200", `{"error":{"code":"429","message":"slow"}}`, 200, ClassRateLimited, "slow"},
		{"outer status before inner", `{"error":{"code":502,"message":"m","metadata":{"code":429}}}`, 200, ClassProviderError, "m"},
		{"our own input echoed", `{"detail":[{"msg":"m","input":{"type":"insufficient_quota"}}]}`, 422, ClassBadRequest, "m"},
		{"billing words in a 5xx", `{"message":"insufficient credits service crashed"}`, 500, ClassProviderError, "insufficient credits service crashed"},
		{"unknown 4xx", `{}`, 418, ClassBadRequest, "Acme answered HTTP 418 without an explanation."},
		{"Cloudflare timeout", "", 524, ClassTimeout, "Acme answered HTTP 524 with nothing at all."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := readFailure("Acme", tt.status, http.Header{}, []byte(tt.body), "", now)
			if f.Class != tt.class || f.Message != tt.message {
				t.Errorf("got %s %q, want %s %q", f.Class, f.Message, tt.class, tt.message)
			}
		})
	}
}

func TestLongMessageIsCut(t *testing.T) {
	f := readFailure("Acme", 400, nil, []byte(`{"message":"`+strings.Repeat("ä", 1000)+`"}`), "", now)
	if n := utf8.RuneCountInString(f.Message); n != 300 || !strings.HasSuffix(f.Message, "ä…") {
		t.Errorf("%d characters: %s", n, f.Message)
	}
}

func TestRetryAfter(t *testing.T) {
	tests := []struct {
		name   string
		header http.Header
		want   time.Duration
	}{
		{"none", http.Header{}, 0},
		{"seconds", http.Header{"Retry-After": {"12"}}, 12 * time.Second},
		{"fraction", http.Header{"Retry-After": {"0.5"}}, 500 * time.Millisecond},
		{"date", http.Header{"Retry-After": {now.Add(90 * time.Second).Format(http.TimeFormat)}}, 90 * time.Second},
		{"date in the past", http.Header{"Retry-After": {now.Add(-time.Hour).Format(http.TimeFormat)}}, 0},
		{"milliseconds first", http.Header{"Retry-After": {"12"}, "Retry-After-Ms": {"250"}}, 250 * time.Millisecond},
		{"negative", http.Header{"Retry-After": {"-5"}}, 0},
		{"not a number", http.Header{"Retry-After": {"NaN"}}, 0},
		{"nonsense", http.Header{"Retry-After": {"soon"}}, 0},
		{"beyond belief", http.Header{"Retry-After": {"1e300"}}, 24 * time.Hour},
		{"OpenAI's reset", http.Header{"X-Ratelimit-Remaining-Requests": {"3"}, "X-Ratelimit-Reset-Requests": {"9s"}, "X-Ratelimit-Remaining-Tokens": {"0"}, "X-Ratelimit-Reset-Tokens": {"6m0s"}}, 6 * time.Minute},
		{"OpenRouter's reset", http.Header{"X-Ratelimit-Reset": {strconv.FormatInt(now.Add(10*time.Second).UnixMilli(), 10)}}, 10 * time.Second},
	}
	for _, tt := range tests {
		f := readFailure("Acme", 429, tt.header, nil, "", now)
		if f.RetryAfter != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, f.RetryAfter, tt.want)
		}
	}
	// Waiting does not mend these.
	for _, status := range []int{400, 401, 402, 403, 404} {
		if f := readFailure("Acme", status, http.Header{"Retry-After": {"5"}}, nil, "", now); f.RetryAfter != 0 {
			t.Errorf("HTTP %d: retry after %v", status, f.RetryAfter)
		}
	}
}

func TestRequestIDIsNoBackDoor(t *testing.T) {
	const secret = "sk-live-5tgb6yhn7ujm8ik"
	for _, id := range []string{secret, "req_" + secret[8:16], strings.Repeat("x", 200), "two words", "line\nfeed"} {
		f := readFailure("Acme", 500, http.Header{"X-Request-Id": {id}}, nil, secret, now)
		if f.RequestID != "" {
			t.Errorf("kept %q", f.RequestID)
		}
	}
	if f := readFailure("Acme", 500, http.Header{"Request-Id": {"req_1"}}, nil, secret, now); f.RequestID != "req_1" {
		t.Errorf("lost the id: %q", f.RequestID)
	}
}

func FuzzReadFailure(f *testing.F) {
	for _, body := range []string{
		``, `{}`, `{"error":{"message":"m","code":"c"}}`, `{"error":"xa***wj"}`, `[{"error":1}]`, `{"detail":[{"loc":[1],"msg":"m"}]}`,
		`<html>`, "\xff", `{"error":{"metadata":{"raw":"{\"error\":\"x\"}"}}}`, `{"message":"secret-part and sk-abc\u0000def"}`,
	} {
		f.Add(200, body, "secret-part-of-key")
		f.Add(429, body, "sk-abcdef")
	}
	f.Fuzz(func(t *testing.T, status int, body, secret string) {
		failure := readFailure("Acme", status, http.Header{"Retry-After": {body}, "X-Request-Id": {body}}, []byte(body), secret, now)
		m := failure.Message
		if failure.Class == "" || !utf8.ValidString(m) || utf8.RuneCountInString(m) > 300 || strings.ContainsAny(m, "\n\r\x00\x1b") {
			t.Errorf("%s %q", failure.Class, m)
		}
		if failure.RetryAfter < 0 || failure.RetryAfter > 24*time.Hour {
			t.Errorf("retry after %v", failure.RetryAfter)
		}
		if piece := leaked(m, secret); piece != "" {
			t.Errorf("%q gives away %q", m, piece)
		}
		if piece := leaked(failure.RequestID, secret); piece != "" {
			t.Errorf("request id %q gives away %q", failure.RequestID, piece)
		}
	})
}
