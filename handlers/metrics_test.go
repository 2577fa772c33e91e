package handlers_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/account"
)

const metricsToken = "a-metrics-token-of-the-tests"

func withMetricsToken(s *handlers.Server) { s.MetricsToken = metricsToken }

func TestMetricsWithToken(t *testing.T) {
	t.Parallel()
	s := newSite(t, withMetricsToken)
	learner := s.token(s.learner("ada@example.org"))
	for name, c := range map[string]struct {
		who    *visitor
		header string
		want   int
	}{
		"nobody":                   {s.visitor(), "", http.StatusUnauthorized},
		"a learner":                {s.visitor(), "Bearer " + learner, http.StatusUnauthorized},
		"an admin":                 {s.as(account.RoleAdmin), "", http.StatusUnauthorized},
		"the wrong token":          {s.visitor(), "Bearer " + metricsToken + "x", http.StatusUnauthorized},
		"the token's beginning":    {s.visitor(), "Bearer " + metricsToken[:8], http.StatusUnauthorized},
		"another scheme":           {s.visitor(), "Basic " + metricsToken, http.StatusUnauthorized},
		"the token":                {s.visitor(), "Bearer " + metricsToken, http.StatusOK},
		"the token, and signed in": {s.as(account.RoleTeamLead), "bearer " + metricsToken, http.StatusOK},
	} {
		answer := c.who.get("/metrics", "Authorization", c.header)
		if answer.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d", name, answer.StatusCode, c.want)
		}
		if shown := strings.Contains(answer.Text, "promptcademy_build_info"); shown != (c.want == http.StatusOK) {
			t.Errorf("%s: metrics shown: %v", name, shown)
		}
		if c.want == http.StatusUnauthorized && (answer.Header.Get("WWW-Authenticate") == "" || !strings.Contains(answer.Text, `"code":"unauthenticated"`)) {
			t.Errorf("%s: %v %s", name, answer.Header, answer.Text)
		}
	}
	s.visitor().send(http.MethodHead, "/metrics", nil, "Authorization", "Bearer "+metricsToken).wants(t, http.StatusOK)
	s.visitor().send(http.MethodPost, "/metrics", nil, "Authorization", "Bearer "+metricsToken).wants(t, http.StatusMethodNotAllowed)
	if text := s.Events.Text(); strings.Contains(text, metricsToken) {
		t.Error("the log holds the token")
	}
}

func TestMetricsOfRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t, withMetricsToken).withKeys("openai")
	token := s.token(s.learner("ada@example.org"))
	who := s.visitor()
	who.run(token, `{"prompt":"Hello","models":["`+openAIModel+`"]}`).wants(t, http.StatusOK)
	who.run(token, `{"prompt":"Hello"}`).wants(t, http.StatusUnprocessableEntity)
	who.run("nonsense", `{"prompt":"Hello"}`).wants(t, http.StatusUnauthorized)
	who.get("/nothing").wants(t, http.StatusNotFound)
	who.get("/nothing/else").wants(t, http.StatusNotFound)
	who.get("/usage").wants(t, http.StatusSeeOther)
	who.get("/sign-in/link/an-unknown-token").wants(t, http.StatusNotFound)
	who.send("PROPFIND", "/usage", nil).wants(t, http.StatusMethodNotAllowed)
	who.get("/metrics", "Authorization", "Bearer "+metricsToken).wants(t, http.StatusOK).shows(t,
		`promptcademy_http_requests_total{method="POST",route="/api/ai/run",status="2xx"} 1`,
		`promptcademy_http_requests_total{method="POST",route="/api/ai/run",status="4xx"} 2`,
		`promptcademy_http_requests_total{method="GET",route="none",status="4xx"} 2`,
		`promptcademy_http_requests_total{method="GET",route="/usage",status="3xx"} 1`,
		`promptcademy_http_requests_total{method="GET",route="/sign-in/link/:token",status="4xx"} 1`,
		`promptcademy_http_requests_total{method="other",route="none",status="4xx"} 1`,
		`promptcademy_http_request_duration_seconds_count{method="POST",route="/api/ai/run"} 3`,
		`promptcademy_ai_rejected_runs_total{code="invalid"} 1`,
		`promptcademy_ai_rejected_runs_total{code="unauthenticated"} 1`,
		`promptcademy_ai_runs_in_flight 0`,
	)
}

// Runs are in flight while they are, and one whose caller leaves is no longer.
func TestMetricsOfRunsInFlight(t *testing.T) {
	t.Parallel()
	s := newSite(t, withMetricsToken).withKeys("openai")
	token := s.token(s.learner("ada@example.org"))
	shows := func(line string) func() bool {
		return func() bool {
			return strings.Contains(s.visitor().get("/metrics", "Authorization", "Bearer "+metricsToken).Text, line)
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/api/ai/run", strings.NewReader(`{"prompt":"x","models":["openai/gpt-5-mini-fault-hang"]}`))
	must(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	go func() {
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
			t.Errorf("a run that hangs was answered: %d", response.StatusCode)
		}
	}()
	eventually(t, "a run in flight", shows("promptcademy_ai_runs_in_flight 1"))
	eventually(t, "a run that pages give way to", func() bool { return s.RunsNow() == 1 })
	leave()
	eventually(t, "no run in flight", shows("promptcademy_ai_runs_in_flight 0"))
	eventually(t, "no run that pages give way to", func() bool { return s.RunsNow() == 0 })
	eventually(t, "the end of the run", shows(`promptcademy_http_requests_total{method="POST",route="/api/ai/run",status="4xx"} 1`))
	if shows("promptcademy_ai_rejected_runs_total{")() {
		t.Error("a run whose caller left counts as rejected")
	}
}
