package drift

// Policies says who may do what in schema public to a row that is Ann's, or may add
// one as if she did. The row is of her team red where it has a team.
//
//	owner     Ann
//	mate      Tom, another member of team red
//	lead      Lea, who leads team red
//	stranger  Bob, of another team
//	anon      nobody signed in
//	nosub     role authenticated, but the token names no learner
//
// allowed: it works. empty: no error, no row. denied: SQLSTATE 42501.
const Policies = `
table             verb    owner    mate     lead     stranger  anon    nosub

teams             select  allowed  allowed  allowed  empty    denied  empty
teams             insert  denied   denied   denied   denied   denied  denied
teams             update  denied   denied   denied   denied   denied  denied
teams             delete  denied   denied   denied   denied   denied  denied

team_members      select  allowed  allowed  allowed  empty    denied  empty
team_members      insert  denied   denied   denied   denied   denied  denied
team_members      update  denied   denied   denied   denied   denied  denied
team_members      delete  denied   denied   denied   denied   denied  denied

user_api_keys     select  allowed  empty    allowed  empty    denied  empty
user_api_keys     insert  denied   denied   denied   denied   denied  denied
user_api_keys     update  denied   denied   denied   denied   denied  denied
user_api_keys     delete  denied   denied   denied   denied   denied  denied

prompt_templates  select  allowed  empty    empty    empty    denied  empty
prompt_templates  insert  allowed  denied   denied   denied   denied  denied
prompt_templates  update  allowed  empty    empty    empty    denied  empty
prompt_templates  delete  allowed  empty    empty    empty    denied  empty

team_templates    select  allowed  allowed  allowed  empty    denied  empty
team_templates    insert  allowed  denied   denied   denied   denied  denied
team_templates    update  denied   denied   denied   denied   denied  denied
team_templates    delete  allowed  empty    allowed  empty    denied  empty

template_events   select  allowed  empty    allowed  empty    denied  empty
template_events   insert  allowed  denied   denied   denied   denied  denied
template_events   update  denied   denied   denied   denied   denied  denied
template_events   delete  denied   denied   denied   denied   denied  denied

lessons           select  allowed  allowed  allowed  allowed  denied  allowed
lessons           insert  denied   denied   denied   denied   denied  denied
lessons           update  denied   denied   denied   denied   denied  denied
lessons           delete  denied   denied   denied   denied   denied  denied

user_progress     select  allowed  empty    allowed  empty    denied  empty
user_progress     insert  allowed  denied   denied   denied   denied  denied
user_progress     update  allowed  empty    empty    empty    denied  empty
user_progress     delete  denied   denied   denied   denied   denied  denied

prompt_runs       select  allowed  empty    allowed  empty    denied  empty
prompt_runs       insert  denied   denied   denied   denied   denied  denied
prompt_runs       update  denied   denied   denied   denied   denied  denied
prompt_runs       delete  denied   denied   denied   denied   denied  denied

prompt_attempts   select  allowed  empty    allowed  empty    denied  empty
prompt_attempts   insert  denied   denied   denied   denied   denied  denied
prompt_attempts   update  denied   denied   denied   denied   denied  denied
prompt_attempts   delete  denied   denied   denied   denied   denied  denied

prompt_contents   select  allowed  empty    empty    empty    denied  empty
prompt_contents   insert  denied   denied   denied   denied   denied  denied
prompt_contents   update  denied   denied   denied   denied   denied  denied
prompt_contents   delete  denied   denied   denied   denied   denied  denied

led_active_learners  select  empty    empty    allowed  empty    denied  empty
led_active_learners  insert  denied   denied   denied   denied   denied  denied
led_active_learners  update  denied   denied   denied   denied   denied  denied
led_active_learners  delete  denied   denied   denied   denied   denied  denied

led_active_members   select  empty    empty    allowed  empty    denied  empty
led_active_members   insert  denied   denied   denied   denied   denied  denied
led_active_members   update  denied   denied   denied   denied   denied  denied
led_active_members   delete  denied   denied   denied   denied   denied  denied

led_activity_sums    select  empty    empty    allowed  empty    denied  empty
led_activity_sums    insert  denied   denied   denied   denied   denied  denied
led_activity_sums    update  denied   denied   denied   denied   denied  denied
led_activity_sums    delete  denied   denied   denied   denied   denied  denied

team_fallbacks    select  empty    empty    allowed  empty    denied  empty
team_fallbacks    insert  denied   denied   denied   denied   denied  denied
team_fallbacks    update  denied   denied   denied   denied   denied  denied
team_fallbacks    delete  denied   denied   denied   denied   denied  denied

usage_sums        select  empty    empty    allowed  empty    denied  empty
usage_sums        insert  denied   denied   denied   denied   denied  denied
usage_sums        update  denied   denied   denied   denied   denied  denied
usage_sums        delete  denied   denied   denied   denied   denied  denied
`

// annsRows are the statements behind the table: which row is Ann's, which one she
// would add, and a change to hers. Words in braces are the ids of the test's own
// world.
var annsRows = map[string]struct{ where, insert, set string }{
	"teams": {`id = '{red}'`,
		`(name) values ('green')`, `name = 'crimson'`},
	"team_members": {`user_id = '{ann}' and team_id = '{red}'`,
		`(team_id, user_id) values ('{blue}', '{ann}')`, `role = 'lead'`},
	"user_api_keys": {`id = '{key}'`,
		`(user_id, provider, ciphertext, fingerprint, last_four) values ('{ann}', 'groq', 'x', 'x', 'x')`, `status = 'healthy'`},
	"prompt_templates": {`id = '{private}'`,
		`(owner_id, title, body) values ('{ann}', 'new', 'x')`, `title = 'changed'`},
	"team_templates": {`team_id = '{red}' and template_id = '{shared}'`,
		`(team_id, template_id, shared_by) values ('{red}', '{private}', '{ann}')`, `shared_by = shared_by`},
	"template_events": {`user_id = '{ann}' and template_id = '{platform}'`,
		`(template_id, user_id, event) values ('{platform}', '{ann}', 'viewed')`, `event = 'forked'`},
	"lessons": {`id = '{lesson}'`,
		`(slug, title) values ('{lesson2}', 'New')`, `title = 'changed'`},
	"user_progress": {`user_id = '{ann}' and lesson_id = '{lesson}'`,
		`(user_id, lesson_id) values ('{ann}', '{lesson2}')`, `status = 'completed', completed_at = now()`},
	"prompt_runs": {`id = '{run}'`,
		`(id, created_at, user_id, models) values (gen_random_uuid(), '{at}', '{ann}', '{}')`, `total_cost_usd = 0`},
	"prompt_attempts": {`run_id = '{run}'`,
		`(run_id, ordinal, created_at, user_id, provider, model) values (gen_random_uuid(), 0, '{at}', '{ann}', 'openai', 'm')`, `cost_usd = 0`},
	"prompt_contents": {`run_id = '{run}'`,
		`(run_id, created_at, user_id, messages) values (gen_random_uuid(), '{at}', '{ann}', '[]')`, `messages = '[]'`},
	"led_active_learners": {`learner_id = '{ann}' and zone = 'RLS test'`,
		`(zone, learner_id, learned, completed_days) values ('RLS test', '{ann}', '1', '{}')`, `learned = '0'`},
	"led_active_members": {`learner_id = '{ann}' and team_id = '{red}' and zone = 'RLS test'`,
		`(zone, team_id, learner_id, days) values ('RLS test', '{red}', '{ann}', '1')`, `days = '0'`},
	"led_activity_sums": {`team_id = '{red}' and zone = 'RLS test'`,
		`(zone, whole, starts_at, team_id) values ('RLS test', 'day', '{at}', '{red}')`, `runs = 0`},
	"team_fallbacks": {`user_id = '{ann}' and team_id = '{red}'`,
		`(team_id, user_id, provider) values ('{red}', '{ann}', 'groq')`, `attempts = 0`},
	"usage_sums": {`period_id = 0 and subject_id = '{red}'`,
		`(period_id) values (0)`, `runs = 0`},
}

// world is what Ann, Tom, Lea and Bob have: rows that are there only until the
// transaction is rolled back.
const world = `
	insert into public.teams (id, name) values ('{red}', 'RLS test red'), ('{blue}', 'RLS test blue');
	insert into public.team_members (team_id, user_id, role) values
	  ('{red}', '{ann}', 'member'), ('{red}', '{tom}', 'member'), ('{red}', '{lea}', 'lead'), ('{blue}', '{bob}', 'member');
	insert into public.user_api_keys (id, user_id, provider, ciphertext, fingerprint, last_four)
	values ('{key}', '{ann}', 'openai', '', '{key}', '0000');
	insert into public.prompt_templates (id, owner_id, title, body, is_public) values
	  ('{private}', '{ann}', 'private', 'x', false), ('{shared}', '{ann}', 'shared', 'x', false), ('{platform}', null, 'the platform''s', 'x', true);
	insert into public.team_templates (team_id, template_id, shared_by) values ('{red}', '{shared}', '{ann}');
	insert into public.template_events (template_id, user_id, event) values ('{platform}', '{ann}', 'used');
	insert into public.lessons (id, slug, title, published) values ('{lesson}', '{lesson}', 'x', true), ('{lesson2}', '{run}', 'x', true);
	insert into public.user_progress (user_id, lesson_id) values ('{ann}', '{lesson}');
	insert into public.prompt_runs (id, created_at, user_id, team_id, models) values ('{run}', '{at}', '{ann}', '{red}', '{}');
	insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, team_id, provider, model)
	values ('{run}', 0, '{at}', '{ann}', '{red}', 'openai', 'm');
	insert into public.prompt_contents (run_id, created_at, user_id, team_id, messages) values ('{run}', '{at}', '{ann}', '{red}', '[]');
	insert into ops.team_fallbacks (team_id, user_id, provider, attempts, cost_usd, unpriced) values ('{red}', '{ann}', 'openai', 1, 0, 0);
	insert into ops.usage_sums (period_id, kind, subject_id, provider, model, key_source, runs, attempts, running, errors, cancelled,
	  input, cached_input, cache_write, output, reasoning, unknown_usage, cost, unpriced)
	values (0, 'team', '{red}', '', '', 'user', 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
	insert into ops.activity_periods (zone, whole, starts_at, ends_at) values ('RLS test', 'day', '{at}', '{at}');
	insert into ops.activity_sums (zone, whole, starts_at, kind, subject_id, runs) values ('RLS test', 'day', '{at}', 'team', '{red}', 1);
	insert into ops.active_learners (zone, learner_id, days, learned, completed_days, round) values ('RLS test', '{ann}', '1', '1', '{}', 0);
	insert into ops.active_members (zone, team_id, learner_id, days, round) values ('RLS test', '{red}', '{ann}', '1', 0)`
