-- Leads read the sums of the teams that they lead, through row-level security like
-- the rows themselves. Schema ops stays closed to the Data API: what learners may
-- read of it they reach through views, which read with the caller's rights.

-- +goose Up
alter table ops.usage_sums enable row level security;
create policy usage_sums_select on ops.usage_sums for select to authenticated
  using (kind in ('team', 'team_model') and subject_id = any (array(select ops.led_team_ids())));

-- The periods whose sums hold: none of their rows has changed since.
create view public.usage_periods with (security_invoker = true) as
select id, zone, level, starts_at, ends_at, summed_at
from ops.usage_periods p
where not exists (
  select from ops.usage_marks m
  where m.slot > p.starts_at - interval '15 minutes' and m.slot < p.ends_at);

create view public.usage_sums with (security_invoker = true) as
select * from ops.usage_sums;

revoke all on public.usage_periods, public.usage_sums from public, anon, authenticated, service_role;
grant select on public.usage_periods, public.usage_sums to authenticated;
grant select on ops.usage_periods, ops.usage_marks, ops.usage_sums to authenticated;

-- +goose Down
drop view public.usage_periods, public.usage_sums;
revoke select on ops.usage_periods, ops.usage_marks, ops.usage_sums from authenticated;
drop policy usage_sums_select on ops.usage_sums;
alter table ops.usage_sums disable row level security;
