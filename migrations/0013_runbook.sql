-- The runbook: what to do when something is wrong, every version of it.

-- +goose Up
-- A procedure that was edited. Its first version is the built-in text it began
-- from, if there was one. Versions are only ever added: one that removes the
-- procedure is a version, too.
create table ops.runbook_versions (
  slug        text not null check (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
  number      integer not null check (number > 0),
  markdown    text not null,
  author      text not null default '',   -- as known then; empty: the built-in text
  operator_id uuid,
  note        text not null default '',
  at          timestamptz not null,
  base        text not null default '',   -- hash of the built-in text that it began from or took over
  removed     boolean not null default false,
  primary key (slug, number)
);

-- +goose Down
drop table ops.runbook_versions;
