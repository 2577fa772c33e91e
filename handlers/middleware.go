package handlers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/static"
)

// contentSecurityPolicy needs no nonce: nothing is inline.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// exchange is what we know of a request beside its bytes.
type exchange struct {
	id       uuid.UUID
	received time.Time
	clock    time.Time // the same moment, for measuring
	route    string    // the pattern that matched; empty where there is nothing
	caller   caller
	scope    scope         // whose data to show, on pages for leads
	upstream time.Duration // of it, spent waiting for providers
	away     bool          // the database did not answer; only on pages for readers
}

// caller is who asks: an operator, a learner, or (both nil) nobody we know.
type caller struct {
	operator   *account.Operator
	operatorID *uuid.UUID
	learnerID  *uuid.UUID
}

// headerRequestID as net/http spells it: any other spelling would have to be put
// right each time.
const headerRequestID = "X-Request-Id"

const exchangeKey = "promptops.exchange"

func exchangeOf(c echo.Context) *exchange {
	x, _ := c.Get(exchangeKey).(*exchange)
	if x == nil {
		x = &exchange{}
	}
	return x
}

func requestID(c echo.Context) uuid.UUID  { return exchangeOf(c).id }
func receivedAt(c echo.Context) time.Time { return exchangeOf(c).received }
func callerOf(c echo.Context) caller      { return exchangeOf(c).caller }

// identify gives every request an id: the run's, if it becomes one.
func (s *Server) identify(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		now := s.Now()
		x := &exchange{id: run.NewID(now), received: now, clock: time.Now()}
		c.Set(exchangeKey, x)
		c.Response().Header().Set(headerRequestID, x.id.String())
		if c.Request().URL.Path == runPath {
			c.Response().Before(func() { setServerTiming(c) })
		}
		return next(c)
	}
}

// compressPages sends pages and tables gzipped. Assets are compressed already,
// and a program reads its answer, or a stream, as it is written.
func compressPages() echo.MiddlewareFunc {
	return middleware.GzipWithConfig(middleware.GzipConfig{
		Skipper: func(c echo.Context) bool {
			return isAPI(c) || strings.HasPrefix(c.Request().URL.Path, static.Prefix) || c.Path() == logsTailPath
		},
		Level:     5,
		MinLength: 1024,
	})
}

// recoverPanics turns a panic into an error for fail.
func (s *Server) recoverPanics(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if p := recover(); p != nil {
				if abort, ok := p.(error); ok && errors.Is(abort, http.ErrAbortHandler) {
					panic(p)
				}
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		return next(c)
	}
}

func (s *Server) secureHeaders() echo.MiddlewareFunc {
	headers := http.Header{
		"Content-Security-Policy":    {contentSecurityPolicy},
		"X-Content-Type-Options":     {"nosniff"},
		"Referrer-Policy":            {"same-origin"},
		"Cross-Origin-Opener-Policy": {"same-origin"},
		"Cache-Control":              {"no-store"},
	}
	if strings.HasPrefix(s.BaseURL, "https://") {
		headers.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			maps.Copy(c.Response().Header(), headers) // the same values for all: they are replaced, never changed
			return next(c)
		}
	}
}

// cors lets the frontend's pages, and nobody else's, read our API's answers.
func (s *Server) cors() echo.MiddlewareFunc {
	return middleware.CORSWithConfig(middleware.CORSConfig{
		Skipper:       func(c echo.Context) bool { return !isAPI(c) || len(s.CORSOrigins) == 0 },
		AllowOrigins:  s.CORSOrigins,
		AllowMethods:  []string{http.MethodGet, http.MethodPost, http.MethodDelete},
		AllowHeaders:  []string{"Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID", "Traceparent", "X-Client-Info", "Apikey"},
		ExposeHeaders: []string{"X-Request-ID", "Retry-After", "Idempotent-Replayed", "Server-Timing"},
		MaxAge:        3600,
	})
}

// refuseForgery refuses what another site makes a browser send with the
// operator's cookie. A bearer token cannot be sent by accident: no page of
// another site has it.
func refuseForgery() echo.MiddlewareFunc {
	protection := http.NewCrossOriginProtection()
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if bearer(c) != "" {
				return next(c)
			}
			if err := protection.Check(c.Request()); err != nil {
				return fault.New(fault.Forbidden, "This request came from another site. Send it from a page of this dashboard.").Because(err)
			}
			return next(c)
		}
	}
}

// bearer is the request's access token, or empty.
func bearer(c echo.Context) string {
	scheme, token, _ := strings.Cut(c.Request().Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// admit finds out who is asking and lets them through, or says why not.
func (s *Server) admit(c echo.Context, need access) error {
	if need == scraper {
		return s.admitScraper(c)
	}
	x := exchangeOf(c)
	if need == learnerOnly {
		return s.admitAccount(c, x)
	}
	if need == reader {
		return s.admitReader(c, x)
	}
	if need == runner && c.Request().Header.Get("Authorization") != "" {
		return s.admitLearner(c, x)
	}
	operator, err := s.Sessions.Operator(c.Request(), s.Now())
	switch {
	case err == nil:
		x.caller = caller{operator: &operator, operatorID: &operator.ID}
	case need == public && (fault.KindOf(err) == fault.Unauthenticated || fault.KindOf(err) == fault.Unavailable):
		return nil
	case need == runner && fault.KindOf(err) == fault.Unauthenticated:
		return fault.New(fault.Unauthenticated, "Send the learner's access token as Authorization: Bearer <token>.")
	default:
		return err
	}
	if need == lead {
		x.scope, err = s.scopeFor(c.Request().Context(), operator)
		return err
	}
	if (need == admin || need == runner) && operator.Role != account.RoleAdmin {
		return fault.New(fault.Forbidden, "Only administrators may do this. Team leads see the pages in the navigation, of the teams that they lead.")
	}
	return nil
}

// lookUpPatience is how long a page that works without the database waits for it.
const lookUpPatience = time.Second

// admitReader is admit for pages that are wanted most when the database is away:
// whoever this node saw signed in within the last hour may read them then.
func (s *Server) admitReader(c echo.Context, x *exchange) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), lookUpPatience)
	defer cancel()
	operator, err := s.Sessions.Operator(c.Request().WithContext(ctx), s.Now())
	if err == nil {
		x.caller = caller{operator: &operator, operatorID: &operator.ID}
		if x.scope, err = s.scopeFor(ctx, operator); err == nil {
			return nil
		}
	}
	if c.Request().Context().Err() != nil || fault.KindOf(err) != fault.Unavailable && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	x.away = true
	operator, known := s.Sessions.Remembered(c.Request(), s.Now())
	if !known {
		x.caller = caller{}
		return fault.New(fault.Unavailable, "The database does not answer, so nobody can sign in right now. The runbook opens in a browser that was signed in here within the last hour.").
			After(5 * time.Second).Because(err)
	}
	x.caller = caller{operator: &operator, operatorID: &operator.ID}
	return nil
}

// recognise notes who is signed in where nobody has to be: on the page that says
// that there is nothing at an address.
func (s *Server) recognise(c echo.Context) {
	if exchangeOf(c).away {
		return
	}
	if operator, err := s.Sessions.Operator(c.Request(), s.Now()); err == nil {
		exchangeOf(c).caller = caller{operator: &operator, operatorID: &operator.ID}
	}
}

// admitLearner takes a token for its word. Whether the account is still there, and
// may run, is for Runner to see, together with all else that it asks the database.
func (s *Server) admitLearner(c echo.Context, x *exchange) error {
	token := bearer(c)
	if token == "" {
		return fault.New(fault.Unauthenticated, "Send the learner's access token as Authorization: Bearer <token>.")
	}
	claims, err := s.Verifier.Verify(c.Request().Context(), token, s.Now())
	if err != nil {
		return err
	}
	x.caller.learnerID = &claims.LearnerID
	return nil
}

// ipNet is prefix as Echo wants it.
func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}

// themeOf is the theme the browser asked to keep: light, dark or system.
func themeOf(c echo.Context) string {
	cookie, err := c.Cookie(themeCookie)
	if errors.Is(err, http.ErrNoCookie) || (cookie.Value != "light" && cookie.Value != "dark") {
		return "system"
	}
	return cookie.Value
}
