package handlers

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/views"
)

const sessionsPath = "/account/sessions"

// sessionsPage is GET /account/sessions.
func (s *Server) sessionsPage(c echo.Context) error {
	open, err := s.Sessions.List(c.Request(), *callerOf(c).operatorID, s.Now())
	if err != nil {
		return err
	}
	zone := s.zone(c)
	page := views.SessionsPage{Page: s.page(c, "Your account"), Others: len(open) > 1}
	for _, o := range open {
		page.Sessions = append(page.Sessions, views.SessionRow{
			ID: o.ID, Browser: views.BrowserOf(o.UserAgent), Agent: o.UserAgent, IP: o.IP,
			Since: views.MomentOf(o.CreatedAt, zone), Seen: views.MomentOf(o.LastSeenAt, zone), Current: o.Current,
		})
	}
	return s.render(c, http.StatusOK, views.Sessions(page))
}

// endSessions is POST /account/sessions: ends one session of the operator's own,
// or all others.
func (s *Server) endSessions(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	operator, now := *callerOf(c).operator, s.Now()
	if end := form.Get("end"); end == "others" {
		_, err = s.Sessions.EndOthers(c.Request(), operator, now)
	} else {
		err = s.Sessions.EndOne(c.Request().Context(), operator, end, now)
	}
	if err != nil && fault.KindOf(err) != fault.NotFound {
		return err // one that has ended already is what was wanted
	}
	setFlash(c, flashSessionsEnded)
	return c.Redirect(http.StatusSeeOther, sessionsPath)
}
