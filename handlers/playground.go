package handlers

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/views"
)

const playgroundPath = "/playground"

// suggested models: cheap, current, and one of each wire format.
var suggested = []string{"openai/gpt-5-mini", "anthropic/claude-haiku-5-5", "google/gemini-3.8-flash", "mistral/mistral-small-2603"}

// playgroundPage is GET /playground.
func (s *Server) playgroundPage(c echo.Context) error {
	page := s.playground(c, playgroundForm{Models: suggested[:3]})
	return s.render(c, http.StatusOK, views.Playground(page))
}

// playgroundRun is POST /playground: the form without JavaScript. With it, the
// page itself talks to the run endpoint.
func (s *Server) playgroundRun(c echo.Context) error {
	form, err := readPlaygroundForm(c)
	if err != nil {
		return err
	}
	page := s.playground(c, form)
	req, err := run.ParseRequest(form.body(), s.isProvider)
	if err == nil {
		var envelope run.Envelope
		if envelope, err = s.Runner.Run(c.Request().Context(), runCall(c, req), nil); err == nil {
			page.Run = playgroundResult(envelope)
			return s.render(c, http.StatusOK, views.Playground(page))
		}
	}
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || len(f.Details) == 0 {
		return err
	}
	for _, detail := range f.Details {
		page.Problems = append(page.Problems, views.FieldProblem(detail))
	}
	return s.render(c, statusOf[f.Kind], views.Playground(page))
}

// playgroundForm is the form as it was typed.
type playgroundForm struct {
	Prompt, System, Temperature, MaxTokens, Other string
	Models                                        []string
}

func readPlaygroundForm(c echo.Context) (playgroundForm, error) {
	c.Request().Body = http.MaxBytesReader(c.Response(), c.Request().Body, run.MaxBody)
	values, err := c.FormParams()
	if err != nil {
		if f := asFault(err); f.Kind == fault.TooLarge {
			return playgroundForm{}, f
		}
		return playgroundForm{}, fault.New(fault.Malformed, "The form could not be read.").Because(err)
	}
	return playgroundForm{
		Prompt: values.Get("prompt"), System: values.Get("system"),
		Temperature: strings.TrimSpace(values.Get("temperature")), MaxTokens: strings.TrimSpace(values.Get("maxTokens")),
		Other: strings.TrimSpace(values.Get("other")), Models: values["models"],
	}, nil
}

// body is the form as the run endpoint takes it, so that both are checked by the
// same rules. What is not a number goes along as it is, to be refused by name.
func (f playgroundForm) body() []byte {
	models := slices.Clone(f.Models)
	if f.Other != "" {
		models = append(models, f.Other)
	}
	config := map[string]any{}
	for name, typed := range map[string]string{"temperature": f.Temperature, "maxTokens": f.MaxTokens} {
		if n, err := strconv.ParseFloat(typed, 64); err == nil {
			config[name] = n
		} else if typed != "" {
			config[name] = typed
		}
	}
	body := map[string]any{"prompt": f.Prompt, "models": models, "config": config}
	if f.System != "" {
		body["system"] = f.System
	}
	encoded, _ := json.Marshal(body) // strings, numbers and lists of them always marshal
	return encoded
}

func (s *Server) playground(c echo.Context, form playgroundForm) views.PlaygroundPage {
	return views.PlaygroundPage{
		Page: s.page(c, "Playground"), Prompt: form.Prompt, System: form.System,
		Temperature: form.Temperature, MaxTokens: form.MaxTokens, Other: form.Other,
		Groups: s.modelGroups(form.Models), MaxModels: run.MaxModels, Origin: s.BaseURL, Classes: views.ErrorHints(),
	}
}

// modelGroups are the models that have a price today, by provider, the suggested
// ones first.
func (s *Server) modelGroups(selected []string) []views.ModelGroup {
	groups := []views.ModelGroup{{Heading: "Suggested"}}
	place := map[string]int{}
	for _, spec := range s.Providers.Specs() {
		place[spec.ID] = len(groups)
		groups = append(groups, views.ModelGroup{Heading: spec.Name})
	}
	for _, listed := range s.Prices.Book().Current(s.Now()) {
		at, ok := place[listed.Provider]
		if !ok {
			continue
		}
		choice := views.ModelChoice{
			Value: listed.Provider + "/" + listed.Model, Label: listed.Model, Note: priceNote(listed),
		}
		choice.Selected = slices.Contains(selected, choice.Value)
		if slices.Contains(suggested, choice.Value) {
			choice.Label, at = choice.Value, 0
		}
		groups[at].Models = append(groups[at].Models, choice)
	}
	return slices.DeleteFunc(groups, func(g views.ModelGroup) bool { return len(g.Models) == 0 })
}

func priceNote(p price.Price) string {
	return views.MoneyExact(p.Input.Decimal()) + " in, " + views.MoneyExact(p.Output.Decimal()) + " out per million tokens"
}

func playgroundResult(e run.Envelope) *views.PlaygroundRun {
	page := &views.PlaygroundRun{
		RequestID: e.RequestID.String(), Status: string(e.Status), Duration: views.Milliseconds(e.DurationMs),
		Tokens: views.Count(e.TotalTokens), Cost: views.MoneyExact(e.TotalCost.Decimal()),
	}
	if e.Unpriced > 0 {
		page.Unpriced = strconv.Itoa(e.Unpriced)
	}
	for _, result := range e.Results {
		page.Results = append(page.Results, playgroundAnswer(result))
	}
	return page
}

func playgroundAnswer(r run.Result) views.PlaygroundResult {
	answer := views.PlaygroundResult{Model: r.Model, State: string(r.Status), Duration: views.Milliseconds(r.DurationMs), Cost: "Unpriced"}
	if r.Output != nil {
		answer.Output = *r.Output
	}
	if r.FinishReason != nil {
		answer.Finish = *r.FinishReason
	}
	if r.KeySource != nil {
		answer.KeySource = string(*r.KeySource)
	}
	if r.Cost != nil {
		answer.Cost = views.MoneyExact(r.Cost.Decimal())
	}
	if r.CostSource != nil && (*r.CostSource == run.Estimated || *r.CostSource == run.Reported) {
		answer.CostNote = string(*r.CostSource)
	}
	if r.FirstTokenMs != nil {
		answer.FirstToken = views.Milliseconds(*r.FirstTokenMs)
	}
	if u := r.Usage; u != nil {
		answer.Input = withPart(u.InputTokens, u.CachedInputTokens, "cached")
		answer.OutputUsed = withPart(u.OutputTokens, u.ReasoningTokens, "reasoning")
	}
	if r.Error != nil {
		answer.ErrorClass, answer.Message = string(r.Error.Class), r.Error.Message
		if r.Error.Class == provider.ClassCancelled {
			answer.State = "error"
		}
	}
	return answer
}

// withPart writes "392 (128 reasoning)".
func withPart(n, part int64, name string) string {
	if part == 0 {
		return views.Count(n)
	}
	return views.Count(n) + " (" + views.Count(part) + " " + name + ")"
}
