package outreach

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/rollup"
)

const (
	// Below so many attempts in the window, and so many learners, they are counted
	// faster than this is worth.
	attemptsWorth = 50_000
	learnersWorth = 1_000

	// Of the pages of a minute each works out anew what has changed until then.
	countEvery = 45 * time.Second

	// How old attempts have to be to be counted ahead, and how old those that are still
	// running are forgotten. The triggers of migrations/0023 know the same times.
	fresh   = 4 * time.Minute
	outcome = time.Hour

	// Another node's clock may be a little behind.
	stretchMargin = 30 * time.Second
)

// worth says when there is enough to count ahead.
type worth struct {
	attempts, learners int
}

// countAhead adds up the attempts of the window, and says of each learner how they
// are, when that was last done a while ago or much has changed since; or does away
// with all of it where there is little to count. All of it is of one moment: see
// migrations/0023 for why pages that use it are right.
func (s *Store) countAhead(ctx context.Context, w worth, now time.Time) error {
	var due, many bool
	err := s.db.QueryRow(ctx, `
		select not exists (select from ops.fallback_stretch where made_at > $1)
		    or exists (select from ops.key_health_marks where learner_id = `+nobody+`)`, now.Add(-countEvery)).Scan(&due)
	if err != nil || !due {
		return postgres.Fault(err)
	}
	err = s.db.QueryRow(ctx, `
		select (select count(*) >= $2 from (select from public.prompt_attempts where created_at >= $1 limit $2) found)
		    or (select count(*) >= $3 from (select from auth.users limit $3) found)`, now.Add(-Window), w.attempts, w.learners).Scan(&many)
	if err != nil {
		return postgres.Fault(err)
	}
	if !many {
		return postgres.Fault(s.inCount(ctx, func(tx pgx.Tx) error { return forgetCounts(ctx, tx) }))
	}
	// The first time notes the moment that the second one may count up to.
	for range 2 {
		err = errors.Join(err, s.inCount(ctx, func(tx pgx.Tx) error { return countOnce(ctx, tx, fresh, now) }))
	}
	return postgres.Fault(err)
}

// inCount runs fn in a transaction that sees one moment. Another node that is at it
// makes it do nothing.
func (s *Store) inCount(ctx context.Context, fn func(tx pgx.Tx) error) (err error) {
	var tx pgx.Tx
	if pool, ok := s.db.(interface {
		BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
	}); ok {
		tx, err = pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	} else {
		tx, err = s.db.Begin(ctx)
	}
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	// Before anything that takes the snapshot, and the attempts first: who empties
	// their tables locks them, and comes for the sums afterwards.
	for _, sql := range []string{
		`lock table public.prompt_runs, public.prompt_attempts in access share mode`,
		`lock table ops.fallback_stretch in share row exclusive mode nowait`,
		`select set_config('work_mem', '64MB', true), set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true)`,
	} {
		if err == nil {
			_, err = tx.Exec(ctx, sql)
		}
	}
	if err == nil {
		err = fn(tx)
	}
	if err == nil {
		err = tx.Commit(ctx)
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "40001" || pgErr.Code == "55P03") {
		return nil // next time
	}
	return err
}

func forgetCounts(ctx context.Context, tx pgx.Tx) error {
	var batch pgx.Batch
	for _, table := range []string{"fallback_stretch", "team_fallbacks", "fallback_sums", "last_runs", "key_health_learners", "key_health_keys", "key_health_sums", "key_health_bans",
		"key_health_marks"} {
		batch.Queue(`delete from ops.` + table)
	}
	return tx.SendBatch(ctx, &batch).Close()
}

// countOnce counts up to the moment before which every attempt is known to be
// visible, if there is one yet.
func countOnce(ctx context.Context, tx pgx.Tx, fresh time.Duration, now time.Time) error {
	horizon, err := rollup.Horizon(ctx, tx, "ops.key_health_horizon", fresh)
	if err != nil || horizon.IsZero() {
		return err
	}
	before, err := stretchAt(ctx, tx, now)
	if err != nil {
		return err
	}
	var from, until time.Time
	err = tx.QueryRow(ctx, `
		insert into ops.fallback_stretch (from_at, until_at, made_at, learners)
		select $1::timestamptz, greatest($1, least($2, (
		         select min(created_at) from public.prompt_attempts where created_at >= $4 and created_at < $2::timestamptz and status = 'running'))),
		       $3::timestamptz, complete
		from ops.facts_version
		on conflict (only_row) do update
		set from_at = excluded.from_at, until_at = excluded.until_at, made_at = excluded.made_at, learners = excluded.learners
		returning from_at, until_at`, now.Add(-Window-stretchMargin), horizon, now, horizon.Add(fresh-outcome)).Scan(&from, &until)
	if err != nil {
		return err
	}
	// Of those who did not change all is as it was counted before, for this stretch, too.
	args := pgx.NamedArgs{"from": from, "until": until, "from_before": before.FromAt, "until_before": before.UntilAt,
		"now": now, "since": now.Add(-Window), "teams": []uuid.UUID(nil), "ids": []uuid.UUID(nil)}
	r := reading{given: true} // the sums that it reads are made before: no mark is about them
	if before.Learners && !from.Before(*before.FromAt) && !until.Before(*before.UntilAt) && from.Before(*before.UntilAt) {
		ids, err := before.changed(ctx, tx, now)
		if err != nil {
			return err
		}
		if r.narrow = len(ids) <= mostChanged; r.narrow {
			args["ids"] = ids
		}
	}
	if !r.narrow {
		// Postgres does not know yet how much there is in tables that have just been
		// filled, and what is made for little takes minutes for much.
		if _, err := tx.Exec(ctx, `select set_config('enable_nestloop', 'off', true)`); err != nil {
			return err
		}
	}
	for _, t := range append(r.attemptTables(), r.learnerTables()...) {
		if err := t.store(ctx, tx, args); err != nil {
			return err
		}
		if !r.narrow {
			if _, err := tx.Exec(ctx, `analyze ops.`+t.name); err != nil {
				return err
			}
		}
	}
	_, err = tx.Exec(ctx, `delete from ops.key_health_marks`)
	return err
}
