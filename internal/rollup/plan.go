package rollup

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Known are the periods of a stretch of time whose sums hold. It is true of the
// snapshot in which it was read: use it in the same repeatable-read transaction.
type Known struct {
	periods []summed // by start, the longest first
}

type summed struct {
	id       int64
	level    Level
	from, to time.Time
	at       time.Time // when it was summed
}

// Read finds out which sums between from and to hold, of the days of a zone and of
// shorter periods.
func Read(ctx context.Context, tx pgx.Tx, zone *time.Location, from, to time.Time) (Known, error) {
	rows, err := tx.Query(ctx, `
		select id, level, starts_at, ends_at, summed_at
		from public.usage_periods($1, $2, $3)
		order by starts_at, ends_at desc`, zone.String(), from, to)
	if err != nil {
		return Known{}, err
	}
	var known Known
	var p summed
	_, err = pgx.ForEachRow(rows, []any{&p.id, &p.level, &p.from, &p.to, &p.at}, func() error {
		known.periods = append(known.periods, p)
		return nil
	})
	return known, err
}

// Plan says how to read some buckets of time exactly and with little work: sums of
// periods, and the rows of the rest. No moment is in it twice.
type Plan struct {
	Periods []int64     // ids of ops.usage_periods
	Buckets []int32     // in which each of them is, from 1
	From    []time.Time // rows to take: created_at >= From[i] and < To[i]
	To      []time.Time

	sums []summed // that Periods are the ids of
}

// mostSpans is how many spans of rows are worth reading one by one.
const mostSpans = 40

// Rows is the plan that reads every row.
func Rows(from, to time.Time) Plan {
	return Plan{From: []time.Time{from}, To: []time.Time{to}}
}

// Plan covers the buckets between boundaries with the fewest sums of a kind; of none
// where it is "".
func (k Known) Plan(kind Kind, boundaries []time.Time) Plan {
	if kind == "" {
		return Rows(boundaries[0], boundaries[len(boundaries)-1])
	}
	var plan Plan
	for i := range len(boundaries) - 1 {
		plan.cover(k.periods, kind, int32(i+1), boundaries[i], boundaries[i+1])
	}
	if len(plan.From) > mostSpans { // very much has just changed
		return Rows(boundaries[0], boundaries[len(boundaries)-1])
	}
	return plan
}

func (p *Plan) cover(periods []summed, kind Kind, bucket int32, from, to time.Time) {
	at, _ := slices.BinarySearchFunc(periods, from, func(s summed, t time.Time) int { return s.from.Compare(t) })
	for ; at < len(periods) && periods[at].from.Before(to); at++ {
		s := periods[at]
		if s.from.Before(from) || s.to.After(to) || !s.level.has(kind) {
			continue // within what is taken already, too long, or without such sums
		}
		p.rows(from, s.from)
		p.sums, p.Periods, p.Buckets = append(p.sums, s), append(p.Periods, s.id), append(p.Buckets, bucket)
		from = s.to
	}
	p.rows(from, to)
}

// rows adds a span to read row by row. Spans that meet become one.
func (p *Plan) rows(from, to time.Time) {
	if !from.Before(to) {
		return
	}
	if last := len(p.To) - 1; last >= 0 && p.To[last].Equal(from) {
		p.To[last] = to
		return
	}
	p.From, p.To = append(p.From, from), append(p.To, to)
}
