-- The dashboard's own tables. Schema ops is closed to the Data API's roles; only
-- the role that serves the dashboard reads and writes here.

-- +goose Up
create table ops.operators (
  id              uuid primary key default gen_random_uuid(),
  email           text not null check (email <> ''),
  name            text not null default '',
  role            text not null check (role in ('admin', 'team_lead')),
  learner_id      uuid,                       -- a team lead's own account among the learners
  password_hash   text,                       -- argon2id, PHC string; null: has not set one yet
  timezone        text not null default '',   -- empty: the configured zone
  disabled_at     timestamptz,
  last_sign_in_at timestamptz,
  created_at      timestamptz not null default now(),
  check (role = 'admin' or learner_id is not null)
);
create unique index operators_email_key on ops.operators (lower(email));

create table ops.sessions (
  token_hash   bytea primary key,             -- SHA-256 of the cookie's 256 random bits
  operator_id  uuid not null references ops.operators on delete cascade,
  data         jsonb not null default '{}',
  ip           text not null default '',
  user_agent   text not null default '',
  created_at   timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  expires_at   timestamptz not null
);
create index sessions_operator_id_idx on ops.sessions (operator_id);
create index sessions_expires_at_idx on ops.sessions (expires_at);

create table ops.sign_in_links (
  token_hash  bytea primary key,              -- SHA-256 of the link's 256 random bits
  operator_id uuid not null references ops.operators on delete cascade,
  created_at  timestamptz not null default now(),
  expires_at  timestamptz not null,
  used_at     timestamptz
);
create index sign_in_links_operator_id_idx on ops.sign_in_links (operator_id);

create table ops.sign_in_failures (
  subject       text primary key,             -- "account:<hash of the e-mail>@<network>" or "ip:<network>"
  failures      integer not null,
  last_at       timestamptz not null,
  blocked_until timestamptz
);

create table ops.fallback_keys (
  id                 uuid primary key default gen_random_uuid(),
  provider           text not null check (provider <> ''),
  label              text not null check (label <> ''),
  ciphertext         bytea not null,          -- sealed under the master key ring, bound to this row and column
  fingerprint        text not null,           -- keyed hash of the key
  last_four          text not null,
  priority           integer not null default 100, -- lowest first; equal ones by least recent use
  models             text[],                  -- null: every model of the provider
  monthly_cap_usd    numeric check (monthly_cap_usd >= 0), -- null: no cap
  sandbox            boolean not null default false, -- opens the built-in sandbox provider, not the real one
  status             text not null default 'healthy' check (status in ('healthy', 'cooling', 'invalid', 'billing', 'disabled')),
  status_reason      text not null default '',
  cooling_until      timestamptz,
  last_verified_at   timestamptz,
  last_used_at       timestamptz,
  last_error_at      timestamptz,
  last_error_class   text,
  last_error_message text,
  created_at         timestamptz not null default now(),
  updated_at         timestamptz not null default now(),
  unique (provider, fingerprint)
);
create index fallback_keys_provider_idx on ops.fallback_keys (provider, priority);

-- OpenAI-compatible endpoints that an admin added; the well-known providers are
-- in the program.
create table ops.providers (
  id         text primary key check (id ~ '^[a-z][a-z0-9-]{0,39}$'),
  name       text not null check (name <> ''),
  base_url   text not null check (base_url ~ '^https?://'),
  created_at timestamptz not null default now()
);

-- List prices in USD per million tokens. A row is never changed after it priced
-- an attempt: a new price is a new row with a later effective_from.
create table ops.model_prices (
  id                      bigint generated always as identity primary key,
  provider                text not null,
  model                   text not null,      -- the provider's own name
  input                   numeric not null check (input >= 0),
  output                  numeric not null check (output >= 0),
  cache_read              numeric check (cache_read >= 0),     -- null: as input
  cache_write_5m          numeric check (cache_write_5m >= 0), -- null: as input
  cache_write_1h          numeric check (cache_write_1h >= 0), -- null: as cache_write_5m
  tier_above_input_tokens bigint,             -- above it the whole request is priced at the tier's rates
  tier_input              numeric,
  tier_output             numeric,
  tier_cache_read         numeric,
  tier_cache_write_5m     numeric,
  tier_cache_write_1h     numeric,
  context_window          bigint,
  effective_from          timestamptz not null default '-infinity',
  effective_to            timestamptz not null default 'infinity',
  daily_from              time,               -- UTC; with daily_to: only at these hours, and before rows without hours
  daily_to                time,
  source                  text not null,
  source_date             date,
  note                    text not null default '',
  created_at              timestamptz not null default now(),
  check (effective_from < effective_to),
  check ((tier_above_input_tokens is null) = (tier_input is null)),
  check ((daily_from is null) = (daily_to is null)),
  unique nulls not distinct (provider, model, effective_from, daily_from)
);

-- What the demo loader made, so that clearing the demo removes exactly that.
create table ops.demo_records (
  kind text not null,                         -- learner, team, template, lesson, fallback_key
  id   uuid not null,
  primary key (kind, id)
);

-- +goose Down
drop table ops.demo_records, ops.model_prices, ops.providers, ops.fallback_keys,
  ops.sign_in_failures, ops.sign_in_links, ops.sessions, ops.operators;
