-- Leads read the sums of the teams that they lead, through row-level security like
-- the rows themselves. Schema ops stays closed to the Data API: what there is for
-- learners they reach through a view, which reads with the rights of whoever asks.

-- +goose Up
alter table ops.usage_sums enable row level security;
create policy usage_sums_select on ops.usage_sums for select to authenticated
  using (kind in ('team', 'team_model') and subject_id = any (array(select ops.led_team_ids())));
create index usage_sums_team_idx on ops.usage_sums (subject_id, period_id) where kind in ('team', 'team_model');

create view public.usage_sums with (security_invoker = true) as
select * from ops.usage_sums;
revoke all on public.usage_sums from public, anon, authenticated, service_role;
grant select on public.usage_sums, ops.usage_sums to authenticated;

-- Which sums there are of days of a zone and of shorter periods. That is nothing but
-- times, and the same for everybody.
create function public.usage_periods(of_zone text)
  returns table (id bigint, level smallint, starts_at timestamptz, ends_at timestamptz, summed_at timestamptz)
  language sql stable security definer set search_path = '' as
$$
  select id, level, starts_at, ends_at, summed_at from ops.usage_periods where zone in ('', of_zone)
$$;

-- As long as the first three are the same, so are the periods: ids only grow. Those
-- in which a quarter of an hour is marked do not hold.
create function public.usage_state(out last bigint, out periods bigint, out summed_at timestamptz, out marked timestamptz[])
  language sql stable security definer set search_path = '' as
$$
  select max(id), count(*), max(summed_at), (select array_agg(distinct slot order by slot) from ops.usage_marks)
  from ops.usage_periods
$$;
revoke all on function public.usage_periods(text), public.usage_state() from public, anon, authenticated, service_role;
grant execute on function public.usage_periods(text), public.usage_state() to authenticated;

-- +goose Down
drop function public.usage_state(), public.usage_periods(text);
drop view public.usage_sums;
revoke select on ops.usage_sums from authenticated;
drop index ops.usage_sums_team_idx;
drop policy usage_sums_select on ops.usage_sums;
alter table ops.usage_sums disable row level security;
