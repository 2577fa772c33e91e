package handlers_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/account"
)

// A database that takes a question and never answers it holds no page for ever, at
// the door or behind it.
func TestADatabaseThatHangs(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(h *handlers.Server) { h.Patience = 300 * time.Millisecond })
	admin := s.as(account.RoleAdmin)
	hang := func(table string) (end func()) {
		t.Helper()
		tx, err := s.DB.Begin(t.Context())
		must(t, err)
		_, err = tx.Exec(t.Context(), `lock table `+table+` in access exclusive mode`)
		must(t, err)
		return func() { must(t, tx.Rollback(t.Context())) }
	}
	for table, path := range map[string]string{"ops.sessions": "/usage", "ops.fallback_keys": "/keys/fallback", "ops.channels": "/settings/channels"} {
		end := hang(table)
		answer := admin.get(path).wants(t, http.StatusServiceUnavailable).shows(t, "The database does not answer right now.", "Try again")
		if answer.Header.Get("Retry-After") == "" {
			t.Errorf("%s: Retry-After is missing", path)
		}
		end()
		admin.get(path).wants(t, http.StatusOK)
	}
	admin.get("/runs/0").wants(t, http.StatusNotFound) // what is refused otherwise is refused as before
}

// A page that breaks is answered with the page that says so, whole.
func TestAPageThatBreaks(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(h *handlers.Server) { h.Usage = nil })
	s.as(account.RoleAdmin).get("/usage").wants(t, http.StatusInternalServerError).shows(t, "Something went wrong on our side")
}
