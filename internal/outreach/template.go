package outreach

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/promptcademy/promptops/internal/fault"
)

// Channels of a nudge.
const (
	Email = "email" // one message for each learner
	Slack = "slack" // one message that lists them all
)

// Template is how nudges of one channel are written, with {{placeholders}}.
type Template struct {
	Subject string // of an e-mail
	Text    string
}

// defaults are the templates until somebody writes others.
var defaults = map[string]Template{
	Email: {
		Subject: "Your own key for Promptcademy",
		Text: `Hello {{name}},

you are learning on Promptcademy without a provider key of your own that works, so the platform's keys pay for your prompts. They are limited: once they are used up, your prompts end with "Missing API key".

Please add a key for {{providers}}: {{keys_url}}
It takes two minutes, and your key is checked at once.

Thank you!`,
	},
	Slack: {Text: `{{count}} without a provider key of their own that works:
{{learners}}

A key is added in {{keys_url}}.`},
}

// Placeholder is one that a template may have.
type Placeholder struct {
	Name  string
	About string
}

// Placeholders are those of a channel.
func Placeholders(channel string) []Placeholder {
	if channel == Slack {
		return []Placeholder{
			{"learners", "a line for each learner: name, teams, providers"},
			{"count", "how many they are, like “3 learners”"},
			{"keys_url", "where a key is added"},
		}
	}
	return []Placeholder{
		{"name", "the learner’s name, or “there”"},
		{"email", "the learner’s address"},
		{"teams", "their teams, or “no team”"},
		{"providers", "providers they used without a key of their own, or “a provider of your choice”"},
		{"keys_url", "where a key is added"},
	}
}

var placeholder = regexp.MustCompile(`\{\{\s*([^{}]*?)\s*\}\}`)

const (
	maxSubject = 200
	maxText    = 5000
)

// check refuses a template that cannot be sent, as fault.Invalid with the fields
// "subject" and "text".
func (t Template) check(channel string) []fault.Field {
	var problems []fault.Field
	refuse := func(field, message string) { problems = append(problems, fault.Field{Field: field, Message: message}) }
	known := map[string]bool{}
	var names []string
	for _, p := range Placeholders(channel) {
		known[p.Name] = true
		names = append(names, "{{"+p.Name+"}}")
	}
	for _, part := range []struct {
		field, text string
		most        int
		needed      bool
	}{{"subject", t.Subject, maxSubject, channel == Email}, {"text", t.Text, maxText, true}} {
		text := part.text
		switch {
		case strings.TrimSpace(text) == "" && part.needed:
			refuse(part.field, "is missing")
			continue
		case len(text) > part.most:
			refuse(part.field, "is too long; shorten it")
		case !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool {
			return unicode.IsControl(r) && (part.field == "subject" || r != '\n' && r != '\t')
		}):
			refuse(part.field, "holds characters that cannot be sent")
		}
		var unknown []string
		for _, found := range placeholder.FindAllStringSubmatch(text, -1) {
			if !known[found[1]] && !slices.Contains(unknown, "{{"+found[1]+"}}") {
				unknown = append(unknown, "{{"+found[1]+"}}")
			}
		}
		if len(unknown) > 0 {
			refuse(part.field, "has "+strings.Join(unknown, ", ")+", which nobody knows; there are "+strings.Join(names, ", "))
		} else if rest := placeholder.ReplaceAllString(text, ""); strings.Contains(rest, "{{") || strings.Contains(rest, "}}") {
			refuse(part.field, "has {{ or }} without the other; write placeholders like "+names[0])
		}
	}
	return problems
}

// ForLearner fills in an e-mail.
func (t Template) ForLearner(l Learner, providerName func(string) string, keysURL string) Template {
	values := map[string]string{
		"name": cmp.Or(oneLine(l.Name), "there"), "email": l.Email,
		"teams":     cmp.Or(oneLine(strings.Join(l.Teams, ", ")), "no team"),
		"providers": cmp.Or(named(l.wants(), providerName), "a provider of your choice"), "keys_url": keysPlace(keysURL),
	}
	return Template{fill(t.Subject, values), fill(t.Text, values)}
}

// ForChannel fills in a message about several learners.
func (t Template) ForChannel(learners []Learner, providerName func(string) string, keysURL string) Template {
	var lines []string
	for _, l := range learners {
		line := "• " + oneLine(l.Called())
		if len(l.Teams) > 0 {
			line += " (" + oneLine(strings.Join(l.Teams, ", ")) + ")"
		}
		if providers := named(l.wants(), providerName); providers != "" {
			line += ": " + providers
		}
		lines = append(lines, line)
	}
	count := "1 learner"
	if len(learners) != 1 {
		count = strconv.Itoa(len(learners)) + " learners"
	}
	values := map[string]string{"learners": strings.Join(lines, "\n"), "count": count, "keys_url": keysPlace(keysURL)}
	return Template{fill(t.Subject, values), fill(t.Text, values)}
}

// wants are the providers to name to a learner: those whose key broke, and those
// used without one.
func (l Learner) wants() []string {
	all := slices.Concat(l.Broken, l.Needs)
	all = slices.DeleteFunc(all, func(p string) bool { return slices.Contains(l.Usable, p) })
	slices.Sort(all)
	return slices.Compact(all)
}

func fill(text string, values map[string]string) string {
	// In one go: what a learner calls themselves is not looked at again.
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		return values[placeholder.FindStringSubmatch(found)[1]]
	})
}

// oneLine keeps a name from being more than a name.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }), " ")
}

func named(providers []string, name func(string) string) string {
	names := make([]string, len(providers))
	for i, p := range providers {
		names[i] = name(p)
	}
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}

// keysPlace says where keys are added, also where nobody has said at which
// address.
func keysPlace(keysURL string) string { return cmp.Or(keysURL, "Settings → API Keys") }
