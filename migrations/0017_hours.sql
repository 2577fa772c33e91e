-- Sums by the hours of a day, as the clocks of its zone show them, for the heat map of
-- AI Usage. They belong to a summed day and go with it; what was summed before there
-- were any is made anew.

-- +goose Up
create table ops.usage_hours (
  period_id  bigint not null references ops.usage_periods on delete cascade, -- a day
  provider   text not null,      -- '*': any
  model      text not null,      -- '*': any
  key_source text not null,      -- '' is none, '*' is any
  runs       bigint[] not null,  -- 24 each, the first from midnight; an hour that the clocks show twice is one
  cost       numeric[] not null,
  unpriced   bigint[] not null,
  primary key (period_id, model, provider, key_source),
  check (cardinality(runs) = 24 and cardinality(cost) = 24 and cardinality(unpriced) = 24)
);

with gone as (delete from ops.usage_periods)
delete from ops.usage_sums;

-- +goose Down
drop table ops.usage_hours;
