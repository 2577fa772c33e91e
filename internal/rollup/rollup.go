// Package rollup keeps sums of attempts, so that pages need not read millions of
// rows, and says which sums are exact at the moment of a snapshot.
//
// A sum covers a part of a day, from a quarter of an hour up, or 1, 4, 16 or 64 days
// of a zone; those of 16 and 64 are made of the sums below them. Whoever reads takes
// the sums of the periods that Read trusts and the rows of the rest. Read trusts a
// period that is in ops.usage_periods and has no mark. This is why that is exact:
//
//   - A row that is written when it is already Fresh old, changed or deleted leaves
//     a mark in its own transaction (triggers: migrations/0012, 0023 and 0026). Readers
//     of either see both. Sums of marked periods are dropped and made anew; a mark is deleted
//     in the transaction that drops the sums it speaks of.
//   - A row that comes in time leaves no mark. Its period is summed only when it has
//     been over for Fresh, and every transaction that was writing at that moment has
//     ended: Roller notes the time and then its own transaction's number, which is
//     higher than that of anybody who had written by then, and later waits until all
//     lower ones have ended.
//   - Sums that are made of sums are made in one snapshot with the marks, of rounds
//     that take turns: a lock is taken before the snapshot, so no round sees sums
//     that another one has dropped meanwhile, and whose marks are gone.
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
	"github.com/promptcademy/promptops/internal/loop"
	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/postgres"
)

const (
	// Fresh is how old a period has to be before it is summed. The triggers of
	// migrations/0023 and 0026 take a minute less.
	Fresh = 5 * time.Minute

	slotLength  = 15 * time.Minute
	everySoOft  = time.Minute
	daysAtOnce  = 8 // read and summed in one transaction
	partsAtOnce = 500
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
	return loop.Every(ctx, r.log, "usage_not_summed", everySoOft, func(ctx context.Context, _ time.Time) error {
		_, err := r.RunOnce(ctx)
		return err
	})
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
		if _, err := tx.Exec(ctx, `lock table ops.usage_periods in share row exclusive mode`); err != nil {
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
	if err := r.db.QueryRow(ctx, `select count(*) from ops.usage_periods where level = $1`, day).Scan(&days); err != nil {
		return 0, postgres.Fault(fmt.Errorf("count usage sums: %w", err))
	}
	return days, nil
}

// span is what a sum covers.
type span struct {
	zone     string // "" of levels shorter than a day
	level    Level
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
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "40001" || pgErr.Code == "23505" || pgErr.Code == "55P03") {
		return waiting, nil // another node is at it: next time
	}
	if err != nil {
		return waiting, postgres.Fault(fmt.Errorf("sum usage: %w", err))
	}
	return reached, nil
}

func (r *Roller) inRound(ctx context.Context, tx pgx.Tx) (progress, error) {
	// Before anything that takes the snapshot. Whoever reads is not in its way.
	if _, err := tx.Exec(ctx, `lock table ops.usage_periods in share row exclusive mode nowait`); err != nil {
		return waiting, err
	}
	if _, err := tx.Exec(ctx, `
		select set_config('work_mem', '64MB', true), set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true)`); err != nil {
		return waiting, err
	}
	horizon, err := Horizon(ctx, tx, "ops.usage_horizon", r.fresh)
	if err != nil {
		return waiting, err
	}
	if err := dropMarked(ctx, tx); err != nil || horizon.IsZero() {
		return waiting, err
	}
	if err := dropOld(ctx, tx, horizon); err != nil {
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
		sum := sumRows
		if p.level > days4 {
			sum = sumSums
		}
		if err := sum(ctx, tx, p); err != nil {
			return waiting, err
		}
	}
	if !all {
		return more, nil
	}
	return upToDate, nil
}

// Horizon returns the moment up to which every row that came in time is visible to
// this transaction, less fresh; zero: it is not known yet. And it notes this moment
// for later rounds, in ops.usage_horizon or a table like it.
func Horizon(ctx context.Context, tx pgx.Tx, table string, fresh time.Duration) (time.Time, error) {
	var known *time.Time
	err := tx.QueryRow(ctx, `
		select max(noted_at) from `+table+` where noted_by <= pg_snapshot_xmin(pg_current_snapshot())`).Scan(&known)
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
		insert into `+table+` as h (noted_at, noted_by) values ($1, pg_current_xact_id())
		on conflict (only_row) do update set noted_at = excluded.noted_at, noted_by = excluded.noted_by
		where h.noted_by <= pg_snapshot_xmin(pg_current_snapshot())`, now)
	if err != nil || known == nil {
		return time.Time{}, err
	}
	return known.Add(-fresh), nil
}

// dropMarked drops the sums of every period in which a row changed, and the marks.
func dropMarked(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
		with marks as (delete from ops.usage_marks returning slot),
		wrong as (
		  delete from ops.usage_periods p
		  where exists (select from marks m where m.slot < p.ends_at and m.slot + interval '15 minutes' > p.starts_at)
		  returning id
		)
		delete from ops.usage_sums where period_id in (select id from wrong)`)
	return err
}

// dropOld drops the sums of parts of days that are so old that nobody asks for them.
func dropOld(ctx context.Context, tx pgx.Tx, horizon time.Time) error {
	for level := quarter; level < day; level++ {
		_, kept := level.length()
		if _, err := tx.Exec(ctx, `
			with old as (delete from ops.usage_periods where level = $1 and starts_at < $2 returning id)
			delete from ops.usage_sums where period_id in (select id from old)`, level, horizon.Add(-kept)); err != nil {
			return err
		}
	}
	return nil
}

// next lists what is to be summed next: parts of days first, since pages of today
// wait for them, then days, the newest first. all says that there is no more.
func (r *Roller) next(ctx context.Context, tx pgx.Tx, oldest, horizon time.Time) (todo []span, all bool, err error) {
	zones, err := Zones(ctx, tx, r.zone)
	if err != nil {
		return nil, false, err
	}
	done, err := readDone(ctx, tx)
	if err != nil {
		return nil, false, err
	}
	todo, all = done.parts(oldest, horizon)
	for _, z := range zones {
		if days, end := done.days(z, oldest, horizon); len(todo) == 0 || all {
			todo, all = append(todo, days...), all && end
		}
	}
	return todo, all || len(todo) == 0, nil
}

// done are the periods that are summed.
type done map[key]bool

type key struct {
	zone  string
	level Level
	at    int64
}

func readDone(ctx context.Context, tx pgx.Tx) (done, error) {
	rows, err := tx.Query(ctx, `select zone, level, starts_at from ops.usage_periods`)
	if err != nil {
		return nil, err
	}
	all := done{}
	var k key
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&k.zone, &k.level, &at}, func() error {
		k.at = at.Unix()
		all[k] = true
		return nil
	})
	return all, err
}

func (d done) has(p span) bool { return d[key{p.zone, p.level, p.from.Unix()}] }

// parts lists parts of days, the newest first of each level.
func (d done) parts(oldest, horizon time.Time) (todo []span, all bool) {
	for level := quarter; level < day; level++ {
		length, kept := level.length()
		first := latest(oldest.Truncate(length), horizon.Add(-kept))
		for to := horizon.Truncate(length); to.After(first) && !to.Add(-length).Before(horizon.Add(-kept)); to = to.Add(-length) {
			if p := (span{"", level, to.Add(-length), to}); !d.has(p) {
				if len(todo) == partsAtOnce {
					return todo, false
				}
				todo = append(todo, p)
			}
		}
	}
	return todo, true
}

// days lists days of a zone and what is longer, the newest first of each level.
func (d done) days(zone *time.Location, oldest, horizon time.Time) (todo []span, all bool) {
	left, all := daysAtOnce, true
	for _, level := range levelsOfDays() {
		for p := periodAround(zone, level, horizon); p.to.After(oldest); p = periodAround(zone, level, p.from.Add(-time.Nanosecond)) {
			switch {
			case p.to.After(horizon) || d.has(p):
			case level > days4 && !d.summedBelow(zone, p, oldest):
				all = false // those come first
			case left <= 0:
				return todo, false
			default:
				todo = append(todo, p)
				if level <= days4 {
					left -= level.days()
				}
			}
		}
	}
	return todo, all
}

// summedBelow says whether all the parts of a period are summed that can have rows.
func (d done) summedBelow(zone *time.Location, p span, oldest time.Time) bool {
	for part := periodAround(zone, p.level-1, p.from); part.from.Before(p.to); part = periodAround(zone, p.level-1, part.to) {
		if part.to.After(oldest) && !d.has(part) {
			return false
		}
	}
	return true
}

// Zones are those whose days are counted: the given one, and those that operators
// chose.
func Zones(ctx context.Context, tx pgx.Tx, own *time.Location) ([]*time.Location, error) {
	rows, err := tx.Query(ctx, `select distinct timezone from ops.operators where timezone <> '' and disabled_at is null order by 1`)
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	zones := []*time.Location{own}
	for _, name := range names {
		zone, err := time.LoadLocation(name)
		if err == nil && !slices.ContainsFunc(zones, func(z *time.Location) bool { return z.String() == zone.String() }) {
			zones = append(zones, zone)
		}
	}
	return zones, nil
}

// periodAround returns the period of a level, of whole days, in which an instant is.
func periodAround(zone *time.Location, level Level, at time.Time) span {
	epoch := period.DayOf(time.Unix(0, 0), time.UTC)
	n := epoch.Until(period.DayOf(at, zone))
	first := epoch.Plus(n - ((n%level.days())+level.days())%level.days())
	return span{zone.String(), level, first.Start(zone), first.Plus(level.days()).Start(zone)}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
