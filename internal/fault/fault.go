// Package fault is the one error type that people and programs outside get to
// see. It knows nothing of HTTP: handlers/fail.go turns a Kind into a status.
// Every error that is not a *fault.Error is internal: logged, never shown.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what went wrong in one word; it is also the "code" of an API error.
type Kind string

const (
	Internal             Kind = "internal"               // a fault of ours; the message is never shown
	Malformed            Kind = "malformed"              // could not be read at all: syntax, types, unknown fields
	Invalid              Kind = "invalid"                // was read, but values are not acceptable; Details lists every one
	Unauthenticated      Kind = "unauthenticated"        // nobody, or nobody we can verify
	Forbidden            Kind = "forbidden"              // known, but not allowed
	NotFound             Kind = "not_found"              // no such thing, or none that the caller may see
	MethodNotAllowed     Kind = "method_not_allowed"     // the address exists, the verb does not
	Conflict             Kind = "conflict"               // somebody else was first
	TooLarge             Kind = "too_large"              // more bytes than we take
	UnsupportedMediaType Kind = "unsupported_media_type" // not the content type we take
	RateLimited          Kind = "rate_limited"           // too often; RetryAfter says when
	Unavailable          Kind = "unavailable"            // a dependency is away; RetryAfter says when
)

// Field is one bad value: the path of the field as the sender wrote it
// ("models[2]") and what to do about it.
type Field struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error is a failure that may be shown. Message is one sentence for a person,
// free of secrets, SQL and stack traces; Cause is for the log only.
type Error struct {
	Kind       Kind
	Message    string
	Details    []Field
	RetryAfter time.Duration // with RateLimited, Unavailable and Conflict: 0 means unknown
	Cause      error
}

// New makes an Error whose message is formatted like fmt.Sprintf.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// InvalidFields makes an Invalid error that lists every bad field.
func InvalidFields(fields []Field) *Error {
	return &Error{Kind: Invalid, Message: "Some values are not acceptable; see details.", Details: fields}
}

// Because returns a copy of e that carries cause for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// After returns a copy of e that tells the caller when to try again.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Error is for the log: kind, message and cause.
func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Kind, e.Message, e.Cause)
	}
	return fmt.Sprintf("%s: %s", e.Kind, e.Message)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// KindOf returns the kind of the first *Error in err's chain, Internal if there
// is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
