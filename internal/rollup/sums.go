package rollup

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// SumColumns are the columns of ops.usage_sums that Sums computes, in its order.
const SumColumns = `runs, attempts, running, errors, cancelled, input, cached_input, cache_write, output, reasoning, unknown_usage, cost, unpriced`

// Sums computes SumColumns from rows of prompt_attempts. It is the one definition
// of what is counted as what, whether it is summed ahead or when a page is read.
const Sums = `count(distinct run_id) as runs,
	count(*) as attempts,
	count(*) filter (where status = 'running') as running,
	count(*) filter (where status in ('error', 'interrupted')) as errors,
	count(*) filter (where status = 'cancelled') as cancelled,
	coalesce(sum(input_tokens), 0)::bigint as input,
	coalesce(sum(cached_input_tokens), 0)::bigint as cached_input,
	coalesce(sum(cache_write_tokens), 0)::bigint as cache_write,
	coalesce(sum(output_tokens), 0)::bigint as output,
	coalesce(sum(reasoning_tokens), 0)::bigint as reasoning,
	count(*) filter (where input_tokens is null and status not in ('running', 'error')) as unknown_usage,
	coalesce(sum(cost_usd), 0) as cost,
	count(*) filter (where cost_usd is null and status <> 'running') as unpriced`

// latencies are the columns latency and first_token, of the attempts that were
// answered: what Histogram.Add reads.
const latencies = `ops.pack_durations(array_agg(duration_ms) filter (where status = 'ok' and duration_ms is not null)) as latency,
	ops.pack_durations(array_agg(first_token_ms) filter (where status = 'ok' and first_token_ms is not null)) as first_token`

// fewLatencies are the same of groups that are small and many, for which calling a
// function would cost more than it saves: a pair for every duration.
const fewLatencies = pairs1 + `duration_ms` + pairs2 + `duration_ms` + pairs3 + ` as latency,
	` + pairs1 + `first_token_ms` + pairs2 + `first_token_ms` + pairs3 + ` as first_token`

const (
	pairs1 = `string_agg(int2send(floor(ln(greatest(`
	pairs2 = `, 1)::float8) / ln(1.04::float8))::smallint) || int4send(1), ''::bytea) filter (where status = 'ok' and `
	pairs3 = ` is not null)`
)

// Kind is by what sums are told apart, besides whose key paid.
type Kind string

// The kinds. Sums of kinds with models tell providers apart, too. Runs do not add
// up, so those of several models or key sources are counted on their own: with '*'
// in place of the model, provider or key source. The other columns of such sums are 0.
// Those of team_model are there for a team's providers only.
const (
	Key       Kind = "key" // and by nothing else
	Provider  Kind = "provider"
	Model     Kind = "model"
	Team      Kind = "team"
	TeamModel Kind = "team_model"
	Template  Kind = "template"
	Learner   Kind = "learner"
)

// Level is how long a period is.
type Level int16

const (
	quarter Level = iota // of an hour
	hour
	quarterDay // of no zone, like the shorter ones
	day
	days4 // counted from 1970-01-01, like the longer ones
	days16
	days64
)

// has says whether there are sums of a kind. Where they would be about as many as
// rows there are none.
func (l Level) has(kind Kind) bool {
	switch kind {
	case Key, Provider, Model, Unpriced:
		return true
	case Team, Template:
		return l >= quarterDay
	case Hours:
		return l == day
	default:
		return l >= days4
	}
}

// days is how many days a period has, of levels that have whole ones.
func (l Level) days() int { return 1 << (2 * (l - day)) }

// length is how long a period is, of levels shorter than a day, and how long its
// sums are kept: longer than Fresh of a day of any zone, and as long as pages show
// hours of days.
func (l Level) length() (length, kept time.Duration) {
	switch l {
	case quarter:
		return slotLength, 16 * 24 * time.Hour
	case hour:
		return time.Hour, 16 * 24 * time.Hour
	default:
		return 6 * time.Hour, 3 * 24 * time.Hour
	}
}

// sumRows stores the sums of a period that is read from rows.
func sumRows(ctx context.Context, tx pgx.Tx, p span) error {
	id, err := addPeriod(ctx, tx, p)
	if err != nil {
		return err
	}
	counted := `, count(distinct run_id), ` + strings.Repeat("0, ", strings.Count(SumColumns, ",")) + `null::bytea, null::bytea from attempts `
	all, allOfFew := `, `+Sums+`, `+latencies+` from attempts `, `, `+Sums+`, `+fewLatencies+` from attempts `
	parts := []string{
		`select $1::bigint, 'model', null::uuid, provider, model, coalesce(key_source, '')` + all + `group by provider, model, key_source`,
		`select $1, 'model', null, coalesce(provider, '*'), '*', case grouping(key_source) when 1 then '*' else coalesce(key_source, '') end` + counted +
			`group by grouping sets ((), (provider), (key_source), (provider, key_source)) having count(*) > 0`,
	}
	for _, by := range []struct {
		kind    Kind
		columns string // subject and provider
		group   string
		sums    string
	}{
		{Key, `null, ''`, ``, all}, {Provider, `null, provider`, `provider, `, all},
		{Team, `team_id, ''`, `team_id, `, allOfFew}, {Template, `template_id, ''`, `template_id, `, allOfFew}, {Learner, `user_id, ''`, `user_id, `, allOfFew},
	} {
		if p.level.has(by.kind) {
			these := `select $1, '` + string(by.kind) + `', ` + by.columns + `, '', `
			parts = append(parts,
				these+`coalesce(key_source, '')`+by.sums+`group by `+by.group+`key_source`,
				these+`'*'`+counted+`group by grouping sets ((`+strings.TrimSuffix(by.group, ", ")+`)) having count(*) > 0`)
		}
	}
	if p.level.has(TeamModel) {
		parts = append(parts,
			`select $1, 'team_model', team_id, provider, model, coalesce(key_source, '')`+allOfFew+`group by team_id, provider, model, key_source`,
			`select $1, 'team_model', team_id, provider, '*', '*'`+counted+`group by team_id, provider`)
	}
	if p.level.has(Hours) {
		if err := sumHours(ctx, tx, id, p); err != nil {
			return err
		}
	}
	if err := sumUnpriced(ctx, tx, id, p); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		with attempts as materialized (
		  select * from public.prompt_attempts where created_at >= $2 and created_at < $3
		)
		insert into ops.usage_sums (period_id, kind, subject_id, provider, model, key_source, `+SumColumns+`, latency, first_token)
		`+strings.Join(parts, "\nunion all\n"), id, p.from, p.to)
	return err
}

// sumSums stores the sums of a period whose parts are summed already. What has no
// rows at all needs no sums.
func sumSums(ctx context.Context, tx pgx.Tx, p span) error {
	id, err := addPeriod(ctx, tx, p)
	if err != nil {
		return err
	}
	columns := strings.Split(SumColumns, ", ")
	for i, c := range columns {
		columns[i] = "sum(" + c + ")"
	}
	if err := mergeUnpriced(ctx, tx, id, p); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		insert into ops.usage_sums (period_id, kind, subject_id, provider, model, key_source, `+SumColumns+`, latency, first_token)
		select $1, kind, subject_id, provider, model, key_source, `+strings.Join(columns, ", ")+`,
		       case when sum(length(latency)) > $6 then ops.merge_durations(string_agg(latency, '')) else string_agg(latency, '') end,
		       case when sum(length(first_token)) > $6 then ops.merge_durations(string_agg(first_token, '')) else string_agg(first_token, '') end
		from ops.usage_sums s
		where period_id in (
		  select id from ops.usage_periods where zone = $2 and level = $3 and starts_at >= $4 and ends_at <= $5)
		group by kind, subject_id, provider, model, key_source`, id, p.zone, p.level-1, p.from, p.to, mostUnmerged)
	return err
}

// mostUnmerged is how many bytes of durations are cheaper to read than to merge.
const mostUnmerged = 1200

func addPeriod(ctx context.Context, tx pgx.Tx, p span) (id int64, err error) {
	err = tx.QueryRow(ctx, `
		insert into ops.usage_periods (zone, level, starts_at, ends_at) values ($1, $2, $3, $4) returning id`,
		p.zone, p.level, p.from, p.to).Scan(&id)
	return id, err
}

// levelsOfDays are the levels of whole days, shortest first.
func levelsOfDays() []Level { return []Level{day, days4, days16, days64} }
