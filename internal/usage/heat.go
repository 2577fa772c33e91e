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

// hourBucket is an hour of the week, 0 to 167.
func hourBucket(h period.Hour) int32 { return int32(24*h.Weekday + h.Clock) }

// Heat counts the hours of a query. counted says that it was counted: it is not
// where that would mean to read everything. It fails like Report.
func (s *Store) Heat(ctx context.Context, q Query, now time.Time) (heat Heat, counted bool, err error) {
	for _, h := range period.HoursBetween(q.From, earlier(q.To, now), q.Zone) {
		heat[h.Weekday][h.Clock].Hours += h.End.Sub(h.Start).Hours()
	}
	err = s.read(ctx, func(tx pgx.Tx) error {
		c, err := s.choose(ctx, tx, q)
		if err != nil || c.costly || c.kind == rollup.Template {
			return err // of templates there are no sums by hours
		}
		counted = true
		return heat.count(ctx, tx, q, c)
	})
	if err != nil {
		return Heat{}, false, fmt.Errorf("count hours of the week: %w", err)
	}
	return heat, counted, nil
}

// count takes whole days from sums by hours, the rest from sums of quarters of an
// hour and of hours, and what is left from rows.
func (heat *Heat) count(ctx context.Context, tx pgx.Tx, q Query, c chosen) error {
	var batch pgx.Batch
	rest := rollup.Rows(q.From, q.To)
	if c.kind != "" {
		known, err := rollup.Read(ctx, tx, q.Zone, q.From, q.To)
		if err != nil {
			return err
		}
		rest = heat.queueDays(&batch, q, c, known)
		rest = heat.queueParts(&batch, q, c, known, rest)
	}
	var starts []time.Time
	var buckets []int32
	for i := range rest.From {
		for _, h := range period.HoursBetween(rest.From[i], rest.To[i], q.Zone) {
			starts, buckets = append(starts, h.Start), append(buckets, hourBucket(h))
		}
	}
	batch.Queue(`
		select (@buckets::integer[])[width_bucket(created_at, @starts::timestamptz[])] as bucket,
		       count(distinct run_id) as runs, coalesce(sum(cost_usd), 0) as cost, count(*) filter (where cost_usd is null and status <> 'running') as unpriced
		from unnest(@from::timestamptz[], @to::timestamptz[]) span (at, upto)
		join public.prompt_attempts on created_at >= at and created_at < upto
		where `+c.rows+` group by bucket`,
		c.with(pgx.NamedArgs{"starts": starts, "buckets": buckets, "from": rest.From, "to": rest.To})).Query(heat.add)
	return tx.SendBatch(ctx, &batch).Close()
}

// queueDays asks for the days whose hours are summed, and returns the rest.
func (heat *Heat) queueDays(batch *pgx.Batch, q Query, c chosen, known rollup.Known) rollup.Plan {
	days := period.Starts(q.period().FirstDay(), q.period().LastDay(), q.Zone)
	plan := known.Plan(rollup.Hours, days)
	weekdays := make([]int32, len(plan.Buckets))
	for i, bucket := range plan.Buckets {
		weekdays[i] = int32((int(days[bucket-1].Weekday()) + 6) % 7)
	}
	if len(plan.Periods) > 0 {
		where := "model = '*' and provider = @any_provider and key_source = @any_key"
		if q.Model != "" {
			where = c.sums
		}
		batch.Queue(`
			select 24 * p.weekday + hour.number::integer - 1 as bucket, sum(hour.runs)::bigint as runs, sum(hour.cost) as cost, sum(hour.unpriced)::bigint as unpriced
			from unnest(@periods::bigint[], @weekdays::integer[]) p (id, weekday)
			join ops.usage_hours h on h.period_id = p.id
			cross join unnest(h.runs, h.cost, h.unpriced) with ordinality hour (runs, cost, unpriced, number)
			where `+where+` group by p.weekday, hour.number`,
			c.with(pgx.NamedArgs{
				"periods": plan.Periods, "weekdays": weekdays, "any_provider": anyIfEmpty(q.Provider), "any_key": anyIfEmpty(q.KeySource),
			})).Query(heat.add)
	}
	return plan
}

// queueParts asks for the sums of parts of days in what is left of a plan, and
// returns what is left then.
func (heat *Heat) queueParts(batch *pgx.Batch, q Query, c chosen, known rollup.Known, left rollup.Plan) (rest rollup.Plan) {
	var periods []int64
	var buckets []int32
	for i := range left.From {
		hours := period.HoursBetween(left.From[i], left.To[i], q.Zone)
		bounds := []time.Time{left.From[i]}
		for _, h := range hours {
			bounds = append(bounds, h.End)
		}
		plan := known.Plan(rollup.Model, bounds)
		for at, id := range plan.Periods {
			periods, buckets = append(periods, id), append(buckets, hourBucket(hours[plan.Buckets[at]-1]))
		}
		rest.From, rest.To = append(rest.From, plan.From...), append(rest.To, plan.To...)
	}
	if len(periods) == 0 {
		return rest
	}
	// Runs of several models are summed on their own.
	runs, which := "model = '*'", "model <> '*' and "+c.sums+" or model = '*' and provider = @any_provider and key_source = @any_key"
	if q.Model != "" {
		runs, which = "true", c.sums
	}
	batch.Queue(`
		select p.bucket, coalesce(sum(runs) filter (where `+runs+`), 0)::bigint as runs, sum(cost) as cost, sum(unpriced)::bigint as unpriced
		from unnest(@periods::bigint[], @buckets::integer[]) p (id, bucket)
		join ops.usage_sums on period_id = p.id
		where kind = 'model' and (`+which+`) group by p.bucket`,
		c.with(pgx.NamedArgs{
			"periods": periods, "buckets": buckets, "any_provider": anyIfEmpty(q.Provider), "any_key": anyIfEmpty(q.KeySource),
		})).Query(heat.add)
	return rest
}

func (heat *Heat) add(rows pgx.Rows) error {
	type line struct {
		Bucket   int
		Runs     int64
		Cost     price.USD
		Unpriced int64
	}
	lines, err := pgx.CollectRows(rows, pgx.RowToStructByName[line])
	for _, l := range lines {
		sum := &heat[l.Bucket/24][l.Bucket%24]
		sum.Runs, sum.Cost, sum.Unpriced = sum.Runs+l.Runs, sum.Cost.Add(l.Cost), sum.Unpriced+l.Unpriced
	}
	return err
}

// anyIfEmpty is the name under which sums know no filter.
func anyIfEmpty(filter string) string {
	if filter == "" {
		return "*"
	}
	return filter
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
