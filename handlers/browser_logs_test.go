package handlers_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/eventlog"
)

// logsShown are the pages of the log; that of nothing is of the site empty.
func logsShown(t *testing.T, empty *site, newcomer *http.Cookie) []shown {
	t.Helper()
	s, n := loggingSite(t)
	marta := s.session(named(s, "marta@example.org", "Marta Lindqvist"))
	run := s.loggedDays(n)
	return []shown{
		{name: "logs", site: s, who: marta, path: "/logs", main: "#events summary", says: "Follow live"},
		{name: "logs-open", site: s, who: marta, path: "/logs?range=today&level=warn", do: unfold, main: "#events summary", says: "The whole event as JSON"},
		{name: "logs-hours", site: s, who: marta, path: "/logs?from=2026-11-24&to=2026-11-24&start=09:00&end=12:00&event=ai_run_error&q=limit", main: "#events summary", says: "09:00"},
		{name: "logs-none", site: s, who: marta, path: "/logs?event=nobody_logs_this", main: "a.btn-primary", says: "No events match"},
		{name: "logs-empty", site: empty, who: newcomer, path: "/logs?from=2026-01-01&to=2026-01-31", main: "a.btn-primary", says: "No events in this time"},
		{name: "logs-refused", site: empty, who: newcomer, path: "/logs?level=loud&start=9", main: "#filter-text", says: "could not be used", errs: "422"},
		{name: "run-logged", site: s, who: marta, path: "/runs/" + run, do: unfold, main: "main ol.logs [data-copy]", says: "Open in Logs"},
	}
}

// loggedDays fills a site with the events of some days, and one run, whose id it
// returns.
func (s *site) loggedDays(n logNode) string {
	s.t.Helper()
	s.withKeys("openai", "anthropic")
	ada := s.learner("ada@learners.example.org")
	_, err := s.DB.Exec(s.t.Context(), `select ops.ensure_log_days($1::date - 30, $1::date)`, s.Clock.Now())
	must(s.t, err)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 1500 {
		at := s.Clock.Now().Add(-time.Duration(random.ExpFloat64() * float64(30*time.Hour)))
		name, level, source, attributes := "ai_run_success", 0, "api/ai/run", `{"durationMs":1834,"results":[{"model":"openai/gpt-5-mini","keySource":"user","durationMs":1830,"totalTokens":412,"cost":0.00079,"error":null}],"status":"success","totalTokens":412,"totalCost":0.00079,"errors":[]}`
		switch {
		case i%50 == 0:
			name, level, attributes = "ai_run_error", 8, `{"durationMs":912,"error":"no model answered","status":200,"errors":[{"model":"anthropic/claude-haiku-5-5","class":"rate_limited","message":"This request would exceed your organization’s rate limit of 50 requests per minute."}]}`
		case i%30 == 0:
			name, level, source, attributes = "node_not_seen", 4, eventlog.Program, `{"error":"timeout: context deadline exceeded"}`
		case i%2 == 0:
			name, attributes = "ai_run_start", `{"models":["openai/gpt-5-mini","anthropic/claude-haiku-5-5"],"keyAvailability":{"openai":"user","anthropic":"fallback"},"config":{"temperature":0.7},"stream":true}`
		}
		_, err := s.DB.Exec(s.t.Context(), `
			with event as (
			  insert into ops.log_events (id, at, level, source, event, request_id, user_id, node, attributes)
			  values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning at)
			insert into ops.log_counts (slot, source, event, level, node, n)
			select date_bin('5 minutes', at, 'epoch'), $4, $5, $3, $8, 1 from event
			on conflict (slot, source, event, level, node) do update set n = log_counts.n + 1`,
			uuid.New(), at, level, source, name, uuid.NewString(), ada, fmt.Sprintf("web-%d/9f2a", i%2+1), attributes)
		must(s.t, err)
	}
	id := s.visitor().send(http.MethodPost, "/api/ai/run", strings.NewReader(`{"prompt": "Hello", "models": ["openai/gpt-5-mini", "anthropic/claude-haiku-5-5-fault-429"]}`),
		"Content-Type", "application/json", "Authorization", "Bearer "+s.token(ada)).wants(s.t, 200).Header.Get("X-Request-Id")
	n.flush()
	return id
}

func TestFollowingTheLogInABrowser(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := s.logNode("one", io.Discard), s.logNode("two", io.Discard)
	b := s.newTab(t, newBrowser(t), s.session(s.operator("marta@example.org", account.RoleAdmin, "")))
	b.open("/logs?level=warn")
	b.shows("main", "No events match")
	js[any](b, `document.querySelector("[data-live]").click(), 0`)
	b.shows("[data-live-status]", "new events appear above")
	two.Warn("later", "text", "<b>bold</b>")
	one.Warn("earlier")
	one.flush()
	b.shows("#events", "earlier")
	two.flush()
	b.shows("[data-live-status]", "2 new events")
	b.shows("#events", "<b>bold</b>")
	if first := js[string](b, `document.querySelector("#events strong").textContent`); first != "earlier" {
		t.Errorf("the newest event is %q: they are not in order", first)
	}
	if js[bool](b, `document.querySelector("[data-live-empty]") !== null`) {
		t.Error("it still says that there is nothing")
	}

	// Other filters are followed, too.
	js[any](b, `document.querySelector("#filter-level").value = "error", document.querySelector("#filter-level").dispatchEvent(new Event("change", { bubbles: true })), 0`)
	b.shows("main", "No events match")
	b.shows("[data-live-status]", "Following")
	one.Error("worse")
	one.flush()
	b.shows("#events", "worse")

	js[any](b, `document.querySelector("[data-live]").click(), 0`)
	b.shows("[data-live-status]", "Paused")
	for _, problem := range b.complaints() {
		t.Error(problem)
	}
}
