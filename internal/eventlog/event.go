// Package eventlog keeps the program's log where it can be searched: every line
// that goes to standard output also goes to the database, in batches, and nothing
// that logs ever waits for that. It knows none of the things that are logged.
package eventlog

import (
	"encoding/json"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

// Event is one line of the log.
type Event struct {
	ID         uuid.UUID
	At         time.Time
	Level      slog.Level
	Source     string // "api/ai/run"; Program for what says none
	Name       string // "ai_run_start"; Text for what has no name
	RequestID  string // "" for an event of no request
	UserID     *uuid.UUID
	Learner    string          // the address of UserID's account; "" where it is not known or gone
	Node       string          // the process that logged it
	Attributes json.RawMessage // everything else, an object, as it was logged
}

const (
	// Program is the source of events that name none.
	Program = "promptops"

	// Text is the name of events that are a sentence and not a name; it is their
	// attribute "message".
	Text = "message"
)

// JSON is the whole event as one object: as standard output has it, with what else
// is known of it.
func (e Event) JSON() json.RawMessage {
	line := make([]byte, 0, len(e.Attributes)+400)
	add := func(name string, value any) {
		encoded, err := json.Marshal(value)
		if err != nil { // strings and times always marshal
			panic(err)
		}
		line = append(append(append(line, `,"`...), name...), `":`...)
		line = append(line, encoded...)
	}
	add("time", e.At.UTC())
	add("level", e.Level.String())
	add("source", e.Source)
	add("event", e.Name)
	if e.RequestID != "" {
		add("requestId", e.RequestID)
	}
	if e.UserID != nil {
		add("userId", e.UserID)
	}
	add("eventId", e.ID)
	add("node", e.Node)
	line[0] = '{'
	if rest := inside(e.Attributes); len(rest) > 0 {
		line = append(append(line, ','), rest...)
	}
	return append(line, '}')
}
