package migrations_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/drift"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// annsRows are the statements behind the table: which row is Ann's, which one
// she would add, and a change to hers.
var annsRows = map[string]struct{ where, insert, set string }{
	"teams": {`id = '` + red + `'`,
		`(name) values ('green')`, `name = 'crimson'`},
	"team_members": {`user_id = '` + ann + `' and team_id = '` + red + `'`,
		`(team_id, user_id) values ('` + blue + `', '` + ann + `')`, `role = 'lead'`},
	"user_api_keys": {`user_id = '` + ann + `'`,
		`(user_id, provider, ciphertext, fingerprint, last_four) values ('` + ann + `', 'groq', 'x', 'x', 'x')`, `status = 'healthy'`},
	"prompt_templates": {`id = '00000000-0000-4000-8000-00000000fea1'`,
		`(owner_id, title, body) values ('` + ann + `', 'new', 'x')`, `title = 'changed'`},
	"team_templates": {`shared_by = '` + ann + `'`,
		`(team_id, template_id, shared_by) values ('` + red + `', '00000000-0000-4000-8000-00000000fea1', '` + ann + `')`, `shared_by = shared_by`},
	"template_events": {`user_id = '` + ann + `'`,
		`(template_id, user_id, event) values ('00000000-0000-4000-8000-00000000fe00', '` + ann + `', 'viewed')`, `event = 'forked'`},
	"lessons": {`slug = 'first'`,
		`(slug, title) values ('new', 'New')`, `title = 'changed'`},
	"user_progress": {`user_id = '` + ann + `'`,
		`(user_id, lesson_id) values ('` + ann + `', '00000000-0000-4000-8000-000000001e02')`, `status = 'completed', completed_at = now()`},
	"prompt_runs": {`user_id = '` + ann + `' and team_id = '` + red + `'`,
		`(id, created_at, user_id, models) values (gen_random_uuid(), '2026-10-15T12:00Z', '` + ann + `', '{}')`, `total_cost_usd = 0`},
	"prompt_attempts": {`user_id = '` + ann + `' and team_id = '` + red + `'`,
		`(run_id, ordinal, created_at, user_id, provider, model) values (gen_random_uuid(), 0, '2026-10-15T12:00Z', '` + ann + `', 'openai', 'm')`, `cost_usd = 0`},
	"prompt_contents": {`user_id = '` + ann + `' and team_id = '` + red + `'`,
		`(run_id, created_at, user_id, messages) values (gen_random_uuid(), '2026-10-15T12:00Z', '` + ann + `', '[]')`, `messages = '[]'`},
	"led_active_learners": {`learner_id = '` + ann + `'`,
		`(zone, learner_id, learned, completed_days) values ('x', '` + ann + `', '1', '{}')`, `learned = '0'`},
	"led_active_members": {`learner_id = '` + ann + `' and team_id = '` + red + `'`,
		`(zone, team_id, learner_id, days) values ('x', '` + red + `', '` + ann + `', '1')`, `days = '0'`},
	"led_activity_sums": {`team_id = '` + red + `'`,
		`(zone, whole, starts_at, team_id) values ('UTC', 'day', '2026-10-15', '` + red + `')`, `runs = 0`},
	"team_fallbacks": {`user_id = '` + ann + `' and team_id = '` + red + `'`,
		`(team_id, user_id, provider) values ('` + red + `', '` + ann + `', 'groq')`, `attempts = 0`},
	"usage_sums": {`period_id = 0`,
		`(period_id) values (0)`, `runs = 0`},
}

func TestPolicies(t *testing.T) {
	tx := pgtest.Tx(t)
	exec(t, tx, users)
	exec(t, tx, world)
	checkPolicies(t, tx)
}

// checkPolicies tries every cell of the table in a database with the world.
func checkPolicies(t *testing.T, db postgres.DB) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(drift.Policies), "\n")
	actors := strings.Fields(lines[0])[2:]
	covered := map[string]int{}
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		if len(cells) == 0 {
			continue
		}
		table, verb := cells[0], cells[1]
		covered[table]++
		for i, want := range cells[2:] {
			if got := attempt(db, actors[i], statement(t, table, verb)); got != want {
				t.Errorf("%s %s by %s: %s, want %s", verb, table, actors[i], got, want)
			}
		}
	}
	for _, table := range query[string](t, db, `
		select relname::text from pg_class
		where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')`) {
		if covered[table] != 4 {
			t.Errorf("public.%s: the table says %d of 4 verbs", table, covered[table])
		}
	}
	if open := query[string](t, db, `
		select relname::text from pg_class
		where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relrowsecurity`); len(open) > 0 {
		t.Errorf("no row-level security on %v", open)
	}
}

func statement(t *testing.T, table, verb string) string {
	t.Helper()
	row, ok := annsRows[table]
	if !ok {
		t.Fatalf("no statements for public.%s", table)
	}
	switch verb {
	case "select":
		return `select 1 from public.` + table + ` where ` + row.where
	case "insert":
		return `insert into public.` + table + ` ` + row.insert
	case "update":
		return `update public.` + table + ` set ` + row.set + ` where ` + row.where
	case "delete":
		return `delete from public.` + table + ` where ` + row.where
	}
	t.Fatalf("no such verb: %s", verb)
	return ""
}

// attempt returns allowed, empty, denied, or the error nobody expected.
func attempt(db postgres.DB, actor, sql string) string {
	role, claims := "authenticated", map[string]any{"role": "authenticated", "aud": "authenticated"}
	switch actor {
	case "owner":
		claims["sub"] = ann
	case "mate":
		claims["sub"] = tom
	case "lead":
		claims["sub"] = lea
	case "stranger":
		claims["sub"] = bob
	case "anon":
		role, claims = "anon", map[string]any{"role": "anon"}
	case "nosub":
	default:
		return "unknown actor " + actor
	}
	var rows int64
	err := undone(func(done error) error {
		return postgres.AsRole(context.Background(), db, role, claims, func(tx pgx.Tx) error {
			tag, err := tx.Exec(context.Background(), sql)
			if err != nil {
				return err
			}
			rows = tag.RowsAffected()
			return done
		})
	})
	switch {
	case sqlState(err) == "42501":
		return "denied"
	case err != nil:
		return err.Error()
	case rows == 0:
		return "empty"
	}
	return "allowed"
}

// What a learner gets who asks for everything.
func TestWhatEachLearnerSees(t *testing.T) {
	tx := pgtest.Tx(t)
	exec(t, tx, users)
	exec(t, tx, world)
	name := `case right(user_id::text, 2) when 'a1' then 'ann' when 'a2' then 'tom' when 'a3' then 'lea'
		when 'b1' then 'bob' when 'b2' then 'bea' when 'c1' then 'zoe' end`
	used := name + ` || case team_id when '` + red + `' then ' in red' when '` + blue + `' then ' in blue' else '' end`
	type seen struct{ Keys, Progress, Events, Usage, Contents []string }
	see := func(learner string) (s seen) {
		t.Helper()
		err := as(t, tx, learner, func(tx pgx.Tx) error {
			s.Keys = query[string](t, tx, `select `+name+` || ' ' || status from public.user_api_keys order by 1`)
			s.Progress = query[string](t, tx, `select `+name+` from public.user_progress order by 1`)
			s.Events = query[string](t, tx, `select `+name+` from public.template_events order by 1`)
			s.Usage = query[string](t, tx, `select `+used+` from public.prompt_attempts order by 1`)
			runs := query[string](t, tx, `select `+used+` from public.prompt_runs order by 1`)
			if diff := cmp.Diff(s.Usage, runs); diff != "" {
				t.Errorf("attempts and runs differ:\n%s", diff)
			}
			s.Contents = query[string](t, tx, `select `+used+` from public.prompt_contents order by 1`)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	check := func(when, learner string, want seen) {
		t.Helper()
		if diff := cmp.Diff(want, see(learner)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	own := func(who string) seen {
		return seen{[]string{who + " healthy"}, []string{who}, []string{who}, []string{who}, []string{who}}
	}

	check("zoe, in no team", zoe, own("zoe"))
	annSees := own("ann")
	annSees.Usage = []string{"ann", "ann in red"}
	annSees.Contents = annSees.Usage
	check("ann, a member", ann, annSees)
	// Of members she sees the keys' status and progress, of usage only the team's.
	reds := []string{"ann", "lea", "tom"}
	leaSees := seen{
		Keys:     []string{"ann healthy", "lea healthy", "tom healthy"},
		Progress: reds, Events: reds,
		Usage:    []string{"ann in red", "lea", "lea in red", "tom in red"},
		Contents: []string{"lea", "lea in red"},
	}
	check("lea, who leads red", lea, leaSees)
	check("bea, who leads blue", bea, seen{
		Keys:     []string{"bea healthy", "bob healthy"},
		Progress: []string{"bea", "bob"}, Events: []string{"bea", "bob"},
		Usage:    []string{"bea", "bea in blue", "bob in blue"},
		Contents: []string{"bea", "bea in blue"},
	})

	exec(t, tx, `update public.teams set share_prompts = true where id = $1`, red)
	leaSees.Contents = leaSees.Usage
	check("lea, after red shares its prompts", lea, leaSees)
	check("ann, after red shares its prompts", ann, annSees)
	if got := see(bea).Contents; len(got) != 2 {
		t.Errorf("bea, after red shares its prompts, reads %v", got)
	}

	exec(t, tx, `insert into public.team_members (team_id, user_id) values ($1, $2)`, blue, ann)
	check("lea, after ann joined blue as well", lea, leaSees)
	exec(t, tx, `update public.team_members set role = 'member' where user_id = $1`, lea)
	leaSees = own("lea")
	leaSees.Usage = []string{"lea", "lea in red"}
	leaSees.Contents = leaSees.Usage
	check("lea, no longer lead", lea, leaSees)
}

// What the table above cannot say: whose name, team or template is used.
func TestNobodyActsForAnother(t *testing.T) {
	tx := pgtest.Tx(t)
	exec(t, tx, users)
	exec(t, tx, world)
	const annsPrivate, annsShared, maxs = "00000000-0000-4000-8000-00000000fea1", "00000000-0000-4000-8000-00000001fea1", "00000000-0000-4000-8000-00000000fea2"
	for _, c := range []struct{ what, learner, sql string }{
		{"share another's template", ann, `insert into public.team_templates values ('` + red + `', '` + maxs + `', '` + ann + `')`},
		{"share with another team", ann, `insert into public.team_templates values ('` + blue + `', '` + annsPrivate + `', '` + ann + `')`},
		{"share for nobody", ann, `insert into public.team_templates (team_id, template_id) values ('` + red + `', '` + annsPrivate + `')`},
		{"a template of nobody", ann, `insert into public.prompt_templates (title, body) values ('x', 'x')`},
		{"give a template away", ann, `update public.prompt_templates set owner_id = '` + tom + `' where id = '` + annsPrivate + `'`},
		{"event on a template unseen", tom, `insert into public.template_events (template_id, user_id, event) values ('` + annsPrivate + `', '` + tom + `', 'viewed')`},
		{"event of nobody", ann, `insert into public.template_events (template_id, event) values ('` + annsPrivate + `', 'viewed')`},
		{"give progress away", ann, `update public.user_progress set user_id = '` + tom + `'`},
		{"make oneself lead", tom, `update public.team_members set role = 'lead' where user_id = '` + tom + `'`},
		{"make prompts shared", lea, `update public.teams set share_prompts = true`},
		{"empty a table", ann, `truncate public.prompt_templates cascade`},
		{"read the accounts", lea, `select email from auth.users`},
	} {
		err := as(t, tx, c.learner, func(tx pgx.Tx) error {
			_, err := tx.Exec(context.Background(), c.sql)
			return err
		})
		if sqlState(err) != "42501" {
			t.Errorf("%s: %v, want 42501", c.what, err)
		}
	}
	// The other way round: what is shared can be seen and used.
	err := as(t, tx, tom, func(tx pgx.Tx) error {
		if got := query[string](t, tx, `select title from public.prompt_templates order by 1`); fmt.Sprint(got) != "[private shared with red the platform's]" {
			t.Errorf("tom sees %q", got)
		}
		_, err := tx.Exec(context.Background(), `
			insert into public.template_events (template_id, user_id, event) values ('`+annsShared+`', '`+tom+`', 'used')`)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	err = as(t, tx, ann, func(tx pgx.Tx) error {
		if got := query[string](t, tx, `select slug from public.lessons order by 1`); fmt.Sprint(got) != "[first second]" {
			t.Errorf("ann sees lessons %q", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A lead sees of what is counted the own team and who is in it, and nobody else anything.
func TestCountedActivityIsForLeads(t *testing.T) {
	tx := pgtest.Tx(t)
	exec(t, tx, users)
	exec(t, tx, world)
	const seen = `
		select concat_ws(' ',
		  (select string_agg(distinct team_id::text, ',') from public.led_activity_sums),
		  (select string_agg(distinct team_id::text, ',') from public.led_active_members),
		  (select string_agg(right(learner_id::text, 2), ',' order by learner_id) from public.led_active_learners))`
	for learner, want := range map[string]string{
		lea: red + " " + red + " a1,a2,a3", bea: blue + " " + blue + " b1,b2", ann: "", tom: "", bob: "", zoe: "",
	} {
		if err := as(t, tx, learner, func(tx pgx.Tx) error {
			if got := query[string](t, tx, seen)[0]; got != want {
				t.Errorf("%s sees %q, want %q", learner, got, want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, sql := range []string{
		`select from ops.active_members`, `select from ops.active_learners`, `select from ops.activity_sums`, `select from ops.activity_periods`, `select from ops.activity_marks`,
		`insert into public.led_active_members (zone) values ('x')`, `delete from public.led_activity_sums`, `select round from public.led_active_members`,
	} {
		err := as(t, tx, lea, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), sql)
			return err
		})
		if state := sqlState(err); state != "42501" && state != "42703" {
			t.Errorf("%s by a lead: %v", sql, err)
		}
	}
}
