-- Prices that operators set, costs that are computed again, and views of pages that
-- operators saved.

-- +goose Up
-- A row that came with the program is never changed. Nor is one of an operator: who
-- corrects or removes it withdraws it, so that attempts that it priced can still
-- show it.
alter table ops.model_prices
  add column seeded       boolean not null default false, -- came with the program
  add column created_by   text not null default '',       -- of others: who set it
  add column withdrawn_at timestamptz,                    -- from then on it prices nothing
  add column withdrawn_by text not null default '',
  add column replaced_by  bigint;                         -- the row that corrects it
update ops.model_prices set seeded = true; -- there was no other way to enter one
alter table ops.model_prices
  drop constraint model_prices_provider_model_effective_from_daily_from_key,
  add constraint model_prices_withdrawn_check check (not seeded or withdrawn_at is null);
create unique index model_prices_seeded_key on ops.model_prices (provider, model, effective_from, daily_from) nulls not distinct
  where seeded;
create unique index model_prices_set_key on ops.model_prices (provider, model, effective_from, daily_from) nulls not distinct
  where not seeded and withdrawn_at is null;

-- A run is priced by prices at least as new as this number: every node loads them
-- anew when it meets a higher one.
alter table ops.facts_version add column prices bigint not null default 1;
-- +goose StatementBegin
create function ops.prices_changed() returns trigger
  language plpgsql security definer set search_path = '' as
$$
begin
  update ops.facts_version set version = version + 1, prices = prices + 1;
  return null;
end
$$;
-- +goose StatementEnd
revoke all on function ops.prices_changed() from public;
-- For each row: nodes that start try to add every price of the program, and add none.
create trigger prices_changed after insert or update or delete on ops.model_prices
  for each row execute function ops.prices_changed();
create trigger prices_truncated after truncate on ops.model_prices
  for each statement execute function ops.prices_changed();

create index prompt_attempts_unpriced_idx on public.prompt_attempts (model, created_at) where cost_source = 'unpriced';

-- Costs that are computed again from stored tokens, or put back: a job does some at
-- a time, and each time writes down how far it came, in the same transaction. So it
-- goes on where it was when a node dies.
create table ops.price_jobs (
  id             bigint generated always as identity primary key,
  undoes         bigint references ops.price_jobs, -- the job whose changes are taken back; null: it recomputes
  provider       text not null,
  model          text not null,
  from_at        timestamptz not null,             -- '-infinity': from the beginning
  to_at          timestamptz not null,
  reported       boolean not null default false,   -- also costs that the provider named
  status         text not null default 'running' check (status in ('running', 'done')),
  last_at        timestamptz not null default '-infinity', -- how far it came
  last_run       uuid not null default '00000000-0000-0000-0000-000000000000',
  last_ordinal   smallint not null default -1,
  expected       bigint not null default 0,        -- as many as there were when it was started; 0: not known
  seen           bigint not null default 0,
  changed        bigint not null default 0,
  priced         bigint not null default 0,        -- of them: had no price before
  unpriced       bigint not null default 0,        -- of them: have none now
  kept           bigint not null default 0,        -- that cannot be told, or were changed by somebody else since
  old_usd        numeric not null default 0,       -- sum over what was seen, before …
  new_usd        numeric not null default 0,       -- … and after
  operator_id    uuid,
  actor          text not null,
  created_at     timestamptz not null,
  finished_at    timestamptz,
  check ((status = 'done') = (finished_at is not null))
);
create unique index price_jobs_running_key on ops.price_jobs (provider, model) where status = 'running';
create unique index price_jobs_undoes_key on ops.price_jobs (undoes);

-- What an attempt cost before and after a job.
create table ops.price_changes (
  job_id       bigint not null references ops.price_jobs on delete cascade,
  created_at   timestamptz not null,
  run_id       uuid not null,
  ordinal      smallint not null,
  old_usd      numeric,
  old_source   text not null,
  old_price_id bigint,
  new_usd      numeric,
  new_source   text not null,
  new_price_id bigint,
  primary key (job_id, created_at, run_id, ordinal)
);

-- The filters of a page under a name.
create table ops.saved_views (
  id          uuid primary key,
  operator_id uuid not null references ops.operators on delete cascade,
  page        text not null check (page in ('/usage', '/runs', '/activity')),
  name        text not null check (name <> ''),
  query       text not null,                    -- as the page writes it, without the question mark
  shared      boolean not null default false,   -- with all admins
  created_at  timestamptz not null,
  deleted_at  timestamptz                       -- can be taken back for a while
);
create unique index saved_views_name_key on ops.saved_views (operator_id, page, lower(name)) where deleted_at is null;
create index saved_views_operator_id_idx on ops.saved_views (operator_id);

-- The view with which a page opens for an operator.
create table ops.default_views (
  operator_id uuid not null references ops.operators on delete cascade,
  page        text not null,
  view_id     uuid not null references ops.saved_views on delete cascade,
  primary key (operator_id, page)
);
create index default_views_view_id_idx on ops.default_views (view_id);

-- +goose Down
drop table ops.default_views, ops.saved_views, ops.price_changes, ops.price_jobs;
drop index public.prompt_attempts_unpriced_idx;
drop trigger prices_truncated on ops.model_prices;
drop trigger prices_changed on ops.model_prices;
drop function ops.prices_changed();
alter table ops.facts_version drop column prices;
delete from ops.model_prices where withdrawn_at is not null;
-- Of two prices for the same time the operator's stays, as it is the one in force.
delete from ops.model_prices s using ops.model_prices o
  where s.seeded and not o.seeded and s.provider = o.provider and s.model = o.model
    and s.effective_from = o.effective_from and s.daily_from is not distinct from o.daily_from;
drop index ops.model_prices_seeded_key, ops.model_prices_set_key;
alter table ops.model_prices
  drop constraint model_prices_withdrawn_check,
  drop column seeded, drop column created_by, drop column withdrawn_at, drop column withdrawn_by, drop column replaced_by,
  add unique nulls not distinct (provider, model, effective_from, daily_from);
