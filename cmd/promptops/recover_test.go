package main

import (
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestRecover(t *testing.T) {
	env := onDatabase(t)
	s := serveWith(t, env).ready() // makes the months
	promptops(t, env, "", "recover").exits(t, 0, "Runs closed as interrupted: 0.")

	conn, err := pgx.Connect(t.Context(), env["DATABASE_URL"])
	must(t, err)
	defer conn.Close(t.Context())
	exec := func(sql string) {
		t.Helper()
		_, err := conn.Exec(t.Context(), sql)
		must(t, err)
	}
	// One of a node that nobody knows, one of the node that lives.
	exec(`
		insert into public.prompt_runs (id, created_at, user_id, models, node_id, plan)
		select u.id, now(), gen_random_uuid(), '{openai/gpt-5-mini}', u.node, jsonb_build_object('day', current_date, 'attempts', jsonb_build_array(jsonb_build_object(
		  'provider', 'openai', 'model', 'openai/gpt-5-mini', 'keySource', 'fallback', 'keyId', 'a0000000-0000-0000-0000-000000000000'::uuid, 'held', '0.25')))
		from (values ('b0000000-0000-0000-0000-000000000000'::uuid, gen_random_uuid()),
		             ('c0000000-0000-0000-0000-000000000000', (select id from ops.nodes))) u (id, node)`)
	exec(`insert into ops.budget_counters (scope, subject, period, used_usd) values ('key', 'a0000000-0000-0000-0000-000000000000', date_trunc('month', current_date), 0.75)`)
	promptops(t, env, "", "recover", "--json").exits(t, 0, "b0000000-0000-0000-0000-000000000000").prints(t, `{"closed":1}`)
	promptops(t, env, "", "recover", "--json").exits(t, 0).prints(t, `{"closed":0}`)

	var lost, living, attempt, used string
	must(t, conn.QueryRow(t.Context(), `
		select (select status from public.prompt_runs where id = 'b0000000-0000-0000-0000-000000000000'),
		       (select status from public.prompt_runs where id = 'c0000000-0000-0000-0000-000000000000'),
		       (select string_agg(status, ' ') from public.prompt_attempts),
		       (select used_usd::text from ops.budget_counters where scope = 'key')`).Scan(&lost, &living, &attempt, &used))
	if lost != "interrupted" || living != "running" || attempt != "interrupted" || used != "0.50" {
		t.Errorf("the run of no node is %s, that of a living one %s, attempts are %s, %s are set aside", lost, living, attempt, used)
	}

	s.end(syscall.SIGTERM, 0)
	promptops(t, env, "", "recover").exits(t, 0, "closed as interrupted: 1.")
}
