package activity

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
)

// Store reads what learners did, and gives up rather than take the database away
// from the run endpoint.
type Store struct {
	reader postgres.Reader
	all    postgres.Reader // of accounts, by ids that the other one found: no policy lets a learner see them
}

// NewStore returns a Store that reads with reader.
func NewStore(reader postgres.Reader) *Store { return &Store{reader, reader} }

// As returns a Store that sees what row-level security lets the learner see.
func (s *Store) As(learnerID uuid.UUID) *Store { return &Store{s.reader.As(learnerID), s.all} }

// mostQuiet and mostTemplates are how many of them a Report lists.
const (
	mostQuiet     = 100
	mostTemplates = 20
)

// Report counts what a query asks for, as of now. fault.Unavailable: there is too
// much to count in time, or the database is away.
func (s *Store) Report(ctx context.Context, q Query, now time.Time) (Report, error) {
	r, err := s.report(ctx, q, now)
	if postgres.TookTooLong(err) {
		return Report{}, fault.New(fault.Unavailable, "These days hold too much to count in %d seconds. Choose a shorter range, or a team.",
			int(postgres.ReadTimeout.Seconds())).Because(err)
	}
	if err != nil {
		return Report{}, fmt.Errorf("count activity: %w", err)
	}
	return r, nil
}

func (s *Store) report(ctx context.Context, q Query, now time.Time) (Report, error) {
	var r Report
	var members []uuid.UUID
	var learners map[uuid.UUID]*learnerFacts
	err := s.reader.Read(ctx, func(tx pgx.Tx) (err error) {
		if members, err = readMembers(ctx, tx, q); err != nil {
			return err
		}
		if learners, err = r.readLearners(ctx, tx, q, members); err != nil {
			return err
		}
		return r.readLearning(ctx, tx, q, members)
	})
	if err != nil {
		return Report{}, err
	}
	signUps, err := s.readSignUps(ctx, q, members)
	if err != nil {
		return Report{}, err
	}
	r.count(q, now, learners, signUps)
	err = s.reader.Read(ctx, func(tx pgx.Tx) error {
		keys, lessons, err := readFirsts(ctx, tx, q, signUps)
		if err != nil {
			return err
		}
		r.countFunnel(q, learners, signUps, keys, lessons)
		if err := r.readLessonDays(ctx, tx, q, members); err != nil {
			return err
		}
		return r.readQuiet(ctx, tx, q, members, now)
	})
	if err != nil {
		return Report{}, err
	}
	return r, s.nameQuiet(ctx, &r)
}

// readMembers is nil for everybody.
func readMembers(ctx context.Context, tx pgx.Tx, q Query) ([]uuid.UUID, error) {
	if q.TeamIDs == nil {
		return nil, nil
	}
	rows, err := tx.Query(ctx, `select distinct user_id from public.team_members where team_id = any ($1)`, q.TeamIDs)
	if err != nil {
		return nil, err
	}
	members, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if members == nil {
		members = []uuid.UUID{}
	}
	return members, err
}

// readLearners reads who was active on which day, and what their runs cost, by
// learner and team, in one look at the runs. A set of days is a string of bits, so
// that not every day of every learner has to be sent.
func (r *Report) readLearners(ctx context.Context, tx pgx.Tx, q Query, members []uuid.UUID) (map[uuid.UUID]*learnerFacts, error) {
	first, last := q.scanned()
	starts := period.Starts(first, last, q.Zone)
	rows, err := tx.Query(ctx, `
		select user_id, team_id,
		       bit_or(set_bit($1::bit(448), width_bucket(at, $2::timestamptz[]) - 1, 1)) as days,
		       count(*) filter (where ran and at >= $3) as runs,
		       min(at) filter (where ran and at >= $3) as first_run,
		       coalesce(sum(cost) filter (where at >= $3), 0) as cost,
		       coalesce(sum(unpriced) filter (where at >= $3), 0)::bigint as unpriced
		from (
		  select user_id, team_id, created_at as at, true as ran, total_cost_usd as cost, unpriced
		  from public.prompt_runs
		  where user_id is not null and created_at >= $4 and created_at < $5 and ($6::uuid[] is null or team_id = any ($6))
		  union all
		  select user_id, null, started_at, false, null, null
		  from public.user_progress
		  where started_at >= $4 and started_at < $5 and ($7::uuid[] is null or user_id = any ($7))
		  union all
		  select user_id, null, completed_at, false, null, null
		  from public.user_progress
		  where completed_at >= $4 and completed_at < $5 and ($7::uuid[] is null or user_id = any ($7))
		  union all
		  select user_id, null, created_at, false, null, null
		  from public.template_events
		  where user_id is not null and created_at >= $4 and created_at < $5 and ($7::uuid[] is null or user_id = any ($7))
		) did
		group by user_id, team_id`,
		pgtype.Bits{Bytes: make([]byte, horizon/8), Len: horizon, Valid: true}, starts, q.From, starts[0], q.To, q.TeamIDs, members)
	if err != nil {
		return nil, err
	}
	type row struct {
		UserID   uuid.UUID
		TeamID   *uuid.UUID
		Days     pgtype.Bits
		Runs     int64
		FirstRun *time.Time
		Cost     price.USD
		Unpriced int64
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return nil, err
	}
	learners, teams := make(map[uuid.UUID]*learnerFacts, len(found)), map[uuid.UUID]*Team{}
	for _, f := range found {
		l := learners[f.UserID]
		if l == nil {
			l = &learnerFacts{}
			learners[f.UserID] = l
		}
		for i, word := range setOf(f.Days.Bytes) {
			l.days[i] |= word
		}
		if f.FirstRun != nil && (l.firstRun == nil || f.FirstRun.Before(*l.firstRun)) {
			l.firstRun = f.FirstRun
		}
		spent := Spent{Runs: f.Runs, Cost: f.Cost, Unpriced: f.Unpriced}
		r.Spent.add(spent)
		if f.TeamID != nil && f.Runs > 0 {
			team := teams[*f.TeamID]
			if team == nil {
				team = &Team{ID: *f.TeamID}
				teams[*f.TeamID] = team
			}
			team.Active++
			team.add(spent)
		}
	}
	return learners, r.nameTeams(ctx, tx, teams)
}

func (r *Report) nameTeams(ctx context.Context, tx pgx.Tx, teams map[uuid.UUID]*Team) error {
	ids := make([]uuid.UUID, 0, len(teams))
	for id := range teams {
		ids = append(ids, id)
	}
	rows, err := tx.Query(ctx, `
		select t.id, t.name, count(m.user_id) as members
		from public.teams t
		left join public.team_members m on m.team_id = t.id
		where t.id = any ($1)
		group by t.id, t.name`, ids)
	if err != nil {
		return err
	}
	type row struct {
		ID      uuid.UUID
		Name    string
		Members int64
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	for _, f := range found {
		teams[f.ID].Name, teams[f.ID].Members = f.Name, f.Members
	}
	for _, team := range teams {
		r.Teams = append(r.Teams, *team)
	}
	sortTeams(r.Teams)
	return err
}

// readLearning reads lessons and templates.
func (r *Report) readLearning(ctx context.Context, tx pgx.Tx, q Query, members []uuid.UUID) error {
	rows, err := tx.Query(ctx, `
		select did.lesson_id as id, coalesce(l.title, '') as title, did.started, did.completed, did.finished, did.score
		from (
		  select lesson_id,
		         count(*) filter (where started_at >= $1 and started_at < $2) as started,
		         count(*) filter (where completed_at >= $1 and completed_at < $2) as completed,
		         count(*) filter (where started_at >= $1 and started_at < $2 and completed_at < $2) as finished,
		         percentile_cont(0.5) within group (order by score) filter (where completed_at >= $1 and completed_at < $2) as score
		  from public.user_progress
		  where (started_at >= $1 and started_at < $2 or completed_at >= $1 and completed_at < $2) and ($3::uuid[] is null or user_id = any ($3))
		  group by lesson_id
		) did
		left join public.lessons l on l.id = did.lesson_id
		order by l.position nulls last, title, id`, q.From, q.To, members)
	if err != nil {
		return err
	}
	if r.Lessons, err = pgx.CollectRows(rows, pgx.RowToStructByName[Lesson]); err != nil {
		return err
	}
	for _, l := range r.Lessons {
		r.Started, r.Completed = r.Started+l.Started, r.Completed+l.Completed
	}

	rows, err = tx.Query(ctx, `
		select event, count(*), count(distinct user_id) as learners
		from public.template_events
		where created_at >= $1 and created_at < $2 and ($3::uuid[] is null or user_id = any ($3))
		group by event
		order by count(*) desc, event`, q.From, q.To, members)
	if err != nil {
		return err
	}
	if r.Events, err = pgx.CollectRows(rows, pgx.RowToStructByName[EventCount]); err != nil {
		return err
	}

	rows, err = tx.Query(ctx, `
		select did.template_id as id, coalesce(t.title, '') as title, used, viewed, forked, shared, created, learners
		from (
		  select template_id,
		         count(*) filter (where event = 'used') as used, count(*) filter (where event = 'viewed') as viewed,
		         count(*) filter (where event = 'forked') as forked, count(*) filter (where event = 'shared') as shared,
		         count(*) filter (where event = 'created') as created, count(distinct user_id) as learners
		  from public.template_events
		  where created_at >= $1 and created_at < $2 and ($3::uuid[] is null or user_id = any ($3))
		  group by template_id
		  order by count(*) filter (where event = 'used') desc, count(*) desc, template_id
		  limit $4
		) did
		left join public.prompt_templates t on t.id = did.template_id
		order by used desc, used + viewed + forked + shared + created desc, did.template_id`, q.From, q.To, members, mostTemplates)
	if err != nil {
		return err
	}
	r.Templates, err = pgx.CollectRows(rows, pgx.RowToStructByName[Template])
	return err
}

// readSignUps reads the accounts that were made in the period and in the weeks of
// the cohorts. Deleted and anonymous ones do not count.
func (s *Store) readSignUps(ctx context.Context, q Query, members []uuid.UUID) (all []signUp, err error) {
	first, _ := q.cohorts()
	since := first.Start(q.Zone)
	if q.From.Before(since) {
		since = q.From
	}
	err = s.all.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			select id, created_at
			from auth.users
			where created_at >= $1 and created_at < $2 and deleted_at is null and not is_anonymous and ($3::uuid[] is null or id = any ($3))`,
			since, q.To, members)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, pgx.RowToStructByName[signUp])
		return err
	})
	return all, err
}

// readFirsts reads when those who signed up in the period first had a key, and
// first completed a lesson. Of a key that was deleted nothing is known.
func readFirsts(ctx context.Context, tx pgx.Tx, q Query, signUps []signUp) (keys, lessons map[uuid.UUID]time.Time, err error) {
	var ids []uuid.UUID
	for _, s := range signUps {
		if !s.CreatedAt.Before(q.From) {
			ids = append(ids, s.ID)
		}
	}
	rows, err := tx.Query(ctx, `
		select user_id, min(created_at) as at, true as key
		from public.user_api_keys where user_id = any ($1) and created_at < $2 group by user_id
		union all
		select user_id, min(completed_at), false
		from public.user_progress where user_id = any ($1) and completed_at < $2 group by user_id`, ids, q.To)
	if err != nil {
		return nil, nil, err
	}
	type row struct {
		UserID uuid.UUID
		At     time.Time
		Key    bool
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	keys, lessons = map[uuid.UUID]time.Time{}, map[uuid.UUID]time.Time{}
	for _, f := range found {
		if f.Key {
			keys[f.UserID] = f.At
		} else {
			lessons[f.UserID] = f.At
		}
	}
	return keys, lessons, err
}

// readLessonDays reads when lessons were started and completed.
func (r *Report) readLessonDays(ctx context.Context, tx pgx.Tx, q Query, members []uuid.UUID) error {
	rows, err := tx.Query(ctx, `
		select width_bucket(at, $1::timestamptz[]) - 1 as day, count(*) filter (where not done) as started, count(*) filter (where done) as completed
		from (
		  select started_at as at, false as done from public.user_progress
		  where started_at >= $2 and started_at < $3 and ($4::uuid[] is null or user_id = any ($4))
		  union all
		  select completed_at, true from public.user_progress
		  where completed_at >= $2 and completed_at < $3 and ($4::uuid[] is null or user_id = any ($4))
		) did
		group by 1`, period.Starts(q.FirstDay(), q.LastDay(), q.Zone), q.From, q.To, members)
	if err != nil {
		return err
	}
	type row struct {
		Day                int
		Started, Completed int64
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	for _, f := range found {
		r.Days[f.Day].LessonsStarted, r.Days[f.Day].LessonsCompleted = f.Started, f.Completed
	}
	return err
}

// readQuiet finds the learners whose last run failed, in the period and long
// enough ago.
func (r *Report) readQuiet(ctx context.Context, tx pgx.Tx, q Query, members []uuid.UUID, now time.Time) error {
	until := now.AddDate(0, 0, -QuietDays)
	if q.To.Before(until) {
		until = q.To
	}
	exists := `user_id = any ($4)`
	if members == nil {
		exists = `$4::uuid[] is null and exists (select from auth.users u where u.id = user_id and u.deleted_at is null)`
	}
	rows, err := tx.Query(ctx, `
		with failed as (
		  select distinct on (user_id) user_id, id, created_at
		  from public.prompt_runs
		  where user_id is not null and status in ('error', 'interrupted') and created_at >= $1 and created_at < $2
		    and ($3::uuid[] is null or team_id = any ($3))
		  order by user_id, created_at desc, id desc
		), quiet as (
		  select user_id, id, created_at, count(*) over () as total
		  from failed
		  where `+exists+`
		    and not exists (
		      select from public.prompt_runs later
		      where later.user_id = failed.user_id and later.created_at >= failed.created_at
		        and (later.created_at, later.id) > (failed.created_at, failed.id)
		        and ($3::uuid[] is null or later.team_id = any ($3)))
		  order by created_at desc, id desc
		  limit $5
		)
		select q.user_id as learner_id, '' as email, q.id as run_id, q.created_at as at,
		       coalesce((select error_class from public.prompt_attempts a
		                 where a.run_id = q.id and a.created_at = q.created_at and error_class is not null order by ordinal limit 1), '') as class,
		       q.total
		from quiet q
		order by q.created_at desc, q.id desc`, q.From, until, q.TeamIDs, members, mostQuiet)
	if err != nil {
		return err
	}
	type row struct {
		Quiet
		Total int
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	for _, f := range found {
		r.Quiet, r.QuietAll = append(r.Quiet, f.Quiet), f.Total
	}
	return err
}

func (s *Store) nameQuiet(ctx context.Context, r *Report) error {
	ids := make([]uuid.UUID, len(r.Quiet))
	for i, quiet := range r.Quiet {
		ids[i] = quiet.LearnerID
	}
	emails, err := s.emails(ctx, ids)
	for i, quiet := range r.Quiet {
		r.Quiet[i].Email = emails[quiet.LearnerID]
	}
	return err
}

func (s *Store) emails(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]string, error) {
	emails := make(map[uuid.UUID]string, len(ids))
	err := s.all.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `select id, coalesce(email, '') from auth.users where id = any ($1)`, ids)
		if err != nil {
			return err
		}
		var id uuid.UUID
		var email string
		_, err = pgx.ForEachRow(rows, []any{&id, &email}, func() error {
			emails[id] = email
			return nil
		})
		return err
	})
	return emails, err
}

// Teams returns every team that may be seen, by name.
func (s *Store) Teams(ctx context.Context) ([]Team, error) {
	var teams []Team
	err := s.reader.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `select id, name from public.teams order by lower(name), id`)
		if err != nil {
			return err
		}
		teams, err = pgx.CollectRows(rows, pgx.RowToStructByNameLax[Team])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list teams: %w", err)
	}
	return teams, nil
}
