package handlers

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/views"
)

// flashCookie names what the next page should say of the form just sent. It
// holds a name of the table below, and numbers, never text.
const flashCookie = "promptops-flash"

const (
	flashPasswordSaved = "password-saved"
	flashDemoCleared   = "demo-cleared"
	flashBudgetsSaved  = "budgets-saved" // and which limits, from what to what: "?dailyUsd=25&dailyUsd=30"
	flashBudgetsSame   = "budgets-same"
)

var flashes = map[string]views.Flash{
	flashPasswordSaved: {Kind: "success", Text: "Your password is saved. Other browsers in which you were signed in are signed out."},
	flashDemoCleared:   {Kind: "success", Text: "The demo data is gone. Add a real fallback key on Fallback Keys."},
	flashBudgetsSaved:  {Kind: "success", Text: "Saved, for every run that starts from now on."},
	flashBudgetsSame:   {Kind: "info", Text: "Nothing was changed: these limits hold already."},
}

func setFlash(c echo.Context, name string) {
	c.SetCookie(&http.Cookie{Name: flashCookie, Value: name, Path: "/", MaxAge: 60, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// takeFlash returns what to say and sees to it that it is said once.
func takeFlash(c echo.Context) *views.Flash {
	cookie, err := c.Cookie(flashCookie)
	if err != nil {
		return nil
	}
	c.SetCookie(&http.Cookie{Name: flashCookie, Path: "/", MaxAge: -1})
	name, numbers, _ := strings.Cut(cookie.Value, "?")
	flash, ok := flashes[name]
	if !ok {
		values, _ := url.ParseQuery(numbers)
		return keyFlash(name, values)
	}
	if name == flashBudgetsSaved {
		changes, _ := url.ParseQuery(numbers)
		flash.Text += views.LimitChanges(changes)
	}
	return &flash
}

// refererPath is the page that a form was sent from.
func refererPath(c echo.Context) string {
	from, err := url.Parse(c.Request().Referer())
	if err != nil || from.Host != c.Request().Host {
		return "/"
	}
	return localPath(from.RequestURI())
}
