package activity

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/promptcademy/promptops/internal/price"
)

// learnerFacts are what is known of one learner.
type learnerFacts struct {
	id          uuid.UUID
	days        daySet
	firstRun    time.Time // of the period; zero: none
	firstLesson time.Time // completed in the period; zero: none
	last        lastRun
	completed   int  // lessons, in the period
	before      bool // something was done first before the period
}

// lastRun is somebody's last run of all; the zero value is none.
type lastRun struct {
	at     time.Time
	id     uuid.UUID
	failed bool
}

func (l *lastRun) update(o lastRun) {
	if o.at.After(l.at) || o.at.Equal(l.at) && slices.Compare(o.id[:], l.id[:]) > 0 {
		*l = o
	}
}

// earliest sets at to other if that is a time, in the period, and before it.
func earliest(at *time.Time, other time.Time, q Query) {
	if !other.IsZero() && !other.Before(q.From) && other.Before(q.To) && (at.IsZero() || other.Before(*at)) {
		*at = other
	}
}

// learners are facts by learner: of those in index, which belongs to a page of the
// ledger, and of others. There are tens of thousands, which are gone through often.
type learners struct {
	all    []learnerFacts
	index  map[uuid.UUID]int // place in all
	others map[uuid.UUID]int
}

// find returns what is known of a learner; nil: nothing.
func (l *learners) find(id uuid.UUID) *learnerFacts {
	if at := l.place(id); at >= 0 {
		return &l.all[at]
	}
	return nil
}

// place is where a learner is in all; -1: nothing is known.
func (l *learners) place(id uuid.UUID) int {
	if at, known := l.index[id]; known {
		return at
	}
	if at, known := l.others[id]; known {
		return at
	}
	return -1
}

// of is find that makes place for a new learner. What it returns is good until it is
// called for the next one.
func (l *learners) of(id uuid.UUID) *learnerFacts {
	if facts := l.find(id); facts != nil {
		return facts
	}
	if l.others == nil {
		l.others = map[uuid.UUID]int{}
	}
	l.others[id] = len(l.all)
	l.all = append(l.all, learnerFacts{id: id})
	return &l.all[len(l.all)-1]
}

// open makes place for the learners of a page, in its order.
func (l *learners) open(p page) {
	known := l.all
	*l = learners{all: make([]learnerFacts, len(p.entries), len(p.entries)+len(known)), index: p.index}
	for i := range p.entries {
		l.all[i].id = p.entries[i].id
	}
	for _, facts := range known {
		*l.of(facts.id) = facts
	}
}

// readCounted reads of each learner what Keeper counted. Whose times cannot be
// trusted, because something of theirs has just changed, is looked up.
func (c *count) readCounted(ctx context.Context, tx pgx.Tx) error {
	var doubtful []uuid.UUID
	if err := c.open(ctx, tx, func(b *book) {
		if c.members == nil {
			c.learners.open(b.learners)
			for i := range b.learners.entries {
				if e := &b.learners.entries[i]; !c.take(&c.learners.all[i], e, e.days) {
					doubtful = append(doubtful, e.id)
				}
			}
		} else {
			for _, id := range c.members {
				if at, known := b.learners.index[id]; known {
					e := &b.learners.entries[at]
					if !c.take(c.learners.of(id), &entry{firstLesson: e.firstLesson, completed: e.completed}, e.learned) {
						doubtful = append(doubtful, id)
					}
				}
			}
			for _, team := range c.q.TeamIDs {
				for _, e := range b.members[team].all() {
					if !c.take(c.learners.of(e.id), &e, e.days) {
						doubtful = append(doubtful, e.id)
					}
				}
			}
		}
		c.countTeamLearners(b)
	}); err != nil || len(doubtful) == 0 {
		return err
	}
	return c.lookUp(ctx, tx, doubtful)
}

// open calls fn with what was counted of learners, or of those whom a lead may see.
func (c *count) open(ctx context.Context, tx pgx.Tx, fn func(*book)) error {
	if c.lead == nil {
		return c.ledger.open(ctx, tx, &c.plan, fn)
	}
	b, err := readLed(ctx, tx, c.plan.zone, c.q.TeamIDs, c.members)
	if err == nil {
		fn(b)
	}
	return err
}

// take adds what was counted of a learner; sure says whether the times are right.
func (c *count) take(facts *learnerFacts, e *entry, words []uint64) (sure bool) {
	q, p := c.q, &c.plan
	number := numberOf(p.first)
	days := from(words, number)
	for i := range days {
		facts.days[i] |= days[i] & p.counted[i]
	}
	for _, day := range e.completed {
		if i := int(day) - number; i >= c.base && i < len(p.starts)-1 && p.counted.has(i) {
			facts.completed++
		}
	}
	if p.doubts(e.firstRun) || p.doubts(e.last.at) || p.doubts(e.firstLesson) {
		return false
	}
	facts.before = facts.before || !e.firstRun.IsZero() && e.firstRun.Before(q.From) || !e.firstLesson.IsZero() && e.firstLesson.Before(q.From)
	earliest(&facts.firstRun, e.firstRun, q)
	earliest(&facts.firstLesson, e.firstLesson, q)
	facts.last.update(e.last)
	return true
}

// countTeamLearners counts who ran something for each team on the days that are
// counted, beside those whom the rows named.
func (c *count) countTeamLearners(b *book) {
	number := numberOf(c.plan.first)
	count := func(id uuid.UUID, members *page) {
		n, named := 0, map[uuid.UUID]bool(nil)
		if team := c.teams[id]; team != nil {
			named = team.active
		}
		for i := range members.all() {
			e := &members.entries[i]
			days := from(e.days, number)
			for word := range days {
				days[word] &= c.plan.counted[word]
			}
			if days.any(c.base, len(c.plan.starts)-2) && !named[e.id] {
				n++
			}
		}
		if n > 0 {
			c.team(id).Active += n
		}
	}
	if c.members == nil {
		for id, members := range b.members {
			count(id, members)
		}
		return
	}
	for _, id := range c.q.TeamIDs {
		count(id, b.members[id])
	}
}

// doubts says whether a time is in a quarter of an hour in which something has just
// changed.
func (p *plan) doubts(at time.Time) bool {
	if len(p.marked) == 0 || at.IsZero() {
		return false
	}
	_, found := slices.BinarySearchFunc(p.marked, at.Truncate(markLength), time.Time.Compare)
	return found
}

// lookUp reads the times of some learners from their own rows.
func (c *count) lookUp(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) error {
	rows, err := tx.Query(ctx, `
		select asked.id, first.at, last.created_at, last.id, coalesce(last.failed, false), lesson.at
		from unnest($1::uuid[]) as asked (id)
		left join lateral (
		  select min(created_at) as at from public.prompt_runs
		  where user_id = asked.id and created_at >= $2 and created_at < $3 and ($4::uuid[] is null or (team_id = any ($4)) is true)) first on true
		left join lateral (
		  select created_at, id, status in ('error', 'interrupted') as failed from public.prompt_runs
		  where user_id = asked.id and ($4::uuid[] is null or (team_id = any ($4)) is true)
		  order by created_at desc, id desc limit 1) last on true
		left join lateral (
		  select min(completed_at) as at from public.user_progress
		  where user_id = asked.id and completed_at >= $2 and completed_at < $3) lesson on true`, ids, c.q.From, c.q.To, c.q.TeamIDs)
	if err != nil {
		return err
	}
	var id uuid.UUID
	var first, lastAt, lesson *time.Time
	var lastID *uuid.UUID
	var failed bool
	_, err = pgx.ForEachRow(rows, []any{&id, &first, &lastAt, &lastID, &failed, &lesson}, func() error {
		facts := c.learners.of(id)
		facts.firstRun, facts.firstLesson, facts.last, facts.before = orZero(first), orZero(lesson), lastRun{}, false
		if lastAt != nil {
			facts.last = lastRun{*lastAt, *lastID, failed}
		}
		return nil
	})
	return err
}

func orZero(at *time.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return *at
}

// readRows reads the rows that are not counted, in one look at them: who was active
// on which day, and what their runs cost, by learner and team.
func (c *count) readRows(ctx context.Context, tx pgx.Tx) error {
	q, p, r := c.q, c.plan, c.report
	before, _ := q.Before()
	n := int32(len(p.starts) - 1)
	did, args := c.uncounted(pgtype.Bits{Bytes: make([]byte, (n+7)/8), Len: n, Valid: true}, p.starts, q.From, q.To, before)
	rows, err := tx.Query(ctx, `
		select user_id, team_id, ran,
		       bit_or(set_bit($1::"bit", width_bucket(at, $2::timestamptz[]) - 1, 1)) filter (where at < $4) as days,
		       count(*) filter (where ran and at >= $3 and at < $4) as runs,
		       coalesce(sum(cost) filter (where at >= $3 and at < $4), 0) as cost,
		       coalesce(sum(unpriced) filter (where at >= $3 and at < $4), 0)::bigint as unpriced,
		       count(*) filter (where ran and at >= $5 and at < $3) as runs_before,
		       coalesce(sum(cost) filter (where at >= $5 and at < $3), 0) as cost_before,
		       coalesce(sum(unpriced) filter (where at >= $5 and at < $3), 0)::bigint as unpriced_before,
		       min(at) filter (where ran and at >= $3 and at < $4) as first_run,
		       min(at) filter (where finished and at >= $3 and at < $4) as first_lesson,
		       max(at) filter (where ran and at >= $3 and at < $4) as last_in,
		       max(at) filter (where ran) as last_at,
		       coalesce(max(id::text || failed::int) filter (where ran), '') as last,
		       count(*) filter (where finished and at >= $3 and at < $4) as completed
		from `+did+`
		group by user_id, team_id, ran`,
		args...)
	if err != nil {
		return err
	}
	type row struct {
		UserID                     uuid.UUID
		TeamID                     *uuid.UUID
		Ran                        bool
		Days                       pgtype.Bits
		Runs, Unpriced             int64
		Cost                       price.USD
		RunsBefore, UnpricedBefore int64
		CostBefore                 price.USD
		FirstRun, FirstLesson      *time.Time
		LastIn, LastAt             *time.Time
		Last                       string // the run's id, and whether it failed: the highest id is the last one's
		Completed                  int
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return err
	}
	for _, f := range found {
		facts := c.learners.of(f.UserID)
		for i, word := range setOf(f.Days.Bytes) {
			facts.days[i] |= word
		}
		earliest(&facts.firstRun, orZero(f.FirstRun), q)
		earliest(&facts.firstLesson, orZero(f.FirstLesson), q)
		facts.completed += f.Completed
		if id, failed, ran := cutLast(f.Last); ran {
			facts.last.update(lastRun{*f.LastAt, id, failed})
		}
		spent := Spent{Runs: f.Runs, Cost: f.Cost, Unpriced: f.Unpriced}
		r.Spent.add(spent)
		r.Before.Spent.add(Spent{Runs: f.RunsBefore, Cost: f.CostBefore, Unpriced: f.UnpricedBefore})
		if f.TeamID != nil && f.Runs > 0 {
			c.team(*f.TeamID).addRuns(spent, *f.LastIn)
			c.team(*f.TeamID).active[f.UserID] = true
		}
	}
	return nil
}

// uncounted is the SQL of everything that was done in the spans of the plan, and the
// arguments for it behind some others, of which the fourth is when the period ends.
func (c *count) uncounted(args ...any) (string, []any) {
	runs, learners := "true", "true"
	if c.members != nil {
		args = append(args, c.q.TeamIDs, c.members)
		runs, learners = `team_id = any ($6)`, c.ofMembers("$7")
		if c.lead != nil { // row-level security looks for the teams led, as for their members
			runs = `(team_id = any ($6)) is true`
		}
	}
	did := `
		  select user_id, team_id, created_at as at, true as ran, false as finished, total_cost_usd as cost, unpriced, id, status in ('error', 'interrupted') as failed
		  from public.prompt_runs
		  where user_id is not null and created_at >= {since} and created_at < {upto} and id >= {first} and id < {last} and ` + runs + `
		  union all
		  select user_id, null, started_at, false, false, null, null, null, null
		  from public.user_progress
		  where started_at >= {since} and started_at < {upto} and started_at < $4 and ` + learners + `
		  union all
		  select user_id, null, completed_at, false, true, null, null, null, null
		  from public.user_progress
		  where completed_at >= {since} and completed_at < {upto} and completed_at < $4 and ` + learners + `
		  union all
		  select user_id, null, created_at, false, false, null, null, null, null
		  from public.template_events
		  where user_id is not null and created_at >= {since} and created_at < {upto} and created_at < $4 and ` + learners
	ids, untilIDs := c.plan.runIDs()
	if len(c.plan.from) > mostStretches {
		n := len(args)
		named := strings.NewReplacer("{since}", "since", "{upto}", "upto", "{first}", "first_id", "{last}", "last_id")
		return fmt.Sprintf(`unnest($%d::timestamptz[], $%d::timestamptz[], $%d::uuid[], $%d::uuid[]) as span (since, upto, first_id, last_id), lateral (`, n+1, n+2, n+3, n+4) +
			named.Replace(did) + `) did`, append(args, c.plan.from, c.plan.to, ids, untilIDs)
	}
	// One by one, so that the planner knows how short they are, and in which months.
	var parts []string
	for i := range c.plan.from {
		n := len(args)
		args = append(args, c.plan.from[i], c.plan.to[i], ids[i], untilIDs[i])
		place := func(k int) string { return fmt.Sprintf("$%d", n+k) }
		parts = append(parts, strings.NewReplacer("{since}", place(1), "{upto}", place(2), "{first}", place(3), "{last}", place(4)).Replace(did))
	}
	return `(` + strings.Join(parts, ` union all `) + `) did`, args
}

// cutLast reads a run's id and whether it failed.
func cutLast(text string) (id uuid.UUID, failed, ran bool) {
	if len(text) != 37 {
		return uuid.Nil, false, false
	}
	id, err := uuid.Parse(text[:36])
	return id, text[36] == '1', err == nil
}

// raw is a row as it came, in Postgres's binary format.
type raw [][]byte

// eachRaw calls fn with every row. There are tens of thousands: reading them field by
// field in the usual way is most of the work.
func eachRaw(rows pgx.Rows, fn func(raw)) error {
	defer rows.Close()
	for rows.Next() {
		for _, field := range rows.FieldDescriptions() {
			if field.Format != pgtype.BinaryFormatCode {
				return fmt.Errorf("column %s did not come in the binary format", field.Name)
			}
		}
		fn(rows.RawValues())
	}
	return rows.Err()
}

func (r raw) uuid(column int) (id uuid.UUID) {
	copy(id[:], r[column])
	return id
}

func (r raw) bool(column int) bool { return len(r[column]) == 1 && r[column][0] != 0 }

// bits leaves out the length that comes first.
func (r raw) bits(column int) []byte {
	if len(r[column]) < 4 {
		return nil
	}
	return r[column][4:]
}

// shorts reads an array of smallints.
func (r raw) shorts(column int) (all []int16) {
	for b := r[column][min(20, len(r[column])):]; len(b) >= 6; b = b[6:] { // after the array's head each has a length
		all = append(all, int16(binary.BigEndian.Uint16(b[4:])))
	}
	return all
}

// time is the zero time for null. What comes are microseconds since 2000.
func (r raw) time(column int) time.Time {
	if len(r[column]) != 8 {
		return time.Time{}
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(r[column])) + 946_684_800_000_000).UTC()
}
