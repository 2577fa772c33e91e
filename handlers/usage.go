package handlers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/errgroup"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/usage"
	"github.com/promptcademy/promptops/views"
)

// usagePage is GET /usage; htmx gets the part that changes with the filters.
func (s *Server) usagePage(c echo.Context) error {
	if view, err := s.opensWith(c, "/usage"); err != nil || view != "" {
		return redirectOr(c, view, err)
	}
	query, problem, err := s.usageQuery(c)
	if err != nil {
		return err
	}
	scope, ctx := scopeOf(c), c.Request().Context()
	if err := limitTo(scope, &query); err != nil {
		return err
	}
	var report usage.Report
	var options usage.Options
	var found patterns
	err = together(ctx, func(ctx context.Context) (err error) {
		if report, err = s.usageFor(scope).Report(ctx, query); err != nil {
			return err
		}
		options, err = s.usageFor(scope).Options(ctx, query)
		return err
	}, func(ctx context.Context) (err error) {
		found, err = s.patternsOf(ctx, scope, query)
		return err
	})
	if err != nil {
		return err
	}
	page := usageView(report, query, s.providerName)
	found.addTo(&page, report, query, s.providerName)
	page.Page = s.page(c, "AI Usage")
	page.Filters = usageFilters(query, options, s.Now(), s.providerName)
	if page.Saved, err = s.savedViews(c, "/usage", query.Values()); err != nil {
		return err
	}
	page.Filters.Clear = page.InTeam(page.Unfiltered("/usage"))
	if page.Teams != nil {
		page.Filters.Teams, page.Filters.TeamID = nil, page.Teams.Chosen
		page.Filters.Narrowed = query.Provider != "" || query.Model != "" || query.KeySource != "" || query.TemplateID != nil || query.Learner != ""
	}
	page.Filters.Problem = problem
	status := http.StatusOK
	if problem != "" {
		status = http.StatusUnprocessableEntity
	}
	if c.Request().Header.Get("HX-Request") != "" {
		return s.renderFragment(c, status, views.UsageContent(page))
	}
	return s.render(c, status, views.Usage(page))
}

// together does two things at the same time, and no more: pages share the database
// with the run endpoint. A panic is that of the caller, where it breaks one page and
// not the program.
func together(ctx context.Context, one, other func(ctx context.Context) error) error {
	var parts errgroup.Group
	var broken any
	parts.Go(func() (err error) {
		defer func() {
			if broken = recover(); broken != nil {
				broken = fmt.Sprintf("%v\n%s", broken, debug.Stack())
				err = errors.New("broken")
			}
		}()
		return other(ctx)
	})
	err := errors.Join(one(ctx), parts.Wait())
	if broken != nil {
		panic(broken)
	}
	return err
}

// usageQuery reads the query of a page. What cannot be used is left out, and the
// problem said.
func (s *Server) usageQuery(c echo.Context) (query usage.Query, problem string, err error) {
	values := c.QueryParams()
	query, err = usage.ParseQuery(values, s.Now(), s.zone(c))
	if err == nil || fault.KindOf(err) != fault.Invalid {
		return query, "", err
	}
	problem = filterProblem(err)
	usable := url.Values{}
	for name, all := range values {
		usable[name] = all
	}
	for _, detail := range asFault(err).Details {
		usable.Del(detail.Field)
		if detail.Field == "from" || detail.Field == "to" || detail.Field == "range" {
			for _, name := range []string{"range", "from", "to"} {
				usable.Del(name)
			}
		}
	}
	if query, err = usage.ParseQuery(usable, s.Now(), s.zone(c)); fault.KindOf(err) == fault.Invalid && err != nil {
		query, err = usage.ParseQuery(url.Values{}, s.Now(), s.zone(c))
	}
	return query, problem, err
}

// usageCSV is GET /usage.csv: what the page shows for the same query, of every
// bucket and group.
func (s *Server) usageCSV(c echo.Context) error {
	query, err := s.usageFileQuery(c)
	if err != nil {
		return err
	}
	lines, cut, err := s.usageFor(scopeOf(c)).Lines(c.Request().Context(), query)
	if err != nil {
		return err
	}
	var file bytes.Buffer
	if err := usage.WriteCSV(&file, query, lines); err != nil {
		return err
	}
	name := fmt.Sprintf("ai-usage-%s-to-%s", query.FirstDay(), query.LastDay())
	if cut {
		name += fmt.Sprintf("-first-%d-lines-only", usage.MostInCSV)
	}
	c.Response().Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name+".csv"))
	return c.Blob(http.StatusOK, "text/csv; charset=utf-8", file.Bytes())
}

// usageJSON is GET /usage.json: what the page shows for the same query.
func (s *Server) usageJSON(c echo.Context) error {
	query, err := s.usageFileQuery(c)
	if err != nil {
		return err
	}
	report, err := s.usageFor(scopeOf(c)).Report(c.Request().Context(), query)
	if err != nil {
		return err
	}
	document, err := usage.JSON(query, report)
	if err != nil {
		return err
	}
	return c.Blob(http.StatusOK, echo.MIMEApplicationJSON, document)
}

func (s *Server) usageFileQuery(c echo.Context) (usage.Query, error) {
	query, err := usage.ParseQuery(c.QueryParams(), s.Now(), s.zone(c))
	if err == nil {
		err = limitTo(scopeOf(c), &query)
	}
	return query, err
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
		Learner:   q.Learner,
		Subs:      []views.Option{{Label: "nothing else"}},
		Compare:   q.Compare,
		Narrowed:  q.Narrowed(),
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
	for _, by := range usage.Dimensions {
		option := views.Option{Value: string(by), Label: dimensionName(by)}
		filters.Groups = append(filters.Groups, option)
		if by != q.Group {
			filters.Subs = append(filters.Subs, option)
		}
	}
	for _, metric := range usage.Metrics {
		filters.Metrics = append(filters.Metrics, views.Option{Value: string(metric), Label: metricName(metric)})
	}
	for _, bucket := range usage.Buckets {
		filters.Buckets = append(filters.Buckets, views.Option{Value: string(bucket), Label: string(bucket)})
	}
	team := ""
	if q.TeamID != nil {
		team = q.TeamID.String()
	}
	if q.TemplateID != nil {
		filters.Template = &views.Option{Value: q.TemplateID.String(), Label: options.Template}
	}
	choose(filters.Providers, q.Provider)
	choose(filters.Models, q.Model)
	choose(filters.Teams, team)
	choose(filters.Keys, q.KeySource)
	choose(filters.Groups, string(q.Group))
	choose(filters.Subs, string(q.Sub))
	choose(filters.Metrics, string(q.Metric))
	choose(filters.Buckets, string(q.Bucket))
	return filters
}

func choose(options []views.Option, value string) {
	for i := range options {
		options[i].Selected = options[i].Value == value
	}
}

func dimensionName(by usage.Dimension) string {
	return map[usage.Dimension]string{
		usage.ByProvider: "provider", usage.ByModel: "model", usage.ByTeam: "team", usage.ByKey: "key source", usage.ByTemplate: "template", usage.ByLearner: "learner",
	}[by]
}

func metricName(metric usage.Metric) string {
	return map[usage.Metric]string{
		usage.Cost: "Cost", usage.TokenCount: "Tokens", usage.Runs: "Runs", usage.Attempts: "Attempts", usage.Errors: "Error rate",
		usage.Durations: "Duration", usage.FirstToken: "Time to first token", usage.Fallback: "Fallback share",
	}[metric]
}
