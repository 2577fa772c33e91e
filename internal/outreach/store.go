package outreach

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

const (
	// PageSize is how many learners a page lists.
	PageSize = 25

	nextSize  = 8
	teamsSize = 8
	maxTeams  = 1000
)

// Store answers what Key Health asks and keeps the queue.
type Store struct {
	db     postgres.DB
	reader postgres.Reader
	zone   *time.Location // where the days of the trend begin
}

// NewStore returns a Store that writes to db and reads pages with reader.
func NewStore(db postgres.DB, reader postgres.Reader, zone *time.Location) *Store {
	return &Store{db, reader, zone}
}

// Report counts everything as of one moment: for an admin in one transaction that
// sees no other, for a lead from what was read as the lead at once.
func (s *Store) Report(ctx context.Context, scope Scope, q Query, now time.Time) (r Report, err error) {
	err = s.read(ctx, scope, now, func(tx pgx.Tx, m moment) error {
		// How many rows come out of a common table expression is guessed badly, and a
		// sort for a merge join costs more than all the rest.
		if _, err := tx.Exec(ctx, `select set_config('enable_mergejoin', 'off', true), set_config('random_page_cost', '1.1', true)`); err != nil {
			return err
		}
		if m.counted {
			r, err = m.reportChanges(ctx, tx, q)
		} else {
			r, err = m.reportAll(ctx, tx, q)
		}
		return err
	})
	if err != nil {
		return Report{}, fmt.Errorf("count keys: %w", err)
	}
	if len(r.Learners) > PageSize {
		r.Learners = r.Learners[:PageSize]
		last := r.Learners[PageSize-1].Place()
		r.After = &last
	}
	return r, nil
}

// List returns all learners that a query finds, whatever its After.
func (s *Store) List(ctx context.Context, scope Scope, q Query, now time.Time) (list []Learner, err error) {
	q.After = nil
	err = s.read(ctx, scope, now, func(tx pgx.Tx, m moment) error {
		src := m.everybody()
		rows, err := tx.Query(ctx, src.sql+q.matching()+written(page, "members", "keys"), src.with(q.arguments(nil)))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByName[Learner])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list learners: %w", err)
	}
	return list, nil
}

// Find returns the learners with these ids, in no order. One that is not there, or
// not in the scope, is fault.NotFound.
func (s *Store) Find(ctx context.Context, scope Scope, ids []uuid.UUID, now time.Time) (found map[uuid.UUID]Learner, err error) {
	src, err := s.source(ctx, scope, ids, now)
	if err != nil {
		return nil, err
	}
	err = s.reader.Read(ctx, func(tx pgx.Tx) error {
		found, err = find(ctx, tx, src)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find learners: %w", err)
	}
	return found, allFound(ids, found)
}

func allFound(ids []uuid.UUID, found map[uuid.UUID]Learner) error {
	for _, id := range ids {
		if _, ok := found[id]; !ok {
			return errNoLearner
		}
	}
	return nil
}

var errNoLearner = fault.New(fault.NotFound, "There is no such learner among those that you see here.")

// Team is a team of learners.
type Team struct {
	ID   uuid.UUID
	Name string
}

// Teams returns all teams, by name. They are for admins only.
func (s *Store) Teams(ctx context.Context) (teams []Team, err error) {
	err = s.reader.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `select id, name from public.teams order by lower(name), id`)
		if err != nil {
			return err
		}
		teams, err = pgx.CollectRows(rows, pgx.RowToStructByName[Team])
		return err
	})
	return teams, err
}

// Event is an entry of a learner's history.
type Event struct {
	ID         int64
	At         time.Time
	Kind       string
	FromState  string
	FromUntil  *time.Time
	ToState    string
	ToUntil    *time.Time
	OperatorID *uuid.UUID // nil: it happened by itself
	Actor      string
	Note       string
}

// undoable says whether it is something that an operator did and can take back.
func (e Event) undoable() bool {
	return e.OperatorID != nil && (e.Kind == "contacted" || e.Kind == "snoozed" || e.Kind == "reopened")
}

// History returns the latest entries about a learner, the newest first. Whether
// the caller may see the learner is for Find to say.
func (s *Store) History(ctx context.Context, id uuid.UUID, limit int) (events []Event, err error) {
	err = s.reader.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			select id, at, kind, from_state, from_until, to_state, to_until, operator_id, actor, note
			from ops.outreach_events
			where learner_id = $1
			order by id desc
			limit $2`, id, limit)
		if err != nil {
			return err
		}
		events, err = pgx.CollectRows(rows, pgx.RowToStructByName[Event])
		return err
	})
	return events, err
}
