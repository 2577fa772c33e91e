package run

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/provider"
)

// Whatever changes is so for the very next run, on every node, although they
// remember what it was before.
func TestChangesHoldFromTheNextRun(t *testing.T) {
	w := makeWorld(t)
	nodes := []*world{w, w.node()}
	outcome := func(node *world) string {
		call := node.call("openai/good", "google/good")
		e, err := node.Run(w.ctx, call, nil)
		if err != nil {
			return string(fault.KindOf(err))
		}
		text := ""
		for _, r := range e.Results {
			switch {
			case r.Error != nil:
				text += " " + string(r.Error.Class)
			default:
				text += " " + string(*r.KeySource)
			}
		}
		return text[1:]
	}
	check := func(what, want string) {
		t.Helper()
		for i, node := range nodes {
			for range 2 { // the second one is remembered
				if got := outcome(node); got != want {
					t.Errorf("%s: node %d says %q, want %q", what, i, got, want)
				}
			}
		}
	}
	check("at first", "user fallback")
	w.exec(`update auth.users set banned_until = now() + interval '1 hour' where id = $1`, w.ada)
	check("banned", "forbidden")
	w.exec(`update auth.users set banned_until = null where id = $1`, w.ada)
	check("pardoned", "user fallback")
	w.exec(`update public.user_api_keys set status = 'disabled'`)
	check("own key disabled", "fallback fallback")
	w.exec(`update ops.fallback_keys set status = 'invalid' where provider = 'google'`)
	check("fallback key invalid", "fallback missing_key")
	_, _, err := w.Keys.AddFallback(w.ctx, key.NewFallback{Provider: "google", Label: "New", Secret: "sandbox-new-key", Sandbox: true})
	w.must(err)
	check("a new key", "fallback fallback")
	w.exec(`delete from ops.fallback_keys where provider = 'openai'`)
	check("a key deleted", "missing_key fallback")
	w.limited("daily_usd", usd(t, "0"))
	check("no money", "missing_key budget_exceeded")
	w.exec(`delete from ops.budgets`)
	check("money", "missing_key fallback")
	w.exec(`update auth.users set deleted_at = now() where id = $1`, w.ada)
	check("deleted", "forbidden")
	w.exec(`delete from auth.users where id = $1`, w.ada)
	check("gone", "unauthenticated")
}

func TestTeamsHoldFromTheNextRun(t *testing.T) {
	w := makeWorld(t)
	run := func() error {
		call := w.call("google/good")
		call.Request.TeamID = &w.team
		_, err := w.Run(w.ctx, call, nil)
		return err
	}
	w.must(run())
	w.exec(`delete from public.team_members`)
	if err := run(); fault.KindOf(err) != fault.Invalid {
		t.Errorf("left the team: %v", err)
	}
	w.exec(`insert into public.team_members (team_id, user_id) values ($1, $2)`, w.team, w.ada)
	w.must(run())
}

// What is used all the time does not make everybody look again.
func TestUseIsNoChange(t *testing.T) {
	w := makeWorld(t)
	version := func() (v int64) {
		w.must(w.pool.QueryRow(w.ctx, `select version from ops.facts_version`).Scan(&v))
		return v
	}
	w.run(w.call("openai/good", "google/good"), nil)
	before := version()
	w.must(w.Uses.Flush(w.ctx))
	w.exec(`update auth.users set last_sign_in_at = now(), updated_at = now()`)
	w.run(w.keyed("k", "a", "openai/good", "google/good"), nil)
	if after := version(); after != before {
		t.Errorf("version %d became %d", before, after)
	}
}

// Where Postgres cannot tell us of every change, nothing is remembered.
func TestNothingIsRememberedWithoutTriggers(t *testing.T) {
	w := makeWorld(t)
	w.exec(`update ops.facts_version set complete = false`)
	w.exec(`drop trigger facts_changed on auth.users`)
	w.run(w.call("google/good"), nil)
	w.exec(`update auth.users set banned_until = now() + interval '1 hour'`)
	if _, err := w.Run(w.ctx, w.call("google/good"), nil); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("got %v", err)
	}
}

// The memory has an end.
func TestMemoryIsBounded(t *testing.T) {
	w := makeWorld(t)
	for i := range mostRemembered + 50 {
		w.Store.memory.keep(1, 1, Budgets{}, nil, nil, nil)
		w.Store.memory.learners[uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i))] = remembered{}
	}
	w.Store.memory.keep(1, 1, Budgets{}, nil, nil, nil)
	if n := len(w.Store.memory.learners); n > mostRemembered {
		t.Errorf("%d learners are remembered", n)
	}
}

// A change between the reading of facts and the start is noticed by the start.
func TestStaleFactsDoNotStartARun(t *testing.T) {
	w := makeWorld(t)
	w.run(w.call("google/good"), nil)
	call := w.call("google/good")
	f, err := w.Store.facts(w.ctx, &call, []string{"google"}, false)
	w.must(err)
	if !f.remembered {
		t.Fatal("nothing is remembered")
	}
	attempts := attemptsAt(call.Request.Models)
	w.chooseKeys(call, attempts, f, []provider.Message{{Content: "x"}}, w.Now())
	w.exec(`update ops.fallback_keys set status = 'disabled' where provider = 'google'`)
	for _, limits := range []string{"", "with limits"} {
		s := newStarting(call, f, attempts)
		if limits != "" {
			s.budgets.RunsPerMinute = ptr(5)
		}
		w.must(w.Store.record(&entry{start: s}, w.Store.startPatience))
		if !s.stale {
			t.Errorf("started %s", limits)
		}
	}
	var runs, paced int
	w.must(w.pool.QueryRow(w.ctx, `select (select count(*) from public.prompt_runs), (select count(*) from ops.learner_pace where running > 0)`).Scan(&runs, &paced))
	if runs != 1 || paced != 0 {
		t.Errorf("%d runs, %d paced", runs, paced)
	}
}
