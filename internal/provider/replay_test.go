package provider_test

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/provider"
)

// recorded is an answer in the shape a provider gives it, and what it means.
type recorded struct {
	file     string // below testdata; the name says whether it is a stream
	provider string // default: the one that the folder is named for
	status   int    // default 200
	header   http.Header
	want     provider.Reply
	failure  *provider.Failure
}

func usd(amount string) *decimal.Decimal {
	d := decimal.RequireFromString(amount)
	return &d
}

const (
	streamedText = "Grüß Gott\n\n!"
	openAIID     = "chatcmpl-CGx1"
	anthropicID  = "msg_01XFDUDYJgAACzvnptvVoYEL"
	geminiID     = "mAitaLmkHPPlz7IPvtfUqQ4"
)

var streamedUsage = &provider.Usage{Input: 20, CachedInput: 8, Output: 12, Reasoning: 4}

func reply(text, finish string, usage *provider.Usage, id string) provider.Reply {
	return provider.Reply{Text: text, FinishReason: finish, Usage: usage, RequestID: id}
}

var answers = []recorded{
	{file: "openai/success.json", want: reply("A retrieval step fetches the recipe card; the cook then writes the dish.", "stop", &provider.Usage{Input: 20, Output: 16}, openAIID)},
	{file: "openai/cached_reasoning.json", want: reply("42", "length", &provider.Usage{Input: 2006, CachedInput: 1920, CacheWrite: 64, Output: 300, Reasoning: 128}, openAIID)},
	{file: "openai/empty_text.json", want: reply("", "stop", &provider.Usage{Input: 9}, openAIID)},
	{file: "openai/refusal.json", want: reply("I can't help with that.", "stop", &provider.Usage{Input: 9, Output: 7}, openAIID)},
	{file: "openai/tool_calls.json", want: reply("", "tool_calls", &provider.Usage{Input: 9, Output: 7}, openAIID)},
	{file: "openai/mistral_parts.json", provider: "mistral", want: reply("Bonjour !", "stop", &provider.Usage{Input: 5, Output: 10}, "cmpl-e5cc70bb28c444948073e77776eb30ef")},
	{file: "openai/xai_reasoning.json", provider: "xai", want: reply("Four.", "stop", &provider.Usage{Input: 30, CachedInput: 10, Output: 323, Reasoning: 320}, openAIID)},
	// The same numbers from anybody else cannot be right, so they count as not reported.
	{file: "openai/xai_reasoning.json", want: reply("Four.", "stop", nil, openAIID)},
	{file: "openai/deepseek_cache.json", provider: "deepseek", want: reply("Hi", "stop", &provider.Usage{Input: 100, CachedInput: 64, Output: 1}, openAIID)},
	{file: "openai/openrouter_cost.json", provider: "openrouter", want: provider.Reply{Text: "Hello", FinishReason: "stop", Cost: usd("0.0015"),
		Usage: &provider.Usage{Input: 14, Output: 163, Reasoning: 48}, RequestID: "gen-1761000000-abc"}},
	{file: "openai/openrouter_byok.json", provider: "openrouter", want: provider.Reply{Text: "Hello", FinishReason: "stop", Cost: usd("0.00105"),
		Usage: &provider.Usage{Input: 14, Output: 163}, RequestID: "gen-1761000000-abd"}},
	{file: "openai/absurd_usage.json", want: reply("Hello", "stop", nil, openAIID)},
	{file: "openai/usage_of_another_shape.json", want: reply("Hello", "stop", nil, openAIID)},
	{file: "openai/nul_in_text.json", want: reply("ab", "stop", &provider.Usage{Input: 1, Output: 1}, openAIID)},
	{file: "openai/success.json", header: http.Header{"X-Request-Id": {"req_5c1b"}},
		want: reply("A retrieval step fetches the recipe card; the cook then writes the dish.", "stop", &provider.Usage{Input: 20, Output: 16}, "req_5c1b")},

	{file: "anthropic/success.json", want: reply("Hello! Ready.", "stop", &provider.Usage{Input: 12, Output: 6}, anthropicID)},
	{file: "anthropic/cached_thinking.json", want: reply("Seven.", "stop", &provider.Usage{Input: 3097, CachedInput: 1024, CacheWrite: 2048, CacheWrite1h: 1000, Output: 180, Reasoning: 90}, anthropicID)},
	{file: "anthropic/max_tokens.json", want: reply("Once upon", "length", &provider.Usage{Input: 12, Output: 2}, anthropicID)},
	{file: "anthropic/refusal.json", want: reply("", "content_filter", &provider.Usage{Input: 12, Output: 1}, anthropicID)},
	{file: "anthropic/tool_use.json", want: reply("", "tool_calls", &provider.Usage{Input: 12, Output: 9}, anthropicID)},
	{file: "anthropic/pause_turn.json", want: reply("Wait", "pause_turn", &provider.Usage{Input: 12, Output: 9}, anthropicID)},

	{file: "gemini/success.json", want: reply("Hello there", "stop", &provider.Usage{Input: 8, Output: 5}, geminiID)},
	{file: "gemini/cached_thoughts.json", want: reply("Seven.", "stop", &provider.Usage{Input: 2030, CachedInput: 1500, Output: 210, Reasoning: 200}, geminiID)},
	{file: "gemini/max_tokens.json", want: reply("", "length", &provider.Usage{Input: 8, Output: 61, Reasoning: 61}, "r2")},
	{file: "gemini/safety.json", want: reply("", "content_filter", &provider.Usage{Input: 8}, "r3")},
	{file: "gemini/malformed_call.json", want: reply("", "MALFORMED_FUNCTION_CALL", &provider.Usage{Input: 8, Output: 5}, geminiID)},
}

var streams = []recorded{
	{file: "openai/stream.sse", want: reply(streamedText, "stop", streamedUsage, "chatcmpl-CGx2")},
	{file: "openai/stream_without_done.sse", want: reply(streamedText, "stop", streamedUsage, "chatcmpl-CGx2")},
	{file: "openai/stream_mistral.sse", provider: "mistral", want: reply(streamedText, "stop", streamedUsage, "chatcmpl-CGx2")},
	{file: "openai/stream_groq.sse", provider: "groq", want: reply(streamedText, "stop", streamedUsage, "chatcmpl-CGx2")},
	{file: "openai/stream_openrouter.sse", provider: "openrouter", want: provider.Reply{Text: streamedText, FinishReason: "stop", Usage: streamedUsage, Cost: usd("0.0000414"), RequestID: "chatcmpl-CGx2"}},
	{file: "anthropic/stream.sse", want: reply(streamedText, "stop", &provider.Usage{Input: 125, CachedInput: 100, Output: 15, Reasoning: 4}, "msg_1nZd")},
	{file: "anthropic/stream_cumulative.sse", want: reply(streamedText, "length", &provider.Usage{Input: 130, CachedInput: 100, Output: 15}, "msg_1nZd")},
	{file: "gemini/stream.sse", want: reply(streamedText, "stop", streamedUsage, "rs1")},
}

func failed(class provider.Class, message string) *provider.Failure {
	return &provider.Failure{Class: class, Message: message}
}

var refusals = []recorded{
	{file: "openai/error_invalid_key.json", status: 401, failure: failed(provider.ClassInvalidKey, "Incorrect API key provided: [key]. You can find your API key at https://platform.openai.com/account/api-keys.")},
	{file: "openai/error_ip.json", status: 401, failure: failed(provider.ClassPermission, "Your IP is not authorized to use this key.")},
	{file: "openai/error_scopes.json", status: 401, failure: failed(provider.ClassPermission, "You have insufficient permissions for this operation. Missing scopes: model.request.")},
	{file: "openai/error_country.json", status: 403, failure: failed(provider.ClassPermission, "Country, region, or territory not supported")},
	{file: "openai/error_model.json", status: 404, failure: failed(provider.ClassNotFound, "The model `gpt-99` does not exist or you do not have access to it.")},
	{file: "openai/error_context.json", status: 400, failure: failed(provider.ClassContextLength, "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.")},
	{file: "openai/error_rate.json", status: 429, header: http.Header{"Retry-After": {"20"}, "X-Request-Id": {"req_77"}}, failure: &provider.Failure{Class: provider.ClassRateLimited, RetryAfter: 20 * time.Second, RequestID: "req_77",
		Message: "Rate limit reached for gpt-5 in organization org-x on tokens per min (TPM): Limit 30000, Used 29000, Requested 4000."}},
	{file: "openai/error_slow_down.json", status: 429, header: http.Header{"Retry-After": {"20"}, "Retry-After-Ms": {"1500"}}, failure: &provider.Failure{Class: provider.ClassRateLimited, Message: "Slow down.", RetryAfter: 1500 * time.Millisecond}},
	{file: "openai/error_quota_credit_balance_exhausted.json", status: 429, header: http.Header{"Retry-After": {"20"}}, failure: failed(provider.ClassBilling, quotaMessage)},
	{file: "openai/error_quota_organization_spend_limit_exceeded.json", status: 429, failure: failed(provider.ClassBilling, quotaMessage)},
	{file: "openai/error_quota_project_spend_limit_exceeded.json", status: 429, failure: failed(provider.ClassBilling, quotaMessage)},
	{file: "openai/error_quota_organization_usage_limit_exceeded.json", status: 429, failure: failed(provider.ClassBilling, quotaMessage)},
	{file: "openai/error_quota_insufficient_quota.json", status: 429, failure: failed(provider.ClassBilling, quotaMessage)},
	{file: "openai/error_overloaded.json", status: 503, failure: failed(provider.ClassOverloaded, "The server is overloaded.")},
	{file: "openai/error_server.json", status: 500, failure: failed(provider.ClassProviderError, "The server had an error while processing your request.")},
	{file: "openai/error_temperature.json", status: 400, failure: failed(provider.ClassBadRequest, "Unsupported value: 'temperature' does not support 0.7 with this model.")},
	{file: "openai/mistral_unauthorized.json", provider: "mistral", status: 401, failure: failed(provider.ClassInvalidKey, "Unauthorized")},
	{file: "openai/mistral_validation.json", provider: "mistral", status: 422, failure: failed(provider.ClassBadRequest, "body.temperature: Input should be less than or equal to 1.5; body.messages.0.content: Field required")},
	{file: "openai/mistral_rate.json", provider: "mistral", status: 429, failure: &provider.Failure{Class: provider.ClassRateLimited, Message: "Requests rate limit exceeded", RequestID: "f0c1"}},
	{file: "openai/mistral_error.json", provider: "mistral", status: 400, failure: failed(provider.ClassNotFound, "Invalid model: mistral-xxl")},
	{file: "openai/openrouter_unauthorized.json", provider: "openrouter", status: 401, failure: failed(provider.ClassInvalidKey, "User not found.")},
	{file: "openai/openrouter_credits.json", provider: "openrouter", status: 402, failure: failed(provider.ClassBilling, "This request requires more credits, or fewer max_tokens.")},
	{file: "openai/openrouter_in_flight.json", provider: "openrouter", status: 402, header: http.Header{"Retry-After": {"3"}}, failure: &provider.Failure{Class: provider.ClassRateLimited, Message: "Too much is in flight.", RetryAfter: 3 * time.Second}},
	{file: "openai/openrouter_moderation.json", provider: "openrouter", status: 403, failure: failed(provider.ClassContentFilter, "The input was flagged")},
	{file: "openai/openrouter_upstream.json", provider: "openrouter", status: 429, failure: failed(provider.ClassRateLimited, "Provider returned error (DeepInfra: moonshotai/kimi-k2 is temporarily rate-limited upstream)")},
	{file: "openai/openrouter_in_200.json", provider: "openrouter", failure: &provider.Failure{Class: provider.ClassProviderError, HTTPStatus: 502, Message: "Internal Server Error"}},
	{file: "openai/openrouter_choice_error.json", provider: "openrouter", want: reply("Half an an", "error", nil, "gen-1"),
		failure: &provider.Failure{Class: provider.ClassOverloaded, HTTPStatus: 503, Message: "Provider disconnected", RequestID: "gen-1"}},
	{file: "openai/groq_too_large.json", provider: "groq", status: 413, failure: failed(provider.ClassContextLength, "Request too large for model `llama-3.1-8b-instant` on tokens per minute (TPM): Limit 6000, Requested 9000")},
	{file: "openai/groq_flex.json", provider: "groq", status: 498, failure: failed(provider.ClassOverloaded, "Flex tier capacity exceeded.")},
	{file: "openai/deepseek_auth.json", provider: "deepseek", status: 401, failure: failed(provider.ClassInvalidKey, "Authentication Fails, Your api key: [key] is invalid")},
	{file: "openai/deepseek_balance.json", provider: "deepseek", status: 402, failure: failed(provider.ClassBilling, "Insufficient Balance")},
	{file: "openai/xai_bad_key.json", provider: "xai", status: 400, failure: failed(provider.ClassInvalidKey, "Incorrect API key provided: [key]. You can obtain an API key from https://console.x.ai.")},
	{file: "openai/xai_bad_key_new.json", provider: "xai", status: 400, failure: failed(provider.ClassInvalidKey, "Incorrect API key provided: [key].")},
	{file: "openai/xai_no_credentials.json", provider: "xai", status: 401, failure: failed(provider.ClassInvalidKey, "No credentials were given.")},
	{file: "openai/xai_credits.json", provider: "xai", status: 429, failure: failed(provider.ClassBilling, "Your team has either used all available credits or reached its monthly spending limit.")},
	{file: "openai/xai_model.json", provider: "xai", status: 404, failure: failed(provider.ClassNotFound, "The model grok-99 does not exist or your team does not have access to it.")},
	{file: "openai/ollama.json", status: 404, failure: failed(provider.ClassNotFound, "model 'llama9' not found")},
	{file: "openai/vllm.json", status: 400, failure: failed(provider.ClassContextLength, "This model's maximum context length is 4096 tokens.")},
	{file: "openai/azure_filter.json", status: 400, failure: failed(provider.ClassContentFilter, "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.")},
	{file: "openai/stream_error.sse", provider: "openrouter", want: reply("Grüß Gott", "error", nil, "chatcmpl-CGx2"),
		failure: &provider.Failure{Class: provider.ClassRateLimited, HTTPStatus: 429, Message: "Rate limit exceeded upstream", RequestID: "chatcmpl-CGx2"}},
	{file: "openai/stream_error_plain.sse", want: reply("Grüß Gott", "", nil, "chatcmpl-CGx2"),
		failure: &provider.Failure{Class: provider.ClassProviderError, Message: "The server had an error processing your request.", RequestID: "chatcmpl-CGx2"}},

	{file: "anthropic/error_invalid.json", status: 400, failure: fromAnthropic(provider.ClassBadRequest, "max_tokens: must be greater than or equal to 1")},
	{file: "anthropic/error_spend_limit.json", status: 400, failure: fromAnthropic(provider.ClassBilling, "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.")},
	{file: "anthropic/error_credit.json", status: 400, failure: fromAnthropic(provider.ClassBilling, "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.")},
	{file: "anthropic/error_long.json", status: 400, failure: fromAnthropic(provider.ClassContextLength, "prompt is too long: 210018 tokens > 200000 maximum")},
	{file: "anthropic/error_auth.json", status: 401, failure: fromAnthropic(provider.ClassInvalidKey, "invalid x-api-key")},
	{file: "anthropic/error_billing.json", status: 402, failure: fromAnthropic(provider.ClassBilling, "Your account has a billing issue.")},
	{file: "anthropic/error_permission.json", status: 403, failure: fromAnthropic(provider.ClassPermission, "Your API key does not have permission to use the specified resource.")},
	{file: "anthropic/error_not_found.json", status: 404, failure: fromAnthropic(provider.ClassNotFound, "model: claude-9")},
	{file: "anthropic/error_conflict.json", status: 409, failure: fromAnthropic(provider.ClassBadRequest, "Conflict")},
	{file: "anthropic/error_too_large.json", status: 413, failure: fromAnthropic(provider.ClassContextLength, "Request exceeds the maximum size")},
	{file: "anthropic/error_rate.json", status: 429, failure: fromAnthropic(provider.ClassRateLimited, "This request would exceed your organization's rate limit of 50,000 input tokens per minute.")},
	{file: "anthropic/error_enforced.json", status: 429, failure: fromAnthropic(provider.ClassBilling, "The monthly limit of this tier is reached.")},
	{file: "anthropic/error_api.json", status: 500, failure: fromAnthropic(provider.ClassProviderError, "Internal server error")},
	{file: "anthropic/error_timeout.json", status: 504, failure: fromAnthropic(provider.ClassTimeout, "Request timed out")},
	{file: "anthropic/error_overloaded.json", status: 529, failure: fromAnthropic(provider.ClassOverloaded, "Overloaded")},
	{file: "anthropic/error_auth.json", failure: fromAnthropic(provider.ClassInvalidKey, "invalid x-api-key")}, // inside HTTP 200
	{file: "anthropic/error_permission.json", failure: fromAnthropic(provider.ClassPermission, "Your API key does not have permission to use the specified resource.")},
	{file: "anthropic/stream_error.sse", want: reply("Grüß", "", nil, "msg_1nZd"),
		failure: &provider.Failure{Class: provider.ClassOverloaded, Message: "Overloaded", RequestID: "req_9"}},
	{file: "anthropic/stream_not_stopped.sse", want: reply(streamedText, "stop", &provider.Usage{Input: 125, CachedInput: 100, Output: 15}, "msg_1nZd"),
		failure: &provider.Failure{Class: provider.ClassNetwork, Message: "The connection to Anthropic failed: the stream ended early.", RequestID: "msg_1nZd"}},

	{file: "gemini/error_key.json", status: 400, failure: failed(provider.ClassInvalidKey, "API key not valid. Please pass a valid API key.")},
	{file: "gemini/error_token_type.json", status: 401, failure: failed(provider.ClassInvalidKey, "Request had invalid authentication credentials.")},
	{file: "gemini/error_permission.json", status: 403, failure: failed(provider.ClassPermission, "The caller does not have permission")},
	{file: "gemini/error_leaked.json", status: 403, failure: failed(provider.ClassInvalidKey, "Your API key was reported as leaked. Please use another API key.")},
	{file: "gemini/error_payment.json", status: 402, failure: failed(provider.ClassBilling, "Payment is required.")},
	{file: "gemini/error_per_minute.json", status: 429, failure: &provider.Failure{Class: provider.ClassRateLimited, RetryAfter: 34074824224,
		Message: "You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: generate_requests, limit: 15 Please retry in 34.07s."}},
	{file: "gemini/error_per_day.json", status: 429, failure: &provider.Failure{Class: provider.ClassRateLimited, RetryAfter: time.Hour, Message: "You exceeded your current quota."}},
	{file: "gemini/error_tokens.json", status: 400, failure: failed(provider.ClassContextLength, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).")},
	{file: "gemini/error_argument.json", status: 400, failure: failed(provider.ClassBadRequest, "Invalid value at 'generation_config.temperature'")},
	{file: "gemini/error_not_found.json", status: 404, failure: failed(provider.ClassNotFound, "models/gemini-9 is not found for API version v1beta.")},
	{file: "gemini/error_cancelled.json", status: 499, failure: failed(provider.ClassProviderError, "The operation was cancelled.")},
	{file: "gemini/error_internal.json", status: 500, failure: failed(provider.ClassProviderError, "An internal error has occurred.")},
	{file: "gemini/error_unavailable.json", status: 503, failure: failed(provider.ClassOverloaded, "The model is overloaded. Please try again later.")},
	{file: "gemini/error_deadline.json", status: 504, failure: failed(provider.ClassTimeout, "Deadline expired before operation could complete.")},
	{file: "gemini/error_array.json", status: 400, failure: failed(provider.ClassInvalidKey, "API key not valid. Please pass a valid API key.")},
	{file: "gemini/blocked.json", want: reply("", "", &provider.Usage{Input: 8}, "r4"),
		failure: &provider.Failure{Class: provider.ClassContentFilter, Message: "The prompt was blocked (PROHIBITED_CONTENT).", RequestID: "r4"}},
	{file: "gemini/stream_blocked.sse", want: reply("", "", &provider.Usage{Input: 8}, "r4"),
		failure: &provider.Failure{Class: provider.ClassContentFilter, Message: "The prompt was blocked (SAFETY).", RequestID: "r4"}},
	{file: "gemini/stream_error.sse", want: reply("Grüß", "", &provider.Usage{Input: 20}, "rs1"),
		failure: &provider.Failure{Class: provider.ClassOverloaded, HTTPStatus: 503, Message: "The model is overloaded. Please try again later.", RequestID: "rs1"}},
}

const quotaMessage = "You exceeded your current quota, please check your plan and billing details."

func fromAnthropic(class provider.Class, message string) *provider.Failure {
	return &provider.Failure{Class: class, Message: message, RequestID: "req_011CSHoEeqs5C35K2UUqR7Fy"}
}

// replay serves body as the answer r was recorded with and asks for it.
func replay(t *testing.T, r recorded, body []byte) (provider.Reply, *provider.Failure) {
	t.Helper()
	stream := strings.HasSuffix(r.file, ".sse")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if stream {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		maps.Copy(w.Header(), r.header)
		if r.status != 0 {
			w.WriteHeader(r.status)
		}
		_, _ = w.Write(body)
	}))
	defer server.Close()
	got, failure := complete(t.Context(), t, clientAt(t, r, server.URL), ask("some-model", "Why?"), stream)
	if accepted := r.status == 0 || r.status/100 == 2; got.Accepted != accepted {
		t.Errorf("an answer of HTTP %d is accepted: %v", max(r.status, 200), got.Accepted)
	}
	return got, failure
}

func clientAt(t *testing.T, r recorded, baseURL string) provider.Client {
	t.Helper()
	id := r.provider
	if id == "" {
		id, _, _ = strings.Cut(r.file, "/")
	}
	if id == "gemini" {
		id = "google"
	}
	i := slices.IndexFunc(provider.Known, func(s provider.Spec) bool { return s.ID == id })
	if i < 0 {
		t.Fatalf("no provider %q", id)
	}
	spec := provider.Known[i]
	spec.BaseURL = baseURL
	return provider.New(spec, nil)
}

func load(t *testing.T, file string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

var sameReply = cmp.Options{
	cmpopts.IgnoreFields(provider.Reply{}, "FirstToken", "Accepted"), // replay has checked the latter
	cmp.Comparer(func(a, b *decimal.Decimal) bool { return a == b || a != nil && b != nil && a.Equal(*b) }),
}

func TestRecordedAnswers(t *testing.T) {
	for _, r := range slices.Concat(answers, streams) {
		t.Run(r.file, func(t *testing.T) {
			got, failure := replay(t, r, load(t, r.file))
			if failure != nil {
				t.Fatal(failure)
			}
			if diff := cmp.Diff(r.want, got, sameReply); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRecordedFailures(t *testing.T) {
	for _, r := range refusals {
		t.Run(r.file, func(t *testing.T) {
			got, failure := replay(t, r, load(t, r.file))
			want := *r.failure
			if want.HTTPStatus == 0 && want.Class != provider.ClassNetwork {
				want.HTTPStatus = max(r.status, 200)
			}
			if diff := cmp.Diff(&want, failure); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(r.want, got, sameReply); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A stream means the same however its lines end and whatever stands between
// its events.
func TestRecordedStreamsInOtherDress(t *testing.T) {
	dresses := map[string]func([]byte) []byte{
		"crlf": func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) },
		"cr":   func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r")) },
		"bom":  func(b []byte) []byte { return append([]byte("\ufeff"), b...) },
		"comments": func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("\n\n"), []byte("\n: keep-alive\n\n\n: x\n\n"))
		},
		"ids":        func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("data: "), []byte("id: 7\nretry: 3\ndata:")) },
		"many lines": func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`", "`), []byte("\",\ndata: \"")) },
		"huge lines": func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("data: {"), []byte("data: {"+strings.Repeat(" ", 1<<20)))
		},
		"cut at end":  func(b []byte) []byte { return bytes.TrimRight(b, "\n") },
		"more events": func(b []byte) []byte { return append([]byte("event: ping\ndata: {\"type\":\"ping\"}\n\n"), b...) },
	}
	for _, r := range streams {
		for name, dress := range dresses {
			t.Run(r.file+"/"+name, func(t *testing.T) {
				got, failure := replay(t, r, dress(load(t, r.file)))
				if failure != nil {
					t.Fatal(failure)
				}
				if diff := cmp.Diff(r.want, got, sameReply); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// A stream that ends too early is a failure that keeps the text so far, never
// an answer.
func TestRecordedStreamsCutShort(t *testing.T) {
	for _, r := range streams {
		t.Run(r.file, func(t *testing.T) {
			whole := load(t, r.file)
			for n := 0; n < len(whole); n += 37 {
				part := whole[:n]
				got, failure := replay(t, r, part)
				if failure == nil {
					// Complete is what says why the model stopped; Anthropic also says when.
					complete := bytes.Contains(part, []byte(`"finish_reason": "stop"`)) || bytes.Contains(part, []byte(`"finishReason": "STOP"`)) || bytes.Contains(part, []byte("message_stop\"}"))
					if !complete || got.Text != r.want.Text {
						t.Errorf("%d of %d bytes passed for an answer: %+v", n, len(whole), got)
					}
					continue
				}
				if failure.Class != provider.ClassNetwork || !strings.HasPrefix(r.want.Text, got.Text) {
					t.Errorf("%d of %d bytes: %v, text %q", n, len(whole), failure, got.Text)
				}
			}
		})
	}
}

func TestEveryRecordingIsReplayed(t *testing.T) {
	replayed := map[string]bool{}
	for _, r := range slices.Concat(answers, streams, refusals) {
		replayed[r.file] = true
	}
	files, err := filepath.Glob("testdata/*/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, file := range files {
		name := filepath.ToSlash(strings.TrimPrefix(file, "testdata"+string(filepath.Separator)))
		if !strings.HasPrefix(name, "fuzz/") && !replayed[name] {
			t.Errorf("%s is not replayed", name)
		}
	}
}
