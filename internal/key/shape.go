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

// strange says what looks odd about a key, without showing any of it.
func strange(provider string, secret Secret) []string {
	var warnings []string
	if shape, ok := shapes[provider]; ok && !shape.pattern.MatchString(string(secret)) {
		warnings = append(warnings, fmt.Sprintf("Keys of this provider usually look like %s. Test the key to be sure.", shape.words))
	}
	return append(warnings, unfit(provider, secret)...)
}

// unfit says what is wrong with a key although its provider accepts it.
func unfit(provider string, secret Secret) []string {
	s := string(secret)
	var warnings []string
	switch {
	case provider == "openai" && strings.HasPrefix(s, "sk-admin-"), provider == "anthropic" && strings.HasPrefix(s, "sk-ant-admin"):
		warnings = append(warnings, "This is an admin key; it cannot run prompts.")
	case provider == "google" && strings.HasPrefix(s, "AIza"):
		warnings = append(warnings, "The provider is retiring keys of this kind. Make a new one that begins with AQ.")
	}
	return warnings
}

// lastFour is what is shown of a key; of a very short one, less.
func lastFour(secret Secret) string {
	s := string(secret)
	return s[len(s)-min(4, len(s)/4):]
}
