package provider

import (
	"fmt"
	"time"
)

// Class says why an attempt failed, in one taxonomy for all providers
// (PRODUCT.md §3, error.class).
type Class string

const (
	ClassMissingKey     Class = "missing_key"
	ClassInvalidKey     Class = "invalid_key"
	ClassPermission     Class = "permission"
	ClassBilling        Class = "billing"
	ClassRateLimited    Class = "rate_limited"
	ClassOverloaded     Class = "overloaded"
	ClassContextLength  Class = "context_length"
	ClassContentFilter  Class = "content_filter"
	ClassBadRequest     Class = "bad_request"
	ClassNotFound       Class = "not_found"
	ClassTimeout        Class = "timeout"
	ClassNetwork        Class = "network"
	ClassProviderError  Class = "provider_error"
	ClassBudgetExceeded Class = "budget_exceeded"
	ClassCancelled      Class = "cancelled"
	ClassInterrupted    Class = "interrupted"
)

// Failure is why a call failed. Message is scrubbed of key fragments and fit to
// be shown to the learner.
type Failure struct {
	Class      Class
	Message    string
	HTTPStatus int           // the provider's; 0 when there was none
	RetryAfter time.Duration // 0: the provider did not say
	RequestID  string        // the provider's id of the call
}

func (f *Failure) Error() string {
	return fmt.Sprintf("%s (HTTP %d): %s", f.Class, f.HTTPStatus, f.Message)
}
