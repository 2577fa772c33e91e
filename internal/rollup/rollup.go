// Package rollup keeps sums of attempts, so that pages need not read millions of
// rows, and says which sums are exact at the moment of a snapshot.
//
// A sum covers a quarter of an hour, or a day of a zone. Whoever reads takes the
// sums of the periods that Plan trusts and the rows of the rest. Plan trusts a
// period that is in ops.usage_periods and has no mark. This is why that is exact:
//
//   - A row that is written when it is already Fresh old, changed or deleted leaves
//     a mark in its own transaction (a trigger, migrations/0012). Readers of either
//     see both. Sums of marked periods are dropped and made anew; a mark is deleted
//     in the transaction that drops the sums it speaks of.
//   - A row that comes in time leaves no mark. Its period is summed only when it has
//     been over for Fresh, and every transaction that was writing at that moment has
//     ended: Roller notes the time and then its own transaction's number, which is
//     higher than that of anybody who had written by then, and later waits until all
//     lower ones have ended.
//
// It is not enough to number rows or to look at their time: a transaction that took
// its number or time first may commit last.
package rollup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/postgres"
)

const (
	// Fresh is how old a period has to be before it is summed. The triggers of
	// migrations/0012 know the same hour.
	Fresh = time.Hour

	slotLength = 15 * time.Minute
	slotsKept  = 3 * 24 * time.Hour // longer than a day of any zone is waiting to be summed
	everySoOft = time.Minute
	daysAtOnce = 7 // summed in one transaction
)

// Roller makes the sums. Any number of nodes may run one: they take turns.
type Roller struct {
	db    *pgxpool.Pool
	zone  *time.Location
	log   *slog.Logger
	fresh time.Duration // Fresh; shorter in tests
}

// NewRoller returns the loop. It sums days of the given zone and of those that
// operators chose.
func NewRoller(db *pgxpool.Pool, zone *time.Location, log *slog.Logger) *Roller {
	return &Roller{db, zone, log, Fresh}
}

// Run sums every minute until ctx is done.
func (r *Roller) Run(ctx context.Context) error {
	ticker := time.NewTicker(everySoOft)
	defer ticker.Stop()
	for {
		if _, err := r.RunOnce(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("usage_not_summed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// progress is how far a round came.
type progress int

const (
	waiting  progress = iota // another node is at it, or a transaction that writes has not ended
	more                     // there is more to sum
	upToDate                 // everything is summed that can be by now
)

// RunOnce drops the sums that changes made wrong, and sums what can be summed by
// now; done says that it got to the end. The first time that is everything there
// is: ten million attempts take some minutes, in transactions of a week each.
func (r *Roller) RunOnce(ctx context.Context) (done bool, err error) {
	if _, err := r.round(ctx); err != nil { // notes the time
		return false, err
	}
	for {
		if reached, err := r.round(ctx); err != nil || reached != more {
			return reached == upToDate, err
		}
	}
}

// Rebuild drops all sums and makes them anew. Pages read the rows meanwhile.
//
// It returns how many days of zones there are sums of. A transaction that writes
// and does not end keeps it waiting; it is then fault.Unavailable after a minute.
func (r *Roller) Rebuild(ctx context.Context) (days int, err error) {
	err = postgres.InTx(ctx, r.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('ops.usage_sums'))`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			with gone as (delete from ops.usage_periods)
			delete from ops.usage_sums`)
		return err
	})
	if err != nil {
		return 0, postgres.Fault(fmt.Errorf("drop usage sums: %w", err))
	}
	done := false
	for deadline := time.Now().Add(time.Minute); !done; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			return 0, fault.New(fault.Unavailable, "A transaction that writes to the database has not ended for a minute: nothing can be summed before it does.")
		}
		if done, err = r.RunOnce(ctx); err != nil {
			return 0, err
		}
	}
	if err := r.db.QueryRow(ctx, `select count(*) from ops.usage_periods where zone <> ''`).Scan(&days); err != nil {
		return 0, postgres.Fault(fmt.Errorf("count usage sums: %w", err))
	}
	return days, nil
}

// span is what a sum covers: a quarter of an hour (zone "") or a day.
type span struct {
	zone     string
	from, to time.Time
}

// round is one transaction: it notes the time, and sums some periods. Another
// node's round at the same time makes it do nothing.
func (r *Roller) round(ctx context.Context) (progress, error) {
	tx, err := r.db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return waiting, postgres.Fault(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	reached, err := r.inRound(ctx, tx)
	if err == nil {
		err = tx.Commit(ctx)
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "40001" || pgErr.Code == "23505") {
		return waiting, nil // another node was first: next time
	}
	if err != nil {
		return waiting, postgres.Fault(fmt.Errorf("sum usage: %w", err))
	}
	return reached, nil
}

func (r *Roller) inRound(ctx context.Context, tx pgx.Tx) (progress, error) {
	var mine bool
	if err := tx.QueryRow(ctx, `select pg_try_advisory_xact_lock(hashtext('ops.usage_sums'))`).Scan(&mine); err != nil || !mine {
		return waiting, err
	}
	if _, err := tx.Exec(ctx, `
		select set_config('work_mem', '64MB', true), set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true)`); err != nil {
		return waiting, err
	}
	horizon, err := r.horizon(ctx, tx)
	if err != nil {
		return waiting, err
	}
	if err := dropMarked(ctx, tx); err != nil || horizon.IsZero() {
		return waiting, err
	}
	if _, err := tx.Exec(ctx, `
		with old as (delete from ops.usage_periods where zone = '' and starts_at < $1)
		delete from ops.usage_sums where zone = '' and starts_at < $1`, horizon.Add(-slotsKept)); err != nil {
		return waiting, err
	}
	var oldest *time.Time
	if err := tx.QueryRow(ctx, `select min(created_at) from public.prompt_attempts`).Scan(&oldest); err != nil {
		return waiting, err
	}
	if oldest == nil {
		return upToDate, nil
	}
	todo, all, err := r.next(ctx, tx, *oldest, horizon)
	if err != nil {
		return waiting, err
	}
	for _, p := range todo {
		if err := sum(ctx, tx, p); err != nil {
			return waiting, err
		}
	}
	if !all {
		return more, nil
	}
	return upToDate, nil
}

// horizon returns the moment up to which every row that came in time is visible to
// this transaction, less Fresh; and notes this moment for later rounds.
func (r *Roller) horizon(ctx context.Context, tx pgx.Tx) (time.Time, error) {
	var known *time.Time
	err := tx.QueryRow(ctx, `
		select max(noted_at) from ops.usage_horizon where noted_by <= pg_snapshot_xmin(pg_current_snapshot())`).Scan(&known)
	if err != nil {
		return time.Time{}, err
	}
	// First the time, then a number: see the package's comment. The one noted before
	// is replaced only when it has served, lest it be postponed for ever.
	var now time.Time
	if err := tx.QueryRow(ctx, `select clock_timestamp()`).Scan(&now); err != nil {
		return time.Time{}, err
	}
	_, err = tx.Exec(ctx, `
		insert into ops.usage_horizon (noted_at, noted_by) values ($1, pg_current_xact_id())
		on conflict (only_row) do update set noted_at = excluded.noted_at, noted_by = excluded.noted_by
		where ops.usage_horizon.noted_by <= pg_snapshot_xmin(pg_current_snapshot())`, now)
	if err != nil || known == nil {
		return time.Time{}, err
	}
	return known.Add(-r.fresh), nil
}

// dropMarked drops the sums of every period in which a row changed, and the marks.
func dropMarked(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
		with marks as (delete from ops.usage_marks returning slot),
		wrong as (
		  delete from ops.usage_periods p
		  where exists (select from marks m where m.slot < p.ends_at and m.slot + interval '15 minutes' > p.starts_at)
		  returning zone, starts_at
		)
		delete from ops.usage_sums s using wrong w
		where s.zone = w.zone and s.starts_at = w.starts_at`)
	return err
}

// next lists what is to be summed next: quarters of an hour first, since pages of
// today wait for them, then days, the newest first. all says that there is no more.
func (r *Roller) next(ctx context.Context, tx pgx.Tx, oldest, horizon time.Time) (todo []span, all bool, err error) {
	zones, err := r.zones(ctx, tx)
	if err != nil {
		return nil, false, err
	}
	rows, err := tx.Query(ctx, `select zone, starts_at from ops.usage_periods`)
	if err != nil {
		return nil, false, err
	}
	type key struct {
		zone string
		at   int64
	}
	done := map[key]bool{}
	var zone string
	var at time.Time
	if _, err := pgx.ForEachRow(rows, []any{&zone, &at}, func() error {
		done[key{zone, at.Unix()}] = true
		return nil
	}); err != nil {
		return nil, false, err
	}
	first := latest(oldest, horizon.Add(-slotsKept)).Truncate(slotLength)
	for from := first; !from.Add(slotLength).After(horizon); from = from.Add(slotLength) {
		if !done[key{"", from.Unix()}] {
			todo = append(todo, span{"", from, from.Add(slotLength)})
		}
	}
	days := 0
	for _, z := range zones {
		for from, to := dayAround(horizon.In(z)); to.After(oldest); from, to = dayAround(from.Add(-time.Nanosecond)) {
			if to.After(horizon) || done[key{z.String(), from.Unix()}] {
				continue
			}
			if days++; days > daysAtOnce {
				return todo, false, nil
			}
			todo = append(todo, span{z.String(), from, to})
		}
	}
	return todo, true, nil
}

// zones are those whose days are summed.
func (r *Roller) zones(ctx context.Context, tx pgx.Tx) ([]*time.Location, error) {
	rows, err := tx.Query(ctx, `select distinct timezone from ops.operators where timezone <> '' and disabled_at is null`)
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	zones := []*time.Location{r.zone}
	slices.Sort(names)
	for _, name := range names {
		zone, err := time.LoadLocation(name)
		if err == nil && !slices.ContainsFunc(zones, func(z *time.Location) bool { return z.String() == zone.String() }) {
			zones = append(zones, zone)
		}
	}
	return zones, nil
}

// dayAround returns the first instant of the day of an instant, and of the next
// day, in the instant's zone.
func dayAround(at time.Time) (from, to time.Time) {
	day := period.DayOf(at, at.Location())
	return day.Start(at.Location()), day.Plus(1).Start(at.Location())
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sum stores the sums of a period.
func sum(ctx context.Context, tx pgx.Tx, p span) error {
	if _, err := tx.Exec(ctx, `insert into ops.usage_periods (zone, starts_at, ends_at) values ($1, $2, $3)`, p.zone, p.from, p.to); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		with attempts as materialized (
		  select * from public.prompt_attempts where created_at >= $3 and created_at < $4
		)
		insert into ops.usage_sums (zone, starts_at, kind, provider, model, subject_id, key_source, `+SumColumns+`, latency, first_token)
		select $1::text, $2::timestamptz, 'model', provider, model, null::uuid, coalesce(key_source, ''), `+Sums+`, `+Latencies+`
		from attempts group by provider, model, key_source
		union all
		select $1, $2, 'team', '', '', team_id, coalesce(key_source, ''), `+Sums+`, null, null
		from attempts group by team_id, key_source
		union all
		select $1, $2, 'template', '', '', template_id, coalesce(key_source, ''), `+Sums+`, null, null
		from attempts group by template_id, key_source
		union all
		select $1, $2, 'run', coalesce(provider, '*'), '', null, case grouping(key_source) when 1 then '*' else coalesce(key_source, '') end, `+Sums+`, null, null
		from attempts group by grouping sets ((), (provider), (key_source), (provider, key_source)) having count(*) > 0`,
		p.zone, p.from, p.from, p.to)
	return err
}
