package handlers

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/views"
)

const themeCookie = "promptops-theme"

// signInForm is GET /sign-in. Who is signed in already goes on.
func (s *Server) signInForm(c echo.Context) error {
	next := localPath(c.QueryParam("next"))
	if callerOf(c).operator != nil {
		return c.Redirect(http.StatusSeeOther, next)
	}
	return s.render(c, http.StatusOK, views.SignIn(views.SignInPage{Page: s.page(c, "Sign in"), Next: next}))
}

// signIn is POST /sign-in.
func (s *Server) signIn(c echo.Context) error {
	email, next := strings.TrimSpace(c.FormValue("email")), localPath(c.FormValue("next"))
	operator, err := s.Accounts.SignIn(c.Request().Context(), email, c.FormValue("password"), c.RealIP(), s.Now())
	switch fault.KindOf(err) {
	case fault.Unauthenticated, fault.RateLimited, fault.Invalid:
		f := asFault(err)
		status := http.StatusUnprocessableEntity
		if f.Kind == fault.RateLimited {
			status = http.StatusTooManyRequests
			c.Response().Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())+1))
		}
		return s.render(c, status, views.SignIn(views.SignInPage{Page: s.page(c, "Sign in"), Email: email, Next: next, Problem: f.Message}))
	}
	if err != nil {
		return err
	}
	if err := s.Sessions.Start(c.Response(), c.Request(), operator, s.Now()); err != nil {
		return err
	}
	return c.Redirect(http.StatusSeeOther, next)
}

// localPath is where to go after signing in: never to another site.
func localPath(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

// signInLinkForm is GET /sign-in/link/:token. It changes nothing: programs that
// read mail open links.
func (s *Server) signInLinkForm(c echo.Context) error {
	operator, err := s.Accounts.PeekLink(c.Request().Context(), c.Param("token"), s.Now())
	if err != nil {
		return s.brokenLink(c, err)
	}
	return s.render(c, http.StatusOK, views.SignInLink(views.SignInLinkPage{
		Page: s.page(c, "Sign in"), Action: c.Request().URL.Path, Email: operator.Email,
	}))
}

// signInLink is POST /sign-in/link/:token.
func (s *Server) signInLink(c echo.Context) error {
	operator, err := s.Accounts.RedeemLink(c.Request().Context(), c.Param("token"), s.Now())
	if err != nil {
		return s.brokenLink(c, err)
	}
	if err := s.Sessions.Start(c.Response(), c.Request(), operator, s.Now()); err != nil {
		return err
	}
	return c.Redirect(http.StatusSeeOther, "/account/password")
}

func (s *Server) brokenLink(c echo.Context, err error) error {
	f := asFault(err)
	if f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		return err
	}
	return s.render(c, statusOf[f.Kind], views.SignInLink(views.SignInLinkPage{Page: s.page(c, "Sign in"), Problem: f.Message}))
}

// signOut is POST /sign-out.
func (s *Server) signOut(c echo.Context) error {
	if err := s.Sessions.End(c.Response(), c.Request()); err != nil {
		return err
	}
	return c.Redirect(http.StatusSeeOther, "/sign-in")
}

// passwordForm is GET /account/password.
func (s *Server) passwordForm(c echo.Context) error {
	return s.render(c, http.StatusOK, views.Password(s.passwordPage(c, "")))
}

func (s *Server) passwordPage(c echo.Context, problem string) views.PasswordPage {
	operator := callerOf(c).operator
	return views.PasswordPage{
		Page: s.page(c, "Password"), Email: operator.Email, MinLength: strconv.Itoa(account.MinPassword),
		First: !operator.HasPassword, Problem: problem,
	}
}

// setPassword is POST /account/password. Every other session of the operator
// ends.
func (s *Server) setPassword(c echo.Context) error {
	operator := callerOf(c).operator
	ctx := c.Request().Context()
	err := s.Accounts.SetPassword(ctx, actorOf(c), operator.ID, c.FormValue("password"), s.Now())
	if fault.KindOf(err) == fault.Invalid && err != nil {
		var reasons []string
		for _, detail := range asFault(err).Details {
			reasons = append(reasons, "The "+detail.Field+" "+detail.Message+".")
		}
		return s.render(c, http.StatusUnprocessableEntity, views.Password(s.passwordPage(c, strings.Join(reasons, " "))))
	}
	if err != nil {
		return err
	}
	if err := s.Sessions.Start(c.Response(), c.Request(), *operator, s.Now()); err != nil {
		return err
	}
	setFlash(c, flashPasswordSaved)
	return c.Redirect(http.StatusSeeOther, "/")
}

// setTheme is POST /preferences/theme.
func (s *Server) setTheme(c echo.Context) error {
	cookie := &http.Cookie{
		Name: themeCookie, Value: c.FormValue("theme"), Path: "/", MaxAge: int((365 * 24 * time.Hour).Seconds()),
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(s.BaseURL, "https://"),
	}
	if cookie.Value != "light" && cookie.Value != "dark" {
		cookie.Value, cookie.MaxAge = "", -1
	}
	c.SetCookie(cookie)
	return c.Redirect(http.StatusSeeOther, refererPath(c))
}
