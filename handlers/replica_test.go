package handlers_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/account"
)

// aCopy is a replica as handlers know it.
type aCopy struct {
	mu      sync.Mutex
	behind  time.Duration
	notRead string
	primary int // requests that read from the primary
}

func (a *aCopy) is(behind time.Duration, notRead string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.behind, a.notRead = behind, notRead
}

func (a *aCopy) primaries() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.primary
}

func (a *aCopy) replica() *handlers.Replica {
	return &handlers.Replica{
		Primary: func(ctx context.Context) context.Context {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.primary++
			return ctx
		},
		State: func() (time.Duration, string) {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.behind, a.notRead
		},
	}
}

func TestPagesFromACopy(t *testing.T) {
	t.Parallel()
	replica := &aCopy{}
	s := newSite(t, func(s *handlers.Server) { s.Replica = replica.replica() })
	admin := s.as(account.RoleAdmin)
	lead := s.operator("lead@example.org", account.RoleTeamLead, "")
	s.teamOf("Kitchen", *lead.LearnerID)
	leads := s.visitor(s.session(lead))
	const old, away = "Figures are 12 seconds old", "Figures come from the primary database"
	shows := func(page reply, text string, want bool) {
		t.Helper()
		page.wants(t, http.StatusOK)
		if strings.Contains(page.Text, text) != want {
			t.Errorf("%s shows %q: %v", page.Request.URL, text, !want)
		}
	}
	shows(admin.get("/usage"), "Figures are", false)
	replica.is(12*time.Second+300*time.Millisecond, "")
	for _, path := range []string{"/", "/usage", "/runs", "/activity", "/keys/health"} {
		shows(admin.get(path), old, true)
	}
	shows(leads.get("/usage"), old, true)
	for _, path := range []string{"/settings/budgets", "/keys/fallback"} { // never from the copy
		shows(admin.get(path), old, false)
	}
	replica.is(time.Minute, "it is too far behind")
	shows(admin.get("/usage"), away, true)
	shows(admin.get("/usage"), "it is too far behind", true)
	shows(leads.get("/usage"), away, false)
	if n := replica.primaries(); n != 0 {
		t.Errorf("%d requests read from the primary, though nobody changed anything", n)
	}

	// Who changes something sees it at once, and the others stay on the copy.
	replica.is(12*time.Second, "")
	answer := admin.post("/settings/budgets", "dailyUsd=25")
	if c := answer.setCookie("promptops-fresh"); c == nil || !c.HttpOnly || c.MaxAge != 30 {
		t.Errorf("cookie %v", c)
	}
	before := replica.primaries()
	shows(admin.get("/usage", "Cookie", "promptops-fresh=1"), old, false)
	if n := replica.primaries(); before == 0 || n != before+1 {
		t.Errorf("%d requests read from the primary, before it were %d", n, before)
	}
	shows(leads.get("/usage"), old, true)
	newSite(t).as(account.RoleAdmin).get("/usage", "Cookie", "promptops-fresh=1").wants(t, http.StatusOK) // without a replica it says nothing
}
