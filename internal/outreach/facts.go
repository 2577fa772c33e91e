package outreach

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
)

// What the words of this package mean, once. In words they stand on the page:
// change both.
const (
	// A learner is an account that may be used by a person we know.
	isLearner = `u.deleted_at is null and (u.banned_until is null or u.banned_until <= @now) and not u.is_anonymous`

	// A key can be used when it works or only rests: not while it is being looked
	// into because the provider refused it.
	isUsable = `(status in ('healthy', 'cooling') and (suspect is null or suspect not in ('invalid_key', 'permission', 'billing')))`

	// A key broke when the provider said so and a check agreed.
	isBroken = `(status in ('invalid', 'billing'))`

	// What an attempt adds to the sums of fallbacks.
	fallbackSums = `count(*) as attempts, coalesce(sum(cost_usd), 0) as cost, count(*) filter (where cost_usd is null and status <> 'running') as unpriced`

	// firstID is where the ids of the runs of an instant begin: there is an index of
	// ids, which are in the order of time, and none of times.
	firstID = `(lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid`

	// effectiveState is what Next says.
	effectiveState = `
		case when k.usable then case when o.learner_id is null then '' else 'resolved' end
		     when o.state is null then 'new'
		     when o.state = 'resolved' then 'reopened'
		     when o.state = 'snoozed' and o.snoozed_until <= @now then 'reopened'
		     else o.state
		end`
)

// reading is how a statement reads the tables.
type reading struct {
	// The stretch of attempts that was added up is the one from @from until @until,
	// which are null if there is none; else the one that is there when the statement is
	// run. The former is for transactions that see one moment, and lets Postgres know
	// how little there is to read.
	given  bool
	marked bool // attempts of some learners are not as they were added up
	narrow bool // only the learners @ids: of few there is little to read
	teams  bool // only members of @teams
	lead   bool // of what a lead sees of these teams, and nothing else
}

// inTeams is a condition that a membership is one of the teams that are asked for.
func (r reading) inTeams() string {
	if !r.teams || r.lead {
		return `true`
	}
	return `team_id = any(@teams)`
}

// only is a condition that column is among the learners that are asked for.
func (r reading) only(column string) string {
	if !r.narrow {
		return `true`
	}
	return column + ` in (select unnest(@ids::uuid[]))`
}

// everything reads the tables as they are. Where a stretch of attempts has been
// added up beforehand (see Keeper), what is younger comes on top and what has become
// too old goes; of learners whose attempts are marked nothing that was added up
// counts.
func (r reading) everything() string {
	from, until, stretch := `(select from_at from stretch)`, `(select until_at from stretch)`, stretchNow
	if r.given {
		from, until, stretch = `@from::timestamptz`, `@until::timestamptz`, `select where @until::timestamptz is not null`
	}
	young, asked := `greatest(`+until+`, @since)`, r.only(`user_id`)
	known, markedAttempts, markedRuns, marked := `true`, ``, ``, ``
	if r.marked {
		marked = `
	marked as materialized (select distinct learner_id from ops.key_health_marks where attempts and exists (select from stretch)),`
		known = `user_id not in (select learner_id from marked)`
		markedAttempts = `
	  union all
	  select user_id, provider, ` + fallbackSums + `
	  from public.prompt_attempts
	  where user_id = any(array(select learner_id from marked)) and created_at >= @since and key_source = 'fallback' and ` + asked + `
	  group by user_id, provider`
		markedRuns = `
	    union all
	    select user_id, max(created_at)
	    from public.prompt_runs
	    where user_id = any(array(select learner_id from marked)) and created_at >= @since and ` + asked + `
	    group by user_id`
	}
	return strings.NewReplacer("{from}", from, "{until}", until, "{young}", young).Replace(`
	stretch as materialized (` + stretch + `),` + marked + `
	members as not materialized (select team_id, user_id from public.team_members where ` + asked + `),
	keys as not materialized (select user_id, provider, ` + isUsable + ` as usable, ` + isBroken + ` as broken, status_at from public.user_api_keys where ` + asked + `),
	changed as materialized ( -- since the attempts were added up
	  select user_id, provider, sum(attempts)::bigint as attempts, sum(cost) as cost, sum(unpriced)::bigint as unpriced
	  from (
	    select user_id, provider, ` + fallbackSums + `
	    from public.prompt_attempts
	    where created_at >= {young} and key_source = 'fallback' and ` + asked + `
	    group by user_id, provider
	    union all
	    select user_id, provider, -attempts, -cost, -unpriced
	    from (
	      select user_id, provider, ` + fallbackSums + `
	      from public.prompt_attempts
	      where created_at >= {from} and created_at < least({until}, @since) and key_source = 'fallback' and ` + asked + `
	      group by user_id, provider
	    ) too_old
	  ) parts
	  where user_id is not null
	  group by user_id, provider
	),
	fallback as materialized ( -- adding up all of it anew would take longer than all the rest
	  select user_id, provider, attempts, cost, unpriced
	  from (
	    select user_id, provider, attempts, cost_usd as cost, unpriced
	    from ops.fallback_sums s
	    where ` + asked + ` and exists (select from stretch) and not exists (select from changed c where c.user_id = s.user_id and c.provider = s.provider)
	    union all
	    select user_id, provider, c.attempts + coalesce(s.attempts, 0), c.cost + coalesce(s.cost_usd, 0), c.unpriced + coalesce(s.unpriced, 0)
	    from changed c
	    left join (select * from ops.fallback_sums where exists (select from stretch)) s using (user_id, provider)
	    where c.attempts + coalesce(s.attempts, 0) > 0
	  ) known
	  where ` + known + markedAttempts + `
	),
	active as materialized (
	  select user_id, max(run_at) as run_at
	  from (
	    select user_id, run_at
	    from ops.last_runs
	    where run_at >= @since and ` + asked + ` and exists (select from stretch) and ` + known + `
	    union all
	    select user_id, max(created_at)
	    from public.prompt_runs
	    where created_at >= {young} and ` + asked + `
	      and id >= (select ` + firstID + ` from (select {young} as at) young)
	    group by user_id` + markedRuns + `
	  ) runs
	  where user_id is not null
	  group by user_id
	)`)
}

const (
	// stretchNow is the stretch that can be used, if any.
	stretchNow = `
	  select from_at, until_at, made_at, learners
	  from ops.fallback_stretch
	  where from_at <= @since and not exists (select from ops.key_health_marks where learner_id = ` + nobody + `)`

	// nobody is the id of a mark that is about everybody.
	nobody = `'00000000-0000-0000-0000-000000000000'`
)

// asLead is what row-level security shows a lead of their teams, as one value, and who
// is in them. The names and addresses of those in it are looked up afterwards. Attempts are those for
// these teams: what was added up of the stretch from @from until @until, what is
// younger, less what has become too old.
const asLead = `
	with its_members as materialized (select team_id, user_id from public.team_members where team_id = any(@teams))
	select jsonb_build_object(
	  'members', (select coalesce(jsonb_agg(m), '[]') from its_members m),
	  'keys', (select coalesce(jsonb_agg(k), '[]') from (
	    select user_id, provider, ` + isUsable + ` as usable, ` + isBroken + ` as broken, status_at
	    from public.user_api_keys where user_id = any(array(select user_id from its_members))) k),
	  'fallback', (select coalesce(jsonb_agg(f), '[]') from (
	    select user_id, provider, sum(attempts)::bigint as attempts, sum(cost) as cost, sum(unpriced)::bigint as unpriced
	    from (
	      select user_id, provider, attempts, cost_usd as cost, unpriced
	      from public.team_fallbacks
	      where team_id = any(@teams) and provider <> '' and @until::timestamptz is not null
	      union all
	      select user_id, provider, ` + fallbackSums + `
	      from public.prompt_attempts
	      where team_id = any(@teams) and created_at >= greatest(@until::timestamptz, @since) and key_source = 'fallback' and user_id is not null
	      group by user_id, provider
	      union all
	      select user_id, provider, -attempts, -cost, -unpriced
	      from (
	        select user_id, provider, ` + fallbackSums + `
	        from public.prompt_attempts
	        where team_id = any(@teams) and created_at >= @from::timestamptz and created_at < least(@until::timestamptz, @since) and key_source = 'fallback' and user_id is not null
	        group by user_id, provider) too_old
	    ) parts
	    group by user_id, provider
	    having sum(attempts) > 0) f),
	  'active', (select coalesce(jsonb_agg(r), '[]') from (
	    select user_id, max(run_at) as run_at
	    from (
	      select user_id, run_at
	      from public.team_fallbacks
	      where team_id = any(@teams) and provider = '' and run_at >= @since and @until::timestamptz is not null
	      union all
	      select user_id, created_at
	      from public.prompt_runs
	      where team_id = any(@teams) and created_at >= greatest(@until::timestamptz, @since) and user_id is not null
	    ) runs
	    group by user_id) r)), array(select distinct user_id from its_members)`

// shown takes everything from such a value, and nothing else from anywhere.
const shown = `
	members as materialized (select * from jsonb_to_recordset(@shown::jsonb -> 'members') as m(team_id uuid, user_id uuid)),
	keys as materialized (
	  select * from jsonb_to_recordset(@shown::jsonb -> 'keys') as k(user_id uuid, provider text, usable boolean, broken boolean, status_at timestamptz)),
	fallback as materialized (
	  select * from jsonb_to_recordset(@shown::jsonb -> 'fallback') as f(user_id uuid, provider text, attempts bigint, cost numeric, unpriced bigint)),
	active as materialized (select * from jsonb_to_recordset(@shown::jsonb -> 'active') as r(user_id uuid, run_at timestamptz))`

// facts is a row for every learner that a question is about.
func (r reading) facts() string {
	members := `true`
	if r.teams {
		members = `u.id in (select user_id from members where ` + r.inTeams() + `)`
	}
	return `,
	learners as (
	  select u.id
	  from auth.users u
	  where ` + isLearner + ` and ` + r.only(`u.id`) + ` and ` + members + `
	),
	per_key as materialized (
	  select user_id, provider, bool_or(usable) as usable, bool_or(broken) as broken, min(case when broken then status_at end) as broken_since
	  from keys
	  group by user_id, provider
	),
	lacking as materialized (
	  select f.*, k.usable is not true as lacks -- a usable key for what was used
	  from fallback f left join per_key k using (user_id, provider)
	),
	facts as materialized (
	  select l.id,
	         coalesce(k.usable, false) as usable, coalesce(k.broken, false) as broken, k.broken_since,
	         f.user_id is not null as fell_back, f.needs is not null as lacks, coalesce(f.needs, '{}') as needs, coalesce(f.cost, 0) as cost, coalesce(f.unpriced, 0) as unpriced,
	         r.run_at, r.run_at is not null as active,
	         o.state as stored, ` + effectiveState + ` as state, o.state_at, o.snoozed_until, o.nudged_at, coalesce(o.revision, 0) as revision
	  from learners l
	  left join (
	    select user_id, bool_or(usable) as usable, bool_or(broken) as broken, min(broken_since) as broken_since
	    from per_key
	    group by user_id
	  ) k on k.user_id = l.id
	  left join (
	    select user_id, array_agg(provider) filter (where lacks) as needs, sum(cost) as cost, sum(unpriced)::bigint as unpriced
	    from lacking
	    group by user_id
	  ) f on f.user_id = l.id
	  left join active r on r.user_id = l.id
	  left join ops.outreach o on o.learner_id = l.id
	)`
}

// source is where a statement's facts come from.
type source struct {
	sql     string // the beginning of a statement, up to facts
	inTeams string // see reading
	args    pgx.NamedArgs
}

// source reads what a lead may see, with the lead's own rights; for an admin there
// is nothing to read in advance. ids, if not nil, narrow the learners.
func (s *Store) source(ctx context.Context, scope Scope, ids []uuid.UUID, now time.Time) (source, error) {
	args := pgx.NamedArgs{"now": now, "since": now.Add(-Window), "teams": scope.Teams, "ids": ids}
	if scope.As == nil {
		r := reading{marked: true, narrow: ids != nil, teams: scope.Teams != nil}
		return source{`with ` + r.everything() + r.facts(), r.inTeams(), args}, nil
	}
	var seen []byte
	var members []uuid.UUID
	err := s.reader.As(*scope.As).Read(ctx, func(tx pgx.Tx) error {
		read := pgx.NamedArgs{"teams": notNil(scope.Teams), "since": now.Add(-Window)}
		var from, until *time.Time
		if err := tx.QueryRow(ctx, `select from_at, until_at from public.fallback_stretch(@since)`, read).Scan(&from, &until); err != nil {
			return err
		}
		read["from"], read["until"] = from, until
		return tx.QueryRow(ctx, asLead, read).Scan(&seen, &members)
	})
	if err != nil {
		return source{}, fmt.Errorf("read as a lead: %w", err)
	}
	args["shown"], args["teams"] = seen, notNil(scope.Teams)
	r := reading{narrow: true, teams: true, lead: true}
	if ids == nil { // Postgres should know how many there are
		args["ids"], r.teams = members, false
	}
	return source{`with ` + shown + r.facts(), r.inTeams(), args}, nil
}

// notNil is the teams of a lead: without any of them nobody is seen, rather than
// everybody.
func notNil(teams []uuid.UUID) []uuid.UUID {
	if teams == nil {
		return []uuid.UUID{}
	}
	return teams
}

// with returns the source's arguments and some more.
func (s source) with(more pgx.NamedArgs) pgx.NamedArgs {
	for name, value := range s.args {
		more[name] = value
	}
	return more
}

// matching is the learners that a query finds.
func (q Query) matching() string {
	return `,
	matching as materialized (
	  select f.*
	  from facts f
	  where ` + q.found("per_key", "lacking") + q.searched(`(select position(lower(@search) in `+calledOf+`) > 0 from auth.users u where u.id = f.id)`) + `
	)`
}

// found is what Show and Provider ask of a learner f, of whose keys and fallbacks
// there are tables.
func (q Query) found(keys, fallbacks string) string {
	of := func(figure, table, what string) string {
		if q.Provider == "" {
			return figure
		}
		return `exists (select from ` + table + ` k where k.user_id = f.id and k.provider = @provider and k.` + what + `)`
	}
	switch q.Show {
	case ShowOpen:
		return `f.state in ('new', 'reopened')`
	case ShowContacted, ShowSnoozed, ShowResolved:
		return `f.state = @show`
	case ShowWithout:
		return `not ` + of(`f.usable`, keys, `usable`)
	case ShowActive:
		return `f.active and not ` + of(`f.usable`, keys, `usable`)
	case ShowWith:
		return of(`f.usable`, keys, `usable`)
	case ShowBroken:
		return of(`f.broken`, keys, `broken`)
	case ShowFallback:
		return of(`f.lacks`, fallbacks, `lacks`)
	}
	return `true`
}

// searched adds a condition if something is searched for.
func (q Query) searched(condition string) string {
	if q.Search == "" {
		return ``
	}
	return ` and ` + condition
}

const learnerName = `coalesce(nullif(u.raw_user_meta_data ->> 'full_name', ''), u.raw_user_meta_data ->> 'name', '')`

// written is everything that is said about the learners in a table f, in the order
// of the queue; members and keys are where to look theirs up.
func written(f, members, keys string) string {
	return `
	  select f.id, coalesce(u.email, '') as email, ` + learnerName + ` as name,
	         array(select t.name from ` + members + ` m join public.teams t on t.id = m.team_id where m.user_id = f.id order by lower(t.name), t.id) as teams,
	         array(select distinct k.provider from ` + keys + ` k where k.user_id = f.id and k.usable order by 1) as usable,
	         array(select distinct k.provider from ` + keys + ` k where k.user_id = f.id and k.broken order by 1) as broken, f.broken_since,
	         array(select p from unnest(f.needs) p order by p) as needs,
	         f.active, f.run_at as last_run_at, f.cost, f.unpriced,
	         f.state, case when f.state = f.stored then f.state_at end as state_at,
	         case when f.state = 'snoozed' then f.snoozed_until end as until, f.nudged_at, f.revision
	  from ` + f + ` f
	  join auth.users u on u.id = f.id
	  order by f.active desc, f.cost desc, f.id`
}

// page cuts one page out of matching.
const page = `(
	  select * from matching
	  where ` + behind + `
	  order by active desc, cost desc, id
	  limit @limit
	)`

// behind is whether a learner comes after a place, in words that an index knows.
const behind = `(@after_id::uuid is null or (active, cost) <= (@after_active, @after_cost::numeric)
	  and ((active, cost) < (@after_active, @after_cost::numeric) or id > @after_id))`

// arguments are those of matching and page.
func (q Query) arguments(limit *int) pgx.NamedArgs {
	args := pgx.NamedArgs{"show": q.Show, "provider": q.Provider, "search": q.Search, "limit": limit,
		"after_id": nil, "after_active": false, "after_cost": "0"}
	if q.After != nil {
		args["after_id"], args["after_active"], args["after_cost"] = q.After.ID, q.After.Active, q.After.Cost.String()
	}
	return args
}

// find returns the learners with these ids that the source knows, by id.
func find(ctx context.Context, db postgres.DB, src source) (map[uuid.UUID]Learner, error) {
	rows, err := db.Query(ctx, src.sql+written("facts", "members", "keys"), src.args)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Learner])
	if err != nil {
		return nil, err
	}
	byID := make(map[uuid.UUID]Learner, len(found))
	for _, l := range found {
		byID[l.ID] = l
	}
	return byID, nil
}
