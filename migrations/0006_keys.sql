-- Keys that look after themselves, and who did what to them.

-- +goose Up
-- Every action of an operator, each entry holding the hash of the one before, so
-- that a change or a gap shows. Entries are only ever added.
create table ops.audit_log (
  id            bigint primary key,         -- 1, 2, 3 …: a gap is a deletion
  at            timestamptz not null,
  operator_id   uuid,                       -- null: no operator, see actor
  actor         text not null,              -- as known then: e-mail, "command line", "key health"
  action        text not null,              -- subject.verb: fallback_key.disable
  subject_type  text not null default '',   -- fallback_key, operator, team …
  subject_id    text not null default '',
  subject_label text not null default '',   -- as known then
  details       jsonb not null default '{}',
  previous_hash bytea not null,             -- of the entry before; of the first one 32 zeros
  hash          bytea not null              -- SHA-256 over all of the above, see package audit
);
create index audit_log_subject_idx on ops.audit_log (subject_type, subject_id, id);
create index audit_log_operator_idx on ops.audit_log (operator_id, id);
create index audit_log_at_idx on ops.audit_log (at);

-- What is known of a key's health beside its status. The statuses are those of
-- before: a key that is being looked into is "cooling" with a suspect class, and
-- one whose rest is over is on trial until a probe or a call went well.
alter table ops.fallback_keys
  add column status_at             timestamptz not null default now(), -- since when
  add column status_by             uuid,        -- the operator who disabled it; null: nobody
  add column suspect               text,        -- error class of the refusal that is looked into, or rested for
  add column strikes               integer not null default 0, -- rests in a row without a success: each is longer
  add column next_probe_at         timestamptz, -- when the free check is due; null: not
  add column probes                integer not null default 0, -- checks in a row that decided nothing new: each waits longer
  add column state_revision        bigint not null default 0,  -- which of two things known of the state is the newer
  add column last_success_at       timestamptz,
  add column last_error_run_id     uuid,
  add column last_error_request_id text,        -- the provider's id of the call
  add column expires_at            timestamptz, -- as the admin knows it; from then on it is not used
  add column retire_at             timestamptz, -- the end of a rotation's overlap: then it is disabled
  add column replaced_by           uuid references ops.fallback_keys on delete set null,
  add column revision              integer not null default 1; -- of what admins edit: two at once are noticed
create index fallback_keys_replaced_by_idx on ops.fallback_keys (replaced_by);

alter table public.user_api_keys
  add column status_reason         text not null default '',
  add column status_at             timestamptz not null default now(),
  add column suspect               text,
  add column strikes               integer not null default 0,
  add column next_probe_at         timestamptz,
  add column probes                integer not null default 0,
  add column state_revision        bigint not null default 0,
  add column last_success_at       timestamptz,
  add column last_error_run_id     uuid,
  add column last_error_request_id text;
create index fallback_keys_next_probe_at_idx on ops.fallback_keys (next_probe_at) where next_probe_at is not null;
create index user_api_keys_next_probe_at_idx on public.user_api_keys (next_probe_at) where next_probe_at is not null;
grant select (status_reason, status_at, last_success_at) on public.user_api_keys to authenticated, service_role;

-- Whoever changes a state, the nodes that remember an older one notice.
-- +goose StatementBegin
create function ops.key_state_changed() returns trigger
  language plpgsql set search_path = '' as
$$
begin
  new.state_revision := old.state_revision + 1;
  return new;
end
$$;
-- +goose StatementEnd
revoke all on function ops.key_state_changed() from public;
create trigger state_changed before update of status, cooling_until, suspect on public.user_api_keys
  for each row execute function ops.key_state_changed();
create trigger state_changed before update of status, cooling_until, suspect on ops.fallback_keys
  for each row execute function ops.key_state_changed();

-- Providers all of whose fallback keys are out, so that it is said once.
create table ops.exhausted_providers (
  provider text primary key,
  at       timestamptz not null,
  reason   text not null -- what took the last key
);

-- What happened to a key: the evidence for its status.
create table ops.key_events (
  id                  bigint generated always as identity primary key,
  at                  timestamptz not null,
  key_source          text not null check (key_source in ('user', 'fallback')),
  key_id              uuid not null,
  user_id             uuid references auth.users on delete cascade, -- the owner; null: the platform
  provider            text not null,
  kind                text not null check (kind in ('attempt', 'probe', 'operator', 'learner', 'clock')), -- what it was seen by
  class               text,       -- error class; null: it went well
  http_status         integer,
  message             text,       -- the provider's, scrubbed
  run_id              uuid,
  provider_request_id text,
  latency_ms          integer,
  from_status         text not null,
  to_status           text not null,
  reason              text not null, -- why the status changed, or did not
  operator_id         uuid
);
create index key_events_key_id_idx on ops.key_events (key_id, id desc);
create index key_events_user_id_idx on ops.key_events (user_id);
create index key_events_at_idx on ops.key_events (at);

-- A key that expires, retires or is looked into is another fact for runs.
drop trigger facts_changed on public.user_api_keys;
create trigger facts_changed after insert or delete or truncate
  or update of user_id, provider, ciphertext, status, cooling_until, suspect on public.user_api_keys
  for each statement execute function ops.facts_changed();
drop trigger facts_changed on ops.fallback_keys;
create trigger facts_changed after insert or delete or truncate
  or update of provider, label, ciphertext, status, cooling_until, suspect, priority, models, monthly_cap_usd, sandbox, expires_at, retire_at
  on ops.fallback_keys
  for each statement execute function ops.facts_changed();

-- +goose Down
drop trigger facts_changed on ops.fallback_keys;
create trigger facts_changed after insert or delete or truncate
  or update of provider, label, ciphertext, status, cooling_until, priority, models, monthly_cap_usd, sandbox on ops.fallback_keys
  for each statement execute function ops.facts_changed();
drop trigger facts_changed on public.user_api_keys;
create trigger facts_changed after insert or delete or truncate
  or update of user_id, provider, ciphertext, status, cooling_until on public.user_api_keys
  for each statement execute function ops.facts_changed();
drop table ops.key_events;
drop table ops.exhausted_providers;
drop trigger state_changed on ops.fallback_keys;
drop trigger state_changed on public.user_api_keys;
drop function ops.key_state_changed();
drop index ops.fallback_keys_next_probe_at_idx;
drop index public.user_api_keys_next_probe_at_idx;
alter table public.user_api_keys
  drop column last_error_request_id, drop column last_error_run_id, drop column last_success_at, drop column next_probe_at,
  drop column strikes, drop column suspect, drop column status_at, drop column status_reason, drop column probes, drop column state_revision;
alter table ops.fallback_keys
  drop column revision, drop column replaced_by, drop column retire_at, drop column expires_at,
  drop column last_error_request_id, drop column last_error_run_id, drop column last_success_at, drop column next_probe_at,
  drop column strikes, drop column suspect, drop column status_by, drop column status_at, drop column probes, drop column state_revision;
drop table ops.audit_log;
