package telemetry_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/internal/telemetry"
)

// What must never leave the house.
const (
	secretPrompt  = "Zebedee-the-prompt"
	secretOutput  = "Florence-the-output"
	secretMessage = "Dougal-the-provider-said"
)

var (
	keyID     = uuid.MustParse("11111111-2222-4333-8444-555555555555")
	learnerID = uuid.MustParse("66666666-7777-4888-8999-aaaaaaaaaaaa")
	noon      = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
)

// listed are the models that have a price.
func listed(providerID, model string) bool {
	return providerID == "openai" && model == "gpt-5-mini" || providerID == "google" && model == "gemini-3.8-flash"
}

func ptr[T any](v T) *T { return &v }

func usd(t testing.TB, s string) *price.USD {
	t.Helper()
	amount, err := decimal.NewFromString(s)
	must(t, err)
	return ptr(price.NewUSD(amount))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// finished is a run of two models: OpenAI answers at the second try, with a
// fallback key, Google not at all.
func finished(t testing.TB) run.Finished {
	id := run.NewID(noon)
	return run.Finished{
		Call: run.Call{
			ID: id, LearnerID: &learnerID,
			Request: run.Request{
				Prompt: secretPrompt, System: secretPrompt, Messages: []provider.Message{{Role: provider.RoleUser, Content: secretPrompt}},
				Models: []string{"openai/gpt-5-mini", "google/gemini-3.8-flash"}, Stream: true,
				Config: run.Config{Temperature: ptr(0.5), MaxTokens: ptr(64), TopP: ptr(0.9), Stop: []string{secretPrompt}},
			},
		},
		StartedAt: noon, EndedAt: noon.Add(2 * time.Second),
		Envelope: run.Envelope{
			RequestID: id, Status: run.Partial, DurationMs: 2000, TotalTokens: 412, TotalCost: *usd(t, "0.00079"),
			Results: []run.Result{
				{
					Model: "openai/gpt-5-mini", Provider: "openai", Status: run.AttemptOK, Output: ptr(secretOutput), FinishReason: ptr("stop"),
					Usage: &run.Usage{InputTokens: 20, CachedInputTokens: 5, CacheWriteTokens: 2, OutputTokens: 392, ReasoningTokens: 128, TotalTokens: 412, Source: "reported"},
					Cost:  usd(t, "0.00079"), CostSource: ptr(run.Computed), KeySource: ptr(key.Fallback),
					DurationMs: 1830, FirstTokenMs: ptr(int64(412)), Attempts: 2,
				},
				{
					Model: "google/gemini-3.8-flash", Provider: "google", Status: run.AttemptError, Output: ptr(secretOutput),
					Cost: usd(t, "0"), KeySource: ptr(key.User), DurationMs: 90, Attempts: 1,
					Error: &run.Error{Class: provider.ClassContentFilter, Message: secretMessage, HTTPStatus: 400},
				},
			},
		},
		Tries: [][]run.Try{
			{
				{StartedAt: noon.Add(10 * time.Millisecond), Duration: 50 * time.Millisecond, KeyID: keyID, KeySource: key.User,
					Class: provider.ClassInvalidKey, HTTPStatus: 401, Action: run.NextKey, Reason: "the key was refused"},
				{StartedAt: noon.Add(60 * time.Millisecond), Duration: 1780 * time.Millisecond, KeyID: keyID, KeySource: key.Fallback,
					HTTPStatus: 200, FirstToken: 412 * time.Millisecond, Action: run.Done, ProviderCall: "call-1"},
			},
			{
				{StartedAt: noon.Add(10 * time.Millisecond), Duration: 80 * time.Millisecond, KeyID: keyID, KeySource: key.User,
					Class: provider.ClassContentFilter, HTTPStatus: 400, Action: run.GiveUp, Reason: secretMessage},
			},
		},
	}
}

// of is a run of one model without calls: key missing, or answered.
func of(model string, ok bool) run.Finished {
	id, _, _ := provider.Split(model)
	result := run.Result{Model: model, Provider: id, Status: run.AttemptOK, KeySource: ptr(key.User)}
	if !ok {
		result = run.Result{Model: model, Provider: id, Status: run.AttemptError, Cost: &price.USD{}, Error: &run.Error{Class: provider.ClassMissingKey}}
	}
	return run.Finished{StartedAt: noon, EndedAt: noon, Envelope: run.Envelope{Status: run.Success, Results: []run.Result{result}}}
}

func newMetrics() *telemetry.Metrics {
	pool := func() telemetry.Pool {
		return telemetry.Pool{Acquired: 3, Idle: 4, Max: 16, Acquires: 100, Waits: 7, Waited: 1500 * time.Millisecond}
	}
	return telemetry.NewMetrics("v1.2.3", telemetry.NewModels(listed), map[string]func() telemetry.Pool{"runs": pool})
}
