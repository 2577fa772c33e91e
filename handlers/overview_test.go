package handlers_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/run"
)

// spent is an attempt that has ended, so long ago.
func (s *site) spent(ago time.Duration, status, cost string) {
	s.t.Helper()
	id := run.NewID(s.Clock.Now().Add(-ago))
	_, err := s.DB.Exec(s.t.Context(), `
		insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, provider, model, status, key_source, fallback_key_id, input_tokens, output_tokens, cost_usd, duration_ms)
		values ($1, 0, $2, $1, 'openai', 'openai/gpt-5-mini', $3, 'fallback', $1, 10, 20, nullif($4, '')::numeric, 700)`,
		id, run.CreatedAt(id), status, cost)
	must(s.t, err)
}

func TestOverview(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	admin := s.as(account.RoleAdmin)
	admin.get("/").wants(t, http.StatusOK).shows(t, "Overview", "Nothing at the moment", "No runs in the last two weeks", `href="/playground"`)

	// It is noon: eleven hours ago is today, and counts; 25 hours ago is yesterday
	// before noon, 14 hours ago yesterday after noon.
	for _, a := range []struct {
		ago    time.Duration
		status string
		cost   string
	}{
		{time.Hour, "ok", "0.30"}, {11 * time.Hour, "ok", "0.15"}, {time.Hour, "error", "0"}, {time.Hour, "ok", ""},
		{25 * time.Hour, "ok", "0.15"}, {14 * time.Hour, "ok", "5"},
	} {
		s.spent(a.ago, a.status, a.cost)
	}
	page := admin.get("/").wants(t, http.StatusOK).shows(t, "$0.45", "200% more than yesterday by now", "300% more than yesterday by now", "25.0%",
		"1 attempt of today have no price", `href="/runs?range=today&amp;status=error"`, "Daily cost")
	if strings.Contains(page.Text, "Nothing at the moment") || strings.Contains(page.Text, "Fallback keys today") {
		t.Error("a concern is missed, or a budget made up")
	}

	for range 30 {
		s.spent(2*time.Hour, "error", "0")
	}
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := s.DB.Exec(t.Context(), sql, args...)
		must(t, err)
	}
	exec(`insert into ops.budgets (daily_usd) values (0.5)`)
	exec(`insert into ops.budget_counters (scope, subject, period, used_usd) values ('platform', $1, $2, 0.45)`, uuid.Nil, s.Clock.Now().Format(time.DateOnly))
	exec(`update ops.fallback_keys set status = 'invalid'`)
	exec(`insert into ops.deliveries (id, channel, recipient, subject, body, purpose, state, attempts, reason, due_at, created_at, finished_at)
		values (gen_random_uuid(), 'email', 'a@example.org', 's', 'b', 'test', 'failed', 1, 'no', $1, $1, $1)`, s.Clock.Now().Add(-time.Hour))
	text := admin.get("/").wants(t, http.StatusOK).shows(t, "OpenAI has no fallback key that can be used.", "is refused by the provider", "of today’s attempts failed",
		"Fallback keys have used 90.0% of today’s budget of $0.50.", "Over 80%", "1 notification could not be delivered").Text
	now, soon := strings.Index(text, "has no fallback key"), strings.Index(text, "Fallback keys have used")
	if now > soon {
		t.Error("what hurts now does not come first")
	}
	s.loseDatabase()
	admin.get("/").wants(t, http.StatusServiceUnavailable)
}
