package handlers

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/views"
)

// recomputePage is GET /settings/prices/recompute: what it would come to; of very many
// attempts only how many there are.
func (s *Server) recomputePage(c echo.Context) error {
	return s.renderRecompute(c, c.QueryParams(), nil)
}

// renderRecompute previews the span of values; refused is why it was not started.
func (s *Server) renderRecompute(c echo.Context, values url.Values, refused error) error {
	f, isFault := errors.AsType[*fault.Error](refused)
	if refused != nil && (!isFault || f.Kind != fault.Conflict) {
		return refused
	}
	ctx, zone := c.Request().Context(), s.zone(c)
	page := views.RecomputePage{Page: s.page(c, "Recompute "+values.Get("name")), Name: values.Get("name"), Zone: zone.String()}
	page.Path = pricesPath
	page.Form = views.RecomputeForm{From: values.Get("from"), Until: values.Get("until"), Reported: values.Get("reported") == "yes"}
	span, err := price.ParseSpan(values, s.Now(), zone)
	if invalid, ok := errors.AsType[*fault.Error](err); ok && invalid.Kind == fault.Invalid {
		page.Form.Problems = problemsByField(invalid)
		if page.Form.Problems["name"] != "" {
			return fault.New(fault.NotFound, "There is no such model.")
		}
		page.Problem = "The span could not be used: see what is marked below."
		return s.render(c, statusOf[fault.Invalid], views.Recompute(page))
	}
	if err != nil {
		return err
	}
	size, err := s.PriceJobs.Size(ctx, span)
	if err != nil {
		return err
	}
	after := " What it would come to now stands below."
	if size.Small() {
		page.Preview, err = s.previewNow(ctx, span, zone)
	} else {
		page.Many, after = recomputeMany(span, size, zone), " Have it previewed anew."
	}
	if err != nil {
		return err
	}
	status := http.StatusOK
	if f != nil {
		status, page.Problem = statusOf[f.Kind], f.Message+after
	}
	return s.render(c, status, views.Recompute(page))
}

func (s *Server) previewNow(ctx context.Context, span price.Span, zone *time.Location) (*views.RecomputePreview, error) {
	// The state comes first: prices that change while the attempts are read are noticed.
	seen, err := s.priceState(ctx, span.Provider, span.Model)
	if err != nil {
		return nil, err
	}
	sums, err := s.PriceJobs.Preview(ctx, span)
	if err != nil {
		return nil, err
	}
	return recomputePreview(span, sums, seen, zone), nil
}

// previewRecompute is POST /settings/prices/recompute/preview: it is reckoned in the
// background.
func (s *Server) previewRecompute(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	span, err := price.ParseSpan(form, s.Now(), s.zone(c))
	if err != nil {
		return err
	}
	size, err := s.PriceJobs.Size(ctx, span)
	if err != nil {
		return err
	}
	id, err := s.PriceJobs.StartPreview(ctx, span, size, actorOf(c), s.Now())
	if err != nil {
		return s.renderRecompute(c, form, err)
	}
	return c.Redirect(http.StatusSeeOther, jobPath(id))
}

// recompute is POST /settings/prices/recompute: it goes on in the background.
func (s *Server) recompute(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	span, err := price.ParseSpan(form, s.Now(), s.zone(c))
	if err != nil {
		return err
	}
	id, err := s.PriceJobs.Start(c.Request().Context(), span, form.Get("seen"), promisedIn(form), actorOf(c), s.Now())
	if err != nil {
		return s.renderRecompute(c, form, err)
	}
	return c.Redirect(http.StatusSeeOther, jobPath(id))
}

func jobPath(id int64) string { return pricesPath + "/jobs/" + strconv.FormatInt(id, 10) }

// priceJobPage is GET /settings/prices/jobs/:id; htmx gets the part that changes
// while it goes on.
func (s *Server) priceJobPage(c echo.Context) error {
	id, err := numberParam(c, "id")
	if err != nil {
		return err
	}
	return s.renderJob(c, id, nil)
}

func (s *Server) renderJob(c echo.Context, id int64, refused error) error {
	f, isFault := errors.AsType[*fault.Error](refused)
	if refused != nil && (!isFault || f.Kind != fault.Invalid && f.Kind != fault.Conflict) {
		return refused
	}
	job, err := s.PriceJobs.Find(c.Request().Context(), id)
	if err != nil {
		return err
	}
	page := jobView(job, s.zone(c))
	if job.Preview && job.Done() {
		seen, err := s.priceState(c.Request().Context(), job.Provider, job.Model)
		if err != nil {
			return err
		}
		page.Start, page.Outdated = recomputePreview(job.Span, job.Sums, job.PricesSeen, s.zone(c)), seen != job.PricesSeen
	}
	if c.Request().Header.Get("HX-Request") != "" {
		return s.renderFragment(c, http.StatusOK, views.PriceJobContent(page))
	}
	page.Page = s.page(c, page.Job.What+" "+page.Job.Model)
	page.Path = pricesPath
	status := http.StatusOK
	if f != nil {
		status, page.Problem = statusOf[f.Kind], f.Message
	}
	return s.render(c, status, views.PriceJob(page))
}

// undoRecompute is POST /settings/prices/jobs/:id/undo.
func (s *Server) undoRecompute(c echo.Context) error {
	id, err := numberParam(c, "id")
	if err != nil {
		return err
	}
	undo, err := s.PriceJobs.Undo(c.Request().Context(), id, actorOf(c), s.Now())
	if err != nil {
		return s.renderJob(c, id, err)
	}
	return c.Redirect(http.StatusSeeOther, jobPath(undo))
}
