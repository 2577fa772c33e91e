package rollup

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Unpriced is the kind of ops.usage_unpriced: attempts without a price by provider
// and model, with their tokens, the first and the last. It is not what Sums counts as
// unpriced: an attempt that failed before it used anything has no cost either, and
// needs none.
const Unpriced Kind = "unpriced"

// sumUnpriced stores the sums of a period that is read from rows.
func sumUnpriced(ctx context.Context, tx pgx.Tx, id int64, p span) error {
	_, err := tx.Exec(ctx, `
		insert into ops.usage_unpriced (period_id, provider, model, attempts, tokens, first_at, last_at)
		select $1, provider, model, count(*), coalesce(sum(total_tokens), 0), min(created_at), max(created_at)
		from public.prompt_attempts
		where cost_source = 'unpriced' and created_at >= $2 and created_at < $3
		group by provider, model`, id, p.from, p.to)
	return err
}

// mergeUnpriced stores the sums of a period whose parts are summed already.
func mergeUnpriced(ctx context.Context, tx pgx.Tx, id int64, p span) error {
	_, err := tx.Exec(ctx, `
		insert into ops.usage_unpriced (period_id, provider, model, attempts, tokens, first_at, last_at)
		select $1, provider, model, sum(attempts), sum(tokens), min(first_at), max(last_at)
		from ops.usage_unpriced
		where period_id in (
		  select id from ops.usage_periods where zone = $2 and level = $3 and starts_at >= $4 and ends_at <= $5)
		group by provider, model`, id, p.zone, p.level-1, p.from, p.to)
	return err
}
