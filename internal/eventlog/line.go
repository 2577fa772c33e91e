package eventlog

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

const (
	maxLine = 64 << 10 // bytes of a line that are kept
	maxName = 100      // of the name of an event or a source
	maxID   = 128      // of the id of a request
)

// parseLine reads a line of the log. What is not an object is kept as a text: no
// line is without its event.
func parseLine(line []byte, now time.Time) Event {
	e := Event{At: now.UTC(), Source: Program, Name: Text}
	if !utf8.Valid(line) {
		line = bytes.ToValidUTF8(line, []byte("\uFFFD"))
	}
	line = bytes.TrimSpace(line)
	if len(line) > maxLine || !isObject(line) {
		e.Level = slog.LevelWarn
		e.Attributes = asMessage(strings.ToValidUTF8(string(line[:min(len(line), maxLine/4)]), ""))
		return e
	}
	rest := append(make([]byte, 0, len(line)), '{')
	message := ""
	eachMember(line, func(name, value []byte) {
		if e.take(name, value, &message) {
			return
		}
		if len(rest) > 1 {
			rest = append(rest, ',')
		}
		rest = append(append(append(rest, name...), ':'), value...)
	})
	if message != "" {
		if len(rest) > 1 {
			rest = append(rest, ',')
		}
		rest = append(rest, inside(asMessage(message))...)
	}
	e.Attributes = append(rest, '}')
	return e
}

// take reads a member that has a column of its own, and says whether it is one. What
// cannot be read as its column wants it stays among the others.
func (e *Event) take(name, value []byte, message *string) bool {
	switch string(name) {
	case `"time"`, `"level"`, `"event"`, `"source"`, `"requestId"`, `"userId"`:
	default:
		return false
	}
	if string(value) == "null" {
		return true
	}
	text, ok := unquote(value)
	if !ok {
		return false
	}
	switch string(name) {
	case `"time"`:
		at, err := time.Parse(time.RFC3339Nano, text)
		if err == nil {
			e.At = at.UTC().Truncate(time.Microsecond)
		}
		return err == nil
	case `"level"`:
		return e.Level.UnmarshalText([]byte(text)) == nil
	case `"event"`:
		if isName(text) {
			e.Name = text
		} else {
			*message = text
		}
	case `"source"`:
		if !isName(text) {
			return false
		}
		e.Source = text
	case `"requestId"`:
		if text == "" || len(text) > maxID || strings.ContainsRune(text, 0) {
			return false
		}
		e.RequestID = text
	case `"userId"`:
		id, err := uuid.Parse(text)
		if err == nil {
			e.UserID = &id
		}
		return err == nil
	}
	return true
}

// unquote reads a string of JSON.
func unquote(value []byte) (text string, ok bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1]), true
	}
	return text, json.Unmarshal(value, &text) == nil
}

// isName tells names from sentences, of which there is no end: events are counted
// by name.
func isName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-./:", r) {
			return false
		}
	}
	return true
}

func asMessage(text string) json.RawMessage {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]string{"message": text}); err != nil { // strings always marshal
		panic(err)
	}
	return bytes.TrimSpace(out.Bytes())
}

// inside is an object without its braces.
func inside(object []byte) []byte {
	object = bytes.TrimSpace(object)
	if len(object) < 2 {
		return nil
	}
	return bytes.TrimSpace(object[1 : len(object)-1])
}

func isObject(line []byte) bool { return len(line) > 1 && line[0] == '{' && json.Valid(line) }

// eachMember hands out the members of an object, names and values as they are
// written. It is known to be one, so that only strings and depth count: encoding/json
// would take several times as long, for every line of the log.
func eachMember(line []byte, visit func(name, value []byte)) {
	for at := 1; ; {
		at = skipSpace(line, at)
		if line[at] == '}' {
			return
		}
		if line[at] == ',' {
			at = skipSpace(line, at+1)
		}
		end := valueEnd(line, at)
		name := line[at:end]
		at = skipSpace(line, end)
		at = skipSpace(line, at+1) // the colon
		end = valueEnd(line, at)
		visit(name, line[at:end])
		at = end
	}
}

func skipSpace(line []byte, at int) int {
	for line[at] == ' ' || line[at] == '\t' || line[at] == '\n' || line[at] == '\r' {
		at++
	}
	return at
}

// valueEnd is where the value that begins at a place ends.
func valueEnd(line []byte, at int) int {
	depth, quoted := 0, false
	for ; ; at++ {
		c := line[at]
		if quoted {
			switch c {
			case '\\':
				at++
			case '"':
				quoted = false
				if depth == 0 {
					return at + 1
				}
			}
			continue
		}
		switch {
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth < 0 {
				return at // of a number or a word at the end of its object
			}
			if depth == 0 {
				return at + 1
			}
		case depth == 0 && (c == ',' || c == ':' || c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			return at
		}
	}
}
