package handlers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/views"
)

const (
	fallbackPath = "/keys/fallback"

	// A test is a call to the provider, which may hang.
	testPatience = 15 * time.Second
)

// keyID is the key that the address names.
func keyID(c echo.Context) (uuid.UUID, error) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return uuid.Nil, fault.New(fault.NotFound, "This is no id of a fallback key.").Because(err)
	}
	return id, nil
}

// fallbackPage is GET /keys/fallback.
func (s *Server) fallbackPage(c echo.Context) error { return s.renderFallback(c, nil) }

// renderFallback shows the keys; refused is why they could not be put into another
// order.
func (s *Server) renderFallback(c echo.Context, refused error) error {
	f, isFault := errors.AsType[*fault.Error](refused)
	if refused != nil && (!isFault || f.Kind != fault.Conflict && f.Kind != fault.Invalid) {
		return refused
	}
	now := s.Now()
	all, err := s.Fallbacks.Overview(c.Request().Context(), now)
	if err != nil {
		return err
	}
	page := s.fallbackView(all, s.zone(c), now)
	page.Page = s.page(c, "Fallback Keys")
	page.Path = fallbackPath
	status := http.StatusOK
	if f != nil {
		status, page.Problem = statusOf[f.Kind], f.Message
	}
	if c.Request().Header.Get("HX-Request") != "" {
		page.Fragment = true
		return s.renderFragment(c, status, views.FallbackContent(page))
	}
	return s.render(c, status, views.Fallback(page))
}

// orderFallback is POST /keys/fallback/order: either a whole order, or one key
// that moves up or down.
func (s *Server) orderFallback(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	seen := idsIn(form.Get("seen"))
	wanted, moved := idsIn(form.Get("order")), ""
	if id, way, found := strings.Cut(form.Get("move"), ":"); found {
		parsed, _ := uuid.Parse(id) // none of the keys: nothing moves
		wanted, moved = key.Moved(seen, parsed, map[string]int{"up": -1, "down": 1}[way]), "#key-"+parsed.String()
	}
	if err := s.Fallbacks.Reorder(c.Request().Context(), form.Get("provider"), seen, wanted, actorOf(c), s.Now()); err != nil {
		return s.renderFallback(c, err)
	}
	setFlash(c, flashKeysMoved)
	return c.Redirect(http.StatusSeeOther, fallbackPath+moved)
}

func idsIn(list string) []uuid.UUID {
	var ids []uuid.UUID
	for text := range strings.SplitSeq(list, ",") {
		if id, err := uuid.Parse(text); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// newFallback is GET /keys/fallback/new.
func (s *Server) newFallback(c echo.Context) error {
	return s.renderNewFallback(c, url.Values{"provider": {c.QueryParam("provider")}}, nil)
}

// addFallback is POST /keys/fallback.
func (s *Server) addFallback(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	n, err := key.ParseNew(form, s.Fallbacks.Zone())
	err = s.refuseStranger(n.Provider, err)
	if err != nil {
		return s.renderNewFallback(c, form, err)
	}
	added, err := s.Fallbacks.Add(c.Request().Context(), n, actorOf(c), s.Now())
	if err != nil {
		return s.renderNewFallback(c, form, err)
	}
	setFlash(c, flashKeyAdded+"?"+s.testAdded(c, added).Encode())
	return c.Redirect(http.StatusSeeOther, fallbackPath+"/"+added.Key.ID.String())
}

// refuseStranger adds to what is wrong with a form that there is no such
// provider.
func (s *Server) refuseStranger(providerID string, err error) error {
	f, _ := errors.AsType[*fault.Error](err)
	if _, known := s.Providers.Lookup(providerID); known || f != nil && slices.ContainsFunc(f.Details, func(d fault.Field) bool { return d.Field == "provider" }) {
		return err
	}
	problems := []fault.Field{{Field: "provider", Message: "is not set up here; choose one of the list"}}
	if f != nil {
		problems = append(problems, f.Details...)
	}
	return fault.InvalidFields(problems)
}

// renderNewFallback shows the form that adds a key; refused is why what was sent
// could not be saved. The key itself never goes back.
func (s *Server) renderNewFallback(c echo.Context, form url.Values, refused error) error {
	f, isFault := errors.AsType[*fault.Error](refused)
	if refused != nil && (!isFault || f.Kind != fault.Invalid && f.Kind != fault.Conflict) {
		return refused
	}
	page := views.NewKeyPage{Page: s.page(c, "Add a fallback key"), Zone: s.Fallbacks.Zone().String()}
	page.Path = fallbackPath
	status, problems := http.StatusOK, map[string]string{}
	if f != nil {
		status, page.Problem = statusOf[f.Kind], f.Message
		problems = problemsByField(f)
		page.Provider = problems["provider"]
		if f.Kind == fault.Invalid {
			page.Problem = "Nothing was saved: see what is marked below."
		}
		if problems["secret"] == "" {
			problems["secret"] = "Type the key again: it is not sent back to the browser."
		}
	}
	if twin, ok := errors.AsType[key.Twin](refused); ok {
		page.Twin, page.TwinLabel = fallbackPath+"/"+twin.ID.String(), twin.Label
	}
	for _, spec := range s.Providers.Specs() {
		page.Providers = append(page.Providers, views.Option{Value: spec.ID, Label: spec.Name, Selected: spec.ID == form.Get("provider")})
	}
	page.Fields = views.KeyFields("", form, problems, nil, nil)
	page.Fields = slices.Insert(page.Fields, 1, views.SecretField("", problems["secret"]))
	return s.render(c, status, views.NewKey(page))
}

// fallbackKeyPage is GET /keys/fallback/:id.
func (s *Server) fallbackKeyPage(c echo.Context) error { return s.renderKey(c, "", nil, nil) }

// changeFallback is POST /keys/fallback/:id.
func (s *Server) changeFallback(c echo.Context) error {
	return s.keyAction(c, "settings", func(ctx context.Context, id uuid.UUID, form url.Values) (done, error) {
		settings, err := key.ParseSettings(form, s.Fallbacks.Zone())
		if err != nil {
			return done{}, err
		}
		revision, _ := strconv.Atoi(form.Get("revision")) // anything else was never shown: a conflict
		changed, err := s.Fallbacks.Change(ctx, id, settings, revision, actorOf(c), s.Now())
		if !changed {
			return done{flash: flashKeySame}, err
		}
		return done{flash: flashKeyChanged}, err
	})
}

// rotateFallback is POST /keys/fallback/:id/rotate.
func (s *Server) rotateFallback(c echo.Context) error {
	return s.keyAction(c, "rotate", func(ctx context.Context, id uuid.UUID, form url.Values) (done, error) {
		r, err := key.ParseRotation(form, s.Fallbacks.Zone())
		if err != nil {
			return done{}, err
		}
		added, err := s.Fallbacks.Rotate(ctx, id, r, actorOf(c), s.Now())
		if err != nil {
			return done{}, err
		}
		tested := s.testAdded(c, added)
		return done{flashKeyRotated + "?" + tested.Encode(), fallbackPath + "/" + added.Key.ID.String()}, nil
	})
}

// keepFallback is POST /keys/fallback/:id/keep.
func (s *Server) keepFallback(c echo.Context) error {
	return s.keyAction(c, "", func(ctx context.Context, id uuid.UUID, _ url.Values) (done, error) {
		return done{flash: flashKeyKept}, s.Fallbacks.Keep(ctx, id, actorOf(c), s.Now())
	})
}

// disableFallback is POST /keys/fallback/:id/disable.
func (s *Server) disableFallback(c echo.Context) error {
	return s.keyAction(c, "disable", func(ctx context.Context, id uuid.UUID, form url.Values) (done, error) {
		return done{flash: flashKeyDisabled}, s.Fallbacks.Disable(ctx, id, form.Get("reason"), actorOf(c), s.Now())
	})
}

// enableFallback is POST /keys/fallback/:id/enable.
func (s *Server) enableFallback(c echo.Context) error {
	return s.keyAction(c, "", func(ctx context.Context, id uuid.UUID, _ url.Values) (done, error) {
		return done{flash: flashKeyEnabled}, s.Fallbacks.Enable(ctx, id, actorOf(c), s.Now())
	})
}

// deleteFallback is POST /keys/fallback/:id/delete.
func (s *Server) deleteFallback(c echo.Context) error {
	return s.keyAction(c, "delete", func(ctx context.Context, id uuid.UUID, form url.Values) (done, error) {
		_, err := s.Fallbacks.Delete(ctx, id, form.Get("confirm"), actorOf(c), s.Now())
		return done{flashKeyDeleted, fallbackPath}, err
	})
}

// testFallback is POST /keys/fallback/:id/test.
func (s *Server) testFallback(c echo.Context) error {
	id, err := keyID(c)
	if err != nil {
		return err
	}
	form, err := formOf(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), testPatience)
	defer cancel()
	tested, err := s.TestKey(ctx, key.Fallback, id, callerOf(c).operatorID, s.Now())
	if err != nil {
		return err
	}
	setFlash(c, flashKeyTested+"?"+testedValues(tested).Encode())
	back := fallbackPath + "/" + id.String()
	if form.Get("from") == "list" {
		back = fallbackPath + "#key-" + id.String()
	}
	return c.Redirect(http.StatusSeeOther, back)
}

// testAdded tests a key that was just saved, and returns how that went with what
// looked odd about the key. A test that could not be made can be made again.
func (s *Server) testAdded(c echo.Context, added key.Added) url.Values {
	ctx, cancel := context.WithTimeout(c.Request().Context(), testPatience)
	defer cancel()
	values := url.Values{}
	if tested, err := s.TestKey(ctx, key.Fallback, added.Key.ID, callerOf(c).operatorID, s.Now()); err == nil {
		values = testedValues(tested)
	} else {
		s.Log.Warn("fallback_key_not_tested", "keyId", added.Key.ID, "error", err)
	}
	for _, o := range added.Odd {
		values.Set("provider", added.Key.Provider)
		values.Add("odd", string(o))
	}
	return values
}

func testedValues(tested key.Tested) url.Values {
	values := url.Values{"ms": {strconv.FormatInt(max(tested.Latency.Milliseconds(), 1), 10)}}
	if !tested.OK {
		values.Set("class", string(tested.Class))
	}
	return values
}

// done is what to say of something that was done, and where to go on.
type done struct {
	flash string
	to    string // empty: the key's own page
}

// keyAction does something with the key that the address names. What was refused
// is said on its page, beside the form that was sent.
func (s *Server) keyAction(c echo.Context, section string, do func(ctx context.Context, id uuid.UUID, form url.Values) (done, error)) error {
	id, err := keyID(c)
	if err != nil {
		return err
	}
	form, err := formOf(c)
	if err != nil {
		return err
	}
	what, err := do(c.Request().Context(), id, form)
	if err != nil {
		return s.renderKey(c, section, form, err)
	}
	setFlash(c, what.flash)
	return c.Redirect(http.StatusSeeOther, cmp.Or(what.to, fallbackPath+"/"+id.String()))
}

// historyShown is how much of a key's history its page has.
const historyShown = 100

// renderKey shows a key; form is what was sent to a section of its page and could
// not be done because of refused.
func (s *Server) renderKey(c echo.Context, section string, form url.Values, refused error) error {
	f, isFault := errors.AsType[*fault.Error](refused)
	if refused != nil && (!isFault || f.Kind != fault.Invalid && f.Kind != fault.Conflict) {
		return refused
	}
	id, err := keyID(c)
	if err != nil {
		return err
	}
	ctx, now := c.Request().Context(), s.Now()
	all, err := s.Fallbacks.Overview(ctx, now)
	if err != nil {
		return err
	}
	k, err := all.Find(id)
	if err != nil {
		return err
	}
	events, err := s.Fallbacks.History(ctx, id, historyShown+1)
	if err != nil {
		return err
	}
	page := s.keyView(all, k, events, s.zone(c), now)
	page.Page = s.page(c, k.Label)
	status := http.StatusOK
	if f != nil {
		status, page.Problem = statusOf[f.Kind], f.Message
		if f.Kind == fault.Invalid {
			page.Problem = "Nothing was done: see what is marked below."
		}
	}
	s.fillForms(&page, k, section, form, f)
	if twin, ok := errors.AsType[key.Twin](refused); ok {
		page.Twin = fallbackPath + "/" + twin.ID.String()
	}
	return s.render(c, status, views.Key(page))
}

// fillForms fills in the forms of a key's page: the one that was sent as it was
// sent, but never a key.
func (s *Server) fillForms(page *views.KeyPage, k key.FallbackKey, section string, form url.Values, f *fault.Error) {
	holds := k.Settings().Values(s.Fallbacks.Zone())
	problems := map[string]map[string]string{}
	if f != nil {
		problems[section] = problemsByField(f)
	}
	page.Revision, page.Was = strconv.Itoa(k.Revision), holds.Encode()
	switch {
	case section != "settings":
		page.Settings = views.KeyFields("", holds, nil, nil, nil)
	case f.Kind == fault.Invalid:
		page.Revision, page.Was = form.Get("revision"), form.Get("was")
		page.Settings = views.KeyFields("", form, problems[section], nil, nil)
	default:
		page.Problem = "Nothing was saved yet: somebody else changed this key while the page was open. What is different by now is marked below; save again to have it as it stands there."
		was, _ := url.ParseQuery(form.Get("was"))
		page.Settings = views.KeyFields("", merged(form, was, holds), nil, was, holds)
	}
	typed := url.Values{}
	overlap := "24h"
	if section == "rotate" {
		typed, overlap = form, form.Get("overlap")
		if problems[section]["secret"] == "" {
			problems[section]["secret"] = "Type the key again: it is not sent back to the browser."
		}
	}
	fields := views.KeyFields("rotate-", typed, problems["rotate"], nil, nil)
	label, expires := fields[0], fields[3]
	label.Needed, label.Hint = false, "Empty: as this one’s."
	page.Rotate = []views.KeyField{views.SecretField("rotate-", problems["rotate"]["secret"]), label, expires}
	page.Overlaps = views.Overlaps(overlap)
	reason := ""
	if section == "disable" {
		reason = form.Get("reason")
	}
	page.Reason = views.ReasonField(reason, problems["disable"]["reason"])
	page.Confirm = views.ConfirmField(k.Label, problems["delete"]["confirm"])
}

// runway writes how long a cap lasts.
func runway(k key.FallbackKey) string {
	switch r := k.Runway(); r.Kind {
	case key.RunwayNoCap:
		return "No cap"
	case key.RunwayUnused:
		return "Not used"
	case key.RunwayNew:
		return "Too new to say"
	default:
		return views.Runway(r.Days)
	}
}

// outlasts says whether a cap lasts longer than its month.
func outlasts(k key.FallbackKey, now time.Time, zone *time.Location) bool {
	local := now.In(zone)
	next := time.Date(local.Year(), local.Month()+1, 1, 0, 0, 0, 0, zone)
	r := k.Runway()
	return r.Kind == key.RunwayDays && r.Days > next.Sub(now).Hours()/24
}

func momentOf(at *time.Time, zone *time.Location) *views.Moment {
	if at == nil {
		return nil
	}
	return new(views.MomentOf(*at, zone))
}

func httpStatus(status int) string {
	if status == 0 {
		return ""
	}
	return fmt.Sprint(status)
}

func runOf(id *uuid.UUID) string {
	if id == nil {
		return ""
	}
	return id.String()
}
