-- Incidents: what broke, who looked after it, what was done when, and what is left
-- to do.

-- +goose Up
create table ops.incidents (
  id              bigint generated always as identity primary key, -- as people say it: incident 12
  title           text not null check (title <> ''),
  severity        smallint not null check (severity between 1 and 3),
  status          text not null default 'open' check (status in ('open', 'mitigated', 'resolved')),
  lead_id         uuid,                    -- the operator who leads; null: nobody yet
  check_id        text not null default '', -- the live check it was started from
  step            text not null default '', -- the step of the runbook it was started from
  detected_at     timestamptz not null,    -- from then on its impact counts
  acknowledged_at timestamptz check (acknowledged_at >= detected_at),
  acknowledged_by uuid,
  mitigated_at    timestamptz check (mitigated_at >= detected_at),
  resolved_at     timestamptz check (resolved_at >= detected_at),
  summary         text not null default '', -- what people write for the post-mortem
  went_well       text not null default '',
  went_badly      text not null default '',
  lessons         text not null default '',
  frozen          jsonb,                   -- while resolved: what was computed then, so that it stays
  revision        integer not null default 1, -- two who edit at once are noticed
  created_at      timestamptz not null,
  created_by      uuid,
  check ((status = 'resolved') = (resolved_at is not null)),
  check ((status = 'resolved') = (frozen is not null)),
  check (status <> 'mitigated' or mitigated_at is not null),
  check (status <> 'open' or mitigated_at is null)
);
create index incidents_unresolved_idx on ops.incidents (severity, detected_at) where status <> 'resolved';

-- What is on the time line because somebody did or said something. What the other
-- tables tell (keys, budgets, errors, deploys) is read from them, and kept in
-- frozen once the incident is resolved.
create table ops.incident_entries (
  id          bigint generated always as identity primary key,
  incident_id bigint not null references ops.incidents on delete cascade,
  at          timestamptz not null,
  kind        text not null check (kind in ('start', 'reading', 'note', 'acknowledge', 'mitigate', 'resolve', 'reopen', 'edit', 'follow_up')),
  operator_id uuid,                        -- null: no operator
  actor       text not null,               -- as known then
  title       text not null default '',
  body        text not null default '',    -- of a note: what it says now
  verdict     text not null default '',    -- of a reading
  changes     jsonb not null default '[]', -- [{"field", "from", "to"}]
  history     jsonb not null default '[]', -- of a note: what it said before, oldest first: [{"body", "until"}]
  deleted_at  timestamptz                  -- of a note that was taken back
);
create index incident_entries_incident_id_idx on ops.incident_entries (incident_id, at);

create table ops.incident_follow_ups (
  id          bigint generated always as identity primary key,
  incident_id bigint not null references ops.incidents on delete cascade,
  body        text not null check (body <> ''),
  owner_id    uuid,                        -- operator; null: nobody yet
  due_on      date,
  done_at     timestamptz,
  revision    integer not null default 1,
  created_at  timestamptz not null
);
create index incident_follow_ups_incident_id_idx on ops.incident_follow_ups (incident_id);
create index incident_follow_ups_open_idx on ops.incident_follow_ups (due_on, id) where done_at is null;

-- When which version began to run: a node's own row goes with the node.
create table ops.deploys (
  id       bigint generated always as identity primary key,
  at       timestamptz not null,
  host     text not null,
  version  text not null,
  previous text -- null: the first one that was noted
);
create index deploys_at_idx on ops.deploys (at);
insert into ops.deploys (at, host, version)
select started_at, host, version from ops.nodes order by started_at desc limit 1;

-- +goose StatementBegin
create function ops.note_deploy() returns trigger
  language plpgsql security definer set search_path = '' as
$$
declare
  before text;
begin
  perform pg_advisory_xact_lock(hashtext('ops.deploys')); -- nodes that start together note it once
  select version into before from ops.deploys order by id desc limit 1;
  if before is distinct from new.version then
    insert into ops.deploys (at, host, version, previous) values (new.started_at, new.host, new.version, before);
  end if;
  return null;
end
$$;
-- +goose StatementEnd
revoke all on function ops.note_deploy() from public;
create trigger note_deploy after insert on ops.nodes for each row execute function ops.note_deploy();

-- +goose Down
drop trigger note_deploy on ops.nodes;
drop function ops.note_deploy();
drop table ops.deploys, ops.incident_follow_ups, ops.incident_entries, ops.incidents;
