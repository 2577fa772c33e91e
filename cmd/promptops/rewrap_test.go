package main

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// From one master key to the next while a node answers runs.
func TestRewrap(t *testing.T) {
	env := onDatabase(t)
	oldRing := env["PROMPTOPS_MASTER_KEYS"]
	newRing := "2:" + strings.TrimPrefix(newRing(t), "1:")
	promptops(t, env, "", "rewrap").exits(t, 0, "All 0 stored keys open with master key 1 alone")
	promptops(t, env, "", "demo", "load").exits(t, 0)
	token := strings.TrimSpace(promptops(t, env, "", "token", "--learner", "ada@demo.promptcademy.test").exits(t, 0).stdout)
	secrets := []string{oldRing[2:], newRing[2:], "sandbox-openai"}
	promptops(t, env, "", "rewrap").exits(t, 0, "Sealed anew under master key 1: 0 of").hides(t, secrets...)

	env["PROMPTOPS_MASTER_KEYS"] = newRing + "," + oldRing
	var before, after rewrapResult
	out := promptops(t, env, "", "rewrap", "--dry-run", "--json").exits(t, 1, "would be sealed anew under master key 2").hides(t, secrets...)
	must(t, json.Unmarshal([]byte(out.stdout), &before))
	if !before.DryRun || before.MasterKey != 2 || before.Stored == 0 || before.Left != before.Stored || before.Resealed != 0 || before.Broken == nil {
		t.Errorf("of a dry run %+v", before)
	}
	node := serveWith(t, env).ready()
	node.run(token)
	var runs atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			response := node.post(token, `{"prompt":"Explain RAG to a chef","models":["openai/gpt-5-mini","google/gemini-3.8-flash"]}`)
			var answer struct{ Status string }
			err := json.NewDecoder(response.Body).Decode(&answer)
			_ = response.Body.Close()
			if err != nil || answer.Status != "success" {
				t.Errorf("a run meanwhile: status %d, %q, %v", response.StatusCode, answer.Status, err)
				return
			}
			runs.Add(1)
		}
	}()
	out = promptops(t, env, "", "rewrap", "--json").exits(t, 0, "open with master key 2 alone").hides(t, secrets...)
	close(stop)
	<-stopped
	must(t, json.Unmarshal([]byte(out.stdout), &after))
	if after.DryRun || after.Stored != before.Stored || after.Resealed != before.Stored || after.Left != 0 || len(after.Broken) != 0 || runs.Load() == 0 {
		t.Errorf("got %+v beside %d runs", after, runs.Load())
	}
	node.run(token)
	node.end(syscall.SIGTERM, 0)
	hides(t, node, secrets...)

	// The old master key is not needed any more.
	env["PROMPTOPS_MASTER_KEYS"] = newRing
	promptops(t, env, "", "rewrap", "--dry-run").exits(t, 0, "open with master key 2 alone")
	promptops(t, env, "", "key", "test").exits(t, 0).prints(t, "accepted")
	serveWith(t, env).ready().run(token)
}

func TestRewrapOfABrokenKey(t *testing.T) {
	const secret = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyz"
	env := onDatabase(t)
	promptops(t, env, secret, "key", "add", "--provider", "openai", "--label", "main").exits(t, 0)
	promptops(t, env, secret, "key", "add", "--provider", "groq", "--label", "spare").exits(t, 0)
	conn, err := pgx.Connect(t.Context(), env["DATABASE_URL"])
	must(t, err)
	defer conn.Close(t.Context())
	var broken uuid.UUID
	must(t, conn.QueryRow(t.Context(), `
		update ops.fallback_keys set ciphertext = ciphertext || '\x00' where provider = 'groq' returning id::text`).Scan(&broken))
	ring := env["PROMPTOPS_MASTER_KEYS"]
	env["PROMPTOPS_MASTER_KEYS"] = "2:" + strings.TrimPrefix(newRing(t), "1:") + "," + ring
	out := promptops(t, env, "", "rewrap", "--json").exits(t, 1, "ops.fallback_keys "+broken.String()+" does not open").hides(t, secret, ring)
	var result rewrapResult
	must(t, json.Unmarshal([]byte(out.stdout), &result))
	if result.Resealed != 1 || result.Left != 0 || len(result.Broken) != 1 || result.Broken[0].ID != broken.String() || result.Broken[0].Table != "ops.fallback_keys" {
		t.Errorf("got %+v", result)
	}
	promptops(t, env, "", "rewrap").exits(t, 1, broken.String(), "Sealed anew under master key 2: 0 of 2")
	promptops(t, env, "", "rewrap", "--dry-run").exits(t, 1, broken.String())
}
