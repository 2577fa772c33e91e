package provider

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// leaked is a piece of six characters of secret that message contains.
func leaked(message, secret string) string {
	for i := 0; i+6 <= len(secret); i++ {
		if strings.Contains(message, secret[i:i+6]) {
			return secret[i : i+6]
		}
	}
	return ""
}

func TestScrub(t *testing.T) {
	const (
		secret  = "sk-proj-aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY"
		mistral = "q7WmZpX2rT9vKc4LdYhNs8BfGjA1eUoI"
	)
	tests := []struct {
		name, message, secret, want string
	}{
		{"nothing to hide", "Rate limit reached for gpt-5 in organization org-x.", secret, "Rate limit reached for gpt-5 in organization org-x."},
		{"whole", "Bad key " + secret + " given", secret, "Bad key [key] given"},
		{"whole, at the end of a sentence", "Bad key " + secret + ".", secret, "Bad key [key]."},
		{"no prefix", "Bad key " + mistral + " given", mistral, "Bad key [key] given"},
		{"fragment", "Bad key xx" + mistral[10:20] + "yy", mistral, "Bad key xx[key]yy"},
		{"two fragments", mistral[:7] + " and " + mistral[20:], mistral, "[key] and [key]"},
		{"other capitals", strings.ToUpper(mistral), mistral, "[key]"},
		{"five characters are nothing", "code " + mistral[:5], mistral, "code " + mistral[:5]},
		{"masked by OpenAI", "provided: sk-proj-****************0xY. Find it", secret, "provided: [key]. Find it"},
		{"masked by xAI", "provided: xa***wj.", "xai-1234567890wj", "provided: [key]."},
		{"masked by DeepSeek", "Your api key: ****here is invalid", mistral, "Your api key: [key] is invalid"},
		{"cut short", "key q7Wm... is bad", mistral, "key [key] is bad"},
		{"ends shown", "key q7…UoI is bad", mistral, "key [key] is bad"},
		{"bullets", "key ••••••••UoI", mistral, "key [key]"},
		{"an ellipsis is none", "Please wait... and **then** try again…", mistral, "Please wait... and **then** try again…"},
		{"anybody's OpenAI key", "used sk-abc123def456 here", mistral, "used [key] here"},
		{"anybody's Anthropic key", `{"key":"sk-ant-api03-AAAA-BBBB"}`, mistral, `{"key":"[key]"}`},
		{"anybody's OpenRouter key", "sk-or-v1-0123456789abcdef", mistral, "[key]"},
		{"anybody's Groq key", "gsk_abcDEF123", mistral, "[key]"},
		{"anybody's xAI key", "xai-abcDEF123", mistral, "[key]"},
		{"anybody's Google keys", "AIzaSyD-1234 and AQ.Ab8RN6", mistral, "[key] and [key]"},
		{"a token", "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", mistral, "jwt [key]"},
		{"in a header", "Authorization: Bearer abc123def", mistral, "Authorization: Bearer [key]"},
		{"about headers", "Use an Authorization header with Bearer authentication.", mistral, "Use an Authorization header with Bearer authentication."},
		{"in a URL", "GET https://x.test/v1?key=abc&alt=sse", mistral, "GET https://x.test/v1?key=[key]&alt=sse"},
		{"escaped in a URL", "GET /login?next=%3Fk%3Dsk-abcdef123", mistral, "GET /login?next=%3Fk%3D[key]"},
		{"login in a URL", "dial http://user:pass@10.0.0.1/", mistral, "dial http://[key]@10.0.0.1/"},
		{"words with sk-", "risk-free and task-based work", mistral, "risk-free and task-based work"},
		{"a short secret", "ollama says: bad key abc", "abc", "ollama says: bad key [key]"},
		{"no secret", "plain", "", "plain"},
		{"beside umlauts", "für" + mistral + "über", mistral, "für[key]über"},
	}
	for _, tt := range tests {
		if got := Scrub(tt.message, tt.secret); got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, got, tt.want)
		}
	}
}

// Pieces of the key at random places in a message never survive.
func TestScrubLeavesNoFragment(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	letters := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = alphabet[random.IntN(len(alphabet))]
		}
		return string(b)
	}
	for range 5_000 {
		secret := letters(8 + random.IntN(60))
		var message strings.Builder
		for range 1 + random.IntN(5) {
			from := random.IntN(len(secret))
			to := from + random.IntN(len(secret)-from+1)
			message.WriteString(letters(random.IntN(8)) + []string{" ", "", "***", "...", `"`, "=", "ü"}[random.IntN(7)] + secret[from:to])
		}
		scrubbed := Scrub(message.String(), secret)
		if piece := leaked(scrubbed, secret); piece != "" {
			t.Fatalf("Scrub(%q, %q) = %q gives away %q", message.String(), secret, scrubbed, piece)
		}
	}
}

func FuzzScrub(f *testing.F) {
	f.Add("Bad key sk-ab***xyz given", "sk-abcdefxyz")
	f.Add("abcdef ABCDEF a\xffbcdef", "abcdef")
	f.Add("[key] [key]", "y] [ke")
	f.Add("ééééé", "\xa9\xc3\xa9\xc3\xa9\xc3")
	f.Fuzz(func(t *testing.T, message, secret string) {
		got := Scrub(message, secret)
		if piece := leaked(got, secret); piece != "" {
			t.Errorf("Scrub(%q, %q) = %q gives away %q", message, secret, got, piece)
		}
		if utf8.ValidString(message) && !utf8.ValidString(got) {
			t.Errorf("Scrub(%q, %q) = %q broke a character", message, secret, got)
		}
	})
}

func TestGuardKeepsTheKeyOutOfText(t *testing.T) {
	const secret = "sk-live-5tgb6yhn7ujm8ik"
	text := "You sent Bearer " + secret + ", and s, sk, sk-live- are fine. " + secret
	want := "You sent Bearer [key], and s, sk, sk-live- are fine. [key]"
	for size := 1; size <= len(text); size++ {
		g := newGuard(secret)
		var out strings.Builder
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			out.WriteString(g.pass(rest[:n]))
			rest = rest[n:]
		}
		out.WriteString(g.rest())
		if out.String() != want {
			t.Errorf("in pieces of %d: %q", size, out.String())
		}
	}
	g := newGuard("ollama")
	if got := g.pass("ollama runs models") + g.rest(); got != "ollama runs models" {
		t.Errorf("a placeholder for a key was cut out of %q", got)
	}
	g = newGuard(secret)
	if got := g.pass("the start is "+secret[:20]) + g.rest(); strings.Contains(got, secret[:12]) {
		t.Errorf("a key cut off is handed on: %q", got)
	}
}
