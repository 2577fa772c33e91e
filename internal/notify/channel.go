package notify

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Channel is one way to tell somebody. It is made for one Setup.
type Channel interface {
	// Send returns once the other side has taken the delivery. A note says in
	// words what went wrong although it was taken. Any other outcome is a
	// *Failure.
	Send(ctx context.Context, d Delivery) (note string, err error)
}

// Failure is why something was not sent.
type Failure struct {
	Words     string        // a sentence for people: says what happened and what to do; holds no secret
	Permanent bool          // trying again would meet with the same
	Everybody bool          // it is not about this message: others on the channel would meet with the same
	After     time.Duration // the other side asked to be left alone for so long; 0: it did not
}

func (f *Failure) Error() string { return f.Words }

// Options are what channels need beside their Setup.
type Options struct {
	AllowPrivate bool        // webhooks may lead to loopback and private addresses
	TLS          *tls.Config // of mail servers and web servers; nil: the system's authorities
}

// makers is every channel there is. One more is a file that makes it and a row
// here; the conformance test walks this table.
var makers = map[string]func(Setup, Options) Channel{
	Email:   newMail,
	Slack:   newSlack,
	Webhook: newWebhook,
}

// storable leaves out what Postgres cannot store in a text.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

// oneLine makes a text a line without control characters: as a header, or in a
// sentence.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.Join(strings.Fields(s), " ")
}

// cut shortens a text to at most so many runes.
func cut(s string, limit int) string {
	if runes := []rune(s); len(runes) > limit {
		return strings.TrimSpace(string(runes[:limit-1])) + "…"
	}
	return s
}

const maxQuote = 200 // runes of what others say that is shown

// quoted is what the other side said as part of a sentence, without the secrets
// that it may have echoed.
func quoted(said string, secrets ...Secret) string {
	for _, s := range secrets {
		if s != "" {
			said = strings.ReplaceAll(said, string(s), "[redacted]")
		}
	}
	if said = cut(oneLine(said), maxQuote); said == "" {
		return "nothing"
	}
	return fmt.Sprintf("“%s”", said)
}
