-- What the pages about past runs and about learners look for. Attempts are written
-- once, when they have ended, and few of them failed: this index costs the others
-- nothing.

-- +goose Up
create index prompt_attempts_error_class_idx on public.prompt_attempts (error_class, created_at) where error_class is not null;

-- +goose Down
drop index public.prompt_attempts_error_class_idx;
