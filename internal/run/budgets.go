package run

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
)

// BudgetStore reads and changes the limits, and says how much of them is used.
type BudgetStore struct {
	db   postgres.DB
	zone *time.Location // where days and months begin
}

// NewBudgetStore returns a BudgetStore on db.
func NewBudgetStore(db postgres.DB, zone *time.Location) *BudgetStore { return &BudgetStore{db, zone} }

// Budgets returns the limits in force.
func (s *BudgetStore) Budgets(ctx context.Context) (Budgets, error) {
	var b Budgets
	var batch pgx.Batch
	queueBudgets(&batch, &b)
	err := s.db.SendBatch(ctx, &batch).Close()
	return b, postgres.Fault(err)
}

// Limits of limits.
const (
	maxRunsPerMinute  = 600
	maxConcurrentRuns = 1000
)

// check refuses what cannot be a limit, every field of it.
func (b Budgets) check() error {
	var problems []fault.Field
	refuse := func(field, format string, args ...any) {
		problems = append(problems, fault.Field{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	for _, money := range []struct {
		field string
		limit *price.USD
	}{{"dailyUsd", b.DailyUSD}, {"learnerDailyUsd", b.LearnerDailyUSD}} {
		if money.limit != nil && money.limit.Cmp(price.USD{}) < 0 {
			refuse(money.field, "must not be negative; leave it empty for no limit")
		}
	}
	if n := b.RunsPerMinute; n != nil && (*n < 1 || *n > maxRunsPerMinute) {
		refuse("runsPerMinute", "must be between 1 and %d; leave it empty for no limit", maxRunsPerMinute)
	}
	if n := b.ConcurrentRuns; n != nil && (*n < 1 || *n > maxConcurrentRuns) {
		refuse("concurrentRuns", "must be between 1 and %d; leave it empty for no limit", maxConcurrentRuns)
	}
	if b.FallbackMaxTokens < 1 || b.FallbackMaxTokens > maxTokens {
		refuse("fallbackMaxTokens", "must be between 1 and %d", maxTokens)
	}
	if len(problems) > 0 {
		return fault.InvalidFields(problems)
	}
	return nil
}

// DefaultFallbackMaxTokens is asked for where nobody has set another number.
const DefaultFallbackMaxTokens = 4096

// Seed sets the first limits, unless some have been set before.
func (s *BudgetStore) Seed(ctx context.Context, b Budgets) error {
	if err := b.check(); err != nil {
		return err
	}
	_, err := s.db.Exec(ctx, `
		insert into ops.budgets (daily_usd, learner_daily_usd, runs_per_minute, concurrent_runs, fallback_max_tokens)
		values ($1, $2, $3, $4, $5) on conflict do nothing`,
		b.DailyUSD, b.LearnerDailyUSD, b.RunsPerMinute, b.ConcurrentRuns, b.FallbackMaxTokens)
	return postgres.Fault(err)
}

// Set changes the limits; they hold for every run that starts from now on, on all
// nodes. Bad values are fault.Invalid.
func (s *BudgetStore) Set(ctx context.Context, b Budgets, operatorID uuid.UUID) error {
	if err := b.check(); err != nil {
		return err
	}
	_, err := s.db.Exec(ctx, `
		insert into ops.budgets (daily_usd, learner_daily_usd, runs_per_minute, concurrent_runs, fallback_max_tokens, updated_by)
		values ($1, $2, $3, $4, $5, $6)
		on conflict (only_row) do update set
		  daily_usd = excluded.daily_usd, learner_daily_usd = excluded.learner_daily_usd, runs_per_minute = excluded.runs_per_minute,
		  concurrent_runs = excluded.concurrent_runs, fallback_max_tokens = excluded.fallback_max_tokens,
		  updated_at = now(), updated_by = excluded.updated_by`,
		b.DailyUSD, b.LearnerDailyUSD, b.RunsPerMinute, b.ConcurrentRuns, b.FallbackMaxTokens, operatorID)
	return postgres.Fault(err)
}

// Used is money spent and set aside on fallback keys.
type Used struct {
	Day      price.USD               // today, all keys
	Keys     map[uuid.UUID]price.USD // this month, by key
	Learners []LearnerUsed           // today, the largest first, at most ten
}

// LearnerUsed is one learner's part of a day.
type LearnerUsed struct {
	LearnerID uuid.UUID
	Email     string // empty: the account is gone
	USD       price.USD
}

// Used says what counts against the limits at this moment.
func (s *BudgetStore) Used(ctx context.Context, now time.Time) (Used, error) {
	day, month := s.periods(now)
	used := Used{Keys: map[uuid.UUID]price.USD{}}
	var batch pgx.Batch
	batch.Queue(`
		select scope, subject, used_usd from ops.budget_counters
		where scope = 'platform' and period = $1::date or scope = 'key' and period = $2::date`, day, month).Query(func(rows pgx.Rows) error {
		var of scope
		var subject uuid.UUID
		var amount price.USD
		_, err := pgx.ForEachRow(rows, []any{&of, &subject, &amount}, func() error {
			if of == ofPlatform {
				used.Day = amount
			} else {
				used.Keys[subject] = amount
			}
			return nil
		})
		return err
	})
	batch.Queue(`
		select c.subject as learner_id, coalesce(u.email, '') as email, c.used_usd as usd
		from ops.budget_counters c left join auth.users u on u.id = c.subject
		where c.scope = 'learner' and c.period = $1::date and c.used_usd > 0
		order by c.used_usd desc, c.subject limit 10`, day).Query(func(rows pgx.Rows) (err error) {
		used.Learners, err = pgx.CollectRows(rows, pgx.RowToStructByName[LearnerUsed])
		return err
	})
	err := s.db.SendBatch(ctx, &batch).Close()
	return used, postgres.Fault(err)
}

// periods are the budget day and the first day of the budget month.
func (s *BudgetStore) periods(now time.Time) (day, month string) {
	local := now.In(s.zone)
	return local.Format(time.DateOnly), local.Format("2006-01-") + "01"
}

// Recount makes the counters of today and this month anew from the rows. They are
// always right already, unless runs were written or removed by anybody but the
// run endpoint. Runs wait meanwhile.
func (s *BudgetStore) Recount(ctx context.Context, now time.Time) error {
	day, month := s.periods(now)
	local := now.In(s.zone)
	dayStart := time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, s.zone)
	monthStart := time.Date(local.Year(), local.Month(), 1, 0, 0, 0, 0, s.zone)
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `lock table ops.budget_counters in share row exclusive mode`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from ops.budget_counters where period >= $1::date`, month); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			with spent as (
			  select created_at >= $1 as today, fallback_key_id as key_id, user_id, cost_usd as usd
			  from public.prompt_attempts
			  where created_at >= $2 and created_at < $3 and key_source = 'fallback' and cost_usd is not null
			  union all
			  select r.plan ->> 'day' = $4, (a ->> 'keyId')::uuid, r.user_id, (a ->> 'held')::numeric
			  from public.prompt_runs r, jsonb_array_elements(r.plan -> 'attempts') a
			  where r.status = 'running' and r.created_at >= $5 and a ? 'held'
			)
			insert into ops.budget_counters (scope, subject, period, used_usd)
			select 'platform', '00000000-0000-0000-0000-000000000000', $4::date, sum(usd) from spent where today having sum(usd) is not null
			union all
			select 'learner', user_id, $4::date, sum(usd) from spent where today and user_id is not null group by user_id
			union all
			select 'key', key_id, $6::date, sum(usd) from spent group by key_id`,
			dayStart, monthStart, monthStart.AddDate(0, 1, 0), day, now.Add(-longestRun), month)
		return err
	})
	if err != nil {
		return postgres.Fault(fmt.Errorf("recount budgets: %w", err))
	}
	return nil
}
