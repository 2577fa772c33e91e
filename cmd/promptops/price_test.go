package main

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestPriceCommands(t *testing.T) {
	env := onDatabase(t)
	env["PROMPTOPS_TIMEZONE"] = "Europe/Berlin"
	promptops(t, env, "", "demo", "load").exits(t, 0)
	db, err := pgx.Connect(t.Context(), env["DATABASE_URL"])
	must(t, err)
	defer db.Close(t.Context())

	promptops(t, env, "", "price", "--help").exits(t, 0, "recompute", "--dry-run only says")
	promptops(t, env, "", "price").exits(t, 2, "say one of list, set, recompute")
	promptops(t, env, "", "price", "set", "--model", "gpt-5-mini").exits(t, 2, "full name of a model")
	promptops(t, env, "", "price", "recompute").exits(t, 2, "--model")
	promptops(t, env, "", "price", "list", "--provider", "openai").exits(t, 0, "have no price").prints(t, "openai/gpt-5-mini", "$0.25", "the program", "in force")
	promptops(t, env, "", "price", "set", "--model", "openai/gpt-5-mini", "--input", "1,5", "--output", "1e3").exits(t, 1, "input", "output", "source")

	const model = "openrouter/preview/unlisted-model"
	set := func(more ...string) listedPrice {
		t.Helper()
		args := append([]string{"price", "set", "--json", "--model", model, "--output", "2", "--source", "our contract"}, more...)
		var got listedPrice
		must(t, json.Unmarshal([]byte(promptops(t, env, "", args...).exits(t, 0, "Set price").stdout), &got))
		return got
	}
	first := set("--input", "0.25", "--from", "2026-01-01", "--tier-above", "200000", "--tier-input", "0.5")
	if first.Model != model || first.SetBy != "command line" || first.From.UTC().Format("2006-01-02T15:04") != "2025-12-31T23:00" || first.TierInput.String() != "0.5" || first.CacheRead != nil {
		t.Errorf("set %+v", first)
	}
	promptops(t, env, "", "price", "set", "--model", model, "--input", "9", "--output", "2", "--source", "x", "--from", "2026-01-01").exits(t, 1, "from the same instant")

	recompute := func(more ...string) recomputed {
		t.Helper()
		var got recomputed
		must(t, json.Unmarshal([]byte(promptops(t, env, "", append([]string{"price", "recompute", "--json"}, more...)...).exits(t, 0).stdout), &got))
		return got
	}
	unpriced := func(want bool) {
		t.Helper()
		var got bool
		must(t, db.QueryRow(t.Context(), `select exists (select from public.prompt_attempts where model = $1 and cost_source = 'unpriced')`, model).Scan(&got))
		if got != want {
			t.Errorf("unpriced: %v, want %v", got, want)
		}
	}
	dry := recompute("--model", model, "--dry-run")
	if !dry.DryRun || dry.Job != 0 || dry.Priced == 0 || dry.Priced != dry.Changed || !dry.OldUSD.IsZero() {
		t.Errorf("a dry run said %+v", dry)
	}
	unpriced(true)
	did := recompute("--model", model)
	if did.Job == 0 || did.Changed != dry.Changed || did.NewUSD.String() != dry.NewUSD.String() {
		t.Errorf("it did %+v, a dry run said %+v", did, dry)
	}
	unpriced(false)
	promptops(t, env, "", "price", "recompute", "--undo", "1", "--dry-run").exits(t, 2, "exclude each other")
	undone := recompute("--undo", "1")
	if undone.Changed != did.Changed || !undone.NewUSD.IsZero() {
		t.Errorf("taken back: %+v", undone)
	}
	unpriced(true)
	promptops(t, env, "", "price", "recompute", "--undo", "1").exits(t, 1, "taken back already")
	promptops(t, env, "", "price", "recompute", "--model", model, "--from", "soon").exits(t, 1, "from")
	promptops(t, env, "", "price", "list", "--model", model).exits(t, 0).prints(t, "$0.25", "command line", "2025-12-31T23:00:00Z")
	var actions string
	must(t, db.QueryRow(t.Context(), `select string_agg(action, ' ' order by id) from ops.audit_log where actor = 'command line' and action like 'price.%'`).Scan(&actions))
	if actions != "price.set price.recompute price.recomputed price.undo price.undone" {
		t.Errorf("the audit log has %s", actions)
	}
}
