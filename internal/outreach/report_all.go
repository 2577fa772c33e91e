package outreach

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// reportAll counts all learners of the moment in one statement.
func (m moment) reportAll(ctx context.Context, tx pgx.Tx, q Query) (r Report, err error) {
	src, args, teams := m.everybody(), q.ofReport(), 0
	err = tx.QueryRow(ctx, src.sql+q.matching()+`,
		by_team as materialized (
		  select t.id as team_id, t.name, count(*) as members,
		         count(*) filter (where f.usable) as "with",
		         count(*) filter (where f.active and not f.usable) as active_without,
		         sum(f.cost) as cost, sum(f.unpriced)::bigint as unpriced
		  from members m
		  join facts f on f.id = m.user_id
		  join public.teams t on t.id = m.team_id
		  where `+src.inTeams+`
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
		    select * from facts where cost > 0 or unpriced > 0 order by cost desc, id limit @next)`, "members", "keys")+`) x),
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
		  (select coalesce(jsonb_agg(x order by x.active desc, x.cost desc, x.id), '[]') from (`+written(page, "members", "keys")+`) x)`,
		src.with(args)).Scan(&r.Figures, &r.Providers, &r.Teams, &teams, &r.Next, &r.Nudges, &r.Listed, &r.Learners)
	r.MoreTeams = teams - len(r.Teams)
	return r, err
}

// ofReport are the arguments of a report.
func (q Query) ofReport() pgx.NamedArgs {
	limit := PageSize + 1
	args := q.arguments(&limit)
	args["next"], args["team_limit"] = nextSize, teamsSize
	if q.AllTeams {
		args["team_limit"] = maxTeams
	}
	return args
}
