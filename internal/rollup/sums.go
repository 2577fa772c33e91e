package rollup

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

// Latencies are the columns latency and first_token, of the attempts that were
// answered: what Histogram.Add reads.
const Latencies = `ops.pack_durations(array_agg(duration_ms) filter (where status = 'ok' and duration_ms is not null)) as latency,
	ops.pack_durations(array_agg(first_token_ms) filter (where status = 'ok' and first_token_ms is not null)) as first_token`
