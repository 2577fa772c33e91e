package demo_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/demo"
	"github.com/promptcademy/promptops/internal/postgres"
)

// demoOnly makes tables of the demo's rows, as there are real ones beside them.
func demoOnly(t testing.TB, db postgres.DB) pgx.Tx {
	t.Helper()
	tx, err := db.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	exec(t, tx, `
		create temporary table learners on commit drop as
		  select u.* from auth.users u join ops.demo_records d on d.kind = 'learner' and d.id = u.id;
		create temporary table runs on commit drop as
		  select * from prompt_runs where user_id in (select id from learners);
		create temporary table attempts on commit drop as
		  select * from prompt_attempts where user_id in (select id from learners);
		create index on runs (id);
		create index on attempts (run_id);
		create temporary view instants as
		  select 'run' as of, created_at as at from runs union all
		  select 'end of run', finished_at from runs union all
		  select 'event', created_at from template_events where user_id in (select id from learners) union all
		  select 'template', created_at from prompt_templates where id in (select id from ops.demo_records) union all
		  select 'share', created_at from team_templates where team_id in (select id from ops.demo_records) union all
		  select 'member', created_at from team_members where user_id in (select id from learners) union all
		  select 'started', started_at from user_progress where user_id in (select id from learners) union all
		  select 'completed', completed_at from user_progress where user_id in (select id from learners) union all
		  select 'sign-up', created_at from learners union all
		  select 'seen', last_sign_in_at from learners union all
		  select 'key', updated_at from user_api_keys where user_id in (select id from learners) union all
		  select 'fallback key', last_verified_at from ops.fallback_keys where sandbox;
		analyze learners, runs, attempts`)
	return tx
}

// atNow puts the moment of loading where sql says :now.
func atNow(sql string) string {
	return strings.ReplaceAll(sql, ":now", now.Format("timestamptz '"+time.RFC3339Nano+"'"))
}

// checkConsistency runs queries that must find nothing.
func checkConsistency(t *testing.T, db postgres.DB) {
	db = demoOnly(t, db)
	for name, sql := range map[string]string{
		"nothing is in the future": `select of, at from instants where at > :now`,
		"an id leads to the instant": `
			select id, created_at from runs
			where substr(id::text, 15, 1) <> '7'
			   or created_at <> timestamptz 'epoch' + ('x' || lpad(substr(replace(id::text, '-', ''), 1, 12), 16, '0'))::bit(64)::bigint * interval '1 ms'`,
		"a run has the sums of its attempts": `
			select r.id from runs r join (
			  select run_id, count(*) as n, coalesce(sum(total_tokens), 0) as tokens, coalesce(sum(cost_usd), 0) as cost,
			         count(*) filter (where cost_usd is null) as unpriced, array_agg(model order by ordinal) as models, max(duration_ms) as longest
			  from attempts group by run_id) a on a.run_id = r.id
			where (r.total_tokens, r.total_cost_usd, r.unpriced, r.models) is distinct from (a.tokens, a.cost, a.unpriced, a.models)
			   or r.duration_ms < a.longest or r.finished_at <> r.created_at + r.duration_ms * interval '1 ms'`,
		"a run has attempts": `select id from runs where not exists (select from attempts where run_id = id)`,
		"an attempt belongs to its run": `
			select a.run_id from attempts a left join runs r on r.id = a.run_id and r.created_at = a.created_at
			where r.id is null or (r.user_id, r.team_id, r.template_id) is distinct from (a.user_id, a.team_id, a.template_id)
			   or a.provider || '/' || substr(a.model, length(a.provider) + 2) <> a.model`,
		"a run's status is that of its attempts": `
			select r.id, r.status from runs r
			where r.status <> (
			  select case when bool_or(status = 'interrupted') then 'interrupted' when bool_or(status = 'cancelled') then 'cancelled'
			              when bool_and(status = 'ok') then 'success' when bool_or(status = 'ok') then 'partial' else 'error' end
			  from attempts where run_id = r.id)
			and not (r.status = 'cancelled' and (select bool_and(status = 'error') from attempts where run_id = r.id))`,
		"what was refused cost nothing, what was answered is priced or unpriced": `
			select run_id from attempts where case status
			  when 'ok' then error_class is not null or usage_source <> 'reported' or finish_reason is null
			    or (cost_source in ('computed', 'reported')) <> (cost_usd > 0) or (cost_source = 'unpriced') <> (cost_usd is null)
			  when 'error' then error_class is null or finish_reason is not null
			    or case when input_tokens is null then cost_usd <> 0 or cost_source is not null else cost_source not in ('estimated', 'unpriced') end
			  when 'interrupted' then cost_usd is not null or input_tokens is not null
			  else cost_source not in ('estimated', 'unpriced') end`,
		"tokens are within each other": `
			select run_id from attempts
			where cached_input_tokens + cache_write_tokens > input_tokens or reasoning_tokens > output_tokens
			   or least(input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens) < 0`,
		"a cost is that of the price at its time": `
			select a.run_id, a.cost_usd from attempts a join ops.model_prices p on p.id = a.price_id
			where p.provider || '/' || p.model <> a.model or a.created_at < p.effective_from or a.created_at >= p.effective_to
			   or (p.tier_above_input_tokens is null or a.input_tokens <= p.tier_above_input_tokens) and a.cost_usd <> (
			     (a.input_tokens - a.cached_input_tokens - a.cache_write_tokens) * p.input
			     + a.cached_input_tokens * coalesce(p.cache_read, p.input)
			     + a.cache_write_tokens * coalesce(p.cache_write_5m, p.input)
			     + a.output_tokens * p.output) / 1000000`,
		"without a price there is no cost": `
			select model from attempts where cost_source = 'unpriced' and exists (
			  select from ops.model_prices p where p.provider || '/' || p.model = attempts.model
			    and attempts.created_at >= p.effective_from and attempts.created_at < p.effective_to)`,
		"a computed cost names its price": `select run_id from attempts where (cost_source in ('computed', 'estimated')) <> (price_id is not null) and provider <> 'openrouter'`,
		"a learner's key is theirs, added before, and was still good": `
			select a.run_id from attempts a left join user_api_keys k on k.id = a.user_key_id
			where a.key_source = 'user' and (k.id is null or k.user_id <> a.user_id or k.provider <> a.provider
			   or k.created_at > a.created_at or k.last_error_at < a.created_at or k.last_used_at < a.created_at
			   or (a.error_class in ('invalid_key', 'billing')) <> (k.last_error_at is not distinct from a.created_at))`,
		"a fallback key is of the provider, and used by those without a key": `
			select a.run_id from attempts a left join ops.fallback_keys f on f.id = a.fallback_key_id
			where a.key_source is distinct from 'user' and (f.id is null or f.provider <> a.provider or exists (
			  select from user_api_keys k where k.user_id = a.user_id and k.provider = a.provider and k.created_at <= a.created_at
			    and (k.last_error_at is null or k.last_error_at > a.created_at)))`,
		"a run is of a learner who had signed up, with an own team": `
			select r.id from runs r join learners l on l.id = r.user_id
			where r.created_at < l.created_at
			   or r.team_id is not null and not exists (select from team_members m where m.team_id = r.team_id and m.user_id = r.user_id)`,
		"a template was there, and could be used": `
			select r.id from runs r left join prompt_templates t on t.id = r.template_id
			where r.template_id is not null and (t.id is null or t.created_at > r.created_at or not (t.is_public or t.owner_id = r.user_id or exists (
			  select from team_templates s join team_members m using (team_id) where s.template_id = t.id and m.user_id = r.user_id and s.created_at <= r.created_at)))`,
		"every use of a template is an event": `
			select template_id, user_id, created_at from runs where template_id is not null
			except select template_id, user_id, created_at from template_events where event = 'used'`,
		"said is what was asked in the last two weeks": `
			select r.id from runs r left join prompt_contents c on c.run_id = r.id and c.created_at = r.created_at
			where (r.created_at > :now - interval '14 days') <> (c.run_id is not null)
			   or c.run_id is not null and (c.user_id <> r.user_id or c.team_id is distinct from r.team_id
			   or c.messages->0->>'content' ~ '\{\{' or jsonb_array_length(c.messages) <> 1
			   or (select count(*) from jsonb_object_keys(c.outputs)) <> (select count(*) from attempts a where a.run_id = r.id and a.status = 'ok'))`,
		"every day has runs, all in all": `
			select d from generate_series(:now - interval '180 days', :now, interval '1 day') d
			where not exists (select from runs where created_at::date = d::date)`,
		"every team has one lead": `
			select id from ops.demo_records d where kind = 'team' and (select count(*) from team_members where team_id = d.id and role = 'lead') <> 1`,
		"progress comes after the sign-up": `
			select p.* from user_progress p join learners l on l.id = p.user_id where p.started_at < l.created_at or p.completed_at < p.started_at`,
	} {
		rows, err := db.Query(context.Background(), atNow(sql+" limit 3"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wrong, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(wrong) > 0 {
			t.Errorf("%s, but %v", name, wrong)
		}
	}
}

// checkContent looks whether the demo shows what it is there to show.
func checkContent(t *testing.T, db postgres.DB) {
	db = demoOnly(t, db)
	for name, c := range map[string]struct {
		sql         string
		least, most float64
	}{
		"learners":                            {`select count(*) from learners`, 120, 120},
		"with an address of the demo":         {`select count(*) from learners where email like '%@demo.promptcademy.test' and raw_app_meta_data->>'demo' = 'true'`, 120, 120},
		"the README's learner":                {`select count(*) from learners where email = '` + demo.Learner + `' and deleted_at is null and banned_until is null`, 1, 1},
		"teams":                               {`select count(*) from ops.demo_records where kind = 'team'`, 8, 8},
		"learners in two teams":               {`select count(*) from (select user_id from team_members join learners l on l.id = user_id group by user_id having count(*) = 2) x`, 5, 40},
		"templates":                           {`select count(*) from prompt_templates where id in (select id from ops.demo_records where kind = 'template')`, 24, 24},
		"lessons":                             {`select count(*) from lessons where slug like 'demo-%'`, 12, 12},
		"completed lessons":                   {`select count(*) from user_progress where status = 'completed'`, 300, 1440},
		"kinds of template events":            {`select count(distinct event) from template_events`, 5, 5},
		"learners with a key of their own":    {`select count(distinct user_id) / 120.0 from user_api_keys where user_id in (select id from learners)`, 0.5, 0.7},
		"keys that failed":                    {`select count(*) from user_api_keys where status in ('invalid', 'billing') and last_error_message <> ''`, 3, 30},
		"runs":                                {`select count(*) from runs`, 10000, 15000},
		"attempts":                            {`select count(*) from attempts`, 20000, 30000},
		"attempts of one run":                 {`select max(cardinality(models)) from runs`, 4, 4},
		"errors":                              {`select avg((status = 'error')::int) from attempts`, 0.02, 0.04},
		"classes of errors":                   {`select count(distinct error_class) from attempts where status = 'error'`, 8, 16},
		"cancelled":                           {`select count(*) from attempts where status = 'cancelled'`, 10, 400},
		"interrupted":                         {`select count(*) from runs where status = 'interrupted'`, 1, 1},
		"partial":                             {`select count(*) from runs where status = 'partial'`, 100, 2000},
		"unpriced":                            {`select count(*) from attempts where cost_source = 'unpriced'`, 10, 300},
		"providers":                           {`select count(distinct provider) from attempts`, 8, 8},
		"cached input":                        {`select sum(cached_input_tokens) / sum(input_tokens) from attempts`, 0.05, 0.5},
		"cache writes":                        {`select count(*) from attempts where cache_write_tokens > 0`, 100, 5000},
		"reasoning":                           {`select sum(reasoning_tokens) / sum(output_tokens) from attempts`, 0.02, 0.5},
		"streamed":                            {`select avg(stream::int) from runs`, 0.3, 0.5},
		"first tokens where streamed":         {`select count(*) from attempts a join runs r on r.id = a.run_id where (a.first_token_ms is null) and r.stream and a.status = 'ok'`, 0, 0},
		"with a team":                         {`select avg((team_id is not null)::int) from runs`, 0.4, 0.9},
		"growth, last month against first":    {`select count(*) filter (where created_at > :now - interval '30 days') / count(*) filter (where created_at < :now - interval '150 days')::float from runs`, 1.5, 4},
		"a weekend day against a working day": {`select count(*) filter (where extract(isodow from created_at) > 5) / 2.0 / (count(*) filter (where extract(isodow from created_at) < 6) / 5.0) from runs`, 0.2, 0.5},
		"the dearest day against the others":  {`select max(c) / percentile_cont(0.5) within group (order by c) from (select sum(cost_usd) as c from attempts group by created_at::date) d`, 4, 20},
		"an outage, errors of its day":        {`select max(e) from (select avg((status = 'error')::int) as e from attempts where provider = 'anthropic' group by created_at::date having count(*) > 30) d`, 0.12, 0.7},
		"fallback keys, first month against last": {`
			select avg((key_source = 'fallback')::int) filter (where created_at < :now - interval '150 days')
			     - avg((key_source = 'fallback')::int) filter (where created_at > :now - interval '30 days') from attempts`, 0.05, 0.4},
		"models that appeared":   {`select count(*) from (select model from attempts group by model having min(created_at) > :now - interval '60 days') x`, 3, 10},
		"model before its price": {`select count(*) from attempts where model = 'openai/gpt-6.1-terra' and created_at < '2026-10-26Z'`, 0, 0},
	} {
		var got float64
		err := db.QueryRow(context.Background(), atNow("select ("+c.sql+")::float8")).Scan(&got)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got < c.least || got > c.most {
			t.Errorf("%s: %v, want %v to %v", name, got, c.least, c.most)
		}
	}
	first := one[time.Time](t, db, `select min(created_at) from runs`)
	if day := now.Truncate(24*time.Hour).AddDate(0, 0, -180); first.Before(day) || first.After(day.AddDate(0, 0, 1)) {
		t.Errorf("the first run is of %s, want one on %s", first, day)
	}
}
