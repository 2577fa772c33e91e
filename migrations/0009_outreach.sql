-- Who lacks a key of their own, and what was done about it.

-- +goose Up
-- Where a learner stands in the outreach queue. There is a row for everybody who
-- was ever without a usable key; whoever is not yet in here is new.
create table ops.outreach (
  learner_id    uuid primary key references auth.users on delete cascade,
  state         text not null default 'new' check (state in ('new', 'contacted', 'snoozed', 'resolved', 'reopened')),
  state_at      timestamptz not null,       -- since when
  snoozed_until timestamptz,
  nudged_at     timestamptz,                -- the last nudge that was queued
  revision      integer not null default 1, -- of what operators do: two at once are noticed
  check ((state = 'snoozed') = (snoozed_until is not null))
);
create index outreach_state_idx on ops.outreach (state);

-- Who did what when. Entries are only ever added.
create table ops.outreach_events (
  id          bigint generated always as identity primary key,
  learner_id  uuid not null references auth.users on delete cascade,
  at          timestamptz not null,
  kind        text not null check (kind in ('contacted', 'snoozed', 'reopened', 'resolved', 'nudged', 'undone')),
  from_state  text not null,
  from_until  timestamptz,                  -- of a snooze that this ended
  to_state    text not null,
  to_until    timestamptz,
  operator_id uuid,                         -- null: by itself
  actor       text not null,                -- as known then
  note        text not null default ''      -- of the operator, or why it happened by itself
);
create index outreach_events_learner_id_idx on ops.outreach_events (learner_id, id desc);

-- Every nudge that somebody asked for, sent or not.
create table ops.nudges (
  id          uuid primary key,
  learner_id  uuid not null references auth.users on delete cascade,
  at          timestamptz not null,
  operator_id uuid,
  actor       text not null,
  channel     text not null check (channel in ('email', 'slack')),
  delivery_id uuid,                         -- ops.deliveries; a message to Slack has several nudges
  skipped     text not null default ''      -- why it was not sent; '' for one that was queued
);
create index nudges_learner_id_idx on ops.nudges (learner_id, at desc);
create index nudges_at_idx on ops.nudges (at desc, id desc);
create index nudges_delivery_id_idx on ops.nudges (delivery_id) where delivery_id is not null;

-- How nudges are written and how often. Null is the text that the program brings
-- along.
create table ops.outreach_settings (
  only_row      boolean primary key default true check (only_row),
  nudge_days    integer not null default 14 check (nudge_days between 1 and 365),
  keys_url      text not null default '',   -- where learners add a key
  email_subject text,
  email_text    text,
  slack_text    text,
  updated_at    timestamptz not null,
  updated_by    uuid
);

-- How many learners had a usable key, day by day in the configured zone.
create table ops.key_health_days (
  day            date not null,
  team_id        uuid references public.teams on delete cascade, -- null: all learners
  provider       text not null,             -- 'any': a key of whichever provider
  learners       integer not null,
  usable         integer not null,          -- of them with a usable key
  broken         integer not null,          -- with one that stopped working
  active_without integer not null,          -- active and without a usable key
  counted_at     timestamptz not null,
  demo           boolean not null default false, -- made up, or counted while there was demo data
  unique nulls not distinct (day, team_id, provider)
);
create index key_health_days_team_id_idx on ops.key_health_days (team_id, provider, day);

-- Where there is much to count, the attempts of a stretch of time are added up
-- beforehand. What pages show is this, plus what is younger, minus what has become
-- too old since. Without a row in fallback_stretch everything is counted anew.
create table ops.fallback_stretch (
  only_row boolean primary key default true check (only_row),
  from_at  timestamptz not null,            -- included
  until_at timestamptz not null,            -- not included
  made_at  timestamptz not null,
  check (from_at <= until_at)
);
create table ops.fallback_sums (
  user_id  uuid not null,
  provider text not null,
  attempts bigint not null,
  cost_usd numeric not null,
  unpriced bigint not null,
  primary key (user_id, provider)
);
create table ops.last_runs (
  user_id uuid primary key,
  run_at  timestamptz not null
);

-- A lead has to be able to tell whether a key can be used.
grant select (suspect) on public.user_api_keys to authenticated, service_role;

-- +goose Down
revoke select (suspect) on public.user_api_keys from authenticated, service_role;
drop table ops.last_runs, ops.fallback_sums, ops.fallback_stretch, ops.key_health_days, ops.outreach_settings,
  ops.nudges, ops.outreach_events, ops.outreach;
