package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
)

const (
	password = "nine lorries of marzipan"
	another  = "a kettle full of bees"
)

func credentials(email, password string) string {
	return url.Values{"email": {email}, "password": {password}}.Encode()
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.operator("marta@example.org", account.RoleAdmin, password)
	v := s.visitor()

	// Who wants a page is sent to sign in, and back to it.
	v.get("/usage?range=7d&model=openai%2Fa").wants(t, http.StatusSeeOther)
	wanted := v.get("/usage?range=7d&model=openai%2Fa").Header.Get("Location")
	if want := "/sign-in?next=%2Fusage%3Frange%3D7d%26model%3Dopenai%252Fa"; wanted != want {
		t.Errorf("Location is %s, want %s", wanted, want)
	}
	v.get(wanted).wants(t, http.StatusOK).shows(t, `name="next" value="/usage?range=7d&amp;model=openai%2Fa"`)

	refused := v.post("/sign-in", credentials("marta@example.org", "wrong")).wants(t, http.StatusUnprocessableEntity).
		shows(t, "not right", `value="marta@example.org"`)
	if strings.Contains(refused.Text, "wrong") || refused.setCookie("promptops") != nil {
		t.Error("a wrong password comes back, or signs in")
	}
	stranger := v.post("/sign-in", credentials("nobody@example.org", "wrong")).wants(t, http.StatusUnprocessableEntity)
	if strings.Count(stranger.Text, "not right") != 1 {
		t.Error("an unknown address is answered differently from a wrong password")
	}

	answer := v.post("/sign-in", credentials(" MARTA@example.org ", password)+"&next="+url.QueryEscape("/usage?range=7d")).wants(t, http.StatusSeeOther)
	if got := answer.Header.Get("Location"); got != "/usage?range=7d" {
		t.Errorf("Location is %q", got)
	}
	cookie := answer.setCookie("promptops")
	if cookie == nil || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Secure || cookie.Domain != "" {
		t.Fatalf("the session's cookie is %v", cookie)
	}
	v.get("/usage").wants(t, http.StatusOK).shows(t, "marta@example.org", "Sign out")
	if got := v.get("/sign-in?next=/playground").wants(t, http.StatusSeeOther).Header.Get("Location"); got != "/playground" {
		t.Errorf("who is signed in is sent to %q, want /playground", got)
	}

	out := v.post("/sign-out", "").wants(t, http.StatusSeeOther)
	if gone := out.setCookie("promptops"); gone == nil || gone.MaxAge >= 0 {
		t.Errorf("signing out sets the cookie %v", gone)
	}
	// The session is gone, and not only from this browser.
	s.visitor(cookie).get("/usage").wants(t, http.StatusSeeOther)
}

func TestSignInOverHTTPS(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(h *handlers.Server) { h.BaseURL = "https://ops.example.org" })
	s.Sessions = account.NewSessions(s.DB, account.SessionOptions{Secure: true, Now: s.Clock.Now}) // read at every request
	s.operator("marta@example.org", account.RoleAdmin, password)
	answer := s.visitor().post("/sign-in", credentials("marta@example.org", password)).wants(t, http.StatusSeeOther)
	if cookie := answer.setCookie("__Host-promptops"); cookie == nil || !cookie.Secure || !cookie.HttpOnly || cookie.Path != "/" || cookie.Domain != "" {
		t.Errorf("the session's cookie is %v", cookie)
	}
	if answer.Header.Get("Strict-Transport-Security") == "" {
		t.Error("Strict-Transport-Security is missing")
	}
	if theme := s.visitor().post("/preferences/theme", "theme=dark").setCookie("promptops-theme"); theme == nil || !theme.Secure {
		t.Errorf("the theme's cookie is %v", theme)
	}
}

// After signing in nobody is led to another site.
func TestNextStaysHere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	operator := s.operator("marta@example.org", account.RoleAdmin, "")
	for next, want := range map[string]string{
		"":                         "/",
		"/playground":              "/playground",
		"/usage?range=7d&model=a":  "/usage?range=7d&model=a",
		"https://evil.example.com": "/",
		"//evil.example.com":       "/",
		"/\\evil.example.com":      "/",
		"/\tevil":                  "/",
		"/\r\nSet-Cookie: a=b":     "/",
		"\\\\evil.example.com":     "/",
		"javascript:alert(1)":      "/",
		"/../..//evil.example.com": "/../..//evil.example.com", // stays on this host
	} {
		got := s.visitor(s.session(operator)).get("/sign-in?next="+url.QueryEscape(next)).wants(t, http.StatusSeeOther).Header.Get("Location")
		if got != want {
			t.Errorf("next=%q leads to %q, want %q", next, got, want)
		}
	}
}

func TestSignInIsThrottled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.operator("marta@example.org", account.RoleAdmin, password)
	v := s.visitor()
	var answer reply
	for range 20 {
		answer = v.post("/sign-in", credentials("marta@example.org", "wrong"))
		if answer.StatusCode != http.StatusUnprocessableEntity {
			break
		}
	}
	answer.wants(t, http.StatusTooManyRequests).shows(t, "Too many attempts")
	if answer.Header.Get("Retry-After") == "" {
		t.Error("Retry-After is missing")
	}
	// Also for the right password, and under a forged address.
	v.post("/sign-in", credentials("marta@example.org", password), "X-Forwarded-For", "198.51.100.7").wants(t, http.StatusTooManyRequests)
	s.Clock.Advance(time.Hour)
	v.post("/sign-in", credentials("marta@example.org", password)).wants(t, http.StatusSeeOther)
}

func TestSignInLink(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	operator := s.operator("marta@example.org", account.RoleAdmin, "")
	token, err := s.Accounts.CreateLink(t.Context(), audit.CommandLine, operator.ID, time.Hour, s.Clock.Now())
	must(t, err)
	path := "/sign-in/link/" + token

	for range 3 { // programs that read mail open links
		if answer := s.visitor().get(path).wants(t, http.StatusOK).shows(t, "marta@example.org"); len(answer.Cookies()) > 0 {
			t.Errorf("opening the link sets %v", answer.Cookies())
		}
	}
	v := s.visitor()
	if got := v.post(path, "").wants(t, http.StatusSeeOther).Header.Get("Location"); got != "/account/password" {
		t.Errorf("Location is %q", got)
	}
	v.get("/account/password").wants(t, http.StatusOK).shows(t, "Choose a password", "marta@example.org")

	s.visitor().post(path, "").wants(t, http.StatusNotFound).shows(t, "This link does not work")
	s.visitor().get(path).wants(t, http.StatusNotFound).shows(t, "This link does not work")
	for _, wrong := range []string{"x", strings.Repeat("A", 43), strings.Repeat("x", 5000), "%00", "..%2f"} {
		s.visitor().get("/sign-in/link/"+wrong).wants(t, http.StatusNotFound)
		s.visitor().post("/sign-in/link/"+wrong, "").wants(t, http.StatusNotFound)
	}

	late, err := s.Accounts.CreateLink(t.Context(), audit.CommandLine, operator.ID, time.Hour, s.Clock.Now())
	must(t, err)
	s.Clock.Advance(2 * time.Hour)
	s.visitor().post("/sign-in/link/"+late, "").wants(t, http.StatusNotFound)
	if strings.Contains(s.Events.Text(), token) || strings.Contains(s.Events.Text(), late) {
		t.Error("the log holds a link's token")
	}
}

func TestChooseAPassword(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	operator := s.operator("marta@example.org", account.RoleAdmin, "")
	elsewhere, v := s.visitor(s.session(operator)), s.visitor(s.session(operator))

	for typed, problem := range map[string]string{
		"short":             "The password must have at least",
		"":                  "The password must have at least",
		"password1":         "The password is",
		"marta@example.org": "The password",
	} {
		v.post("/account/password", url.Values{"password": {typed}}.Encode()).wants(t, http.StatusUnprocessableEntity).
			shows(t, problem, "Choose a password")
	}
	saved := v.post("/account/password", url.Values{"password": {another}}.Encode()).wants(t, http.StatusSeeOther)
	if saved.setCookie("promptops") == nil {
		t.Error("this browser does not get a new session")
	}
	v.get("/usage").wants(t, http.StatusOK).shows(t, "Your password is saved")
	if again := v.get("/usage").wants(t, http.StatusOK); strings.Contains(again.Text, "Your password is saved") {
		t.Error("the message is shown twice")
	}
	elsewhere.get("/usage").wants(t, http.StatusSeeOther) // signed out
	s.visitor().post("/sign-in", credentials("marta@example.org", another)).wants(t, http.StatusSeeOther)
	if strings.Contains(s.Events.Text(), another) {
		t.Error("the log holds the password")
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.operator("first@example.org", account.RoleAdmin, "")
	operator := s.operator("marta@example.org", account.RoleAdmin, "")
	v := s.visitor(s.session(operator))
	v.get("/usage").wants(t, http.StatusOK)
	must(t, s.Accounts.Disable(t.Context(), audit.CommandLine, operator.ID, s.Clock.Now()))
	v.get("/usage").wants(t, http.StatusSeeOther)

	must(t, s.Accounts.Enable(t.Context(), audit.CommandLine, operator.ID, s.Clock.Now()))
	v = s.visitor(s.session(operator))
	s.Clock.Advance(account.SessionIdle + time.Minute)
	v.get("/usage").wants(t, http.StatusSeeOther)

	for _, garbage := range []string{"x", strings.Repeat("A", 43), strings.Repeat("x", 4000)} {
		s.visitor(&http.Cookie{Name: "promptops", Value: garbage, Path: "/"}).get("/usage").wants(t, http.StatusSeeOther)
	}
}

// A part of a page cannot show the sign-in form: htmx is told to go there.
func TestSessionEndsUnderHTMX(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	answer := s.visitor().get("/usage?range=7d", "HX-Request", "true").wants(t, http.StatusUnauthorized)
	if got := answer.Header.Get("HX-Redirect"); got != "/sign-in?next=%2Fusage%3Frange%3D7d" {
		t.Errorf("HX-Redirect is %q", got)
	}
}

func TestTheme(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.visitor()
	v.get("/sign-in").wants(t, http.StatusOK)
	answer := v.post("/preferences/theme", "theme=dark", "Referer", s.URL+"/usage?range=7d").wants(t, http.StatusSeeOther)
	if got := answer.Header.Get("Location"); got != "/usage?range=7d" {
		t.Errorf("Location is %q, want the page it was sent from", got)
	}
	if cookie := answer.setCookie("promptops-theme"); cookie == nil || cookie.Value != "dark" || !cookie.HttpOnly || cookie.MaxAge < 1 {
		t.Errorf("the cookie is %v", cookie)
	}
	v.get("/sign-in").shows(t, `data-theme="dark"`)
	v.post("/preferences/theme", "theme=system").wants(t, http.StatusSeeOther)
	if page := v.get("/sign-in"); strings.Contains(page.Text, "data-theme=\"dark\"") {
		t.Error("the theme of the system is not taken back")
	}
	for _, referer := range []string{"https://evil.example.com/usage", "", "%"} {
		if got := v.post("/preferences/theme", `theme="><script>`, "Referer", referer).wants(t, http.StatusSeeOther).Header.Get("Location"); got != "/" {
			t.Errorf("from %q to %q, want /", referer, got)
		}
	}
	forged := s.visitor(&http.Cookie{Name: "promptops-theme", Value: "dark><script>", Path: "/"}).get("/sign-in")
	if strings.Contains(forged.Text, "<script>") {
		t.Error("the cookie's value reaches the page")
	}
}

func TestPagesWithoutADatabase(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	s.loseDatabase()
	for _, path := range []string{"/usage", "/usage.csv", "/playground"} {
		answer := admin.get(path).wants(t, http.StatusServiceUnavailable).shows(t, "Try again")
		if answer.Header.Get("Retry-After") == "" || strings.Contains(answer.Text, "pool") {
			t.Errorf("%s: Retry-After is %q", path, answer.Header.Get("Retry-After"))
		}
	}
	s.visitor().post("/sign-in", credentials("marta@example.org", password)).wants(t, http.StatusServiceUnavailable)
	s.visitor().get("/sign-in").wants(t, http.StatusOK)
	s.visitor().get("/healthz").wants(t, http.StatusOK)
	s.visitor().get("/readyz").wants(t, http.StatusServiceUnavailable)
}
