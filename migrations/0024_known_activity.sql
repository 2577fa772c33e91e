-- User Activity remembers between looks what cannot have changed, and team leads read
-- what was counted, too: through row-level security, as everything that they see, so that
-- no handler can show them another team by mistake.
--
-- Schema ops stays closed to them. They read views, which stand where roles may look
-- and run with the reader's rights: who else asks gets nothing. What the views show of a
-- team are sums of rows that its leads may read one by one.

-- +goose Up
-- In which round a period was counted. What was counted of it stays as it is until a
-- later round counts it anew, which is how to know that something remembered holds.
alter table ops.activity_periods add round bigint not null default 0;

alter table ops.active_learners enable row level security;
alter table ops.active_members  enable row level security;
alter table ops.activity_sums   enable row level security;

create policy active_learners_select on ops.active_learners for select to authenticated
  using (learner_id = any (array(select ops.led_learner_ids())));
create policy active_members_select on ops.active_members for select to authenticated
  using (team_id = any (array(select ops.led_team_ids())));
create policy activity_sums_select on ops.activity_sums for select to authenticated
  using (kind = 'team' and subject_id = any (array(select ops.led_team_ids())));

-- Of learners no runs: those of other teams are none of a lead's business.
grant select (zone, learner_id, learned, first_completed_at, completed_days) on ops.active_learners to authenticated;
grant select (zone, team_id, learner_id, days, first_run_at, last_run_at, last_run_id, last_run_failed) on ops.active_members to authenticated;
grant select (zone, whole, starts_at, kind, subject_id, runs, unpriced, cost, last_at) on ops.activity_sums to authenticated;

create view public.led_active_learners with (security_invoker = true) as
  select zone, learner_id, learned, first_completed_at, completed_days from ops.active_learners;
create view public.led_active_members with (security_invoker = true) as
  select zone, team_id, learner_id, days, first_run_at, last_run_at, last_run_id, last_run_failed from ops.active_members;
create view public.led_activity_sums with (security_invoker = true) as
  select zone, whole, starts_at, subject_id as team_id, runs, unpriced, cost, last_at from ops.activity_sums where kind = 'team';

revoke all on public.led_active_learners, public.led_active_members, public.led_activity_sums from public, anon, authenticated, service_role;
grant select on public.led_active_learners, public.led_active_members, public.led_activity_sums to authenticated;

-- Who has an account, since when and with which first key, and who is in which team, is
-- remembered between looks, too. As with days, whoever changes that leaves a mark in the
-- same transaction: what a reader sees is told by the marks that are visible to it, and
-- by how often Keeper has taken away those that were. A mark is a row of the writer's own,
-- so that no writer waits for another.
create table ops.account_marks (
  xid xid8 primary key
);
alter table ops.activity_round add accounts bigint default 0; -- how often marks were taken away; null: some are missing

-- +goose StatementBegin
create function ops.mark_accounts() returns trigger
  language plpgsql security definer set search_path = '' as
$$
begin
  insert into ops.account_marks values (pg_current_xact_id()) on conflict do nothing;
  return null;
end
$$;
do $$
begin
  create trigger mark_accounts after insert or delete or truncate on auth.users for each statement execute function ops.mark_accounts();
  create trigger mark_accounts_by_update after update on auth.users for each row
    when ((old.id, old.created_at, old.deleted_at, old.is_anonymous) is distinct from (new.id, new.created_at, new.deleted_at, new.is_anonymous))
    execute function ops.mark_accounts();
exception when insufficient_privilege then
  update ops.activity_round set accounts = null; -- the table is somebody else's
end $$;
-- +goose StatementEnd
revoke all on function ops.mark_accounts() from public;
create trigger mark_accounts after insert or delete or truncate or update of user_id, created_at on public.user_api_keys
  for each statement execute function ops.mark_accounts();
create trigger mark_accounts after insert or delete or truncate or update of team_id, user_id on public.team_members
  for each statement execute function ops.mark_accounts();

-- +goose Down
drop trigger mark_accounts on public.team_members;
drop trigger mark_accounts on public.user_api_keys;
drop trigger if exists mark_accounts_by_update on auth.users;
drop trigger if exists mark_accounts on auth.users;
drop function ops.mark_accounts();
drop table ops.account_marks;
alter table ops.activity_round drop accounts;
drop view public.led_activity_sums, public.led_active_members, public.led_active_learners;
revoke all (zone, whole, starts_at, kind, subject_id, runs, unpriced, cost, last_at) on ops.activity_sums from authenticated;
revoke all (zone, team_id, learner_id, days, first_run_at, last_run_at, last_run_id, last_run_failed) on ops.active_members from authenticated;
revoke all (zone, learner_id, learned, first_completed_at, completed_days) on ops.active_learners from authenticated;
drop policy activity_sums_select on ops.activity_sums;
drop policy active_members_select on ops.active_members;
drop policy active_learners_select on ops.active_learners;
alter table ops.activity_sums   disable row level security;
alter table ops.active_members  disable row level security;
alter table ops.active_learners disable row level security;
alter table ops.activity_periods drop round;
