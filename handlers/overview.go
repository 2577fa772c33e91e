package handlers

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/notify"
	"github.com/promptcademy/promptops/internal/usage"
	"github.com/promptcademy/promptops/views"
)

const (
	overviewDays = 14
	// From so many attempts on, an error rate says something.
	enoughAttempts = 20
	// Parts of a hundred that count as many errors.
	manyErrors = 5

	expiresSoon = 14 * 24 * time.Hour
	runsDry     = 3 // days of runway
)

// home is GET /: for an admin the overview, for a team lead the first page for leads.
func (s *Server) home(c echo.Context) error {
	if scopeOf(c).learner != nil {
		return c.Redirect(http.StatusSeeOther, views.LeadStart())
	}
	ctx, now, zone := c.Request().Context(), s.Now(), s.zone(c)
	query, err := usage.ParseQuery(url.Values{"from": {now.In(zone).AddDate(0, 0, 1-overviewDays).Format(time.DateOnly)}}, now, zone)
	if err != nil {
		return err
	}
	report, err := s.Usage.Report(ctx, query)
	if err != nil {
		return err
	}
	today := report.Points[len(report.Points)-1].Start
	yesterday := report.Points[len(report.Points)-2].Start
	totals, err := s.Usage.Totals(ctx, zone, usage.Span{From: today, To: now}, usage.Span{From: yesterday, To: yesterday.Add(now.Sub(today))})
	if err != nil {
		return err
	}
	page := views.OverviewPage{
		Page: s.page(c, "Overview"), Until: now.In(zone).Format("2 Jan 2006, until 15:04") + " · " + zone.String(),
		Figures: overviewFigures(totals[0], totals[1]), Empty: report.Totals.Attempts == 0,
	}
	if !page.Empty {
		page.Cost = linkChart(views.DailyCost(overviewSeries(report)), report, query)
		limits, err := s.Budgets.InForce(ctx)
		if err != nil {
			return err
		}
		if page.Forecast, err = s.forecastFor(ctx, s.Usage, usage.Query{Zone: zone}, limits.DailyUSD, now); err != nil {
			return err
		}
	}
	if page.Budget, page.Concern, err = s.concerns(ctx, totals[0], now); err != nil {
		return err
	}
	return s.render(c, http.StatusOK, views.Overview(page))
}

func overviewFigures(today, before usage.Totals) []views.KeyFigure {
	figures := keyFigures(today)
	count := decimal.NewFromInt
	part := func(part, whole int64) decimal.Decimal {
		if whole == 0 {
			return decimal.Zero
		}
		return count(part).Div(count(whole))
	}
	p95 := func(t usage.Totals) decimal.Decimal {
		if t.Latency == nil {
			return decimal.Zero
		}
		return count(t.Latency.P95.Milliseconds())
	}
	changes := []views.Change{
		views.ChangeOf(today.Cost.Decimal(), before.Cost.Decimal()),
		views.ChangeOf(count(today.Runs), count(before.Runs)),
		views.ChangeOf(count(today.Tokens.Total()), count(before.Tokens.Total())),
		views.ChangeOf(part(today.Errors, today.Ended()), part(before.Errors, before.Ended())),
		views.ChangeOf(part(today.Fallback, today.Attempts), part(before.Fallback, before.Attempts)),
		views.ChangeOf(p95(today), p95(before)),
	}
	links := []string{"/usage?range=today", "/runs?range=today", "/usage?range=today", "/runs?range=today&status=error", "/runs?range=today&key=fallback", "/usage?range=today"}
	for i := range figures {
		figures[i].Change, figures[i].Href = changes[i], links[i]
	}
	return figures
}

// concerns are what needs somebody, what hurts now before what soon may.
func (s *Server) concerns(ctx context.Context, today usage.Totals, now time.Time) (budget *views.LimitUse, all []views.Concern, err error) {
	var bad, soon []views.Concern
	limits, err := s.Budgets.InForce(ctx)
	if err != nil {
		return nil, nil, err
	}
	if limits.DailyUSD != nil {
		used, err := s.Budgets.Used(ctx, now)
		if err != nil {
			return nil, nil, err
		}
		use := limitUse(used.Day, limits.DailyUSD)
		budget = &use
		concern := views.Concern{Kind: use.Kind, Text: "Fallback keys have used " + use.Percent + " of today’s budget of " + use.Limit + ".", Href: budgetsPath, Link: "Budgets"}
		switch use.Kind {
		case "error":
			bad = append(bad, concern)
		case "warning":
			soon = append(soon, concern)
		}
	}
	keys, err := s.Fallbacks.Overview(ctx, now)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range keys.Forsaken(now) {
		bad = append(bad, views.Concern{Kind: "error", Text: s.providerName(id) + " has no fallback key that can be used.", Href: fallbackPath, Link: "Fallback Keys"})
	}
	for _, k := range keys.Keys {
		if text, kind := keyConcern(k, now); text != "" {
			concern := views.Concern{Kind: kind, Text: s.providerName(k.Provider) + " key “" + k.Label + "” " + text, Href: fallbackPath + "/" + k.ID.String(), Link: "The key"}
			if kind == "error" {
				bad = append(bad, concern)
			} else {
				soon = append(soon, concern)
			}
		}
	}
	if today.Ended() >= enoughAttempts && 100*today.Errors >= manyErrors*today.Ended() {
		bad = append(bad, views.Concern{
			Kind: "error", Text: views.Percent(today.Errors, today.Ended()) + " of today’s attempts failed, " + plural(today.Errors, "attempt", "attempts") + " of " + views.Count(today.Ended()) + ".",
			Href: "/runs?range=today&status=error", Link: "Failed runs",
		})
	}
	if today.Unpriced > 0 {
		soon = append(soon, views.Concern{
			Kind: "warning", Text: plural(today.Unpriced, "attempt", "attempts") + " of today have no price: what they cost is unknown, and counts against no budget.",
			Href: "/usage?range=today", Link: "AI Usage",
		})
	}
	failed, err := s.Channels.List(ctx, notify.Filter{State: notify.Failed}, uuid.Nil, 50)
	if err != nil {
		return nil, nil, err
	}
	lost := int64(0)
	for _, d := range failed {
		if d.FinishedAt != nil && now.Sub(*d.FinishedAt) < 24*time.Hour {
			lost++
		}
	}
	if lost > 0 {
		soon = append(soon, views.Concern{Kind: "warning", Text: plural(lost, "notification", "notifications") + " could not be delivered since yesterday.", Href: channelsPath + "#deliveries", Link: "Deliveries"})
	}
	return budget, append(bad, soon...), nil
}

// keyConcern says what is wrong with a fallback key, or soon will be.
func keyConcern(k key.FallbackKey, now time.Time) (text, kind string) {
	switch k.State(now) {
	case key.StateInvalid:
		return "is refused by the provider: rotate it, or delete it.", "error"
	case key.StateBilling:
		return "is out of credit: pay there, then test it.", "error"
	case key.StateExpired:
		return "has expired: rotate it, or correct the date.", "error"
	case key.StateOverCap:
		return "has spent its cap of this month.", "error"
	}
	if !k.State(now).Hopeful() {
		return "", ""
	}
	if k.ExpiresAt != nil && k.ExpiresAt.Sub(now) < expiresSoon {
		return "expires on " + k.ExpiresAt.UTC().Format("2 Jan 2006") + ".", "warning"
	}
	if runway := k.Runway(); runway.Kind == key.RunwayDays && runway.Days < runsDry {
		return "has less than three days left of its cap, at the rate of the last week.", "warning"
	}
	return "", ""
}
