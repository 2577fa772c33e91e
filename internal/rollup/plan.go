package rollup

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Plan says how to read a span of time exactly and with little work: whole days and
// quarters of an hour from ops.usage_sums, the rest from prompt_attempts. It holds
// for the snapshot in which it was made: use it in the same repeatable-read
// transaction.
type Plan struct {
	Zone  string
	Days  []time.Time // starts_at of the zone's days to take
	Slots []time.Time // starts_at of the quarters of an hour (zone '') to take
	From  []time.Time // rows to take: created_at >= From[i] and < To[i]
	To    []time.Time
}

// mostSpans is how many spans of rows are worth reading one by one.
const mostSpans = 40

// Rows is the plan that reads every row.
func Rows(from, to time.Time) Plan {
	return Plan{From: []time.Time{from}, To: []time.Time{to}}
}

// NewPlan plans for a span whose days begin at boundaries, the last of which is its
// end, in a zone.
func NewPlan(ctx context.Context, tx pgx.Tx, zone *time.Location, boundaries []time.Time) (Plan, error) {
	plan := Plan{Zone: zone.String()}
	rows, err := tx.Query(ctx, `
		select zone, starts_at, ends_at
		from ops.usage_periods p
		where zone in ('', $1) and starts_at >= $2 and ends_at <= $3
		  and not exists (
		    select from ops.usage_marks m
		    where m.slot > p.starts_at - interval '15 minutes' and m.slot < p.ends_at)
		order by starts_at`, plan.Zone, boundaries[0], boundaries[len(boundaries)-1])
	if err != nil {
		return Plan{}, err
	}
	days := map[int64]time.Time{} // end by start
	var slots []span
	var p span
	if _, err := pgx.ForEachRow(rows, []any{&p.zone, &p.from, &p.to}, func() error {
		if p.zone == "" {
			slots = append(slots, p)
		} else {
			days[p.from.Unix()] = p.to
		}
		return nil
	}); err != nil {
		return Plan{}, err
	}
	for i := range len(boundaries) - 1 {
		from, to := boundaries[i], boundaries[i+1]
		if end, summed := days[from.Unix()]; summed && end.Equal(to) {
			plan.Days = append(plan.Days, from)
			continue
		}
		at, _ := slices.BinarySearchFunc(slots, from, func(p span, t time.Time) int { return p.from.Compare(t) })
		for ; at < len(slots) && !slots[at].to.After(to); at++ {
			plan.rows(from, slots[at].from)
			plan.Slots = append(plan.Slots, slots[at].from)
			from = slots[at].to
		}
		plan.rows(from, to)
	}
	if len(plan.From) > mostSpans { // very much has just changed
		return Rows(boundaries[0], boundaries[len(boundaries)-1]), nil
	}
	return plan, nil
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
