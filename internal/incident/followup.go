package incident

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// FollowUp is what is left to do after an incident.
type FollowUp struct {
	ID            int64
	IncidentID    int64
	IncidentTitle string
	Body          string
	OwnerID       *uuid.UUID // nil: nobody yet
	OwnerName     string
	DueOn         *time.Time // a day; nil: none
	DoneAt        *time.Time // nil: it is to do
	Revision      int
}

// Late says whether it should have been done before a day.
func (f FollowUp) Late(today time.Time) bool {
	return f.DoneAt == nil && f.DueOn != nil && f.DueOn.Format(time.DateOnly) < today.Format(time.DateOnly)
}

// Task is a FollowUp as an operator types it.
type Task struct {
	Body    string
	OwnerID *uuid.UUID
	DueOn   string // a day like 2026-11-24; may be empty
}

func (t Task) checked() (Task, *time.Time, error) {
	var problems []fault.Field
	body, problem := line(t.Body)
	if problem != "" {
		problems = append(problems, fault.Field{Field: "task", Message: problem})
	}
	var due *time.Time
	if t.DueOn != "" {
		day, err := time.Parse(time.DateOnly, t.DueOn)
		if err != nil || day.Year() < 2000 || day.Year() > 2999 {
			problems = append(problems, fault.Field{Field: "dueOn", Message: "is not a day like 2026-11-24"})
		}
		due = &day
	}
	if len(problems) > 0 {
		return t, nil, fault.InvalidFields(problems)
	}
	t.Body = body
	return t, due, nil
}

// AddFollowUp adds something to do. It is fault.Invalid, with every field, for what
// cannot be used.
func (s *Store) AddFollowUp(ctx context.Context, by audit.Actor, id int64, t Task, now time.Time) error {
	t, due, err := t.checked()
	if err != nil {
		return err
	}
	return s.change(ctx, "add follow-up", id, func(tx pgx.Tx, i Incident) error {
		if err := mayLead(ctx, tx, t.OwnerID, "ownerId"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `
			insert into ops.incident_follow_ups (incident_id, body, owner_id, due_on, created_at)
			values ($1, $2, $3, $4, $5)`, id, t.Body, t.OwnerID, due, now); err != nil {
			return err
		}
		return s.followed(ctx, tx, by, i, "Follow-up added", "incident.follow_up_add", t.Body, now)
	})
}

// Deed is what can be done to a follow-up.
type Deed string

const (
	Done   Deed = "done"
	Undone Deed = "undone"
	Remove Deed = "remove"
)

// DoFollowUp marks a follow-up as done or not, or removes it. It is fault.Conflict
// when it is no longer as of revision.
func (s *Store) DoFollowUp(ctx context.Context, by audit.Actor, id, followID int64, revision int, deed Deed, now time.Time) error {
	return s.changeFollowUp(ctx, id, followID, revision, func(tx pgx.Tx, i Incident, f FollowUp) error {
		var title string
		var doneAt *time.Time
		switch deed {
		case Done:
			title, doneAt = "Follow-up done", &now
		case Undone:
			title = "Follow-up to do again"
		case Remove:
			title = "Follow-up removed"
		default:
			return fault.New(fault.Malformed, "The form does not say what to do with this follow-up.")
		}
		var err error
		if deed == Remove {
			_, err = tx.Exec(ctx, `delete from ops.incident_follow_ups where id = $1`, followID)
		} else {
			_, err = tx.Exec(ctx, `update ops.incident_follow_ups set done_at = $2, revision = revision + 1 where id = $1`, followID, doneAt)
		}
		if err != nil {
			return err
		}
		return s.followed(ctx, tx, by, i, title, "incident.follow_up_"+string(deed), f.Body, now)
	})
}

// EditFollowUp changes what is to be done, by whom and until when; see AddFollowUp
// and DoFollowUp.
func (s *Store) EditFollowUp(ctx context.Context, by audit.Actor, id, followID int64, revision int, t Task, now time.Time) error {
	t, due, err := t.checked()
	if err != nil {
		return err
	}
	return s.changeFollowUp(ctx, id, followID, revision, func(tx pgx.Tx, i Incident, f FollowUp) error {
		if f.Body == t.Body && same(f.OwnerID, t.OwnerID) && sameDay(f.DueOn, due) {
			return nil
		}
		if !same(f.OwnerID, t.OwnerID) {
			if err := mayLead(ctx, tx, t.OwnerID, "ownerId"); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `
			update ops.incident_follow_ups set body = $2, owner_id = $3, due_on = $4, revision = revision + 1
			where id = $1`, followID, t.Body, t.OwnerID, due); err != nil {
			return err
		}
		return s.followed(ctx, tx, by, i, "Follow-up changed", "incident.follow_up_edit", t.Body, now)
	})
}

func sameDay(a, b *time.Time) bool {
	return a == b || a != nil && b != nil && a.Format(time.DateOnly) == b.Format(time.DateOnly)
}

// changeFollowUp runs fn in a transaction in which nobody else changes the
// follow-up, if it is still as of revision.
func (s *Store) changeFollowUp(ctx context.Context, id, followID int64, revision int, fn func(tx pgx.Tx, i Incident, f FollowUp) error) error {
	return s.change(ctx, "change follow-up", id, func(tx pgx.Tx, i Incident) error {
		found, err := followUps(ctx, tx, `f.incident_id = $1 and f.id = $2`, 1, id, followID)
		switch {
		case err != nil:
			return err
		case len(found) == 0:
			return fault.New(fault.Conflict, "Nothing was changed: this follow-up is gone. Below is what there is now.")
		case found[0].Revision != revision:
			return fault.New(fault.Conflict, "Nothing was changed: somebody else changed this follow-up meanwhile. Below it is as it is now.")
		}
		return fn(tx, i, found[0])
	})
}

func (s *Store) followed(ctx context.Context, tx pgx.Tx, by audit.Actor, i Incident, title, action, body string, now time.Time) error {
	if i.AcknowledgedAt == nil {
		if err := touch(ctx, tx, i.Touched(*by.OperatorID, now)); err != nil {
			return err
		}
	}
	if err := add(ctx, tx, i.ID, by, Entry{At: now, Kind: KindFollowUp, Title: title, Body: body}); err != nil {
		return err
	}
	return note(ctx, tx, by, action, i.ID, i.Title, now, map[string]any{"followUp": body})
}

// OpenFollowUps returns what is left to do over all incidents, what is due first
// first, at most limit, and how much there is.
func (s *Store) OpenFollowUps(ctx context.Context, limit int) (list []FollowUp, total int64, err error) {
	err = s.read.Read(ctx, func(tx pgx.Tx) error {
		if list, err = followUps(ctx, tx, `f.done_at is null`, limit); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `select count(*) from ops.incident_follow_ups where done_at is null`).Scan(&total)
	})
	return list, total, err
}

func followUps(ctx context.Context, db postgres.DB, where string, limit int, args ...any) ([]FollowUp, error) {
	rows, _ := db.Query(ctx, `
		select f.id, f.incident_id, i.title as incident_title, f.body, f.owner_id, coalesce(nullif(o.name, ''), o.email, '') as owner_name,
		       f.due_on, f.done_at, f.revision
		from ops.incident_follow_ups f
		join ops.incidents i on i.id = f.incident_id
		left join ops.operators o on o.id = f.owner_id
		where `+where+fmt.Sprintf(`
		order by f.done_at is not null, f.due_on nulls last, f.id
		limit %d`, limit), args...)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[FollowUp])
	if err != nil {
		return nil, fmt.Errorf("follow-ups: %w", err)
	}
	return list, nil
}
