package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/seal"
)

// Store reads the outbox, and reads and changes how channels are set up.
type Store struct {
	db   postgres.DB
	ring *seal.Ring
	opts Options
}

// NewStore returns a Store on db whose secrets are sealed with ring.
func NewStore(db postgres.DB, ring *seal.Ring, opts Options) *Store { return &Store{db, ring, opts} }

const columns = `id, channel, recipient, subject, body, purpose, coalesce(dedup_key, ''), state, attempts, reason, created_at, due_at, finished_at`

func scan(row pgx.CollectableRow) (d Delivery, err error) {
	err = row.Scan(&d.ID, &d.Channel, &d.To, &d.Subject, &d.Text, &d.Purpose, &d.Key, &d.State, &d.Attempts, &d.Reason, &d.CreatedAt, &d.DueAt, &d.FinishedAt)
	return d, err
}

// Find returns the deliveries with these ids; those that are not there are left
// out.
func (s *Store) Find(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]Delivery, error) {
	rows, err := s.db.Query(ctx, `select `+columns+` from ops.deliveries where id = any($1)`, ids)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("find deliveries: %w", err))
	}
	list, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("find deliveries: %w", err))
	}
	found := make(map[uuid.UUID]Delivery, len(list))
	for _, d := range list {
		found[d.ID] = d
	}
	return found, nil
}

// Filter says which deliveries; the zero value means all.
type Filter struct {
	Channel string
	State   State
	Purpose string
}

// List returns at most limit deliveries, the newest first; before, unless it is
// uuid.Nil, leaves out that one and all newer ones.
func (s *Store) List(ctx context.Context, f Filter, before uuid.UUID, limit int) ([]Delivery, error) {
	rows, err := s.db.Query(ctx, `
		select `+columns+`
		from ops.deliveries
		where ($1 = '' or channel = $1) and ($2 = '' or state = $2) and ($3 = '' or purpose = $3)
		  and ($4 = '00000000-0000-0000-0000-000000000000'::uuid or id < $4)
		order by id desc
		limit $5`, f.Channel, f.State, f.Purpose, before, limit)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("list deliveries: %w", err))
	}
	list, err := pgx.CollectRows(rows, scan)
	return list, postgres.Fault(err)
}

// Again queues a delivery anew that failed or was skipped, with all its attempts
// before it. It is fault.NotFound when there is none, and fault.Conflict when it
// was sent or is queued.
func (s *Store) Again(ctx context.Context, id uuid.UUID, by audit.Actor, now time.Time) error {
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `select `+columns+` from ops.deliveries where id = $1 for update`, id)
		if err != nil {
			return err
		}
		found, err := pgx.CollectRows(rows, scan)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return fault.New(fault.NotFound, "There is no such delivery.")
		}
		d := found[0]
		if d.State != Failed && d.State != Skipped {
			return fault.New(fault.Conflict, "This delivery is %s already: only one that failed or was skipped can be sent again.", d.State)
		}
		// created_at is what giving up is counted from, and the list's order is the id's.
		_, err = tx.Exec(ctx, `
			update ops.deliveries
			set state = 'queued', attempts = 0, claim = null, claimed_at = null, due_at = $2, created_at = $2, finished_at = null
			where id = $1`, id, now)
		if err != nil {
			return err
		}
		return audit.Add(ctx, tx, audit.Entry{
			At: now, Actor: by, Action: "delivery.send_again", SubjectType: "delivery", SubjectID: id.String(), SubjectLabel: d.Subject,
			Details: map[string]any{"channel": d.Channel, "purpose": d.Purpose, "state": d.State},
		})
	})
	return postgres.Fault(err)
}
