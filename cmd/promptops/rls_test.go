package main

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/drift"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func TestRLSCommand(t *testing.T) {
	env := onDatabase(t)
	pool, err := pgxpool.New(t.Context(), env["DATABASE_URL"])
	must(t, err)
	t.Cleanup(pool.Close)
	do := func(sql string) {
		t.Helper()
		_, err := pool.Exec(t.Context(), sql)
		must(t, err)
	}
	promptops(t, env, "", "rls").exits(t, 2, "say check or test")
	promptops(t, env, "", "rls", "--help").exits(t, 0, "SQL that would mend it", "rolled")
	promptops(t, env, "", "rls", "check").exits(t, 0, "is as the migrations make it. Compared: ")
	promptops(t, env, "", "rls", "test").exits(t, 2, "could not check", "no month")
	do(`select ops.ensure_partitions(current_date, current_date)`)
	promptops(t, env, "", "rls", "test").exits(t, 0, "and no more. Tries: ").prints(t, "STRANGER", "public.user_api_keys", "ops.operators", "denied")

	do("alter policy teams_select on public.teams using (true); create policy \"x\x1b[31m\" on public.lessons for select to anon using (true)")
	promptops(t, env, "", "rls", "check").exits(t, 1, "Differences: 2, critical: 2").
		prints(t, "CRITICAL: policy teams_select on public.teams is different", "- using: (id = ANY", "+ using: true", "    drop policy teams_select", "x?[31m")
	promptops(t, env, "", "rls", "test").exits(t, 1, "not as expected: 2").prints(t, "ALLOWED (expected empty)")
	var found drift.Result
	must(t, json.Unmarshal([]byte(promptops(t, env, "", "rls", "check", "--json").exits(t, 1).stdout), &found))
	if len(found.Differences) != 2 || found.Differences[1].SQL == "" || found.Differences[1].Severity != drift.Critical {
		t.Errorf("found %+v", found)
	}
	var tried drift.Matrix
	must(t, json.Unmarshal([]byte(promptops(t, env, "", "rls", "test", "--json").exits(t, 1).stdout), &tried))
	if len(tried.Wrong()) != 2 {
		t.Errorf("tried %+v", tried.Wrong())
	}

	env["DATABASE_URL"] = pgtest.EmptyURL(t)
	promptops(t, env, "", "rls", "check").exits(t, 2, "could not check", "Run promptops migrate")
	promptops(t, env, "", "rls", "test").exits(t, 2, "could not check")
	env["DATABASE_URL"] = "postgres://nobody@127.0.0.1:1/none"
	promptops(t, env, "", "rls", "check").exits(t, 2, "could not check", "does not let us in")
}
