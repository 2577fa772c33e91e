package provider

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// redacted stands where a key was.
	redacted = "[key]"
	// fragment is the shortest piece of a secret that is taken out. Shorter ones
	// give nothing away and are found in any text.
	fragment = 6
	// maxMessage is the length of a Failure's message, in characters.
	maxMessage = 300
)

var (
	// keyShapes are what keys look like, whole or cut short. What may stand
	// directly before one in a URL or in escaped JSON is kept.
	keyShapes = regexp.MustCompile(`(\b|_|%[0-9A-Fa-f]{2}|\\[nrt])` +
		`(?:(?:sk-|gsk_|xai-|AIza|AQ\.)[\w\-.*•…]{2,}[\w\-*•…]` +
		`|eyJ[\w\-]{10,}(?:\.[\w\-]+)*` + // a JSON web token
		`|ya29\.[\w\-.]{4,})`)
	keyInHeader = regexp.MustCompile(`(?i)\b(bearer|basic)\s+(?:[\w\-.~+/=*]*[\d*][\w\-.~+/=*]{3,}|[\w\-.~+/=]{24,})`)
	keyInURL    = regexp.MustCompile(`(?i)([?&](?:key|api[_-]?key|access_token|token)=)[^&\s"'<>]+`)
	login       = regexp.MustCompile(`://[^/\s@"']+@`)
	// masked is a key that its owner has made unreadable, but for its ends.
	masked = regexp.MustCompile(`[\w\-]*(?:\*{2,}|•{2,}|\.{3,}|…)(?:[\w\-*•.…]*[\w\-*•…])?`)
	mask   = regexp.MustCompile(`\*{2,}|•{2,}|\.{3,}|…`)
	markup = regexp.MustCompile(`<[!/a-zA-Z][^<>]*(?:>|$)`)
)

// Scrub takes keys out of a provider's message: every run of six or more
// characters that also stands in one of secrets (of a shorter secret: the whole
// of it), masked forms such as "sk-ab***yz", and whatever looks like anybody's
// key. Capitals make no difference. Ordinary words stay, unless a secret
// contains them: then safety wins.
func Scrub(message string, secrets ...string) string {
	message = masked.ReplaceAllStringFunc(message, func(token string) string {
		if isMaskedKey(token, secrets) {
			return redacted
		}
		return token
	})
	message = keyShapes.ReplaceAllString(message, "${1}"+redacted)
	message = keyInHeader.ReplaceAllString(message, "${1} "+redacted)
	message = keyInURL.ReplaceAllString(message, "${1}"+redacted)
	message = login.ReplaceAllString(message, "://"+redacted+"@")
	for _, secret := range secrets {
		message = cutFragments(message, secret)
	}
	// What was put in may, with its surroundings, spell a piece of another
	// secret; only a contrived one, so nothing finer than silence is needed.
	for _, secret := range secrets {
		if len(secret) >= fragment && cutFragments(message, secret) != message {
			return ""
		}
	}
	return message
}

// isMaskedKey tells a masked key from an ellipsis and from emphasis.
func isMaskedKey(token string, secrets []string) bool {
	if strings.Contains(token, "***") || strings.Contains(token, "••") {
		return true
	}
	ends := mask.FindAllStringIndex(token, -1)
	left, right := token[:ends[0][0]], token[ends[len(ends)-1][1]:]
	for _, secret := range secrets {
		if len(left) >= 2 && hasPrefixFold(secret, left) || len(right) >= 2 && hasPrefixFold(reverse(secret), reverse(right)) {
			return true
		}
	}
	return false
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func reverse(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

// cutFragments takes out every run of characters that also stands in secret.
func cutFragments(message, secret string) string {
	n := min(fragment, len(secret))
	if n < 3 {
		return message
	}
	folded, low := lower(secret), lower(message)
	pieces := make(map[string]struct{}, len(folded))
	for i := 0; i+n <= len(folded); i++ {
		pieces[folded[i:i+n]] = struct{}{}
	}
	var out strings.Builder
	kept := 0 // message[:kept] is dealt with
	for i := 0; i+n <= len(low); {
		if _, found := pieces[low[i:i+n]]; !found {
			i++
			continue
		}
		from, to := i, i+n
		for i++; i <= to && i+n <= len(low); i++ {
			if _, found := pieces[low[i:i+n]]; found {
				to = i + n
			}
		}
		for from > kept && !utf8.RuneStart(message[from]) {
			from--
		}
		for to < len(message) && !utf8.RuneStart(message[to]) {
			to++
		}
		out.WriteString(message[kept:from])
		out.WriteString(redacted)
		kept, i = to, max(i, to)
	}
	if kept == 0 {
		return message
	}
	out.WriteString(message[kept:])
	return out.String()
}

// lower is in lower case what is ASCII; its bytes stay where they were.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// tidy makes one line of valid UTF-8 without markup and control characters.
func tidy(message string) string {
	message = strings.ToValidUTF8(message, "")
	message = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs):
			return -1
		}
		return r
	}, message)
	message = markup.ReplaceAllString(message, " ")
	return strings.Join(strings.Fields(message), " ")
}

// cut shortens a message to maxMessage characters.
func cut(message string) string {
	if len(message) <= maxMessage || utf8.RuneCountInString(message) <= maxMessage {
		return message
	}
	runes := []rune(message)
	return string(runes[:maxMessage-1]) + "…"
}

// guard keeps the key itself out of a model's text, also when it comes in
// pieces: an endpoint that echoes its request must not hand a fallback key to a
// learner. Unlike in Scrub, only the whole key counts: the text is the
// learner's, and what looks like a key there may be an example.
type guard struct {
	secret string
	held   string // the end of the text so far, which may be the start of the key
}

func newGuard(secret string) guard {
	if len(secret) < 16 { // "ollama", "none": not secret, and a word in any text
		return guard{}
	}
	return guard{secret: secret}
}

// pass returns what may be handed on now.
func (g *guard) pass(text string) string {
	if g.secret == "" {
		return text
	}
	if g.held != "" {
		text = g.held + text
	}
	if strings.Contains(text, g.secret) {
		text = strings.ReplaceAll(text, g.secret, redacted)
	}
	held := min(len(text), len(g.secret)-1)
	for held > 0 && !strings.HasSuffix(text, g.secret[:held]) {
		held--
	}
	g.held = text[len(text)-held:]
	return text[:len(text)-held]
}

// rest returns what was held back when nothing more comes.
func (g *guard) rest() string {
	rest := g.held
	g.held = ""
	if len(rest) >= 2*fragment {
		return redacted
	}
	return rest
}
