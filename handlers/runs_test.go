package handlers_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/run"
)

// withSpare stores two keys of OpenAI, of which the first is rate limited.
func (s *site) withSpare() *site {
	s.t.Helper()
	for i, k := range []key.NewFallback{
		{Label: "Main account", Secret: "sandbox-openai-of-the-tests-fault-429"},
		{Label: "Spare account", Secret: "sandbox-openai-of-the-tests-7c1d"},
	} {
		k.Provider, k.Priority, k.Sandbox = "openai", i+1, true
		_, _, err := s.Keys.AddFallback(s.t.Context(), k)
		must(s.t, err)
	}
	return s
}

func TestRunPageShowsTheFailOver(t *testing.T) {
	t.Parallel()
	s := newSite(t).withSpare().withKeys("mistral")
	const prompt = "What nobody else may read"
	answer := s.visitor().run(s.token(s.learner("ada@example.org")),
		`{"prompt":"`+prompt+`","models":["openai/gpt-5-mini","mistral/nobody-has-a-price","xai/grok-4"],"config":{"maxTokens":300}}`, "X-Request-ID", "mine-1").
		wants(t, http.StatusOK).run(t)
	if answer.Status != "partial" {
		t.Fatalf("want some models to answer: %+v", answer)
	}

	admin := s.as(account.RoleAdmin)
	page := admin.get("/runs/"+answer.RequestID).wants(t, http.StatusOK)
	page.shows(t, "Some answered", "ada@example.org", "mine-1", "at most 300 tokens", answer.RequestID,
		"Main account", "Rate limited", "HTTP 429", "Went on to the next key: this key is rate limited.",
		"Spare account", "…7c1d", "33.3%", "no price is known", "missing_key", "The provider was not called.", exact(answer.Results[0].Cost))
	first, second := strings.Index(page.Text, "Main account"), strings.Index(page.Text, "Spare account")
	if first < 0 || second < first {
		t.Errorf("the tries are not in their order: %d, %d", first, second)
	}
	for _, secret := range []string{prompt, "sandbox-openai", *answer.Results[0].Output} {
		if strings.Contains(page.Text, secret) {
			t.Errorf("the page shows %q", secret)
		}
	}
}

func TestRunPageInTheOperatorsZone(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	answer := s.visitor().run(s.token(s.learner("ada@example.org")), `{"prompt":"Hello","models":["openai/gpt-5-mini"]}`).wants(t, http.StatusOK).run(t)
	operator, err := s.Accounts.Create(t.Context(), audit.CommandLine, account.NewOperator{Email: "berlin@example.org", Role: account.RoleAdmin, Timezone: "Europe/Berlin"}, s.Clock.Now())
	must(t, err)
	s.visitor(s.session(operator)).get("/runs/"+answer.RequestID).wants(t, http.StatusOK).shows(t, "24 Nov 2026, 13:0", "24 Nov 2026, 12:0", "All answered")
}

func TestNoSuchRunPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	for _, id := range []string{run.NewID(s.Clock.Now()).String(), uuid.NewString(), "1", "%00", "..%2f", strings.Repeat("0", 300)} {
		admin.get("/runs/"+id).wants(t, http.StatusNotFound).shows(t, "There is no such page")
	}
}

// Runs of the demo can be looked at like real ones.
func TestRunPagesOfTheDemo(t *testing.T) {
	t.Parallel()
	s := newSite(t).withDemo()
	admin := s.as(account.RoleAdmin)
	rows, err := s.DB.Query(t.Context(), `
		(select distinct on (status) id::text from public.prompt_runs where status <> 'running' order by status, created_at)
		union all (select run_id::text from public.prompt_attempts where tries > 1 order by created_at limit 1)`)
	must(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	if len(ids) < 4 {
		t.Fatalf("the demo has only %d kinds of run", len(ids))
	}
	for _, id := range ids {
		admin.get("/runs/"+id).wants(t, http.StatusOK).shows(t, "Calls to the providers")
	}
}

// The playground leads to the run, also without scripts.
func TestPlaygroundLinksItsRun(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	admin := s.as(account.RoleAdmin)
	page := admin.post("/playground", "prompt=Hello&models=openai/gpt-5-mini").wants(t, http.StatusOK)
	_, rest, found := strings.Cut(page.Text, `href="/runs/`)
	id, _, _ := strings.Cut(rest, `"`)
	if !found || len(id) != 36 {
		t.Fatalf("no link to the run; body:\n%.3000s", page.Text)
	}
	admin.get("/runs/"+id).wants(t, http.StatusOK).shows(t, "on the playground", "All answered")
}
