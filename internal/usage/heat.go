package usage

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
)

// Heat is when in the week the usage is: what each hour of each weekday came to, by
// the clocks of the query's zone. Monday is the first.
type Heat [7][24]HourSum

// HourSum is what all the hours of a kind came to, the Tuesdays from 14 to 15 h say.
type HourSum struct {
	Runs     int64
	Cost     price.USD
	Unpriced int64   // attempts that ended and are not in Cost
	Hours    float64 // how many there were until now; not a whole number where clocks change by half an hour, and for the one that goes on
}

// Heat counts the hours of a query. counted says that it was counted: it is not
// where that would mean to read everything. It fails like Report.
func (s *Store) Heat(ctx context.Context, q Query, now time.Time) (heat Heat, counted bool, err error) {
	q = q.withDefaults()
	for _, h := range period.HoursBetween(q.From, earlier(q.To, now), q.Zone) {
		heat[h.Weekday][h.Clock].Hours += h.End.Sub(h.Start).Hours()
	}
	learner, err := s.learner(ctx, q.Learner)
	if err != nil {
		return Heat{}, false, fmt.Errorf("count hours of the week: %w", err)
	}
	src := source{q, learner}
	if q.TemplateID != nil && !src.indexed() {
		return Heat{}, false, nil // of templates there are no sums by hours
	}
	err = s.read(ctx, func(tx pgx.Tx) error {
		known, err := s.known(ctx, tx, q, q.From)
		if err != nil {
			return err
		}
		rest := rollup.Rows(q.From, q.To)
		if !src.indexed() {
			if rest, err = heat.addDays(ctx, tx, q, known); err != nil {
				return err
			}
		}
		for i := range rest.From {
			if err := heat.addRest(ctx, tx, src, known, rest.From[i], rest.To[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Heat{}, false, fmt.Errorf("count hours of the week: %w", err)
	}
	return heat, true, nil
}

// addDays adds the days whose hours are summed, and returns the rest.
func (heat *Heat) addDays(ctx context.Context, tx pgx.Tx, q Query, known rollup.Known) (rollup.Plan, error) {
	days := period.Starts(q.period().FirstDay(), q.period().LastDay(), q.Zone)
	plan := known.Plan(rollup.Hours, days)
	if len(plan.Periods) == 0 {
		return plan, nil
	}
	weekdays := make([]int32, len(plan.Buckets))
	for i, bucket := range plan.Buckets {
		weekdays[i] = int32((int(days[bucket-1].Weekday()) + 6) % 7)
	}
	type line struct {
		Weekday, Clock int
		Runs           int64
		Cost           price.USD
		Unpriced       int64
	}
	lines, err := collect[line](ctx, tx, `
		select p.weekday, hour.number::integer - 1 as clock, sum(hour.runs)::bigint as runs, sum(hour.cost) as cost, sum(hour.unpriced)::bigint as unpriced
		from unnest($1::bigint[], $2::integer[]) p (id, weekday)
		join ops.usage_hours h on h.period_id = p.id
		cross join unnest(h.runs, h.cost, h.unpriced) with ordinality hour (runs, cost, unpriced, number)
		where case when $3 = '' then model = '*' and provider = coalesce(nullif($4, ''), '*') and key_source = coalesce(nullif($5, ''), '*')
		           else model = $3 and ($4 = '' or provider = $4) and key_source <> '*' and ($5 = '' or key_source = $5) end
		group by p.weekday, hour.number`, plan.Periods, weekdays, q.Model, q.Provider, q.KeySource)
	for _, l := range lines {
		heat[l.Weekday][l.Clock].add(l.Runs, l.Cost, l.Unpriced)
	}
	return plan, err
}

// addRest adds what is between two instants, hour by hour.
func (heat *Heat) addRest(ctx context.Context, tx pgx.Tx, src source, known rollup.Known, from, to time.Time) error {
	src.q.From, src.q.To = from, to
	hours, byHour := period.HoursBetween(from, to, src.q.Zone), set{bucket: true}
	boundaries := []time.Time{from}
	for _, h := range hours {
		boundaries = append(boundaries, h.End)
	}
	c := newCount(src, known, boundaries)
	c.ask(byHour, []string{"runs", "cost", "unpriced"}, nil, false)
	if err := c.send(ctx, tx); err != nil {
		return err
	}
	for place, t := range c.found[byHour] {
		h := hours[place.bucket-1]
		heat[h.Weekday][h.Clock].add(t.runs, t.Cost, t.Unpriced)
	}
	return nil
}

func (h *HourSum) add(runs int64, cost price.USD, unpriced int64) {
	h.Runs, h.Cost, h.Unpriced = h.Runs+runs, h.Cost.Add(cost), h.Unpriced+unpriced
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
