package demo

import (
	"time"

	"github.com/promptcademy/promptops/internal/provider"
)

// model is one of the models that demo learners ask.
type model struct {
	provider, name string
	popularity     float64   // beside the others, when it is neither new nor old
	from           time.Time // came out; zero: before the demo begins
	until          time.Time // is being left for a newer one since; zero: is not
	firstToken     float64   // ms until an answer begins
	perToken       float64   // ms for each token of output
	reasoning      float64   // part of the output that is reasoning
	caches         bool      // reads long inputs from a cache
}

func (m model) id() string { return m.provider + "/" + m.name }

// share is the model's popularity at an instant: word of a new one takes three
// weeks to spread, an old one is left within six and never quite.
func (m model) share(at time.Time) float64 {
	share := m.popularity
	if !m.from.IsZero() {
		if at.Before(m.from) {
			return 0
		}
		share *= min(1, 0.1+at.Sub(m.from).Hours()/(24*21))
	}
	if !m.until.IsZero() && at.After(m.until) {
		share *= max(0.05, 1-at.Sub(m.until).Hours()/(24*42))
	}
	return share
}

func in2026(month time.Month, day int) time.Time {
	return time.Date(2026, month, day, 0, 0, 0, 0, time.UTC)
}

var models = []model{
	{"openai", "gpt-5-mini", 24, time.Time{}, in2026(9, 20), 420, 7, 0.35, true},
	{"openai", "gpt-5.4-mini", 9, time.Time{}, in2026(10, 1), 460, 8, 0.3, true},
	{"openai", "gpt-5.6-luna", 7, in2026(7, 1), time.Time{}, 380, 6, 0.3, true},
	{"openai", "gpt-5.6-sol", 4, time.Time{}, in2026(9, 29), 900, 14, 0.5, true},
	{"openai", "gpt-6-luna", 16, in2026(9, 15), time.Time{}, 310, 5, 0.25, true},
	{"openai", "gpt-6.1-sol", 9, in2026(9, 29), time.Time{}, 820, 12, 0.45, true},
	{"openai", "gpt-6.1-terra", 7, in2026(10, 26), time.Time{}, 520, 8, 0.4, true},
	{"anthropic", "claude-haiku-4-5", 15, time.Time{}, in2026(10, 7), 480, 8, 0, true},
	{"anthropic", "claude-sonnet-4-6", 5, time.Time{}, in2026(7, 15), 900, 15, 0, true},
	{"anthropic", "claude-sonnet-5", 9, in2026(6, 20), in2026(10, 7), 850, 14, 0, true},
	{"anthropic", "claude-opus-5", 3, in2026(6, 20), time.Time{}, 1400, 24, 0, true},
	{"anthropic", "claude-haiku-5-5", 15, in2026(10, 7), time.Time{}, 350, 6, 0, true},
	{"anthropic", "claude-sonnet-5-5", 12, in2026(10, 7), time.Time{}, 780, 12, 0, true},
	{"google", "gemini-2.5-flash", 10, time.Time{}, in2026(8, 10), 500, 5, 0.3, true},
	{"google", "gemini-3.5-flash-lite", 6, time.Time{}, time.Time{}, 300, 4, 0.1, true},
	{"google", "gemini-3.8-flash", 9, in2026(8, 10), time.Time{}, 430, 5, 0.3, true},
	{"mistral", "mistral-small-2603", 5, time.Time{}, time.Time{}, 350, 6, 0, false},
	{"mistral", "mistral-large-2512", 2, time.Time{}, time.Time{}, 700, 13, 0, false},
	{"groq", "openai/gpt-oss-120b", 4, time.Time{}, time.Time{}, 120, 1.8, 0.3, false},
	{"deepseek", "deepseek-v4-flash", 3, time.Time{}, time.Time{}, 900, 11, 0.2, true},
	{"xai", "grok-4.3", 2, time.Time{}, time.Time{}, 700, 9, 0.4, false},
	{"openrouter", "z-ai/glm-5.2", 2, in2026(8, 1), time.Time{}, 800, 11, 0.2, false},
	{"openrouter", "preview/unlisted-model", 0.8, in2026(10, 10), time.Time{}, 600, 9, 0, false}, // has no price
}

// spikeModels are what a team used on the one day that cost too much.
var spikeModels = []model{
	{"anthropic", "claude-opus-5", 1, time.Time{}, time.Time{}, 2600, 26, 0, false},
	{"openai", "gpt-6-sol", 1, time.Time{}, time.Time{}, 1900, 16, 0.3, false},
}

// failure is a way in which an attempt goes wrong.
type failure struct {
	often      float64
	class      provider.Class
	httpStatus int // 0: none came
	message    string
	retryAfter int64   // ms; 0: the provider did not say
	duration   float64 // ms, typically
}

var failures = []failure{
	{35, provider.ClassRateLimited, 429, "Rate limit reached for requests. Try again in 12 seconds.", 12000, 180},
	{20, provider.ClassOverloaded, 529, "The model is overloaded right now.", 0, 900},
	{12, provider.ClassTimeout, 0, "The model did not answer within 30 seconds.", 0, 30000},
	{11, provider.ClassProviderError, 500, "The provider had an internal error.", 0, 1400},
	{6, provider.ClassContentFilter, 400, "The prompt was refused by the provider's content filter.", 0, 350},
	{6, provider.ClassContextLength, 400, "The prompt is longer than the model's context window.", 0, 210},
	{5, provider.ClassNetwork, 0, "The connection to the provider broke.", 0, 5200},
	{5, provider.ClassBadRequest, 400, "The model does not support temperature.", 0, 160},
}

// keyFailures are what ends the use of a learner's own key.
var keyFailures = []failure{
	{2, provider.ClassInvalidKey, 401, "The provider does not accept this key.", 0, 140},
	{1, provider.ClassBilling, 402, "The account of this key has no credit left.", 0, 150},
}
