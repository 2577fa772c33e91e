package rollup

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/period"
)

// Hours is the kind of ops.usage_hours: what a day came to by the hours of its
// clocks. There are sums by provider, model and key source, and of all of them
// ('*') with any provider and key source.
const Hours Kind = "hours"

// sumHours stores the sums of a day's hours. They are told apart by their beginnings
// and not by Postgres's own knowledge of the zone, which may be of another year than
// ours.
func sumHours(ctx context.Context, tx pgx.Tx, id int64, p span) error {
	var starts []time.Time
	var clocks []int32
	for _, h := range period.HoursBetween(p.from, p.to, p.from.Location()) {
		starts, clocks = append(starts, h.Start), append(clocks, int32(h.Clock))
	}
	_, err := tx.Exec(ctx, `
		with attempts as materialized (
		  select run_id, provider, model, coalesce(key_source, '') as key_source, cost_usd, status,
		         ($5::integer[])[width_bucket(created_at, $4::timestamptz[])] as clock
		  from public.prompt_attempts where created_at >= $2 and created_at < $3
		),
		summed as (
		  select coalesce(provider, '*') as provider, coalesce(model, '*') as model, coalesce(key_source, '*') as key_source, clock,
		         count(distinct run_id) as runs, coalesce(sum(cost_usd), 0) as cost, count(*) filter (where cost_usd is null and status <> 'running') as unpriced
		  from attempts
		  group by grouping sets ((clock), (clock, provider), (clock, key_source), (clock, provider, key_source), (clock, provider, model, key_source))
		)
		insert into ops.usage_hours (period_id, provider, model, key_source, runs, cost, unpriced)
		select $1, provider, model, key_source,
		       array_agg(coalesce(s.runs, 0) order by clock), array_agg(coalesce(s.cost, 0) order by clock), array_agg(coalesce(s.unpriced, 0) order by clock)
		from (select distinct provider, model, key_source from summed) parts
		cross join generate_series(0, 23) clock
		left join summed s using (provider, model, key_source, clock)
		group by provider, model, key_source`, id, p.from, p.to, starts, clocks)
	return err
}
