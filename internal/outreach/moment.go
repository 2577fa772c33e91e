package outreach

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// mostChanged is of how many learners it is worth to work out what has changed.
const mostChanged = 5_000

// moment is what a transaction that sees one moment knows of the learners of a scope.
type moment struct {
	now     time.Time
	lead    *source     // of a lead; the rest is then of no interest
	teams   []uuid.UUID // nil: all learners
	stretch stretch
	ids     []uuid.UUID // of the learners it is about; nil: all
	counted bool        // all but ids are as they were counted ahead
}

// stretch is the row of ops.fallback_stretch if it can be used; the zero value is
// none.
type stretch struct {
	FromAt, UntilAt, MadeAt *time.Time
	Learners                bool // of whom all is counted, too
	Marked                  bool // what was added up is not right of everybody any more
}

// read runs fn with the moment of its transaction.
func (s *Store) read(ctx context.Context, scope Scope, now time.Time, fn func(tx pgx.Tx, m moment) error) error {
	m := moment{now: now, teams: scope.Teams}
	if scope.As != nil {
		src, err := s.source(ctx, scope, nil, now)
		if err != nil {
			return err
		}
		m.lead = &src
	}
	return s.reader.Read(ctx, func(tx pgx.Tx) (err error) {
		if m.lead == nil {
			if m.stretch, err = stretchAt(ctx, tx, now); err != nil {
				return err
			}
			switch {
			case m.teams != nil:
				m.ids, err = idsOf(ctx, tx, `select distinct user_id from public.team_members where team_id = any(@teams)`, pgx.NamedArgs{"teams": m.teams})
			case m.stretch.Learners:
				m.ids, err = m.stretch.changed(ctx, tx, now)
				m.counted = len(m.ids) <= mostChanged
			}
			if err != nil {
				return err
			}
		}
		return fn(tx, m)
	})
}

// of is where facts about these learners come from; nil are all of them.
func (m moment) of(ids []uuid.UUID) source {
	r := reading{given: true, marked: m.stretch.Marked, narrow: ids != nil}
	return source{`with ` + r.everything() + r.facts(), reading{teams: m.teams != nil}.inTeams(), pgx.NamedArgs{
		"now": m.now, "since": m.now.Add(-Window), "teams": m.teams, "ids": ids, "from": m.stretch.FromAt, "until": m.stretch.UntilAt}}
}

// everybody is where the facts about all learners of the scope come from.
func (m moment) everybody() source {
	switch {
	case m.lead != nil:
		return *m.lead
	case m.teams != nil:
		return m.of(m.ids)
	}
	return m.of(nil)
}

func stretchAt(ctx context.Context, tx pgx.Tx, now time.Time) (stretch, error) {
	rows, err := tx.Query(ctx, `
		select *, exists (select from ops.key_health_marks where attempts) as marked from (`+stretchNow+`) stretch`, pgx.NamedArgs{"since": now.Add(-Window)})
	if err != nil {
		return stretch{}, err
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[stretch])
	if errors.Is(err, pgx.ErrNoRows) {
		return stretch{}, nil
	}
	return found, err
}

// changed are the learners of whom something may not be as it was counted, up to one
// too many: see migrations/0023.
func (s stretch) changed(ctx context.Context, tx pgx.Tx, now time.Time) ([]uuid.UUID, error) {
	since := now.Add(-Window)
	first, last := now, *s.MadeAt
	if last.Before(first) {
		first, last = last, first
	}
	return idsOf(ctx, tx, `
		select id from (
		  select learner_id as id from ops.key_health_marks
		  union
		  select user_id from public.prompt_runs where id >= @until_id and created_at >= @until
		  union
		  select user_id from public.prompt_runs where id >= @from_id and id < @since_id and created_at >= @from and created_at < @since
		  union
		  select learner_id from ops.outreach where snoozed_until > @first and snoozed_until <= @last
		  union
		  select learner_id from ops.key_health_bans where banned_until > @first and banned_until <= @last
		) changed
		where id is not null
		limit @most`, pgx.NamedArgs{
		"from": *s.FromAt, "from_id": idFrom(*s.FromAt), "since": since, "since_id": idFrom(since.Add(time.Millisecond)),
		"until": *s.UntilAt, "until_id": idFrom(*s.UntilAt), "first": first, "last": last, "most": mostChanged + 1})
}

// idsOf never returns nil: that would be everybody.
func idsOf(ctx context.Context, tx pgx.Tx, sql string, args pgx.NamedArgs) ([]uuid.UUID, error) {
	rows, err := tx.Query(ctx, sql, args)
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	return append([]uuid.UUID{}, ids...), err
}

// idFrom is where the ids of runs of an instant begin: they are in the order of
// time.
func idFrom(at time.Time) (id uuid.UUID) {
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	return id
}
