package views

import (
	"strconv"
)

// PlaygroundPage sends one prompt to several models. Without JavaScript the
// form is posted and Run holds what came back; with it playground.js streams
// the answers into the same markup.
type PlaygroundPage struct {
	Page
	Prompt      string
	System      string
	Temperature string // as typed; "" leaves it to the provider
	MaxTokens   string // as typed; "" leaves it to the provider
	Other       string // a model typed by hand, "provider/model"
	Groups      []ModelGroup
	MaxModels   int             // most models of one run
	Problems    []FieldProblem  // why the form was refused
	Run         *PlaygroundRun  // nil: nothing was run yet
	Origin      string          // "https://ops.example.org": where the curl line goes
	Classes     map[string]Hint // ErrorHints; every card uses them
}

// ModelGroup is the models under one heading. Suggested ones come first, in a
// group of their own.
type ModelGroup struct {
	Heading string // "Suggested" or the provider's name
	Models  []ModelChoice
}

// ModelChoice is one model that can be ticked.
type ModelChoice struct {
	Value    string // "openai/gpt-5-mini"
	Label    string // "gpt-5-mini", or the whole Value under "Suggested"
	Note     string // "$0.25 in, $2.00 out per million tokens"; may be empty
	Selected bool
}

// FieldProblem is one bad value: the field as the run endpoint names it.
type FieldProblem struct {
	Field   string
	Message string
}

// PlaygroundRun is a run that is over.
type PlaygroundRun struct {
	RequestID string
	Status    string // "success", "partial" or "error"
	Duration  string
	Tokens    string
	Cost      string
	Unpriced  string // results without a price, "1"; "" when there are none
	Results   []PlaygroundResult
}

// PlaygroundResult is one model's answer, in the order in which it was asked.
type PlaygroundResult struct {
	Model      string // "openai/gpt-5-mini"
	State      string // "waiting", "streaming", "ok" or "error"
	Output     string
	KeySource  string // "user", "fallback" or "" when nobody's key was used
	Cost       string // "$0.00079", "Unpriced", or "–" when there is no usage
	CostNote   string // "estimated" or "reported"; "" when it was computed
	Input      string // "20 (12 cached)"
	OutputUsed string // "392 (128 reasoning)"
	Duration   string
	FirstToken string
	Finish     string // "stop"; "length" is shown as cut off
	ErrorClass string // "rate_limited"; "" when State is not "error"
	Message    string // what the provider or we said, scrubbed
}

// Hint is what an error class means and what to do about it.
type Hint struct {
	Label  string `json:"label"`
	Advice string `json:"advice"`
}

// ErrorHints returns the hint of every error class of the run endpoint.
func ErrorHints() map[string]Hint {
	return map[string]Hint{
		"missing_key":     {"No key", "There is no usable key for this provider. Add a fallback key: promptops key add."},
		"invalid_key":     {"Key refused", "The provider refused the key. Test it with promptops key test, then replace it."},
		"permission":      {"Not allowed", "The key may not use this model. Allow it in the provider's console, or use another key."},
		"billing":         {"Billing", "The provider wants payment or more credit. Settle it in the provider's console."},
		"rate_limited":    {"Rate limited", "Too many requests for this key. Wait a moment, or add a second fallback key."},
		"overloaded":      {"Overloaded", "The provider has no capacity just now. Try again in a minute."},
		"context_length":  {"Too long", "Prompt and answer do not fit this model. Shorten the prompt, lower the token limit, or choose a larger model."},
		"content_filter":  {"Filtered", "The provider's filter stopped the prompt or the answer. Rephrase the prompt."},
		"bad_request":     {"Bad request", "The provider does not accept these settings for this model. Leave temperature and token limit empty and try again."},
		"not_found":       {"Unknown model", "The provider does not know this model. Check its name."},
		"timeout":         {"Timed out", "No complete answer in time. Try again, or ask for a shorter answer."},
		"network":         {"No connection", "The provider could not be reached. Check the network and the provider's address."},
		"provider_error":  {"Provider error", "The provider failed. Try again; look at its status page if it keeps failing."},
		"budget_exceeded": {"Over budget", "The budget for fallback keys is used up. Raise it, or use a key of your own."},
		"cancelled":       {"Cancelled", "The run was stopped before this answer was complete."},
		"interrupted":     {"Interrupted", "The server stopped during this run. Run it again."},
	}
}

// hint falls back to the class's own name for one that has no hint yet.
func (p PlaygroundPage) hint(class string) Hint {
	if h, ok := p.Classes[class]; ok {
		return h
	}
	return Hint{Label: class}
}

// stateLabel is the word in a card's corner.
func (p PlaygroundPage) stateLabel(r PlaygroundResult) (label, kind string) {
	switch r.State {
	case "ok":
		if r.Finish == "length" {
			return "Cut off", "warning"
		}
		return "Done", "success"
	case "error":
		return p.hint(r.ErrorClass).Label, "error"
	case "streaming":
		return "Answering", "info"
	default:
		return "Waiting", "info"
	}
}

// keyLabel says whose key paid.
func keyLabel(source string) string {
	switch source {
	case "user":
		return "Own key"
	case "fallback":
		return "Fallback key"
	default:
		return "–"
	}
}

// runLabel says how a run went, and in which tone.
func runLabel(status string) (label, kind string) {
	switch status {
	case "success":
		return "All answered", "success"
	case "partial":
		return "Some answered", "warning"
	default:
		return "None answered", "error"
	}
}

// dash stands for a value that there is none of.
func dash(value string) string {
	if value == "" {
		return "–"
	}
	return value
}

// chosen returns the ticked models and the one typed by hand.
func (p PlaygroundPage) chosen() []string {
	var models []string
	for _, g := range p.Groups {
		for _, m := range g.Models {
			if m.Selected {
				models = append(models, m.Value)
			}
		}
	}
	if p.Other != "" {
		models = append(models, p.Other)
	}
	return models
}

// curl is the same run as a command line; the token stays in the environment.
func (p PlaygroundPage) curl() string {
	body := struct {
		Prompt string         `json:"prompt"`
		System string         `json:"system,omitempty"`
		Models []string       `json:"models"`
		Config map[string]any `json:"config,omitempty"`
	}{p.Prompt, p.System, p.chosen(), map[string]any{}}
	if t, err := strconv.ParseFloat(p.Temperature, 64); err == nil {
		body.Config["temperature"] = t
	}
	if n, err := strconv.Atoi(p.MaxTokens); err == nil {
		body.Config["maxTokens"] = n
	}
	return curl(p.Origin, body)
}

// chosenText counts the ticked models for the bar under the prompt.
func chosenText(n, most int) string {
	switch {
	case n == 0:
		return "No model chosen"
	case n == 1:
		return "1 model"
	case n > most:
		return strconv.Itoa(n) + " models: " + strconv.Itoa(n-most) + " too many"
	default:
		return strconv.Itoa(n) + " models"
	}
}
