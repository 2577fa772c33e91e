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

-- Which sums hold: no row of their period has changed since. That is nothing but
-- times, and the same for everybody.
create function public.usage_periods(of_zone text, from_at timestamptz, to_at timestamptz)
  returns table (id bigint, level smallint, starts_at timestamptz, ends_at timestamptz, summed_at timestamptz)
  language sql stable security definer set search_path = '' as
$$
  select p.id, p.level, p.starts_at, p.ends_at, p.summed_at
  from ops.usage_periods p
  where p.zone in ('', of_zone) and p.starts_at >= from_at and p.ends_at <= to_at
    and not exists (
      select from ops.usage_marks m
      where m.slot > p.starts_at - interval '15 minutes' and m.slot < p.ends_at)
$$;
revoke all on function public.usage_periods(text, timestamptz, timestamptz) from public, anon, authenticated, service_role;
grant execute on function public.usage_periods(text, timestamptz, timestamptz) to authenticated;

-- +goose Down
drop function public.usage_periods(text, timestamptz, timestamptz);
drop view public.usage_sums;
revoke select on ops.usage_sums from authenticated;
drop index ops.usage_sums_team_idx;
drop policy usage_sums_select on ops.usage_sums;
alter table ops.usage_sums disable row level security;
