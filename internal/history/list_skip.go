package history

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/rollup"
)

// stretches are the parts of a filter's days in which there can be runs that pass, in
// the direction of a cursor. The sums of attempts tell of the others that there are
// none: a run that ended has an attempt for each of its models, with its template, and
// costs what they cost together. One that goes on has none yet, but that takes half an
// hour at most, and what is not over for an hour is in no sum.
//
// They are of all runs, also for whoever may see only some.
func (s *Store) stretches(ctx context.Context, f Filter, at Cursor) ([]rollup.Span, error) {
	whole := []rollup.Span{{From: f.From, To: f.To}}
	sought := f.sought()
	if len(sought) == 0 || !f.picky() || f.From.IsZero() || f.To.IsZero() {
		return whole, nil
	}
	from, to := f.From, f.To
	switch { // what lies behind a cursor need not be told apart
	case at.After != uuid.Nil:
		from = later(from, createdAt(at.After))
	case at.Before != uuid.Nil:
		to = earlier(to, createdAt(at.Before).Add(time.Millisecond))
	}
	if !from.Before(to) {
		return whole, nil
	}
	var spans []rollup.Span
	err := s.all.Read(ctx, func(tx pgx.Tx) error {
		known, err := rollup.Read(ctx, tx, f.Zone, from, to)
		if err != nil {
			return err
		}
		spans, err = known.Among(ctx, tx, sought, from, to)
		return err
	})
	if at.After == uuid.Nil {
		slices.Reverse(spans)
	}
	return spans, err
}

// sought is what the sums have to say for there to be such a run.
func (f Filter) sought() (all []rollup.Sought) {
	if f.Status == "running" {
		return nil
	}
	key := func(where string) string { return where + ` and (@key = '' or s.key_source = @key)` }
	switch {
	case f.Model != "" || f.Provider != "":
		all = append(all, rollup.Sought{
			Kind:  rollup.Model,
			Where: key(`s.subject_id is null and (@provider = '' or s.provider = @provider) and (@model = '' or s.model = @model)`),
			Args:  pgx.NamedArgs{"provider": f.Provider, "model": f.Model, "key": f.KeySource},
		})
	case f.KeySource != "":
		all = append(all, rollup.Sought{Kind: rollup.Key, Where: `s.key_source = @key`, Args: pgx.NamedArgs{"key": f.KeySource}})
	}
	if f.TemplateID != nil {
		all = append(all, rollup.Sought{Kind: rollup.Template, Where: `s.subject_id = @template`, Args: pgx.NamedArgs{"template": *f.TemplateID}})
	}
	if f.MinCost != nil {
		all = append(all, rollup.Sought{
			Kind:  rollup.Key, // there is no run that costs more than all attempts together
			Where: `(select sum(o.cost) from ops.usage_sums o where o.period_id = s.period_id and o.kind = 'key') >= @cost`,
			Args:  pgx.NamedArgs{"cost": f.MinCost},
		})
	}
	return all
}

// beyondSpan is where to go on looking after a stretch: next to the one that follows.
func beyondSpan(at Cursor, next rollup.Span) Cursor {
	if at.After != uuid.Nil {
		return Cursor{After: edgeID(next.From.Add(-time.Millisecond), true)}
	}
	return Cursor{Before: edgeID(next.To, false)}
}

// edgeID is the first or the last id that a run of a millisecond can have.
func edgeID(at time.Time, last bool) uuid.UUID {
	id := firstID(at)
	id[6], id[8] = 0x70, 0x80
	if last {
		for i := 6; i < len(id); i++ {
			id[i] |= 0xff
		}
		id[6], id[8] = 0x7f, 0xbf
	}
	return id
}

// leads is the class of error that the runs which pass have, and by whose index they
// are found; "" is none. A run is interrupted when one of its attempts is.
func (f Filter) leads() string {
	switch {
	case f.TeamIDs != nil:
		return ""
	case f.ErrorClass == "" && f.Status == "interrupted":
		return "interrupted"
	default:
		return f.ErrorClass
	}
}

// nthLed is the run of the n-th attempt of the class that leads from a cursor on; uuid.Nil when there are not so many.
func nthLed(ctx context.Context, tx pgx.Tx, f Filter, at Cursor, n int) (run uuid.UUID, err error) {
	w := where{args: pgx.NamedArgs{"n": n - 1, "class": f.leads(), "fromAt": earliest(f.From), "toAt": latest(f.To)}}
	w.add("error_class = @class and created_at >= @fromAt and created_at < @toAt")
	order := "created_at desc, run_id desc"
	switch {
	case at.After != uuid.Nil:
		order = "created_at, run_id"
		w.add("created_at >= @at and (created_at, run_id) > (@at, @run)", "at", createdAt(at.After), "run", at.After)
	case at.Before != uuid.Nil:
		w.add("created_at <= @at and (created_at, run_id) < (@at, @run)", "at", createdAt(at.Before), "run", at.Before)
	}
	err = tx.QueryRow(ctx, `select run_id from public.prompt_attempts where `+w.text()+` order by `+order+` offset @n limit 1`, w.args).Scan(&run)
	return run, err
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
