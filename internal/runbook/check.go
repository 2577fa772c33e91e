package runbook

import (
	"context"
	"time"
)

// Verdict is what a check makes of what it saw.
type Verdict string

// Unknown is never good: a check that could not look has not found things in
// order.
const (
	OK       Verdict = "ok"
	Warning  Verdict = "warning"
	Critical Verdict = "critical"
	Unknown  Verdict = "unknown"
)

// rank puts what needs somebody first.
func (v Verdict) rank() int {
	switch v {
	case Critical:
		return 3
	case Warning:
		return 2
	case OK:
		return 0
	}
	return 1
}

// Worse says whether v asks for more attention than other.
func (v Verdict) Worse(other Verdict) bool { return v.rank() > other.rank() }

// Fix is how to mend what a check found: a sentence, and the page that does it.
type Fix struct {
	Text  string
	Href  string // "/keys/fallback"; empty: no page does it
	Label string // of the link
}

// Reading is what a check saw.
type Reading struct {
	Verdict Verdict
	Value   string // short: "2 of 3 usable"
	Detail  string // a sentence or some; may be empty
}

// Check is a question about the system that has an answer now. Run may hang or
// panic: nobody else waits for it. An error means that it could not look; its
// text is shown if it is a fault.Error, and never else.
type Check struct {
	ID       string
	Title    string
	Fix      Fix
	Harmless bool          // may be shown to team leads: it says nothing of teams, learners, money or keys
	Keep     time.Duration // how long a reading is good for; 0: ten seconds
	Run      func(ctx context.Context) (Reading, error)
}

// Result is the answer of a check.
type Result struct {
	Check
	Reading
	At   time.Time     // when it was measured; zero: not yet
	Took time.Duration // how long that took
}
