-- What is looked for among millions of runs by a name of the caller's own. Most runs
-- have none, and none ever changes: the index costs the others nothing.

-- +goose Up
create index prompt_runs_client_request_id_idx on public.prompt_runs (client_request_id, created_at) where client_request_id is not null;

-- +goose Down
drop index public.prompt_runs_client_request_id_idx;
