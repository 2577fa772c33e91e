-- Key Health with very many learners: what is known of each of them is counted
-- ahead, and a page works out anew only those of whom something may have changed
-- since. What it shows is at every moment what the rows say:
--
-- * Whoever changes a key, an account, a membership or a place in the queue leaves a
--   mark with the learner's id, in the same transaction. A reader sees both or
--   neither. What was counted was counted in one snapshot, and the marks that this
--   snapshot saw are deleted with it; a transaction that commits later, however early
--   it began, leaves its marks to whoever reads.
-- * Of attempts, those up to until_at are counted; the runs of the minutes since then
--   lead to the learners who have younger ones. No trigger of its own is needed for
--   that, and the run endpoint does nothing more than before: until_at is a horizon like
--   that of package rollup, before which every row is visible that came within four
--   minutes, and no attempt that was counted was still running. A row that is older
--   than that when it is written or deleted, or had its outcome when it is changed,
--   leaves a mark in ops.mark_usage, which fires for those only; and so does an outcome
--   that comes after an hour. A run comes and goes with its attempts.
-- * What time does by itself, a ban or a snooze that ends, and attempts that become too
--   old, is found by its time.
--
-- Marks are only ever added, each transaction its own, so that nobody waits for anybody.

-- +goose Up
-- Learners of whom something may not be as it was counted.
create table ops.key_health_marks (
  learner_id uuid not null,         -- 0: nothing is as it was counted
  attempts   boolean not null,      -- what was added up of their attempts is not right any more
  xid        xid8 not null,         -- every transaction makes its own mark: another's may be on its way out
  primary key (learner_id, attempts, xid)
);

create table ops.key_health_horizon (
  only_row boolean primary key default true check (only_row),
  noted_at timestamptz not null,    -- what was written before this moment …
  noted_by xid8 not null            -- … was written by transactions before this one
);

-- Every learner as of the moment ops.fallback_stretch was made.
create table ops.key_health_learners (
  learner_id   uuid primary key,
  called       text not null,       -- name and address, in small letters
  team_ids     uuid[] not null,
  usable       boolean not null,
  broken       boolean not null,
  broken_since timestamptz,
  fell_back    boolean not null,
  lacks        boolean not null,
  cost         numeric not null,
  unpriced     bigint not null,
  active       boolean not null,
  state        text not null
) with (fillfactor = 80);
create index key_health_learners_queue_idx on ops.key_health_learners (active desc, cost desc, learner_id);
create index key_health_learners_cost_idx on ops.key_health_learners (cost desc, learner_id);
create index key_health_learners_broken_idx on ops.key_health_learners (broken_since) where broken;

-- How they are off with a provider.
create table ops.key_health_keys (
  user_id    uuid not null,
  provider   text not null,
  usable     boolean not null,
  broken     boolean not null,
  lacks      boolean not null,      -- was used on a fallback key without a usable one
  cost       numeric not null,
  unpriced   bigint not null,
  primary key (user_id, provider)
) with (fillfactor = 80);
create index key_health_keys_usable_idx on ops.key_health_keys (provider, user_id) where usable;
create index key_health_keys_broken_idx on ops.key_health_keys (provider, user_id) where broken;

-- How many of them there are: of all, with a provider, in a team.
create table ops.key_health_sums (
  provider       text not null,     -- '': any
  team_id        uuid not null,     -- 0: all
  learners       bigint not null,   -- with a provider none, as active_without, lacks and the states
  active         bigint not null,   -- with a provider: with a usable key for it
  active_without bigint not null,
  usable         bigint not null,
  broken         bigint not null,
  fell_back      bigint not null,   -- with a provider: without a usable key for it
  lacks          bigint not null,
  cost           numeric not null,
  unpriced       bigint not null,
  new            bigint not null,
  contacted      bigint not null,
  snoozed        bigint not null,
  resolved       bigint not null,
  reopened       bigint not null,
  primary key (provider, team_id)
);

-- What the attempts of the stretch come to by team; ops.fallback_sums and ops.last_runs
-- are the sums of it.
create table ops.team_fallbacks (
  team_id  uuid not null,           -- 0: for none
  user_id  uuid not null,
  provider text not null,           -- '': any
  attempts bigint not null,
  cost_usd numeric not null,
  unpriced bigint not null,
  run_at   timestamptz,             -- of provider '': the last run, on whosever keys
  primary key (team_id, user_id, provider),
  check ((provider = '') = (run_at is not null))
) with (fillfactor = 80);

-- Leads read it of the teams that they lead. Schema ops stays closed to the Data API:
-- they reach it through a view, which reads with the rights of whoever asks.
alter table ops.team_fallbacks enable row level security;
create policy team_fallbacks_select on ops.team_fallbacks for select to authenticated
  using (team_id = any (array(select ops.led_team_ids())));
create view public.team_fallbacks with (security_invoker = true) as
select * from ops.team_fallbacks;
revoke all on public.team_fallbacks from public, anon, authenticated, service_role;
grant select on public.team_fallbacks, ops.team_fallbacks to authenticated;

-- The stretch, if it can be used to look back until a moment: nothing in it changed of
-- anybody in a team that the caller leads.
create function public.fallback_stretch(since timestamptz, out from_at timestamptz, out until_at timestamptz)
  language sql stable security definer set search_path = '' as
$$
  select s.from_at, s.until_at
  from (select) one
  left join ops.fallback_stretch s
    on s.from_at <= since
    and not exists (
      select from ops.key_health_marks m
      where m.learner_id = '00000000-0000-0000-0000-000000000000'
         or m.attempts and m.learner_id in (select ops.led_learner_ids()))
$$;
revoke all on function public.fallback_stretch(timestamptz) from public, anon, authenticated, service_role;
grant execute on function public.fallback_stretch(timestamptz) to authenticated;

-- Whether learners are counted ahead, too, and not only attempts.
alter table ops.fallback_stretch add column learners boolean not null default false;

-- Bans end by themselves.
create table ops.key_health_bans (
  learner_id   uuid primary key,
  banned_until timestamptz not null
);
create index key_health_bans_until_idx on ops.key_health_bans (banned_until);
create index outreach_snoozed_until_idx on ops.outreach (snoozed_until) where snoozed_until is not null;

-- The trigger's argument is the column that says who it is.
-- +goose StatementBegin
create function ops.mark_key_health() returns trigger
  language plpgsql security definer set search_path = '' as
$$
declare
  who uuid[];
begin
  if tg_op = 'TRUNCATE' then
    who := array['00000000-0000-0000-0000-000000000000'::uuid];
  elsif tg_argv[0] = 'id' then
    who := array[old.id, new.id];
  elsif tg_argv[0] = 'learner_id' then
    who := array[old.learner_id, new.learner_id];
  else
    who := array[old.user_id, new.user_id];
  end if;
  insert into ops.key_health_marks
  select distinct id, false, pg_current_xact_id() from unnest(who) id where id is not null
  on conflict do nothing;
  return null;
end
$$;

-- As in 0012, and the learner.
create or replace function ops.mark_usage() returns trigger
  language plpgsql security definer set search_path = '' as
$$
begin
  if tg_op <> 'INSERT' then
    insert into ops.usage_marks values (date_bin('15 minutes', old.created_at, 'epoch'), pg_current_xact_id()) on conflict do nothing;
  end if;
  if tg_op <> 'DELETE' then
    insert into ops.usage_marks values (date_bin('15 minutes', new.created_at, 'epoch'), pg_current_xact_id()) on conflict do nothing;
  end if;
  -- Key Health looks back for two weeks; what changes in an attempt on a key of their
  -- own is nothing to it.
  if greatest(old.created_at, new.created_at) > clock_timestamp() - interval '15 days'
     and (tg_op <> 'UPDATE' or old.key_source = 'fallback' or new.key_source = 'fallback') then
    insert into ops.key_health_marks
    select distinct id, true, pg_current_xact_id() from unnest(array[old.user_id, new.user_id]) id where id is not null
    on conflict do nothing;
  end if;
  return null;
end
$$;
create or replace function ops.forget_usage() returns trigger
  language plpgsql security definer set search_path = '' as
$$
begin
  delete from ops.usage_sums;
  delete from ops.usage_periods;
  insert into ops.key_health_marks values ('00000000-0000-0000-0000-000000000000', true, pg_current_xact_id()) on conflict do nothing;
  return null;
end
$$;
-- +goose StatementEnd
revoke all on function ops.mark_key_health() from public;

-- The triggers of 0012 fire for some more rows, none of which a run writes that goes well:
-- those that come late by minutes and not only by an hour, and those that had their
-- outcome before.
drop trigger mark_usage_insert on public.prompt_attempts;
drop trigger mark_usage_update on public.prompt_attempts;
drop trigger mark_usage_delete on public.prompt_attempts;
create trigger mark_usage_insert after insert on public.prompt_attempts for each row
  when (new.created_at < clock_timestamp() - interval '4 minutes' and coalesce(current_setting('promptops.marks', true), '') <> 'off')
  execute function ops.mark_usage();
create trigger mark_usage_update after update on public.prompt_attempts for each row
  when (old.status <> 'running' or old.created_at < clock_timestamp() - interval '1 hour' or new.created_at < clock_timestamp() - interval '1 hour')
  execute function ops.mark_usage();
create trigger mark_usage_delete after delete on public.prompt_attempts for each row
  when (old.created_at < clock_timestamp() - interval '4 minutes')
  execute function ops.mark_usage();

-- A key that rests, is used or is checked is as good as before: nothing changes here.
create trigger mark_key_health after insert or delete on public.user_api_keys for each row
  execute function ops.mark_key_health('user_id');
create trigger mark_key_health_change after update of user_id, provider, status, suspect, status_at on public.user_api_keys for each row
  when (old.user_id <> new.user_id or old.provider <> new.provider
    or (old.status in ('healthy', 'cooling') and coalesce(old.suspect, '') not in ('invalid_key', 'permission', 'billing'))
       <> (new.status in ('healthy', 'cooling') and coalesce(new.suspect, '') not in ('invalid_key', 'permission', 'billing'))
    or (old.status in ('invalid', 'billing')) <> (new.status in ('invalid', 'billing'))
    or new.status in ('invalid', 'billing') and old.status_at <> new.status_at)
  execute function ops.mark_key_health('user_id');
create trigger mark_key_health_truncate after truncate on public.user_api_keys for each statement
  execute function ops.mark_key_health();

create trigger mark_key_health after insert or delete or update of team_id, user_id on public.team_members for each row
  execute function ops.mark_key_health('user_id');
create trigger mark_key_health_truncate after truncate on public.team_members for each statement
  execute function ops.mark_key_health();

create trigger mark_key_health after insert or delete on ops.outreach for each row
  execute function ops.mark_key_health('learner_id');
create trigger mark_key_health_change after update of learner_id, state, snoozed_until on ops.outreach for each row
  when (old.learner_id <> new.learner_id or old.state <> new.state or old.snoozed_until is distinct from new.snoozed_until)
  execute function ops.mark_key_health('learner_id');
create trigger mark_key_health_truncate after truncate on ops.outreach for each statement
  execute function ops.mark_key_health();

-- +goose StatementBegin
do $$
begin
  create trigger mark_key_health after insert or delete on auth.users for each row
    execute function ops.mark_key_health('id');
  create trigger mark_key_health_change after update on auth.users for each row
    when (old.id <> new.id or old.is_anonymous <> new.is_anonymous or old.email is distinct from new.email
      or old.deleted_at is distinct from new.deleted_at or old.banned_until is distinct from new.banned_until
      or old.raw_user_meta_data is distinct from new.raw_user_meta_data)
    execute function ops.mark_key_health('id');
exception when insufficient_privilege then
  update ops.facts_version set complete = false; -- the table is somebody else's: nothing is counted ahead
end $$;
-- +goose StatementEnd

-- What was added up before was not marked.
delete from ops.fallback_stretch;
delete from ops.fallback_sums;
delete from ops.last_runs;

-- +goose Down
drop trigger if exists mark_key_health_change on auth.users;
drop trigger if exists mark_key_health on auth.users;
drop trigger mark_key_health_truncate on ops.outreach;
drop trigger mark_key_health_change on ops.outreach;
drop trigger mark_key_health on ops.outreach;
drop trigger mark_key_health_truncate on public.team_members;
drop trigger mark_key_health on public.team_members;
drop trigger mark_key_health_truncate on public.user_api_keys;
drop trigger mark_key_health_change on public.user_api_keys;
drop trigger mark_key_health on public.user_api_keys;
drop trigger mark_usage_delete on public.prompt_attempts;
drop trigger mark_usage_update on public.prompt_attempts;
drop trigger mark_usage_insert on public.prompt_attempts;
-- +goose StatementBegin
create or replace function ops.forget_usage() returns trigger
  language plpgsql security definer set search_path = '' as
$$
begin
  delete from ops.usage_sums;
  delete from ops.usage_periods;
  return null;
end
$$;
create or replace function ops.mark_usage() returns trigger
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
-- +goose StatementEnd
create trigger mark_usage_insert after insert on public.prompt_attempts for each row
  when (new.created_at < clock_timestamp() - interval '1 hour' and coalesce(current_setting('promptops.marks', true), '') <> 'off')
  execute function ops.mark_usage();
create trigger mark_usage_update after update on public.prompt_attempts for each row
  when (old.created_at < clock_timestamp() - interval '1 hour' or new.created_at < clock_timestamp() - interval '1 hour')
  execute function ops.mark_usage();
create trigger mark_usage_delete after delete on public.prompt_attempts for each row
  when (old.created_at < clock_timestamp() - interval '1 hour')
  execute function ops.mark_usage();
drop function ops.mark_key_health();
drop index ops.outreach_snoozed_until_idx;
alter table ops.fallback_stretch drop column learners;
drop function public.fallback_stretch(timestamptz);
drop view public.team_fallbacks;
drop table ops.team_fallbacks;
drop table ops.key_health_bans, ops.key_health_sums, ops.key_health_keys, ops.key_health_learners, ops.key_health_horizon, ops.key_health_marks;
