package incident

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Report is all that is known of an incident.
type Report struct {
	Incident
	Entries   []Entry // in order
	Impact    Impact
	FollowUps []FollowUp
	// Incomplete says that the database had no time for what is computed: then the
	// entries are only those that people made, and the impact is not known.
	Incomplete bool
}

// Report reads an incident as it is at a moment. While it is resolved, what is
// computed is as it was then.
func (s *Store) Report(ctx context.Context, id int64, now time.Time) (r Report, err error) {
	var frozen []byte
	err = s.read.Read(ctx, func(tx pgx.Tx) error {
		if r.Incident, err = find(ctx, tx, id, ""); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `select frozen from ops.incidents where id = $1`, id).Scan(&frozen); err != nil {
			return err
		}
		if r.Entries, err = entries(ctx, tx, id); err != nil {
			return err
		}
		r.FollowUps, err = followUps(ctx, tx, `f.incident_id = $1`, 1000, id)
		return err
	})
	if err != nil {
		return Report{}, err
	}
	derived, impact, err := s.computed(ctx, r.Incident, frozen, now)
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Unavailable && postgres.TookTooLong(f.Cause) {
		r.Incomplete = true
		return r, nil
	}
	if err != nil {
		return Report{}, err
	}
	r.Entries, r.Impact = inOrder(r.Entries, derived), impact
	return r, nil
}

// Find returns an incident without its time line.
func (s *Store) Find(ctx context.Context, id int64) (Incident, error) {
	i, err := find(ctx, s.db, id, "")
	if err != nil {
		return Incident{}, postgres.Fault(fmt.Errorf("find incident: %w", err))
	}
	return i, nil
}

func (s *Store) computed(ctx context.Context, i Incident, frozen []byte, now time.Time) (derived []Entry, impact Impact, err error) {
	if frozen != nil {
		return thaw(frozen)
	}
	err = s.read.Read(ctx, func(tx pgx.Tx) error {
		if derived, err = derive(ctx, tx, i.DetectedAt, i.End(now)); err != nil {
			return err
		}
		impact, err = measure(ctx, tx, i.DetectedAt, i.End(now))
		return err
	})
	return derived, impact, err
}

func entries(ctx context.Context, tx pgx.Tx, id int64) ([]Entry, error) {
	rows, _ := tx.Query(ctx, `
		select id, at, kind, operator_id, actor, title, body, verdict, changes, history, deleted_at
		from ops.incident_entries
		where incident_id = $1
		order by at, id`, id)
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Entry, err error) {
		err = row.Scan(&e.ID, &e.At, &e.Kind, &e.ActorID, &e.Actor, &e.Title, &e.Body, &e.Verdict, &e.Changes, &e.History, &e.DeletedAt)
		e.At = e.At.UTC()
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("time line: %w", err)
	}
	return found, nil
}

// People returns the operators who can lead an incident or own a follow-up.
func (s *Store) People(ctx context.Context) ([]Person, error) {
	rows, _ := s.db.Query(ctx, `
		select id, coalesce(nullif(name, ''), email) as name
		from ops.operators
		where role = 'admin' and disabled_at is null
		order by lower(coalesce(nullif(name, ''), email)), id`)
	people, err := pgx.CollectRows(rows, pgx.RowToStructByName[Person])
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("who can lead: %w", err))
	}
	return people, nil
}
