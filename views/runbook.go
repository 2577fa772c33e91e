package views

import (
	"net/url"
	"strconv"
	"strings"
)

// RunbookPage is the page at /runbook: every procedure and every check.
type RunbookPage struct {
	Page
	Query      string // what is looked for; "" for nothing
	Procedures []ProcedureRow
	Hits       []ProcedureHit // of Query
	Checks     []CheckCard    // those that whoever looks may see, what needs somebody first
	Removed    []ProcedureRow // only for admins
	Away       bool           // the database does not answer: these are the built-in texts
	Tally      string         // "2 checks need somebody, 1 could not look"
}

// ProcedureRow is a procedure in a list.
type ProcedureRow struct {
	Slug    string
	Title   string
	Summary string
	Edited  string // "Version 3"; "" for the built-in text
	Failing string // "2 checks need attention"; "" for none
	Verdict string // the worst one of its checks
}

// ProcedureHit is a procedure in which all words were found.
type ProcedureHit struct {
	Slug     string
	Title    []Piece
	Passages [][]Piece
}

// Piece is a part of a text, one that was looked for or one between those.
type Piece struct {
	Text  string
	Found bool
}

// CheckCard is a check and what it last saw.
type CheckCard struct {
	ID       string
	Anchor   string // id of its element: the second of the same check on a page has another one
	Title    string
	Verdict  string // ok, warning, critical, unknown
	Value    string
	Detail   string
	FixText  string
	FixHref  string // "" when no page mends it
	FixLabel string
	At       Moment
	Clock    string // "12:00:05 UTC"
	Took     string
	Page     string // where it stands: "/runbook/slow-runs"
	Start    string // address that starts an incident from it; "" for who may not
}

// word says a verdict without its colour.
func (c CheckCard) word() string {
	switch c.Verdict {
	case "ok":
		return "Good"
	case "warning":
		return "Look into it"
	case "critical":
		return "Act now"
	}
	return "Could not check"
}

func (c CheckCard) icon() string {
	switch c.Verdict {
	case "ok":
		return "check"
	case "warning", "critical":
		return "alert"
	}
	return "info"
}

func (c CheckCard) tag() string {
	switch c.Verdict {
	case "ok":
		return "tag-success"
	case "warning":
		return "tag-warning"
	case "critical":
		return "tag-error"
	}
	return "tag-info"
}

// again is this page with the check asked anew.
func (c CheckCard) again() string {
	return c.Page + "?recheck=" + url.QueryEscape(c.ID) + "#" + c.Anchor
}

// fragment is the check alone, asked anew.
func (c CheckCard) fragment() string {
	return "/runbook/checks/" + c.ID + "?" + url.Values{"at": {c.Page}, "anchor": {c.Anchor}}.Encode()
}

// ProcedurePage is the page of one procedure.
type ProcedurePage struct {
	Page
	Procedure ProcedureText
	Away      bool
	Newer     *NewerText // nil: the program brings nothing newer
}

// ProcedureText is a procedure as it is read.
type ProcedureText struct {
	Slug   string
	Title  string
	Parts  []RunbookPart
	Number int // 0: the built-in text
	Author string
	At     Moment // of an edited one
	Checks int
}

// RunbookPart is a piece of a text: HTML made from Markdown, or a check.
type RunbookPart struct {
	HTML  string
	Check *CheckCard
	Title string // of a check that is not shown: to a lead, or in a preview
	Why   string // and why
}

// NewerText is a built-in text that is newer than the one a procedure began from.
type NewerText struct {
	Merges bool // with what was edited, by itself
	Seen   string
}

// RunbookPrint is all procedures on one page.
type RunbookPrint struct {
	Page
	Procedures []ProcedureText
	At         Moment
	Away       bool
}

// EditPage is the form of a procedure.
type EditPage struct {
	Page
	New       bool
	Slug      string
	Title     string
	Markdown  string
	Note      string
	From      string
	Built     string
	Problem   string            // why nothing was saved
	Problems  map[string]string // by field
	Preview   []RunbookPart
	Previewed bool
	Warnings  []string // links that lead nowhere and the like
	Theirs    *TheirText
	Checks    []CheckName
}

// CheckName is a check that may be placed in a text.
type CheckName struct{ ID, Title string }

// TheirText is what somebody else saved meanwhile.
type TheirText struct {
	Author   string
	At       Moment
	Number   string
	Markdown string
	Diff     []DiffLine // from theirs to mine
}

func (p EditPage) action() string {
	if p.New {
		return "/runbook/new"
	}
	return "/runbook/" + p.Slug + "/edit"
}

// HistoryPage is every version of a procedure.
type HistoryPage struct {
	Page
	Slug     string
	Title    string
	Removed  bool
	Seen     string // number of the newest version
	Versions []VersionRow
}

// VersionRow is one version.
type VersionRow struct {
	Number  string
	Author  string // "" for the built-in text
	At      Moment
	Note    string
	Removed bool
	Newest  bool
	Before  string // number of the version before; "" for the first
}

// DiffPage compares two versions.
type DiffPage struct {
	Page
	Slug  string
	Title string
	From  string // "Version 2"
	To    string
	Lines []DiffLine
	Same  bool
}

// DiffLine is a line of a comparison: kind "same", "old" or "new".
type DiffLine struct {
	Kind string
	Text string
}

func (l DiffLine) sign() string {
	switch l.Kind {
	case "old":
		return "−"
	case "new":
		return "+"
	}
	return " "
}

// Highlight splits a text at the words that were looked for, which are in lower
// case.
func Highlight(text string, words []string) []Piece {
	lower := strings.ToLower(text)
	if len(lower) != len(text) { // a letter whose small form has another length: no offsets to go by
		return []Piece{{Text: text}}
	}
	var pieces []Piece
	begin := 0
	for at := 0; at < len(text); {
		found := ""
		for _, w := range words {
			if strings.HasPrefix(lower[at:], w) && len(w) > len(found) {
				found = w
			}
		}
		if found == "" {
			at++
			continue
		}
		if at > begin {
			pieces = append(pieces, Piece{Text: text[begin:at]})
		}
		pieces = append(pieces, Piece{Text: text[at : at+len(found)], Found: true})
		at += len(found)
		begin = at
	}
	if begin < len(text) {
		pieces = append(pieces, Piece{Text: text[begin:]})
	}
	return pieces
}

// TallyOf says how many checks need somebody; "" when all are good.
func TallyOf(checks []CheckCard) string {
	var bad, unknown int
	for _, c := range checks {
		switch c.Verdict {
		case "critical", "warning":
			bad++
		case "ok":
		default:
			unknown++
		}
	}
	var words []string
	if bad == 1 {
		words = append(words, "1 check needs somebody")
	} else if bad > 1 {
		words = append(words, strconv.Itoa(bad)+" checks need somebody")
	}
	if unknown > 0 {
		words = append(words, strconv.Itoa(unknown)+" could not look")
	}
	return strings.Join(words, ", ")
}
