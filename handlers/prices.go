package handlers

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/views"
)

const (
	pricesPath = "/settings/prices"
	jobsShown  = 5
)

// pricesPage is GET /settings/prices.
func (s *Server) pricesPage(c echo.Context) error {
	ctx := c.Request().Context()
	book, err := s.PriceStore.Load(ctx)
	if err != nil {
		return err
	}
	unpriced, err := s.PriceJobs.Unpriced(ctx)
	if err != nil {
		return err
	}
	jobs, err := s.PriceJobs.Latest(ctx, "", "", jobsShown)
	if err != nil {
		return err
	}
	page := s.pricesView(book, unpriced, jobs, c.QueryParam("provider"), c.QueryParam("q"), s.zone(c), s.Now())
	page.Page = s.page(c, "Prices")
	return s.render(c, http.StatusOK, views.Prices(page))
}

// pricesCSV is GET /settings/prices.csv: every price that holds at some time.
func (s *Server) pricesCSV(c echo.Context) error {
	entries, err := s.PriceStore.All(c.Request().Context())
	if err != nil {
		return err
	}
	var file bytes.Buffer
	if err := price.WriteCSV(&file, entries); err != nil {
		return err
	}
	return sendCSV(c, "prices-"+s.Now().UTC().Format(time.DateOnly), file.Bytes())
}

// priceModelPage is GET /settings/prices/model.
func (s *Server) priceModelPage(c echo.Context) error {
	return s.renderPriceModel(c, c.QueryParam("name"), 0, nil)
}

// renderPriceModel shows the prices of a model; refused is why one of its entries
// could not be removed.
func (s *Server) renderPriceModel(c echo.Context, name string, entry int64, refused error) error {
	f, isFault := errors.AsType[*fault.Error](refused)
	if refused != nil && (!isFault || f.Kind != fault.Invalid && f.Kind != fault.Conflict) {
		return refused
	}
	ctx := c.Request().Context()
	id, model, ok := provider.Split(name)
	if !ok {
		return fault.New(fault.NotFound, "There is no such model.")
	}
	entries, err := s.PriceStore.History(ctx, id, model)
	if err != nil {
		return err
	}
	unpriced, err := s.PriceJobs.Unpriced(ctx)
	if err != nil {
		return err
	}
	jobs, err := s.PriceJobs.Latest(ctx, id, model, jobsShown)
	if err != nil {
		return err
	}
	page := s.priceModelView(name, entries, unpriced, jobs, s.zone(c), s.Now())
	page.Page, page.Path = s.page(c, name), pricesPath
	page.Page.Path = pricesPath
	status := http.StatusOK
	if f != nil {
		status, page.Problem = statusOf[f.Kind], f.Message
		if f.Kind == fault.Invalid && len(f.Details) > 0 {
			page.Problem = "Nothing was removed: see what is marked below."
		}
		for i := range page.Entries {
			if page.Entries[i].ID == strconv.FormatInt(entry, 10) {
				page.Entries[i].Problem = problemsByField(f)["confirm"]
			}
		}
	}
	return s.render(c, status, views.PriceModel(page))
}

// setPriceForm is GET /settings/prices/set: for a model, or for one that is to be
// typed; corrects is the entry in the place of which it comes.
func (s *Server) setPriceForm(c echo.Context) error {
	ctx, zone := c.Request().Context(), s.zone(c)
	name, values := c.QueryParam("name"), url.Values{}
	id, model, ok := provider.Split(name)
	if name != "" && !ok {
		return fault.New(fault.NotFound, "There is no such model.")
	}
	var entries []price.Entry
	var corrects string
	if ok {
		var err error
		if entries, err = s.PriceStore.History(ctx, id, model); err != nil {
			return err
		}
		values = priceDefaults(id, model, entries, zone, s.Now())
	}
	if c.QueryParam("corrects") != "" {
		old, err := findEntry(entries, c.QueryParam("corrects"))
		if err != nil {
			return err
		}
		corrects, values = c.QueryParam("corrects"), old.Values(zone)
	}
	return s.renderSetPrice(c, http.StatusOK, name, corrects, price.Seen(entries), values, nil, "", entries)
}

// priceDefaults begin with what holds now, from now on; a model without a price gets
// one from the beginning.
func priceDefaults(id, model string, entries []price.Entry, zone *time.Location, now time.Time) url.Values {
	holding := bookOf(entries).Holding(id, model, now)
	if len(holding) == 0 {
		return url.Values{"provider": {id}, "model": {model}}
	}
	latest := holding[len(holding)-1]
	latest.EffectiveFrom, latest.EffectiveTo, latest.SourceDate, latest.Note = new(now.Truncate(time.Minute)), nil, nil, ""
	if latest.DailyFrom != nil {
		latest.DailyFrom, latest.DailyTo = nil, nil
	}
	values := latest.Values(zone)
	values.Del("source")
	return values
}

func findEntry(entries []price.Entry, id string) (price.Entry, error) {
	for _, e := range entries {
		if strconv.FormatInt(e.ID, 10) == id && !e.Seeded && e.WithdrawnAt == nil {
			return e, nil
		}
	}
	return price.Entry{}, fault.New(fault.NotFound, "There is no such price that could be corrected.")
}

// setPrice is POST /settings/prices/set.
func (s *Server) setPrice(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	ctx, zone := c.Request().Context(), s.zone(c)
	wanted, err := price.Parse(form, zone)
	var changed bool
	if err == nil {
		corrects, _ := strconv.ParseInt(form.Get("corrects"), 10, 64) // anything else is no entry's
		change := price.Change{Price: wanted, Corrects: corrects, Seen: form.Get("seen")}
		if change.Seen == "" { // the model was typed: nobody has seen its prices
			if change.Seen, err = s.priceState(ctx, wanted.Provider, wanted.Model); err != nil {
				return err
			}
		}
		_, changed, err = s.PriceStore.Set(ctx, change, actorOf(c), s.Now())
	}
	if err != nil {
		return s.setPriceRefused(c, form, err)
	}
	s.pricesChanged(ctx)
	setFlash(c, map[bool]string{true: flashPriceSet, false: flashPriceSame}[changed])
	return c.Redirect(http.StatusSeeOther, string(views.PriceHref("/model", wanted.Provider+"/"+wanted.Model)))
}

func (s *Server) priceState(ctx context.Context, providerID, model string) (string, error) {
	entries, err := s.PriceStore.History(ctx, providerID, model)
	return price.Seen(entries), err
}

// pricesChanged has this node know at once; others learn of it when a run starts.
func (s *Server) pricesChanged(ctx context.Context) {
	if err := s.Prices.RunOnce(context.WithoutCancel(ctx), s.Now()); err != nil {
		s.Log.Warn("prices_not_reloaded", "error", err)
	}
}

// setPriceRefused shows the form with what was typed, and why it was not saved.
func (s *Server) setPriceRefused(c echo.Context, form url.Values, refused error) error {
	f, isFault := errors.AsType[*fault.Error](refused)
	if !isFault || f.Kind != fault.Invalid && f.Kind != fault.Conflict {
		return refused
	}
	id, model := strings.TrimSpace(form.Get("provider")), strings.TrimSpace(form.Get("model"))
	entries, err := s.PriceStore.History(c.Request().Context(), id, model)
	if err != nil {
		return err
	}
	name, seen, problem := "", form.Get("seen"), f.Message
	if seen != "" {
		name = id + "/" + model
	}
	switch {
	case f.Kind == fault.Invalid && len(f.Details) > 0:
		problem = "Nothing was saved: see what is marked below."
	case f.Kind == fault.Conflict:
		name, seen = id+"/"+model, price.Seen(entries)
		problem = "Nothing was saved yet: " + f.Message + " What you typed is still here; below is what is in force by now."
	}
	return s.renderSetPrice(c, statusOf[f.Kind], name, form.Get("corrects"), seen, form, problemsByField(f), problem, entries)
}

func (s *Server) renderSetPrice(c echo.Context, status int, name, corrects, seen string, values url.Values, problems map[string]string, problem string, entries []price.Entry) error {
	title := "Set a price"
	switch {
	case corrects != "":
		title = "Correct a price of " + name
	case name != "":
		title = "Set the price of " + name
	}
	zone := s.zone(c)
	page := views.SetPricePage{
		Page: s.page(c, title), Name: name, Corrects: corrects, Seen: seen, Zone: zone.String(), Problem: problem,
		Fields: views.NewPriceFields(values, problems, zone.String()),
	}
	page.Path = pricesPath
	if id, model, ok := provider.Split(name); ok {
		for _, p := range bookOf(entries).Holding(id, model, s.Now()) {
			page.Now = append(page.Now, s.priceRows(p)...)
		}
	}
	if name == "" {
		page.Seen = ""
	}
	return s.render(c, status, views.SetPrice(page))
}

// removePrice is POST /settings/prices/:id/remove.
func (s *Server) removePrice(c echo.Context) error {
	id, err := numberParam(c, "id")
	if err != nil {
		return err
	}
	form, err := formOf(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	removed, err := s.PriceStore.Withdraw(ctx, id, form.Get("confirm"), actorOf(c), s.Now())
	name := removed.Provider + "/" + removed.Model
	if err != nil {
		return s.renderPriceModel(c, name, id, err)
	}
	s.pricesChanged(ctx)
	setFlash(c, flashPriceRemoved)
	return c.Redirect(http.StatusSeeOther, string(views.PriceHref("/model", name)))
}
