package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func TestOperatorCommands(t *testing.T) {
	const password = "nine lorries of marzipan"
	env := onDatabase(t)
	env["PROMPTOPS_BASE_URL"] = "https://ops.example.org"

	promptops(t, env, "", "operator", "list", "--json").exits(t, 0).prints(t, "[]")
	promptops(t, env, password+"\n", "operator", "add", "--email", "Marta@example.org", "--name", "Marta").
		exits(t, 0, "marta@example.org can sign in at https://ops.example.org").hides(t, password)
	promptops(t, env, password, "operator", "add", "--email", "marta@example.org").exits(t, 1, "Another operator")
	promptops(t, env, "password1\n", "operator", "add", "--email", "weak@example.org").exits(t, 1, "password").hides(t, "password1")
	promptops(t, env, "\n", "operator", "add", "--email", "none@example.org").exits(t, 1, "--link")
	promptops(t, env, password, "operator", "add", "--email", "no address", "--role", "king", "--timezone", "Mars/Base").
		exits(t, 1, "email", "role", "timezone").hides(t, password)
	promptops(t, env, "", "operator", "add", "--email", "linked@example.org", "--link").exits(t, 0).prints(t, "https://ops.example.org/sign-in/link/")
	promptops(t, env, password, "operator", "add", "--email", "lead@example.org", "--role", "team_lead").exits(t, 1, "learner")
	promptops(t, env, password, "operator", "add", "--email", "lead@example.org", "--role", "team_lead", "--learner", "nobody@example.org").exits(t, 1, "no learner")

	out := promptops(t, env, "", "operator", "list", "--json").exits(t, 0).hides(t, password, "argon2")
	var listed []listedOperator
	must(t, json.Unmarshal([]byte(out.stdout), &listed))
	if len(listed) != 2 || listed[0].Email != "linked@example.org" || listed[1].Name != "Marta" || listed[1].Role != "admin" {
		t.Errorf("operators are %+v", listed)
	}
	promptops(t, env, "", "operator", "disable", "--email", "linked@example.org").exits(t, 0, "signed out everywhere")
	promptops(t, env, "", "operator", "disable", "--email", "marta@example.org").exits(t, 1, "only admin left")
	promptops(t, env, "", "operator", "list").exits(t, 0).prints(t, "disabled", "active", "never")
	promptops(t, env, "", "operator", "enable", "--email", "LINKED@example.org").exits(t, 0)
	promptops(t, env, "", "operator", "reset", "--email", "marta@example.org").exits(t, 0).prints(t, "/sign-in/link/")
	promptops(t, env, "", "operator", "reset", "--email", "nobody@example.org").exits(t, 1, "no such operator")
}

func TestTeamLeadCommands(t *testing.T) {
	env := onDatabase(t)
	promptops(t, env, "", "demo", "load").exits(t, 0)
	promptops(t, env, "", "operator", "add", "--email", "lead@example.org", "--role", "team_lead", "--learner", "ADA@demo.promptcademy.test", "--link").
		exits(t, 0, "as team_lead").prints(t, "/sign-in/link/")
	db, err := pgx.Connect(t.Context(), env["DATABASE_URL"])
	must(t, err)
	defer db.Close(t.Context())
	_, err = db.Exec(t.Context(), `insert into auth.users (id, email) values (gen_random_uuid(), 'idle@example.org')`)
	must(t, err)
	promptops(t, env, "", "operator", "add", "--email", "idle@example.org", "--role", "team_lead", "--learner", "idle@example.org", "--link").
		exits(t, 0, "leads no team at the moment")
	var want string
	must(t, db.QueryRow(t.Context(), `
		select t.name from public.teams t join public.team_members m on m.team_id = t.id and m.role = 'lead'
		join auth.users u on u.id = m.user_id where u.email = 'ada@demo.promptcademy.test'`).Scan(&want))
	var listed []listedOperator
	must(t, json.Unmarshal([]byte(promptops(t, env, "", "operator", "list", "--json").exits(t, 0).stdout), &listed))
	if len(listed) != 2 || listed[1].LearnerEmail != "ada@demo.promptcademy.test" || len(listed[1].Leads) != 1 || listed[1].Leads[0] != want || len(listed[0].Leads) != 0 {
		t.Errorf("operators are %+v", listed)
	}
	promptops(t, env, "", "operator", "list").exits(t, 0).prints(t, "LEADS", want)
	promptops(t, env, "", "operator", "disable", "--email", "lead@example.org").exits(t, 0)
	var actions string
	must(t, db.QueryRow(t.Context(), `select string_agg(actor || ' ' || action, ', ' order by id) from ops.audit_log`).Scan(&actions))
	if actions != "command line operator.create, command line operator.create_link, command line operator.create, command line operator.create_link, command line operator.disable" {
		t.Errorf("audit log: %s", actions)
	}
}

func TestKeyCommands(t *testing.T) {
	const good, bad = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyzGOOD", "sk-proj-0123456789abcdefghijklmnopqrstuvwxyzBADD"
	openAI := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("Authorization") != "Bearer "+good {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":{"message":"Incorrect API key provided: ` + bad + `","type":"invalid_request_error","code":"invalid_api_key"}}`))
			return
		}
		if r.Method != http.MethodGet {
			t.Errorf("the test of a key costs money: %s %s", r.Method, r.URL)
		}
		_, _ = w.Write([]byte(`{"object":"list","data":[]}`))
	}))
	t.Cleanup(openAI.Close)
	env := onDatabase(t)
	env["OPENAI_BASE_URL"] = openAI.URL + "/v1"

	promptops(t, env, "", "key", "test").exits(t, 1, "no fallback key")
	promptops(t, env, good+"\n", "key", "add", "--provider", "openai", "--label", "main", "--priority", "5", "--models", "gpt-5-mini", "--monthly-cap", "25.00").
		exits(t, 0, "ends in GOOD").hides(t, good)
	promptops(t, env, "", "key", "test").exits(t, 0).prints(t, `openai "main" …GOOD: accepted`)
	promptops(t, env, good, "key", "add", "--provider", "openai", "--label", "again").exits(t, 1, "stored already").hides(t, good)
	promptops(t, env, bad, "key", "add", "--provider", "openai", "--label", "spare").exits(t, 0)
	promptops(t, env, "", "key", "test").exits(t, 1, "1 of 2").prints(t, "accepted", "spare").hides(t, good, bad)
	promptops(t, env, "", "key", "test", "--provider", "anthropic").exits(t, 1, "no fallback key")

	for name, args := range map[string][]string{
		"nobody":        {"--provider", "nobody", "--label", "x"},
		"--monthly-cap": {"--provider", "openai", "--label", "x", "--monthly-cap", "-1"},
	} {
		promptops(t, env, good, append([]string{"key", "add"}, args...)...).exits(t, 2, name).hides(t, good)
	}
	promptops(t, env, "\n", "key", "add", "--provider", "openai", "--label", "").exits(t, 1, "label")

	out := promptops(t, env, "", "key", "list", "--json").exits(t, 0).hides(t, good, bad)
	var listed []listedKey
	must(t, json.Unmarshal([]byte(out.stdout), &listed))
	if len(listed) != 2 || listed[0].Label != "main" || listed[0].LastFour != "GOOD" || listed[0].Priority != 5 || listed[0].Sandbox {
		t.Errorf("keys are %+v", listed)
	}
	promptops(t, env, "", "key", "list").exits(t, 0).prints(t, "PROVIDER", "main", "GOOD", "healthy", "spare").hides(t, good, bad)

	// With another master key nothing can be opened, and nothing leaks.
	env["PROMPTOPS_MASTER_KEYS"] = newRing(t)
	promptops(t, env, "", "key", "test").exits(t, 1).hides(t, good, bad)
}

func TestKeysAreChangedByCommands(t *testing.T) {
	const first, second, third = "sk-proj-of-the-command-tests-AAAA", "sk-proj-of-the-command-tests-BBBB", "sk-proj-of-the-command-tests-CCCC"
	env := onDatabase(t)
	listed := func() []listedKey {
		t.Helper()
		var keys []listedKey
		out := promptops(t, env, "", "key", "list", "--json").exits(t, 0).hides(t, first, second, third)
		must(t, json.Unmarshal([]byte(out.stdout), &keys))
		return keys
	}
	labels := func() string {
		t.Helper()
		var names []string
		for _, k := range listed() {
			names = append(names, k.Label+":"+string(k.State))
		}
		return strings.Join(names, " ")
	}
	wants := func(want string) {
		t.Helper()
		if got := labels(); got != want {
			t.Errorf("keys are %s, want %s", got, want)
		}
	}
	run := func(stdin string, args ...string) said {
		t.Helper()
		return promptops(t, env, stdin, append([]string{"key"}, args...)...).hides(t, first, second, third)
	}
	run(first, "add", "--provider", "openai", "--label", "main", "--expires", "2199-12-31").exits(t, 0, "Its id is")
	run(second, "add", "--provider", "openai", "--label", "spare").exits(t, 0)
	run("odd-"+third, "add", "--provider", "openai", "--label", "odd").exits(t, 0, "Note: Keys of this provider usually look like")
	wants("main:healthy spare:healthy odd:healthy")

	run("", "order", "--provider", "openai", "--order", "spare, main").exits(t, 1, "every key")
	run("", "order", "--provider", "openai", "--order", "spare,main,gone").exits(t, 1, "no fallback key")
	run("", "order", "--provider", "xai", "--order", "spare").exits(t, 2, "has no fallback keys")
	run("", "order", "--provider", "openai", "--order", "spare,odd,main").exits(t, 0, "in that order")
	wants("spare:healthy odd:healthy main:healthy")

	run("", "edit").exits(t, 2, "--key")
	run("", "edit", "--key", "main", "--monthly-cap", "many").exits(t, 1, "not an amount")
	run("", "edit", "--key", "main", "--models", "gpt-5-mini,gpt-5", "--monthly-cap", "12.50").exits(t, 0, "Changed")
	run("", "edit", "--key", "main", "--label", "main", "--expires", "none").exits(t, 0, "Changed")
	run("", "edit", "--key", "main", "--monthly-cap", "12.5").exits(t, 0, "Nothing was changed")
	if k := listed()[2]; k.MonthlyCapUSD == nil || k.MonthlyCapUSD.String() != "12.5" || strings.Join(k.Models, " ") != "gpt-5 gpt-5-mini" || k.ExpiresAt != nil {
		t.Errorf("edited: %+v", k)
	}

	run("", "disable", "--key", "odd").exits(t, 1, "reason")
	run("", "disable", "--key", "odd", "--reason", "Not ours").exits(t, 0, "is disabled")
	run("", "disable", "--key", "odd", "--reason", "Not ours").exits(t, 1, "disabled already")
	wants("spare:healthy odd:disabled main:healthy")
	run("", "enable", "--key", listed()[1].ID.String()).exits(t, 0, "in use again")

	run("", "rotate", "--key", "main", "--overlap", "2400h").exits(t, 1)
	run(second, "rotate", "--key", "main").exits(t, 1, `stored already, as "spare"`)
	run(third, "rotate", "--key", "main", "--overlap", "1h").exits(t, 0, "goes on behind it for 1h0m0s")
	wants("spare:healthy odd:healthy main:healthy main:healthy")
	run("", "disable", "--key", "main", "--reason", "x").exits(t, 1, "2 fallback keys are called")

	run("", "delete", "--key", "odd").exits(t, 1, "not the label")
	run("", "delete", "--key", "odd", "--confirm", "spare").exits(t, 1, "not the label")
	run("", "delete", "--key", "odd", "--confirm", "odd").exits(t, 0, "is deleted")
	run("", "delete", "--key", "odd", "--confirm", "odd").exits(t, 1, "no fallback key")
	run("", "frobnicate").exits(t, 2)
	run("", "--help").exits(t, 0, "rotate", "--overlap", "audit log")
	run("", "list").exits(t, 0).prints(t, "RUNWAY", "$12.5", "AAAA")
}

func TestDemoAndToken(t *testing.T) {
	env := onDatabase(t)
	promptops(t, env, "", "token", "--learner", "ada@demo.promptcademy.test").exits(t, 1, "no learner")
	promptops(t, env, "", "demo", "load").exits(t, 0, "Done")
	promptops(t, env, "", "demo", "load").exits(t, 1, "demo data already")
	token := promptops(t, env, "", "token", "--learner", "Ada@demo.promptcademy.test", "--ttl", "5m").exits(t, 0).stdout
	if strings.Count(token, ".") != 2 || strings.Count(token, "\n") != 1 {
		t.Errorf("the token is %q", token)
	}
	promptops(t, env, "", "key", "test").exits(t, 0).prints(t, "openai", "anthropic", "google", "accepted") // by the sandbox
	promptops(t, env, "", "demo", "clear").exits(t, 0, "Removed 120 learners")
	promptops(t, env, "", "demo", "clear").exits(t, 0, "Removed 0 learners")

	// As much as one likes, where there is nothing else.
	promptops(t, env, "", "demo", "load", "--attempts", "0", "--learners", "0").exits(t, 2, "a size goes with load --attempts only")
	promptops(t, env, "", "demo", "load", "--attempts", "600", "--learners", "40", "--teams", "50").exits(t, 1, "teams: must be at least 1")
	promptops(t, env, "", "demo", "load", "--attempts", "600", "--learners", "40", "--teams", "3", "--days", "10").exits(t, 0, "600 of 600 attempts", "Adding up")
	promptops(t, env, "", "demo", "load", "--attempts", "600").exits(t, 1, "demo data already")
	promptops(t, env, "", "demo", "clear").exits(t, 0, "Removed 40 learners, 3 teams", "with 600 attempts")
	promptops(t, env, "", "token", "--learner", "ada@demo.promptcademy.test").exits(t, 1)

	// Tokens are signed only where there is a secret to sign with.
	env["SUPABASE_URL"] = "https://project.supabase.co"
	delete(env, "SUPABASE_JWT_SECRET")
	promptops(t, env, "", "demo", "load").exits(t, 0)
	promptops(t, env, "", "token", "--learner", "ada@demo.promptcademy.test").exits(t, 1, "SUPABASE_JWT_SECRET")
}

func TestMigrateCommands(t *testing.T) {
	env := onDatabase(t)
	env["DATABASE_URL"] = pgtest.EmptyURL(t)
	status := func() string {
		t.Helper()
		return promptops(t, env, "", "migrate", "status").exits(t, 0).stdout
	}
	if before := status(); strings.Contains(before, "applied") || !strings.Contains(before, "missing") {
		t.Errorf("of an empty database: %s", before)
	}
	promptops(t, env, "", "migrate").exits(t, 0, "up to date")
	promptops(t, env, "", "migrate").exits(t, 0, "List prices added: 0")
	if after := status(); strings.Contains(after, "missing") || !strings.Contains(after, "0001_platform") {
		t.Errorf("after migrating: %s", after)
	}
	promptops(t, env, "", "migrate", "down").exits(t, 0, "Took back 00")
	if down := status(); strings.Count(down, "missing") != 1 {
		t.Errorf("after one step back: %s", down)
	}
	promptops(t, env, "", "migrate").exits(t, 0)
}
