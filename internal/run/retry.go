package run

import (
	"time"

	"github.com/promptcademy/promptops/internal/provider"
)

// Action is what follows a try.
type Action string

const (
	Done    Action = "done"     // the model answered
	Again   Action = "again"    // the same key, after a pause
	NextKey Action = "next_key" // another key, at once
	GiveUp  Action = "give_up"  // the failure is the attempt's result
)

const (
	maxRetries     = 2 // of the same key after a fault of the provider or the network
	defaultBackoff = 400 * time.Millisecond
)

// situation is what is known when a try has failed.
type situation struct {
	failure  *provider.Failure
	retries  int           // with this key so far, after faults of the provider or the network
	waited   bool          // a rate limit has been waited for already
	moreKeys bool          // there is another key
	streamed bool          // a part of the answer has gone to the caller
	left     time.Duration // until the attempt's deadline
	backoff  time.Duration // before the first retry
	jitter   float64       // 0 to 1
}

// decision is what to do about it, and why.
type decision struct {
	action Action
	wait   time.Duration // before the next try
	reason string
}

// decide is the whole retry policy (PRODUCT.md §3): what is wrong with a key is
// mended by another key, what is wrong with the provider or the network by
// patience, and what is wrong with the request by nothing.
func decide(s situation) decision {
	f := s.failure
	switch {
	case f.Class == provider.ClassCancelled || f.Class == provider.ClassInterrupted:
		return decision{GiveUp, 0, "the run was ended"}
	case s.streamed:
		return decision{GiveUp, 0, "a part of the answer had been streamed"}
	}
	switch f.Class {
	case provider.ClassInvalidKey, provider.ClassPermission, provider.ClassBilling, provider.ClassMissingKey:
		if s.moreKeys {
			return decision{NextKey, 0, "the provider does not take this key"}
		}
		return decision{GiveUp, 0, "the provider does not take this key, and there is no other"}
	case provider.ClassRateLimited:
		switch {
		case s.moreKeys:
			return decision{NextKey, 0, "this key is rate limited"}
		case s.waited:
			return decision{GiveUp, 0, "rate limited again after waiting"}
		case f.RetryAfter <= 0:
			return decision{GiveUp, 0, "rate limited without an end"}
		case f.RetryAfter >= s.left:
			return decision{GiveUp, 0, "the rate limit lasts longer than the attempt may"}
		}
		return decision{Again, f.RetryAfter, "waited for the rate limit"}
	}
	if !passing(f) {
		return decision{GiveUp, 0, "trying again would not help"}
	}
	if s.retries >= maxRetries {
		return decision{GiveUp, 0, "failed after retries"}
	}
	wait := max(s.pause(), f.RetryAfter)
	if wait >= s.left {
		return decision{GiveUp, 0, "no time is left for another try"}
	}
	return decision{Again, wait, "a passing fault"}
}

// passing says whether a failure is of the kind that goes away: a 5xx, or a
// connection that came to nothing. Our own patience running out is not.
func passing(f *provider.Failure) bool {
	return f.HTTPStatus >= 500 || f.HTTPStatus == 0 && f.Class == provider.ClassNetwork ||
		f.Class == provider.ClassOverloaded
}

// pause doubles with every retry and varies by a quarter either way, so that those
// who failed together do not come back together.
func (s situation) pause() time.Duration {
	return time.Duration(float64(s.backoff<<s.retries) * (0.75 + s.jitter/2))
}
