package handlers

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/history"
	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/views"
)

// runsOnPage is how many runs a page of the list has.
const runsOnPage = 50

// runsPage is GET /runs; htmx gets the part that changes with the filters.
func (s *Server) runsPage(c echo.Context) error {
	if view, err := s.opensWith(c, "/runs"); err != nil || view != "" {
		return redirectOr(c, view, err)
	}
	status, problem := http.StatusOK, ""
	filter, at, err := s.runsQuery(c, c.QueryParams())
	if err != nil && fault.KindOf(err) == fault.Invalid {
		status, problem = http.StatusUnprocessableEntity, filterProblem(err)
		filter, at, err = s.runsQuery(c, url.Values{})
	}
	if err != nil {
		return err
	}
	store, teamIDs, err := s.historyOf(c, filter.TeamID)
	if err != nil {
		return err
	}
	filter.TeamIDs = teamIDs
	page, err := s.runsView(c, store, filter, at)
	if err != nil {
		return err
	}
	page.Page, page.Filters.Problem = s.page(c, "Runs"), problem
	if page.Saved, err = s.savedViews(c, "/runs", filter.Values()); err != nil {
		return err
	}
	page.Filters.Clear = page.Unfiltered("/runs")
	if c.Request().Header.Get("HX-Request") != "" {
		return s.renderFragment(c, status, views.RunsContent(page))
	}
	return s.render(c, status, views.Runs(page))
}

// runsCSV is GET /runs.csv: the runs that the page lists for the same filters.
func (s *Server) runsCSV(c echo.Context) error {
	filter, err := history.ParseFilter(c.QueryParams(), s.Now(), s.zone(c))
	if err != nil {
		return err
	}
	store, teamIDs, err := s.historyOf(c, filter.TeamID)
	if err != nil {
		return err
	}
	filter.TeamIDs = teamIDs
	var file bytes.Buffer
	cut, err := store.WriteCSV(c.Request().Context(), &file, filter)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("runs-%s-to-%s", filter.FirstDay(), filter.LastDay())
	if cut {
		name += fmt.Sprintf("-newest-%d-only", history.MostInCSV)
	}
	return sendCSV(c, name, file.Bytes())
}

// sendCSV sends a file to be saved under a name.
func sendCSV(c echo.Context, name string, file []byte) error {
	c.Response().Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name+".csv"))
	return c.Blob(http.StatusOK, "text/csv; charset=utf-8", file)
}

// runsQuery reads the filters and the place in the list.
func (s *Server) runsQuery(c echo.Context, values url.Values) (history.Filter, history.Cursor, error) {
	var at history.Cursor
	filter, err := history.ParseFilter(values, s.Now(), s.zone(c))
	if err != nil {
		return filter, at, err
	}
	for name, into := range map[string]*uuid.UUID{"before": &at.Before, "after": &at.After} {
		if value := values.Get(name); value != "" {
			if *into, err = uuid.Parse(value); err != nil || into.Version() != 7 {
				return filter, at, fault.InvalidFields([]fault.Field{{Field: name, Message: "is no id of a run"}})
			}
		}
	}
	if at.After != uuid.Nil {
		at.Before = uuid.Nil
	}
	return filter, at, nil
}

// runsView reads a part of the list and writes it out.
func (s *Server) runsView(c echo.Context, store *history.Store, filter history.Filter, at history.Cursor) (views.RunsPage, error) {
	ctx := c.Request().Context()
	list, err := store.List(ctx, filter, at, runsOnPage)
	if err != nil {
		return views.RunsPage{}, err
	}
	count := len(list.Runs)
	switch {
	case list.Further != nil:
		count = -1 // whoever could not look through all of them cannot count them either
	case list.Newer || list.Older:
		if count, err = store.Count(ctx, filter); err != nil {
			return views.RunsPage{}, err
		}
	}
	choices, err := store.Choices(ctx, filter)
	if err != nil {
		return views.RunsPage{}, err
	}
	query := filter.Values()
	page := views.RunsPage{
		Filters: s.runsFilters(filter, choices, scopeOf(c)),
		Period:  views.DayRange(filter.From, filter.To.Add(-time.Nanosecond).In(filter.Zone)), Count: countOf(count),
		CSV: "/runs.csv?" + query.Encode(), CSVMost: views.Count(history.MostInCSV), Cut: count < 0 || count > history.MostCounted,
	}
	amounts := views.Amounts(knownCosts(list.Runs))
	for i, run := range list.Runs {
		line := runLine(run, filter.Zone, "?"+query.Encode())
		if run.Status != "running" {
			line.Cost = &amounts[i]
		}
		page.Runs = append(page.Runs, line)
	}
	page.Newest, page.Newer, page.Older = runsPager(list, at, query)
	if list.Further != nil {
		page.Searched, page.Further = searchedUntil(*list.Further, filter.Zone, query)
		page.Older = "" // leads to the runs after the last one found, from where it was looked already
	}
	return page, nil
}

// searchedUntil says how far was looked, and where to go on.
func searchedUntil(at history.Cursor, zone *time.Location, query url.Values) (searched, further string) {
	values := maps.Clone(query)
	if at.After != uuid.Nil {
		values.Set("after", at.After.String())
		return "up to " + views.MomentOf(history.StartedAt(at.After), zone).Local, "/runs?" + values.Encode()
	}
	values.Set("before", at.Before.String())
	return "back to " + views.MomentOf(history.StartedAt(at.Before), zone).Local, "/runs?" + values.Encode()
}

// knownCosts are nil where nothing of the cost is known.
func knownCosts(runs []history.Listed) []*decimal.Decimal {
	costs := make([]*decimal.Decimal, len(runs))
	for i, run := range runs {
		if run.Cost != nil && (run.Unpriced == 0 || !run.Cost.IsZero()) {
			costs[i] = new(run.Cost.Decimal())
		}
	}
	return costs
}

func countOf(n int) string {
	switch {
	case n < 0:
		return ""
	case n > history.MostCounted:
		return views.Count(history.MostCounted) + "+ runs"
	default:
		return plural(int64(n), "run", "runs")
	}
}

// runsPager is where the pages beside this one are. From an empty page the way
// leads back to the beginning.
func runsPager(list history.Page, at history.Cursor, query url.Values) (newest, newer, older string) {
	address := func(name string, id uuid.UUID) string {
		values := url.Values{}
		for key, value := range query {
			values[key] = value
		}
		if name != "" {
			values.Set(name, id.String())
		}
		return "/runs?" + values.Encode()
	}
	if list.Newer || at.After != uuid.Nil {
		newest = address("", uuid.Nil)
	}
	if len(list.Runs) == 0 {
		if list.Newer || list.Older {
			newer = newest
		}
		return "", newer, ""
	}
	if list.Newer {
		newer = address("after", list.Runs[0].ID)
	} else {
		newest = ""
	}
	if list.Older {
		older = address("before", list.Runs[len(list.Runs)-1].ID)
	}
	return newest, newer, older
}

func runLine(run history.Listed, zone *time.Location, query string) views.RunLine {
	line := views.RunLine{
		Href: "/runs/" + run.ID.String() + query, Started: views.ShortMomentOf(run.StartedAt, zone), Who: run.Who.Email,
		Status: run.Status, Errors: views.ErrorLabels(run.ErrorClasses), Tokens: "–", Duration: "–", Keys: views.KeysLabel(run.KeySources),
	}
	switch {
	case run.Who.Operator:
		line.WhoNote = "operator"
	case run.Who.Email != "":
		line.WhoHref = "/learners/" + run.Who.LearnerID.String()
	}
	if run.Who.Email == "" {
		line.Who = "Deleted account"
	}
	if run.Team != nil {
		line.Team = run.Team.Name
	}
	for _, model := range run.Models {
		_, name, _ := strings.Cut(model, "/")
		line.Models = append(line.Models, name)
	}
	if run.Tokens != nil {
		line.Tokens = views.Count(*run.Tokens)
	}
	if run.DurationMs != nil {
		line.Duration = views.Milliseconds(*run.DurationMs)
	}
	if run.Unpriced > 0 {
		line.Unpriced = views.Count(int64(run.Unpriced))
	}
	return line
}

func (s *Server) runsFilters(f history.Filter, choices history.Choices, who scope) views.RunsFilters {
	filters := views.RunsFilters{
		Period:   periodChoice(f.Period, s.Now()),
		Statuses: views.StatusOptions(history.Statuses), Classes: views.ClassOptions(history.Classes),
		Models: choices.Models, Model: f.Model, Learner: f.Learner, Cost: "", Seconds: f.Seconds(), Request: f.RequestID,
		Teams:     []views.Option{{Label: "All teams"}},
		Providers: []views.Option{{Label: "All providers"}},
		Keys:      []views.Option{{Label: "All keys"}, {Value: "user", Label: "Own keys"}, {Value: "fallback", Label: "Fallback keys"}},
		Templates: []views.Option{{Label: "Any template, or none"}},
		Streams:   []views.Option{{Label: "Streamed or not"}, {Value: "yes", Label: "Streamed"}, {Value: "no", Label: "As a whole"}},
		Narrowed:  f.Narrowed(),
		More:      f.Provider != "" || f.KeySource != "" || f.ErrorClass != "" || f.TemplateID != nil || f.Stream != "" || f.MinCost != nil || f.MinDuration > 0,
	}
	if f.MinCost != nil {
		filters.Cost = f.MinCost.String()
	}
	if who.learner != nil {
		choices.Teams = nil
		for _, team := range who.teams {
			choices.Teams = append(choices.Teams, history.Named{ID: team.ID, Name: team.Name})
		}
	}
	filters.Teams = append(filters.Teams, namedOptions(choices.Teams)...)
	filters.Templates = append(filters.Templates, namedOptions(choices.Templates)...)
	for _, spec := range s.Providers.Specs() {
		filters.Providers = append(filters.Providers, views.Option{Value: spec.ID, Label: spec.Name})
	}
	for _, c := range []struct {
		options *[]views.Option
		value   string
	}{
		{&filters.Statuses, f.Status}, {&filters.Classes, f.ErrorClass}, {&filters.Providers, f.Provider}, {&filters.Keys, f.KeySource}, {&filters.Streams, f.Stream},
		{&filters.Teams, idOf(f.TeamID)}, {&filters.Templates, idOf(f.TemplateID)},
	} {
		chooseAny(c.options, c.value)
	}
	return filters
}

// chooseAny is choose for a value that may not be among the options: whatever is
// in force stays visible.
func chooseAny(options *[]views.Option, value string) {
	for _, o := range *options {
		if o.Value == value {
			choose(*options, value)
			return
		}
	}
	*options = append(*options, views.Option{Value: value, Label: value})
	choose(*options, value)
}

func idOf(id *uuid.UUID) string {
	if id == nil {
		return ""
	}
	return id.String()
}

func namedOptions(all []history.Named) []views.Option {
	options := make([]views.Option, len(all))
	for i, n := range all {
		options[i] = views.Option{Value: n.ID.String(), Label: n.Name}
	}
	return options
}

func periodChoice(p period.Period, now time.Time) views.PeriodChoice {
	return views.PeriodChoice{
		Ranges: views.UsageRanges(p.Range), From: p.FirstDay().String(), To: p.LastDay().String(), Today: period.DayOf(now, p.Zone).String(),
	}
}
