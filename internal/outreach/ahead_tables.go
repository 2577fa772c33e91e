package outreach

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// attemptTables are what attempts come to from @from until @until. Of a few learners it
// is made of what there was before, from @from_before until @until_before: of two weeks
// little changes in a minute.
func (r reading) attemptTables() []table {
	its, sums := ` and `+r.only(`user_id`), sumAttempts(`true`, `@from`, `@until`)
	if r.narrow {
		const known = `user_id not in (select learner_id from marked)`
		sums = `
			with marked as materialized (select distinct learner_id from ops.key_health_marks where attempts)
			select team_id, user_id, provider, sum(attempts)::bigint, sum(cost), sum(unpriced)::bigint, max(run_at)
			from (
			  select team_id, user_id, provider, attempts, cost_usd as cost, unpriced, run_at
			  from ops.team_fallbacks
			  where ` + known + its + `
			  union all` + sumAttempts(known+its, `@until_before`, `@until`) + `
			  union all
			  select team_id, user_id, provider, -attempts, -cost, -unpriced, null
			  from (` + sumAttempts(known+its, `@from_before`, `@from`) + `) too_old
			  where provider <> ''
			  union all` + sumAttempts(`user_id = any(array(select learner_id from marked))`, `@from`, `@until`) + `
			) parts
			group by 1, 2, 3
			having sum(attempts) > 0 or max(run_at) >= @from`
	}
	of := r.only(`t.user_id`)
	return []table{
		{"team_fallbacks", of, "team_id, user_id, provider", "attempts, cost_usd, unpriced, run_at", sums},
		{"fallback_sums", of, "user_id, provider", "attempts, cost_usd, unpriced", `
			select user_id, provider, sum(attempts)::bigint, sum(cost_usd), sum(unpriced)::bigint
			from ops.team_fallbacks
			where provider <> ''` + its + `
			group by user_id, provider`},
		{"last_runs", of, "user_id", "run_at", `
			select user_id, max(run_at) from ops.team_fallbacks where provider = ''` + its + ` group by user_id`},
	}
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

// learnerTables are what is said of learners, of whom attempts are added up.
func (r reading) learnerTables() []table {
	facts := `with ` + r.everything() + r.facts()
	return []table{
		{"key_health_learners", r.only(`t.learner_id`), "learner_id", "called, team_ids, usable, broken, broken_since, fell_back, lacks, cost, unpriced, active, state", facts + `
			select f.id, ` + calledOf + `, coalesce(t.ids, '{}'), f.usable, f.broken, f.broken_since, f.fell_back, f.lacks, f.cost, f.unpriced, f.active, f.state
			from facts f
			join auth.users u on u.id = f.id
			left join (select user_id, array_agg(team_id order by team_id) as ids from members group by user_id) t on t.user_id = f.id`},
		{"key_health_keys", r.only(`t.user_id`), "user_id, provider", "usable, broken, lacks, cost, unpriced", facts + `
			select user_id, provider, coalesce(k.usable, false), coalesce(k.broken, false), coalesce(l.lacks, false), coalesce(l.cost, 0), coalesce(l.unpriced, 0)
			from per_key k
			full join lacking l using (user_id, provider)
			where user_id in (select id from facts)`},
		{"key_health_bans", `true`, "learner_id", "banned_until", `
			select id, banned_until from auth.users where banned_until is not null`},
		{"key_health_sums", `true`, "provider, team_id", countColumns, `
			select '' as provider, ` + nobody + `::uuid as team_id, ` + counts + ` from ops.key_health_learners
			union all
			select '', team_id, ` + counts + ` from ops.key_health_learners cross join unnest(team_ids) team_id group by team_id
			union all
			select provider, ` + nobody + `, 0, active, 0, usable, broken, fell_back, 0, cost, unpriced, 0, 0, 0, 0, 0
			from (
			  select provider, ` + keyCounts + `
			  from ops.key_health_keys k join ops.key_health_learners l on l.learner_id = k.user_id
			  group by provider) keys`},
	}
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

// table is one of ops and what is to be in it, as far as it is about some learners:
// rows with its key and other columns, in that order. Both are lists of names.
type table struct {
	name, only, key, rest string
	sql                   string
}

// store writes what is not in the table as it is.
func (t table) store(ctx context.Context, tx pgx.Tx, args pgx.NamedArgs) error {
	of := func(table, columns string) string {
		return table + "." + strings.ReplaceAll(columns, ", ", ", "+table+".")
	}
	same := `(` + of("c", t.key) + `) = (` + of("t", t.key) + `)`
	_, err := tx.Exec(ctx, `
		with counted (`+t.key+`, `+t.rest+`) as materialized (`+t.sql+`),
		gone as (
		  delete from ops.`+t.name+` t
		  where `+t.only+` and not exists (select from counted c where `+same+`)
		)
		insert into ops.`+t.name+` (`+t.key+`, `+t.rest+`)
		select *
		from counted c
		where not exists (select from ops.`+t.name+` t where `+same+` and (`+of("t", t.rest)+`) is not distinct from (`+of("c", t.rest)+`))
		on conflict (`+t.key+`) do update
		set (`+t.rest+`) = row(`+of("excluded", t.rest)+`)`, args)
	if err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	return nil
}
