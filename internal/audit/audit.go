// Package audit is the log of what operators do: who, when, to what, and how it
// was before. An entry is added in the transaction that does it, and holds the
// hash of the entry before, so that whoever changes or deletes one leaves a mark.
package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
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

// Store reads the log.
type Store struct {
	db postgres.DB
}

// NewStore returns a Store on db.
func NewStore(db postgres.DB) *Store { return &Store{db} }

// Filter says which entries; the zero value means all.
type Filter struct {
	SubjectType string
	SubjectID   string
	OperatorID  *uuid.UUID
	Action      string // begins with: "fallback_key."
	Before      int64  // only older ones than this id; 0: from the newest on
}

// List returns at most limit entries, the newest first.
func (s *Store) List(ctx context.Context, f Filter, limit int) ([]Entry, error) {
	rows, err := s.db.Query(ctx, `
		select `+columns+`
		from ops.audit_log
		where ($1 = '' or subject_type = $1) and ($2 = '' or subject_id = $2)
		  and ($3::uuid is null or operator_id = $3) and starts_with(action, $4)
		  and ($5::bigint = 0 or id < $5)
		order by id desc
		limit $6`, f.SubjectType, f.SubjectID, f.OperatorID, f.Action, f.Before, limit)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("list audit log: %w", err))
	}
	found, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("list audit log: %w", err))
	}
	entries := make([]Entry, len(found))
	for i, one := range found {
		entries[i] = one.Entry
	}
	return entries, nil
}

const columns = `id, at, operator_id, actor, action, subject_type, subject_id, subject_label, details, previous_hash, hash`

// stored is an entry with what chains it to the others.
type stored struct {
	Entry
	details, previous, sum []byte
}

func scan(row pgx.CollectableRow) (s stored, err error) {
	err = row.Scan(&s.ID, &s.At, &s.Actor.OperatorID, &s.Actor.Name, &s.Action, &s.SubjectType, &s.SubjectID, &s.SubjectLabel,
		&s.details, &s.previous, &s.sum)
	if err == nil {
		err = json.Unmarshal(s.details, &s.Details)
	}
	return s, err
}

// Verify reads the whole log and returns how many entries there are and the id of
// the first one that is missing or not as it was written; 0: the log is whole. It
// cannot notice that the newest entries were cut off, unless somebody remembers
// how many there were.
func (s *Store) Verify(ctx context.Context) (entries int, broken int64, err error) {
	rows, err := s.db.Query(ctx, `select `+columns+` from ops.audit_log order by id`)
	if err != nil {
		return 0, 0, postgres.Fault(fmt.Errorf("verify audit log: %w", err))
	}
	defer rows.Close()
	previous := make([]byte, sha256.Size)
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return entries, 0, postgres.Fault(fmt.Errorf("verify audit log: %w", err))
		}
		entries++
		if one.ID != int64(entries) || !bytes.Equal(one.previous, previous) || !bytes.Equal(one.sum, one.hash(previous, one.details)) {
			return entries, int64(entries), nil
		}
		previous = one.sum
	}
	return entries, 0, postgres.Fault(rows.Err())
}
