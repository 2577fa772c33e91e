-- The tables that the frontend and the dashboard share: teams, keys, templates,
-- lessons. Learners reach them through the Data API, so each one has row-level
-- security, policies, explicit grants (nothing is granted by default any more,
-- and older projects granted too much) and an index for every policy.

-- +goose Up
create table if not exists public.teams (
  id            uuid primary key default gen_random_uuid(),
  name          text not null check (name <> ''),
  share_prompts boolean not null default false, -- may leads read what members asked and got?
  created_at    timestamptz not null default now()
);

create table if not exists public.team_members (
  team_id    uuid not null references public.teams on delete cascade,
  user_id    uuid not null references auth.users on delete cascade,
  role       text not null default 'member' check (role in ('lead', 'member')),
  created_at timestamptz not null default now(),
  primary key (team_id, user_id)
);
create index if not exists team_members_user_id_idx on public.team_members (user_id, role);

create table if not exists public.user_api_keys (
  id                 uuid primary key default gen_random_uuid(),
  user_id            uuid not null references auth.users on delete cascade,
  provider           text not null check (provider <> ''),
  label              text not null default '',
  ciphertext         bytea not null,        -- sealed under the master key ring, bound to this row and column
  fingerprint        text not null,         -- keyed hash of the key: finds a duplicate without opening any
  last_four          text not null,
  status             text not null default 'healthy' check (status in ('healthy', 'cooling', 'invalid', 'billing', 'disabled')),
  cooling_until      timestamptz,
  last_verified_at   timestamptz,
  last_used_at       timestamptz,
  last_error_at      timestamptz,
  last_error_class   text,
  last_error_message text,
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now(),
  unique (user_id, provider, fingerprint)
);

create table if not exists public.prompt_templates (
  id          uuid primary key default gen_random_uuid(),
  owner_id    uuid references auth.users on delete set null, -- null: the platform's own
  title       text not null check (title <> ''),
  description text not null default '',
  body        text not null check (body <> ''), -- with {{name}} placeholders
  is_public   boolean not null default false,
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now()
);
create index if not exists prompt_templates_owner_id_idx on public.prompt_templates (owner_id);

create table if not exists public.team_templates (
  team_id     uuid not null references public.teams on delete cascade,
  template_id uuid not null references public.prompt_templates on delete cascade,
  shared_by   uuid references auth.users on delete set null,
  created_at  timestamptz not null default now(),
  primary key (team_id, template_id)
);
create index if not exists team_templates_template_id_idx on public.team_templates (template_id);
create index if not exists team_templates_shared_by_idx on public.team_templates (shared_by);

create table if not exists public.template_events (
  id          bigint generated always as identity primary key,
  template_id uuid not null references public.prompt_templates on delete cascade,
  user_id     uuid references auth.users on delete set null,
  event       text not null check (event in ('created', 'viewed', 'used', 'forked', 'shared')),
  created_at  timestamptz not null default now()
);
create index if not exists template_events_template_id_idx on public.template_events (template_id, created_at);
create index if not exists template_events_user_id_idx on public.template_events (user_id, created_at);

create table if not exists public.lessons (
  id         uuid primary key default gen_random_uuid(),
  slug       text not null unique,
  title      text not null check (title <> ''),
  position   integer not null default 0,
  published  boolean not null default true,
  created_at timestamptz not null default now()
);

create table if not exists public.user_progress (
  user_id      uuid not null references auth.users on delete cascade,
  lesson_id    uuid not null references public.lessons on delete cascade,
  status       text not null default 'started' check (status in ('started', 'completed')),
  score        numeric(5, 2) check (score between 0 and 100),
  started_at   timestamptz not null default now(),
  completed_at timestamptz,
  primary key (user_id, lesson_id),
  check ((status = 'completed') = (completed_at is not null))
);
create index if not exists user_progress_lesson_id_idx on public.user_progress (lesson_id);

-- Who is who, for policies. They run as their owner, so that a policy on
-- team_members can ask team_members without asking itself.
create function ops.member_team_ids() returns setof uuid
  language sql stable security definer set search_path = '' as
$$ select team_id from public.team_members where user_id = auth.uid() $$;

create function ops.led_team_ids() returns setof uuid
  language sql stable security definer set search_path = '' as
$$ select team_id from public.team_members where user_id = auth.uid() and role = 'lead' $$;

create function ops.led_learner_ids() returns setof uuid
  language sql stable security definer set search_path = '' as
$$
  select m.user_id
  from public.team_members l
  join public.team_members m using (team_id)
  where l.user_id = auth.uid() and l.role = 'lead'
$$;

create function ops.owned_template_ids() returns setof uuid
  language sql stable security definer set search_path = '' as
$$ select id from public.prompt_templates where owner_id = auth.uid() $$;

create function ops.shared_template_ids() returns setof uuid
  language sql stable security definer set search_path = '' as
$$
  select t.template_id
  from public.team_templates t
  join public.team_members m using (team_id)
  where m.user_id = auth.uid()
$$;

revoke all on function ops.member_team_ids(), ops.led_team_ids(), ops.led_learner_ids(),
  ops.owned_template_ids(), ops.shared_template_ids() from public;
grant execute on function ops.member_team_ids(), ops.led_team_ids(), ops.led_learner_ids(),
  ops.owned_template_ids(), ops.shared_template_ids() to authenticated;

alter table public.teams            enable row level security;
alter table public.team_members     enable row level security;
alter table public.user_api_keys    enable row level security;
alter table public.prompt_templates enable row level security;
alter table public.team_templates   enable row level security;
alter table public.template_events  enable row level security;
alter table public.lessons          enable row level security;
alter table public.user_progress    enable row level security;

-- Older Supabase projects grant everything on a new table, newer ones nothing:
-- after this both have the same.
revoke all on public.teams, public.team_members, public.user_api_keys, public.prompt_templates,
  public.team_templates, public.template_events, public.lessons, public.user_progress
  from public, anon, authenticated, service_role;
revoke all on sequence public.template_events_id_seq from public, anon, authenticated, service_role;

grant select, insert, update, delete on public.teams, public.team_members, public.prompt_templates,
  public.team_templates, public.template_events, public.lessons, public.user_progress
  to service_role;
grant select on public.teams, public.team_members, public.lessons to authenticated;
-- Never ciphertext, never fingerprint: neither the owner nor the frontend's
-- server reads a key back, and only we can write one.
grant select (id, user_id, provider, label, last_four, status, cooling_until, last_verified_at, last_used_at,
  last_error_at, last_error_class, last_error_message, created_at, updated_at)
  on public.user_api_keys to authenticated, service_role;
grant delete on public.user_api_keys to service_role;
grant select, insert, delete on public.prompt_templates, public.team_templates to authenticated;
grant update (title, description, body, is_public, updated_at) on public.prompt_templates to authenticated;
grant select, insert on public.template_events to authenticated;
grant select, insert on public.user_progress to authenticated;
grant update (status, score, completed_at) on public.user_progress to authenticated;

-- "= any (array(…))" asks once and then uses an index; "in (select …)" would
-- look at every row.
create policy teams_select on public.teams for select to authenticated
  using (id = any (array(select ops.member_team_ids())));

create policy team_members_select on public.team_members for select to authenticated
  using (team_id = any (array(select ops.member_team_ids())));

create policy user_api_keys_select on public.user_api_keys for select to authenticated
  using (user_id = (select auth.uid()) or user_id = any (array(select ops.led_learner_ids())));

create policy prompt_templates_select on public.prompt_templates for select to authenticated
  using (is_public or owner_id = (select auth.uid()) or id = any (array(select ops.shared_template_ids())));
create policy prompt_templates_insert on public.prompt_templates for insert to authenticated
  with check (owner_id = (select auth.uid()));
create policy prompt_templates_update on public.prompt_templates for update to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
create policy prompt_templates_delete on public.prompt_templates for delete to authenticated
  using (owner_id = (select auth.uid()));

create policy team_templates_select on public.team_templates for select to authenticated
  using (team_id = any (array(select ops.member_team_ids())));
create policy team_templates_insert on public.team_templates for insert to authenticated
  with check (shared_by = (select auth.uid()) and team_id = any (array(select ops.member_team_ids()))
    and template_id = any (array(select ops.owned_template_ids())));
create policy team_templates_delete on public.team_templates for delete to authenticated
  using (shared_by = (select auth.uid()) or team_id = any (array(select ops.led_team_ids())));

create policy template_events_select on public.template_events for select to authenticated
  using (user_id = (select auth.uid()) or user_id = any (array(select ops.led_learner_ids())));
create policy template_events_insert on public.template_events for insert to authenticated
  with check (user_id = (select auth.uid()) and exists (select from public.prompt_templates t where t.id = template_id));

create policy lessons_select on public.lessons for select to authenticated
  using (published);

create policy user_progress_select on public.user_progress for select to authenticated
  using (user_id = (select auth.uid()) or user_id = any (array(select ops.led_learner_ids())));
create policy user_progress_insert on public.user_progress for insert to authenticated
  with check (user_id = (select auth.uid()));
create policy user_progress_update on public.user_progress for update to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

-- +goose Down
drop table public.user_progress, public.lessons, public.template_events, public.team_templates,
  public.prompt_templates, public.user_api_keys, public.team_members, public.teams;
drop function ops.member_team_ids(), ops.led_team_ids(), ops.led_learner_ids(),
  ops.owned_template_ids(), ops.shared_template_ids();
