package handlers

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/views"
)

const budgetsPath = "/settings/budgets"

// settings is GET /settings.
func (s *Server) settings(c echo.Context) error {
	return c.Redirect(http.StatusSeeOther, budgetsPath)
}

// budgetsPage is GET /settings/budgets.
func (s *Server) budgetsPage(c echo.Context) error {
	return s.renderBudgets(c, nil, nil)
}

// setBudgets is POST /settings/budgets.
func (s *Server) setBudgets(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	wanted, err := run.ParseBudgets(form)
	if err != nil {
		return s.renderBudgets(c, form, err)
	}
	seen, _ := time.Parse(time.RFC3339Nano, form.Get("seen")) // anything else was never shown: a conflict
	before, err := s.Budgets.Set(c.Request().Context(), wanted, seen, *callerOf(c).operatorID, s.Now())
	if err != nil {
		return s.renderBudgets(c, form, err)
	}
	changes := limitChanges(before.Values(), wanted.Values())
	if len(changes) == 0 {
		setFlash(c, flashBudgetsSame)
		return c.Redirect(http.StatusSeeOther, budgetsPath)
	}
	s.Log.Info("budgets_changed", "operatorId", callerOf(c).operatorID, "before", before.Values().Encode(), "after", wanted.Values().Encode())
	setFlash(c, flashBudgetsSaved+"?"+changes.Encode())
	return c.Redirect(http.StatusSeeOther, budgetsPath)
}

// limitChanges has the earlier and the later value of every limit that differs.
func limitChanges(before, after url.Values) url.Values {
	changes := url.Values{}
	for field := range after {
		if was, is := before.Get(field), after.Get(field); was != is {
			changes[field] = []string{was, is}
		}
	}
	return changes
}

// renderBudgets shows the page; form is what was sent and could not be saved
// because of refused, nil on a first look.
func (s *Server) renderBudgets(c echo.Context, form url.Values, refused error) error {
	f, isFault := errors.AsType[*fault.Error](refused)
	if refused != nil && (!isFault || f.Kind != fault.Invalid && f.Kind != fault.Conflict) {
		return refused
	}
	ctx, now := c.Request().Context(), s.Now()
	limits, err := s.Budgets.InForce(ctx)
	if err != nil {
		return err
	}
	used, err := s.Budgets.Used(ctx, now)
	if err != nil {
		return err
	}
	page := s.budgetsView(used, limits.Budgets, now)
	page.Page = s.page(c, "Budgets")
	page.Changed = changedLast(limits, s.zone(c))
	holds := limits.Values()
	page.Seen, page.Was = limits.ChangedAt.Format(time.RFC3339Nano), holds.Encode()
	status := http.StatusOK
	switch {
	case f == nil:
		page.Limits = views.LimitFields(holds, nil, nil, nil)
	case f.Kind == fault.Invalid:
		status, page.Problem = statusOf[f.Kind], "Nothing was saved: what is marked below cannot be a limit."
		page.Seen, page.Was = form.Get("seen"), form.Get("was")
		page.Limits = views.LimitFields(form, problemsByField(f), nil, nil)
	default:
		status, page.Problem = statusOf[f.Kind], "Nothing was saved yet: "+changedMeanwhile(page.Changed)+" while this page was open. What is different by now is marked below; save again to have it as it stands there."
		was, _ := url.ParseQuery(form.Get("was"))
		page.Limits = views.LimitFields(merged(form, was, holds), nil, was, holds)
	}
	return s.render(c, status, views.Budgets(page))
}

func problemsByField(f *fault.Error) map[string]string {
	problems := make(map[string]string, len(f.Details))
	for _, detail := range f.Details {
		problems[detail.Field] = "This " + detail.Message + "."
	}
	return problems
}

// merged is what was typed, and where nothing was, what holds by now.
func merged(form, was, holds url.Values) url.Values {
	values := url.Values{}
	for field := range holds {
		values.Set(field, form.Get(field))
		if form.Get(field) == was.Get(field) {
			values.Set(field, holds.Get(field))
		}
	}
	return values
}

func changedMeanwhile(last *views.Changed) string {
	if last == nil || last.By == "" {
		return "the limits changed"
	}
	return last.By + " changed the limits"
}

func changedLast(limits run.InForce, zone *time.Location) *views.Changed {
	if limits.ChangedAt.IsZero() {
		return nil
	}
	changed := &views.Changed{At: views.MomentOf(limits.ChangedAt, zone)}
	switch {
	case limits.ChangedBy == nil:
	case limits.Email == "":
		changed.By = "an operator who is gone"
	case limits.Name == "":
		changed.By = limits.Email
	default:
		changed.By = limits.Name + " (" + limits.Email + ")"
	}
	return changed
}

// budgetsView writes out how much of the limits is used.
func (s *Server) budgetsView(used run.Used, limits run.Budgets, now time.Time) views.BudgetsPage {
	local := now.In(s.Zone)
	page := views.BudgetsPage{
		Day: local.Format("2 Jan 2006"), Month: local.Format("January 2006"), Zone: s.Zone.String(),
		Today: limitUse(used.Day, limits.DailyUSD), Shared: limits.LearnerDailyUSD != nil,
	}
	for _, k := range used.Keys {
		use := views.KeyUse{Label: k.Label, LimitUse: limitUse(k.USD, k.Cap)}
		if k.Provider != "" {
			use.Provider = s.providerName(k.Provider)
		}
		page.Keys = append(page.Keys, use)
	}
	for _, l := range used.Learners {
		page.Learners = append(page.Learners, views.LearnerUse{Email: l.Email, LimitUse: limitUse(l.USD, limits.LearnerDailyUSD)})
	}
	return page
}

func limitUse(used price.USD, limit *price.USD) views.LimitUse {
	var most *decimal.Decimal
	if limit != nil {
		most = new(limit.Decimal())
	}
	return views.LimitUseOf(used.Decimal(), most)
}
