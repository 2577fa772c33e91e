-- Events: every line of the log, to search. Standard output has each of them in any
-- case; what could not be written here while the database was away is missing and
-- counted. A day (UTC) is a partition, and days that are too old are dropped whole.

-- +goose Up
create table ops.log_events (
  id         uuid not null,                 -- UUIDv7 of at: the same event twice is one row
  at         timestamptz not null,
  level      smallint not null,             -- as log/slog counts: -4 debug, 0 info, 4 warning, 8 error
  source     text not null,                 -- "api/ai/run"; "promptops" for what says none
  event      text not null,
  request_id text,
  user_id    uuid,                          -- the learner
  node       text not null,                 -- the process that logged it
  -- Everything else. It is json and not jsonb because it is written much and read
  -- little: that keeps the line as it was, and takes less to write and to search.
  attributes json not null,
  primary key (at, id)
) partition by range (at);
create index log_events_request_id_idx on ops.log_events (request_id) where request_id is not null;
create index log_events_event_idx on ops.log_events (event, at);
create index log_events_user_id_idx on ops.log_events (user_id, at) where user_id is not null;
create index log_events_bad_idx on ops.log_events (at, id) where level >= 4;
create index log_events_source_idx on ops.log_events (source, at) where source <> 'api/ai/run'; -- which most are of

-- How many there were, written together with them. Each node has its own rows, so
-- that none waits for another.
create table ops.log_counts (
  slot   timestamptz not null,              -- five minutes begin
  source text not null,
  event  text not null,
  level  smallint not null,
  node   text not null,
  n      bigint not null,
  primary key (slot, source, event, level, node)
) with (fillfactor = 50);

-- Makes the partitions of every day from first to last; days that exist are left
-- alone. Returns how many it made. Attaching does not keep anybody from writing.
-- +goose StatementBegin
create function ops.ensure_log_days(first date, last date) returns integer
  language plpgsql set search_path = '' set timezone = 'UTC' set datestyle = 'ISO' as
$$
declare
  day  date := first;
  part text;
  made integer := 0;
begin
  perform pg_advisory_xact_lock(hashtext('ops.log_days'));
  while day <= last loop
    part := to_char(day, '"log_events_"YYYY_MM_DD');
    if to_regclass('ops.' || part) is null then
      execute format('create table ops.%I (like ops.log_events including defaults including constraints)', part);
      execute format('alter table ops.log_events attach partition ops.%I for values from (%L) to (%L)',
        part, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
      made := made + 1;
    end if;
    day := day + 1;
  end loop;
  return made;
end
$$;
-- +goose StatementEnd
revoke all on function ops.ensure_log_days(date, date) from public;

-- Drops the partitions of all days before one, and forgets their counts. Returns how
-- many it dropped. It locks the table for a moment: call it in a transaction of its
-- own, and again when it fails with lock_not_available (55P03).
-- +goose StatementBegin
create function ops.drop_log_days(before date) returns integer
  language plpgsql set search_path = '' set timezone = 'UTC' set datestyle = 'ISO' set lock_timeout = '500ms' as
$$
declare
  part    regclass;
  dropped integer := 0;
begin
  perform pg_advisory_xact_lock(hashtext('ops.log_days'));
  for part in
    select inhrelid::regclass from pg_catalog.pg_inherits
    where inhparent = 'ops.log_events'::regclass
      and to_date(right(inhrelid::regclass::text, 10), 'YYYY_MM_DD') < before
  loop
    execute format('drop table %s', part);
    dropped := dropped + 1;
  end loop;
  delete from ops.log_counts where slot < before::timestamp at time zone 'UTC';
  return dropped;
end
$$;
-- +goose StatementEnd
revoke all on function ops.drop_log_days(date) from public;

-- +goose Down
drop function ops.drop_log_days(date);
drop function ops.ensure_log_days(date, date);
drop table ops.log_counts;
drop table ops.log_events;
