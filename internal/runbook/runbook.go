// Package runbook is what to do when something is wrong: procedures in Markdown
// with versions, and live checks that stand in them. It knows nothing of what
// the checks look at: they are functions handed in.
package runbook

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"time"

	"github.com/promptcademy/promptops/internal/fault"
)

// Limits of a procedure: what somebody could read in an incident, and what can be
// compared while somebody waits.
const (
	MaxBytes = 32 << 10
	MaxLines = 2000
	maxLine  = 4000 // bytes: what nests thousands of times in a line takes seconds to read
	maxSlug  = 60
	maxNote  = 200
)

// Procedure is one page of the runbook as it is now.
type Procedure struct {
	Slug     string // names it in its address
	Markdown string
	Number   int    // of its version; 0: the built-in text, which nobody has edited
	Author   string // of that version; empty for the built-in text
	Note     string
	At       time.Time // zero for the built-in text
	Base     string    // hash of the built-in text that it began from or took over; empty: none
}

// Title is the text of the first heading.
func (p Procedure) Title() string { return TitleOf(p.Markdown) }

// Summary is the first paragraph, as plain text.
func (p Procedure) Summary() string {
	for i, line := range plainLines(p.Markdown) {
		if i > 0 && line.Text != "" && !line.Heading {
			return line.Text
		}
	}
	return ""
}

// TitleOf is the text of the first heading of a Markdown text; empty unless it
// begins with one.
func TitleOf(markdown string) string {
	first, _, _ := strings.Cut(strings.TrimLeft(markdown, "\n"), "\n")
	title, ok := strings.CutPrefix(first, "# ")
	if !ok {
		return ""
	}
	return strings.TrimSpace(title)
}

// HashOf names a text: two texts with the same hash are the same.
func HashOf(markdown string) string {
	sum := sha256.Sum256([]byte(markdown))
	return hex.EncodeToString(sum[:])
}

var slugShape = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// reserved are addresses of other pages.
var reserved = map[string]bool{"new": true, "print": true, "checks": true, "edit": true}

// checkSlug says what is wrong with the name of a new procedure.
func checkSlug(slug string) []fault.Field {
	if len(slug) > maxSlug || !slugShape.MatchString(slug) || reserved[slug] {
		return []fault.Field{{Field: "slug", Message: "must be at most 60 small letters and digits, with single hyphens between words, and not “new”, “print”, “edit” or “checks”"}}
	}
	return nil
}

// Plain is a text from a form as it is stored: with the line ends that we use, and
// without what Postgres cannot keep.
func Plain(markdown string) string {
	markdown = strings.ReplaceAll(strings.ReplaceAll(markdown, "\r\n", "\n"), "\r", "\n")
	markdown = strings.ReplaceAll(strings.ToValidUTF8(markdown, "�"), "\x00", "")
	return strings.Trim(markdown, "\n") + "\n"
}

func tooLarge(markdown string) bool {
	if len(markdown) > MaxBytes || strings.Count(markdown, "\n") > MaxLines {
		return true
	}
	for line := range strings.Lines(markdown) {
		if len(line) > maxLine {
			return true
		}
	}
	return false
}

// clean makes a text that came from a form one that is stored, and says what is
// wrong with it.
func clean(markdown, note string) (string, string, []fault.Field) {
	var problems []fault.Field
	markdown = Plain(markdown)
	note = strings.ReplaceAll(strings.ToValidUTF8(strings.TrimSpace(note), ""), "\x00", "")
	switch {
	case tooLarge(markdown):
		problems = append(problems, fault.Field{Field: "markdown", Message: "must be at most 32 KB and 2,000 lines of 4,000 bytes; make two procedures of it"})
	case TitleOf(markdown) == "":
		problems = append(problems, fault.Field{Field: "markdown", Message: "must begin with its title: a line like “# Provider outage”"})
	case len([]rune(TitleOf(markdown))) > 120:
		problems = append(problems, fault.Field{Field: "markdown", Message: "must have a title of at most 120 characters"})
	}
	if len([]rune(note)) > maxNote {
		problems = append(problems, fault.Field{Field: "note", Message: "must be at most 200 characters"})
	}
	return markdown, note, problems
}
