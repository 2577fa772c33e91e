-- Statements of ours that were refused with SQLSTATE 42501, counted: which table,
-- which policy or grant, which role, on which route.

-- +goose Up
create table ops.rls_errors (
  slot     timestamptz not null,            -- five minutes begin
  source   text not null,                   -- 'pool': our own connections
  reason   text not null check (reason in ('grant', 'policy', 'other')),
  object   text not null,                   -- "table user_api_keys", as Postgres names it; '' where it does not
  policy   text not null default '',        -- where Postgres names it
  role     text not null default '',        -- as which the statement ran
  route    text not null default '',        -- of the request; '' for work without one
  message  text not null,
  hint     text not null default '',
  first_at timestamptz not null,
  last_at  timestamptz not null,
  n        bigint not null,
  unique (slot, source, reason, object, policy, role, route, message)
);
create index rls_errors_last_at_idx on ops.rls_errors (last_at);

-- +goose Down
drop table ops.rls_errors;
