package history_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/history"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/run"
)

var began = time.Date(2026, 11, 24, 12, 0, 0, 123_000_000, time.UTC)

// past is a database with a learner, a team, a template, an operator, keys and a
// price.
type past struct {
	db                                               postgres.DB
	ada, team, template, operator, main, spare, mine uuid.UUID
	price                                            int64
}

func newPast(t *testing.T) past {
	t.Helper()
	p := past{
		db: pgtest.Tx(t), ada: uuid.New(), team: uuid.New(), template: uuid.New(), operator: uuid.New(),
		main: uuid.New(), spare: uuid.New(), mine: uuid.New(),
	}
	p.exec(t, `select ops.ensure_partitions($1::date, $1::date)`, began)
	p.exec(t, `insert into auth.users (id, email) values ($1, 'ada@example.org')`, p.ada)
	p.exec(t, `insert into public.teams (id, name) values ($1, 'Kitchen')`, p.team)
	p.exec(t, `insert into public.prompt_templates (id, title, body) values ($1, 'Recipe', 'a secret body')`, p.template)
	p.exec(t, `insert into ops.operators (id, email, name, role) values ($1, 'marta@example.org', 'Marta', 'admin')`, p.operator)
	p.exec(t, `
		insert into ops.fallback_keys (id, provider, label, ciphertext, fingerprint, last_four)
		values ($1, 'openai', 'Main', 'sealed', 'print 1', '9f2a'), ($2, 'openai', 'Spare', 'sealed', 'print 2', '77b0')`, p.main, p.spare)
	p.exec(t, `insert into public.user_api_keys (id, user_id, provider, label, ciphertext, fingerprint, last_four) values ($1, $2, 'google', 'mine', 'sealed', 'print 3', 'a1b2')`, p.mine, p.ada)
	if err := p.db.QueryRow(t.Context(), `
		insert into ops.model_prices (provider, model, input, output, cache_read, effective_from, source)
		values ('openai', 'good', 0.25, 2, 0.025, '2026-09-01Z', 'test') returning id`).Scan(&p.price); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p past) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := p.db.Exec(context.Background(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// ended is a run of two models: one changed its key, the other answered at once
// with the learner's own.
func (p past) ended(t *testing.T) uuid.UUID {
	t.Helper()
	id := run.NewID(began)
	p.exec(t, `
		insert into public.prompt_runs
		  (id, created_at, user_id, team_id, template_id, client_request_id, models, config, stream,
		   status, finished_at, duration_ms, total_tokens, total_cost_usd, unpriced)
		values ($1, $2, $3, $4, $5, 'mine-1', '{openai/good,google/odd}', '{"temperature":0.7,"maxTokens":512,"stop":["END"]}', true,
		   'success', $2::timestamptz + interval '500 ms', 500, 450, 0.00079, 1)`,
		id, began, p.ada, p.team, p.template)
	tries := fmt.Sprintf(`[
		{"at":"2026-11-24T12:00:00.143Z","durationMs":80.5,"keyId":%q,"keySource":"fallback","class":"rate_limited","httpStatus":429,"action":"next_key","reason":"this key is rate limited"},
		{"at":"2026-11-24T13:00:00.224+01:00","durationMs":390,"keyId":%q,"keySource":"fallback","action":"done","added later":1}]`, p.main, p.spare)
	p.exec(t, `
		insert into public.prompt_attempts
		  (run_id, ordinal, created_at, user_id, team_id, provider, model, status, key_source, fallback_key_id, tries, try_log,
		   input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, usage_source,
		   cost_usd, cost_source, price_id, finish_reason, provider_request_id, duration_ms, first_token_ms)
		values ($1, 0, $2, $3, $7, 'openai', 'openai/good', 'ok', 'fallback', $4, 2, $5::text::jsonb,
		   20, 12, 3, 392, 128, 'reported', 0.00079, 'computed', $6, 'stop', 'req_1', 471, 90)`,
		id, began, p.ada, p.spare, tries, p.price, p.team)
	p.exec(t, `
		insert into public.prompt_attempts
		  (run_id, ordinal, created_at, user_id, team_id, provider, model, status, key_source, user_key_id, tries,
		   input_tokens, output_tokens, usage_source, cost_source, duration_ms)
		values ($1, 1, $2, $3, $5, 'google', 'google/odd', 'ok', 'user', $4, 1, 18, 20, 'estimated', 'unpriced', 300)`,
		id, began, p.ada, p.mine, p.team)
	p.exec(t, `insert into public.prompt_contents (run_id, created_at, user_id, team_id, system, messages, outputs)
		values ($1, $2, $3, $4, 'Be brief', '[{"role":"user","content":"a secret prompt"}]', '{"openai/good":"a secret answer"}')`, id, began, p.ada, p.team)
	return id
}

func (p past) run(t *testing.T, id uuid.UUID) history.Run {
	t.Helper()
	found, err := history.NewStore(postgres.NewReader(p.db)).Run(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func usd(t *testing.T, amount string) *price.USD {
	t.Helper()
	parsed, err := price.ParseUSD(amount)
	if err != nil {
		t.Fatal(err)
	}
	return &parsed
}

func TestRunIsWhatWasWritten(t *testing.T) {
	p := newPast(t)
	id := p.ended(t)
	main := &history.Key{ID: p.main, Source: "fallback", Label: "Main", LastFour: "9f2a"}
	spare := &history.Key{ID: p.spare, Source: "fallback", Label: "Spare", LastFour: "77b0"}
	mine := &history.Key{ID: p.mine, Source: "user", Label: "mine", LastFour: "a1b2"}
	want := history.Run{
		ID: id, StartedAt: began, Status: "success", Who: history.Who{LearnerID: &p.ada, Email: "ada@example.org"},
		Team: &history.Named{ID: p.team, Name: "Kitchen"}, Template: &history.Named{ID: p.template, Name: "Recipe"},
		ClientRequestID: "mine-1", Stream: true, Config: history.Config{Temperature: new(0.7), MaxTokens: new(512), Stop: []string{"END"}},
		FinishedAt: new(began.Add(500 * time.Millisecond)), DurationMs: new(int64(500)), Tokens: new(int64(450)), Cost: usd(t, "0.00079"), Unpriced: 1,
		Attempts: []history.Attempt{
			{
				Provider: "openai", Model: "openai/good", Status: "ok", Key: spare, Calls: 2,
				Tries: []history.Try{
					{Begin: 20 * time.Millisecond, Duration: 80500 * time.Microsecond, Key: main, Class: "rate_limited", HTTPStatus: 429, Action: "next_key", Reason: "this key is rate limited"},
					{Begin: 101 * time.Millisecond, Duration: 390 * time.Millisecond, Key: spare, Action: "done"},
				},
				Tokens: history.Tokens{Input: 20, CachedInput: 12, CacheWrite: 3, Output: 392, Reasoning: 128, Total: 412, Source: "reported"},
				Cost:   usd(t, "0.00079"), CostSource: "computed",
				Price: &history.Price{
					ID: p.price, Name: "openai/good", Input: *usd(t, "0.25"), Output: *usd(t, "2"), CacheRead: usd(t, "0.025"),
					EffectiveFrom: new(time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)), Source: "test",
				},
				FinishReason: "stop", ProviderRequestID: "req_1", DurationMs: new(int64(471)), FirstTokenMs: new(int64(90)),
			},
			{
				Provider: "google", Model: "google/odd", Status: "ok", Key: mine, Calls: 1,
				Tries:  []history.Try{{About: true, Begin: 20 * time.Millisecond, Duration: 300 * time.Millisecond, Key: mine, Action: "done"}},
				Tokens: history.Tokens{Input: 18, Output: 20, Total: 38, Source: "estimated"}, CostSource: "unpriced", DurationMs: new(int64(300)),
			},
		},
		Said: &history.Said{
			System: "Be brief", Messages: []history.Message{{Role: "user", Content: "a secret prompt"}}, Outputs: map[string]string{"openai/good": "a secret answer"},
		},
	}
	got := p.run(t, id)
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
		t.Errorf("run (-want +got):\n%s", diff)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"sealed", "print 1"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the run holds %q", secret)
		}
	}
}

// Accounts, teams, templates, keys and prices go; the run stays.
func TestRunOutlivesWhatItBelongsTo(t *testing.T) {
	p := newPast(t)
	id := p.ended(t)
	for _, sql := range []string{
		`delete from ops.fallback_keys`, `delete from auth.users`, `delete from public.teams`, `delete from public.prompt_templates`, `delete from ops.model_prices`,
	} {
		p.exec(t, sql)
	}
	got := p.run(t, id)
	if got.Who.Email != "" || got.Team.Name != "" || got.Template.Name != "" || got.Attempts[0].Price != nil {
		t.Errorf("what is gone has a name: %+v", got)
	}
	if diff := cmp.Diff(&history.Key{ID: p.main, Source: "fallback", Deleted: true}, got.Attempts[0].Tries[0].Key); diff != "" {
		t.Errorf("deleted key (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&history.Key{ID: p.mine, Source: "user", Deleted: true}, got.Attempts[1].Key); diff != "" {
		t.Errorf("deleted own key (-want +got):\n%s", diff)
	}
}

// While a run goes on its models are those of its plan.
func TestRunThatGoesOn(t *testing.T) {
	p := newPast(t)
	id := run.NewID(began)
	p.exec(t, `
		insert into public.prompt_runs (id, created_at, operator_id, models, plan)
		values ($1, $2, $3, '{openai/good,xai/none}', jsonb_build_object('day', '2026-11-24', 'attempts', jsonb_build_array(
		  jsonb_build_object('provider', 'openai', 'model', 'openai/good', 'keySource', 'fallback', 'keyId', $4::uuid, 'held', 0.1),
		  jsonb_build_object('provider', 'xai', 'model', 'xai/none', 'keySource', null, 'keyId', null))))`,
		id, began, p.operator, p.main)
	want := history.Run{
		ID: id, StartedAt: began, Status: "running", Who: history.Who{Operator: true, Email: "marta@example.org", Name: "Marta"},
		Attempts: []history.Attempt{
			{Provider: "openai", Model: "openai/good", Status: "running", Key: &history.Key{ID: p.main, Source: "fallback", Label: "Main", LastFour: "9f2a"}, Tries: []history.Try{}},
			{Provider: "xai", Model: "xai/none", Status: "running", Tries: []history.Try{}},
		},
	}
	if diff := cmp.Diff(want, p.run(t, id)); diff != "" {
		t.Errorf("run (-want +got):\n%s", diff)
	}
}

// Without a single log of tries, all began so long before the end as the longest
// of them took.
func TestBeginWithoutLog(t *testing.T) {
	p := newPast(t)
	id := p.ended(t)
	p.exec(t, `update public.prompt_attempts set try_log = null, tries = 1 where run_id = $1`, id)
	for _, a := range p.run(t, id).Attempts {
		if got := a.Tries[0]; got.Begin != 29*time.Millisecond || !got.About || got.Action != "done" {
			t.Errorf("%s: %+v, want it to begin after about 29 ms", a.Model, got)
		}
	}
}

// A single call that failed is told from its attempt, should its log be missing.
func TestOnlyCallWithoutLog(t *testing.T) {
	p := newPast(t)
	id := p.ended(t)
	p.exec(t, `
		update public.prompt_attempts set try_log = null, status = 'error', error_class = 'overloaded', http_status = 503, tries = 2 - ordinal
		where run_id = $1`, id)
	got := p.run(t, id).Attempts
	if len(got[0].Tries) != 0 || got[0].Calls != 2 {
		t.Errorf("two calls of which nothing is known: %+v", got[0].Tries)
	}
	want := history.Try{Begin: 29 * time.Millisecond, Duration: 300 * time.Millisecond, About: true, Key: got[1].Key, Class: "overloaded", HTTPStatus: 503, Action: "give_up"}
	if diff := cmp.Diff([]history.Try{want}, got[1].Tries); diff != "" {
		t.Errorf("tries (-want +got):\n%s", diff)
	}
}

func TestNoSuchRun(t *testing.T) {
	p := newPast(t)
	p.ended(t)
	farthest := uuid.MustParse("ffffffff-ffff-7fff-bfff-ffffffffffff")
	for _, id := range []uuid.UUID{run.NewID(began), run.NewID(began.AddDate(3, 0, 0)), uuid.New(), uuid.Nil, uuid.Max, farthest} {
		if _, err := history.NewStore(postgres.NewReader(p.db)).Run(t.Context(), id, nil); err == nil || fault.KindOf(err) != fault.NotFound {
			t.Errorf("%s: %v, want %s", id, err, fault.NotFound)
		}
	}
}

// A lead sees the runs of the teams given, without what tells keys apart, and what
// was said only where the team shares it.
func TestRunAsALead(t *testing.T) {
	p := newPast(t)
	id := p.ended(t)
	lead, other := uuid.New(), uuid.New()
	p.exec(t, `insert into auth.users (id, email) values ($1, 'lead@example.org'), ($2, 'other@example.org')`, lead, other)
	p.exec(t, `insert into public.team_members (team_id, user_id, role) values ($1, $2, 'lead'), ($1, $3, 'member')`, p.team, lead, p.ada)
	store := history.NewStore(postgres.NewReader(p.db))

	got, err := store.As(lead).Run(t.Context(), id, []uuid.UUID{p.team})
	if err != nil {
		t.Fatal(err)
	}
	if got.Said != nil || got.TeamShares {
		t.Errorf("a team that does not share lets its lead read %+v", got.Said)
	}
	if got.Who.Email != "ada@example.org" || got.Attempts[0].Price == nil {
		t.Errorf("who and price are missing: %+v", got)
	}
	for _, a := range got.Attempts {
		for _, key := range []*history.Key{a.Key, a.Tries[0].Key} {
			if key.Label != "" || key.LastFour != "" || !key.Withheld || key.Source == "" {
				t.Errorf("the lead gets to know a key: %+v", key)
			}
		}
	}
	p.exec(t, `update public.teams set share_prompts = true`)
	if got, err = store.As(lead).Run(t.Context(), id, []uuid.UUID{p.team}); err != nil || got.Said == nil || !got.TeamShares {
		t.Errorf("a team that shares: %+v, %v", got.Said, err)
	}

	for who, find := range map[string]func() (history.Run, error){
		"a lead of another team":          func() (history.Run, error) { return store.As(other).Run(t.Context(), id, []uuid.UUID{uuid.New()}) },
		"whose handler forgets the teams": func() (history.Run, error) { return store.As(other).Run(t.Context(), id, nil) },
		"who asks for it as theirs":       func() (history.Run, error) { return store.As(other).Run(t.Context(), id, []uuid.UUID{p.team}) },
		"the learner, as lead of others":  func() (history.Run, error) { return store.As(p.ada).Run(t.Context(), id, []uuid.UUID{uuid.New()}) },
	} {
		if _, err := find(); err == nil || fault.KindOf(err) != fault.NotFound {
			t.Errorf("%s: %v, want %s", who, err, fault.NotFound)
		}
	}
}
