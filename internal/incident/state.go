package incident

import (
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

// Step is what moves an incident on.
type Step string

const (
	Acknowledge Step = "acknowledge"
	Mitigate    Step = "mitigate"
	Resolve     Step = "resolve"
	Reopen      Step = "reopen"
)

// Allowed returns the steps that an incident can take, in the order in which they
// are usually taken.
func (i Incident) Allowed() []Step {
	var steps []Step
	if i.AcknowledgedAt == nil {
		steps = append(steps, Acknowledge)
	}
	switch i.Status {
	case Open:
		return append(steps, Mitigate, Resolve)
	case Mitigated:
		return append(steps, Resolve, Reopen)
	}
	return append(steps, Reopen)
}

// Take returns the incident after a step by an operator. It is fault.Conflict,
// with the reason, for a step that its state does not allow. Every step is also a
// sign that somebody looks after it.
func (i Incident) Take(step Step, by uuid.UUID, now time.Time) (Incident, error) {
	refuse := func(reason string) (Incident, error) {
		return i, fault.New(fault.Conflict, "Nothing was changed: %s", reason)
	}
	// Clocks of nodes differ a little: nothing ends before it began.
	if now.Before(i.DetectedAt) {
		now = i.DetectedAt
	}
	next := i.Touched(by, now)
	switch step {
	case Acknowledge:
		if i.AcknowledgedAt != nil {
			return refuse("somebody has acknowledged this incident already.")
		}
	case Mitigate:
		if i.Status != Open {
			return refuse("this incident is " + string(i.Status) + " already.")
		}
		next.Status, next.MitigatedAt = Mitigated, &now
	case Resolve:
		if i.Status == Resolved {
			return refuse("this incident is resolved already.")
		}
		next.Status, next.ResolvedAt = Resolved, &now
	case Reopen:
		if i.Status == Open {
			return refuse("this incident is open.")
		}
		next.Status, next.MitigatedAt, next.ResolvedAt = Open, nil, nil
	default:
		return i, fault.New(fault.Malformed, "The form does not say what to do with this incident.")
	}
	return next, nil
}

// Touched is the incident after an operator did something to it: the first thing
// that is done after it was started acknowledges it.
func (i Incident) Touched(by uuid.UUID, now time.Time) Incident {
	if i.AcknowledgedAt == nil {
		if now.Before(i.DetectedAt) {
			now = i.DetectedAt
		}
		i.AcknowledgedAt, i.AcknowledgedBy = &now, &by
	}
	return i
}
