// Package incident is what broke and how it was looked after: a state, a time line
// that fills itself from what other tables tell, what it cost, a post-mortem and
// what is left to do.
package incident

import (
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

// Severity says how bad it is; 1 is the worst.
type Severity int

// Severities are all of them, the worst first.
var Severities = []Severity{1, 2, 3}

// String is the short name: "SEV1".
func (s Severity) String() string { return "SEV" + string(rune('0'+s)) }

// Words say what the severity stands for.
func (s Severity) Words() string {
	switch s {
	case 1:
		return "learners cannot work"
	case 2:
		return "learners work with trouble"
	}
	return "learners hardly notice"
}

// Status is how far it is.
type Status string

const (
	Open      Status = "open"
	Mitigated Status = "mitigated" // learners are helped, the cause is not gone
	Resolved  Status = "resolved"
)

// Statuses are all of them, in order.
var Statuses = []Status{Open, Mitigated, Resolved}

// Incident is one incident, without its time line.
type Incident struct {
	ID             int64
	Title          string
	Severity       Severity
	Status         Status
	LeadID         *uuid.UUID // nil: nobody leads yet
	CheckID        string     // the live check it was started from; may be empty
	Step           string     // the runbook's step it was started from; may be empty
	DetectedAt     time.Time
	AcknowledgedAt *time.Time
	AcknowledgedBy *uuid.UUID
	MitigatedAt    *time.Time
	ResolvedAt     *time.Time
	Summary        string
	WentWell       string
	WentBadly      string
	Lessons        string
	Revision       int
	CreatedAt      time.Time
	CreatedBy      *uuid.UUID

	LeadName         string // name or address of LeadID; empty: there is none
	AcknowledgedName string
}

// Texts are what people write for the post-mortem.
type Texts struct{ Summary, WentWell, WentBadly, Lessons string }

// Texts returns those of the incident.
func (i Incident) Texts() Texts { return Texts{i.Summary, i.WentWell, i.WentBadly, i.Lessons} }

// End is when it was resolved, or now while it is not.
func (i Incident) End(now time.Time) time.Time {
	if i.ResolvedAt != nil {
		return *i.ResolvedAt
	}
	if now.Before(i.DetectedAt) {
		return i.DetectedAt
	}
	return now
}

// ToAcknowledge is how long it took until somebody acted; false: nobody has.
func (i Incident) ToAcknowledge() (time.Duration, bool) {
	if i.AcknowledgedAt == nil {
		return 0, false
	}
	return i.AcknowledgedAt.Sub(i.DetectedAt), true
}

// ToResolve is how long it took until it was over; false: it is not.
func (i Incident) ToResolve() (time.Duration, bool) {
	if i.ResolvedAt == nil {
		return 0, false
	}
	return i.ResolvedAt.Sub(i.DetectedAt), true
}

// Person is an operator who can lead an incident or own a follow-up.
type Person struct {
	ID   uuid.UUID
	Name string // or the address of one who gave none
}

// Check is a live check that can be recorded.
type Check struct{ ID, Title string }

// Reading is what a live check said at a moment.
type Reading struct {
	Title   string // what was looked at
	Verdict string // in a word: "ok", "warning", "failing", "unknown"
	Value   string
	Detail  string
	At      time.Time
}

// Unread is the reading of a check that could not be taken: it says why, and is
// never good news.
func Unread(title, why string, at time.Time) Reading {
	return Reading{Title: title, Verdict: "unknown", Value: "could not be measured", Detail: why, At: at}
}

func noIncident() error { return fault.New(fault.NotFound, "There is no such incident.") }
