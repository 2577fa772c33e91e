package notify

import (
	"errors"
	"fmt"
	"time"
)

const (
	maxAttempts = 20
	giveUpAfter = 24 * time.Hour // since it was added: old news helps nobody
	firstDelay  = 30 * time.Second
	maxDelay    = time.Hour
	maxRest     = 5 * time.Minute // of a channel that does not say how long
)

// decision is what becomes of a delivery after an attempt.
type decision struct {
	State  State
	DueAt  time.Time     // while queued: when it is tried next
	Reason string        // for people
	Rest   time.Duration // for so long nothing is to be sent on the channel at all
}

// decide says what becomes of a delivery whose attempt at now, the
// d.Attempts-th, ended with err.
func decide(d Delivery, note string, err error, now time.Time) decision {
	if err == nil {
		return decision{State: Sent, Reason: note}
	}
	f, ok := errors.AsType[*Failure](err)
	if !ok {
		f = &Failure{Words: "It could not be sent; the log says why."}
	}
	if f.Permanent {
		return decision{State: Failed, Reason: f.Words}
	}
	wait := max(delay(d.Attempts), f.After)
	var rest time.Duration
	if f.Everybody {
		rest = max(min(wait, maxRest), f.After)
	}
	switch due := now.Add(wait); {
	case d.Attempts >= maxAttempts:
		return decision{State: Failed, Reason: f.Words + fmt.Sprintf(" Given up after %d attempts.", d.Attempts), Rest: rest}
	case due.Sub(d.CreatedAt) > giveUpAfter:
		return decision{State: Failed, Reason: f.Words + fmt.Sprintf(" Given up: it could not be sent within %.0f hours.", giveUpAfter.Hours()), Rest: rest}
	default:
		return decision{State: Queued, DueAt: due, Reason: f.Words, Rest: rest}
	}
}

// delay is how long to wait after so many attempts: twice as long each time.
func delay(attempts int) time.Duration {
	d := firstDelay
	for i := 1; i < attempts && d < maxDelay; i++ {
		d *= 2
	}
	return min(d, maxDelay)
}

// skipReason is why a delivery is not even tried; "" when it is. A test is sent
// on a channel that is off: that is what it is for.
func skipReason(s Setup, d Delivery) string {
	switch {
	case !s.Configured():
		return fmt.Sprintf("%s is not set up. Settings → Channels does that.", s.Name())
	case !s.Enabled && d.Purpose != purposeTest:
		return fmt.Sprintf("%s is switched off. Settings → Channels switches it on.", s.Name())
	}
	return ""
}
