package key

import (
	"fmt"
	"time"

	"github.com/promptcademy/promptops/internal/provider"
)

const (
	// Of a key that was refused: until the free check has said whether it was
	// meant, nobody uses it.
	lookFor = time.Minute
	// How long a key rests that is refused again and again although the provider
	// accepts it when asked: doubled each time.
	contradicted     = time.Minute
	longContradicted = 10 * time.Minute
	// Rests after a rate limit that does not say how long it lasts.
	limited     = 5 * time.Second
	longLimited = 5 * time.Minute
	// coolingStep is by how much an end has to move to be written again: a
	// provider that refuses a thousand calls a second is written down once.
	coolingStep = time.Second
	// Rests after many faults of the provider.
	faulty     = 15 * time.Second
	longFaulty = 5 * time.Minute
	// Pauses between checks that decide nothing.
	undecided     = 5 * time.Second
	longUndecided = 10 * time.Minute
	mostUndecided = 5 // checks; then a call has to show
	// Pauses before a key that is out is looked at again.
	recheckBilling     = 10 * time.Minute
	longRecheckBilling = 6 * time.Hour
	recheckInvalid     = time.Hour
	longRecheckInvalid = 24 * time.Hour
	// Two refusals of which the provider's own figures know nothing may be a slip;
	// then the refusals are believed.
	mostSlips = 2

	permissionEvery = 10 * time.Minute // a check because of a 403
)

// state is the health of a key.
type state struct {
	status     Status
	since      time.Time      // of status
	until      *time.Time     // cooling: the end of the rest; billing: from when it is a last resort
	suspect    provider.Class // what is looked into, or rested for
	strikes    int            // rests in a row without a success
	probes     int            // checks in a row that decided nothing new
	nextProbe  *time.Time
	verifiedAt *time.Time     // when a check last went well
	refusedAt  *time.Time     // the last failure
	refusal    provider.Class // and what it was
	retireAt   *time.Time
}

// verdict is what follows from an observation.
type verdict struct {
	state   state
	reason  string // why the status is what it is; empty only where there is nothing to say
	changed bool   // the state is another
	keep    bool   // worth a row in the key's history
	probe   bool   // a free check is to be made at once
}

// judge is the whole policy of a key's health: what follows for a key from what
// was seen of it. What a person disabled it leaves alone; faults of the provider
// never take a key out; invalid or billing a key becomes only when the provider has
// refused it twice, the second time in a free check.
func judge(s state, o Observation) verdict {
	if o.Kind == ByProbe {
		s.nextProbe = nil // this was it
	}
	switch {
	case s.status == Disabled:
		v := verdict{state: s, keep: o.asked()}
		if v.keep {
			v.reason = "It is disabled: only a person enables it again."
		}
		return v.noting(o)
	case o.Kind == ByClock:
		return judgeClock(s, o)
	case o.Kind == ByAttempt && o.Class == "":
		return judgeSuccess(s, o)
	case o.Kind == ByAttempt:
		return judgeFailure(s, o).noting(o)
	case o.Class == "":
		return judgeAccepted(s, o)
	default:
		return judgeRefused(s, o).noting(o)
	}
}

// noting adds what the last failure was.
func (v verdict) noting(o Observation) verdict {
	if o.Class != "" && (v.changed || v.keep) {
		v.state.refusedAt, v.state.refusal = &o.At, o.Class
	}
	return v
}

// judgeClock retires a key whose replacement has taken over.
func judgeClock(s state, o Observation) verdict {
	if s.retireAt == nil || s.retireAt.After(o.At) {
		return verdict{state: s}
	}
	return s.becomes(Disabled, o, "It was replaced by another key, and the time in which both are used is over.")
}

// judgeSuccess is about a call that went well.
func judgeSuccess(s state, o Observation) verdict {
	switch {
	case s.plain():
		return verdict{state: s}
	case s.refusedAt != nil && o.StartedAt.Before(*s.refusedAt):
		return verdict{state: s} // it had begun before: an answer proves nothing about now
	}
	v := s.becomes(Healthy, o, "A call with it went well.")
	v.state.strikes = 0
	v.keep = s.status != Healthy
	return v
}

// judgeFailure is about a call that did not.
func judgeFailure(s state, o Observation) verdict {
	out := s.status == Invalid || s.status == Billing && !s.isLastResort(o.At)
	switch {
	case out, s.lookedInto() && s.resting(o.At):
		return verdict{state: s} // one of those that were under way
	case o.Class == provider.ClassInvalidKey, o.Class == provider.ClassBilling:
		if s.verifiedAt != nil && o.StartedAt.Before(*s.verifiedAt) {
			return verdict{state: s} // it was accepted since
		}
		if s.status == Billing && o.Class == provider.ClassBilling {
			v := s.broke(s.strikes+1, o, "The provider says again that there is no credit.")
			v.state.strikes++
			return v
		}
		return s.suspended(o)
	case s.status == Billing:
		return verdict{state: s}
	case o.Class == provider.ClassPermission:
		if s.refusal == o.Class && s.refusedAt != nil && o.At.Sub(*s.refusedAt) < permissionEvery {
			return verdict{state: s}
		}
		return verdict{state: s, keep: true, probe: true, reason: "The provider does not allow this call. That need not be the key's fault: it stays in use, and is checked."}
	case o.Class == provider.ClassRateLimited:
		return s.limited(o)
	case outage(o.Class) && o.storm && !s.resting(o.At):
		v := s.rest(o, min(max(doubled(faulty, s.strikes, longFaulty), o.RetryAfter), longFaulty))
		v.reason = fmt.Sprintf("Most calls fail by a fault of the provider or on the way to it (%s): it rests for %s.", o.Class, plainly(v.state.until.Sub(o.At)))
		return v
	}
	return verdict{state: s}
}

// judgeAccepted is about a free check that went well.
func judgeAccepted(s state, o Observation) verdict {
	v := judgeAcceptedState(s, o)
	v.state.verifiedAt, v.keep = &o.At, true
	return v
}

func judgeAcceptedState(s state, o Observation) verdict {
	resting := s.resting(o.At)
	switch {
	case s.status == Invalid:
		v := s.becomes(Healthy, o, "The provider accepts the key again.")
		v.state.strikes = 0
		return v
	case s.status == Billing && o.Credit:
		return s.becomes(Healthy, o, "The provider says that there is credit again.")
	case s.status == Billing && o.asked():
		v := s.becomes(Cooling, o, "The provider accepts the key. Whether there is credit again the next call will show.")
		v.state.until = &o.At
		return v
	case s.status == Billing:
		v := s.broke(s.probes+1, o, "The provider accepts the key, but only a call can show whether there is credit.")
		v.state.probes++
		v.state.until = s.until // it may be a last resort already
		if s.until == nil {
			v.state.until = &o.At
		}
		return v
	case s.suspect == provider.ClassBilling && resting && (!o.Credit || s.strikes > mostSlips):
		return s.broke(s.strikes, o, "The provider said that there is no credit; the key itself is good.")
	case s.lookedInto() && resting && s.strikes > 1 && !o.asked():
		v := s.becomes(Cooling, o, "")
		end := o.At.Add(doubled(contradicted, s.strikes-2, longContradicted))
		v.state.until, v.state.nextProbe = &end, &end
		v.reason = fmt.Sprintf("Calls were refused %d times in a row, but the provider accepts the key when asked: it rests for %s.", s.strikes, plainly(end.Sub(o.At)))
		return v
	case s.lookedInto() && resting:
		return s.becomes(Healthy, o, "A call was refused, but the provider accepts the key.")
	case resting && (s.suspect == provider.ClassRateLimited || !o.asked()):
		s.nextProbe = s.until
		return verdict{state: s, reason: "The provider accepts the key; it rests until its time is over."}
	case s.status == Healthy:
		return verdict{state: s, reason: "The provider accepts the key."}
	}
	return s.becomes(Healthy, o, "Its rest is over, and the provider accepts the key.")
}

// judgeRefused is about a free check that did not go well.
func judgeRefused(s state, o Observation) verdict {
	confirms := s.lookedInto() && s.resting(o.At)
	switch o.Class {
	case provider.ClassInvalidKey:
		if confirms || s.status == Invalid || s.status == Billing {
			v := s.becomes(Invalid, o, "The provider refused the key, and a free check agreed.")
			v.state.strikes = s.strikes
			if s.status == Invalid {
				v.state.probes = s.probes + 1
			}
			next := o.At.Add(doubled(recheckInvalid, v.state.probes, longRecheckInvalid))
			v.state.nextProbe = &next
			return v
		}
		return s.suspended(o)
	case provider.ClassBilling:
		if !confirms && s.status != Billing && s.status != Invalid || confirms && s.suspect == provider.ClassInvalidKey {
			return s.suspended(o)
		}
		v := s.becomes(Billing, o, "The provider says that there is no credit.")
		if s.status == Billing {
			v.state.probes = s.probes + 1
		}
		next := o.At.Add(doubled(recheckBilling, v.state.probes+max(s.strikes-1, 0), longRecheckBilling))
		v.state.nextProbe = &next
		return v
	}
	return s.unclear(o, confirms)
}

// unclear is what follows from a check that says nothing about the key: the
// provider is away, or does not let it list models.
func (s state) unclear(o Observation, confirms bool) verdict {
	v := verdict{state: s, keep: true}
	v.state.probes++
	pause := doubled(undecided, s.probes, longUndecided)
	switch {
	case s.status == Invalid:
		pause = doubled(recheckInvalid, s.probes, longRecheckInvalid)
	case s.status == Billing:
		pause = doubled(recheckBilling, s.probes, longRecheckBilling)
	case s.status == Healthy:
		v.state.probes, v.reason = 0, "The check said nothing about the key: it stays in use."
		return v
	case v.state.probes >= mostUndecided:
		v.changed, v.state.nextProbe, v.state.probes = true, nil, 0
		if !s.resting(o.At) {
			v.reason = "Its rest is over. The checks said nothing about the key: the next call will show."
			return v
		}
		if confirms {
			v.state.until, v.state.suspect = &o.At, ""
			v.reason = "A call was refused, but the checks said nothing about the key: the next call will show."
			return v
		}
	}
	next := o.At.Add(pause)
	v.changed, v.state.nextProbe = true, &next
	v.reason = fmt.Sprintf("The check said nothing about the key; the next is due in %s.", plainly(pause))
	if confirms {
		end := next.Add(lookFor)
		v.state.until = &end
	}
	return v
}

// suspended is a key that was just refused: nobody uses it until it is known
// whether that was meant.
func (s state) suspended(o Observation) verdict {
	v := s.becomes(Cooling, o, "")
	end := o.At.Add(lookFor)
	if s.status == Cooling && s.until != nil && s.until.After(end) {
		end = *s.until
	}
	v.state.until, v.state.suspect, v.state.strikes, v.state.nextProbe = &end, o.Class, s.strikes+1, &o.At
	v.probe = true
	v.reason = "The provider refused the key: it is checked before anybody uses it again."
	if o.Class == provider.ClassBilling {
		v.reason = "The provider says that there is no credit: that is checked before anybody uses the key again."
	}
	return v
}

// limited is a key that the provider wants to rest.
func (s state) limited(o Observation) verdict {
	strikes := s.strikes // of a rest that goes on only the first counts
	if s.resting(o.At) {
		strikes = max(strikes-1, 0)
	}
	pause := o.RetryAfter
	if pause <= 0 {
		pause = doubled(limited, strikes, longLimited)
	}
	end := o.At.Add(pause)
	if s.resting(o.At) && end.Sub(*s.until) < coolingStep {
		return verdict{state: s}
	}
	v := s.rest(o, pause)
	v.state.strikes = strikes + 1
	v.reason = fmt.Sprintf("The provider limits its rate: it rests for %s.", plainly(pause))
	return v
}

// rest is a key that is not used for a while, and checked afterwards.
func (s state) rest(o Observation, pause time.Duration) verdict {
	v := s.becomes(Cooling, o, "")
	end := o.At.Add(pause)
	v.state.until, v.state.nextProbe, v.state.suspect, v.state.strikes = &end, &end, o.Class, s.strikes+1
	return v
}

// broke is a key without credit, at a provider that shows it only by calls: from
// the end of a pause on it is a last resort.
func (s state) broke(times int, o Observation, reason string) verdict {
	v := s.becomes(Billing, o, reason)
	end := o.At.Add(doubled(recheckBilling, times-1, longRecheckBilling))
	v.state.until, v.state.nextProbe = &end, &end
	return v
}

// becomes is the state with another status, and nothing left of what the old one
// was about. Strikes stay: only a call that went well clears them.
func (s state) becomes(status Status, o Observation, reason string) verdict {
	next := s
	if s.status != status {
		next.status, next.since = status, o.At
	}
	next.until, next.suspect, next.probes, next.nextProbe = nil, "", 0, nil
	return verdict{state: next, reason: reason, changed: true, keep: true}
}

// plain is a key of which nothing is to be said.
func (s state) plain() bool { return s.status == Healthy && s.strikes == 0 && s.suspect == "" }

// resting says whether the key is not to be used for a while.
func (s state) resting(now time.Time) bool {
	return s.status == Cooling && s.until != nil && s.until.After(now)
}

// lookedInto says whether a refusal has still to be confirmed.
func (s state) lookedInto() bool {
	return s.status == Cooling && (s.suspect == provider.ClassInvalidKey || s.suspect == provider.ClassBilling)
}

// isLastResort says whether a key without credit may be tried where there is no
// other.
func (s state) isLastResort(now time.Time) bool {
	return s.status == Billing && s.until != nil && !s.until.After(now)
}

// doubled is first, doubled so many times, and at most longest.
func doubled(first time.Duration, times int, longest time.Duration) time.Duration {
	for ; times > 0 && first < longest; times-- {
		first *= 2
	}
	return min(first, longest)
}

// plainly is a duration as people say it.
func plainly(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}
