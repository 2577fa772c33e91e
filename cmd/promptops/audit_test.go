package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/postgres"
)

func TestAuditCommand(t *testing.T) {
	env := onDatabase(t)
	promptops(t, env, "", "audit").exits(t, 2, "say verify or list")
	promptops(t, env, "", "audit", "list", "--limit", "0").exits(t, 2, "--limit")
	promptops(t, env, "", "audit", "list", "--json").exits(t, 0).prints(t, "[]")
	promptops(t, env, "", "audit", "verify").exits(t, 0, "whole. Entries: 0.")

	pool, err := pgxpool.New(t.Context(), env["DATABASE_URL"])
	must(t, err)
	t.Cleanup(pool.Close)
	for _, e := range []audit.Entry{
		{Action: "team.create", SubjectType: "team", SubjectID: "t1", SubjectLabel: "Night\x1b[31mschool", Details: map[string]any{"members": 3}},
		{Action: "fallback_key.add", SubjectType: "fallback_key", SubjectLabel: "main"},
	} {
		e.Actor, e.At = audit.CommandLine, time.Now()
		must(t, postgres.InTx(t.Context(), pool, func(tx pgx.Tx) error { return audit.Add(context.Background(), tx, e) }))
	}
	out := promptops(t, env, "", "audit", "list").exits(t, 0).prints(t, "team.create", `{"members":3}`, "fallback_key.add", "audit.verify")
	if strings.Contains(out.stdout, "\x1b") {
		t.Error("a label reaches the terminal as more than text")
	}
	out = promptops(t, env, "", "audit", "list", "--action", "team.", "--json").exits(t, 0)
	var listed []listedEntry
	must(t, json.Unmarshal([]byte(out.stdout), &listed))
	if len(listed) != 1 || listed[0].ID != 2 || listed[0].Actor != "command line" || len(listed[0].Hash) != 64 {
		t.Errorf("listed %+v", listed)
	}

	verify := func(code int) (v verifiedLog) {
		t.Helper()
		must(t, json.Unmarshal([]byte(promptops(t, env, "", "audit", "verify", "--json").exits(t, code).stdout), &v))
		return v
	}
	if v := verify(0); !v.Whole || v.Entries != 3 || v.Broken != nil || len(v.Head) != 64 {
		t.Errorf("verified %+v", v)
	}
	_, err = pool.Exec(t.Context(), `update ops.audit_log set subject_label = 'other' where id = 2`)
	must(t, err)
	if v := verify(1); v.Whole || v.Broken == nil || *v.Broken != 2 {
		t.Errorf("verified %+v", v)
	}
	promptops(t, env, "", "audit", "verify").exits(t, 1, "entry 2 is missing or not as it was written")
}
