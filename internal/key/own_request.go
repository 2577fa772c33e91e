package key

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

// ParseNewUser reads the body of POST /api/keys. What cannot be read (syntax,
// types, unknown fields) is fault.Malformed, with every such field; values are for
// Add to judge. What was sent is never repeated: it may hold a key in the wrong
// place.
func ParseNewUser(body []byte, learnerID uuid.UUID) (NewUser, error) {
	n := NewUser{LearnerID: learnerID}
	var members map[string]json.RawMessage
	switch err := json.Unmarshal(body, &members); {
	case len(bytes.TrimSpace(body)) == 0:
		return n, unreadable(problems{{Field: "body", Message: "is empty; send a JSON object with provider, label and secret"}})
	case err != nil || members == nil:
		return n, unreadable(problems{{Field: "body", Message: "must be one JSON object"}})
	}
	var p problems
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch name {
		case "provider":
			p.text(name, members[name], &n.Provider)
		case "label":
			p.text(name, members[name], &n.Label)
		case "secret":
			var secret string
			p.text(name, members[name], &secret)
			n.Secret = Secret(secret)
		default:
			p.add(fieldName(name), "is not a field of this request")
		}
	}
	if len(p) > 0 {
		return n, unreadable(p)
	}
	return n, nil
}

func unreadable(p problems) error {
	return &fault.Error{Kind: fault.Malformed, Message: "The request could not be read; see details.", Details: p}
}

// text reads a string; null counts as absent.
func (p *problems) text(field string, raw json.RawMessage, target *string) {
	switch {
	case !utf8.Valid(raw):
		p.add(field, "is not valid UTF-8")
	case json.Unmarshal(raw, target) != nil:
		p.add(field, "must be a string")
	}
}

// fieldName repeats the name of an unknown field only if it is a word.
func fieldName(name string) string {
	if len(name) > 20 || strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) {
		return fmt.Sprintf("(a name of %d characters)", utf8.RuneCountInString(name))
	}
	return name
}
