package handlers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/views"
)

// Replica is the copy of the database that pages read from.
type Replica struct {
	Primary func(ctx context.Context) context.Context     // in it pages read from the database itself
	State   func() (behind time.Duration, notRead string) // why it is not read from right now; "" when it is
}

const (
	// freshCookie says that its owner has changed something a moment ago, which the copy
	// may not know yet. It works on every node.
	freshCookie  = "promptops-fresh"
	freshFor     = 30 * time.Second
	noticeableAt = 5 * time.Second // of lag
)

// chooseCopy lets those who change something, and soon after look at it, read from
// the database itself.
func (s *Server) chooseCopy(c echo.Context) {
	if s.Replica == nil || callerOf(c).operator == nil {
		return
	}
	if changes(c) {
		c.SetCookie(&http.Cookie{
			Name: freshCookie, Value: "1", Path: "/", MaxAge: int(freshFor.Seconds()),
			HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(s.BaseURL, "https://"),
		})
	}
	if fresh(c) {
		c.SetRequest(c.Request().WithContext(s.Replica.Primary(c.Request().Context())))
	}
}

func changes(c echo.Context) bool {
	return c.Request().Method != http.MethodGet && c.Request().Method != http.MethodHead
}

func fresh(c echo.Context) bool {
	_, err := c.Cookie(freshCookie)
	return err == nil || changes(c)
}

// fromCopy are the pages whose figures come from the copy.
var fromCopy = []string{"/usage", "/runs", "/activity", "/learners", keyHealthPath}

// copyNotice says how old the figures of a page are; nil when they are of now, and
// nobody need know where they come from.
func (s *Server) copyNotice(c echo.Context) *views.CopyNotice {
	path := c.Request().URL.Path
	if s.Replica == nil || fresh(c) || path != "/" && !slices.ContainsFunc(fromCopy, func(page string) bool { return path == page || strings.HasPrefix(path, page+"/") }) {
		return nil
	}
	behind, notRead := s.Replica.State()
	switch {
	case notRead != "" && callerOf(c).operator.Role == account.RoleAdmin:
		return &views.CopyNotice{Tag: "Replica not used", Text: fmt.Sprintf("Figures come from the primary database, since its replica cannot be used: %s.", notRead)}
	case notRead == "" && behind >= noticeableAt:
		return &views.CopyNotice{Tag: "Not quite up to date", Text: fmt.Sprintf("Figures are %d seconds old: the replica that pages read from is behind.", int(behind.Seconds()))}
	default:
		return nil
	}
}
