-- Who was active on which day, kept for User Activity, so that it need not read
-- half a year of runs to count each learner once. At every moment the page shows
-- what the rows say: it takes from here only the days that are known to be right and
-- reads the rows of everything else. How that is known is what migrations/0012 and
-- package rollup say of sums: what is written, changed or deleted when it is more
-- than an hour old leaves a mark in the same transaction, and what came in time is
-- counted when every transaction that could have written it has ended.

-- +goose Up
-- What has been counted of a zone: a day from its beginning until ends_at, which
-- for today moves on every minute, or a week (from Monday on) or month of which every
-- day is counted.
create table ops.activity_periods (
  zone      text not null,
  whole     text not null check (whole in ('day', 'week', 'month')),
  starts_at timestamptz not null,
  ends_at   timestamptz not null,
  primary key (zone, whole, starts_at)
);

-- The days of a learner, as bits: the first one is 1 January 2024 in the zone. Bits
-- count only for days that are in activity_periods. Of the times, those in a marked
-- quarter of an hour do not count.
create table ops.active_learners (
  zone               text not null,
  learner_id         uuid not null,
  days               bit varying not null, -- on which anything was done
  learned            bit varying not null, -- on which something was done with lessons or templates
  first_run_at       timestamptz,
  last_run_at        timestamptz,
  last_run_id        uuid,
  last_run_failed    boolean,
  first_completed_at timestamptz,          -- a lesson
  completed_days     smallint[] not null,  -- the day of each lesson completed, by its place in days
  round              bigint not null,      -- in which it was last changed
  primary key (zone, learner_id)
) with (fillfactor = 80);

-- The same of what a learner ran for a team.
create table ops.active_members (
  zone            text not null,
  team_id         uuid not null,
  learner_id      uuid not null,
  days            bit varying not null,
  first_run_at    timestamptz,
  last_run_at     timestamptz,
  last_run_id     uuid,
  last_run_failed boolean,
  round           bigint not null,
  primary key (zone, team_id, learner_id)
) with (fillfactor = 80);

-- What changed since a round is all that a node has to read which knows what was
-- before. A new epoch is when all was dropped.
create index active_learners_round_idx on ops.active_learners (zone, round);
create index active_members_round_idx on ops.active_members (zone, round);
create table ops.activity_round (
  only_row boolean primary key default true check (only_row),
  epoch    uuid not null default gen_random_uuid(),
  round    bigint not null default 0
);
insert into ops.activity_round default values;

create table ops.activity_sums (
  zone       text not null,
  whole      text not null,
  starts_at  timestamptz not null,
  kind       text not null check (kind in ('all', 'team', 'lesson', 'template')),
  subject_id uuid,                        -- team, lesson or template; null: all
  runs       bigint not null default 0,   -- of kind all and team, as the next three
  unpriced   bigint not null default 0,
  cost       numeric not null default 0,
  last_at    timestamptz,                 -- of the last run
  started    bigint not null default 0,   -- of kind all and lesson, as the next one
  completed  bigint not null default 0,
  scored     bigint not null default 0,   -- of kind lesson, as the next one
  score      numeric not null default 0,
  created    bigint not null default 0,   -- of kind template, as the next four
  viewed     bigint not null default 0,
  used       bigint not null default 0,
  forked     bigint not null default 0,
  shared     bigint not null default 0,
  unique nulls not distinct (zone, whole, kind, starts_at, subject_id),
  foreign key (zone, whole, starts_at) references ops.activity_periods on delete cascade
);
create index activity_sums_period_idx on ops.activity_sums (zone, whole, starts_at);
create index activity_sums_subject_idx on ops.activity_sums (zone, kind, subject_id, starts_at) where kind = 'team';

-- Quarters of an hour in which something changed that may have been counted.
create table ops.activity_marks (
  slot timestamptz not null,
  xid  xid8 not null, -- every transaction makes its own mark: another's may be on its way out
  primary key (slot, xid)
);

-- Until when everything that came in time is known to be visible.
create table ops.activity_horizon (
  only_row boolean primary key default true check (only_row),
  noted_at timestamptz not null, -- what was written before this moment …
  noted_by xid8 not null         -- … was written by transactions before this one
);

-- Two sets of days as one; what is missing at the end of either is empty. These two
-- set no search_path, so that Postgres can write them into the query itself.
create function ops.join_days(a bit varying, b bit varying) returns bit varying
  language sql immutable parallel safe as
$$
  select case when length(a) >= length(b) then a | (b || repeat('0', length(a) - length(b))::varbit)
              else b | (a || repeat('0', length(b) - length(a))::varbit) end
$$;

-- The days of a that are not in b.
create function ops.without_days(a bit varying, b bit varying) returns bit varying
  language sql immutable parallel safe as
$$ select a & ~ substring(b || repeat('0', greatest(length(a) - length(b), 0))::varbit from 1 for length(a)) $$;

revoke all on function ops.join_days(bit varying, bit varying), ops.without_days(bit varying, bit varying) from public;

-- +goose StatementBegin
create function ops.mark_activity(variadic times timestamptz[]) returns void
  language sql security definer set search_path = '' as
$$
  insert into ops.activity_marks
  select distinct date_bin('15 minutes', at, 'epoch'), pg_current_xact_id()
  from unnest(times) at
  where at < clock_timestamp() - interval '1 hour'
  on conflict do nothing
$$;
create function ops.mark_run() returns trigger
  language plpgsql security definer set search_path = '' as
$$
begin
  perform ops.mark_activity(case when tg_op <> 'INSERT' then old.created_at end, case when tg_op <> 'DELETE' then new.created_at end);
  return null;
end
$$;
create function ops.mark_progress() returns trigger
  language plpgsql security definer set search_path = '' as
$$
begin
  -- Completing a lesson changes nothing on the day on which it was started.
  if tg_op = 'UPDATE' and (old.user_id, old.lesson_id, old.started_at) is not distinct from (new.user_id, new.lesson_id, new.started_at) then
    perform ops.mark_activity(old.completed_at, new.completed_at);
  else
    perform ops.mark_activity(case when tg_op <> 'INSERT' then old.started_at end, case when tg_op <> 'INSERT' then old.completed_at end,
                              case when tg_op <> 'DELETE' then new.started_at end, case when tg_op <> 'DELETE' then new.completed_at end);
  end if;
  return null;
end
$$;
create function ops.forget_activity() returns trigger
  language plpgsql security definer set search_path = '' as
$$
begin
  delete from ops.activity_periods;
  delete from ops.active_learners;
  delete from ops.active_members;
  update ops.activity_round set epoch = gen_random_uuid();
  return null;
end
$$;
-- +goose StatementEnd
revoke all on function ops.mark_activity(timestamptz[]), ops.mark_run(), ops.mark_progress(), ops.forget_activity() from public;

-- As for sums, promptops.marks = off is for who loads very much and counts it anew.
create trigger mark_activity_insert after insert on public.prompt_runs for each row
  when (new.created_at < clock_timestamp() - interval '1 hour' and coalesce(current_setting('promptops.marks', true), '') <> 'off')
  execute function ops.mark_run();
create trigger mark_activity_update after update on public.prompt_runs for each row
  when (old.created_at < clock_timestamp() - interval '1 hour' or new.created_at < clock_timestamp() - interval '1 hour')
  execute function ops.mark_run();
create trigger mark_activity_delete after delete on public.prompt_runs for each row
  when (old.created_at < clock_timestamp() - interval '1 hour')
  execute function ops.mark_run();
create trigger forget_activity after truncate on public.prompt_runs for each statement execute function ops.forget_activity();

create trigger mark_activity_insert after insert on public.template_events for each row
  when (new.created_at < clock_timestamp() - interval '1 hour' and coalesce(current_setting('promptops.marks', true), '') <> 'off')
  execute function ops.mark_run();
create trigger mark_activity_update after update on public.template_events for each row
  when (old.created_at < clock_timestamp() - interval '1 hour' or new.created_at < clock_timestamp() - interval '1 hour')
  execute function ops.mark_run();
create trigger mark_activity_delete after delete on public.template_events for each row
  when (old.created_at < clock_timestamp() - interval '1 hour')
  execute function ops.mark_run();
create trigger forget_activity after truncate on public.template_events for each statement execute function ops.forget_activity();

create trigger mark_activity_insert after insert on public.user_progress for each row
  when ((new.started_at < clock_timestamp() - interval '1 hour' or new.completed_at < clock_timestamp() - interval '1 hour')
    and coalesce(current_setting('promptops.marks', true), '') <> 'off')
  execute function ops.mark_progress();
create trigger mark_activity_change after update or delete on public.user_progress for each row execute function ops.mark_progress();
create trigger forget_activity after truncate on public.user_progress for each statement execute function ops.forget_activity();

-- What is not counted yet is found by its time.
create index if not exists template_events_created_at_idx on public.template_events (created_at);
create index if not exists user_progress_started_at_idx on public.user_progress (started_at);
create index if not exists user_progress_completed_at_idx on public.user_progress (completed_at) where completed_at is not null;

-- +goose Down
drop index public.user_progress_completed_at_idx, public.user_progress_started_at_idx, public.template_events_created_at_idx;
drop trigger forget_activity on public.user_progress;
drop trigger mark_activity_change on public.user_progress;
drop trigger mark_activity_insert on public.user_progress;
drop trigger forget_activity on public.template_events;
drop trigger mark_activity_delete on public.template_events;
drop trigger mark_activity_update on public.template_events;
drop trigger mark_activity_insert on public.template_events;
drop trigger forget_activity on public.prompt_runs;
drop trigger mark_activity_delete on public.prompt_runs;
drop trigger mark_activity_update on public.prompt_runs;
drop trigger mark_activity_insert on public.prompt_runs;
drop function ops.forget_activity(), ops.mark_progress(), ops.mark_run(), ops.mark_activity(timestamptz[]),
  ops.without_days(bit varying, bit varying), ops.join_days(bit varying, bit varying);
drop table ops.activity_round, ops.activity_horizon, ops.activity_marks, ops.activity_sums, ops.active_members, ops.active_learners, ops.activity_periods;
