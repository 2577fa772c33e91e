package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// limitsIn are the limits in force in a database.
func limitsIn(t *testing.T, database string) string {
	t.Helper()
	return strings.Join(linesOf(t, database, `
		select concat_ws(' ', coalesce(daily_usd::text, '-'), coalesce(learner_daily_usd::text, '-'), coalesce(runs_per_minute::text, '-'),
		                 coalesce(concurrent_runs::text, '-'), fallback_max_tokens)
		from ops.budgets`), "\n")
}

func linesOf(t *testing.T, database, sql string, args ...any) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	must(t, err)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), sql, args...)
	must(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return lines
}

// wantsCounters checks that what counts against budgets this month is what the
// attempts in the database cost, and that there are so many counters at least.
func wantsCounters(t *testing.T, database string, atLeast int) {
	t.Helper()
	counted := linesOf(t, database, `
		select concat_ws(' ', scope, subject, period, trim_scale(used_usd)) from ops.budget_counters where used_usd <> 0 order by 1`)
	spent := linesOf(t, database, `
		with spent as (
		  select (created_at at time zone 'UTC')::date as day, fallback_key_id, user_id, cost_usd
		  from public.prompt_attempts
		  where key_source = 'fallback' and cost_usd > 0 and created_at >= date_trunc('month', now() at time zone 'UTC') at time zone 'UTC'
		)
		select concat_ws(' ', 'platform', '00000000-0000-0000-0000-000000000000', day, trim_scale(sum(cost_usd))) from spent group by day
		union all
		select concat_ws(' ', 'learner', user_id, day, trim_scale(sum(cost_usd))) from spent where user_id is not null group by user_id, day
		union all
		select concat_ws(' ', 'key', fallback_key_id, date_trunc('month', day)::date, trim_scale(sum(cost_usd))) from spent group by fallback_key_id, date_trunc('month', day)
		order by 1`)
	if diff := cmp.Diff(spent, counted); diff != "" || len(counted) < atLeast {
		t.Errorf("%d counters, want %d at least (-spent +counted):\n%s", len(counted), atLeast, diff)
	}
}

// ofDemo is how many counters the demo makes at least. On the first day of a month
// nothing may have been spent in it yet.
func ofDemo() int {
	if time.Now().UTC().Day() == 1 {
		return 0
	}
	return 20
}

// The environment sets the first limits. What an admin sets afterwards stays,
// whatever the environment says.
func TestFirstLimitsAreOfTheEnvironment(t *testing.T) {
	env := onDatabase(t)
	env["PROMPTOPS_DAILY_BUDGET_USD"], env["PROMPTOPS_LEARNER_DAILY_BUDGET_USD"] = "25.50", "0.000000001"
	env["PROMPTOPS_RUNS_PER_MINUTE"], env["PROMPTOPS_CONCURRENT_RUNS"] = "600", "3"
	promptops(t, env, "", "config").exits(t, 0).prints(t, "PROMPTOPS_DAILY_BUDGET_USD=25.50\n", "PROMPTOPS_LEARNER_DAILY_BUDGET_USD=0.000000001\n",
		"PROMPTOPS_RUNS_PER_MINUTE=600\n", "PROMPTOPS_CONCURRENT_RUNS=3\n", "PROMPTOPS_SHUTDOWN_TIMEOUT=30s\n")
	serveWith(t, env).ready().end(syscall.SIGTERM, 0)
	if got := limitsIn(t, env["DATABASE_URL"]); got != "25.5 0.000000001 600 3 4096" {
		t.Errorf("the first limits are %s", got)
	}

	conn, err := pgx.Connect(t.Context(), env["DATABASE_URL"])
	must(t, err)
	_, err = conn.Exec(t.Context(), `update ops.budgets set daily_usd = null, runs_per_minute = 5`)
	must(t, err)
	must(t, conn.Close(t.Context()))
	env["PROMPTOPS_DAILY_BUDGET_USD"], env["PROMPTOPS_CONCURRENT_RUNS"] = "99", "99"
	serveWith(t, env).ready().end(syscall.SIGTERM, 0)
	if got := limitsIn(t, env["DATABASE_URL"]); got != "- 0.000000001 5 3 4096" {
		t.Errorf("after a second start the limits are %s", got)
	}
}

func TestNoLimitsInTheEnvironment(t *testing.T) {
	env := onDatabase(t)
	serveWith(t, env).ready().end(syscall.SIGTERM, 0)
	if got := limitsIn(t, env["DATABASE_URL"]); got != "- - - - 4096" {
		t.Errorf("the first limits are %s", got)
	}
	for name, value := range map[string]string{
		"PROMPTOPS_DAILY_BUDGET_USD": "25,50", "PROMPTOPS_LEARNER_DAILY_BUDGET_USD": "-1", "PROMPTOPS_RUNS_PER_MINUTE": "0",
		"PROMPTOPS_CONCURRENT_RUNS": "many", "PROMPTOPS_SHUTDOWN_TIMEOUT": "2h",
	} {
		env[name] = value
	}
	promptops(t, env, "", "serve").exits(t, 1, "PROMPTOPS_DAILY_BUDGET_USD", "PROMPTOPS_LEARNER_DAILY_BUDGET_USD", "PROMPTOPS_RUNS_PER_MINUTE",
		"PROMPTOPS_CONCURRENT_RUNS: must be a whole number", "PROMPTOPS_SHUTDOWN_TIMEOUT: must be between 0s and 1h")
}

// A database whose runs were written by a version that did not count.
func TestServeCatchesUp(t *testing.T) {
	env := onDatabase(t)
	conn, err := pgx.Connect(t.Context(), env["DATABASE_URL"])
	must(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `select ops.ensure_partitions(now()::date, now()::date)`)
	must(t, err)
	learner, fallbackKey := uuid.New(), uuid.New()
	for _, cost := range []string{"0.000000001", "1.5", "20"} {
		_, err = conn.Exec(t.Context(), `
			insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, provider, model, status, key_source, fallback_key_id, cost_usd)
			values ($1, 0, now(), $2, 'openai', 'openai/x', 'ok', 'fallback', $3, $4::text::numeric)`, uuid.New(), learner, fallbackKey, cost)
		must(t, err)
	}
	serveWith(t, env).ready().end(syscall.SIGTERM, 0)
	wantsCounters(t, env["DATABASE_URL"], 3)
	if got := linesOf(t, env["DATABASE_URL"], `select trim_scale(used_usd)::text from ops.budget_counters where scope = 'learner' and subject = $1`, learner); len(got) != 1 || got[0] != "21.500000001" {
		t.Errorf("the learner has used %v", got)
	}
}

func TestDemoCommandsKeepBudgetsRight(t *testing.T) {
	env := onDatabase(t)
	promptops(t, env, "", "demo", "load").exits(t, 0)
	wantsCounters(t, env["DATABASE_URL"], ofDemo())
	promptops(t, env, "", "demo", "clear").exits(t, 0)
	wantsCounters(t, env["DATABASE_URL"], 0)
	if got := linesOf(t, env["DATABASE_URL"], `select subject::text from ops.budget_counters`); len(got) != 0 {
		t.Errorf("counters of what is gone: %v", got)
	}
}
