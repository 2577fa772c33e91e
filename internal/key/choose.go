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
// then fallback keys by priority, then by least recent use.
func Choose(candidates []Key, model string, now time.Time) Choice {
	ordered := slices.Clone(candidates)
	slices.SortStableFunc(ordered, before)
	var choice Choice
	for _, k := range ordered {
		if reason := k.Unusable(model, now); reason != "" {
			choice.Skipped = append(choice.Skipped, Skip{k, reason})
			continue
		}
		choice.Keys = append(choice.Keys, k)
	}
	return choice
}

// Wait is how long it takes until a key that is skipped now may be used again; 0
// when waiting does not help.
func (c Choice) Wait(now time.Time) time.Duration {
	var wait time.Duration
	for _, skip := range c.Skipped {
		if left := skip.Key.cooling(now); skip.Reason == IsCooling && (wait == 0 || left < wait) {
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

// before orders keys as they are to be used.
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
	case k.cooling(now) > 0:
		return IsCooling
	case k.Models != nil && !slices.Contains(k.Models, model):
		return WrongModel
	default:
		return ""
	}
}

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
		usable := slices.DeleteFunc(slices.Clone(candidates[provider]), func(k Key) bool {
			reason := k.Unusable("", now)
			return reason != "" && reason != WrongModel
		})
		if len(usable) > 0 {
			available[provider] = string(slices.MinFunc(usable, before).Source)
		}
	}
	return available
}
