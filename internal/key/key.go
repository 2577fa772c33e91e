// Package key is provider keys: the learners' own and the platform's fallback
// keys. Which one an attempt uses is decided in choose.go; at rest they are
// sealed, and after saving only the last four characters are ever shown.
package key

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/seal"
)

// Source says whose key it is, and so who pays.
type Source string

const (
	User     Source = "user"     // a learner's own (public.user_api_keys)
	Fallback Source = "fallback" // the platform's (ops.fallback_keys)
)

// Status is the state of a key. Cooling ends by itself at CoolingUntil.
type Status string

const (
	Healthy  Status = "healthy"
	Cooling  Status = "cooling"
	Invalid  Status = "invalid"
	Billing  Status = "billing"
	Disabled Status = "disabled"
)

// Key is a provider key, still sealed.
type Key struct {
	ID           uuid.UUID
	Source       Source
	Provider     string
	Label        string
	LastFour     string
	Status       Status
	CoolingUntil *time.Time
	Priority     int        // fallback keys: lowest first
	Models       []string   // the provider's own names; nil: every model
	MonthlyCap   *price.USD // fallback keys: nil is none
	Sandbox      bool       // opens the built-in sandbox, not the real provider
	LastUsedAt   *time.Time
	CreatedAt    time.Time

	Suspect   provider.Class // while cooling: what is looked into, or rested for
	Strikes   int            // rests in a row without a success
	ExpiresAt *time.Time     // from then on it is not used
	RetireAt  *time.Time     // likewise: another key has replaced it

	ciphertext  []byte
	statusAt    time.Time
	probes      int
	verifiedAt  *time.Time
	lastErrorAt *time.Time
	revision    int64 // grows with every change of the state
}

// state is the key's health as its row has it.
func (k Key) state() state {
	return state{
		status: k.Status, since: k.statusAt, until: k.CoolingUntil, suspect: k.Suspect, strikes: k.Strikes, probes: k.probes,
		verifiedAt: k.verifiedAt, refusedAt: k.lastErrorAt, retireAt: k.RetireAt,
	}
}

// with is the key in another state.
func (k Key) with(s state) Key {
	k.Status, k.statusAt, k.CoolingUntil, k.Suspect, k.Strikes, k.probes = s.status, s.since, s.until, s.suspect, s.strikes, s.probes
	k.verifiedAt, k.lastErrorAt = s.verifiedAt, s.refusedAt
	return k
}

// place is where the key's ciphertext belongs.
func (k Key) place() seal.Place { return placeOf(k.Source, k.ID) }

func placeOf(source Source, id uuid.UUID) seal.Place {
	return seal.Place{Table: tableOf(source), Column: "ciphertext", Row: id.String()}
}

func tableOf(source Source) string {
	if source == Fallback {
		return "ops.fallback_keys"
	}
	return "public.user_api_keys"
}

// Secret is a provider key in the clear. It redacts itself wherever it is
// printed, logged or marshalled; Reveal hands it to the provider's adapter.
type Secret string

const redacted = "[provider key]"

// Reveal returns the key itself.
func (s Secret) Reveal() string { return string(s) }

// Format redacts for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue redacts.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText redacts, in JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
