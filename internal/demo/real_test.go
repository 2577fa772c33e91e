package demo_test

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/seal"
)

// realWorld is a small one that the demo must leave alone.
type realWorld struct {
	learner, operator, team, template, lesson uuid.UUID
	userKey, fallbackKey                      uuid.UUID
}

func realData(t testing.TB, db postgres.DB, ring *seal.Ring) realWorld {
	t.Helper()
	ctx := context.Background()
	exec(t, db, `select ops.ensure_partitions($1::date, $1::date)`, now)
	w := realWorld{learner: uuid.New()}
	exec(t, db, `insert into auth.users (id, email) values ($1, 'real@example.com')`, w.learner)
	w.operator = one[uuid.UUID](t, db, `insert into ops.operators (email, role) values ('admin@example.com', 'admin') returning id`)
	w.team = one[uuid.UUID](t, db, `insert into teams (name) values ('Spring cohort') returning id`)
	exec(t, db, `insert into team_members (team_id, user_id, role) values ($1, $2, 'lead')`, w.team, w.learner)
	w.template = one[uuid.UUID](t, db, `insert into prompt_templates (owner_id, title, body) values ($1, 'Real', 'x') returning id`, w.learner)
	exec(t, db, `insert into team_templates (team_id, template_id, shared_by) values ($1, $2, $3)`, w.team, w.template, w.learner)
	exec(t, db, `insert into template_events (template_id, user_id, event) values ($1, $2, 'created')`, w.template, w.learner)
	w.lesson = one[uuid.UUID](t, db, `insert into lessons (slug, title) values ('lesson-1', 'Real') returning id`)
	exec(t, db, `insert into user_progress (user_id, lesson_id) values ($1, $2)`, w.learner, w.lesson)
	keys := key.NewStore(db, ring)
	user, _, err := keys.AddUser(ctx, key.NewUser{LearnerID: w.learner, Provider: "openai", Secret: "sk-real"})
	if err != nil {
		t.Fatal(err)
	}
	fallback, _, err := keys.AddFallback(ctx, key.NewFallback{Provider: "openai", Label: "A real one", Secret: "sk-real"})
	if err != nil {
		t.Fatal(err)
	}
	w.userKey, w.fallbackKey = user.ID, fallback.ID
	w.run(t, db, runOptions{learner: &w.learner, team: &w.team, template: &w.template, userKey: &w.userKey})
	w.run(t, db, runOptions{learner: &w.learner, fallbackKey: &w.fallbackKey})
	w.run(t, db, runOptions{operator: &w.operator, fallbackKey: &w.fallbackKey})
	return w
}

type runOptions struct {
	learner, operator, team, template, userKey, fallbackKey *uuid.UUID
}

// run stores a run with one attempt that cost 0.25 dollars.
func (w realWorld) run(t testing.TB, db postgres.DB, o runOptions) uuid.UUID {
	t.Helper()
	id := uuid.New()
	exec(t, db, `
		insert into prompt_runs (id, created_at, user_id, operator_id, team_id, template_id, models, status, finished_at, total_cost_usd)
		values ($1, $2, $3, $4, $5, $6, '{openai/x}', 'success', $2, 0.25)`, id, now, o.learner, o.operator, o.team, o.template)
	exec(t, db, `
		insert into prompt_attempts (run_id, ordinal, created_at, user_id, operator_id, team_id, template_id, provider, model, status,
		  key_source, user_key_id, fallback_key_id, cost_usd)
		values ($1, 0, $2, $3, $4, $5, $6, 'openai', 'openai/x', 'ok', case when $7::uuid is null then 'fallback' else 'user' end, $7, $8, 0.25)`,
		id, now, o.learner, o.operator, o.team, o.template, o.userKey, o.fallbackKey)
	exec(t, db, `insert into prompt_contents (run_id, created_at, user_id, team_id, messages) values ($1, $2, $3, $4, '[]')`, id, now, o.learner, o.team)
	return id
}

// check looks whether everything is there and as it was.
func (w realWorld) check(t *testing.T, db postgres.DB, ring *seal.Ring) {
	t.Helper()
	if n := one[int](t, db, `
		select (select count(*) from prompt_runs where team_id = $1 and template_id = $2)
		     + (select count(*) from team_members where team_id = $1 and user_id = $3)
		     + (select count(*) from team_templates where team_id = $1 and template_id = $2 and shared_by = $3)
		     + (select count(*) from template_events where template_id = $2 and user_id = $3)
		     + (select count(*) from prompt_templates where id = $2 and owner_id = $3)
		     + (select count(*) from user_progress where user_id = $3)`, w.team, w.template, w.learner); n != 6 {
		t.Error("real data is not what it was")
	}
	keys := key.NewStore(db, ring)
	candidates, err := keys.Candidates(context.Background(), &w.learner, []string{"openai"})
	if err != nil || len(candidates["openai"]) != 2 {
		t.Fatalf("real keys: %v, %v", candidates, err)
	}
	for _, k := range candidates["openai"] {
		if secret, err := keys.Open(k); err != nil || secret.Reveal() != "sk-real" || k.Sandbox {
			t.Errorf("%s key: %v, sandbox %v", k.Source, err, k.Sandbox)
		}
	}
}
