package notify

import (
	"fmt"
	"log/slog"
)

// Secret is a password, a signing key, or an address that lets whoever knows it
// post. It redacts itself wherever it is printed, logged or marshalled.
type Secret string

const redacted = "[redacted]"

// Format redacts, for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue redacts.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText redacts, in JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
