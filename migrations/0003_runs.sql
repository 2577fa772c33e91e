-- Every run, its attempts and what was said. A run's id is a UUIDv7 and its
-- created_at is that id's own millisecond, in all three tables, so an id alone
-- leads to the right month. The months are partitions in schema ops: the Data
-- API sees only the parents, which carry the policies.
--
-- No foreign key leads from these tables to learners or teams: money spent stays
-- in the books when an account is deleted, and a busy learner's row would be
-- locked by every run. What was said (prompt_contents) does go with the learner.

-- +goose Up
create table if not exists public.prompt_runs (
  id                uuid not null,
  created_at        timestamptz not null,
  user_id           uuid,                   -- the learner …
  operator_id       uuid,                   -- … or the operator on the playground
  team_id           uuid,
  template_id       uuid,
  client_request_id text,                   -- the caller's own X-Request-ID
  models            text[] not null,
  config            jsonb not null default '{}',
  stream            boolean not null default false,
  status            text not null default 'running'
                    check (status in ('running', 'success', 'partial', 'error', 'cancelled', 'interrupted')),
  finished_at       timestamptz,
  duration_ms       integer,
  total_tokens      bigint,
  total_cost_usd    numeric,                -- sum of the priced attempts
  unpriced          integer,                -- attempts that are not in that sum
  primary key (id, created_at),
  check (num_nonnulls(user_id, operator_id) = 1),
  check ((status = 'running') = (finished_at is null))
) partition by range (created_at);
create index if not exists prompt_runs_user_id_idx on public.prompt_runs (user_id, created_at);
create index if not exists prompt_runs_team_id_idx on public.prompt_runs (team_id, created_at) where team_id is not null;
create index if not exists prompt_runs_running_idx on public.prompt_runs (created_at) where status = 'running';

create table if not exists public.prompt_attempts (
  run_id                uuid not null,
  ordinal               smallint not null,      -- place in the request's models, from 0
  created_at            timestamptz not null,
  user_id               uuid,
  operator_id           uuid,
  team_id               uuid,
  template_id           uuid,
  provider              text not null,
  model                 text not null,          -- as requested: provider/model
  status                text not null default 'running'
                        check (status in ('running', 'ok', 'error', 'cancelled', 'interrupted')),
  key_source            text check (key_source in ('user', 'fallback')), -- null: there was no key
  user_key_id           uuid,
  fallback_key_id       uuid,
  tries                 smallint not null default 0,
  input_tokens          bigint,                 -- includes cached input and cache writes; null: unknown
  cached_input_tokens   bigint,
  cache_write_tokens    bigint,
  output_tokens         bigint,                 -- includes reasoning
  reasoning_tokens      bigint,
  total_tokens          bigint generated always as (input_tokens + output_tokens) stored,
  usage_source          text check (usage_source in ('reported', 'estimated')),
  cost_usd              numeric,                -- null: unpriced (or still running), never 0 for it
  cost_source           text check (cost_source in ('computed', 'reported', 'estimated', 'unpriced')),
  price_id              bigint,                 -- the ops.model_prices row it was computed from
  finish_reason         text,
  error_class           text,
  error_message         text,
  http_status           integer,
  retry_after_ms        bigint,
  provider_request_id   text,
  duration_ms           integer,
  first_token_ms        integer,
  primary key (run_id, created_at, ordinal),
  foreign key (run_id, created_at) references public.prompt_runs (id, created_at) on delete cascade,
  check (cost_source is distinct from 'unpriced' or cost_usd is null),
  check (key_source is distinct from 'user' or user_key_id is not null),
  check (key_source is distinct from 'fallback' or fallback_key_id is not null)
) partition by range (created_at);
create index if not exists prompt_attempts_created_at_idx on public.prompt_attempts (created_at);
create index if not exists prompt_attempts_user_id_idx on public.prompt_attempts (user_id, created_at);
create index if not exists prompt_attempts_team_id_idx on public.prompt_attempts (team_id, created_at) where team_id is not null;

create table if not exists public.prompt_contents (
  run_id     uuid not null,
  created_at timestamptz not null,
  user_id    uuid references auth.users on delete cascade,
  team_id    uuid,
  system     text,
  messages   jsonb not null,                -- [{role, content}], as sent, template filled in
  outputs    jsonb,                         -- {"provider/model": text}
  primary key (run_id, created_at),
  foreign key (run_id, created_at) references public.prompt_runs (id, created_at) on delete cascade
) partition by range (created_at);
create index if not exists prompt_contents_user_id_idx on public.prompt_contents (user_id, created_at);
create index if not exists prompt_contents_team_id_idx on public.prompt_contents (team_id, created_at) where team_id is not null;

-- Makes the partitions of every month from first to last; months that exist are
-- left alone. Returns how many tables it made.
--
-- For their foreign keys, attaching locks the tables at both ends (auth.users,
-- too) against writers until the end of the transaction. So call it in one of
-- its own, and again when it fails with lock_not_available (55P03).
-- +goose StatementBegin
create function ops.ensure_partitions(first date, last date) returns integer
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
      if to_regclass('ops.' || part) is null then
        -- First of all, and in the order in which a run is written: attaching
        -- takes the same locks in another one.
        lock table public.prompt_runs, public.prompt_attempts, public.prompt_contents in share row exclusive mode;
        execute format('create table ops.%I (like public.%I including defaults including generated including constraints)', part, parent);
        execute format('alter table public.%I attach partition ops.%I for values from (%L) to (%L)',
          parent, part, month::timestamp at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
        made := made + 1;
      end if;
    end loop;
    month := (month + interval '1 month')::date;
  end loop;
  return made;
end
$$;
-- +goose StatementEnd
revoke all on function ops.ensure_partitions(date, date) from public;

-- The teams whose members let their leads read what was said.
create function ops.led_sharing_team_ids() returns setof uuid
  language sql stable security definer set search_path = '' as
$$
  select m.team_id
  from public.team_members m
  join public.teams t on t.id = m.team_id
  where m.user_id = auth.uid() and m.role = 'lead' and t.share_prompts
$$;
revoke all on function ops.led_sharing_team_ids() from public;
grant execute on function ops.led_sharing_team_ids() to authenticated;

alter table public.prompt_runs     enable row level security;
alter table public.prompt_attempts enable row level security;
alter table public.prompt_contents enable row level security;

revoke all on public.prompt_runs, public.prompt_attempts, public.prompt_contents from public, anon, authenticated, service_role;
grant select, insert, update, delete on public.prompt_runs, public.prompt_attempts, public.prompt_contents to service_role;
grant select on public.prompt_runs, public.prompt_attempts, public.prompt_contents to authenticated;

create policy prompt_runs_select on public.prompt_runs for select to authenticated
  using (user_id = (select auth.uid()) or team_id = any (array(select ops.led_team_ids())));
create policy prompt_attempts_select on public.prompt_attempts for select to authenticated
  using (user_id = (select auth.uid()) or team_id = any (array(select ops.led_team_ids())));
create policy prompt_contents_select on public.prompt_contents for select to authenticated
  using (user_id = (select auth.uid()) or team_id = any (array(select ops.led_sharing_team_ids())));

-- +goose Down
drop table public.prompt_contents, public.prompt_attempts, public.prompt_runs;
drop function ops.ensure_partitions(date, date), ops.led_sharing_team_ids();
