package usage

import (
	"cmp"
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
	src := s.source(q, learner)
	if q.TemplateID != nil && !src.few() {
		return Heat{}, false, nil // of templates there are no sums by hours
	}
	err = s.read(ctx, func(tx pgx.Tx) error {
		known, err := s.known(ctx, tx, q, q.From)
		if err != nil {
			return err
		}
		rest := rollup.Rows(q.From, q.To)
		if !src.few() {
			if rest, err = s.heatOfDays(ctx, tx, &heat, src, known); err != nil {
				return err
			}
		}
		for i := range rest.From {
			if err := s.heatOfRest(ctx, tx, &heat, src, known, rest.From[i], rest.To[i]); err != nil {
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

// heatOfDays adds the days whose hours are summed, and returns the rest.
func (s *Store) heatOfDays(ctx context.Context, tx pgx.Tx, heat *Heat, src source, known rollup.Known) (rest rollup.Plan, err error) {
	days := period.Starts(src.q.period().FirstDay(), src.q.period().LastDay(), src.q.Zone)
	for _, part := range known.Parts(rollup.Hours, days) {
		rest.From, rest.To = append(rest.From, part.From...), append(rest.To, part.To...)
		if len(part.Periods) == 0 {
			continue
		}
		weekdays := make([]int32, len(part.Buckets))
		for i, bucket := range part.Buckets {
			weekdays[i] = int32((int(days[bucket-1].Weekday()) + 6) % 7)
		}
		cells, err := found(ctx, tx, s.memory, src, part.Version, src.hours(part.Periods, weekdays))
		if err != nil {
			return rest, err
		}
		for c := range cells {
			heat[c.Bucket/24][c.Bucket%24].add(c.Runs, c.Cost, c.Unpriced)
		}
	}
	return rest, nil
}

// hours counts the hours of days from their sums; buckets are the hours of the week,
// from 0.
func (s source) hours(days []int64, weekdays []int32) (st statement) {
	st.add(`
		select (p.weekday * 24 + hour.number - 1)::int as bucket, sum(hour.runs)::bigint as runs, sum(hour.cost) as cost, sum(hour.unpriced)::bigint as unpriced
		from unnest(?::bigint[], ?::integer[]) p (id, weekday)
		join ops.usage_hours h on h.period_id = p.id
		cross join unnest(h.runs, h.cost, h.unpriced) with ordinality hour (runs, cost, unpriced, number)
		where `, days, weekdays)
	if s.q.Model == "" {
		st.add(`model = '*' and provider = ? and key_source = ?`, cmp.Or(s.q.Provider, "*"), cmp.Or(s.q.KeySource, "*"))
	} else {
		st.add(`model = ? and key_source <> '*'`, s.q.Model)
		if s.q.Provider != "" {
			st.add(` and provider = ?`, s.q.Provider)
		}
		if s.q.KeySource != "" {
			st.add(` and key_source = ?`, s.q.KeySource)
		}
	}
	st.add(` group by p.weekday, hour.number`)
	return st
}

// heatOfRest adds what is between two instants, hour by hour.
func (s *Store) heatOfRest(ctx context.Context, tx pgx.Tx, heat *Heat, src source, known rollup.Known, from, to time.Time) error {
	src.q.From, src.q.To = from, to
	hours, byHour := period.HoursBetween(from, to, src.q.Zone), set{bucket: true}
	boundaries := []time.Time{from}
	for _, h := range hours {
		boundaries = append(boundaries, h.End)
	}
	c := s.newCount(src, known, boundaries)
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
