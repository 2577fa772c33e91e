-- What makes runs trustworthy with money: who runs a run, what was set aside for
-- it, what was spent against which limit, and which answers may be asked for
-- again.

-- +goose Up
alter table public.prompt_runs
  add column node_id uuid,  -- the process that runs it; null once another one closed it as interrupted
  add column plan    jsonb; -- while running: each model's key and the money set aside for it

alter table public.prompt_attempts
  add column try_log jsonb; -- every call to the provider, unless there was only one and it was answered

-- Runs from before this have no process that could be missed: what still seems to go
-- on was left behind. What it used is not known.
update public.prompt_attempts
set status = 'interrupted', error_class = 'interrupted', error_message = 'The server ended before the model was done.'
where status = 'running';
update public.prompt_runs
set status = 'interrupted', finished_at = now(), total_tokens = 0, total_cost_usd = 0, unpriced = cardinality(models)
where status = 'running';

-- An update of an indexed column has to touch every index of the row. Who looks
-- for runs that are going on knows when, and whose: created_at and node_id.
drop index public.prompt_runs_running_idx;

-- A run, its attempts and what was said are written by one program, in one
-- transaction, and the run first. Checking that again for every row took longer
-- than writing it.
alter table public.prompt_attempts drop constraint prompt_attempts_run_id_created_at_fkey;
alter table public.prompt_contents drop constraint prompt_contents_run_id_created_at_fkey;

-- As before, but it looks whether a month is there only with the tables in hand:
-- what another node has just made can be missing from what this session remembers.
-- And pages of runs keep some room, so that the outcome goes where the start is.
-- +goose StatementBegin
create or replace function ops.ensure_partitions(first date, last date) returns integer
  language plpgsql set search_path = '' set timezone = 'UTC' set datestyle = 'ISO' set lock_timeout = 0 as
$$
declare
  month  date := date_trunc('month', first)::date;
  parent text;
  part   text;
  made   integer := 0;
begin
  perform pg_advisory_xact_lock(hashtext('ops.ensure_partitions'));
  -- Runs wait behind us while we wait. Giving up sooner than deadlock_timeout,
  -- it is never a run that loses.
  set local lock_timeout = '500ms';
  while month <= last loop
    foreach parent in array array['prompt_runs', 'prompt_attempts', 'prompt_contents'] loop
      part := parent || to_char(month, '_YYYY_MM');
      continue when to_regclass('ops.' || part) is not null;
      -- First of all, and in the order in which a run is written: attaching
      -- takes the same locks in another one.
      lock table public.prompt_runs, public.prompt_attempts, public.prompt_contents in share row exclusive mode;
      continue when to_regclass('ops.' || part) is not null;
      execute format('create table ops.%I (like public.%I including defaults including generated including constraints)', part, parent);
      if parent = 'prompt_runs' then
        execute format('alter table ops.%I set (fillfactor = 85)', part);
      end if;
      execute format('alter table public.%I attach partition ops.%I for values from (%L) to (%L)',
        parent, part, month::timestamp at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
      made := made + 1;
    end loop;
    month := (month + interval '1 month')::date;
  end loop;
  return made;
end
$$;
-- +goose StatementEnd

-- Runs that are going on. A process that is gone no longer holds the advisory
-- lock of its row.
create table ops.nodes (
  id           uuid primary key,
  host         text not null default '',
  version      text not null default '',
  started_at   timestamptz not null default now(),
  heartbeat_at timestamptz not null default now()
);

-- What a run depends on (accounts, teams, keys, limits) is remembered by every node
-- for as long as this number stays the same; a run starts only if it still does.
create table ops.facts_version (
  only_row boolean primary key default true check (only_row),
  version  bigint not null default 1,
  complete boolean not null default true -- false: not every change is noticed, so nothing may be remembered
) with (fillfactor = 10);
insert into ops.facts_version default values;

-- +goose StatementBegin
create function ops.facts_changed() returns trigger
  language plpgsql security definer set search_path = '' as
$$
begin
  update ops.facts_version set version = version + 1;
  return null;
end
$$;
-- +goose StatementEnd
revoke all on function ops.facts_changed() from public;

-- The limits that are in force: one row. Null is no limit.
create table ops.budgets (
  only_row            boolean primary key default true check (only_row),
  daily_usd           numeric check (daily_usd >= 0),         -- of all fallback keys together
  learner_daily_usd   numeric check (learner_daily_usd >= 0), -- of one learner on fallback keys
  runs_per_minute     integer check (runs_per_minute between 1 and 600),
  concurrent_runs     integer check (concurrent_runs between 1 and 1000),
  fallback_max_tokens integer not null default 4096 check (fallback_max_tokens between 1 and 1000000),
  updated_at          timestamptz not null default now(),
  updated_by          uuid -- the operator; null: the configuration
);

-- Money spent and set aside on fallback keys. It changes in the transaction that
-- changes the run, so it is always the sum over the rows.
create table ops.budget_counters (
  scope    text not null check (scope in ('platform', 'key', 'learner')),
  subject  uuid not null,       -- the key or the learner; of the platform 0
  period   date not null,       -- the day, of a key the first day of the month, in the configured zone
  used_usd numeric not null default 0,
  primary key (scope, subject, period)
) with (fillfactor = 50);

-- How fast a learner runs. Kept only while there are such limits.
create table ops.learner_pace (
  user_id uuid primary key,
  running integer not null default 0,
  starts  timestamptz[] not null default '{}' -- of the last minute
) with (fillfactor = 50);

-- Answers that are given again to the same request (Idempotency-Key), for a day.
create table ops.idempotency (
  owner_id     uuid not null,  -- learner or operator
  key          text not null,
  user_id      uuid references auth.users on delete cascade, -- what was said goes with the learner
  request_hash bytea not null, -- SHA-256 of the body
  run_id       uuid not null,
  answer       text,           -- null: the run is going on
  created_at   timestamptz not null,
  primary key (owner_id, key)
);
create index idempotency_created_at_idx on ops.idempotency (created_at);
create index idempotency_user_id_idx on ops.idempotency (user_id);
create index idempotency_run_id_idx on ops.idempotency (run_id);

-- +goose StatementBegin
do $$
begin
  create trigger facts_changed after update on auth.users for each row
    when (old.banned_until is distinct from new.banned_until or old.deleted_at is distinct from new.deleted_at)
    execute function ops.facts_changed();
  create trigger facts_changed_by_delete after delete on auth.users for each row
    execute function ops.facts_changed();
exception when insufficient_privilege then
  update ops.facts_version set complete = false; -- the table is somebody else's
end $$;
-- +goose StatementEnd
create trigger facts_changed after insert or delete or truncate
  or update of team_id, user_id, role on public.team_members
  for each statement execute function ops.facts_changed();
create trigger facts_changed after insert or delete or truncate
  or update of user_id, provider, ciphertext, status, cooling_until on public.user_api_keys
  for each statement execute function ops.facts_changed();
create trigger facts_changed after insert or delete or truncate
  or update of provider, label, ciphertext, status, cooling_until, priority, models, monthly_cap_usd, sandbox on ops.fallback_keys
  for each statement execute function ops.facts_changed();
create trigger facts_changed after insert or delete or truncate or update on ops.budgets
  for each statement execute function ops.facts_changed();
create trigger facts_changed after insert or delete or truncate or update on ops.demo_records
  for each statement execute function ops.facts_changed();

-- +goose Down
-- ops.ensure_partitions stays as it is: it makes the same tables.
drop trigger facts_changed on ops.demo_records;
drop trigger facts_changed on ops.fallback_keys;
drop trigger facts_changed on public.user_api_keys;
drop trigger facts_changed on public.team_members;
drop trigger if exists facts_changed_by_delete on auth.users;
drop trigger if exists facts_changed on auth.users;
drop table ops.idempotency, ops.learner_pace, ops.budget_counters, ops.budgets, ops.facts_version, ops.nodes;
drop function ops.facts_changed();
create index prompt_runs_running_idx on public.prompt_runs (created_at) where status = 'running';
alter table public.prompt_attempts add foreign key (run_id, created_at) references public.prompt_runs (id, created_at) on delete cascade;
alter table public.prompt_contents add foreign key (run_id, created_at) references public.prompt_runs (id, created_at) on delete cascade;
alter table public.prompt_attempts drop column try_log;
alter table public.prompt_runs drop column plan, drop column node_id;
