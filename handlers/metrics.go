package handlers

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
)

const metricsPath = "/metrics"

// metrics is GET /metrics, for Prometheus.
func (s *Server) metrics(c echo.Context) error {
	s.Metrics.Handler().ServeHTTP(c.Response(), c.Request())
	return nil
}

// admitScraper lets in whoever has the token. Without one there is no such page.
func (s *Server) admitScraper(c echo.Context) error {
	if s.MetricsToken == "" {
		return fault.New(fault.NotFound, "There is nothing at this address.")
	}
	given, wanted := sha256.Sum256([]byte(bearer(c))), sha256.Sum256([]byte(s.MetricsToken)) // of one length
	if subtle.ConstantTimeCompare(given[:], wanted[:]) != 1 {
		return fault.New(fault.Unauthenticated, "Send the metrics token as Authorization: Bearer <token>.")
	}
	return nil
}

// measure counts every answer by its route. An error is answered in here, since
// only then is its status known.
func (s *Server) measure(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Request().Method == http.MethodPost && (c.Path() == runPath || c.Path() == playgroundPath) {
			defer s.Metrics.RunBegun()()
		}
		if err := next(c); err != nil {
			c.Error(err)
		}
		status := c.Response().Status
		if !c.Response().Committed {
			status = statusClientClosed
		}
		s.Metrics.Request(exchangeOf(c).route, c.Request().Method, status, s.Now().Sub(receivedAt(c)))
		return nil
	}
}
