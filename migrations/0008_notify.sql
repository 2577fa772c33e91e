-- Notifications: where they go, and the outbox of those that are to go out.

-- +goose Up
-- How each channel is set up. What opens a door is sealed with the key ring.
create table ops.channels (
  channel      text primary key check (channel in ('email', 'slack', 'webhook')),
  enabled      boolean not null default false,
  host         text not null default '',    -- e-mail: the SMTP server
  port         integer not null default 0 check (port between 0 and 65535),
  security     text not null default '' check (security in ('', 'starttls', 'tls', 'none')),
  username     text not null default '',
  mail_from    text not null default '',
  mail_to      text[] not null default '{}', -- who gets what is for nobody in particular
  address      bytea,                        -- Slack, webhook: the URL, sealed
  secret       bytea,                        -- e-mail: the password; webhook: the key that signs; sealed
  revision     integer not null default 1,   -- of what admins edit: two at once are noticed
  updated_at   timestamptz not null default now(),
  updated_by   uuid,                         -- the operator; null: the configuration
  rest_until   timestamptz,                  -- nothing is sent before: it said so, or did not answer
  last_sent_at timestamptz,
  failed_at    timestamptz,                  -- the last attempt that the channel itself made fail
  failure      text not null default ''      -- and why, in words
);

-- A delivery is added in the transaction of its cause and sent afterwards, by one
-- of the nodes.
create table ops.deliveries (
  id            uuid primary key,            -- version 7: in the order in which they were added
  channel       text not null check (channel in ('email', 'slack', 'webhook')),
  recipient     text not null default '',    -- e-mail address; empty: whom the channel is set up for
  subject       text not null,
  body          text not null,
  purpose       text not null,               -- nudge, key_alert, test …
  dedup_key     text unique,                 -- of the same only one is stored; null: any number
  state         text not null default 'queued' check (state in ('queued', 'sent', 'failed', 'skipped')),
  attempts      integer not null default 0,  -- begun
  due_at        timestamptz not null,        -- while queued: not tried before. While it is being sent: when the claim ends
  claim         uuid,                        -- whoever is sending it now
  claimed_at    timestamptz,
  reason        text not null default '',    -- in words: why the last attempt failed, why it was skipped
  created_at    timestamptz not null,
  finished_at   timestamptz                  -- when it was sent, failed for good or was skipped
);
create index deliveries_due_at_idx on ops.deliveries (channel, due_at) where state = 'queued';
create index deliveries_state_idx on ops.deliveries (state, id desc);

-- +goose Down
drop table ops.deliveries, ops.channels;
