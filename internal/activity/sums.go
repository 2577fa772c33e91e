package activity

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/promptcademy/promptops/internal/price"
)

// teamLearner is a learner who ran something for a team.
type teamLearner struct{ team, learner uuid.UUID }

// readDaySums reads what Keeper counted of runs and lessons on each day, of
// everybody, or of runs for the teams asked for.
func (c *count) readDaySums(ctx context.Context, tx pgx.Tx) error {
	kind := `kind = 'all' and $3::uuid[] is null`
	if c.members != nil {
		kind = `kind = 'team' and subject_id = any ($3)`
	}
	rows, err := tx.Query(ctx, `
		select starts_at, sum(runs)::bigint, sum(cost), sum(unpriced)::bigint, sum(started)::bigint, sum(completed)::bigint
		from ops.activity_sums
		where zone = $1 and whole = 'day' and starts_at = any ($2) and `+kind+`
		group by starts_at`, c.plan.zone, c.plan.every, c.q.TeamIDs)
	if err != nil {
		return err
	}
	var at time.Time
	var spent Spent
	var started, completed int64
	_, err = pgx.ForEachRow(rows, []any{&at, &spent.Runs, &spent.Cost, &spent.Unpriced, &started, &completed}, func() error {
		if at.Before(c.q.From) {
			c.report.Before.Spent.add(spent)
		} else {
			c.report.Spent.add(spent)
		}
		if c.members == nil {
			c.addLessons(at, started, completed)
		}
		return nil
	})
	return err
}

// addLessons adds what was started and completed at some time of a day.
func (c *count) addLessons(at time.Time, started, completed int64) {
	if at.Before(c.q.From) {
		c.report.Before.Started, c.report.Before.Completed = c.report.Before.Started+started, c.report.Before.Completed+completed
		return
	}
	c.report.Started, c.report.Completed = c.report.Started+started, c.report.Completed+completed
	if i := c.dayOf(at); i >= 0 {
		c.report.Days[i].LessonsStarted += started
		c.report.Days[i].LessonsCompleted += completed
	}
}

// readSums reads what Keeper counted of each team, lesson and template.
func (c *count) readSums(ctx context.Context, tx pgx.Tx) error {
	kind := `kind <> 'all' and $4::uuid[] is null`
	if c.members != nil {
		kind = `kind = 'team' and subject_id = any ($4)`
	}
	rows, err := tx.Query(ctx, `
		select kind, subject_id, sum(runs)::bigint as runs, sum(cost) as cost, sum(unpriced)::bigint as unpriced, max(last_at) as last_at,
		       sum(started)::bigint as started, sum(completed)::bigint as completed, sum(scored)::bigint as scored, sum(score) as score,
		       sum(created)::bigint as created, sum(viewed)::bigint as viewed, sum(used)::bigint as used, sum(forked)::bigint as forked, sum(shared)::bigint as shared
		from ops.activity_sums
		where zone = $1 and (whole = 'month' and starts_at = any ($2) or whole = 'day' and starts_at = any ($3)) and `+kind+`
		group by kind, subject_id`, c.plan.zone, c.plan.months, c.plan.days, c.q.TeamIDs)
	if err != nil {
		return err
	}
	type row struct {
		Kind                                  string
		SubjectID                             uuid.UUID
		Runs                                  int64
		Cost                                  price.USD
		Unpriced                              int64
		LastAt                                *time.Time
		Started, Completed, Scored            int64
		Score                                 price.USD
		Created, Viewed, Used, Forked, Shared int64
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	for _, f := range found {
		switch f.Kind {
		case "team":
			c.team(f.SubjectID).addRuns(Spent{f.Runs, f.Cost, f.Unpriced}, *f.LastAt)
		case "lesson":
			c.lesson(f.SubjectID).add(Lesson{Started: f.Started, Completed: f.Completed, Scored: f.Scored, Score: f.Score})
		case "template":
			c.template(f.SubjectID).add(Template{Used: f.Used, Viewed: f.Viewed, Forked: f.Forked, Shared: f.Shared, Created: f.Created})
		}
	}
	return err
}

// readLearningRows reads lessons and templates: of everybody the rows that are not
// counted, of members all.
func (c *count) readLearningRows(ctx context.Context, tx pgx.Tx) error {
	before, _ := c.q.before()
	from, to := c.plan.from, c.plan.to
	if c.members != nil {
		from, to = []time.Time{before}, []time.Time{c.q.To}
	}
	rows, err := tx.Query(ctx, `
		select width_bucket(at, $1::timestamptz[]) - 1 as day, lesson_id, count(*) filter (where not done) as started, count(*) filter (where done) as completed,
		       count(score) as scored, coalesce(sum(score), 0) as score
		from unnest($2::timestamptz[], $3::timestamptz[]) as span (since, upto), lateral (
		  select started_at as at, lesson_id, false as done, null::numeric as score from public.user_progress
		  where started_at >= since and started_at < upto and started_at >= $4 and started_at < $5 and ($6::uuid[] is null or user_id = any ($6))
		  union all
		  select completed_at, lesson_id, true, score from public.user_progress
		  where completed_at >= since and completed_at < upto and completed_at >= $4 and completed_at < $5 and ($6::uuid[] is null or user_id = any ($6))
		) did
		group by 1, 2`, c.plan.starts, from, to, before, c.q.To, c.members)
	if err != nil {
		return err
	}
	var day int
	var id uuid.UUID
	var l Lesson
	if _, err = pgx.ForEachRow(rows, []any{&day, &id, &l.Started, &l.Completed, &l.Scored, &l.Score}, func() error {
		at := c.plan.starts[day]
		c.addLessons(at, l.Started, l.Completed)
		if !at.Before(c.q.From) {
			c.lesson(id).add(l)
		}
		return nil
	}); err != nil {
		return err
	}
	rows, err = tx.Query(ctx, `
		select template_id, count(*) filter (where event = 'used'), count(*) filter (where event = 'viewed'), count(*) filter (where event = 'forked'),
		       count(*) filter (where event = 'shared'), count(*) filter (where event = 'created')
		from unnest($1::timestamptz[], $2::timestamptz[]) as span (since, upto), lateral (
		  select template_id, event from public.template_events
		  where created_at >= since and created_at < upto and created_at >= $3 and created_at < $4 and ($5::uuid[] is null or user_id = any ($5))
		) did
		group by template_id`, from, to, c.q.From, c.q.To, c.members)
	if err != nil {
		return err
	}
	var t Template
	_, err = pgx.ForEachRow(rows, []any{&id, &t.Used, &t.Viewed, &t.Forked, &t.Shared, &t.Created}, func() error {
		c.template(id).add(t)
		return nil
	})
	return err
}

// readTeamLearners counts who was active for each team: in what is counted, and in
// the rows that were read.
func (c *count) readTeamLearners(ctx context.Context, tx pgx.Tx) error {
	for _, pair := range c.ran {
		c.team(pair.team).Active++
	}
	if len(c.plan.every) == 0 {
		return nil
	}
	// The days of the period that are counted, from the first bit on.
	first, last := numberOf(c.q.FirstDay()), numberOf(c.q.LastDay())
	days := pgtype.Bits{Bytes: make([]byte, last/8+1), Len: int32(last + 1), Valid: true}
	for day, offset := first, c.plan.first.Until(c.q.FirstDay()); day <= last; day++ {
		if c.plan.counted.has(offset + day - first) {
			days.Bytes[day/8] |= 0x80 >> (day % 8)
		}
	}
	teams, learners := make([]uuid.UUID, len(c.ran)), make([]uuid.UUID, len(c.ran))
	for i, pair := range c.ran {
		teams[i], learners[i] = pair.team, pair.learner
	}
	rows, err := tx.Query(ctx, `
		select team_id, count(*)
		from ops.active_members
		where zone = $1 and ($2::uuid[] is null or team_id = any ($2))
		  and last_run_at >= $3
		  and days <> ops.without_days(days, $4)
		  and (team_id, learner_id) not in (select * from unnest($5::uuid[], $6::uuid[]))
		group by team_id`, c.plan.zone, c.q.TeamIDs, c.q.From, days, teams, learners)
	if err != nil {
		return err
	}
	var id uuid.UUID
	var n int
	_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error {
		c.team(id).Active += n
		return nil
	})
	return err
}

// readTeamLessons counts the lessons that the present members of teams completed.
func (c *count) readTeamLessons(ctx context.Context, tx pgx.Tx) error {
	ids := make([]uuid.UUID, 0, len(c.teams))
	for id := range c.teams {
		ids = append(ids, id)
	}
	rows, err := tx.Query(ctx, `
		select m.team_id, count(*)
		from public.user_progress p
		join public.team_members m on m.user_id = p.user_id
		where p.completed_at >= $1 and p.completed_at < $2 and m.team_id = any ($3)
		group by m.team_id`, c.q.From, c.q.To, ids)
	if err != nil {
		return err
	}
	var id uuid.UUID
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error {
		c.team(id).Completed = n
		return nil
	})
	return err
}
