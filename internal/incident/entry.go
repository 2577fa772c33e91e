package incident

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

// Kind is what an entry of the time line tells of.
type Kind string

// What people did. These entries are stored.
const (
	KindStart       Kind = "start"
	KindReading     Kind = "reading"
	KindNote        Kind = "note"
	KindAcknowledge Kind = "acknowledge"
	KindMitigate    Kind = "mitigate"
	KindResolve     Kind = "resolve"
	KindReopen      Kind = "reopen"
	KindEdit        Kind = "edit"
	KindFollowUp    Kind = "follow_up"
)

// What other tables tell. These are read from them.
const (
	KindKey    Kind = "key"    // the status of a fallback key changed by itself
	KindAction Kind = "action" // an operator changed a fallback key or the budgets
	KindErrors Kind = "errors" // a provider's errors crossed the threshold
	KindDeploy Kind = "deploy" // a node began to run another version
)

// Entry is one line of the time line.
type Entry struct {
	ID        int64      `json:"-"` // 0: it is read from elsewhere
	At        time.Time  `json:"at"`
	Kind      Kind       `json:"kind"`
	ActorID   *uuid.UUID `json:"actorId,omitempty"`
	Actor     string     `json:"actor,omitempty"` // as known then; empty: nobody
	Title     string     `json:"title,omitempty"`
	Body      string     `json:"body,omitempty"`
	Provider  string     `json:"provider,omitempty"` // of a key or of errors
	Verdict   string     `json:"verdict,omitempty"`  // of a reading
	Changes   []Change   `json:"changes,omitempty"`
	History   []Earlier  `json:"-"` // of a note: what it said before, oldest first
	DeletedAt *time.Time `json:"-"` // of a note that was taken back
}

// Change is a field that was changed. Times are RFC 3339 in UTC, for whoever reads
// to see them in their own zone.
type Change struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// Earlier is what a note said until a moment.
type Earlier struct {
	Body  string    `json:"body"`
	Until time.Time `json:"until"`
}

// FieldDetected is the field of a Change whose values are times.
const FieldDetected = "detected at"

// inOrder merges entries by time; of those at the same time, what was stored first
// comes first, and what was read from elsewhere before what people did about it.
func inOrder(stored, derived []Entry) []Entry {
	all := append(slices.Clone(derived), stored...)
	slices.SortStableFunc(all, func(a, b Entry) int { return a.At.Compare(b.At) })
	return all
}
