package activity

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// readLearning reads lessons and templates: of everybody the rows that are not counted,
// of members all, which nobody can count ahead: who is a member may change any time.
func (c *count) readLearning(ctx context.Context, tx pgx.Tx) error {
	from, to := c.plan.from, c.plan.to
	if c.members != nil {
		before, _ := c.q.Before()
		over, _ := apart(c.plan.every)
		counted, until := stretches(over)
		if len(counted) > mostStretches {
			over, counted, until = nil, nil, nil
		}
		if err := c.remembered("learning", over, func() (*tally, error) { return c.learningOf(ctx, tx, counted, until) }); err != nil {
			return err
		}
		from, to = besides(counted, until, before, c.q.To)
	}
	t, err := c.learningOf(ctx, tx, from, to)
	if err == nil {
		c.add(t)
	}
	return err
}

// mostStretches is how many spans of days are worth reading one by one: each looks for
// every member. There are more only while very much has just changed.
const mostStretches = 20

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// stretches are spans of time that some days make; days that follow each other are one.
func stretches(days []part) (from, to []time.Time) {
	for _, day := range days {
		if last := len(to) - 1; last >= 0 && to[last].Equal(day.StartsAt) {
			to[last] = day.EndsAt
			continue
		}
		from, to = append(from, day.StartsAt), append(to, day.EndsAt)
	}
	return from, to
}

// besides is what is between first and last and in none of some spans.
func besides(from, to []time.Time, first, last time.Time) (rest, until []time.Time) {
	for i := range from {
		if first.Before(from[i]) {
			rest, until = append(rest, first), append(until, from[i])
		}
		first = to[i]
	}
	if first.Before(last) {
		rest, until = append(rest, first), append(until, last)
	}
	return rest, until
}

// learningOf reads what was done with lessons and templates in spans of time. Members
// have few rows each, which are found by whose they are and not by when they were
// written.
func (c *count) learningOf(ctx context.Context, tx pgx.Tx, from, to []time.Time) (*tally, error) {
	t := &tally{}
	if len(from) == 0 {
		return t, nil
	}
	err := c.readLessonRows(ctx, tx, from, to, t)
	if err == nil {
		err = c.readTemplateRows(ctx, tx, from, to, t)
	}
	return t, err
}

// ofMembers is the SQL by which rows are a member's, of those in an argument. For a lead
// row-level security looks for the members of the teams led, by an index: to look for the
// same ones twice is slower than to look through what it found.
func (c *count) ofMembers(argument string) string {
	if c.lead != nil {
		return `user_id in (select unnest(` + argument + `::uuid[]))`
	}
	return `user_id = any (` + argument + `)`
}

func (c *count) readLessonRows(ctx context.Context, tx pgx.Tx, from, to []time.Time, t *tally) error {
	before, _ := c.q.Before()
	args := []any{c.plan.starts, from, to, before, c.q.To}
	did := `
		unnest($2::timestamptz[], $3::timestamptz[]) as span (since, upto), lateral (
		  select started_at as at, lesson_id, false as done, null::numeric as score from public.user_progress
		  where started_at >= since and started_at < upto and started_at >= $4 and started_at < $5
		  union all
		  select completed_at, lesson_id, true, score from public.user_progress
		  where completed_at >= since and completed_at < upto and completed_at >= $4 and completed_at < $5
		) did`
	if c.members != nil {
		args, did = append(args, c.members), `
		public.user_progress p
		cross join lateral (values (p.started_at, false, null::numeric), (p.completed_at, true, p.score)) did (at, done, score)
		join unnest($2::timestamptz[], $3::timestamptz[]) as span (since, upto) on at >= since and at < upto
		where at >= $4 and at < $5 and `+c.ofMembers("$6")
	}
	rows, err := tx.Query(ctx, `
		select width_bucket(at, $1::timestamptz[]) - 1 as day, lesson_id, count(*) filter (where not done) as started, count(*) filter (where done) as completed,
		       count(did.score) as scored, coalesce(sum(did.score), 0) as score
		from `+did+`
		group by 1, 2`, args...)
	if err != nil {
		return err
	}
	var day int
	var l Lesson
	_, err = pgx.ForEachRow(rows, []any{&day, &l.ID, &l.Started, &l.Completed, &l.Scored, &l.Score}, func() error {
		at := c.plan.starts[day]
		t.days = append(t.days, dayTally{at: at, started: l.Started, completed: l.Completed})
		if !at.Before(c.q.From) {
			t.lessons = append(t.lessons, l)
		}
		return nil
	})
	return err
}

func (c *count) readTemplateRows(ctx context.Context, tx pgx.Tx, from, to []time.Time, t *tally) error {
	args := []any{from, to, c.q.From, c.q.To}
	did := `
		unnest($1::timestamptz[], $2::timestamptz[]) as span (since, upto), lateral (
		  select template_id, event from public.template_events
		  where created_at >= since and created_at < upto and created_at >= $3 and created_at < $4
		) did`
	if c.members != nil {
		// One by one, so that the planner knows how short they are.
		args = []any{c.members}
		parts := []string{`select null::uuid as template_id, null as event where false`}
		for i := range from {
			args = append(args, latest(from[i], c.q.From), to[i])
			parts = append(parts, fmt.Sprintf(`
		  select template_id, event from public.template_events where %s and created_at >= $%d and created_at < $%d`, c.ofMembers("$1"), len(args)-1, len(args)))
		}
		did = `(` + strings.Join(parts, ` union all `) + `) did`
	}
	rows, err := tx.Query(ctx, `
		select template_id, count(*) filter (where event = 'used'), count(*) filter (where event = 'viewed'), count(*) filter (where event = 'forked'),
		       count(*) filter (where event = 'shared'), count(*) filter (where event = 'created')
		from `+did+`
		group by template_id`, args...)
	if err != nil {
		return err
	}
	var m Template
	_, err = pgx.ForEachRow(rows, []any{&m.ID, &m.Used, &m.Viewed, &m.Forked, &m.Shared, &m.Created}, func() error {
		t.templates = append(t.templates, m)
		return nil
	})
	return err
}
