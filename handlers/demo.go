package handlers

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// clearDemo is POST /demo/clear.
func (s *Server) clearDemo(c echo.Context) error {
	if _, err := s.Demo.Clear(c.Request().Context(), s.Now()); err != nil {
		return err
	}
	s.Log.Info("demo_cleared", "operatorId", callerOf(c).operatorID)
	setFlash(c, flashDemoCleared)
	return c.Redirect(http.StatusSeeOther, "/usage")
}
