package key

import (
	"time"

	"github.com/promptcademy/promptops/internal/price"
)

// State is what has become of a fallback key, taking its status, its dates and
// its cap together.
type State string

const (
	StateHealthy  State = "healthy"
	StateCooling  State = "cooling"  // rests until CoolingUntil
	StateChecking State = "checking" // was refused; a free check will tell whether it is bad
	StateTrial    State = "trial"    // its rest is over: used behind the others until it has worked once
	StateOverCap  State = "over_cap" // has spent what it may spend this month
	StateBilling  State = "billing"
	StateInvalid  State = "invalid"
	StateExpired  State = "expired"
	StateRetired  State = "retired" // another took its place, and the overlap is over
	StateDisabled State = "disabled"
)

// Hopeful says whether a key is used, or will be again without anybody doing
// anything about it soon.
func (s State) Hopeful() bool {
	switch s {
	case StateHealthy, StateCooling, StateChecking, StateTrial:
		return true
	default:
		return false
	}
}

// ExpiresSoon is how long before its end a key is pointed out.
const ExpiresSoon = 14 * 24 * time.Hour

// State says what has become of the key. What only an admin can put right goes
// before what passes.
func (k FallbackKey) State(now time.Time) State {
	switch {
	case k.Status == Disabled:
		return StateDisabled
	case k.RetireAt != nil && !now.Before(*k.RetireAt):
		return StateRetired
	case k.ExpiresAt != nil && !now.Before(*k.ExpiresAt):
		return StateExpired
	case k.Status == Invalid:
		return StateInvalid
	case k.Status == Billing:
		return StateBilling
	case k.MonthlyCap != nil && k.Spent.Month.Cmp(*k.MonthlyCap) >= 0:
		return StateOverCap
	case k.Status == Cooling:
		return k.resting(now)
	default:
		return StateHealthy
	}
}

// resting tells the three kinds of cooling apart.
func (k FallbackKey) resting(now time.Time) State {
	until := k.CoolingUntil != nil && now.Before(*k.CoolingUntil)
	switch {
	case k.Suspect != nil && (*k.Suspect == "invalid_key" || *k.Suspect == "billing" || *k.Suspect == "permission") && (until || k.CoolingUntil == nil):
		return StateChecking
	case until:
		return StateCooling
	default:
		return StateTrial
	}
}

// Expiring says whether a key that has not expired will within ExpiresSoon.
func (k FallbackKey) Expiring(now time.Time) bool {
	return k.ExpiresAt != nil && now.Before(*k.ExpiresAt) && k.ExpiresAt.Sub(now) < ExpiresSoon
}

// Spent is what a key has cost the platform: what attempts that ended cost, and
// what runs that are going on have set aside. What a model without a price costs
// is not known, and not in it.
type Spent struct {
	Today price.USD // since the day began
	Month price.USD // since the month began: what counts against the cap
	Week  price.USD // in the seven full days before today
	Days  int       // of these, since the key was there or first used: 0 to 7
}

// RunwayKind says what can be said about how long a cap lasts.
type RunwayKind string

const (
	RunwayNoCap  RunwayKind = "no_cap"
	RunwayUnused RunwayKind = "unused" // not in the days that the rate is taken from
	RunwayNew    RunwayKind = "new"    // there is no full day to take a rate from
	RunwayDays   RunwayKind = "days"
)

// Runway is how long what is left of a cap lasts at the average daily spend of
// the last seven full days, or of as many as the key has been there.
type Runway struct {
	Kind RunwayKind
	Days float64 // with RunwayDays
}

// Runway says how long the key's cap lasts.
func (k FallbackKey) Runway() Runway {
	switch {
	case k.MonthlyCap == nil:
		return Runway{Kind: RunwayNoCap}
	case k.Spent.Month.Cmp(*k.MonthlyCap) >= 0:
		return Runway{RunwayDays, 0}
	case k.Spent.Days == 0 && !k.Spent.Today.IsZero():
		return Runway{Kind: RunwayNew}
	case k.Spent.Week.IsZero() || k.Spent.Days == 0:
		return Runway{Kind: RunwayUnused}
	default:
		left := k.MonthlyCap.Sub(k.Spent.Month).Decimal()
		return Runway{RunwayDays, left.InexactFloat64() / k.Spent.Week.Decimal().InexactFloat64() * float64(k.Spent.Days)}
	}
}
