package handlers

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/views"
)

// statusOf is the one place where a kind of fault becomes an HTTP status.
var statusOf = map[fault.Kind]int{
	fault.Malformed:            http.StatusBadRequest,
	fault.Unauthenticated:      http.StatusUnauthorized,
	fault.Forbidden:            http.StatusForbidden,
	fault.NotFound:             http.StatusNotFound,
	fault.MethodNotAllowed:     http.StatusMethodNotAllowed,
	fault.Conflict:             http.StatusConflict,
	fault.TooLarge:             http.StatusRequestEntityTooLarge,
	fault.UnsupportedMediaType: http.StatusUnsupportedMediaType,
	fault.Invalid:              http.StatusUnprocessableEntity,
	fault.RateLimited:          http.StatusTooManyRequests,
	fault.Internal:             http.StatusInternalServerError,
	fault.Unavailable:          http.StatusServiceUnavailable,
}

// statusClientClosed is for the log: the caller left before it was answered.
const statusClientClosed = 499

// failure is the body of every error answer of the API.
type failure struct {
	Error     failureDetail `json:"error"`
	RequestID uuid.UUID     `json:"requestId"`
}

type failureDetail struct {
	Code    fault.Kind    `json:"code"`
	Message string        `json:"message"`
	Details []fault.Field `json:"details,omitempty"`
}

// fail answers every error: JSON for programs, a page for people. What is not a
// *fault.Error is logged and shown only as an internal error with its request
// id.
func (s *Server) fail(err error, c echo.Context) {
	f := asFault(err)
	status := statusOf[f.Kind]
	if c.Request().Context().Err() != nil {
		status = statusClientClosed
	}
	s.logFailure(c, f, err, status)
	if c.Response().Committed || status == statusClientClosed {
		return
	}
	header := c.Response().Header()
	if f.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
	}
	if isAPI(c) {
		if f.Kind == fault.Unauthenticated {
			header.Set("WWW-Authenticate", `Bearer realm="promptops"`)
		}
		err = c.JSON(status, failure{failureDetail{f.Kind, f.Message, f.Details}, requestID(c)})
	} else {
		err = s.failPage(c, f, status)
	}
	if err != nil {
		s.Log.Warn("answer_not_sent", "requestId", requestID(c), "error", err)
	}
}

// failPage answers a person. Whoever is not signed in is sent to do so, and
// back to where they wanted to go.
func (s *Server) failPage(c echo.Context, f *fault.Error, status int) error {
	if f.Kind == fault.Unauthenticated {
		target := "/sign-in"
		if c.Request().Method == http.MethodGet && c.Request().RequestURI != "/" {
			target += "?next=" + url.QueryEscape(c.Request().RequestURI)
		}
		if c.Request().Header.Get("HX-Request") != "" {
			c.Response().Header().Set("HX-Redirect", target)
			return c.NoContent(http.StatusUnauthorized)
		}
		return c.Redirect(http.StatusSeeOther, target)
	}
	if !exchangeOf(c).away {
		s.recognise(c)
	}
	page := views.ErrorPage{
		Page: s.page(c, http.StatusText(status)), Status: status,
		Heading: headings[f.Kind], Message: f.Message, RequestID: requestID(c).String(),
	}
	for _, detail := range f.Details {
		page.Message += " " + detail.Field + ": " + detail.Message + "."
	}
	if f.Kind == fault.Internal {
		page.Message = "What happened is in the log. If it happens again, tell an administrator the id of this request."
	}
	if f.Kind == fault.NotFound {
		page = views.NotFoundPage(s.page(c, ""), page.RequestID)
	}
	if (f.Kind == fault.Unavailable || f.Kind == fault.Internal) && c.Request().Method == http.MethodGet {
		page.RetryHref = c.Request().RequestURI
	}
	if c.Request().Header.Get("HX-Request") != "" {
		return s.renderFragment(c, status, views.ErrorContent(page))
	}
	return s.render(c, status, views.Error(page))
}

// headings are what error pages are called.
var headings = map[fault.Kind]string{
	fault.Malformed:            "This request could not be read",
	fault.Invalid:              "Some values cannot be used",
	fault.Forbidden:            "This is not yours to see",
	fault.MethodNotAllowed:     "This cannot be done here",
	fault.Conflict:             "Somebody else was first",
	fault.TooLarge:             "This is too large",
	fault.UnsupportedMediaType: "This cannot be read here",
	fault.RateLimited:          "Too often",
	fault.Internal:             "Something went wrong on our side",
	fault.Unavailable:          "This does not work right now",
}

// logFailure logs what nobody asked for, every rejected run, and what operators
// tried that is not theirs.
func (s *Server) logFailure(c echo.Context, f *fault.Error, err error, status int) {
	if c.Path() == runPath {
		if status != statusClientClosed {
			s.Metrics.RunRejected(f.Kind)
		}
		caller := callerOf(c)
		s.Log.LogAttrs(c.Request().Context(), slog.LevelError, "ai_run_error", append(run.Identity(requestID(c), clientRequestID(c), caller.learnerID, caller.operatorID),
			slog.String("error", f.Message),
			slog.String("code", string(f.Kind)),
			slog.Int("status", status),
			slog.Int64("durationMs", time.Since(receivedAt(c)).Milliseconds()),
			slog.Any("details", f.Details),
		)...)
	}
	if f.Kind == fault.Forbidden && callerOf(c).operator != nil {
		s.Log.Warn("access_refused", "requestId", requestID(c), "operatorId", callerOf(c).operatorID, "method", c.Request().Method, "route", c.Path())
	}
	if status >= 500 || (f.Kind == fault.Internal && status != statusClientClosed) {
		s.Log.Error("request_failed", "requestId", requestID(c), "method", c.Request().Method, "route", c.Path(), "status", status, "error", err)
	}
}

// asFault finds the fault in err, or makes one: of Echo's own errors, of a
// caller that left, of anything else an internal one.
func asFault(err error) *fault.Error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fault.New(fault.TooLarge, "The body is larger than %d bytes.", tooLarge.Limit)
	}
	if errors.Is(err, context.Canceled) {
		return fault.New(fault.Unavailable, "The request was cancelled.")
	}
	if he, ok := errors.AsType[*echo.HTTPError](err); ok {
		switch he.Code {
		case http.StatusNotFound:
			return fault.New(fault.NotFound, "There is nothing at this address.")
		case http.StatusMethodNotAllowed:
			return fault.New(fault.MethodNotAllowed, "This address does not take such a request.")
		}
	}
	return fault.New(fault.Internal, "Something went wrong on our side. The request id helps us to find out what.").Because(err)
}

// isAPI says whether a program is asking.
func isAPI(c echo.Context) bool {
	path := c.Request().URL.Path
	return path == metricsPath || strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/ingest/")
}
