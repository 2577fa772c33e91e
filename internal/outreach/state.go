// Package outreach knows which learners have a provider key of their own that can
// be used, what it costs that others have none, and who has talked to whom about
// it.
package outreach

import "time"

// State is where a learner stands in the queue.
type State string

// Somebody is in the queue from the first time that they are without a usable
// key.
const (
	New       State = "new"       // nobody has talked to them yet
	Contacted State = "contacted" // somebody has
	Snoozed   State = "snoozed"   // not before a day that somebody chose
	Resolved  State = "resolved"  // has a usable key; only ever by itself
	Reopened  State = "reopened"  // to be talked to again
	Outside   State = ""          // has a usable key and never was without
)

// Status is a state with the end of a snooze.
type Status struct {
	State State
	Until time.Time // only if snoozed
}

// Reasons of changes that nobody asked for.
const (
	ReasonHasKey     = "A key can be used."
	ReasonKeyBroke   = "A key stopped working, and no other can be used."
	ReasonNoKey      = "There is no key any more that can be used."
	ReasonSnoozeOver = "The snooze is over."
)

// Next is what becomes of a status by itself, and why; "" if nothing does. A
// learner with a usable key is never in the way of whoever works on the queue, and
// one without is never lost. The SQL of effectiveState says the same.
func Next(s Status, usable, broken bool, now time.Time) (Status, string) {
	switch {
	case usable && s.State != Resolved && s.State != Outside:
		return Status{State: Resolved}, ReasonHasKey
	case usable:
		return s, ""
	case s.State == Outside:
		return Status{State: New}, ""
	case s.State == Resolved && broken:
		return Status{State: Reopened}, ReasonKeyBroke
	case s.State == Resolved:
		return Status{State: Reopened}, ReasonNoKey
	case s.State == Snoozed && !s.Until.After(now):
		return Status{State: Reopened}, ReasonSnoozeOver
	}
	return s, ""
}

// Verb is what an operator does with a learner in the queue.
type Verb string

// Nudges are not among them: see Store.Nudge.
const (
	MarkContacted Verb = "contacted"
	Snooze        Verb = "snooze"
	Reopen        Verb = "reopen"
	Undo          Verb = "undo"
)

// Refusals of what an operator wanted, as a sentence about the learner.
const (
	RefusedHasKey      = "has a usable key by now"
	RefusedMeanwhile   = "was changed by somebody else meanwhile"
	RefusedNothing     = "has nothing to undo"
	RefusedOpenAlready = "is open already"
)

// Act is what becomes of a status when an operator wants something; last is the
// latest entry of the learner's history, nil if there is none. refused says why
// nothing does.
func Act(s Status, verb Verb, until time.Time, usable bool, last *Event) (next Status, refused string) {
	if usable && verb != Undo {
		return s, RefusedHasKey
	}
	switch verb {
	case MarkContacted:
		return Status{State: Contacted}, ""
	case Snooze:
		return Status{State: Snoozed, Until: until}, ""
	case Reopen:
		if s.State == New || s.State == Reopened {
			return s, RefusedOpenAlready
		}
		return Status{State: Reopened}, ""
	}
	// Only what an operator did last can be undone: not what happened by itself
	// since, and not a message.
	if last == nil || !last.undoable() || State(last.ToState) != s.State {
		return s, RefusedNothing
	}
	before := Status{State: State(last.FromState)}
	if last.FromUntil != nil {
		before.Until = *last.FromUntil
	}
	return before, ""
}
