package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// What two nodes write on standard output is in the database, to the last event
// before the connection is closed.
func TestServeKeepsItsLog(t *testing.T) {
	env := onDatabase(t)
	promptops(t, env, "", "demo", "load").exits(t, 0)
	token := strings.TrimSpace(promptops(t, env, "", "token", "--learner", "ada@demo.promptcademy.test").exits(t, 0).stdout)
	env["PROMPTOPS_LOG_DAYS"] = "3"
	promptops(t, env, "", "config").exits(t, 0).prints(t, "PROMPTOPS_LOG_DAYS=3\n")
	first, second := serveWith(t, env).ready(), serveWith(t, env).ready()
	runs := []string{first.run(token), second.run(token)}

	conn, err := pgx.Connect(t.Context(), env["DATABASE_URL"])
	must(t, err)
	defer conn.Close(t.Context())
	stored := func(where string, args ...any) (n int) {
		must(t, conn.QueryRow(t.Context(), `select count(*) from ops.log_events where `+where, args...).Scan(&n))
		return n
	}
	first.eventually("events of both runs in the database", func() bool { return stored(`request_id = any ($1)`, runs) == 4 })
	if got := stored(`event = 'ai_run_success' and (attributes ->> 'totalTokens')::int > 0 and user_id is not null and source = 'api/ai/run'`); got != 2 {
		t.Errorf("%d runs that went well are stored whole, want 2", got)
	}
	first.end(syscall.SIGTERM, 0)
	second.end(syscall.SIGTERM, 0)
	if started, stopping := stored(`event = 'server_started'`), stored(`event = 'server_stopping'`); started != 2 || stopping != 2 {
		t.Errorf("%d starts and %d ends are stored, want 2 each", started, stopping)
	}
	var nodes int
	must(t, conn.QueryRow(t.Context(), `select count(distinct node) from ops.log_events`).Scan(&nodes))
	if nodes != 2 {
		t.Errorf("%d nodes, want 2", nodes)
	}
	written := strings.Count(first.stdout.String(), "\n") + strings.Count(second.stdout.String(), "\n") - strings.Count(first.stdout.String()+second.stdout.String(), `"event":"server_stopped"`)
	if got := stored(`true`); got != written {
		t.Errorf("%d events are stored of %d on standard output", got, written)
	}
}
