package handlers

import (
	"cmp"
	"net/http"
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

// runPage is GET /runs/:id.
func (s *Server) runPage(c echo.Context) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return fault.New(fault.NotFound, "This is no id of a run.").Because(err)
	}
	run, err := s.History.Run(c.Request().Context(), id)
	if err != nil {
		return err
	}
	page := runView(run, s.zone(c), s.providerName)
	page.Page = s.page(c, "Run "+id.String())
	return s.render(c, http.StatusOK, views.Run(page))
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
	return views.RunKey{Label: k.Label, LastFour: k.LastFour, Source: k.Source, Deleted: k.Deleted}
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
	}
	facts := []views.Fact{who}
	if run.Team != nil {
		facts = append(facts, views.Fact{Label: "Team", Value: cmp.Or(run.Team.Name, "Deleted team")})
	}
	if run.Template != nil {
		facts = append(facts, views.Fact{Label: "Template", Value: cmp.Or(run.Template.Name, "Deleted template")})
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
		if a.Key.Source == "user" {
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
