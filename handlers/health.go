package handlers

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// healthz says that the process is alive.
func (s *Server) healthz(c echo.Context) error {
	return c.String(http.StatusOK, "ok\n")
}

// readyz says whether requests can be served: the database answers and is
// migrated.
func (s *Server) readyz(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), 2*time.Second)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		s.Log.Warn("not_ready", "error", err)
		return c.String(http.StatusServiceUnavailable, "not ready: the database does not answer or is not migrated\n")
	}
	return c.String(http.StatusOK, "ok\n")
}

// asset serves the built front end.
func (s *Server) asset(c echo.Context) error {
	s.Assets.Handler().ServeHTTP(c.Response(), c.Request())
	return nil
}

// favicon is asked for by browsers whatever the page says.
func (s *Server) favicon(c echo.Context) error {
	return c.Redirect(http.StatusMovedPermanently, s.Assets.URL("icon.svg"))
}
