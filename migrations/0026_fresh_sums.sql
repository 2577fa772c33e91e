-- Sums are made of what has been over for five minutes, and no longer for an hour: in a
-- busy hour there is very much to read row by row. So an attempt that still runs leaves
-- its mark sooner, too, as 0023 has it for all others.

-- +goose Up
drop trigger mark_usage_update on public.prompt_attempts;
create trigger mark_usage_update after update on public.prompt_attempts for each row
  when (old.status <> 'running' or old.created_at < clock_timestamp() - interval '4 minutes' or new.created_at < clock_timestamp() - interval '4 minutes')
  execute function ops.mark_usage();

-- +goose Down
-- What is summed by now may hold what leaves no mark for an hour.
delete from ops.usage_sums;
delete from ops.usage_periods;
drop trigger mark_usage_update on public.prompt_attempts;
create trigger mark_usage_update after update on public.prompt_attempts for each row
  when (old.status <> 'running' or old.created_at < clock_timestamp() - interval '1 hour' or new.created_at < clock_timestamp() - interval '1 hour')
  execute function ops.mark_usage();
