package handlers

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/usage"
	"github.com/promptcademy/promptops/views"
)

// usagePage is GET /usage; htmx gets the part that changes with the filters.
func (s *Server) usagePage(c echo.Context) error {
	if view, err := s.opensWith(c, "/usage"); err != nil || view != "" {
		return redirectOr(c, view, err)
	}
	status, problem := http.StatusOK, ""
	query, err := usage.ParseQuery(c.QueryParams(), s.Now(), s.zone(c))
	if fault.KindOf(err) == fault.Invalid && err != nil {
		status, problem = http.StatusUnprocessableEntity, filterProblem(err)
		query, err = usage.ParseQuery(url.Values{}, s.Now(), s.zone(c))
	}
	if err != nil {
		return err
	}
	scope, ctx := scopeOf(c), c.Request().Context()
	if err := limitTo(scope, &query); err != nil {
		return err
	}
	report, err := s.usageFor(scope).Report(ctx, query)
	if err != nil {
		return err
	}
	options, err := s.usageFor(scope).Options(ctx, query)
	if err != nil {
		return err
	}
	page := usageView(report, query, s.providerName)
	page.Page = s.page(c, "AI Usage")
	page.Filters = usageFilters(query, options, s.Now(), s.providerName)
	if page.Saved, err = s.savedViews(c, "/usage", query.Values()); err != nil {
		return err
	}
	page.Filters.Clear = page.InTeam(page.Unfiltered("/usage"))
	if page.Teams != nil {
		page.Filters.Teams, page.Filters.TeamID = nil, page.Teams.Chosen
		page.Filters.Narrowed = query.Provider != "" || query.Model != "" || query.KeySource != ""
	}
	page.Filters.Problem = problem
	if c.Request().Header.Get("HX-Request") != "" {
		return s.renderFragment(c, status, views.UsageContent(page))
	}
	return s.render(c, status, views.Usage(page))
}

// usageCSV is GET /usage.csv: what the page shows for the same query.
func (s *Server) usageCSV(c echo.Context) error {
	query, err := usage.ParseQuery(c.QueryParams(), s.Now(), s.zone(c))
	if err != nil {
		return err
	}
	scope := scopeOf(c)
	if err := limitTo(scope, &query); err != nil {
		return err
	}
	report, err := s.usageFor(scope).Report(c.Request().Context(), query)
	if err != nil {
		return err
	}
	var file bytes.Buffer
	if err := usage.WriteCSV(&file, report); err != nil {
		return err
	}
	name := fmt.Sprintf("ai-usage-%s-to-%s.csv", query.FirstDay(), query.LastDay())
	c.Response().Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
	return c.Blob(http.StatusOK, "text/csv; charset=utf-8", file.Bytes())
}

// limitTo keeps a query of a lead to their teams.
func limitTo(scope scope, query *usage.Query) (err error) {
	if scope.learner != nil {
		query.TeamIDs, err = scope.teamIDs(query.TeamID)
	}
	return err
}

// usageFor reads what the scope may see: row-level security is behind the limit to
// its teams, should that ever be forgotten.
func (s *Server) usageFor(scope scope) *usage.Store {
	if scope.learner != nil {
		return s.Usage.As(*scope.learner)
	}
	return s.Usage
}

func (s *Server) providerName(id string) string {
	if spec, ok := s.Providers.Lookup(id); ok {
		return spec.Name
	}
	return id
}

func filterProblem(err error) string {
	var parts []string
	for _, detail := range asFault(err).Details {
		parts = append(parts, detail.Field+" "+detail.Message)
	}
	return "The filters could not be used: " + strings.Join(parts, "; ") + "."
}

func usageFilters(q usage.Query, options usage.Options, now time.Time, providerName func(string) string) views.UsageFilters {
	filters := views.UsageFilters{
		Ranges: views.UsageRanges(q.Range), From: q.FirstDay(), To: q.LastDay(), Today: now.In(q.Zone).Format(time.DateOnly),
		Providers: []views.Option{{Label: "All providers"}},
		Models:    []views.Option{{Label: "All models"}},
		Teams:     []views.Option{{Label: "All teams"}},
		Keys:      []views.Option{{Label: "All keys"}, {Value: "user", Label: "Own keys"}, {Value: "fallback", Label: "Fallback keys"}},
		Narrowed:  q.Provider != "" || q.Model != "" || q.TeamID != nil || q.KeySource != "",
	}
	for _, id := range options.Providers {
		filters.Providers = append(filters.Providers, views.Option{Value: id, Label: providerName(id)})
	}
	for _, model := range options.Models {
		filters.Models = append(filters.Models, views.Option{Value: model, Label: model})
	}
	for _, team := range options.Teams {
		filters.Teams = append(filters.Teams, views.Option{Value: team.ID.String(), Label: team.Name})
	}
	team := ""
	if q.TeamID != nil {
		team = q.TeamID.String()
	}
	choose(filters.Providers, q.Provider)
	choose(filters.Models, q.Model)
	choose(filters.Teams, team)
	choose(filters.Keys, q.KeySource)
	return filters
}

func choose(options []views.Option, value string) {
	for i := range options {
		options[i].Selected = options[i].Value == value
	}
}

// usageView writes out a report.
func usageView(r usage.Report, q usage.Query, providerName func(string) string) views.UsagePage {
	page := views.UsagePage{
		Period: views.DayRange(q.From, q.To.Add(-time.Nanosecond).In(q.Zone)),
		Empty:  r.Totals.Attempts == 0,
		CSV:    "/usage.csv?" + q.Values().Encode(),
	}
	if page.Empty {
		return page
	}
	days, models := series(r)
	swatches := views.Swatches(models)
	page.Cost, page.Tokens = views.DailyCost(days, models, swatches), views.DailyTokens(days, models, swatches)
	page.Figures = keyFigures(r.Totals)
	if r.Totals.Unpriced > 0 {
		page.Unpriced = views.Count(r.Totals.Unpriced)
	}
	costs := make([]*decimal.Decimal, 0, len(r.Models)+1)
	for _, m := range r.Models {
		costs = append(costs, knownCost(m.Sum))
	}
	amounts := views.Amounts(append(costs, knownCost(r.Totals.Sum)))
	for i, m := range r.Models {
		line := usageLine(m.Sum, m.Latency, amounts[i])
		line.Model = strings.TrimPrefix(m.Model, m.Provider+"/")
		line.Provider, line.Swatch = providerName(m.Provider), swatches[m.Model]
		line.Share, line.ShareBar = views.PercentOf(m.Cost.Decimal(), r.Totals.Cost.Decimal()), m.Share
		page.Models = append(page.Models, line)
	}
	page.Total = usageLine(r.Totals.Sum, r.Totals.Latency, amounts[len(amounts)-1])
	return page
}

// knownCost is nil where nothing of the cost is known. That is so, too, where
// all that is priced are refusals, which cost nothing.
func knownCost(sum usage.Sum) *decimal.Decimal {
	cost := sum.Cost.Decimal()
	if cost.IsZero() && sum.Unpriced > 0 {
		return nil
	}
	return &cost
}

// series turns the report's days into one line per model, as long as the range.
func series(r usage.Report) ([]time.Time, []views.ModelDays) {
	days := make([]time.Time, len(r.Days))
	models := make([]views.ModelDays, len(r.Models))
	place := make(map[string]int, len(r.Models))
	for i, m := range r.Models {
		place[m.Model] = i
		models[i] = views.ModelDays{Model: m.Model, Cost: make([]decimal.Decimal, len(r.Days)), Tokens: make([]int64, len(r.Days))}
	}
	for i, day := range r.Days {
		days[i] = day.Start
		for _, m := range day.Models {
			models[place[m.Model]].Cost[i] = m.Cost.Decimal()
			models[place[m.Model]].Tokens[i] = m.Tokens.Total()
		}
	}
	return days, models
}

func keyFigures(t usage.Totals) []views.KeyFigure {
	cost := views.KeyFigure{Label: "Cost", Value: "Unknown", Note: "no attempt has a price"}
	if known := knownCost(t.Sum); known != nil {
		cost.Value, cost.Exact = views.Money(*known), views.MoneyExact(*known)
		cost.Note = fallbackNote(t.Sum)
	}
	if t.Unpriced > 0 {
		cost.Badge = views.Count(t.Unpriced) + " unpriced"
	}
	tokens := views.KeyFigure{
		Label: "Tokens", Value: views.CountShort(t.Tokens.Total()), Exact: views.Count(t.Tokens.Total()),
		Note: views.CountShort(t.Input) + " in, " + views.CountShort(t.Output) + " out",
	}
	if t.UnknownUsage > 0 {
		tokens.Badge = views.Count(t.UnknownUsage) + " unknown"
	}
	return []views.KeyFigure{
		cost,
		{Label: "Runs", Value: views.Count(t.Runs), Note: plural(t.Attempts, "attempt", "attempts")},
		tokens,
		{Label: "Error rate", Value: views.Percent(t.Errors, t.Ended()), Note: plural(t.Errors, "error", "errors")},
		{Label: "Fallback share", Value: views.Percent(t.Fallback, t.Attempts), Note: "of attempts"},
		{Label: "Duration P95", Value: p95(t.Latency), Note: "of answered attempts"},
	}
}

func fallbackNote(sum usage.Sum) string {
	return views.Money(sum.FallbackCost.Decimal()) + " on fallback keys"
}

func usageLine(sum usage.Sum, latency *usage.Latency, amount views.Amount) views.UsageModel {
	line := views.UsageModel{
		Attempts: views.Count(sum.Attempts), Errors: views.Count(sum.Errors), ErrorRate: views.Percent(sum.Errors, sum.Ended()),
		Input: views.Count(sum.Input), Cached: views.Count(sum.CachedInput), Output: views.Count(sum.Output), Reasoning: views.Count(sum.Reasoning),
		Cost: amount, P95: p95(latency),
	}
	if sum.Unpriced > 0 {
		line.Unpriced = views.Count(sum.Unpriced)
	}
	return line
}

func p95(latency *usage.Latency) string {
	if latency == nil {
		return "–"
	}
	return views.Milliseconds(latency.P95.Milliseconds())
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return views.Count(n) + " " + many
}
