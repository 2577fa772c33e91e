package activity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/loop"
	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/rollup"
)

const (
	// fresh is how old something has to be before it is counted ahead. The triggers
	// of migrations/0019 know the same hour.
	fresh = time.Hour

	everySoOften = time.Minute
	daysAtOnce   = 14 // counted in one transaction
	markLength   = 15 * time.Minute
)

// Keeper counts ahead who was active on which day, for Report. Any number of nodes
// may run one: they take turns. How it knows that what it counted is right is what
// package rollup says of sums; there, too, is why that is exact.
type Keeper struct {
	db    *pgxpool.Pool
	zone  *time.Location
	log   *slog.Logger
	fresh time.Duration // fresh; shorter in tests
}

// NewKeeper returns the loop. It counts days of the given zone and of those that
// operators chose.
func NewKeeper(db *pgxpool.Pool, zone *time.Location, log *slog.Logger) *Keeper {
	return &Keeper{db, zone, log, fresh}
}

// Run counts every minute until ctx is done.
func (k *Keeper) Run(ctx context.Context) error {
	return loop.Every(ctx, k.log, "activity_not_counted", everySoOften, func(ctx context.Context, _ time.Time) error {
		_, err := k.RunOnce(ctx)
		return err
	})
}

// progress is how far a round came.
type progress int

const (
	waiting  progress = iota // another node is at it, or a transaction that writes has not ended
	more                     // there is more to count
	upToDate                 // everything is counted that can be by now
)

// RunOnce drops what changes made wrong, and counts what can be counted by now;
// done says that it got to the end.
func (k *Keeper) RunOnce(ctx context.Context) (done bool, err error) {
	if _, err := k.round(ctx); err != nil { // notes the time
		return false, err
	}
	for {
		if reached, err := k.round(ctx); err != nil || reached != more {
			return reached == upToDate, err
		}
	}
}

// Rebuild drops everything and counts it anew. Pages read the rows meanwhile.
//
// It returns how many days of zones are counted. A transaction that writes and does
// not end keeps it waiting; it is then fault.Unavailable after a minute.
func (k *Keeper) Rebuild(ctx context.Context) (days int, err error) {
	err = postgres.InTx(ctx, k.db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			with mine as materialized (select pg_advisory_xact_lock(hashtext('ops.active_learners'))),
			periods as (delete from ops.activity_periods where exists (select from mine)),
			members as (delete from ops.active_members where exists (select from mine)),
			epoch as (update ops.activity_round set epoch = gen_random_uuid() where exists (select from mine))
			delete from ops.active_learners where exists (select from mine)`)
		return err
	})
	if err != nil {
		return 0, postgres.Fault(fmt.Errorf("drop counted activity: %w", err))
	}
	done := false
	for deadline := time.Now().Add(time.Minute); !done; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			return 0, fault.New(fault.Unavailable, "A transaction that writes to the database has not ended for a minute: nothing can be counted before it does.")
		}
		if done, err = k.RunOnce(ctx); err != nil {
			return 0, err
		}
	}
	if err := k.db.QueryRow(ctx, `select count(*) from ops.activity_periods where whole = 'day'`).Scan(&days); err != nil {
		return 0, postgres.Fault(fmt.Errorf("count days of activity: %w", err))
	}
	return days, nil
}

// round is one transaction: it notes the time, and counts some days. Another
// node's round at the same time makes it do nothing.
func (k *Keeper) round(ctx context.Context) (progress, error) {
	tx, err := k.db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return waiting, postgres.Fault(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	reached, err := k.inRound(ctx, tx)
	if err == nil {
		err = tx.Commit(ctx)
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "40001" || pgErr.Code == "23505") {
		return waiting, nil // another node was first: next time
	}
	if err != nil {
		return waiting, postgres.Fault(fmt.Errorf("count activity ahead: %w", err))
	}
	return reached, nil
}

func (k *Keeper) inRound(ctx context.Context, tx pgx.Tx) (progress, error) {
	var mine bool
	if err := tx.QueryRow(ctx, `select pg_try_advisory_xact_lock(hashtext('ops.active_learners'))`).Scan(&mine); err != nil || !mine {
		return waiting, err
	}
	if _, err := tx.Exec(ctx, `
		select set_config('work_mem', '64MB', true), set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true)`); err != nil {
		return waiting, err
	}
	horizon, err := rollup.Horizon(ctx, tx, "ops.activity_horizon", k.fresh)
	if err != nil || horizon.IsZero() {
		return waiting, err
	}
	if _, err := tx.Exec(ctx, `update ops.activity_round set round = round + 1`); err != nil {
		return waiting, err
	}
	if _, err := tx.Exec(ctx, `
		with gone as (delete from ops.account_marks returning xid)
		update ops.activity_round set accounts = accounts + 1 where exists (select from gone)`); err != nil {
		return waiting, err
	}
	if err := dropMarked(ctx, tx, horizon); err != nil {
		return waiting, err
	}
	var oldest *time.Time // by attempts, since their times have an index, and a run begins with its first
	if err := tx.QueryRow(ctx, `
		select least((select min(created_at) from public.prompt_attempts), (select min(created_at) from public.template_events),
		             (select min(started_at) from public.user_progress), (select min(completed_at) from public.user_progress))`).Scan(&oldest); err != nil {
		return waiting, err
	}
	if oldest == nil {
		return upToDate, nil
	}
	zones, err := rollup.Zones(ctx, tx, k.zone)
	if err != nil {
		return waiting, err
	}
	for _, zone := range zones {
		todo, err := nextDays(ctx, tx, zone, *oldest, horizon)
		if err != nil {
			return waiting, err
		}
		if err := countDays(ctx, tx, zone, todo); err != nil {
			return waiting, err
		}
		if len(todo) == daysAtOnce {
			return more, nil
		}
		if err := countWholes(ctx, tx, zone, horizon); err != nil {
			return waiting, err
		}
	}
	return upToDate, nil
}

const thisRound = `(select round from ops.activity_round)`

// dropMarked drops the days in which something changed, and the marks. Times of
// first and last runs that may have changed are looked up again.
func dropMarked(ctx context.Context, tx pgx.Tx, horizon time.Time) error {
	rows, err := tx.Query(ctx, `with marks as (delete from ops.activity_marks returning slot) select distinct slot from marks`)
	if err != nil {
		return err
	}
	slots, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil || len(slots) == 0 {
		return err
	}
	rows, err = tx.Query(ctx, `
		with wrong as (
		  delete from ops.activity_periods p
		  where exists (select from unnest($1::timestamptz[]) slot where slot < p.ends_at and slot + interval '15 minutes' > p.starts_at)
		  returning zone, whole, starts_at
		)
		select zone, array_agg(starts_at) as days from wrong where whole = 'day' group by zone`, slots)
	if err != nil {
		return err
	}
	type row struct {
		Zone string
		Days []time.Time
	}
	dropped, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return err
	}
	for _, d := range dropped {
		zone, err := time.LoadLocation(d.Zone)
		if err != nil {
			return err
		}
		var days []int16
		for _, at := range d.Days {
			days = append(days, int16(numberOf(period.DayOf(at, zone))))
		}
		if _, err := tx.Exec(ctx, `
			with learners as (
			  update ops.active_learners
			  set days = ops.without_days(days, $2), learned = ops.without_days(learned, $2),
			      completed_days = array(select day from unnest(completed_days) day where day <> all ($3)), round = `+thisRound+`
			  where zone = $1 and days <> ops.without_days(days, $2)
			)
			update ops.active_members set days = ops.without_days(days, $2), round = `+thisRound+` where zone = $1 and days <> ops.without_days(days, $2)`,
			d.Zone, bitsOf(days), days); err != nil {
			return err
		}
	}
	return lookUpAgain(ctx, tx, slots, horizon)
}

// lookUpAgain sets the times that are in one of the slots. What is after the
// horizon may still change without a mark.
func lookUpAgain(ctx context.Context, tx pgx.Tx, slots []time.Time, horizon time.Time) error {
	const doubtful = `(date_bin('15 minutes', a.first_run_at, 'epoch') = any ($1) or date_bin('15 minutes', a.last_run_at, 'epoch') = any ($1)`
	last := func(where string) string {
		return `(
			  select run.created_at, run.id, run.status in ('error', 'interrupted')
			  from public.prompt_runs run
			  where run.user_id = a.learner_id and run.created_at < $2` + where + `
			  order by run.created_at desc, run.id desc limit 1)`
	}
	if _, err := tx.Exec(ctx, `
		update ops.active_learners a
		set first_run_at = (select min(created_at) from public.prompt_runs where user_id = a.learner_id and created_at < $2),
		    (last_run_at, last_run_id, last_run_failed) = `+last("")+`,
		    first_completed_at = (select min(completed_at) from public.user_progress where user_id = a.learner_id and completed_at < $2), round = `+thisRound+`
		where `+doubtful+` or date_bin('15 minutes', a.first_completed_at, 'epoch') = any ($1))`, slots, horizon); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		update ops.active_members a
		set first_run_at = (select min(created_at) from public.prompt_runs where user_id = a.learner_id and team_id = a.team_id and created_at < $2),
		    (last_run_at, last_run_id, last_run_failed) = `+last(` and run.team_id = a.team_id`)+`, round = `+thisRound+`
		where `+doubtful+`)`, slots, horizon)
	return err
}

// stretch is what is still to be counted of a day.
type stretch struct {
	day      period.Day
	start    time.Time // of the day
	from, to time.Time
	rest     bool // the day's beginning is counted already
}

// nextDays lists what is to be counted next, in order: the newest days of what is
// missing.
func nextDays(ctx context.Context, tx pgx.Tx, zone *time.Location, oldest, horizon time.Time) ([]stretch, error) {
	rows, err := tx.Query(ctx, `select starts_at, ends_at from ops.activity_periods where zone = $1 and whole = 'day'`, zone.String())
	if err != nil {
		return nil, err
	}
	counted := map[int64]time.Time{}
	var from, to time.Time
	if _, err := pgx.ForEachRow(rows, []any{&from, &to}, func() error {
		counted[from.Unix()] = to
		return nil
	}); err != nil {
		return nil, err
	}
	var todo []stretch
	first := later(period.DayOf(oldest, zone), firstDay())
	for day := period.DayOf(horizon, zone); first.Until(day) >= 0 && len(todo) < daysAtOnce; day = day.Plus(-1) {
		s := stretch{day: day, start: day.Start(zone), to: day.Plus(1).Start(zone)}
		if s.to.After(horizon) {
			s.to = horizon
		}
		if s.from, s.rest = counted[s.start.Unix()]; !s.rest {
			s.from = s.start
		}
		if s.from.Before(s.to) {
			todo = append(todo, s)
		}
	}
	slices.Reverse(todo)
	return todo, nil
}

func later(a, b period.Day) period.Day {
	if a.Until(b) > 0 {
		return b
	}
	return a
}

// firstDay is what the first bit of a set of days stands for: 1 January 2024, a
// Monday.
func firstDay() period.Day { return period.DayOf(time.Unix(1_704_067_200, 0), time.UTC) }

func numberOf(day period.Day) int { return firstDay().Until(day) }

// monthOf is the first day of a day's month.
func monthOf(day period.Day) period.Day { return day.Plus(1 - day.Start(time.UTC).Day()) }

// bitsOf is a set of days as Postgres keeps it.
func bitsOf(days []int16) pgtype.Bits {
	bits := noDays(int(slices.Max(days)))
	for _, day := range days {
		bits.Bytes[day/8] |= 0x80 >> (day % 8)
	}
	return bits
}

// noDays is the empty set of the days until last.
func noDays(last int) pgtype.Bits {
	return pgtype.Bits{Bytes: make([]byte, last/8+1), Len: int32(last + 1), Valid: true}
}

// deeds are everything that was done from $1 on and before $2, by the day's place
// in $3, of which the runs have ids from $4 on and before $5.
const deeds = `
	runs as materialized (
	  select width_bucket(created_at, $3::timestamptz[]) as day, created_at as at, id, user_id, team_id, status in ('error', 'interrupted') as failed,
	         total_cost_usd as cost, coalesce(unpriced, 0) as unpriced
	  from public.prompt_runs
	  where user_id is not null and created_at >= $1 and created_at < $2 and id >= $4 and id < $5
	), started as materialized (
	  select width_bucket(started_at, $3) as day, started_at as at, user_id, lesson_id
	  from public.user_progress where started_at >= $1 and started_at < $2
	), completed as materialized (
	  select width_bucket(completed_at, $3) as day, completed_at as at, user_id, lesson_id, score
	  from public.user_progress where completed_at >= $1 and completed_at < $2
	), events as materialized (
	  select width_bucket(created_at, $3) as day, created_at as at, user_id, template_id, event
	  from public.template_events where created_at >= $1 and created_at < $2
	)`

// countDays adds what was done in some days.
func countDays(ctx context.Context, tx pgx.Tx, zone *time.Location, todo []stretch) error {
	starts, ends := make([]time.Time, len(todo)), make([]time.Time, len(todo))
	for i, s := range todo {
		starts[i], ends[i] = s.start, s.to
	}
	if _, err := tx.Exec(ctx, `
		insert into ops.activity_periods (zone, whole, starts_at, ends_at, round)
		select $1, 'day', starts_at, ends_at, `+thisRound+` from unnest($2::timestamptz[], $3::timestamptz[]) as day (starts_at, ends_at)
		on conflict (zone, whole, starts_at) do update set ends_at = excluded.ends_at, round = excluded.round`, zone.String(), starts, ends); err != nil {
		return err
	}
	for len(todo) > 0 {
		n := 1 // days that follow each other are read at once
		for n < len(todo) && todo[n].from.Equal(todo[n-1].to) {
			n++
		}
		if err := countStretch(ctx, tx, zone, todo[:n]); err != nil {
			return err
		}
		todo = todo[n:]
	}
	return nil
}

func countStretch(ctx context.Context, tx pgx.Tx, zone *time.Location, days []stretch) error {
	from, to := days[0].from, days[len(days)-1].to
	starts := make([]time.Time, len(days))
	for i, s := range days {
		starts[i] = s.start
	}
	first, last := numberOf(days[0].day), numberOf(days[len(days)-1].day)
	args := []any{from, to, starts, firstID(from), firstID(to), zone.String(), noDays(last), first - 1}
	// An id begins with its run's time, so the highest is that of the last run.
	const newer = `a.last_run_id is null or excluded.last_run_id > a.last_run_id`
	const keepLast = `
		    first_run_at = least(a.first_run_at, excluded.first_run_at),
		    last_run_at = case when ` + newer + ` then excluded.last_run_at else a.last_run_at end,
		    last_run_id = case when ` + newer + ` then excluded.last_run_id else a.last_run_id end,
		    last_run_failed = case when ` + newer + ` then excluded.last_run_failed else a.last_run_failed end`
	if _, err := tx.Exec(ctx, `
		with `+deeds+`, did as (
		  select user_id, bit_or(set_bit($7::"bit", $8 + day, 1)) as days, min(at) as first_run_at, max(at) as last_run_at, max(id::text || failed::int) as last,
		         null::"bit" as learned, null::timestamptz as first_completed_at, null::smallint[] as completed_days
		  from runs group by user_id
		  union all
		  select user_id, bit_or(set_bit($7::"bit", $8 + day, 1)), null, null, null, bit_or(set_bit($7::"bit", $8 + day, 1)), null, null
		  from (select user_id, day from started union select user_id, day from events where user_id is not null) learned group by user_id
		  union all
		  select user_id, bit_or(set_bit($7::"bit", $8 + day, 1)), null, null, null, bit_or(set_bit($7::"bit", $8 + day, 1)), min(at), array_agg(($8 + day)::smallint)
		  from completed group by user_id
		)
		insert into ops.active_learners as a (zone, learner_id, days, learned, first_run_at, last_run_at, last_run_id, last_run_failed, first_completed_at, completed_days, round)
		select $6, user_id, bit_or(days), coalesce(bit_or(learned), ''), min(first_run_at), max(last_run_at), left(max(last), 36)::uuid, right(max(last), 1) = '1',
		       min(first_completed_at), coalesce(max(completed_days), '{}'), `+thisRound+`
		from did
		group by user_id
		on conflict (zone, learner_id) do update
		set days = ops.join_days(a.days, excluded.days), learned = ops.join_days(a.learned, excluded.learned),`+keepLast+`,
		    first_completed_at = least(a.first_completed_at, excluded.first_completed_at), completed_days = a.completed_days || excluded.completed_days, round = excluded.round`, args...); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `
		with `+deeds+`
		insert into ops.active_members as a (zone, team_id, learner_id, days, first_run_at, last_run_at, last_run_id, last_run_failed, round)
		select $6, team_id, user_id, bit_or(set_bit($7::"bit", $8 + day, 1)), min(at), max(at),
		       left(max(id::text || failed::int), 36)::uuid, right(max(id::text || failed::int), 1) = '1', `+thisRound+`
		from runs
		where team_id is not null
		group by team_id, user_id
		on conflict (zone, team_id, learner_id) do update
		set days = ops.join_days(a.days, excluded.days), round = excluded.round,`+keepLast, args...); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		with `+deeds+`
		insert into ops.activity_sums as s (zone, whole, starts_at, kind, subject_id, runs, unpriced, cost, last_at, started, completed, scored, score, created, viewed, used, forked, shared)
		select $6, 'day', ($3::timestamptz[])[day], kind, subject_id, sum(runs), sum(unpriced), coalesce(sum(cost), 0), max(last_at), sum(started), sum(completed), sum(scored), coalesce(sum(score), 0),
		       sum(created), sum(viewed), sum(used), sum(forked), sum(shared)
		from (
		  select day, 'all' as kind, null::uuid as subject_id, count(*) as runs, sum(unpriced) as unpriced, sum(cost) as cost, max(at) as last_at, 0 as started, 0 as completed, 0 as scored, null::numeric as score,
		         0 as created, 0 as viewed, 0 as used, 0 as forked, 0 as shared
		  from runs group by day
		  union all
		  select day, 'team', team_id, count(*), sum(unpriced), sum(cost), max(at), 0, 0, 0, null, 0, 0, 0, 0, 0 from runs where team_id is not null group by day, team_id
		  union all
		  select day, 'lesson', lesson_id, 0, 0, null, null, count(*), 0, 0, null, 0, 0, 0, 0, 0 from started group by day, lesson_id
		  union all
		  select day, 'all', null, 0, 0, null, null, count(*), 0, 0, null, 0, 0, 0, 0, 0 from started group by day
		  union all
		  select day, 'lesson', lesson_id, 0, 0, null, null, 0, count(*), count(score), sum(score), 0, 0, 0, 0, 0 from completed group by day, lesson_id
		  union all
		  select day, 'all', null, 0, 0, null, null, 0, count(*), 0, null, 0, 0, 0, 0, 0 from completed group by day
		  union all
		  select day, 'template', template_id, 0, 0, null, null, 0, 0, 0, null, count(*) filter (where event = 'created'), count(*) filter (where event = 'viewed'),
		         count(*) filter (where event = 'used'), count(*) filter (where event = 'forked'), count(*) filter (where event = 'shared')
		  from events group by day, template_id
		) parts
		group by day, kind, subject_id
		on conflict (zone, whole, kind, starts_at, subject_id) do update
		set runs = s.runs + excluded.runs, unpriced = s.unpriced + excluded.unpriced, cost = s.cost + excluded.cost, last_at = greatest(s.last_at, excluded.last_at),
		    started = s.started + excluded.started, completed = s.completed + excluded.completed, scored = s.scored + excluded.scored, score = s.score + excluded.score,
		    created = s.created + excluded.created, viewed = s.viewed + excluded.viewed, used = s.used + excluded.used, forked = s.forked + excluded.forked, shared = s.shared + excluded.shared`, args[:6]...)
	return err
}

// wholes are what days are summed to: how they are called in activity_periods, and
// where the one begins in which a day is.
func wholes() map[string]func(period.Day) period.Day {
	return map[string]func(period.Day) period.Day{"month": monthOf, "week": period.Day.Monday}
}

// countWholes sums the months and weeks of which every day is counted.
func countWholes(ctx context.Context, tx pgx.Tx, zone *time.Location, horizon time.Time) error {
	rows, err := tx.Query(ctx, `select starts_at, ends_at, whole from ops.activity_periods where zone = $1`, zone.String())
	if err != nil {
		return err
	}
	type row struct {
		StartsAt, EndsAt time.Time
		Whole            string
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return err
	}
	ends, oldest := map[string]map[int64]time.Time{"day": {}, "week": {}, "month": {}}, horizon
	for _, p := range found {
		ends[p.Whole][p.StartsAt.Unix()] = p.EndsAt
		if p.StartsAt.Before(oldest) {
			oldest = p.StartsAt
		}
	}
	for whole, begin := range wholes() {
		last := begin(period.DayOf(horizon, zone))
		for first := begin(last.Plus(-1)); !first.Start(zone).Before(oldest); last, first = first, begin(first.Plus(-1)) {
			_, done := ends[whole][first.Start(zone).Unix()]
			for day := first; !done && day.Until(last) > 0; day = day.Plus(1) {
				done = !ends["day"][day.Start(zone).Unix()].Equal(day.Plus(1).Start(zone))
			}
			if done {
				continue
			}
			if err := countWhole(ctx, tx, zone, whole, first.Start(zone), last.Start(zone)); err != nil {
				return err
			}
		}
	}
	return nil
}

func countWhole(ctx context.Context, tx pgx.Tx, zone *time.Location, whole string, from, to time.Time) error {
	if _, err := tx.Exec(ctx, `
		insert into ops.activity_periods (zone, whole, starts_at, ends_at, round) values ($1, $2, $3, $4, `+thisRound+`)`, zone.String(), whole, from, to); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		insert into ops.activity_sums (zone, whole, starts_at, kind, subject_id, runs, unpriced, cost, last_at, started, completed, scored, score, created, viewed, used, forked, shared)
		select zone, $2, $3::timestamptz, kind, subject_id, sum(runs), sum(unpriced), sum(cost), max(last_at), sum(started), sum(completed), sum(scored), sum(score),
		       sum(created), sum(viewed), sum(used), sum(forked), sum(shared)
		from ops.activity_sums
		where zone = $1 and whole = 'day' and starts_at >= $3 and starts_at < $4
		group by zone, kind, subject_id`, zone.String(), whole, from, to)
	return err
}

// firstID is where the ids of runs of a millisecond begin. An instant within a
// millisecond is later than all runs of it.
func firstID(at time.Time) (id uuid.UUID) {
	ms := at.UnixMilli()
	if at.Sub(time.UnixMilli(ms)) > 0 {
		ms++
	}
	ms = max(ms, 0)
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	return id
}
