-- Sums of attempts that pages read in place of the attempts. At every moment a
-- page shows exactly what the rows say: it reads a sum only where every row of its
-- period is known to be in it, and the rows themselves everywhere else.
--
-- A row of the last hour is expected: periods that young are not summed. A row that
-- is older than that when it is written, changed or deleted leaves a mark in the
-- same transaction, so whoever sees the change sees the mark, too, and does not
-- trust the sums of its period. What is left are rows that were written in time by
-- transactions that end late: see package rollup.

-- +goose Up
-- What has been summed: a quarter of an hour (zone '') or a day of a zone.
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
  provider      text not null default '', -- of kind model; of kind run '*' is any
  model         text not null default '', -- of kind model
  subject_id    uuid,                     -- team, template or learner; null: none
  key_source    text not null default '', -- '' is none; of kind run '*' is any
  runs          bigint not null,          -- that have such an attempt
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
  latency       bytea,                    -- of kind model: how many took how long, see package rollup
  first_token   bytea,
  unique nulls not distinct (zone, kind, starts_at, provider, model, subject_id, key_source)
);

-- Quarters of an hour in which a row changed that may have been summed.
create table ops.usage_marks (
  slot timestamptz not null,
  xid  xid8 not null, -- every transaction makes its own mark: another's may be on its way out
  primary key (slot, xid)
);

-- Until when every row that came in time is known to be visible.
create table ops.usage_horizon (
  only_row boolean primary key default true check (only_row),
  noted_at timestamptz not null, -- rows written before this moment …
  noted_by xid8 not null         -- … were written by transactions before this one
);

-- +goose StatementBegin
create function ops.mark_usage() returns trigger
  language plpgsql security definer set search_path = '' as
$$
begin
  if tg_op <> 'INSERT' then
    insert into ops.usage_marks values (date_bin('15 minutes', old.created_at, 'epoch'), pg_current_xact_id()) on conflict do nothing;
  end if;
  if tg_op <> 'DELETE' then
    insert into ops.usage_marks values (date_bin('15 minutes', new.created_at, 'epoch'), pg_current_xact_id()) on conflict do nothing;
  end if;
  return null;
end
$$;
create function ops.forget_usage() returns trigger
  language plpgsql security definer set search_path = '' as
$$
begin
  delete from ops.usage_sums;
  delete from ops.usage_periods;
  return null;
end
$$;
-- +goose StatementEnd
revoke all on function ops.mark_usage(), ops.forget_usage() from public;

-- How many of some durations (ms) fall into which bucket: pairs of a bucket and a
-- count, each bucket 4 % wider than the one before. Package rollup reads it.
create function ops.pack_durations(durations integer[]) returns bytea
  language sql immutable parallel safe set search_path = '' as
$$
  select string_agg(int2send(bucket::smallint) || int4send(n::integer), '' order by bucket)
  from (select floor(ln(greatest(ms, 1)::float8) / ln(1.04::float8)) as bucket, count(*) as n from unnest(durations) ms group by 1) b
$$;
revoke all on function ops.pack_durations(integer[]) from public;

-- clock_timestamp and not now(): a long transaction begins long before it writes.
-- Who loads very much at once may set promptops.marks to off, and has to mark what
-- it loaded by itself.
create trigger mark_usage_insert after insert on public.prompt_attempts for each row
  when (new.created_at < clock_timestamp() - interval '1 hour' and coalesce(current_setting('promptops.marks', true), '') <> 'off')
  execute function ops.mark_usage();
create trigger mark_usage_update after update on public.prompt_attempts for each row
  when (old.created_at < clock_timestamp() - interval '1 hour' or new.created_at < clock_timestamp() - interval '1 hour')
  execute function ops.mark_usage();
create trigger mark_usage_delete after delete on public.prompt_attempts for each row
  when (old.created_at < clock_timestamp() - interval '1 hour')
  execute function ops.mark_usage();
create trigger forget_usage after truncate on public.prompt_attempts for each statement
  execute function ops.forget_usage();

-- +goose Down
drop trigger forget_usage on public.prompt_attempts;
drop trigger mark_usage_delete on public.prompt_attempts;
drop trigger mark_usage_update on public.prompt_attempts;
drop trigger mark_usage_insert on public.prompt_attempts;
drop function ops.pack_durations(integer[]), ops.forget_usage(), ops.mark_usage();
drop table ops.usage_horizon, ops.usage_marks, ops.usage_sums, ops.usage_periods;
