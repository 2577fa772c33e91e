-- Which models have no price, and what recomputing would come to, without reading
-- every attempt while somebody waits for a page.

-- +goose Up
-- Sums of attempts without a price, by the periods of package rollup: they come and go
-- with the period.
create table ops.usage_unpriced (
  period_id bigint not null references ops.usage_periods on delete cascade,
  provider  text not null,
  model     text not null, -- full name
  attempts  bigint not null,
  tokens    bigint not null,
  first_at  timestamptz not null,
  last_at   timestamptz not null,
  primary key (period_id, provider, model)
);

-- They are looked for by their time, and by nothing else.
drop index public.prompt_attempts_unpriced_idx;
create index prompt_attempts_unpriced_idx on public.prompt_attempts (created_at) where cost_source = 'unpriced';

-- Of the periods that are summed already. What changes meanwhile leaves its mark, and
-- their sums are dropped.
insert into ops.usage_unpriced
select p.id, a.provider, a.model, count(*), coalesce(sum(a.total_tokens), 0), min(a.created_at), max(a.created_at)
from ops.usage_periods p
cross join lateral (
  select provider, model, total_tokens, created_at from public.prompt_attempts
  where cost_source = 'unpriced' and created_at >= p.starts_at and created_at < p.ends_at
) a
group by p.id, a.provider, a.model;

-- A preview is a job that changes nothing but itself.
alter table ops.price_jobs
  add column preview          boolean not null default false,
  add column prices_seen      text not null default '', -- of a preview: the state of the model's prices it reckons with
  add column promised_changed bigint,                   -- what whoever started it was told before; null: nothing
  add column promised_old     numeric,
  add column promised_new     numeric,
  add check (not preview or undoes is null),
  add check (num_nonnulls(promised_changed, promised_old, promised_new) in (0, 3));
drop index ops.price_jobs_running_key;
create unique index price_jobs_running_key on ops.price_jobs (provider, model) where status = 'running' and not preview;

-- +goose Down
delete from ops.price_jobs where preview;
drop index ops.price_jobs_running_key;
create unique index price_jobs_running_key on ops.price_jobs (provider, model) where status = 'running';
alter table ops.price_jobs
  drop column preview, drop column prices_seen, drop column promised_changed, drop column promised_old, drop column promised_new;
drop index public.prompt_attempts_unpriced_idx;
create index prompt_attempts_unpriced_idx on public.prompt_attempts (model, created_at) where cost_source = 'unpriced';
drop table ops.usage_unpriced;
