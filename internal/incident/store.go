package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
)

// Store keeps incidents. Its methods return fault.NotFound for one that is gone,
// and fault.Unavailable when the database is away.
type Store struct {
	db    postgres.DB
	read  postgres.Reader
	board board
}

// NewStore returns a Store on db.
func NewStore(db postgres.DB) *Store { return &Store{db: db, read: postgres.NewReader(db)} }

const columns = `
	i.id, i.title, i.severity, i.status, i.lead_id, i.check_id, i.step, i.detected_at, i.acknowledged_at, i.acknowledged_by, i.mitigated_at, i.resolved_at,
	i.summary, i.went_well, i.went_badly, i.lessons, i.revision, i.created_at, i.created_by,
	coalesce(nullif(l.name, ''), l.email, '') as lead_name, coalesce(nullif(a.name, ''), a.email, '') as acknowledged_name`

const tables = `
	from ops.incidents i
	left join ops.operators l on l.id = i.lead_id
	left join ops.operators a on a.id = i.acknowledged_by`

// Origin is what an incident was started from; its zero value is by hand.
type Origin struct {
	CheckID string
	Step    string   // of the runbook
	Reading *Reading // of the check; nil: none was taken
}

// Start makes an incident. It is fault.Invalid, with every field, for a draft that
// cannot be used.
func (s *Store) Start(ctx context.Context, by audit.Actor, d Draft, from Origin, now time.Time) (id int64, err error) {
	if d.DetectedAt.IsZero() {
		d.DetectedAt = now
	}
	if d, err = d.checked(now, "is in the future; leave it empty for now"); err != nil {
		return 0, err
	}
	err = s.inTx(ctx, "start incident", func(tx pgx.Tx) error {
		if err := mayLead(ctx, tx, d.LeadID, "leadId"); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `
			insert into ops.incidents (title, severity, lead_id, check_id, step, detected_at, created_at, created_by)
			values ($1, $2, $3, $4, $5, $6, $7, $8)
			returning id`, d.Title, d.Severity, d.LeadID, from.CheckID, from.Step, d.DetectedAt, now, by.OperatorID).Scan(&id)
		if err != nil {
			return err
		}
		if from.Reading != nil {
			if err := add(ctx, tx, id, by, reading(*from.Reading, now)); err != nil {
				return err
			}
		}
		if err := add(ctx, tx, id, by, Entry{At: now, Kind: KindStart, Title: "Started as " + d.Severity.String()}); err != nil {
			return err
		}
		return note(ctx, tx, by, "incident.start", id, d.Title, now, map[string]any{
			"severity": d.Severity.String(), "detectedAt": d.DetectedAt.Format(time.RFC3339), "check": from.CheckID, "step": from.Step,
		})
	})
	return id, err
}

// mayLead makes sure that an operator can be given something to look after.
func mayLead(ctx context.Context, tx pgx.Tx, id *uuid.UUID, field string) error {
	if id == nil {
		return nil
	}
	var may bool
	err := tx.QueryRow(ctx, `select exists (select from ops.operators where id = $1 and role = 'admin' and disabled_at is null)`, id).Scan(&may)
	if err == nil && !may {
		return fault.InvalidFields([]fault.Field{{Field: field, Message: "must be an admin who may sign in"}})
	}
	return err
}

// reading is the entry of what a check said.
func reading(r Reading, now time.Time) Entry {
	if r.At.IsZero() || r.At.After(now) {
		r.At = now
	}
	title, body := r.Title, r.Detail
	if r.Value != "" {
		title += ": " + r.Value
	}
	title, body = readable(title), readable(body)
	if runes := []rune(title); len(runes) > MaxTitle {
		title = string(runes[:MaxTitle-1]) + "…"
	}
	if runes := []rune(body); len(runes) > MaxText {
		body = string(runes[:MaxText-1]) + "…"
	}
	return Entry{At: r.At, Kind: KindReading, Title: title, Body: body, Verdict: readable(r.Verdict)}
}

// Edit changes what an operator decides about an incident. It is fault.Conflict
// when it is no longer as of revision, and fault.Invalid for a draft that cannot
// be used.
func (s *Store) Edit(ctx context.Context, by audit.Actor, id int64, revision int, d Draft, now time.Time) error {
	return s.change(ctx, "edit incident", id, func(tx pgx.Tx, i Incident) error {
		if err := i.as(revision); err != nil {
			return err
		}
		latest, why := now, "is in the future"
		if i.AcknowledgedAt != nil && i.AcknowledgedAt.Before(latest) {
			latest, why = *i.AcknowledgedAt, "is after it was acknowledged; choose an earlier moment"
		}
		if i.ResolvedAt != nil && !d.DetectedAt.Equal(i.DetectedAt) {
			return fault.InvalidFields([]fault.Field{{Field: "detectedAt", Message: "cannot change while the incident is resolved, as its figures are kept; reopen it first"}})
		}
		d, err := d.checked(latest, why)
		if err != nil {
			return err
		}
		if !same(d.LeadID, i.LeadID) {
			if err := mayLead(ctx, tx, d.LeadID, "leadId"); err != nil {
				return err
			}
		}
		changes, err := i.changes(ctx, tx, d)
		if err != nil || len(changes) == 0 {
			return err
		}
		if _, err := tx.Exec(ctx, `
			update ops.incidents set title = $2, severity = $3, lead_id = $4, detected_at = $5
			where id = $1`, id, d.Title, d.Severity, d.LeadID, d.DetectedAt); err != nil {
			return err
		}
		if err := touch(ctx, tx, i.Touched(*by.OperatorID, now)); err != nil {
			return err
		}
		if err := add(ctx, tx, id, by, Entry{At: now, Kind: KindEdit, Title: "Changed", Changes: changes}); err != nil {
			return err
		}
		details := map[string]any{}
		for _, c := range changes {
			details[c.Field] = audit.Change{From: c.From, To: c.To}
		}
		return note(ctx, tx, by, "incident.edit", id, d.Title, now, details)
	})
}

// changes is what a draft makes of an incident.
func (i Incident) changes(ctx context.Context, tx pgx.Tx, d Draft) (changes []Change, err error) {
	change := func(field, from, to string) {
		if from != to {
			changes = append(changes, Change{field, from, to})
		}
	}
	change("title", i.Title, d.Title)
	change("severity", i.Severity.String(), d.Severity.String())
	if !same(i.LeadID, d.LeadID) {
		name := "nobody"
		if d.LeadID != nil {
			err = tx.QueryRow(ctx, `select coalesce(nullif(name, ''), email) from ops.operators where id = $1`, d.LeadID).Scan(&name)
		}
		was := i.LeadName
		if was == "" {
			was = "nobody"
		}
		changes = append(changes, Change{"lead", was, name})
	}
	change(FieldDetected, i.DetectedAt.UTC().Format(time.RFC3339), d.DetectedAt.UTC().Format(time.RFC3339))
	return changes, err
}

func same(a, b *uuid.UUID) bool { return a == b || a != nil && b != nil && *a == *b }

// as says whether the incident is still what somebody saw.
func (i Incident) as(revision int) error {
	if i.Revision == revision {
		return nil
	}
	return fault.New(fault.Conflict, "Nothing was saved yet: somebody else has changed this incident meanwhile. Below it is as it is now; save again if it should be as you typed it.")
}

// Take moves an incident on: see Incident.Take. Resolving it keeps what was
// computed, so that it stays; reopening lets go of that.
func (s *Store) Take(ctx context.Context, by audit.Actor, id int64, step Step, now time.Time) error {
	now = now.UTC().Truncate(time.Microsecond)
	return s.change(ctx, "move incident on", id, func(tx pgx.Tx, i Incident) error {
		next, err := i.Take(step, *by.OperatorID, now)
		if err != nil {
			return err
		}
		var kept []byte
		if next.ResolvedAt != nil {
			if kept, err = freeze(ctx, tx, next, now); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `
			update ops.incidents set status = $2, mitigated_at = $3, resolved_at = $4, frozen = $5
			where id = $1`, id, next.Status, next.MitigatedAt, next.ResolvedAt, kept); err != nil {
			return err
		}
		if err := touch(ctx, tx, next); err != nil {
			return err
		}
		e := Entry{At: now, Kind: Kind(step), Title: said[step]}
		if step != Acknowledge && step != Reopen && i.AcknowledgedAt == nil {
			e.Body = "That also acknowledged it."
		}
		if err := add(ctx, tx, id, by, e); err != nil {
			return err
		}
		return note(ctx, tx, by, "incident."+string(step), id, i.Title, now, map[string]any{"status": audit.Change{From: i.Status, To: next.Status}})
	})
}

var said = map[Step]string{Acknowledge: "Acknowledged", Mitigate: "Mitigated", Resolve: "Resolved", Reopen: "Reopened"}

// kept is what was computed when an incident was resolved.
type kept struct {
	Derived []Entry `json:"derived"`
	Impact  Impact  `json:"impact"`
	Cost    string  `json:"fallbackUsd"` // with all its digits
}

func freeze(ctx context.Context, tx pgx.Tx, i Incident, now time.Time) ([]byte, error) {
	// Rather late than never: without it the incident could not be closed.
	if _, err := tx.Exec(ctx, `set local statement_timeout = '30s'`); err != nil {
		return nil, err
	}
	derived, err := derive(ctx, tx, i.DetectedAt, i.End(now))
	if err != nil {
		return nil, err
	}
	impact, err := measure(ctx, tx, i.DetectedAt, i.End(now))
	if err != nil {
		return nil, err
	}
	return json.Marshal(kept{Derived: derived, Impact: impact, Cost: impact.Fallback.String()})
}

func thaw(frozen []byte) (derived []Entry, impact Impact, err error) {
	var k kept
	if err := json.Unmarshal(frozen, &k); err != nil {
		return nil, Impact{}, fmt.Errorf("kept figures: %w", err)
	}
	if k.Impact.Fallback, err = price.ParseUSD(k.Cost); err != nil {
		return nil, Impact{}, fmt.Errorf("kept figures: %w", err)
	}
	return k.Derived, k.Impact, nil
}

// Write saves what people wrote for the post-mortem; see Edit.
func (s *Store) Write(ctx context.Context, by audit.Actor, id int64, revision int, t Texts, now time.Time) error {
	t, err := t.checked()
	if err != nil {
		return err
	}
	return s.change(ctx, "write post-mortem", id, func(tx pgx.Tx, i Incident) error {
		if err := i.as(revision); err != nil {
			return err
		}
		if i.Texts() == t {
			return nil
		}
		if _, err := tx.Exec(ctx, `
			update ops.incidents set summary = $2, went_well = $3, went_badly = $4, lessons = $5
			where id = $1`, id, t.Summary, t.WentWell, t.WentBadly, t.Lessons); err != nil {
			return err
		}
		if err := touch(ctx, tx, i.Touched(*by.OperatorID, now)); err != nil {
			return err
		}
		if err := add(ctx, tx, id, by, Entry{At: now, Kind: KindEdit, Title: "Post-mortem written on"}); err != nil {
			return err
		}
		return note(ctx, tx, by, "incident.post_mortem", id, i.Title, now, map[string]any{"parts": i.Texts().differ(t)})
	})
}

// Record puts the reading of a check on the time line.
func (s *Store) Record(ctx context.Context, by audit.Actor, id int64, checkID string, r Reading, now time.Time) error {
	return s.change(ctx, "record reading", id, func(tx pgx.Tx, i Incident) error {
		if i.Status == Resolved {
			return fault.New(fault.Conflict, "Nothing was recorded: this incident is resolved. Reopen it first.")
		}
		if err := touch(ctx, tx, i.Touched(*by.OperatorID, now)); err != nil {
			return err
		}
		e := reading(r, now)
		if err := add(ctx, tx, id, by, e); err != nil {
			return err
		}
		return note(ctx, tx, by, "incident.reading", id, i.Title, now, map[string]any{"check": checkID, "verdict": e.Verdict, "reading": e.Title})
	})
}

// change runs fn in a transaction in which nobody else changes the incident.
func (s *Store) change(ctx context.Context, what string, id int64, fn func(tx pgx.Tx, i Incident) error) error {
	return s.inTx(ctx, what, func(tx pgx.Tx) error {
		i, err := find(ctx, tx, id, ` for update of i`)
		if err != nil {
			return err
		}
		return fn(tx, i)
	})
}

func (s *Store) inTx(ctx context.Context, what string, fn func(tx pgx.Tx) error) error {
	err := postgres.InTx(ctx, s.db, fn)
	if postgres.TookTooLong(err) && ctx.Err() == nil {
		return fault.New(fault.Unavailable, "The database is too busy for this right now. Try again in a minute.").Because(err)
	}
	if err != nil {
		return postgres.Fault(fmt.Errorf("%s: %w", what, err))
	}
	s.board.forget()
	return nil
}

func find(ctx context.Context, db postgres.DB, id int64, lock string) (Incident, error) {
	rows, _ := db.Query(ctx, `
		select`+columns+tables+`
		where i.id = $1`+lock, id)
	i, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Incident])
	if errors.Is(err, pgx.ErrNoRows) {
		return Incident{}, noIncident()
	}
	return i.utc(), err
}

func (i Incident) utc() Incident {
	i.DetectedAt, i.CreatedAt = i.DetectedAt.UTC(), i.CreatedAt.UTC()
	for _, at := range []**time.Time{&i.AcknowledgedAt, &i.MitigatedAt, &i.ResolvedAt} {
		if *at != nil {
			utc := (*at).UTC()
			*at = &utc
		}
	}
	return i
}

// touch stores who acknowledged an incident, and that it changed.
func touch(ctx context.Context, tx pgx.Tx, i Incident) error {
	_, err := tx.Exec(ctx, `
		update ops.incidents set acknowledged_at = $2, acknowledged_by = $3, revision = revision + 1
		where id = $1`, i.ID, i.AcknowledgedAt, i.AcknowledgedBy)
	return err
}

// add puts an entry on the time line.
func add(ctx context.Context, tx pgx.Tx, id int64, by audit.Actor, e Entry) error {
	changes := e.Changes
	if changes == nil {
		changes = []Change{}
	}
	_, err := tx.Exec(ctx, `
		insert into ops.incident_entries (incident_id, at, kind, operator_id, actor, title, body, verdict, changes)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, id, e.At, e.Kind, by.OperatorID, by.Name, e.Title, e.Body, e.Verdict, changes)
	return err
}

func note(ctx context.Context, tx pgx.Tx, by audit.Actor, action string, id int64, title string, now time.Time, details map[string]any) error {
	return audit.Add(ctx, tx, audit.Entry{
		At: now, Actor: by, Action: action, SubjectType: "incident", SubjectID: strconv.FormatInt(id, 10), SubjectLabel: title, Details: details,
	})
}
