package runbook

import (
	"regexp"
	"strings"
	"unicode"
)

// Hit is a procedure in which every word that was looked for occurs.
type Hit struct {
	Procedure
	InTitle  bool
	Passages []string // lines with a word in them, at most three; plain text
}

const maxPassages = 3

// Search finds the procedures that hold all words of a query, in upper or lower
// case; those with a word in the title first.
func Search(procedures []Procedure, query string) []Hit {
	words := Words(query)
	if len(words) == 0 {
		return nil
	}
	var first, rest []Hit
	for _, p := range procedures {
		lines := plainLines(p.Markdown)
		var all strings.Builder
		for _, line := range lines {
			all.WriteString(strings.ToLower(line.Text))
			all.WriteByte('\n')
		}
		if !holdsAll(all.String(), words) {
			continue
		}
		hit := Hit{Procedure: p, InTitle: holdsAny(strings.ToLower(p.Title()), words)}
		for i, line := range lines {
			if i > 0 && len(hit.Passages) < maxPassages && holdsAny(strings.ToLower(line.Text), words) {
				hit.Passages = append(hit.Passages, line.Text)
			}
		}
		if hit.InTitle {
			first = append(first, hit)
		} else {
			rest = append(rest, hit)
		}
	}
	return append(first, rest...)
}

// Words are the words of a query, in lower case.
func Words(query string) []string {
	return strings.FieldsFunc(strings.ToLower(query), unicode.IsSpace)
}

func holdsAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

func holdsAny(text string, words []string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

type plainLine struct {
	Text    string
	Heading bool
}

var (
	linkMark  = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	lineStart = regexp.MustCompile(`^\s*(#+\s+|[-*+]\s+|\d+[.)]\s+|>\s?)`)
	tableRule = regexp.MustCompile(`^[\s|:-]+$`)
)

// plainLines is Markdown as people read it, roughly: for searching and summaries.
func plainLines(markdown string) []plainLine {
	var lines []plainLine
	for _, line := range linesOf(markdown) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") || checkLine.MatchString(line) || tableRule.MatchString(line) {
			continue
		}
		heading := strings.HasPrefix(line, "#")
		line = lineStart.ReplaceAllString(line, "")
		line = linkMark.ReplaceAllString(line, "$1")
		line = strings.NewReplacer("**", "", "`", "", " | ", " · ").Replace(strings.Trim(line, "| "))
		lines = append(lines, plainLine{line, heading})
	}
	return lines
}
