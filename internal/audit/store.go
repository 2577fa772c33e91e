package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
)

// Store reads the log.
type Store struct {
	db   postgres.DB
	read postgres.Reader
}

// NewStore returns a Store on db.
func NewStore(db postgres.DB) *Store { return &Store{db, postgres.NewReader(db)} }

// Filter says which entries; the zero value means all.
type Filter struct {
	SubjectType string
	SubjectID   string
	OperatorID  *uuid.UUID
	NoOperator  bool      // only what no operator did: see Actor
	Action      string    // begins with: "fallback_key."
	From, To    time.Time // not before From, and before To; zero: any time
	Before      int64     // only older ones than this id; 0: from the newest on
}

// List returns at most limit entries, the newest first.
func (s *Store) List(ctx context.Context, f Filter, limit int) (entries []Entry, err error) {
	err = s.read.Read(ctx, func(tx pgx.Tx) error {
		entries, err = list(ctx, tx, f, limit)
		return err
	})
	return entries, err
}

func list(ctx context.Context, tx pgx.Tx, f Filter, limit int) ([]Entry, error) {
	rows, err := tx.Query(ctx, `
		select `+columns+`
		from ops.audit_log
		where ($1 = '' or subject_type = $1) and ($2 = '' or subject_id = $2)
		  and ($3::uuid is null or operator_id = $3) and (not $4 or operator_id is null) and starts_with(action, $5)
		  and ($6::timestamptz is null or at >= $6) and ($7::timestamptz is null or at < $7)
		  and ($8::bigint = 0 or id < $8)
		order by id desc
		limit $9`, f.SubjectType, f.SubjectID, f.OperatorID, f.NoOperator, f.Action, moment(f.From), moment(f.To), f.Before, limit)
	if err != nil {
		return nil, fmt.Errorf("list audit log: %w", err)
	}
	found, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("list audit log: %w", err)
	}
	entries := make([]Entry, len(found))
	for i, one := range found {
		entries[i] = one.entry()
	}
	return entries, nil
}

func moment(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}

const columns = `id, at, operator_id, actor, action, subject_type, subject_id, subject_label, details, previous_hash, hash`

// stored is an entry with what chains it to the others.
type stored struct {
	Entry
	details, previous []byte
}

func scan(row pgx.CollectableRow) (s stored, err error) {
	err = row.Scan(&s.ID, &s.At, &s.Actor.OperatorID, &s.Actor.Name, &s.Action, &s.SubjectType, &s.SubjectID, &s.SubjectLabel,
		&s.details, &s.previous, &s.Hash)
	return s, err
}

// entry reads the details, which are an object unless somebody has tampered with
// them: that must not hide the entry.
func (s stored) entry() Entry {
	decoder := json.NewDecoder(bytes.NewReader(s.details))
	decoder.UseNumber()
	var details any
	_ = decoder.Decode(&details) // comes from a jsonb column
	object, ok := details.(map[string]any)
	if !ok {
		object = map[string]any{"value": details}
	}
	s.Details, s.At = object, s.At.UTC()
	return s.Entry
}

// Person is an operator who stands in the log.
type Person struct {
	ID    uuid.UUID
	Email string
	Name  string // may be empty
}

// Choices are what the log can be filtered by.
type Choices struct {
	Operators    []Person // by address
	SubjectTypes []string
	Actions      []string // of late
}

// recent is how many entries are looked at for the actions that are suggested.
const recent = 2000

// Choices returns what stands in the log.
func (s *Store) Choices(ctx context.Context) (c Choices, err error) {
	err = s.read.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			select id, email, name
			from ops.operators o
			where exists (select from ops.audit_log a where a.operator_id = o.id)
			order by lower(email), id`)
		if err != nil {
			return fmt.Errorf("operators in audit log: %w", err)
		}
		if c.Operators, err = pgx.CollectRows(rows, pgx.RowToStructByName[Person]); err != nil {
			return fmt.Errorf("operators in audit log: %w", err)
		}
		// From each to the next by the index: there are few of them and many entries.
		rows, err = tx.Query(ctx, `
			with recursive types as (
			  (select subject_type from ops.audit_log order by subject_type limit 1)
			  union all
			  select (select a.subject_type from ops.audit_log a where a.subject_type > types.subject_type order by a.subject_type limit 1)
			  from types
			  where types.subject_type is not null
			)
			select subject_type from types where subject_type <> ''`)
		if err != nil {
			return fmt.Errorf("subjects in audit log: %w", err)
		}
		if c.SubjectTypes, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return fmt.Errorf("subjects in audit log: %w", err)
		}
		rows, err = tx.Query(ctx, `
			select distinct action
			from (select action from ops.audit_log order by id desc limit $1) as late
			order by action`, recent)
		if err != nil {
			return fmt.Errorf("actions in audit log: %w", err)
		}
		if c.Actions, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return fmt.Errorf("actions in audit log: %w", err)
		}
		return nil
	})
	return c, err
}
