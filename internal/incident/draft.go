package incident

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

const (
	MaxTitle = 200    // characters of a title or a follow-up
	MaxText  = 10_000 // characters of a note, or of a part of the post-mortem
)

// Draft is what an operator decides about an incident, when it starts and later.
type Draft struct {
	Title      string
	Severity   Severity
	LeadID     *uuid.UUID
	DetectedAt time.Time
}

// checked returns the draft as it is stored. It is fault.Invalid with every field
// that cannot be used. latest is the moment after which it cannot have been
// detected, and why that is.
func (d Draft) checked(latest time.Time, why string) (Draft, error) {
	var problems []fault.Field
	title, problem := line(d.Title)
	if problem != "" {
		problems = append(problems, fault.Field{Field: "title", Message: problem})
	}
	d.Title = title
	if d.Severity < 1 || d.Severity > 3 {
		problems = append(problems, fault.Field{Field: "severity", Message: "must be SEV1, SEV2 or SEV3"})
	}
	d.DetectedAt = d.DetectedAt.UTC().Truncate(time.Microsecond)
	switch {
	case d.DetectedAt.After(latest):
		problems = append(problems, fault.Field{Field: "detectedAt", Message: why})
	case d.DetectedAt.Before(latest.AddDate(-1, 0, 0)):
		problems = append(problems, fault.Field{Field: "detectedAt", Message: "is more than a year ago; give the day on which it was noticed"})
	}
	if len(problems) > 0 {
		return d, fault.InvalidFields(problems)
	}
	return d, nil
}

// line is text of one line as it is stored, or what is wrong with it.
func line(s string) (clean, problem string) {
	clean = strings.Join(strings.Fields(readable(s)), " ")
	switch {
	case clean == "":
		return "", "must not be empty"
	case utf8.RuneCountInString(clean) > MaxTitle:
		return clean, "must have at most 200 characters"
	}
	return clean, ""
}

// text is text of several lines as it is stored, or what is wrong with it.
func text(s string) (clean, problem string) {
	clean = strings.TrimSpace(readable(strings.ReplaceAll(s, "\r\n", "\n")))
	if utf8.RuneCountInString(clean) > MaxText {
		return clean, "must have at most 10,000 characters"
	}
	return clean, ""
}

// readable leaves out what cannot be seen or stored: control characters, and those
// that turn the direction of what stands around them.
func readable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\r' || r == '\u2028' || r == '\u2029':
			return '\n'
		case r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' || unicode.IsControl(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

func (t Texts) checked() (Texts, error) {
	var problems []fault.Field
	for _, part := range []struct {
		field string
		text  *string
	}{{"summary", &t.Summary}, {"wentWell", &t.WentWell}, {"wentBadly", &t.WentBadly}, {"lessons", &t.Lessons}} {
		clean, problem := text(*part.text)
		if problem != "" {
			problems = append(problems, fault.Field{Field: part.field, Message: problem})
		}
		*part.text = clean
	}
	if len(problems) > 0 {
		return t, fault.InvalidFields(problems)
	}
	return t, nil
}

// differ names the parts that differ.
func (t Texts) differ(from Texts) []string {
	var parts []string
	for name, differs := range map[string]bool{
		"summary": t.Summary != from.Summary, "went well": t.WentWell != from.WentWell, "went badly": t.WentBadly != from.WentBadly, "lessons": t.Lessons != from.Lessons,
	} {
		if differs {
			parts = append(parts, name)
		}
	}
	slices.Sort(parts)
	return parts
}
