package usage

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
)

// chosen is which attempts a query lets pass, as SQL, whatever its days.
type chosen struct {
	args pgx.NamedArgs
	rows string // conditions on prompt_attempts
	sums string // conditions on ops.usage_sums, where there are such

	kind   rollup.Kind // of the sums that know of all the filters; "": none do, so rows are read
	costly bool        // and there is no index to find those rows
}

// choose turns filters into conditions.
func (s *Store) choose(ctx context.Context, tx pgx.Tx, q Query) (chosen, error) {
	c := chosen{args: pgx.NamedArgs{}, rows: "true", sums: "true", kind: rollup.Model}
	both := func(column, value string) {
		if value != "" {
			c.args[column] = value
			c.rows += " and " + column + " = @" + column
			c.sums += " and " + column + " = @" + column
		}
	}
	both("provider", q.Provider)
	both("model", q.Model)
	both("key_source", q.KeySource)
	if q.TemplateID != nil {
		c.args["template"] = *q.TemplateID
		c.rows += " and template_id = @template"
		c.sums += " and subject_id = @template"
		c.kind = rollup.Template
		if q.Provider != "" || q.Model != "" {
			c.kind, c.costly = "", true
		}
	}
	if q.TeamID != nil {
		c.args["team"] = *q.TeamID
		c.rows += " and team_id = @team"
		c.kind, c.costly = "", false
	}
	if q.TeamIDs != nil {
		c.args["teams"] = q.TeamIDs
		c.rows += " and team_id = any (@teams)"
		c.kind, c.costly = "", false
	}
	if q.Learner != "" {
		var id *uuid.UUID // nobody has that address: nothing was run
		if err := tx.QueryRow(ctx, `select (select id from auth.users where lower(email) = lower($1))`, q.Learner).Scan(&id); err != nil {
			return chosen{}, err
		}
		c.args["learner"] = id
		c.rows += " and user_id = @learner"
		c.kind, c.costly = "", false
	}
	if s.reader.Learner() != nil { // sums are closed to learners
		c.kind = ""
	}
	return c, nil
}

// with returns the arguments and some more.
func (c chosen) with(more pgx.NamedArgs) pgx.NamedArgs {
	for name, value := range c.args {
		more[name] = value
	}
	return more
}

// DayCost is what a day cost.
type DayCost struct {
	Cost     price.USD
	Fallback price.USD // the part that fallback keys paid
	Unpriced int64     // attempts that ended and are not in Cost
}

// DailyCost returns what each day between boundaries cost, as Query.Starts has them,
// by the filters of a query and not by its days. counted says that it was counted:
// it is not where that would mean to read everything. It fails like Report.
func (s *Store) DailyCost(ctx context.Context, q Query, boundaries []time.Time) (days []DayCost, counted bool, err error) {
	days = make([]DayCost, len(boundaries)-1)
	err = s.read(ctx, func(tx pgx.Tx) error {
		c, err := s.choose(ctx, tx, q)
		if err != nil || c.costly {
			return err
		}
		counted = true
		from, to := boundaries[0], boundaries[len(boundaries)-1]
		plan := rollup.Rows(from, to)
		if c.kind != "" {
			known, err := rollup.Read(ctx, tx, q.Zone, from, to)
			if err != nil {
				return err
			}
			plan = known.Plan(c.kind, boundaries)
		}
		type line struct {
			Bucket int
			DayCost
		}
		const sums = `coalesce(sum(cost), 0) as cost, coalesce(sum(cost) filter (where key_source = 'fallback'), 0) as fallback, sum(unpriced)::bigint as unpriced`
		parts := []string{`
			select width_bucket(created_at, @boundaries::timestamptz[]) as bucket, ` + strings.NewReplacer(
			"sum(unpriced)::bigint", "count(*) filter (where cost_usd is null and status <> 'running')", "sum(cost)", "sum(cost_usd)").Replace(sums) + `
			from unnest(@from::timestamptz[], @to::timestamptz[]) span (at, upto)
			join public.prompt_attempts on created_at >= at and created_at < upto
			where ` + c.rows + ` group by bucket`}
		if len(plan.Periods) > 0 {
			parts = append(parts, `
			select p.bucket, `+sums+`
			from unnest(@periods::bigint[], @buckets::integer[]) p (id, bucket)
			join ops.usage_sums on period_id = p.id
			where kind = @kind and model <> '*' and key_source <> '*' and `+c.sums+` group by p.bucket`)
		}
		lines, err := collect[line](ctx, tx, strings.Join(parts, " union all "), c.with(pgx.NamedArgs{
			"boundaries": boundaries, "from": plan.From, "to": plan.To, "periods": plan.Periods, "buckets": plan.Buckets, "kind": c.kind,
		}))
		for _, l := range lines {
			day := &days[l.Bucket-1]
			day.Cost, day.Fallback, day.Unpriced = day.Cost.Add(l.Cost), day.Fallback.Add(l.Fallback), day.Unpriced+l.Unpriced
		}
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("count cost by day: %w", err)
	}
	return days, counted, nil
}
