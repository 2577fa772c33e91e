package handlers

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/activity"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/history"
	"github.com/promptcademy/promptops/internal/usage"
	"github.com/promptcademy/promptops/internal/view"
	"github.com/promptcademy/promptops/views"
)

func viewerOf(c echo.Context) view.Viewer {
	operator := callerOf(c).operator
	return view.Viewer{OperatorID: operator.ID, Admin: operator.Role == account.RoleAdmin}
}

// savedViews is the menu of a page's views; query are its present filters.
func (s *Server) savedViews(c echo.Context, page string, query url.Values) (*views.SavedViews, error) {
	all, deleted, err := s.Views.List(c.Request().Context(), viewerOf(c), page, s.Now())
	if err != nil {
		return nil, err
	}
	menu := &views.SavedViews{Page: page, Query: query.Encode(), All: view.Href(page, ""), MayShare: viewerOf(c).Admin}
	line := func(v view.View) views.SavedView {
		return views.SavedView{ID: v.ID.String(), Name: v.Name, Href: v.Href(), Own: v.Own, Shared: v.Shared, Owner: v.Owner, Default: v.Default, Current: v.Query == menu.Query}
	}
	for _, v := range all {
		menu.Views = append(menu.Views, line(v))
		menu.HasDefault = menu.HasDefault || v.Default
		if v.Query == menu.Query && menu.Now == "" {
			menu.Now = v.Name
		}
	}
	for _, v := range deleted {
		menu.Deleted = append(menu.Deleted, line(v))
	}
	return menu, nil
}

// opensWith is where a page leads that was called without parameters: to the view
// that the operator chose for that; "" where there is none.
func (s *Server) opensWith(c echo.Context, page string) (string, error) {
	if c.Request().URL.RawQuery != "" || c.Request().Header.Get("HX-Request") != "" {
		return "", nil
	}
	query, ok, err := s.Views.Default(c.Request().Context(), viewerOf(c), page)
	if err != nil || !ok {
		return "", err
	}
	// A view that cannot be shown any more must not stand between them and the page.
	if query, ok = s.filtersOf(c, page, query); !ok {
		return "", nil
	}
	return view.Href(page, query), nil
}

// redirectOr leads to an address, unless there was an error.
func redirectOr(c echo.Context, to string, err error) error {
	if err != nil {
		return err
	}
	return c.Redirect(http.StatusSeeOther, to)
}

// filtersOf is a query as the page writes it, false if the page has no views or does
// not understand it. Of teams only those remain that may be seen.
func (s *Server) filtersOf(c echo.Context, page, query string) (string, bool) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", false
	}
	now, zone := s.Now(), s.zone(c)
	var team *uuid.UUID
	switch page {
	case "/usage":
		var q usage.Query
		q, err = usage.ParseQuery(values, now, zone)
		values, team = q.Values(), q.TeamID
	case "/runs":
		var f history.Filter
		f, err = history.ParseFilter(values, now, zone)
		values, team = f.Values(), f.TeamID
	case "/activity":
		var q activity.Query
		q, err = activity.ParseQuery(values, now, zone)
		values, team = q.Values(), q.TeamID
	default:
		return "", false
	}
	if err != nil {
		return "", false
	}
	if _, err := scopeOf(c).teamIDs(team); err != nil {
		values.Del("team")
	}
	return values.Encode(), true
}

// saveView is POST /views.
func (s *Server) saveView(c echo.Context) error {
	return s.onViews(c, func(ctx context.Context, form url.Values) (string, error) {
		query, ok := s.filtersOf(c, form.Get("page"), form.Get("query"))
		if !ok {
			return "", fault.New(fault.Invalid, "These filters cannot be saved.")
		}
		_, err := s.Views.Save(ctx, viewerOf(c), view.New{
			Page: form.Get("page"), Name: form.Get("name"), Query: query, Shared: form.Get("shared") == "yes", Default: form.Get("default") == "yes",
		}, actorOf(c), s.Now())
		return flashViewSaved, err
	})
}

// changeView is POST /views/:id.
func (s *Server) changeView(c echo.Context) error {
	return s.onView(c, func(ctx context.Context, id uuid.UUID, form url.Values) (string, error) {
		_, err := s.Views.Change(ctx, viewerOf(c), id, form.Get("name"), form.Get("shared") == "yes", actorOf(c), s.Now())
		return flashViewSaved, err
	})
}

// setDefaultView is POST /views/:id/default.
func (s *Server) setDefaultView(c echo.Context) error {
	return s.onView(c, func(ctx context.Context, id uuid.UUID, form url.Values) (string, error) {
		on := form.Get("default") != "no"
		return map[bool]string{true: flashViewFirst, false: flashViewNotFirst}[on], s.Views.SetDefault(ctx, viewerOf(c), id, on)
	})
}

// deleteView is POST /views/:id/delete.
func (s *Server) deleteView(c echo.Context) error {
	return s.onView(c, func(ctx context.Context, id uuid.UUID, _ url.Values) (string, error) {
		return flashViewDeleted, s.Views.Delete(ctx, viewerOf(c), id, actorOf(c), s.Now())
	})
}

// restoreView is POST /views/:id/restore.
func (s *Server) restoreView(c echo.Context) error {
	return s.onView(c, func(ctx context.Context, id uuid.UUID, _ url.Values) (string, error) {
		return flashViewRestored, s.Views.Restore(ctx, viewerOf(c), id, actorOf(c), s.Now())
	})
}

// onView is onViews for one of them.
func (s *Server) onView(c echo.Context, do func(ctx context.Context, id uuid.UUID, form url.Values) (string, error)) error {
	id, err := idParam(c, "id")
	if err != nil {
		return err
	}
	return s.onViews(c, func(ctx context.Context, form url.Values) (string, error) { return do(ctx, id, form) })
}

// onViews does something with what was sent, says what came of it, and leads back to
// the filters from which it was sent.
func (s *Server) onViews(c echo.Context, do func(ctx context.Context, form url.Values) (string, error)) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	flash, err := do(c.Request().Context(), form)
	if kind := fault.KindOf(err); err != nil && (kind == fault.Invalid || kind == fault.Conflict) {
		flash, err = map[fault.Kind]string{fault.Invalid: flashViewNameless, fault.Conflict: flashViewTaken}[kind], nil
	}
	if err != nil {
		return err
	}
	setFlash(c, flash)
	page, query := form.Get("page"), ""
	if slices.Contains(view.Pages, page) {
		query, _ = s.filtersOf(c, page, form.Get("query"))
	}
	return c.Redirect(http.StatusSeeOther, view.Href(page, query))
}
