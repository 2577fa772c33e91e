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

// Report counts everything in one statement: all of it is of the same moment.
func (s *Store) Report(ctx context.Context, scope Scope, q Query, now time.Time) (r Report, err error) {
	src, err := s.source(ctx, scope, nil, now)
	if err != nil {
		return Report{}, err
	}
	limit := PageSize + 1
	args := q.arguments(&limit)
	args["next"], args["team_limit"] = nextSize, teamsSize
	if q.AllTeams {
		args["team_limit"] = maxTeams
	}
	teams := 0
	err = s.reader.Read(ctx, func(tx pgx.Tx) error {
		// How many rows come out of a common table expression is guessed badly, and a
		// sort for a merge join costs more than all the rest.
		if _, err := tx.Exec(ctx, `select set_config('enable_mergejoin', 'off', true)`); err != nil {
			return err
		}
		return tx.QueryRow(ctx, src.sql+matching+`,
			by_team as materialized (
			  select t.id as team_id, t.name, count(*) as members,
			         count(*) filter (where f.usable) as "with",
			         count(*) filter (where f.active and not f.usable) as active_without,
			         sum(f.cost) as cost, sum(f.unpriced)::bigint as unpriced
			  from members m
			  join facts f on f.id = m.user_id
			  join public.teams t on t.id = m.team_id
			  where @teams::uuid[] is null or m.team_id = any(@teams)
			  group by t.id
			)
			select
			  (select to_jsonb(x) from (
			    select count(*) as learners,
			           count(*) filter (where usable) as "with",
			           count(*) filter (where not usable) as without,
			           count(*) filter (where active) as active,
			           count(*) filter (where active and not usable) as active_without,
			           count(*) filter (where broken) as broken,
			           min(broken_since) as broken_since,
			           coalesce(sum(cost), 0) as cost, coalesce(sum(unpriced), 0)::bigint as unpriced,
			           count(*) filter (where fell_back) as on_fallback,
			           count(*) filter (where state = 'new') as new,
			           count(*) filter (where state = 'contacted') as contacted,
			           count(*) filter (where state = 'snoozed') as snoozed,
			           count(*) filter (where state = 'resolved') as resolved,
			           count(*) filter (where state = 'reopened') as reopened
			    from facts) x),
			  (select coalesce(jsonb_agg(x order by x."with" desc, x.cost desc, x.provider), '[]') from (
			    select provider, sum("with")::int as "with", sum(broken)::int as broken, sum(fallback)::int as fallback,
			           sum(cost) as cost, sum(unpriced)::bigint as unpriced
			    from (
			      select k.provider, count(*) filter (where k.usable) as "with", count(*) filter (where k.broken) as broken, 0::bigint as fallback,
			             0::numeric as cost, 0::numeric as unpriced
			      from per_key k join facts f on f.id = k.user_id
			      group by k.provider
			      union all
			      select k.provider, 0, 0, count(*) filter (where k.lacks), sum(k.cost), sum(k.unpriced)
			      from lacking k join facts f on f.id = k.user_id
			      group by k.provider
			    ) parts
			    group by provider
			    having sum("with") + sum(broken) + sum(fallback) > 0 or sum(cost) > 0 or sum(unpriced) > 0) x),
			  (select coalesce(jsonb_agg(x order by x.active_without desc, x.cost desc, lower(x.name), x.team_id), '[]') from (
			    select * from by_team order by active_without desc, cost desc, lower(name), team_id limit @team_limit) x),
			  (select count(*) from by_team),
			  (select coalesce(jsonb_agg(x order by x.cost desc, x.id), '[]') from (`+written(`(
			    select * from facts where cost > 0 or unpriced > 0 order by cost desc, id limit @next)`)+`) x),
			  (select coalesce(jsonb_agg(x order by x.at desc, x.id desc), '[]') from (
			    select n.id, n.at, n.actor, n.channel, n.skipped, coalesce(d.state, '') as state, coalesce(d.reason, '') as state_reason,
			           n.learner_id, `+learnerName+` as learner_name, coalesce(u.email, '') as learner_email
			    from ops.nudges n
			    join facts f on f.id = n.learner_id
			    join auth.users u on u.id = n.learner_id
			    left join ops.deliveries d on d.id = n.delivery_id
			    order by n.at desc, n.id desc
			    limit @next) x),
			  (select count(*) from matching),
			  (select coalesce(jsonb_agg(x order by x.active desc, x.cost desc, x.id), '[]') from (`+written(page)+`) x)`,
			src.with(args)).Scan(&r.Figures, &r.Providers, &r.Teams, &teams, &r.Next, &r.Nudges, &r.Listed, &r.Learners)
	})
	if err != nil {
		return Report{}, fmt.Errorf("count keys: %w", err)
	}
	r.MoreTeams = teams - len(r.Teams)
	if len(r.Learners) > PageSize {
		r.Learners = r.Learners[:PageSize]
		last := r.Learners[PageSize-1].Place()
		r.After = &last
	}
	return r, nil
}

// List returns all learners that a query finds, whatever its After.
func (s *Store) List(ctx context.Context, scope Scope, q Query, now time.Time) (list []Learner, err error) {
	src, err := s.source(ctx, scope, nil, now)
	if err != nil {
		return nil, err
	}
	q.After = nil
	err = s.reader.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, src.sql+matching+written(page), src.with(q.arguments(nil)))
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
