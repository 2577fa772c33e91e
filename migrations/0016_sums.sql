-- Sums by more than models and days: of teams, templates and learners, and of 4, 16
-- and 64 days at once, so that half a year is a dozen periods and not 180. What was
-- summed is made anew: no figure depends on it.

-- +goose Up
drop table ops.usage_sums, ops.usage_periods;

-- What has been summed. Sums belong to the id: they come and go with it, and never
-- change in between.
create table ops.usage_periods (
  id        bigint generated always as identity primary key,
  zone      text not null,     -- '': shorter than a day, and of no zone
  level     smallint not null, -- how long it is: see package rollup
  starts_at timestamptz not null,
  ends_at   timestamptz not null,
  summed_at timestamptz not null default now(),
  unique (zone, level, starts_at)
);

create table ops.usage_sums (
  period_id     bigint not null,
  kind          text not null check (kind in ('key', 'provider', 'model', 'team', 'team_model', 'template', 'learner')),
  subject_id    uuid,            -- team, template or learner; null: none
  provider      text not null,   -- of kinds with models, else ''; '*' is any
  model         text not null,   -- '*' is any: how many runs there were, and nothing else
  key_source    text not null,   -- '' is none, '*' is any
  runs          bigint not null, -- that have such an attempt
  attempts      bigint not null,
  running       bigint not null,
  errors        bigint not null,
  cancelled     bigint not null,
  input         bigint not null,
  cached_input  bigint not null,
  cache_write   bigint not null,
  output        bigint not null,
  reasoning     bigint not null,
  unknown_usage bigint not null,
  cost          numeric not null,
  unpriced      bigint not null,
  latency       bytea,           -- how many took how long, see package rollup
  first_token   bytea,
  unique nulls not distinct (period_id, kind, subject_id, provider, model, key_source)
);

-- Adds up what ops.pack_durations made: of pairs in a row, one for each bucket.
-- +goose StatementBegin
create function ops.merge_durations(packed bytea) returns bytea
  language sql immutable parallel safe set search_path = '' as
$$
  select string_agg(int2send(bucket::smallint) || int4send(n::integer), '' order by bucket)
  from (
    select get_byte(packed, i) * 256 + get_byte(packed, i + 1) as bucket,
           sum(get_byte(packed, i + 2)::bigint * 16777216 + get_byte(packed, i + 3) * 65536 + get_byte(packed, i + 4) * 256 + get_byte(packed, i + 5)) as n
    from generate_series(0, length(packed) - 6, 6) i
    group by 1) b
$$;
-- +goose StatementEnd
revoke all on function ops.merge_durations(bytea) from public;

-- +goose Down
drop function ops.merge_durations(bytea);
drop table ops.usage_sums, ops.usage_periods;
create table ops.usage_periods (
  zone      text not null,
  starts_at timestamptz not null,
  ends_at   timestamptz not null,
  summed_at timestamptz not null default now(),
  primary key (zone, starts_at)
);
create table ops.usage_sums (
  zone          text not null,
  starts_at     timestamptz not null,
  kind          text not null check (kind in ('model', 'team', 'template', 'learner', 'run')),
  provider      text not null default '',
  model         text not null default '',
  subject_id    uuid,
  key_source    text not null default '',
  runs          bigint not null,
  attempts      bigint not null,
  running       bigint not null,
  errors        bigint not null,
  cancelled     bigint not null,
  input         bigint not null,
  cached_input  bigint not null,
  cache_write   bigint not null,
  output        bigint not null,
  reasoning     bigint not null,
  unknown_usage bigint not null,
  cost          numeric not null,
  unpriced      bigint not null,
  latency       bytea,
  first_token   bytea,
  unique nulls not distinct (zone, kind, starts_at, provider, model, subject_id, key_source)
);
