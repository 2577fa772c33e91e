package usage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/rollup"
)

// Store reads prompt_attempts and the sums that are kept of it, and gives up rather
// than take the database away from the run endpoint.
type Store struct {
	reader postgres.Reader
	all    postgres.Reader // of what that which was found is called, and no policy lets a learner see
	memory *memory
	sums   *rollup.Periods
}

// NewStore returns a Store that reads with reader. It remembers what cannot change:
// one is enough for a program.
func NewStore(reader postgres.Reader) *Store {
	return &Store{reader, reader, newMemory(), &rollup.Periods{}}
}

// As returns a Store that sees what row-level security lets the learner see.
func (s *Store) As(learnerID uuid.UUID) *Store {
	return &Store{s.reader.As(learnerID), s.all, s.memory, s.sums}
}

// Report counts the attempts of a query. fault.Unavailable: there are too many
// to count in time, or the database is away.
func (s *Store) Report(ctx context.Context, q Query) (report Report, err error) {
	q = q.withDefaults()
	learner, err := s.learner(ctx, q.Learner)
	if err == nil {
		err = s.read(ctx, func(tx pgx.Tx) error {
			report, err = s.report(ctx, tx, s.source(q, learner))
			return err
		})
	}
	if err == nil {
		err = s.name(ctx, q, &report)
	}
	if err != nil {
		return Report{}, fmt.Errorf("count usage: %w", err)
	}
	return report, nil
}

// Span is a stretch of time: From counts, To no longer does.
type Span struct{ From, To time.Time }

// Totals counts all attempts of each span, at the same moment. It fails like
// Report.
func (s *Store) Totals(ctx context.Context, zone *time.Location, spans ...Span) (totals []Totals, err error) {
	err = s.read(ctx, func(tx pgx.Tx) error {
		for _, span := range spans {
			q := Query{From: span.From, To: span.To, Zone: zone}.withDefaults()
			known, err := s.known(ctx, tx, q, span.From)
			if err != nil {
				return err
			}
			c := s.newCount(s.source(q, nil), known, []time.Time{span.From, span.To})
			c.ask(set{}, nil, nil, true)
			if err := c.send(ctx, tx); err != nil {
				return err
			}
			totals = append(totals, c.found[set{}][key{bucket: 1}].totals())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count usage: %w", err)
	}
	return totals, nil
}

// learner finds the account that a filter names. For an address that nobody has it
// is uuid.Nil, which never ran anything: who may not see a learner does not get to
// know either whether there is one.
func (s *Store) learner(ctx context.Context, email string) (*uuid.UUID, error) {
	if email == "" {
		return nil, nil
	}
	var id uuid.UUID
	err := s.all.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `select id from auth.users where lower(email) = lower($1)`, email).Scan(&id)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return &id, err
}

func (s *Store) source(q Query, learner *uuid.UUID) source {
	return source{q, learner, s.reader.Learner()}
}

// known are the sums that hold from an instant to the end of a query. A lead may have
// those of the teams that they lead; of anything else there are none for a learner,
// who sees only what is their own of it.
func (s *Store) known(ctx context.Context, tx pgx.Tx, q Query, from time.Time) (rollup.Known, error) {
	if learner := s.reader.Learner(); learner != nil {
		if q.TeamIDs == nil {
			return rollup.Known{}, nil
		}
		var leads bool
		err := tx.QueryRow(ctx, `
			select $1::uuid[] <@ array(select team_id from public.team_members where user_id = $2 and role = 'lead')`, q.TeamIDs, learner).Scan(&leads)
		if err != nil || !leads {
			return rollup.Known{}, err
		}
	}
	return s.sums.Read(ctx, tx, q.Zone, from, q.To)
}

// report counts in two steps: first what is needed to know which groups are the
// largest, then what is shown of those.
func (s *Store) report(ctx context.Context, tx pgx.Tx, src source) (Report, error) {
	q, boundaries := src.q, src.q.boundaries()
	before, from := s.source(q.Previous(), src.learner), q.From
	if q.Compare {
		from = before.q.From
	}
	known, err := s.known(ctx, tx, q, from)
	if err != nil {
		return Report{}, err
	}
	byDuration := q.Metric == Durations || q.Metric == FirstToken
	whole, groups, points := set{}, set{group: true}, set{bucket: true}
	lines, subs := set{bucket: true, group: true}, set{group: true, sub: true}
	orders, rest := q.Metric.orders()

	c := s.newCount(src, known, boundaries)
	c.ask(whole, nil, nil, true)
	if !c.indexed() || c.kind(groups) == "" {
		c.askRows(groups, nil, true)
	}
	c.rank(orders)
	c.ask(points, q.Metric.columns(), nil, byDuration)
	if !byDuration && c.alongside(lines) {
		c.askRows(lines, q.Metric.columns(), false)
	}
	if q.Sub != "" && c.alongside(subs) {
		c.askRows(subs, nil, true)
	}
	if err := c.send(ctx, tx); err != nil {
		return Report{}, err
	}
	r := Report{Totals: c.found[whole][key{bucket: 1}].totals(), Points: c.found[points].points(boundaries, byDuration)}
	most := MostGroups
	if q.Sub != "" {
		most = MostDivided
	}
	largest, count := c.largest(most)
	if count > 0 {
		c.ask(groups, rest, some(largest, len(largest), count), true)
		if !byDuration {
			c.ask(lines, q.Metric.columns(), some(largest, MostLines, count), false)
		}
		if q.Sub != "" {
			c.ask(subs, nil, some(largest, len(largest), count), true)
		}
		if err := c.send(ctx, tx); err != nil {
			return Report{}, err
		}
	}
	r.Groups, r.Others = groupsFrom(largest, count, r.Totals, q.Group)
	for i := range r.Groups {
		g := &r.Groups[i]
		if i < MostLines && !byDuration {
			g.Points = make([]Sums, len(r.Points))
			for at := range g.Points {
				if t := c.found[lines][key{int32(at + 1), g.ID, ""}]; t != nil {
					g.Points[at] = Sums{t.Sum, t.runs}
				}
			}
		}
		if q.Sub != "" {
			parts, count := c.found[subs].of(g.ID).largest(q.Metric, MostSubs)
			g.Subs, g.OtherSubs = groupsFrom(parts, count, g.Totals, q.Sub)
		}
	}
	if !q.Compare {
		return r, nil
	}
	earlier := s.newCount(before, known, q.mirrored())
	earlier.ask(whole, nil, nil, true)
	earlier.ask(points, q.Metric.columns(), nil, byDuration)
	if err := earlier.send(ctx, tx); err != nil {
		return Report{}, err
	}
	r.Before = &Earlier{before.q.From, before.q.To, earlier.found[whole][key{bucket: 1}].totals(), earlier.found[points].points(q.mirrored(), byDuration)}
	return r, nil
}

// some are the IDs of the first n of so many groups; nil, where that is all of them.
func some(groups []part, n, count int) (ids []string) {
	if count <= n {
		return nil
	}
	for _, g := range groups[:min(n, len(groups))] {
		ids = append(ids, g.id)
	}
	return ids
}

func sortedUnique[T comparable](all []T, compare func(a, b T) int) []T {
	slices.SortFunc(all, compare)
	return slices.Compact(all)
}

func collect[T any](ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByNameLax[T]) // a cell may have some columns only
}

// read is Read with a message for whoever asked for too many days.
func (s *Store) read(ctx context.Context, fn func(tx pgx.Tx) error) error {
	err := s.reader.Read(ctx, fn)
	if postgres.TookTooLong(err) {
		return fault.New(fault.Unavailable, "These days hold too much to count in %d seconds. Choose a shorter range, or narrow the filters.",
			int(postgres.ReadTimeout.Seconds())).Because(err)
	}
	return err
}
