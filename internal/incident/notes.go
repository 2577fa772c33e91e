package incident

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
)

// AddNote puts what an operator says on the time line. It is fault.Invalid, on the
// field body, for what cannot be used.
func (s *Store) AddNote(ctx context.Context, by audit.Actor, id int64, body string, now time.Time) error {
	body, err := noteText(body)
	if err != nil {
		return err
	}
	return s.change(ctx, "add note", id, func(tx pgx.Tx, i Incident) error {
		if i.AcknowledgedAt == nil { // a note alone is no reason for others to look again
			if err := touch(ctx, tx, i.Touched(*by.OperatorID, now)); err != nil {
				return err
			}
		}
		if err := add(ctx, tx, id, by, Entry{At: now, Kind: KindNote, Body: body}); err != nil {
			return err
		}
		return note(ctx, tx, by, "incident.note", id, i.Title, now, nil)
	})
}

// EditNote changes a note of the operator's own; what it said before is kept. It is
// fault.Conflict when it was changed more than version times meanwhile.
func (s *Store) EditNote(ctx context.Context, by audit.Actor, id, noteID int64, version int, body string, now time.Time) error {
	body, err := noteText(body)
	if err != nil {
		return err
	}
	return s.changeNote(ctx, by, id, noteID, version, func(tx pgx.Tx, i Incident, was string) error {
		if was == body {
			return nil
		}
		if _, err := tx.Exec(ctx, `
			update ops.incident_entries
			set history = history || jsonb_build_object('body', body, 'until', $3::timestamptz), body = $2
			where id = $1`, noteID, body, now); err != nil {
			return err
		}
		return note(ctx, tx, by, "incident.note_edit", id, i.Title, now, map[string]any{"entry": noteID})
	})
}

// DeleteNote takes back a note of the operator's own. Its place and what it said
// stay to be seen on the page, and not in the post-mortem.
func (s *Store) DeleteNote(ctx context.Context, by audit.Actor, id, noteID int64, version int, now time.Time) error {
	return s.changeNote(ctx, by, id, noteID, version, func(tx pgx.Tx, i Incident, _ string) error {
		if _, err := tx.Exec(ctx, `update ops.incident_entries set deleted_at = $2 where id = $1`, noteID, now); err != nil {
			return err
		}
		return note(ctx, tx, by, "incident.note_delete", id, i.Title, now, map[string]any{"entry": noteID})
	})
}

func (s *Store) changeNote(ctx context.Context, by audit.Actor, id, noteID int64, version int, fn func(tx pgx.Tx, i Incident, was string) error) error {
	return s.change(ctx, "change note", id, func(tx pgx.Tx, i Incident) error {
		var body string
		var versions int
		var own, deleted bool
		err := tx.QueryRow(ctx, `
			select body, jsonb_array_length(history), operator_id is not distinct from $3, deleted_at is not null
			from ops.incident_entries
			where id = $2 and incident_id = $1 and kind = 'note'`, id, noteID, by.OperatorID).Scan(&body, &versions, &own, &deleted)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return fault.New(fault.NotFound, "There is no such note.")
		case err != nil:
			return err
		case !own:
			return fault.New(fault.Forbidden, "Only who wrote a note can change it. Add a note of your own.")
		case deleted || versions != version:
			return fault.New(fault.Conflict, "Nothing was changed: this note was changed in another window meanwhile. Below it is as it is now.")
		}
		return fn(tx, i, body)
	})
}

func noteText(body string) (string, error) {
	body, problem := text(body)
	if body == "" {
		problem = "must not be empty"
	}
	if problem != "" {
		return "", fault.InvalidFields([]fault.Field{{Field: "body", Message: problem}})
	}
	return body, nil
}
