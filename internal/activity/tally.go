package activity

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/memo"
)

// tally is what some days came to, of everybody or of the teams asked for. It is never
// changed once others may have seen it.
type tally struct {
	days      []dayTally
	teams     []teamTally
	lessons   []Lesson
	templates []Template
}

type dayTally struct {
	at time.Time // some time of the day
	Spent
	started, completed int64 // lessons
}

type teamTally struct {
	id uuid.UUID
	Spent
	lastAt time.Time // of the last run
}

// add adds what days came to to the report.
func (c *count) add(t *tally) {
	for _, d := range t.days {
		if d.at.Before(c.q.From) {
			c.report.Before.Spent.add(d.Spent)
		} else {
			c.report.Spent.add(d.Spent)
		}
		c.addLessons(d.at, d.started, d.completed)
	}
	for _, team := range t.teams {
		c.team(team.id).addRuns(team.Spent, team.lastAt)
	}
	for _, l := range t.lessons {
		c.lesson(l.ID).add(l)
	}
	for _, template := range t.templates {
		c.template(template.ID).add(template)
	}
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

// memory remembers between reports what days came to that are over. A tally is kept
// under the rounds in which these days were counted, which a reader finds in its own
// snapshot. What changes in such a day leaves a mark, so that the day is not in the plan
// of whoever can see the change, and is counted anew in a later round: a tally holds for
// whoever asks for it.
type memory = memo.Memory[*tally]

const (
	mostRemembered = 24 << 20 // bytes, about
	ofLine         = 160      // of a day, team, lesson or template
)

func newMemory() *memory {
	return memo.New(mostRemembered, func(t *tally) int {
		return ofLine * (len(t.days) + len(t.teams) + len(t.lessons) + len(t.templates))
	})
}

// remembered adds what some days came to, which read reads when nobody knows it. The
// days have to be over, and read must say the same of them to whoever asks for the same
// teams and has the same members of them before their eyes.
func (c *count) remembered(what string, days []part, read func() (*tally, error)) error {
	if len(days) == 0 {
		return nil
	}
	key := c.keyOf(what, days)
	t, known := c.memory.Get(key)
	if !known {
		var err error
		if t, err = read(); err != nil {
			return err
		}
		c.memory.Put(key, t)
	}
	c.add(t)
	return nil
}

// keyOf is under what a tally is remembered.
func (c *count) keyOf(what string, days []part) (key memo.Key) {
	h := sha256.New()
	text := func(s string) { h.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)) }
	numbers := func(all ...int64) {
		for _, n := range all {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
		}
	}
	ids := func(all []uuid.UUID) {
		numbers(int64(len(all)))
		for _, id := range all {
			h.Write(id[:])
		}
	}
	text(what)
	text(c.plan.zone)
	h.Write(c.plan.epoch[:])
	if c.lead != nil { // what is read through row-level security is for its reader alone
		h.Write(c.lead[:])
	}
	if c.members == nil {
		text("everybody")
	} else {
		ids(c.q.TeamIDs)
		ids(c.members)
	}
	numbers(c.q.From.Unix(), c.q.To.Unix())
	for _, day := range days {
		text(day.Whole)
		numbers(day.StartsAt.Unix(), day.EndsAt.Unix(), day.Round)
	}
	h.Sum(key[:0])
	return key
}

// apart tells parts that are over from the one that goes on.
func apart(parts []part) (over, going []part) {
	for _, p := range parts {
		if p.going {
			going = append(going, p)
		} else {
			over = append(over, p)
		}
	}
	return over, going
}

// readSums reads what Keeper counted of runs, teams, lessons and templates.
func (c *count) readSums(ctx context.Context, tx pgx.Tx) error {
	every, everyGoing := apart(c.plan.every)
	sums, sumsGoing := apart(c.plan.sums)
	if err := c.remembered("days", every, func() (*tally, error) { return c.readDaySums(ctx, tx, every) }); err != nil {
		return err
	}
	if err := c.remembered("sums", sums, func() (*tally, error) { return c.readSubjectSums(ctx, tx, sums) }); err != nil {
		return err
	}
	if len(everyGoing) == 0 {
		return nil
	}
	t, err := c.readDaySums(ctx, tx, everyGoing)
	if err != nil {
		return err
	}
	c.add(t)
	if t, err = c.readSubjectSums(ctx, tx, sumsGoing); err == nil {
		c.add(t)
	}
	return err
}

// readDaySums reads what was counted on each day, of everybody, or of runs for the
// teams asked for.
func (c *count) readDaySums(ctx context.Context, tx pgx.Tx, days []part) (*tally, error) {
	starts := startsOf(days, "day")
	sql, args := `
		select starts_at, runs, cost, unpriced, started, completed
		from ops.activity_sums
		where zone = $1 and whole = 'day' and starts_at = any ($2) and kind = 'all'`, []any{c.plan.zone, starts}
	if c.members != nil {
		sql, args = `
		select starts_at, sum(runs)::bigint, sum(cost), sum(unpriced)::bigint, 0::bigint, 0::bigint
		from public.led_activity_sums
		where zone = $1 and whole = 'day' and starts_at = any ($2) and team_id = any ($3)
		group by starts_at`, append(args, c.q.TeamIDs)
	}
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	var t tally
	var d dayTally
	_, err = pgx.ForEachRow(rows, []any{&d.at, &d.Runs, &d.Cost, &d.Unpriced, &d.started, &d.completed}, func() error {
		t.days = append(t.days, d)
		return nil
	})
	return &t, err
}

// readSubjectSums reads what was counted of each team, and of everybody also what was
// of each lesson and template.
func (c *count) readSubjectSums(ctx context.Context, tx pgx.Tx, parts []part) (*tally, error) {
	var t tally
	args := []any{c.plan.zone, startsOf(parts, "month"), startsOf(parts, "week"), startsOf(parts, "day")}
	const periods = `zone = $1 and (whole = 'month' and starts_at = any ($2) or whole = 'week' and starts_at = any ($3) or whole = 'day' and starts_at = any ($4))`
	rows, err := tx.Query(ctx, `
		select team_id, sum(runs)::bigint, sum(cost), sum(unpriced)::bigint, max(last_at)
		from public.led_activity_sums
		where `+periods+` and ($5::uuid[] is null or team_id = any ($5))
		group by team_id`, append(args, c.q.TeamIDs)...)
	if err != nil {
		return nil, err
	}
	var team teamTally
	if _, err = pgx.ForEachRow(rows, []any{&team.id, &team.Runs, &team.Cost, &team.Unpriced, &team.lastAt}, func() error {
		t.teams = append(t.teams, team)
		return nil
	}); err != nil || c.members != nil {
		return &t, err
	}
	rows, err = tx.Query(ctx, `
		select subject_id, sum(started)::bigint, sum(completed)::bigint, sum(scored)::bigint, sum(score)
		from ops.activity_sums
		where `+periods+` and kind = 'lesson'
		group by subject_id`, args...)
	if err != nil {
		return nil, err
	}
	var l Lesson
	if _, err = pgx.ForEachRow(rows, []any{&l.ID, &l.Started, &l.Completed, &l.Scored, &l.Score}, func() error {
		t.lessons = append(t.lessons, l)
		return nil
	}); err != nil {
		return nil, err
	}
	rows, err = tx.Query(ctx, `
		select subject_id, sum(used)::bigint, sum(viewed)::bigint, sum(forked)::bigint, sum(shared)::bigint, sum(created)::bigint
		from ops.activity_sums
		where `+periods+` and kind = 'template'
		group by subject_id`, args...)
	if err != nil {
		return nil, err
	}
	var m Template
	_, err = pgx.ForEachRow(rows, []any{&m.ID, &m.Used, &m.Viewed, &m.Forked, &m.Shared, &m.Created}, func() error {
		t.templates = append(t.templates, m)
		return nil
	})
	return &t, err
}

// startsOf are the beginnings of the parts of a kind.
func startsOf(parts []part, whole string) []time.Time {
	starts := []time.Time{}
	for _, p := range parts {
		if p.Whole == whole {
			starts = append(starts, p.StartsAt)
		}
	}
	return starts
}
