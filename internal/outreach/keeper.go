package outreach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/loop"
	"github.com/promptcademy/promptops/internal/postgres"
)

const (
	keepEvery = time.Minute
	keepBatch = 500
)

// Keeper writes down what happens to the queue by itself, takes the day's snapshot
// and counts ahead where there is much to count. Pages are right without it; it makes
// them quick, and gives them a past.
type Keeper struct {
	store *Store
	log   *slog.Logger
	worth worth
}

// NewKeeper returns the loop.
func NewKeeper(store *Store, log *slog.Logger) *Keeper {
	return &Keeper{store, log, worth{attemptsWorth, learnersWorth}}
}

// Run looks every minute until ctx is done. Any number of nodes may.
func (k *Keeper) Run(ctx context.Context) error {
	return loop.Every(ctx, k.log, "outreach_not_kept", keepEvery, k.RunOnce)
}

// RunOnce does what is due.
func (k *Keeper) RunOnce(ctx context.Context, now time.Time) error {
	changed, err := k.store.settle(ctx, now)
	if changed > 0 {
		k.log.Info("outreach_changed", "learners", changed)
	}
	return errors.Join(
		wrap("settle the queue", err),
		wrap("take the day's snapshot", k.store.snapshot(ctx, now)),
		wrap("count ahead", k.store.countAhead(ctx, k.worth, now)),
	)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// settle writes down every change that came by itself, and returns how many there
// were.
func (s *Store) settle(ctx context.Context, now time.Time) (changed int, err error) {
	for {
		n, err := s.settleSome(ctx, now)
		changed += n
		if err != nil || n < keepBatch {
			return changed, postgres.Fault(err)
		}
	}
}

// due is a learner whose status is not the one that is stored.
type due struct {
	ID      uuid.UUID
	Stored  *State
	Until   *time.Time
	Usable  bool
	Broken  bool
	StateAt *time.Time
}

func (s *Store) settleSome(ctx context.Context, now time.Time) (changed int, err error) {
	// The costs are of no interest here, and dear to count.
	src := source{`with members as (select team_id, user_id from public.team_members),
		keys as (select user_id, provider, ` + isUsable + ` as usable, ` + isBroken + ` as broken, status_at from public.user_api_keys),
		fallback as (select null::uuid as user_id, '' as provider, 0::bigint as attempts, 0::numeric as cost, 0::bigint as unpriced where false),
		active as (select null::uuid as user_id, null::timestamptz as run_at where false)` + reading{}.facts(), `true`,
		pgx.NamedArgs{"now": now, "limit": keepBatch}}
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		// One node at a time; the others have nothing to do then.
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('ops.outreach'))`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, src.sql+`
			select id, stored, snoozed_until as until, usable, broken, state_at
			from facts
			where state <> coalesce(stored, '')
			order by id
			limit @limit`, src.args)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, pgx.RowToStructByName[due])
		if err != nil {
			return err
		}
		changed = len(all)
		var first []uuid.UUID
		batch := &pgx.Batch{}
		for _, d := range all {
			if d.Stored == nil {
				first = append(first, d.ID)
				continue
			}
			was := Status{State: *d.Stored}
			if d.Until != nil {
				was.Until = *d.Until
			}
			next, reason := Next(was, d.Usable, d.Broken, now)
			// Whoever did something meanwhile was first: then there is another turn.
			batch.Queue(`
				with changed as (
				  update ops.outreach
				  set state = $3, state_at = $4, snoozed_until = null, revision = revision + 1
				  where learner_id = $1 and state = $2
				  returning learner_id
				)
				insert into ops.outreach_events (learner_id, at, kind, from_state, from_until, to_state, actor, note)
				select learner_id, $4, $3, $2, $5, $3, 'Key Health', $6 from changed`,
				d.ID, was.State, next.State, now, d.Until, reason)
		}
		if err := enter(ctx, tx, first, now); err != nil {
			return err
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	return changed, err
}

// snapshot counts today, once for all nodes. Days on which nobody was there to
// count stay empty.
func (s *Store) snapshot(ctx context.Context, now time.Time) error {
	day := now.In(s.zone).Format(time.DateOnly)
	var taken bool
	err := s.db.QueryRow(ctx, `select exists (select from ops.key_health_days where day = $1::text::date and team_id is null)`, day).Scan(&taken)
	if err != nil || taken {
		return postgres.Fault(err)
	}
	src, err := s.source(ctx, Scope{}, nil, now)
	if err != nil {
		return err
	}
	_, err = s.db.Exec(ctx, src.sql+`,
		groups as (
		  select null::uuid as team_id, f.* from facts f
		  union all
		  select m.team_id, f.* from members m join facts f on f.id = m.user_id
		),
		sizes as (
		  select team_id, count(*) as learners, count(*) filter (where usable) as usable, count(*) filter (where broken) as broken,
		         count(*) filter (where active) as active, count(*) filter (where active and not usable) as active_without
		  from groups group by team_id
		  union all
		  select null, 0, 0, 0, 0, 0 where not exists (select from facts)
		),
		counts as (
		  select g.team_id, k.provider, count(*) filter (where k.usable) as usable, count(*) filter (where k.broken) as broken,
		         count(*) filter (where k.usable and g.active) as active_with
		  from groups g join per_key k on k.user_id = g.id
		  group by g.team_id, k.provider
		)
		insert into ops.key_health_days (day, team_id, provider, learners, usable, broken, active_without, counted_at, demo)
		select @day::text::date, s.team_id, c.provider, s.learners, c.usable, c.broken, s.active - c.active_with, @now::timestamptz, exists (select from ops.demo_records)
		from sizes s join counts c on c.team_id is not distinct from s.team_id
		union all
		select @day::text::date, team_id, 'any', learners, usable, broken, active_without, @now, exists (select from ops.demo_records)
		from sizes
		on conflict (day, team_id, provider) do nothing`, src.with(pgx.NamedArgs{"day": day}))
	return postgres.Fault(err)
}
