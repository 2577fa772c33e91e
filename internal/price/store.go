package price

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promptcademy/promptops/internal/postgres"
)

// Store keeps prices in ops.model_prices.
type Store struct {
	db postgres.DB
}

// NewStore returns a Store on db.
func NewStore(db postgres.DB) *Store { return &Store{db} }

// Seed adds the list prices the program comes with where they are missing, and
// returns how many were. It never changes a row. Several nodes may seed at once.
func (s *Store) Seed(ctx context.Context) (int, error) {
	prices, err := seedPrices()
	if err != nil {
		return 0, err
	}
	// One transaction and always the same order: nodes that seed at once wait
	// for each other instead of deadlocking.
	batch := &pgx.Batch{}
	added := 0
	for _, p := range prices {
		batch.Queue(`
			insert into ops.model_prices
			  (provider, model, input, output, cache_read, cache_write_5m, cache_write_1h,
			   tier_above_input_tokens, tier_input, tier_output,
			   tier_cache_read, tier_cache_write_5m, tier_cache_write_1h,
			   context_window, effective_from, effective_to, daily_from, daily_to,
			   source, source_date, note, seeded)
			values
			  ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
			   coalesce($15::timestamptz, '-infinity'), coalesce($16::timestamptz, 'infinity'), $17::interval::time, $18::interval::time,
			   $19, $20, $21, true)
			on conflict (provider, model, effective_from, daily_from) where seeded do nothing`,
			p.Provider, p.Model, p.Input, p.Output, p.CacheRead, p.CacheWrite5m, p.CacheWrite1h,
			p.TierAboveInputTokens, p.TierInput, p.TierOutput,
			p.TierCacheRead, p.TierCacheWrite5m, p.TierCacheWrite1h,
			p.ContextWindow, p.EffectiveFrom, p.EffectiveTo, p.DailyFrom, p.DailyTo,
			p.Source, p.SourceDate, p.Note,
		).Exec(func(tag pgconn.CommandTag) error {
			added += int(tag.RowsAffected())
			return nil
		})
	}
	if err := s.db.SendBatch(ctx, batch).Close(); err != nil {
		return 0, fmt.Errorf("seed prices: %w", err)
	}
	return added, nil
}

// columns are those of a Price.
const columns = `
		       id, provider, model, input, output, cache_read, cache_write_5m, cache_write_1h,
		       tier_above_input_tokens, tier_input, tier_output,
		       tier_cache_read, tier_cache_write_5m, tier_cache_write_1h,
		       context_window,
		       case when isfinite(effective_from) then effective_from end as effective_from,
		       case when isfinite(effective_to) then effective_to end as effective_to,
		       daily_from::interval, daily_to::interval,
		       source, source_date, note, seeded`

// Load reads every price that holds at some time.
func (s *Store) Load(ctx context.Context) (*Book, error) {
	book, _, err := s.load(ctx)
	return book, err
}

// load also returns the number of the prices in ops.facts_version. It is read
// first: what is read after it is at least as new.
func (s *Store) load(ctx context.Context) (book *Book, version int64, err error) {
	batch := &pgx.Batch{}
	batch.Queue(`select prices from ops.facts_version`).QueryRow(func(row pgx.Row) error { return row.Scan(&version) })
	batch.Queue(`select` + columns + ` from ops.model_prices where withdrawn_at is null`).Query(func(rows pgx.Rows) error {
		prices, err := pgx.CollectRows(rows, pgx.RowToStructByName[Price])
		book = NewBook(prices)
		return err
	})
	if err := s.db.SendBatch(ctx, batch).Close(); err != nil {
		return nil, 0, fmt.Errorf("load prices: %w", err)
	}
	return book, version, nil
}
