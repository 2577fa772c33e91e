// Package audit is the log of what operators do: who, when, to what, and how it
// was before. An entry is added in the transaction that does it, and holds the
// hash of the entry before, so that whoever changes or deletes one leaves a mark.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Actor is who did it.
type Actor struct {
	OperatorID *uuid.UUID // nil: no operator
	Name       string     // e-mail of the operator, or CommandLine, or the part of the program that acted
}

// CommandLine is whoever may run promptops on the server.
var CommandLine = Actor{Name: "command line"}

// Operator is an operator as an Actor.
func Operator(id uuid.UUID, email string) Actor { return Actor{&id, email} }

// Entry is one action. It must not hold a secret: no key, password or token.
type Entry struct {
	ID           int64 // given by Add
	At           time.Time
	Actor        Actor
	Action       string // subject.verb: "fallback_key.disable"
	SubjectType  string // "fallback_key"
	SubjectID    string
	SubjectLabel string         // as known at the time
	Details      map[string]any // what changed: {"priority": {"from": 1, "to": 2}, "reason": "…"}
	Hash         []byte         // given by Add; it stands for all entries up to this one
}

// Change is a value of Details: what it was and what it is.
type Change struct {
	From any `json:"from"`
	To   any `json:"to"`
}

// Add appends an entry. Call it in the transaction of the action itself: then
// there is neither an action without an entry nor an entry without its action.
// Transactions that add entries take turns until they end, so add it last.
func Add(ctx context.Context, tx pgx.Tx, e Entry) error {
	if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('ops.audit_log'))`); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	previous := make([]byte, sha256.Size)
	err := tx.QueryRow(ctx, `select id, hash from ops.audit_log order by id desc limit 1`).Scan(&e.ID, &previous)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("audit: %w", err)
	}
	e.ID++
	e.At = e.At.UTC().Truncate(time.Microsecond)
	if e.Details == nil {
		e.Details = map[string]any{}
	}
	details, err := json.Marshal(e.Details)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	_, err = tx.Exec(ctx, `
		insert into ops.audit_log (id, at, operator_id, actor, action, subject_type, subject_id, subject_label, details, previous_hash, hash)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		e.ID, e.At, e.Actor.OperatorID, e.Actor.Name, e.Action, e.SubjectType, e.SubjectID, e.SubjectLabel, details, previous, e.hash(previous, details))
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// hash is SHA-256 over the entry before and every field of this one, as JSON:
// unlike joined text that has one reading only.
func (e Entry) hash(previous, details []byte) []byte {
	sum := sha256.New()
	// Postgres writes jsonb in its own order and spacing.
	var plain any
	_ = json.Unmarshal(details, &plain) // comes from Marshal, or from a jsonb column
	_ = json.NewEncoder(sum).Encode([]any{
		previous, e.ID, e.At.UTC().Format(time.RFC3339Nano), e.Actor.OperatorID, e.Actor.Name, e.Action,
		e.SubjectType, e.SubjectID, e.SubjectLabel, plain,
	})
	return sum.Sum(nil)
}
