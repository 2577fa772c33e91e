package price

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/rollup"
)

// Unpriced is a model of which attempts have no price.
type Unpriced struct {
	Provider    string
	Model       string // the provider's own name
	Attempts    int64
	Tokens      int64 // of them
	First, Last time.Time
}

// FullName is the model as runs ask for it.
func (u Unpriced) FullName() string { return u.Provider + "/" + u.Model }

// longest is longer than any period of package rollup.
const longest = 65

// Unpriced returns the models of which attempts have no price, those with the most
// attempts first.
func (j *Jobs) Unpriced(ctx context.Context) ([]Unpriced, error) {
	var found []Unpriced
	err := j.reader.Read(ctx, func(tx pgx.Tx) error {
		var first, last *time.Time
		err := tx.QueryRow(ctx, `
			select min(created_at), max(created_at) from public.prompt_attempts where cost_source = 'unpriced'`).Scan(&first, &last)
		if err != nil || first == nil {
			return err
		}
		from, to := first.AddDate(0, 0, -longest), last.AddDate(0, 0, longest)
		known, err := rollup.Read(ctx, tx, j.zone, from, to)
		if err != nil {
			return err
		}
		plan := known.Plan(rollup.Unpriced, []time.Time{from, to})
		rows, err := tx.Query(ctx, `
			select provider, substr(model, length(provider) + 2) as model, sum(attempts)::bigint as attempts, sum(tokens)::bigint as tokens,
			       min(first_at) as first, max(last_at) as last
			from (
			  select provider, model, attempts, tokens, first_at, last_at from ops.usage_unpriced where period_id = any ($1)
			  union all
			  select provider, model, 1, coalesce(total_tokens, 0), created_at, created_at
			  from unnest($2::timestamptz[], $3::timestamptz[]) span (from_at, to_at)
			  join public.prompt_attempts a on a.created_at >= span.from_at and a.created_at < span.to_at
			  where cost_source = 'unpriced'
			) parts
			group by 1, 2
			order by attempts desc, provider, model`, plan.Periods, plan.From, plan.To)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowToStructByName[Unpriced])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read unpriced models: %w", err)
	}
	return found, nil
}
