package eventlog

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Counts are how many events pass a filter, over time.
type Counts struct {
	Starts []time.Time // where the spans begin, and at last where the last one ends
	Spans  []Tally     // one fewer
	Total  Tally
	Step   time.Duration // how long a span is; 0 is a day of the zone
	Known  bool          // false: they could not be counted at once
}

// Tally is how many events there are of each level.
type Tally struct {
	Errors, Warnings, Others int64
}

// Sum is all of them.
func (t Tally) Sum() int64 { return t.Errors + t.Warnings + t.Others }

func (t *Tally) add(level slog.Level, n int64) {
	switch {
	case level >= slog.LevelError:
		t.Errors += n
	case level >= slog.LevelWarn:
		t.Warnings += n
	default:
		t.Others += n
	}
}

const mostSpans = 72

// steps are how long spans can be that are not days.
var steps = []time.Duration{slot, 15 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour}

// spans divides the time of a filter. Spans begin with a day of its zone, so that
// days of 23 and 25 hours have one that is shorter or longer.
func spans(f Filter) (starts []time.Time, step time.Duration) {
	length := f.To.Sub(f.From)
	for _, s := range steps {
		if length <= mostSpans*s {
			step = s
			break
		}
	}
	for _, day := range period.Starts(f.FirstDay(), f.LastDay(), f.Zone) {
		if step == 0 {
			starts = append(starts, day)
			continue
		}
		end := period.DayOf(day, f.Zone).Plus(1).Start(f.Zone)
		for at := day; at.Before(end); at = at.Add(step) {
			starts = append(starts, at)
		}
	}
	// Only those that the filter touches, cut to it.
	first, last := 0, len(starts)-1
	for first+1 < len(starts) && !starts[first+1].After(f.From) {
		first++
	}
	for last > 0 && starts[last-1].Compare(f.To) >= 0 {
		last--
	}
	starts = starts[first : last+1]
	starts[0], starts[len(starts)-1] = f.From, f.To
	return starts, step
}

// Count counts the events that pass. What is counted when it is written costs
// nothing to ask; a request's, a learner's or those with a text are looked for, and
// Known is false when that takes longer than is worth it.
func (s *Store) Count(ctx context.Context, f Filter) (Counts, error) {
	c := Counts{Known: true}
	c.Starts, c.Step = spans(f)
	c.Spans = make([]Tally, len(c.Starts)-1)
	err := s.reader.Read(ctx, func(tx pgx.Tx) error {
		var rows pgx.Rows
		var err error
		if f.RequestID == "" && f.Learner == "" && f.Text == "" {
			rows, err = tx.Query(ctx, `
				select width_bucket(slot, $1::timestamptz[]) - 1, level, sum(n)::bigint
				from ops.log_counts
				where slot >= $2 and slot < $3 and level >= $4 and ($5 = '' or source = $5) and ($6 = '' or event = $6)
				group by 1, 2`, c.Starts, f.From, f.To, int16(least(f)), f.Source, f.Event)
		} else {
			w, err := s.where(ctx, tx, f)
			if err != nil {
				return err
			}
			if f.Text != "" {
				w.text(f.Text)
			}
			if _, err := tx.Exec(ctx, `set local statement_timeout = '300ms'`); err != nil {
				return err
			}
			w.args["starts"] = c.Starts
			if rows, err = tx.Query(ctx, `
				select width_bucket(e.at, @starts::timestamptz[]) - 1, e.level, count(*)
				from ops.log_events e where `+w.sql()+` group by 1, 2`, w.args); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		var span int
		var level int16
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&span, &level, &n}, func() error {
			c.Spans[span].add(slog.Level(level), n)
			c.Total.add(slog.Level(level), n)
			return nil
		})
		return err
	})
	if postgres.TookTooLong(err) && ctx.Err() == nil {
		return Counts{Starts: c.Starts, Spans: make([]Tally, len(c.Spans)), Step: c.Step}, nil
	}
	if err != nil {
		return Counts{}, fmt.Errorf("count log events: %w", err)
	}
	return c, nil
}

// least is the lowest level that passes.
func least(f Filter) slog.Level {
	if level, chosen := levels[f.Level]; chosen {
		return level
	}
	return slog.Level(-1 << 15)
}
