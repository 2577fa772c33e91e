package activity

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

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
	const periods = `
		from ops.activity_sums
		where zone = $1 and (whole = 'month' and starts_at = any ($2) or whole = 'week' and starts_at = any ($3) or whole = 'day' and starts_at = any ($4)) and kind = `
	sums := c.plan.sums
	teams := `'team' and $5::uuid[] is null`
	if c.members != nil {
		teams = `'team' and subject_id = any ($5)`
	}
	rows, err := tx.Query(ctx, `
		select subject_id, sum(runs)::bigint, sum(cost), sum(unpriced)::bigint, max(last_at)`+periods+teams+`
		group by subject_id`, c.plan.zone, sums[0], sums[1], sums[2], c.q.TeamIDs)
	if err != nil {
		return err
	}
	var id uuid.UUID
	var spent Spent
	var lastAt time.Time
	if _, err = pgx.ForEachRow(rows, []any{&id, &spent.Runs, &spent.Cost, &spent.Unpriced, &lastAt}, func() error {
		c.team(id).addRuns(spent, lastAt)
		return nil
	}); err != nil || c.members != nil {
		return err
	}
	rows, err = tx.Query(ctx, `
		select subject_id, sum(started)::bigint, sum(completed)::bigint, sum(scored)::bigint, sum(score)`+periods+`'lesson'
		group by subject_id`, c.plan.zone, sums[0], sums[1], sums[2])
	if err != nil {
		return err
	}
	var l Lesson
	if _, err = pgx.ForEachRow(rows, []any{&id, &l.Started, &l.Completed, &l.Scored, &l.Score}, func() error {
		c.lesson(id).add(l)
		return nil
	}); err != nil {
		return err
	}
	rows, err = tx.Query(ctx, `
		select subject_id, sum(used)::bigint, sum(viewed)::bigint, sum(forked)::bigint, sum(shared)::bigint, sum(created)::bigint`+periods+`'template'
		group by subject_id`, c.plan.zone, sums[0], sums[1], sums[2])
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

// readLearningRows reads lessons and templates: of everybody the rows that are not
// counted, of members all.
func (c *count) readLearningRows(ctx context.Context, tx pgx.Tx) error {
	before, _ := c.q.Before()
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

// readMembers counts the present members of each team, and the lessons that they
// completed.
func (c *count) readMembers(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `select team_id, user_id from public.team_members where $1::uuid[] is null or team_id = any ($1)`, c.q.TeamIDs)
	if err != nil {
		return err
	}
	return eachRaw(rows, func(row raw) {
		team := c.teams[row.uuid(0)]
		if team == nil {
			return
		}
		team.Members++
		if l := c.learners.find(row.uuid(1)); l != nil {
			team.Completed += int64(l.completed)
		}
	})
}
