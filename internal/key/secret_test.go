package key

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// Wherever a secret is printed by mistake, something else stands there.
func TestSecretRedacts(t *testing.T) {
	secret := Secret(goodKey)
	holder := NewFallback{Provider: "openai", Label: "Main", Secret: secret}
	var shown bytes.Buffer
	for _, verb := range []string{"%v", "%s", "%q", "%+v", "%#v", "%x", "%X", "%d", "%8.3s", "%-80v", "%U", "%t"} {
		for _, value := range []any{secret, &secret, []Secret{secret}, map[string]Secret{"a": secret}, map[Secret]int{secret: 1}, holder, &holder, struct{ Any any }{secret}} {
			fmt.Fprintf(&shown, verb+"\n", value)
		}
	}
	fmt.Fprintln(&shown, secret, holder)
	fmt.Fprintln(&shown, fmt.Errorf("with %w and %v", fmt.Errorf("%s", secret), secret))
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&shown, nil), slog.NewTextHandler(&shown, nil)} {
		log := slog.New(handler)
		log.Info("event", "secret", secret, "pointer", &secret, "in", holder, "list", []Secret{secret}, slog.Group("group", "secret", secret))
		log.With("secret", secret).WithGroup("more").Error("event", slog.Any("secret", secret))
	}
	for _, value := range []any{secret, &secret, holder, map[string]Secret{"a": secret}, []any{secret}} {
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(encoded)
	}
	for i := 0; i+4 <= len(goodKey); i++ {
		piece := goodKey[i : i+4]
		for _, form := range []string{piece, fmt.Sprintf("%x", piece), fmt.Sprintf("%X", piece)} {
			if strings.Contains(shown.String(), form) {
				t.Fatalf("%q of the key is shown in %s", form, shown.String())
			}
		}
	}
	if n := strings.Count(shown.String(), redacted); n < 100 {
		t.Errorf("the redaction stands only %d times in %s", n, shown.String())
	}
	if secret.Reveal() != goodKey {
		t.Error("Reveal reveals something else")
	}
}

// A key that looks odd is stored all the same: providers change their shapes.
func TestStrangeKeysAreWarnedOf(t *testing.T) {
	s := NewStore(pgtest.Tx(t), ring(t, oldKey))
	for _, test := range []struct {
		provider string
		secret   Secret
		says     string // "": nothing
	}{
		{"openai", goodKey, ""},
		{"openai", "sk-svcacct-0123456789", ""},
		{"openai", "not-a-key-of-openai", "look like sk-…"},
		{"openai", "sk-admin-0123456789", "admin key"},
		{"anthropic", "sk-ant-api03-0123456789", ""},
		{"anthropic", goodKey, "look like sk-ant-api…"},
		{"anthropic", "sk-ant-admin01-0123456789", "admin key"},
		{"google", "AQ.Ab8RN6I0123456789", ""},
		{"google", "AIzaSyA0123456789", "retiring"},
		{"google", "ya29.a0AfH6SMB", "look like AQ.…"},
		{"mistral", "0123456789abcdefABCDEF0123456789", ""},
		{"mistral", "0123456789", "32 letters and digits"},
		{"openrouter", "sk-or-v1-0123456789abcdef", ""},
		{"openrouter", goodKey, "sk-or-v1-…"},
		{"groq", "gsk_0123456789", ""},
		{"groq", "GSK_0123456789", "gsk_…"},
		{"deepseek", "sk-0123456789abcdef0123456789abcdef", ""},
		{"deepseek", "sk-0123456789", "32 hexadecimal digits"},
		{"xai", "xai-0123456789", ""},
		{"xai", "sk-xai-0123456789", "xai-…"},
		{"ollama", "none", ""},
	} {
		t.Run(test.provider+" "+test.says, func(t *testing.T) {
			added, warnings, err := s.AddFallback(within(t), NewFallback{Provider: test.provider, Label: "Main", Secret: test.secret})
			if err != nil {
				t.Fatal(err)
			}
			if opened, err := s.Open(added); err != nil || opened != test.secret {
				t.Errorf("opened as %q, %v", opened.Reveal(), err)
			}
			said := strings.Join(warnings, " ")
			if (said == "") != (test.says == "") || !strings.Contains(said, test.says) {
				t.Errorf("warned %q, want %q", said, test.says)
			}
			if end := string(test.secret[len(test.secret)-4:]); strings.Contains(said, end) {
				t.Errorf("the warning shows %q", end)
			}
		})
	}
}

// Of a key no more is shown than does not help to guess it.
func TestLastFour(t *testing.T) {
	for secret, want := range map[Secret]string{
		"a": "", "abc": "", "abcd": "d", "abcdefgh": "gh", "abcdefghijklmnop": "mnop", Secret(strings.Repeat("k", 500) + "wxyz"): "wxyz",
	} {
		if got := lastFour(secret); got != want {
			t.Errorf("of a key of %d characters %q is shown, want %q", len(secret), got, want)
		}
	}
}
