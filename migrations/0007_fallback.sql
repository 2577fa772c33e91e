-- Endpoints that admins add are edited on a page, by more than one of them.

-- +goose Up
alter table ops.providers
  add column revision   integer not null default 1, -- two edits at once are noticed
  add column updated_at timestamptz not null default now();

-- +goose Down
alter table ops.providers drop column updated_at, drop column revision;
