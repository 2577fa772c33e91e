package run

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

// What is written of runs, each as one statement for all that a batch holds.

// startParts are the parts of a start that most batches do not need.
type startParts struct{ counted, again bool }

var startSQL = func() map[startParts]*namedSQL {
	all := map[startParts]*namedSQL{}
	for _, counted := range []bool{false, true} {
		for _, again := range []bool{false, true} {
			text := startRunsSQL
			if again {
				text += `
		  on conflict (id, created_at) do nothing`
			}
			text += startedSQL
			if counted {
				text += heldSQL
			}
			all[startParts{counted, again}] = named(text + `
		select id from started`)
		}
	}
	return all
}()

// The parameters of one run stand at the same place in their arrays. Counting the
// places costs much less than unnesting the arrays, of which each is then written to
// a table of its own first.
const (
	startRunsSQL = `
		with started as (
		  insert into public.prompt_runs
		    (id, created_at, user_id, operator_id, team_id, template_id, client_request_id, models, config, stream, plan, node_id)
		  select (@ids::uuid[])[i], (@createdAt::timestamptz[])[i], (@users::uuid[])[i], (@operators::uuid[])[i], (@teams::uuid[])[i], (@templates::uuid[])[i],
		         nullif((@clientIDs::text[])[i], ''), string_to_array((@models::text[])[i], E'\n'), (@configs::text[])[i]::jsonb, (@streams::bool[])[i],
		         (@plans::text[])[i]::jsonb, @node
		  from generate_series(1, @runs::int) as i
		  where (@versions::int8[])[i] = 0 or (@versions::int8[])[i] = (select version from ops.facts_version)`
	startedSQL = `
		  returning id
		)`
	heldSQL = `, counted as (
		  insert into ops.budget_counters as c (scope, subject, period, used_usd)
		  select d.scope, d.subject, d.period, sum(d.amount)
		  from unnest(@counterRuns::uuid[], @scopes::text[], @subjects::uuid[], @periods::date[], @amounts::numeric[]) as d (run_id, scope, subject, period, amount)
		  join started on started.id = d.run_id
		  group by d.scope, d.subject, d.period
		  order by d.scope <> 'platform', d.scope, d.subject, d.period
		  on conflict (scope, subject, period) do update set used_usd = c.used_usd + excluded.used_usd
		)`
)

// queueStarts writes runs as running, and what is set aside for them. A run whose
// facts have changed meanwhile is stale instead.
func (s *Store) queueStarts(batch *pgx.Batch, starts []*starting, again bool) {
	starts = slices.DeleteFunc(slices.Clone(starts), func(s *starting) bool { return s.refusal != nil || s.stale })
	n := len(starts)
	if n == 0 {
		return
	}
	ids, createdAt, versions := make(uuids, n), make(times, n), make(ints, n)
	users, operators, teams, templates := make(maybeUUIDs, n), make(maybeUUIDs, n), make(maybeUUIDs, n), make(maybeUUIDs, n)
	clientIDs, models, configs, plans := make(texts, n), make(texts, n), make(texts, n), make(texts, n)
	streams := make(bools, n)
	var d deltas
	for i, start := range starts {
		call, req := start.call, start.call.Request
		ids[i], createdAt[i], versions[i] = call.ID, CreatedAt(call.ID), start.version
		users[i], operators[i], teams[i], templates[i] = call.LearnerID, call.OperatorID, req.TeamID, req.TemplateID
		clientIDs[i], models[i], configs[i], plans[i] = call.ClientRequestID, strings.Join(req.Models, "\n"), req.Config.text(), start.plan()
		streams[i] = req.Stream
		for _, g := range start.decided {
			if g.holds.keyID == uuid.Nil {
				continue
			}
			for _, id := range countersOf(start.wishes[0].day, g.holds.keyID, call.LearnerID) {
				d.add(call.ID, id, g.holds.amount, price.USD{})
			}
		}
	}
	// Set aside is only what a run in this batch has to keep a limit for.
	startSQL[startParts{len(d.runs) > 0, again}].queue(batch, map[string]any{
		"runs": n, "ids": ids, "createdAt": createdAt, "users": users, "operators": operators, "teams": teams, "templates": templates,
		"clientIDs": clientIDs, "models": models, "configs": configs, "streams": streams, "plans": plans, "versions": versions,
		"node": s.node, "counterRuns": d.runs, "scopes": d.scopes, "subjects": d.subjects, "periods": d.periods, "amounts": d.plus,
	}).Query(func(rows pgx.Rows) error {
		started := make(map[uuid.UUID]bool, n)
		var id uuid.UUID
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error {
			started[id] = true
			return nil
		})
		for _, start := range starts {
			start.stale = start.version != 0 && !started[start.call.ID] && !start.known
		}
		return err
	})
}

// deltas are changes of counters as parameters, each of one run.
type deltas struct {
	counterColumns
	runs  uuids
	plus  usds
	minus usds
}

func (d *deltas) add(run uuid.UUID, id counterID, plus, minus price.USD) {
	d.counterColumns.add(id)
	d.runs, d.plus, d.minus = append(d.runs, run), append(d.plus, plus), append(d.minus, minus)
}

// queueHolds changes what is set aside for attempts whose runs go on.
func (s *Store) queueHolds(batch *pgx.Batch, holds []*holding) {
	for _, h := range holds {
		g := h.decided
		if g.index < 0 {
			continue
		}
		var d deltas
		for _, change := range []held{{h.wish.release.keyID, h.wish.release.amount.Neg()}, g.holds} {
			if change.keyID == uuid.Nil {
				continue
			}
			for _, id := range countersOf(h.wish.day, change.keyID, h.wish.learnerID) {
				d.add(h.runID, id, change.amount, price.USD{})
			}
		}
		p := newPlanned("", h.wish, g)
		at := CreatedAt(h.runID)
		batch.Queue(`
			with changed as (
			  update public.prompt_runs
			  set plan = jsonb_set(plan, array['attempts', $3::text],
			    plan -> 'attempts' -> $3::int || jsonb_build_object('keySource', $5::text, 'keyId', $6::uuid, 'held', $7::numeric, 'number', $4::int))
			  where id = $1 and created_at = $2 and status = 'running'
			    and coalesce((plan -> 'attempts' -> $3::int ->> 'number')::int, 0) < $4::int
			  returning id
			)
			insert into ops.budget_counters as c (scope, subject, period, used_usd)
			select d.scope, d.subject, d.period, sum(d.amount)
			from unnest($8::text[], $9::uuid[], $10::date[], $11::numeric[]) as d (scope, subject, period, amount), changed
			group by d.scope, d.subject, d.period
			order by d.scope <> 'platform', d.scope, d.subject, d.period
			on conflict (scope, subject, period) do update set used_usd = c.used_usd + excluded.used_usd`,
			h.runID, at, h.ordinal, h.number, p.Source, p.KeyID, p.Held, d.scopes, d.subjects, d.periods, d.plus)
	}
}

// queueFinishes writes outcomes, to exactly those runs that have none yet. A run
// that another node took for dead gets its true outcome after all.
func (s *Store) queueFinishes(batch *pgx.Batch, finishes []*finishing, again bool) {
	n := len(finishes)
	if n == 0 {
		return
	}
	ids, statuses, ended, took := make(uuids, n), make(texts, n), make(times, n), make(ints, n)
	tokens, costs, unpriced := make(ints, n), make(usds, n), make(ints, n)
	answers := make(maybeTexts, n)
	claimed := make(bools, n)
	var paced, learners uuids // runs that count in a pace, and whose
	var d deltas
	var said contentColumns
	var a attemptColumns
	var first, last time.Time
	for i, f := range finishes {
		e := f.envelope
		at := CreatedAt(f.call.ID)
		if i == 0 || at.Before(first) {
			first = at
		}
		if i == 0 || at.After(last) {
			last = at
		}
		ids[i], statuses[i], took[i] = f.call.ID, string(f.status), e.DurationMs
		ended[i] = at.Add(time.Duration(e.DurationMs) * time.Millisecond)
		tokens[i], costs[i], unpriced[i] = e.TotalTokens, e.TotalCost, int64(e.Unpriced)
		answers[i], claimed[i] = f.answer, f.call.IdempotencyKey != ""
		if f.call.LearnerID != nil && f.budgets.limitsPace() {
			paced, learners = append(paced, f.call.ID), append(learners, *f.call.LearnerID)
		}
		for _, row := range f.counterRows() {
			d.add(row.runID, row.id, row.cost, row.held)
		}
		said.add(f)
		for _, one := range f.attempts {
			a.add(f.call.ID, one)
		}
	}
	if len(paced) > 0 {
		batch.Queue(`select from ops.learner_pace where user_id = any($1) order by user_id for update`, learners)
	}
	finishSQL[finishParts{len(d.runs) > 0, len(paced) > 0, slices.Contains(claimed, true), again}].queue(batch, map[string]any{
		"ids": ids, "statuses": statuses, "finishedAt": ended, "durations": took, "tokens": tokens,
		"costs": costs, "unpriced": unpriced, "first": first, "last": last, "counterRuns": d.runs, "scopes": d.scopes,
		"subjects": d.subjects, "periods": d.periods, "spent": d.plus, "held": d.minus, "paced": paced, "answers": answers,
		"claimed": claimed, "systems": said.systems, "messages": said.messages, "outputs": said.outputs, "attempts": len(a.runs), "attemptRuns": a.runs,
		"ordinals": a.ordinals, "providers": a.providers, "models": a.models, "attemptStatuses": a.statuses, "keySources": a.sources,
		"userKeys": a.userKeys, "fallbackKeys": a.fallbackKeys, "tries": a.tries, "input": a.input, "cached": a.cached,
		"written": a.written, "output": a.output, "reasoning": a.reasoning, "usageSources": a.usageSources, "attemptCosts": a.costs,
		"costSources": a.costSources, "prices": a.prices, "finishReasons": a.finishes, "errorClasses": a.classes,
		"errorMessages": a.messages, "httpStatuses": a.httpStatuses, "retryAfters": a.retryAfters, "providerCalls": a.calls,
		"attemptDurations": a.durations, "firstTokens": a.firstTokens, "tryLogs": a.logs,
	})
}

// finishParts are the parts of a finish that most batches do not need: what is not
// there costs nothing.
type finishParts struct{ counted, paced, answered, again bool }

var finishSQL = func() map[finishParts]*namedSQL {
	all := map[finishParts]*namedSQL{}
	for _, counted := range []bool{false, true} {
		for _, paced := range []bool{false, true} {
			for _, answered := range []bool{false, true} {
				text := finishRunsSQL
				if counted {
					text += countedSQL
				}
				if paced {
					text += pacedSQL
				}
				if answered {
					text += answeredSQL
				}
				all[finishParts{counted, paced, answered, false}] = named(text + saidSQL + finishAttemptsSQL)
				all[finishParts{counted, paced, answered, true}] = named(text + saidOfSomeSQL + finishAttemptsSQL + correctedSQL)
			}
		}
	}
	return all
}()

// What every finish is, and what it can also mean. The parameters of one run, or of
// one attempt, stand at the same place in their arrays: looking them up there costs
// less than any join that a planner who expects a handful of rows would choose. offset
// 0 keeps the planner from looking for the place anew for every column.
const (
	finishRunsSQL = `
		with done as (
		  update public.prompt_runs r
		  set (status, finished_at, duration_ms, total_tokens, total_cost_usd, unpriced, plan) = (
		    select (@statuses::text[])[i], (@finishedAt::timestamptz[])[i], (@durations::int8[])[i], (@tokens::int8[])[i], (@costs::numeric[])[i], (@unpriced::int8[])[i], null::jsonb
		    from (select array_position(@ids::uuid[], r.id) as i offset 0) as place)
		  where r.id = any(@ids::uuid[]) and r.created_at between @first and @last
		    and (r.status = 'running' or r.status = 'interrupted' and (@statuses::text[])[array_position(@ids::uuid[], r.id)] <> 'interrupted')
		  returning r.id, r.created_at, r.user_id, r.operator_id, r.team_id, r.template_id, r.node_id is null as closed
		), known as (
		  select array_agg(id) as ids, array_agg(created_at) as times, array_agg(user_id) as users, array_agg(operator_id) as operators,
		         array_agg(team_id) as teams, array_agg(template_id) as templates, array_agg(id) filter (where closed) as closed
		  from done`
	saidSQL = `
		), said as (
		  insert into public.prompt_contents (run_id, created_at, user_id, team_id, system, messages, outputs)
		  select id, created_at, user_id, team_id, (@systems::text[])[i], (@messages::text[])[i]::jsonb, (@outputs::text[])[i]::jsonb
		  from (select done.*, array_position(@ids::uuid[], done.id) as i from done offset 0) as placed
		)`
	saidOfSomeSQL = `
		), said as (
		  insert into public.prompt_contents (run_id, created_at, user_id, team_id, system, messages, outputs)
		  select placed.id, created_at, (select id from auth.users where id = placed.user_id), -- the account may be gone by now
		         team_id, (@systems::text[])[i], (@messages::text[])[i]::jsonb, (@outputs::text[])[i]::jsonb
		  from (select done.*, array_position(@ids::uuid[], done.id) as i from done offset 0) as placed
		)`
	finishAttemptsSQL = `
		insert into public.prompt_attempts
		  (run_id, created_at, user_id, operator_id, team_id, template_id, ordinal, provider, model, status, key_source, user_key_id, fallback_key_id, tries,
		   input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, usage_source,
		   cost_usd, cost_source, price_id, finish_reason, error_class, error_message, http_status, retry_after_ms,
		   provider_request_id, duration_ms, first_token_ms, try_log)
		select (@attemptRuns::uuid[])[i], k.times[p.n], k.users[p.n], k.operators[p.n], k.teams[p.n], k.templates[p.n],
		       (@ordinals::int8[])[i], (@providers::text[])[i], (@models::text[])[i], (@attemptStatuses::text[])[i], (@keySources::text[])[i], (@userKeys::uuid[])[i], (@fallbackKeys::uuid[])[i], (@tries::int8[])[i],
		       (@input::int8[])[i], (@cached::int8[])[i], (@written::int8[])[i], (@output::int8[])[i], (@reasoning::int8[])[i], (@usageSources::text[])[i],
		       (@attemptCosts::numeric[])[i], (@costSources::text[])[i], (@prices::int8[])[i], (@finishReasons::text[])[i], (@errorClasses::text[])[i], (@errorMessages::text[])[i], (@httpStatuses::int8[])[i], (@retryAfters::int8[])[i],
		       nullif((@providerCalls::text[])[i], ''), (@attemptDurations::int8[])[i], (@firstTokens::int8[])[i], (@tryLogs::text[])[i]::jsonb
		from generate_series(1, @attempts::int) as i
		cross join known k
		cross join lateral (select array_position(k.ids, (@attemptRuns::uuid[])[i]) as n offset 0) p
		where p.n is not null`
	// Whoever closed the run has written its attempts.
	correctedSQL = `
		on conflict (run_id, created_at, ordinal) do update set
		  status = excluded.status, key_source = excluded.key_source, user_key_id = excluded.user_key_id, fallback_key_id = excluded.fallback_key_id,
		  tries = excluded.tries, input_tokens = excluded.input_tokens, cached_input_tokens = excluded.cached_input_tokens,
		  cache_write_tokens = excluded.cache_write_tokens, output_tokens = excluded.output_tokens, reasoning_tokens = excluded.reasoning_tokens,
		  usage_source = excluded.usage_source, cost_usd = excluded.cost_usd, cost_source = excluded.cost_source, price_id = excluded.price_id,
		  finish_reason = excluded.finish_reason, error_class = excluded.error_class, error_message = excluded.error_message,
		  http_status = excluded.http_status, retry_after_ms = excluded.retry_after_ms, provider_request_id = excluded.provider_request_id,
		  duration_ms = excluded.duration_ms, first_token_ms = excluded.first_token_ms, try_log = excluded.try_log`
	countedSQL = `
		), counted as (
		  insert into ops.budget_counters as c (scope, subject, period, used_usd)
		  select d.scope, d.subject, d.period, sum(case when d.run_id = any(k.closed) then d.cost else d.cost - d.held end)
		  from known k cross join unnest(@counterRuns::uuid[], @scopes::text[], @subjects::uuid[], @periods::date[], @spent::numeric[], @held::numeric[]) as d (run_id, scope, subject, period, cost, held)
		  where d.run_id = any(k.ids)
		  group by d.scope, d.subject, d.period
		  order by d.scope <> 'platform', d.scope, d.subject, d.period
		  on conflict (scope, subject, period) do update set used_usd = c.used_usd + excluded.used_usd`
	pacedSQL = `
		), paced as (
		  update ops.learner_pace p
		  set running = greatest(p.running - ended.runs, 0)
		  from (select user_id, count(*)::int as runs from done where id = any(@paced::uuid[]) and not closed group by user_id) as ended
		  where p.user_id = ended.user_id`
	answeredSQL = `
		), answered as (
		  update ops.idempotency i
		  set answer = u.answer
		  from unnest(@ids::uuid[], @answers::text[]) as u (run_id, answer)
		  where i.run_id = u.run_id and u.answer is not null
		), forgotten as (
		  delete from ops.idempotency i
		  using unnest(@ids::uuid[], @answers::text[], @claimed::bool[]) as u (run_id, answer, claimed)
		  where i.run_id = u.run_id and u.claimed and u.answer is null`
)

// queueAnswerLocks locks idempotency rows in the order in which they are claimed.
func queueAnswerLocks(batch *pgx.Batch, finishes []*finishing) {
	var runs uuids
	for _, f := range finishes {
		if f.call.IdempotencyKey != "" {
			runs = append(runs, f.call.ID)
		}
	}
	if len(runs) > 0 {
		batch.Queue(`select from ops.idempotency where run_id = any($1) order by owner_id, key for update`, runs)
	}
}

// contentColumns is what was said, as parameters.
type contentColumns struct {
	systems  maybeTexts
	messages texts
	outputs  texts
}

func (c *contentColumns) add(f *finishing) {
	system, rest := splitSystem(f.call.Request, f.messages)
	outputs := make(map[string]string, len(f.attempts))
	for _, a := range f.attempts {
		if a.result.Output != nil {
			outputs[a.result.Model] = storable(*a.result.Output)
		}
	}
	c.systems = append(c.systems, system)
	c.messages = append(c.messages, jsonText(rest))
	c.outputs = append(c.outputs, jsonText(outputs))
}

// splitSystem takes the request's own system text off the messages again, for
// its column.
func splitSystem(req Request, messages []provider.Message) (*string, []provider.Message) {
	if req.System == "" {
		return nil, messages
	}
	return &messages[0].Content, messages[1:]
}

// attemptColumns are attempts as parameters.
type attemptColumns struct {
	runs                                      uuids
	ordinals                                  ints
	providers, models, statuses               texts
	sources                                   maybeTexts
	userKeys, fallbackKeys                    maybeUUIDs
	tries                                     ints
	input, cached, written, output, reasoning maybeInts
	usageSources                              maybeTexts
	costs                                     maybeUSDs
	costSources                               maybeTexts
	prices                                    maybeInts
	finishes, classes, messages               maybeTexts
	httpStatuses, retryAfters                 maybeInts
	calls                                     texts
	durations                                 ints
	firstTokens                               maybeInts
	logs                                      maybeTexts
}

func (c *attemptColumns) add(run uuid.UUID, a attempt) {
	r := a.result
	c.runs = append(c.runs, run)
	c.ordinals = append(c.ordinals, int64(a.ordinal))
	c.providers, c.models, c.statuses = append(c.providers, a.provider), append(c.models, r.Model), append(c.statuses, string(a.rowStatus()))
	c.sources = append(c.sources, (*string)(r.KeySource))
	userKey, fallbackKey := a.keyIDs()
	c.userKeys, c.fallbackKeys = append(c.userKeys, userKey), append(c.fallbackKeys, fallbackKey)
	c.tries = append(c.tries, int64(r.Attempts))
	u, known := r.Usage, r.Usage != nil
	if !known {
		u = &Usage{}
	}
	c.input, c.cached, c.written = append(c.input, where(known, &u.InputTokens)), append(c.cached, where(known, &u.CachedInputTokens)), append(c.written, where(known, &u.CacheWriteTokens))
	c.output, c.reasoning = append(c.output, where(known, &u.OutputTokens)), append(c.reasoning, where(known, &u.ReasoningTokens))
	c.usageSources = append(c.usageSources, where(known, &u.Source))
	c.costs, c.costSources, c.prices = append(c.costs, r.Cost), append(c.costSources, (*string)(r.CostSource)), append(c.prices, a.priceID)
	c.finishes = append(c.finishes, r.FinishReason)
	e, failed := r.Error, r.Error != nil
	if !failed {
		e = &Error{}
	}
	status := int64(e.HTTPStatus)
	c.classes, c.messages = append(c.classes, where(failed, (*string)(&e.Class))), append(c.messages, where(failed, &e.Message))
	c.httpStatuses, c.retryAfters = append(c.httpStatuses, where(status != 0, &status)), append(c.retryAfters, where(e.RetryAfterMs != 0, &e.RetryAfterMs))
	c.calls = append(c.calls, storable(a.providerCall))
	c.durations, c.firstTokens = append(c.durations, r.DurationMs), append(c.firstTokens, r.FirstTokenMs)
	c.logs = append(c.logs, a.tryLog())
}

// where is p if it is to be stored, and null otherwise.
func where[T any](condition bool, p *T) *T {
	if condition {
		return p
	}
	return nil
}

func (a attempt) keyIDs() (user, fallback *uuid.UUID) {
	switch {
	case !a.hasKey:
		return nil, nil
	case a.key.Source == key.User:
		return &a.key.ID, nil
	default:
		return nil, &a.key.ID
	}
}
