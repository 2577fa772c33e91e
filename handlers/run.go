package handlers

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/history"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/views"
)

// runPage is GET /runs/:id; parameters of the list lead back to it and along it.
func (s *Server) runPage(c echo.Context) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return fault.New(fault.NotFound, "This is no id of a run.").Because(err)
	}
	store, teamIDs, err := s.historyOf(c, nil)
	if err != nil {
		return err
	}
	run, err := store.Run(c.Request().Context(), id, teamIDs)
	if err != nil {
		return err
	}
	page := runView(run, s.zone(c), s.providerName)
	page.Page = s.page(c, "Run "+id.String())
	page.Said, page.Silent = runSaid(run, scopeOf(c).learner != nil)
	if run.Said != nil {
		page.Curl = runBody(run).Curl(s.BaseURL)
	}
	if page.Log, err = s.runLog(c, run); err != nil {
		return err
	}
	if err := s.runNeighbours(c, id, &page); err != nil {
		return err
	}
	return s.render(c, http.StatusOK, views.Run(page))
}

// historyOf is whose runs may be seen: with a team chosen, only that team's.
func (s *Server) historyOf(c echo.Context, team *uuid.UUID) (*history.Store, []uuid.UUID, error) {
	who := scopeOf(c)
	teamIDs, err := who.teamIDs(team)
	if who.learner != nil {
		return s.History.As(*who.learner), teamIDs, err
	}
	return s.History, teamIDs, err
}

// runNeighbours finds the way along the list that the run was opened from, or, if
// it was not, along all runs.
func (s *Server) runNeighbours(c echo.Context, id uuid.UUID, page *views.RunPage) error {
	var filter history.Filter
	query := ""
	if len(c.QueryParams()) > 0 {
		parsed, err := history.ParseFilter(c.QueryParams(), s.Now(), s.zone(c))
		if err == nil {
			filter, query = parsed, "?"+parsed.Values().Encode()
		}
	}
	store, teamIDs, err := s.historyOf(c, filter.TeamID)
	if err != nil {
		return err
	}
	filter.TeamIDs = teamIDs
	newer, older, err := store.Neighbours(c.Request().Context(), filter, id)
	if err != nil {
		return err
	}
	page.List = "/runs" + query
	if newer != uuid.Nil {
		page.Newer = "/runs/" + newer.String() + query
	}
	if older != uuid.Nil {
		page.Older = "/runs/" + older.String() + query
	}
	return nil
}

// runSaid writes out what was said, or why it is not shown.
func runSaid(run history.Run, toLead bool) (said *views.RunSaid, silent string) {
	switch {
	case run.Said != nil:
	case run.Status == "running":
		return nil, "They are stored when the run ends."
	case toLead && !run.TeamShares:
		return nil, "This team does not share its prompts with those who lead it."
	default:
		return nil, "They were not kept, or went with the learner’s account."
	}
	said = &views.RunSaid{}
	if run.Said.System != "" {
		said.Messages = append(said.Messages, views.SaidText{By: "system", Text: run.Said.System})
	}
	for _, m := range run.Said.Messages {
		said.Messages = append(said.Messages, views.SaidText{By: m.Role, Text: m.Content})
	}
	for _, a := range run.Attempts {
		if text, ok := run.Said.Outputs[a.Model]; ok {
			said.Outputs = append(said.Outputs, views.SaidText{By: a.Model, Text: text})
		}
	}
	return said, ""
}

// runBody is the request that would run the same again. The template's text is in
// its messages already.
func runBody(run history.Run) views.RunBody {
	body := views.RunBody{System: run.Said.System, Stream: run.Stream, Config: map[string]any{}}
	if m := run.Said.Messages; len(m) == 1 && m[0].Role == "user" {
		body.Prompt = m[0].Content
	} else {
		for _, turn := range m {
			body.Messages = append(body.Messages, views.BodyMessage(turn))
		}
	}
	for _, a := range run.Attempts {
		body.Models = append(body.Models, a.Model)
	}
	if run.Team != nil {
		body.TeamID = run.Team.ID.String()
	}
	set := func(name string, value any, given bool) {
		if given {
			body.Config[name] = value
		}
	}
	config := run.Config
	set("temperature", config.Temperature, config.Temperature != nil)
	set("maxTokens", config.MaxTokens, config.MaxTokens != nil)
	set("topP", config.TopP, config.TopP != nil)
	set("stop", config.Stop, len(config.Stop) > 0)
	set("timeoutMs", config.TimeoutMs, config.TimeoutMs != nil)
	return body
}

// runView writes out a run.
func runView(run history.Run, zone *time.Location, providerName func(string) string) views.RunPage {
	page := views.RunPage{
		ID: run.ID.String(), Status: run.Status, Started: views.MomentOf(run.StartedAt, zone),
		Figures: runFigures(run), Facts: runFacts(run),
	}
	whole, calls := span(run)
	if calls > 0 {
		page.Axis = [3]string{"0", views.Duration(whole / 2), views.Duration(whole)}
	}
	for _, a := range run.Attempts {
		m := views.RunModel{
			Name: strings.TrimPrefix(a.Model, a.Provider+"/"), Provider: providerName(a.Provider), Status: a.Status, Finish: a.FinishReason,
			Called: a.Calls > 0, Facts: attemptFacts(a, zone), ErrorClass: a.ErrorClass, Message: a.ErrorMessage,
		}
		if a.DurationMs != nil && a.Calls > 0 {
			m.Took = attemptTook(a)
		}
		for _, t := range a.Tries {
			m.Tries = append(m.Tries, runTry(t, whole))
		}
		page.Models = append(page.Models, m)
	}
	return page
}

// span is how long the time line has to be, and how many calls stand on it.
func span(run history.Run) (whole time.Duration, calls int) {
	if run.DurationMs != nil {
		whole = time.Duration(*run.DurationMs) * time.Millisecond
	}
	for _, a := range run.Attempts {
		for _, t := range a.Tries {
			whole = max(whole, t.Begin+t.Duration)
			calls++
		}
	}
	return whole, calls
}

func runTry(t history.Try, whole time.Duration) views.RunTry {
	try := views.RunTry{
		Key: runKey(t.Key), Begin: views.Duration(t.Begin),
		Took:  views.Duration(max(t.Duration, 1)), // no call takes no time
		Class: t.Class, Action: t.Action, Reason: t.Reason, Bar: views.BarOf(t.Begin, t.Duration, whole),
	}
	if t.About {
		try.Begin = "about " + try.Begin
	}
	if t.HTTPStatus != 0 {
		try.HTTP = strconv.Itoa(t.HTTPStatus)
	}
	return try
}

func runKey(k *history.Key) views.RunKey {
	if k == nil {
		return views.RunKey{Deleted: true}
	}
	return views.RunKey{Label: k.Label, LastFour: k.LastFour, Source: k.Source, Deleted: k.Deleted, Withheld: k.Withheld}
}

func runFigures(run history.Run) []views.KeyFigure {
	models := int64(len(run.Attempts))
	var answered, calls int64
	for _, a := range run.Attempts {
		calls += int64(a.Calls)
		if a.Status == "ok" {
			answered++
		}
	}
	duration := views.KeyFigure{Label: "Duration", Value: "–"}
	if run.DurationMs != nil {
		duration.Value = views.Milliseconds(*run.DurationMs)
	}
	tokens := views.KeyFigure{Label: "Tokens", Value: "–"}
	if run.Tokens != nil {
		tokens.Value, tokens.Exact = views.CountShort(*run.Tokens), views.Count(*run.Tokens)
	}
	cost, unpriced := views.KeyFigure{Label: "Cost", Value: "–"}, views.KeyFigure{Label: "Unpriced", Value: "–"}
	switch {
	case run.Status == "running":
		duration.Note, cost.Note = "it goes on", "known when it ends"
		return []views.KeyFigure{duration, tokens, cost, unpriced, {Label: "Answered", Value: "–", Note: "of " + plural(models, "model", "models")}, {Label: "Calls", Value: "–"}}
	case run.Cost != nil && (run.Unpriced == 0 || !run.Cost.IsZero()):
		cost.Value, cost.Exact = views.Money(run.Cost.Decimal()), views.MoneyExact(run.Cost.Decimal())
	default:
		cost.Value = "Unknown"
	}
	unpriced.Value, unpriced.Note = views.Percent(int64(run.Unpriced), models), views.Count(int64(run.Unpriced))+" of "+plural(models, "model", "models")
	if run.Unpriced > 0 {
		cost.Note = "of what has a price"
	}
	return []views.KeyFigure{
		duration, tokens, cost, unpriced,
		{Label: "Answered", Value: views.Count(answered) + " of " + views.Count(models), Note: "models"},
		{Label: "Calls", Value: views.Count(calls), Note: "to providers"},
	}
}

// runFacts say what was asked for, without what was said.
func runFacts(run history.Run) []views.Fact {
	who := views.Fact{Label: "Learner", Value: run.Who.Email}
	if run.Who.Operator {
		who.Label, who.Note = "Operator", "on the playground"
		if run.Who.Name != "" {
			who.Value = run.Who.Name + " (" + run.Who.Email + ")"
		}
	}
	if run.Who.Email == "" {
		who.Value = "Deleted account"
	} else if run.Who.LearnerID != nil {
		who.Href = "/learners/" + run.Who.LearnerID.String()
		who.More = "/runs?" + url.Values{"learner": {run.Who.Email}}.Encode()
	}
	facts := []views.Fact{who}
	if run.Team != nil {
		facts = append(facts, views.Fact{Label: "Team", Value: cmp.Or(run.Team.Name, "Deleted team"), Href: "/runs?team=" + run.Team.ID.String()})
	}
	if run.Template != nil { // its title may not be for the reader
		facts = append(facts, views.Fact{Label: "Template", Value: cmp.Or(run.Template.Name, "A template that is gone or private"), Href: "/runs?template=" + run.Template.ID.String()})
	}
	if run.ClientRequestID != "" {
		facts = append(facts, views.Fact{Label: "Caller’s request id", Value: run.ClientRequestID, Mono: true})
	}
	streamed := views.Fact{Label: "Answer sent", Value: "as a whole"}
	if run.Stream {
		streamed.Value = "as a stream"
	}
	return append(facts, streamed, views.Fact{Label: "Settings", Value: cmp.Or(settings(run.Config), "Left to the providers")})
}

// settings are what the caller set.
func settings(c history.Config) string {
	var parts []string
	if c.Temperature != nil {
		parts = append(parts, "temperature "+strconv.FormatFloat(*c.Temperature, 'f', -1, 64))
	}
	if c.MaxTokens != nil {
		parts = append(parts, "at most "+views.Count(int64(*c.MaxTokens))+" tokens")
	}
	if c.TopP != nil {
		parts = append(parts, "top p "+strconv.FormatFloat(*c.TopP, 'f', -1, 64))
	}
	if n := len(c.Stop); n > 0 {
		parts = append(parts, plural(int64(n), "stop sequence", "stop sequences"))
	}
	if c.TimeoutMs != nil {
		parts = append(parts, "timeout "+views.Milliseconds(int64(*c.TimeoutMs)))
	}
	return strings.Join(parts, ", ")
}

// attemptFacts are all that is known of an attempt beside its calls.
func attemptFacts(a history.Attempt, zone *time.Location) []views.Fact {
	facts := []views.Fact{{Label: "Key", Value: "None"}}
	if a.Key != nil {
		facts[0].Value, facts[0].Note = runKey(a.Key).String(), "fallback key"
		switch {
		case a.Key.Withheld:
			facts[0].Note = ""
		case a.Key.Source == "user":
			facts[0].Note = "the learner’s own"
		}
	}
	add := func(label, value, note string) {
		facts = append(facts, views.Fact{Label: label, Value: value, Note: note})
	}
	if a.Status == "running" {
		return facts
	}
	if a.Calls > 0 {
		add("Duration", attemptTook(a), plural(int64(a.Calls), "call", "calls"))
	}
	if a.FirstTokenMs != nil {
		add("First text", views.Milliseconds(*a.FirstTokenMs), "after the last call")
	}
	if t := a.Tokens; t.Source != "" {
		add("Input", views.Count(t.Input), parts(part{t.CachedInput, "from cache"}, part{t.CacheWrite, "into cache"}))
		add("Output", views.Count(t.Output), parts(part{t.Reasoning, "reasoning"}))
		add("Tokens", views.Count(t.Total), t.Source)
	} else {
		add("Tokens", "–", "not known")
	}
	facts = append(facts, costFact(a))
	if a.Price != nil {
		facts = append(facts, priceFact(*a.Price, zone))
	}
	if a.FinishReason != "" {
		add("Finish reason", a.FinishReason, "")
	}
	if a.HTTPStatus != 0 {
		add("HTTP status", strconv.Itoa(a.HTTPStatus), "of the provider")
	}
	if a.RetryAfter > 0 {
		add("Retry after", views.Milliseconds(a.RetryAfter.Milliseconds()), "")
	}
	if a.ProviderRequestID != "" {
		facts = append(facts, views.Fact{Label: "Provider’s request id", Value: a.ProviderRequestID, Mono: true})
	}
	return facts
}

func attemptTook(a history.Attempt) string {
	switch {
	case a.DurationMs == nil:
		return "Unknown"
	case *a.DurationMs == 0:
		return "<1 ms"
	}
	return views.Milliseconds(*a.DurationMs)
}

var costNotes = map[string]string{
	"computed": "by the price list", "reported": "billed, says the provider", "estimated": "by the price list, from estimated tokens", "unpriced": "no price is known",
}

func costFact(a history.Attempt) views.Fact {
	fact := views.Fact{Label: "Cost", Value: "Unpriced", Note: costNotes[a.CostSource]}
	switch {
	case a.Cost != nil:
		fact.Value = views.MoneyExact(a.Cost.Decimal())
	case a.CostSource == "":
		fact.Value = "Unknown"
	}
	if a.CostSource == "" && a.Cost != nil && a.Cost.IsZero() {
		fact.Note = "nothing was used"
	}
	return fact
}

// priceFact is the row of the price list that was used.
func priceFact(p history.Price, zone *time.Location) views.Fact {
	fact := views.Fact{Label: "Price", Value: priceOf(p.Input) + " in, " + priceOf(p.Output) + " out", Note: "per million tokens"}
	fact.Href = string(views.PriceHref("/model", p.Name)) + "#price-" + strconv.FormatInt(p.ID, 10)
	if p.CacheRead != nil {
		fact.Value += ", " + priceOf(*p.CacheRead) + " from cache"
	}
	if p.CacheWrite5m != nil {
		fact.Value += ", " + priceOf(*p.CacheWrite5m) + " into cache"
	}
	if p.TierAbove != nil && p.TierInput != nil && p.TierOutput != nil {
		fact.Value += "; above " + views.Count(*p.TierAbove) + " input tokens " + priceOf(*p.TierInput) + " in, " + priceOf(*p.TierOutput) + " out"
	}
	if p.EffectiveFrom != nil {
		since := views.MomentOf(*p.EffectiveFrom, zone)
		fact.Since = &since
	}
	return fact
}

func priceOf(p price.USD) string { return views.MoneyExact(p.Decimal()) }

// part is a number that is contained in another.
type part struct {
	n    int64
	name string
}

func parts(all ...part) string {
	var written []string
	for _, p := range all {
		if p.n > 0 {
			written = append(written, views.Count(p.n)+" "+p.name)
		}
	}
	return strings.Join(written, ", ")
}
