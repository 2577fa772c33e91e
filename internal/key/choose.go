package key

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Reason says why there is no key for an attempt, or why a key was passed over.
type Reason string

const (
	NoKey      Reason = "there is no key"
	IsDisabled Reason = "disabled"
	IsInvalid  Reason = "refused by the provider"
	IsBilling  Reason = "out of credit"
	IsCooling  Reason = "rate limited for now"
	IsResting  Reason = "resting after faults of the provider"
	IsChecked  Reason = "being checked after the provider refused it"
	IsExpired  Reason = "expired"
	IsReplaced Reason = "replaced by another key"
	WrongModel Reason = "not allowed for this model"
)

// Choice is what Choose decided.
type Choice struct {
	Keys    []Key // that may be used, the first one first; empty: there is none
	Skipped []Skip
}

// Skip is a key that was passed over.
type Skip struct {
	Key    Key
	Reason Reason
}

// Choose decides which of a provider's keys an attempt at a model uses, and which
// after that, should the provider refuse it: the learner's own healthy key first,
// then fallback keys by priority, then by least recent use. A key whose rest has
// just ended stands behind the others of its source.
//
// Where all that could be used rest because the provider has trouble, they are
// used: it is not their fault, and there is nothing better. Where there are none of
// those either, a key is tried that was out of credit some time ago.
func Choose(candidates []Key, model string, now time.Time) Choice {
	ordered := slices.Clone(candidates)
	slices.SortStableFunc(ordered, inTurn)
	var choice Choice
	for _, k := range ordered {
		if reason := k.Unusable(model, now); reason != "" {
			choice.Skipped = append(choice.Skipped, Skip{k, reason})
			continue
		}
		choice.Keys = append(choice.Keys, k)
	}
	for _, last := range []Reason{IsResting, IsBilling} {
		if len(choice.Keys) > 0 {
			break
		}
		choice.Skipped = slices.DeleteFunc(choice.Skipped, func(s Skip) bool {
			used := s.Reason == last && s.Key.lastResort(now) && s.Key.allows(model)
			if used {
				choice.Keys = append(choice.Keys, s.Key)
			}
			return used
		})
	}
	return choice
}

// lastResort says whether a key that is passed over may be used where there is no
// other.
func (k Key) lastResort(now time.Time) bool {
	switch k.Unusable("", now) {
	case IsResting:
		return true
	case IsBilling:
		return k.state().isLastResort(now) && !k.expired(now) && !k.retired(now)
	}
	return false
}

// Wait is how long it takes until a key that is skipped now may be used again; 0
// when waiting does not help.
func (c Choice) Wait(now time.Time) time.Duration {
	var wait time.Duration
	for _, skip := range c.Skipped {
		if left := skip.Key.cooling(now); left > 0 && (wait == 0 || left < wait) {
			wait = left
		}
	}
	return wait
}

// cooling is how long the key still cools; 0 if it does not.
func (k Key) cooling(now time.Time) time.Duration {
	if k.Status != Cooling || k.CoolingUntil == nil {
		return 0
	}
	return max(k.CoolingUntil.Sub(now), 0)
}

// inTurn orders keys as they are to be used: on trial after the healthy ones.
func inTurn(a, b Key) int {
	if a.Source == b.Source && (a.Status == Healthy) != (b.Status == Healthy) {
		if a.Status == Healthy {
			return -1
		}
		return 1
	}
	return before(a, b)
}

// before orders keys as they were set up, the least recently used first among
// equals.
func before(a, b Key) int {
	if a.Source != b.Source {
		if a.Source == User {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.Priority, b.Priority), compareTimes(a.LastUsedAt, b.LastUsedAt), a.CreatedAt.Compare(b.CreatedAt))
}

// compareTimes puts what never happened first.
func compareTimes(a, b *time.Time) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	default:
		return a.Compare(*b)
	}
}

// Unusable says why the key may not be used now, "" if it may.
func (k Key) Unusable(model string, now time.Time) Reason {
	switch {
	case k.Status == Disabled:
		return IsDisabled
	case k.Status == Invalid:
		return IsInvalid
	case k.Status == Billing:
		return IsBilling
	case k.expired(now):
		return IsExpired
	case k.retired(now):
		return IsReplaced
	case k.cooling(now) > 0:
		return k.rest()
	case !k.allows(model):
		return WrongModel
	default:
		return ""
	}
}

// rest says why a key that cools does.
func (k Key) rest() Reason {
	switch {
	case k.state().lookedInto():
		return IsChecked
	case outage(k.Suspect):
		return IsResting
	}
	return IsCooling
}

func (k Key) allows(model string) bool { return k.Models == nil || slices.Contains(k.Models, model) }

func (k Key) expired(now time.Time) bool { return k.ExpiresAt != nil && !k.ExpiresAt.After(now) }

func (k Key) retired(now time.Time) bool { return k.RetireAt != nil && !k.RetireAt.After(now) }

// Message says to the learner why there is no key, and what to do. It does not
// tell anything of the platform's own keys beyond that none can be used.
func (c Choice) Message(providerName string) string {
	own := Reason("")
	for _, skip := range c.Skipped {
		if skip.Key.Source == User {
			own = skip.Reason
			break
		}
	}
	switch {
	case own != "":
		return fmt.Sprintf("Your %s key cannot be used (%s), and there is no fallback key for it. Check it under Settings → API Keys.", providerName, own)
	case len(c.Skipped) > 0:
		return fmt.Sprintf("No fallback key for %s can be used at the moment. Add a key of your own under Settings → API Keys.", providerName)
	default:
		return fmt.Sprintf("There is no key for %s. Add one under Settings → API Keys.", providerName)
	}
}

// Availability says for every provider asked for whose key would pay: "user",
// "fallback" or "none".
func Availability(providers []string, candidates map[string][]Key, now time.Time) map[string]string {
	available := make(map[string]string, len(providers))
	for _, provider := range providers {
		available[provider] = "none"
		for _, last := range []Reason{"", IsResting, IsBilling} { // as Choose does
			for _, k := range candidates[provider] {
				reason := k.Unusable("", now)
				if reason == WrongModel {
					reason = "" // there may be another
				}
				if reason == last && (reason == "" || k.lastResort(now)) && (available[provider] == "none" || k.Source == User) {
					available[provider] = string(k.Source)
				}
			}
			if available[provider] != "none" {
				break
			}
		}
	}
	return available
}
