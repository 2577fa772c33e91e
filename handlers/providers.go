package handlers

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/views"
)

const providersPath = "/settings/providers"

// providersPage is GET /settings/providers.
func (s *Server) providersPage(c echo.Context) error {
	return s.renderProviders(c, url.Values{}, nil, "", nil)
}

// addEndpoint is POST /settings/providers.
func (s *Server) addEndpoint(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	wanted := provider.NewEndpoint{ID: form.Get("id"), Name: form.Get("name"), BaseURL: form.Get("baseUrl")}
	if err := s.Endpoints.Add(c.Request().Context(), wanted, actorOf(c), s.Now()); err != nil {
		return s.renderProviders(c, form, err, "", nil)
	}
	setFlash(c, flashEndpointAdded)
	return c.Redirect(http.StatusSeeOther, providersPath)
}

// testEndpoint is POST /settings/providers/:id/test. It changes nothing, so its
// answer is the page with what was found.
func (s *Server) testEndpoint(c echo.Context) error {
	id := c.Param("id")
	if _, err := s.Endpoints.Get(c.Request().Context(), id); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), testPatience)
	defer cancel()
	started := time.Now()
	names, err := s.Fallbacks.Models(ctx, s.Providers, id)
	found := &views.EndpointModels{Took: views.Latency(time.Since(started)), Names: names}
	if failure, ok := errors.AsType[*provider.Failure](err); ok {
		found.Problem = failure.Message
	} else if err != nil {
		return err
	}
	return s.renderProviders(c, url.Values{}, nil, id, found)
}

// renderProviders shows the providers; form is what could not be added because of
// refused, and found what a test of an endpoint has just brought.
func (s *Server) renderProviders(c echo.Context, form url.Values, refused error, tested string, found *views.EndpointModels) error {
	f, isFault := errors.AsType[*fault.Error](refused)
	if refused != nil && (!isFault || f.Kind != fault.Invalid && f.Kind != fault.Conflict) {
		return refused
	}
	added, err := s.Endpoints.List(c.Request().Context())
	if err != nil {
		return err
	}
	page := views.ProvidersPage{Page: s.page(c, "Providers"), Private: s.Providers.PrivateAllowed()}
	page.Path = providersPath
	status, problems := http.StatusOK, map[string]string{}
	if f != nil {
		status, page.Problem, problems = statusOf[f.Kind], f.Message, problemsByField(f)
		if f.Kind == fault.Invalid {
			page.Problem = "Nothing was added: see what is marked below."
		}
	}
	page.Form = views.EndpointFields(form.Get("id"), form.Get("name"), form.Get("baseUrl"), problems)
	for _, known := range provider.Known {
		spec, _ := s.Providers.Lookup(known.ID)
		page.Known = append(page.Known, views.KnownProvider{
			ID: known.ID, Name: known.Name, BaseURL: spec.BaseURL, Variable: provider.Variable(known.ID), Override: spec.BaseURL != known.BaseURL,
		})
	}
	for _, e := range added {
		one := views.AddedEndpoint{ID: e.ID, Name: e.Name, BaseURL: e.BaseURL, Keys: keysOf(e), KeysHref: fallbackPath}
		if e.FallbackKeys == 0 {
			one.KeysHref = fallbackPath + "/new?provider=" + e.ID
		}
		if e.ID == tested {
			one.Models = found
		}
		page.Added = append(page.Added, one)
	}
	return s.render(c, status, views.Providers(page))
}

// keysOf says which keys are stored for an endpoint.
func keysOf(e provider.Endpoint) string {
	parts := []string{"No fallback key"}
	if e.FallbackKeys > 0 {
		parts[0] = plural(int64(e.FallbackKeys), "fallback key", "fallback keys")
	}
	if e.UserKeys > 0 {
		parts = append(parts, plural(int64(e.UserKeys), "key of a learner", "keys of learners"))
	}
	return strings.Join(parts, ", ")
}

// endpointPage is GET /settings/providers/:id.
func (s *Server) endpointPage(c echo.Context) error { return s.renderEndpoint(c, nil, nil) }

// changeEndpoint is POST /settings/providers/:id.
func (s *Server) changeEndpoint(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	revision, _ := strconv.Atoi(form.Get("revision")) // anything else was never shown: a conflict
	wanted := provider.NewEndpoint{ID: c.Param("id"), Name: form.Get("name"), BaseURL: form.Get("baseUrl")}
	changed, err := s.Endpoints.Change(c.Request().Context(), wanted, revision, actorOf(c), s.Now())
	if err != nil {
		return s.renderEndpoint(c, form, err)
	}
	setFlash(c, map[bool]string{true: flashEndpointChanged, false: flashEndpointSame}[changed])
	return c.Redirect(http.StatusSeeOther, providersPath)
}

// removeEndpoint is POST /settings/providers/:id/delete.
func (s *Server) removeEndpoint(c echo.Context) error {
	if _, err := s.Endpoints.Remove(c.Request().Context(), c.Param("id"), actorOf(c), s.Now()); err != nil {
		return s.renderEndpoint(c, nil, err)
	}
	setFlash(c, flashEndpointRemoved)
	return c.Redirect(http.StatusSeeOther, providersPath)
}

// renderEndpoint shows the form that changes an endpoint; form is what could not
// be saved because of refused.
func (s *Server) renderEndpoint(c echo.Context, form url.Values, refused error) error {
	f, isFault := errors.AsType[*fault.Error](refused)
	if refused != nil && (!isFault || f.Kind != fault.Invalid && f.Kind != fault.Conflict) {
		return refused
	}
	e, err := s.Endpoints.Get(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	page := views.EndpointPage{Page: s.page(c, e.Name), ID: e.ID, Keys: keysOf(e)}
	status, problems := http.StatusOK, map[string]string{}
	name, baseURL, revision := e.Name, e.BaseURL, strconv.Itoa(e.Revision)
	if f != nil {
		status, page.Problem, problems = statusOf[f.Kind], f.Message, problemsByField(f)
	}
	if f != nil && form != nil {
		name, baseURL = form.Get("name"), form.Get("baseUrl")
	}
	switch {
	case f != nil && f.Kind == fault.Invalid:
		page.Problem, revision = "Nothing was saved: see what is marked below.", form.Get("revision")
	case f != nil && form != nil && form.Get("revision") != revision:
		page.Problem += " By now it is called “" + e.Name + "” and lies at " + e.BaseURL + "."
	}
	page.Form = views.EndpointFields(e.ID, name, baseURL, problems)
	page.Form.Revision = revision
	return s.render(c, status, views.Endpoint(page))
}
