package run

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/audit"
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

// InForce is the limits in force, and who set them when.
type InForce struct {
	Budgets
	ChangedAt time.Time  // zero: nobody ever has
	ChangedBy *uuid.UUID // the operator; nil: the configuration, at the first start
	Name      string     // the operator's; may be empty
	Email     string     // the operator's; empty: they are gone
}

// InForce returns the limits in force.
func (s *BudgetStore) InForce(ctx context.Context) (InForce, error) {
	rows, _ := s.db.Query(ctx, `
		select b.daily_usd, b.learner_daily_usd, b.runs_per_minute, b.concurrent_runs, b.fallback_max_tokens,
		       b.updated_at as changed_at, b.updated_by as changed_by, coalesce(o.name, '') as name, coalesce(o.email, '') as email
		from ops.budgets b left join ops.operators o on o.id = b.updated_by`) // CollectOneRow returns its error
	found, err := pgx.CollectOneRow(rows, pgx.RowToStructByName[InForce])
	if errors.Is(err, pgx.ErrNoRows) {
		return InForce{Budgets: Budgets{FallbackMaxTokens: DefaultFallbackMaxTokens}}, nil
	}
	return found, postgres.Fault(err)
}

// Limits of limits.
const (
	maxRunsPerMinute  = 600
	maxConcurrentRuns = 1000
	usdDecimals       = 9
)

var maxUSD = price.NewUSD(decimal.New(1, 9))

// ParseBudgets reads limits as they were typed: dailyUsd, learnerDailyUsd,
// runsPerMinute, concurrentRuns and fallbackMaxTokens. An empty one is no limit.
// What cannot be one is fault.Invalid, with every bad field.
func ParseBudgets(values url.Values) (Budgets, error) {
	var b Budgets
	var problems []fault.Field
	typed := func(field string) string { return strings.TrimSpace(values.Get(field)) }
	refuse := func(field, message string) { problems = append(problems, fault.Field{Field: field, Message: message}) }
	money := func(field string) *price.USD {
		text := strings.TrimSpace(strings.TrimPrefix(typed(field), "$"))
		if text == "" {
			return nil
		}
		usd, err := price.ParseUSD(text)
		if err != nil {
			refuse(field, "is not an amount of dollars; write it like 25 or 0.50")
			return nil
		}
		return &usd
	}
	number := func(field string) *int {
		if typed(field) == "" {
			return nil
		}
		n, err := strconv.Atoi(typed(field))
		if err != nil && !errors.Is(err, strconv.ErrRange) { // then it is the largest there is
			refuse(field, "is not a whole number; write it like 10")
			return nil
		}
		return &n
	}
	b.DailyUSD, b.LearnerDailyUSD = money("dailyUsd"), money("learnerDailyUsd")
	b.RunsPerMinute, b.ConcurrentRuns = number("runsPerMinute"), number("concurrentRuns")
	b.FallbackMaxTokens = DefaultFallbackMaxTokens
	if n := number("fallbackMaxTokens"); n != nil {
		b.FallbackMaxTokens = *n
	} else if typed("fallbackMaxTokens") == "" {
		refuse("fallbackMaxTokens", fmt.Sprintf("is needed: without it nobody knows what an answer can cost at most; %d is usual", DefaultFallbackMaxTokens))
	}
	if f, ok := errors.AsType[*fault.Error](b.check()); ok {
		problems = append(problems, f.Details...)
	}
	if len(problems) > 0 {
		return Budgets{}, fault.InvalidFields(problems)
	}
	return b, nil
}

// Values are the limits as ParseBudgets reads them.
func (b Budgets) Values() url.Values {
	values := url.Values{"dailyUsd": {""}, "learnerDailyUsd": {""}, "runsPerMinute": {""}, "concurrentRuns": {""}}
	for field, usd := range map[string]*price.USD{"dailyUsd": b.DailyUSD, "learnerDailyUsd": b.LearnerDailyUSD} {
		if usd != nil {
			values.Set(field, usd.String())
		}
	}
	for field, n := range map[string]*int{"runsPerMinute": b.RunsPerMinute, "concurrentRuns": b.ConcurrentRuns, "fallbackMaxTokens": &b.FallbackMaxTokens} {
		if n != nil {
			values.Set(field, strconv.Itoa(*n))
		}
	}
	return values
}

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
		switch {
		case money.limit == nil:
		case money.limit.Cmp(price.USD{}) < 0:
			refuse(money.field, "must not be negative; leave it empty for no limit")
		case money.limit.Cmp(maxUSD) > 0:
			refuse(money.field, "must be at most %s; leave it empty for no limit", maxUSD)
		case !money.limit.Decimal().Equal(money.limit.Decimal().Truncate(usdDecimals)):
			refuse(money.field, "must have at most %d digits after the point", usdDecimals)
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

// Set changes the limits that were last changed at the moment given; they hold for
// every run that starts from now on, on all nodes. It returns those that held
// until now; if they are the same, nothing is changed, and nobody has changed
// anything. Bad values are fault.Invalid, and it is fault.Conflict when somebody
// else was first.
func (s *BudgetStore) Set(ctx context.Context, b Budgets, changedAt time.Time, operatorID uuid.UUID, now time.Time) (before Budgets, err error) {
	if err := b.check(); err != nil {
		return Budgets{}, err
	}
	old, err := s.InForce(ctx)
	if err != nil {
		return Budgets{}, err
	}
	if !old.ChangedAt.Equal(changedAt) {
		return old.Budgets, errLimitsChanged
	}
	if !changedAt.IsZero() && b.equal(old.Budgets) {
		return old.Budgets, nil
	}
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			insert into ops.budgets as b (daily_usd, learner_daily_usd, runs_per_minute, concurrent_runs, fallback_max_tokens, updated_by, updated_at)
			values ($1, $2, $3, $4, $5, $6, $7)
			on conflict (only_row) do update set
			  daily_usd = excluded.daily_usd, learner_daily_usd = excluded.learner_daily_usd, runs_per_minute = excluded.runs_per_minute,
			  concurrent_runs = excluded.concurrent_runs, fallback_max_tokens = excluded.fallback_max_tokens,
			  updated_by = excluded.updated_by, updated_at = greatest(excluded.updated_at, b.updated_at + interval '1 microsecond')
			where b.updated_at = $8`,
			b.DailyUSD, b.LearnerDailyUSD, b.RunsPerMinute, b.ConcurrentRuns, b.FallbackMaxTokens, operatorID, now, changedAt)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return errLimitsChanged
		}
		var email string
		if err := tx.QueryRow(ctx, `select coalesce((select email from ops.operators where id = $1), '')`, operatorID).Scan(&email); err != nil {
			return err
		}
		return audit.Add(ctx, tx, audit.Entry{
			At: now, Actor: audit.Operator(operatorID, email), Action: "budgets.set", SubjectType: "budgets", Details: limitChanges(old.Budgets, b),
		})
	})
	return old.Budgets, postgres.Fault(err)
}

// limitChanges are the limits that differ, for the audit log.
func limitChanges(before, after Budgets) map[string]any {
	was, is := before.Values(), after.Values()
	value := func(s string) any {
		if s == "" {
			return nil // no limit
		}
		return s
	}
	changes := map[string]any{}
	for field := range is {
		if was.Get(field) != is.Get(field) {
			changes[field] = audit.Change{From: value(was.Get(field)), To: value(is.Get(field))}
		}
	}
	return changes
}

var errLimitsChanged = fault.New(fault.Conflict, "Somebody else has changed the limits meanwhile.")

func (b Budgets) equal(c Budgets) bool {
	return same(b.DailyUSD, c.DailyUSD, price.USD.Equal) && same(b.LearnerDailyUSD, c.LearnerDailyUSD, price.USD.Equal) &&
		same(b.RunsPerMinute, c.RunsPerMinute, sameInt) && same(b.ConcurrentRuns, c.ConcurrentRuns, sameInt) &&
		b.FallbackMaxTokens == c.FallbackMaxTokens
}

func sameInt(a, b int) bool { return a == b }

// same says whether both are there and equal, or neither is there.
func same[T any](a, b *T, equal func(a, b T) bool) bool {
	if a == nil || b == nil {
		return a == b
	}
	return equal(*a, *b)
}

// Used is money spent and set aside on fallback keys.
type Used struct {
	Day      price.USD     // today, all keys
	Keys     []KeyUsed     // this month, by provider; every key there is, and those gone that were used
	Learners []LearnerUsed // today, the largest first, at most ten
}

// KeyUsed is one fallback key's month.
type KeyUsed struct {
	KeyID    uuid.UUID
	Provider string // empty: the key is gone
	Label    string
	Cap      *price.USD // nil: none
	USD      price.USD
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
	var used Used
	var batch pgx.Batch
	batch.Queue(`
		select coalesce(sum(used_usd), 0) from ops.budget_counters
		where scope = 'platform' and period = $1::date`, day).QueryRow(func(row pgx.Row) error {
		return row.Scan(&used.Day)
	})
	batch.Queue(`
		select coalesce(k.id, c.subject) as key_id, coalesce(k.provider, '') as provider, coalesce(k.label, '') as label,
		       k.monthly_cap_usd as cap, coalesce(c.used_usd, 0) as usd
		from ops.fallback_keys k
		full join (select subject, used_usd from ops.budget_counters where scope = 'key' and period = $1::date) c on c.subject = k.id
		where k.id is not null or c.used_usd <> 0
		order by k.provider, k.priority, k.label, key_id`, month).Query(func(rows pgx.Rows) (err error) {
		used.Keys, err = pgx.CollectRows(rows, pgx.RowToStructByName[KeyUsed])
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

// CatchUp recounts if there are no counters yet but runs that should have been
// counted: those of a version that did not count.
func (s *BudgetStore) CatchUp(ctx context.Context, now time.Time) error {
	days, next := s.month(now)
	var behind bool
	err := s.db.QueryRow(ctx, `
		select not exists (select from ops.budget_counters) and exists (
		  select from public.prompt_attempts
		  where created_at >= $1 and created_at < $2 and key_source = 'fallback' and cost_usd is not null)`, days[0].begin, next).Scan(&behind)
	if err != nil || !behind {
		return postgres.Fault(err)
	}
	return s.Recount(ctx, now)
}

// Recount makes the counters of this month anew from the rows. They are always
// right already, unless runs were written or removed by anybody but the run
// endpoint. Runs wait meanwhile. A transaction that does more than this should
// begin with the lock of ops.budget_counters, as those of runs do.
func (s *BudgetStore) Recount(ctx context.Context, now time.Time) error {
	days, next := s.month(now)
	dates, begins := make([]string, len(days)), make([]time.Time, len(days))
	for i, day := range days {
		dates[i], begins[i] = day.date, day.begin
	}
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `lock table ops.budget_counters in share row exclusive mode`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from ops.budget_counters where period >= $1::date`, dates[0]); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			with counted as (
			  select ($3::date[])[width_bucket(created_at, $4::timestamptz[])] as day, fallback_key_id as key_id, user_id, cost_usd as usd
			  from public.prompt_attempts
			  where created_at >= $1 and created_at < $2 and key_source = 'fallback' and cost_usd is not null
			  union all
			  select (r.plan ->> 'day')::date, (a ->> 'keyId')::uuid, r.user_id, (a ->> 'held')::numeric
			  from public.prompt_runs r, jsonb_array_elements(r.plan -> 'attempts') a
			  where r.status = 'running' and r.created_at >= $1 and r.plan ->> 'day' >= $5 and a ->> 'held' is not null
			)
			insert into ops.budget_counters (scope, subject, period, used_usd)
			select 'platform', '00000000-0000-0000-0000-000000000000', day, sum(usd) from counted group by day
			union all
			select 'learner', user_id, day, sum(usd) from counted where user_id is not null group by user_id, day
			union all
			select 'key', key_id, date_trunc('month', day)::date, sum(usd) from counted group by 2, 3`,
			begins[0], next, dates, begins, dates[0])
		return err
	})
	if err != nil {
		return postgres.Fault(fmt.Errorf("recount budgets: %w", err))
	}
	return nil
}

// budgetDay is a day of a budget month.
type budgetDay struct {
	date  string // YYYY-MM-DD
	begin time.Time
}

// month returns the days of an instant's budget month, and the beginning of the
// next month.
func (s *BudgetStore) month(now time.Time) (days []budgetDay, next time.Time) {
	local := now.In(s.zone)
	date := time.Date(local.Year(), local.Month(), 1, 0, 0, 0, 0, time.UTC) // of no zone in particular
	for ; date.Month() == local.Month(); date = date.AddDate(0, 0, 1) {
		days = append(days, budgetDay{date.Format(time.DateOnly), s.begin(date)})
	}
	return days, s.begin(date)
}

// begin is the first instant of a date. Where clocks are put forward at midnight
// that is not midnight.
func (s *BudgetStore) begin(date time.Time) time.Time {
	at := time.Date(date.Year(), date.Month(), date.Day(), 0, 0, 0, 0, s.zone)
	if at.Day() != date.Day() { // midnight was left out, and this is before the gap
		_, at = at.ZoneBounds()
	}
	return at
}
