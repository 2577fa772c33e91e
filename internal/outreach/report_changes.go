package outreach

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// less are the columns of counts, to be taken away.
const less = `-learners, -active, -active_without, -usable, -broken, -fell_back, -lacks, -cost, -unpriced, -new, -contacted, -snoozed, -resolved, -reopened`

// before is what was counted ahead: of the learners who may have changed, to be
// taken away again, and of all others. It is "not in" since that keeps the order of an
// index.
const before = `,
	ids as materialized (select unnest(@ids::uuid[]) as id),
	was as materialized (select * from ops.key_health_learners where learner_id in (select unnest(@ids::uuid[]))),
	others as not materialized (select *, learner_id as id from ops.key_health_learners where learner_id not in (select id from ids)),
	all_members as not materialized (select team_id, user_id from public.team_members),
	all_keys as not materialized (select user_id, provider, ` + isUsable + ` as usable, ` + isBroken + ` as broken from public.user_api_keys)`

// reportChanges counts the learners who may have changed, and takes the others as they
// were counted ahead. Those that are named are read as they are now.
func (m moment) reportChanges(ctx context.Context, tx pgx.Tx, q Query) (r Report, err error) {
	src, args, teams := m.of(m.ids), q.ofReport(), 0
	var lacks, activeWith int
	foundBefore := q.found("ops.key_health_keys", "ops.key_health_keys") + q.searched(`position(lower(@search) in f.called) > 0`)
	var next, listed []uuid.UUID
	var named []Learner
	err = tx.QueryRow(ctx, src.sql+q.matching()+before+`,
		whole as (
		  select `+countColumns+`
		  from ops.key_health_sums where provider = '' and team_id = `+nobody+`
		  union all
		  select `+counts+` from facts
		  union all
		  select `+less+` from (select `+counts+` from was) was
		),
		by_provider as materialized (
		  select provider, active, usable, broken, fell_back, cost, unpriced from ops.key_health_sums where provider <> ''
		  union all
		  select provider, count(*) filter (where k.usable and active), count(*) filter (where k.usable), count(*) filter (where k.broken), 0, 0, 0
		  from per_key k join facts f on f.id = k.user_id group by provider
		  union all
		  select provider, 0, 0, 0, count(*) filter (where k.lacks), sum(k.cost), sum(k.unpriced)::bigint
		  from lacking k join facts f on f.id = k.user_id group by provider
		  union all
		  select provider, -active, -usable, -broken, -fell_back, -cost, -unpriced
		  from (select provider, `+keyCounts+` from ops.key_health_keys k join was on was.learner_id = k.user_id group by provider) was
		),
		by_team as materialized (
		  select t.id as team_id, t.name, members, "with", active_without, cost, unpriced
		  from (
		    select team_id, sum(learners)::bigint as members, sum(usable)::bigint as "with", sum(active_without)::bigint as active_without, sum(cost) as cost, sum(unpriced)::bigint as unpriced
		    from (
		      select team_id, learners, usable, active_without, cost, unpriced from ops.key_health_sums where provider = '' and team_id <> `+nobody+`
		      union all
		      select m.team_id, count(*), count(*) filter (where usable), count(*) filter (where active and not usable), sum(cost), sum(unpriced)::bigint
		      from members m join facts f on f.id = m.user_id group by m.team_id
		      union all
		      select team_id, -count(*), -count(*) filter (where usable), -count(*) filter (where active and not usable), -sum(cost), -sum(unpriced)::bigint
		      from was cross join unnest(team_ids) team_id group by team_id
		    ) parts
		    group by team_id
		  ) sums
		  join public.teams t on t.id = team_id
		  where members > 0
		),
		next as materialized (
		  select id from (
		    (select id, cost from others where cost > 0 or unpriced > 0 order by cost desc, id limit @next)
		    union all
		    select id, cost from facts where cost > 0 or unpriced > 0
		  ) x order by cost desc, id limit @next
		),
		listed as materialized (
		  select id from (
		    (select id, active, cost from others f where `+foundBefore+` and `+behind+` order by active desc, cost desc, id limit @limit)
		    union all
		    select id, active, cost from matching where `+behind+`
		  ) x order by active desc, cost desc, id limit @limit
		),
		named as materialized ( -- who did not change has no younger run than those that were added up
		  select id, broken_since, needs, active, run_at, cost, unpriced, state, stored, state_at, snoozed_until, nudged_at, revision
		  from facts
		  where id in (select id from next union all select id from listed)
		  union all
		  select b.learner_id, b.broken_since, array(select provider from ops.key_health_keys where user_id = b.learner_id and lacks), b.active,
		         case when b.active then (select run_at from ops.last_runs where user_id = b.learner_id) end, b.cost, b.unpriced,
		         b.state, o.state, o.state_at, o.snoozed_until, o.nudged_at, coalesce(o.revision, 0)
		  from ops.key_health_learners b
		  left join ops.outreach o on o.learner_id = b.learner_id
		  where b.learner_id in (select id from next union select id from listed) and b.learner_id not in (select id from ids)
		)
		select
		  (select to_jsonb(x) from (
		    select sum(learners) as learners, sum(usable) as "with", sum(learners) - sum(usable) as without, sum(active) as active,
		           sum(active_without) as active_without, sum(broken) as broken,
		           least((select min(broken_since) from facts where broken), (select min(broken_since) from others where broken)) as broken_since,
		           sum(cost) as cost, sum(unpriced) as unpriced, sum(fell_back) as on_fallback,
		           sum(new) as new, sum(contacted) as contacted, sum(snoozed) as snoozed, sum(resolved) as resolved, sum(reopened) as reopened
		    from whole) x),
		  (select coalesce(jsonb_agg(x order by x."with" desc, x.cost desc, x.provider), '[]') from (
		    select provider, sum(usable) as "with", sum(broken) as broken, sum(fell_back) as fallback, sum(cost) as cost, sum(unpriced) as unpriced
		    from by_provider
		    group by provider
		    having sum(usable) + sum(broken) + sum(fell_back) > 0 or sum(cost) > 0 or sum(unpriced) > 0) x),
		  (select coalesce(jsonb_agg(x order by x.active_without desc, x.cost desc, lower(x.name), x.team_id), '[]') from (
		    select * from by_team order by active_without desc, cost desc, lower(name), team_id limit @team_limit) x),
		  (select count(*) from by_team),
		  array(select id from next),
		  (select coalesce(jsonb_agg(x order by x.at desc, x.id desc), '[]') from (
		    select n.id, n.at, n.actor, n.channel, n.skipped, coalesce(d.state, '') as state, coalesce(d.reason, '') as state_reason,
		           n.learner_id, `+learnerName+` as learner_name, coalesce(u.email, '') as learner_email
		    from ops.nudges n
		    join auth.users u on u.id = n.learner_id
		    left join ops.deliveries d on d.id = n.delivery_id
		    where `+isLearner+`
		    order by n.at desc, n.id desc
		    limit @next) x),
		  (select sum(lacks)::bigint from whole),
		  (select coalesce(sum(active), 0)::bigint from by_provider where provider = @provider),
		  case when @search = '' then 0 else (select count(*) from matching) + (select count(*) from others f where `+foundBefore+`) end,
		  array(select id from listed),
		  (select coalesce(jsonb_agg(x), '[]') from (`+written("named", "all_members", "all_keys")+`) x)`,
		src.with(args)).Scan(&r.Figures, &r.Providers, &r.Teams, &teams, &next, &r.Nudges, &lacks, &activeWith, &r.Listed, &listed, &named)
	if err != nil {
		return Report{}, err
	}
	byID := make(map[uuid.UUID]Learner, len(named))
	for _, l := range named {
		byID[l.ID] = l
	}
	for _, id := range next {
		r.Next = append(r.Next, byID[id])
	}
	for _, id := range listed {
		r.Learners = append(r.Learners, byID[id])
	}
	if q.Search == "" {
		r.Listed = q.listed(r, lacks, activeWith)
	}
	r.MoreTeams = teams - len(r.Teams)
	return r, nil
}

// listed is how many learners a query finds that searches for nothing, of whom lacks
// have no usable key for what they used; with are active and have one for the provider
// that is asked for.
func (q Query) listed(r Report, lacks, with int) int {
	f := r.Figures
	if q.Provider == "" {
		return map[string]int{
			ShowOpen: f.New + f.Reopened, ShowContacted: f.Contacted, ShowSnoozed: f.Snoozed, ShowResolved: f.Resolved,
			ShowWithout: f.Without, ShowActive: f.ActiveWithout, ShowWith: f.With, ShowBroken: f.Broken, ShowFallback: lacks, ShowAll: f.Learners,
		}[q.Show]
	}
	var of ProviderRow // of one that nobody has to do with all are 0
	for _, row := range r.Providers {
		if row.Provider == q.Provider {
			of = row
		}
	}
	return map[string]int{
		ShowWithout: f.Learners - of.With, ShowActive: f.Active - with, ShowWith: of.With, ShowBroken: of.Broken, ShowFallback: of.Fallback,
	}[q.Show]
}
