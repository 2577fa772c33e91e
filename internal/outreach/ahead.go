package outreach

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	sums := sumAttempts(`true`, `@from`, `@until`)
	if before.UntilAt != nil && !from.Before(*before.FromAt) && !until.Before(*before.UntilAt) && from.Before(*before.UntilAt) {
		sums = sumChanges()
	}
	for _, c := range []table{
		{"team_fallbacks", "team_id, user_id, provider", "attempts, cost_usd, unpriced, run_at", sums},
		{"fallback_sums", "user_id, provider", "attempts, cost_usd, unpriced", `
			select user_id, provider, sum(attempts)::bigint, sum(cost_usd), sum(unpriced)::bigint
			from ops.team_fallbacks
			where provider <> ''
			group by user_id, provider`},
		{"last_runs", "user_id", "run_at", `
			select user_id, max(run_at) from ops.team_fallbacks where provider = '' group by user_id`},
	} {
		if err := c.store(ctx, tx, pgx.NamedArgs{"from": from, "until": until, "from_before": before.FromAt, "until_before": before.UntilAt}); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `delete from ops.key_health_marks`); err != nil {
		return err
	}
	return countLearners(ctx, tx, from, until, now)
}

// sumAttempts are rows of ops.team_fallbacks: the attempts of some learners from one
// moment until another.
func sumAttempts(whose, from, until string) string {
	return `
			select coalesce(team_id, ` + nobody + `) as team_id, user_id, provider, ` + fallbackSums + `, null::timestamptz as run_at
			from public.prompt_attempts
			where created_at >= ` + from + ` and created_at < ` + until + ` and key_source = 'fallback' and user_id is not null and ` + whose + `
			group by 1, 2, 3
			union all
			select coalesce(team_id, ` + nobody + `), user_id, '', 0, 0, 0, max(created_at)
			from public.prompt_runs
			where created_at >= ` + from + ` and created_at < ` + until + ` and user_id is not null and ` + whose + `
			group by 1, 2`
}

// sumChanges is sumAttempts of all learners, made of what there was before: of two
// weeks little changes in a minute.
func sumChanges() string {
	return `
			with marked as materialized (select distinct learner_id from ops.key_health_marks where attempts)
			select team_id, user_id, provider, sum(attempts)::bigint, sum(cost), sum(unpriced)::bigint, max(run_at)
			from (
			  select team_id, user_id, provider, attempts, cost_usd as cost, unpriced, run_at
			  from ops.team_fallbacks
			  where user_id not in (select learner_id from marked)
			  union all` + sumAttempts(`user_id not in (select learner_id from marked)`, `@until_before`, `@until`) + `
			  union all
			  select team_id, user_id, provider, -attempts, -cost, -unpriced, null
			  from (` + sumAttempts(`user_id not in (select learner_id from marked)`, `@from_before`, `@from`) + `) too_old
			  where provider <> ''
			  union all` + sumAttempts(`user_id = any(array(select learner_id from marked))`, `@from`, `@until`) + `
			) parts
			group by 1, 2, 3
			having sum(attempts) > 0 or max(run_at) >= @from`
}

// countLearners counts what is said of learners, at a moment for which attempts are
// added up.
func countLearners(ctx context.Context, tx pgx.Tx, from, until, now time.Time) error {
	args := pgx.NamedArgs{"now": now, "since": now.Add(-Window), "teams": []uuid.UUID(nil), "ids": []uuid.UUID(nil), "from": from, "until": until}
	facts := `with ` + reading{given: true}.everything() + reading{given: true}.facts() // the marks are deleted by now
	for _, c := range []table{
		{"key_health_learners", "learner_id", "called, team_ids, usable, broken, broken_since, fell_back, lacks, cost, unpriced, active, state", facts + `
			select f.id, ` + calledOf + `, coalesce(t.ids, '{}'), f.usable, f.broken, f.broken_since, f.fell_back, f.lacks, f.cost, f.unpriced, f.active, f.state
			from facts f
			join auth.users u on u.id = f.id
			left join (select user_id, array_agg(team_id order by team_id) as ids from members group by user_id) t on t.user_id = f.id`},
		{"key_health_keys", "user_id, provider", "usable, broken, lacks, cost, unpriced", facts + `
			select user_id, provider, coalesce(k.usable, false), coalesce(k.broken, false), coalesce(l.lacks, false), coalesce(l.cost, 0), coalesce(l.unpriced, 0)
			from per_key k
			full join lacking l using (user_id, provider)
			where user_id in (select id from facts)`},
		{"key_health_bans", "learner_id", "banned_until", `
			select id, banned_until from auth.users where banned_until is not null`},
		{"key_health_sums", "provider, team_id", countColumns, `
			select '' as provider, ` + nobody + `::uuid as team_id, ` + counts + ` from ops.key_health_learners
			union all
			select '', team_id, ` + counts + ` from ops.key_health_learners cross join unnest(team_ids) team_id group by team_id
			union all
			select provider, ` + nobody + `, 0, active, 0, usable, broken, fell_back, 0, cost, unpriced, 0, 0, 0, 0, 0
			from (
			  select provider, ` + keyCounts + `
			  from ops.key_health_keys k join ops.key_health_learners l on l.learner_id = k.user_id
			  group by provider) keys`},
	} {
		if err := c.store(ctx, tx, args); err != nil {
			return err
		}
	}
	return nil
}

const (
	// calledOf is what of a learner is searched.
	calledOf = `lower(concat_ws(' ', ` + learnerName + `, u.email))`

	// counts are the columns of ops.key_health_sums over learners, keyCounts some of them
	// over their keys k.
	countColumns = `learners, active, active_without, usable, broken, fell_back, lacks, cost, unpriced, new, contacted, snoozed, resolved, reopened`
	counts       = `count(*) as learners, count(*) filter (where active) as active, count(*) filter (where active and not usable) as active_without,
		count(*) filter (where usable) as usable, count(*) filter (where broken) as broken, count(*) filter (where fell_back) as fell_back,
		count(*) filter (where lacks) as lacks, coalesce(sum(cost), 0) as cost, coalesce(sum(unpriced), 0)::bigint as unpriced,
		count(*) filter (where state = 'new') as new, count(*) filter (where state = 'contacted') as contacted, count(*) filter (where state = 'snoozed') as snoozed,
		count(*) filter (where state = 'resolved') as resolved, count(*) filter (where state = 'reopened') as reopened`
	keyCounts = `count(*) filter (where k.usable and active) as active, count(*) filter (where k.usable) as usable, count(*) filter (where k.broken) as broken,
		count(*) filter (where k.lacks) as fell_back, sum(k.cost) as cost, sum(k.unpriced)::bigint as unpriced`
)

// table is one of ops and what is to be in it: rows with its key and other
// columns, in that order. Both are lists of names.
type table struct {
	name, key, rest string
	sql             string
}

// store writes what is not in the table as it is: most of it is.
func (c table) store(ctx context.Context, tx pgx.Tx, args pgx.NamedArgs) error {
	of := func(table, columns string) string {
		return table + "." + strings.ReplaceAll(columns, ", ", ", "+table+".")
	}
	_, err := tx.Exec(ctx, `
		with counted (`+c.key+`, `+c.rest+`) as materialized (`+c.sql+`),
		gone as (
		  delete from ops.`+c.name+` t
		  where not exists (select from counted c where (`+of("c", c.key)+`) = (`+of("t", c.key)+`))
		)
		insert into ops.`+c.name+` as t (`+c.key+`, `+c.rest+`)
		select * from counted
		on conflict (`+c.key+`) do update
		set (`+c.rest+`) = row(`+of("excluded", c.rest)+`)
		where (`+of("t", c.rest)+`) is distinct from (`+of("excluded", c.rest)+`)`, args)
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}
