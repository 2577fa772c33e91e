package key

import (
	"fmt"
	"regexp"
	"strings"
)

// shapes are what providers' keys look like today. Providers change them, so a
// key of another shape is stored all the same, with a warning.
var shapes = map[string]struct {
	pattern *regexp.Regexp
	words   string
}{
	"openai":     {regexp.MustCompile(`^sk-`), "sk-…"},
	"anthropic":  {regexp.MustCompile(`^sk-ant-api`), "sk-ant-api…"},
	"google":     {regexp.MustCompile(`^(AQ\.|AIza)`), "AQ.…"},
	"mistral":    {regexp.MustCompile(`^[A-Za-z0-9]{32}$`), "32 letters and digits"},
	"openrouter": {regexp.MustCompile(`^sk-or-v1-`), "sk-or-v1-…"},
	"groq":       {regexp.MustCompile(`^gsk_`), "gsk_…"},
	"deepseek":   {regexp.MustCompile(`^sk-[0-9a-f]{32}$`), "sk-… with 32 hexadecimal digits"},
	"xai":        {regexp.MustCompile(`^xai-`), "xai-…"},
}

// Oddity is what looks odd about a key, in one word.
type Oddity string

const (
	OddShape    Oddity = "shape"    // not as keys of this provider look
	OddAdmin    Oddity = "admin"    // manages accounts, and cannot run prompts
	OddRetiring Oddity = "retiring" // of a kind that the provider gives up
)

// Words are an oddity of a provider's key in a sentence or two; "" for none.
func (o Oddity) Words(provider string) string {
	switch o {
	case OddShape:
		if shape, ok := shapes[provider]; ok {
			return fmt.Sprintf("Keys of this provider usually look like %s. Test the key to be sure.", shape.words)
		}
	case OddAdmin:
		return "This is an admin key; it cannot run prompts."
	case OddRetiring:
		return "The provider is retiring keys of this kind. Make a new one that begins with AQ."
	}
	return ""
}

// oddities are what looks odd about a key.
func oddities(provider string, secret Secret) []Oddity {
	s := string(secret)
	var odd []Oddity
	if shape, ok := shapes[provider]; ok && !shape.pattern.MatchString(s) {
		odd = append(odd, OddShape)
	}
	switch {
	case provider == "openai" && strings.HasPrefix(s, "sk-admin-"), provider == "anthropic" && strings.HasPrefix(s, "sk-ant-admin"):
		odd = append(odd, OddAdmin)
	case provider == "google" && strings.HasPrefix(s, "AIza"):
		odd = append(odd, OddRetiring)
	}
	return odd
}

// strange says what looks odd about a key, without showing any of it.
func strange(provider string, secret Secret) []string {
	var warnings []string
	for _, odd := range oddities(provider, secret) {
		warnings = append(warnings, odd.Words(provider))
	}
	return warnings
}

// lastFour is what is shown of a key; of a very short one, less.
func lastFour(secret Secret) string {
	s := string(secret)
	return s[len(s)-min(4, len(s)/4):]
}
