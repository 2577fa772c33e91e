package views

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// AuditPage is the log of what operators did, the newest entries first.
type AuditPage struct {
	Page
	Filters  AuditFilters
	Entries  []AuditEntry
	Verified *AuditVerified // nil: nobody has verified the log yet
	Added    string         // entries since then, without a verification all: "1,234"; "" for none
	CSV      string         // address of the same entries as a file
	Newest   string         // address of the first page; "" where this is it
	Older    string         // address of the next one; "" where there is none
}

// AuditFilters is the form above the log.
type AuditFilters struct {
	Who       []Option
	Subjects  []Option
	Action    string
	Actions   []string // to choose from; any beginning will do
	From, To  string   // days: "2026-11-24"
	Today     string
	SubjectID string // only this subject; "" for all
	Narrowed  bool
	Problem   string // why the filters could not be used
}

// AuditVerified is the last verification of the log.
type AuditVerified struct {
	At      Moment
	By      string
	Entries string // "1,234"
	Broken  string // the first entry that is not as it was; "" where the log is whole
	Head    string // hash of the last entry, in hexadecimal
}

// AuditEntry is one action.
type AuditEntry struct {
	ID      string
	At      Moment
	Who     string
	Action  string // "fallback_key.disable"
	Subject string // what it was done to, as known then; "" for nothing in particular
	Kind    string // of the subject, in words: "fallback key"
	Href    string // the subject's page; "" where there is none
	History string // address of all that was done to the subject; "" where there is no subject
	Details []AuditDetail
}

// AuditDetail is a value that was changed, or anything else that was noted.
type AuditDetail struct {
	Label   string
	From    string
	To      string // or what was noted
	Changed bool   // From counts
}

// maxDetail is how many characters of a value are shown; the file has all.
const maxDetail = 400

// AuditDetails writes out the details of an entry: what changed first, then what
// was noted, each in the order of names.
func AuditDetails(details map[string]any) []AuditDetail {
	var changes, notes []AuditDetail
	for _, name := range slices.Sorted(maps.Keys(details)) {
		d := AuditDetail{Label: Words(name)}
		change, ok := details[name].(map[string]any)
		from, hasFrom := change["from"]
		to, hasTo := change["to"]
		if ok && hasFrom && hasTo && len(change) == 2 {
			d.From, d.To, d.Changed = auditValue(from), auditValue(to), true
			changes = append(changes, d)
			continue
		}
		d.To = auditValue(details[name])
		notes = append(notes, d)
	}
	return append(changes, notes...)
}

// auditValue writes out a value of JSON.
func auditValue(value any) string {
	text := ""
	switch v := value.(type) {
	case nil:
		return "none"
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case string:
		if text = v; text == "" {
			return "empty"
		}
	case json.Number, float64, int, int64:
		text = fmt.Sprint(v)
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = auditValue(item)
		}
		if text = strings.Join(parts, ", "); text == "" {
			return "none"
		}
	default:
		plain, _ := json.Marshal(v) // it came from JSON
		text = string(plain)
	}
	if runes := []rune(text); len(runes) > maxDetail {
		return string(runes[:maxDetail-1]) + "…"
	}
	return text
}

// Words writes a name of the program's as words: "monthlyCapUsd" and
// "monthly_cap_usd" are both "monthly cap USD".
func Words(name string) string {
	var spaced strings.Builder
	var before rune
	for _, r := range name {
		if unicode.IsUpper(r) && unicode.IsLower(before) {
			spaced.WriteByte(' ')
		}
		before = r
		spaced.WriteRune(r)
	}
	words := strings.FieldsFunc(spaced.String(), func(r rune) bool { return r == '_' || r == '-' || r == ' ' })
	for i, word := range words {
		switch word = strings.ToLower(word); word {
		case "usd", "id", "url", "csv":
			words[i] = strings.ToUpper(word)
		default:
			words[i] = word
		}
	}
	return strings.Join(words, " ")
}
