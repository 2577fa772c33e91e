package provider_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/provider/sandbox"
)

const secret = "sandbox-T0pS3cretQ7xW9zLkM2nB4vC6"

// models has one name per known provider that the sandbox takes for a model
// that reasons.
var models = map[string]string{
	"openai":     "gpt-5-mini",
	"anthropic":  "claude-opus-5-5",
	"google":     "gemini-3.5-flash",
	"mistral":    "magistral-medium",
	"openrouter": "openai/gpt-6-sol",
	"groq":       "openai/gpt-oss-120b",
	"deepseek":   "deepseek-v4-flash",
	"xai":        "grok-4.5",
}

func startSandbox(t testing.TB) (*sandbox.Server, *provider.Registry) {
	t.Helper()
	server, err := sandbox.Start(t.Context(), "127.0.0.1:0", sandbox.NoDelay)
	if err != nil {
		t.Fatal(err)
	}
	registry := provider.NewRegistry(provider.NewHTTPClient(), nil)
	registry.UseSandbox(server.URL)
	return server, registry
}

// everyProvider runs a test for each known provider, whole and streamed.
func everyProvider(t *testing.T, test func(t *testing.T, id, model string, c provider.Client, stream bool)) {
	_, registry := startSandbox(t)
	for _, spec := range provider.Known {
		model, ok := models[spec.ID]
		if !ok {
			t.Fatalf("no model to test %s with", spec.ID)
		}
		c, ok := registry.Client(spec.ID, true)
		if !ok {
			t.Fatalf("no client for %s", spec.ID)
		}
		for _, stream := range []bool{false, true} {
			name := spec.ID + "/whole"
			if stream {
				name = spec.ID + "/stream"
			}
			t.Run(name, func(t *testing.T) { test(t, spec.ID, model, c, stream) })
		}
	}
}

// complete makes a call and checks what holds for every call.
func complete(ctx context.Context, t *testing.T, c provider.Client, call provider.Call, stream bool) (provider.Reply, *provider.Failure) {
	t.Helper()
	var heard strings.Builder
	var onText func(string)
	if stream {
		onText = func(text string) { heard.WriteString(text) }
	}
	reply, err := c.Complete(ctx, call, onText)
	if stream && heard.String() != reply.Text {
		t.Errorf("streamed %q, but the reply says %q", heard.String(), reply.Text)
	}
	if streamed := stream && reply.Text != ""; (reply.FirstToken > 0) != streamed {
		t.Errorf("FirstToken = %v with text %.20q, stream %v", reply.FirstToken, reply.Text, stream)
	}
	if err == nil {
		return reply, nil
	}
	failure, ok := errors.AsType[*provider.Failure](err)
	if !ok {
		t.Fatalf("error is a %T, not a *Failure: %v", err, err)
	}
	if failure.Message == "" || len([]rune(failure.Message)) > 300 || strings.ContainsAny(failure.Message, "\r\n\x00") || strings.Contains(failure.Message, "</") {
		t.Errorf("not fit to be shown: %q", failure.Message)
	}
	noSecret(t, call.Secret, failure.Error(), failure.RequestID, reply.RequestID, reply.FinishReason)
	return reply, failure
}

// noSecret fails if six characters of secret in a row are in any of texts.
func noSecret(t *testing.T, secret string, texts ...string) {
	t.Helper()
	for i := 0; i+6 <= len(secret); i++ {
		for _, text := range texts {
			if strings.Contains(strings.ToLower(text), strings.ToLower(secret[i:i+6])) {
				t.Errorf("%q gives away %q of the key", text, secret[i:i+6])
				return
			}
		}
	}
}

func ask(model, prompt string) provider.Call {
	return provider.Call{Secret: secret, Model: model, Messages: []provider.Message{{Role: provider.RoleUser, Content: prompt}}}
}

func TestEveryProviderAnswers(t *testing.T) {
	everyProvider(t, func(t *testing.T, id, model string, c provider.Client, stream bool) {
		call := ask(model, strings.Repeat("Explain how a bakery plans its night, step by step. ", 150))
		call.Messages = append([]provider.Message{
			{Role: provider.RoleSystem, Content: "Be brief & <kind>"},
			{Role: provider.RoleUser, Content: "Hello"},
			{Role: provider.RoleAssistant, Content: "Good morning"},
		}, call.Messages...)
		reply, failure := complete(t.Context(), t, c, call, stream)
		if failure != nil {
			t.Fatal(failure)
		}
		if !strings.Contains(reply.Text, "sandbox") || !strings.Contains(reply.Text, "conversation of 3 messages") || !strings.Contains(reply.Text, "“Be brief & <kind>”") {
			t.Errorf("text = %q", reply.Text)
		}
		if reply.FinishReason != "stop" || reply.RequestID == "" || reply.Usage == nil {
			t.Fatalf("reply = %+v", reply)
		}
		u := *reply.Usage
		if u.Input < 1500 || u.CachedInput < 600 || u.CachedInput >= u.Input || u.Reasoning < 16 || u.Output <= u.Reasoning {
			t.Errorf("usage = %+v", u)
		}
		if isAnthropic := id == "anthropic"; (u.CacheWrite > 0) != isAnthropic || (u.CacheWrite1h > 0) != isAnthropic {
			t.Errorf("cache writes = %+v", u)
		}
		if isOpenRouter := id == "openrouter"; (reply.Cost != nil) != isOpenRouter {
			t.Errorf("cost = %v", reply.Cost)
		}
	})
}

// What the sandbox counts and what the adapters understand must be the same to
// the last token.
func TestUsageIsWhatTheSandboxBilled(t *testing.T) {
	server, registry := startSandbox(t)
	want := map[string]provider.Usage{}
	for _, spec := range provider.Known {
		c, _ := registry.Client(spec.ID, true)
		for _, stream := range []bool{false, true} {
			for _, prompt := range []string{"Why is the sky blue?", strings.Repeat("A long prompt. ", 800)} {
				reply, failure := complete(t.Context(), t, c, ask(models[spec.ID], prompt), stream)
				if failure != nil || reply.Usage == nil {
					t.Fatalf("%s: %v, usage %v", spec.ID, failure, reply.Usage)
				}
				sum := want[spec.ID]
				sum.Input += reply.Usage.Input
				sum.CachedInput += reply.Usage.CachedInput
				sum.CacheWrite += reply.Usage.CacheWrite
				sum.Output += reply.Usage.Output
				sum.Reasoning += reply.Usage.Reasoning
				want[spec.ID] = sum
			}
		}
	}
	got := map[string]provider.Usage{}
	for _, b := range server.Billed() {
		if b.Calls != 4 || b.Unfinished != 0 {
			t.Errorf("%s: %d calls, %d unfinished", b.Provider, b.Calls, b.Unfinished)
		}
		got[b.Provider] = provider.Usage{Input: b.Input, CachedInput: b.Cached, CacheWrite: b.CacheWrite, Output: b.Output, Reasoning: b.Reasoning}
	}
	if diff := cmp.Diff(got, want, cmpopts.IgnoreFields(provider.Usage{}, "CacheWrite1h")); diff != "" {
		t.Errorf("billed (-) and understood (+):\n%s", diff)
	}
}

func TestLimitsAndStops(t *testing.T) {
	everyProvider(t, func(t *testing.T, _, model string, c provider.Client, stream bool) {
		limited := ask(model, "Tell me a story")
		limit := 40
		limited.MaxTokens = &limit
		reply, failure := complete(t.Context(), t, c, limited, stream)
		if failure != nil {
			t.Fatal(failure)
		}
		if reply.FinishReason != "length" || reply.Usage == nil || reply.Usage.Output != 40 {
			t.Errorf("max tokens 40: finish %q, usage %+v", reply.FinishReason, reply.Usage)
		}

		stopped := ask(model, "Tell me a story")
		stopped.Stop = []string{"\n\n", "nowhere in the text"}
		reply, failure = complete(t.Context(), t, c, stopped, stream)
		if failure != nil {
			t.Fatal(failure)
		}
		if reply.FinishReason != "stop" || strings.Contains(reply.Text, "\n\n") || !strings.Contains(reply.Text, "Your prompt") {
			t.Errorf("stop: finish %q, text %q", reply.FinishReason, reply.Text)
		}
	})
}

func TestEveryFault(t *testing.T) {
	faults := []struct {
		fault   string
		class   provider.Class // of a whole answer
		stream  provider.Class // of a streamed one; "" is the same
		partial bool           // a streamed one brings some text first
		retry   time.Duration
	}{
		{fault: "401", class: provider.ClassInvalidKey},
		{fault: "402", class: provider.ClassBilling},
		{fault: "quota", class: provider.ClassBilling},
		{fault: "403", class: provider.ClassPermission},
		{fault: "404", class: provider.ClassNotFound},
		{fault: "context", class: provider.ClassContextLength},
		{fault: "filter", class: provider.ClassContentFilter},
		{fault: "429", class: provider.ClassRateLimited},
		{fault: "429-retry", class: provider.ClassRateLimited, retry: 2 * time.Second},
		{fault: "500", class: provider.ClassProviderError},
		{fault: "503", class: provider.ClassOverloaded},
		{fault: "529", class: provider.ClassOverloaded},
		{fault: "close-body", class: provider.ClassNetwork, partial: true},
		{fault: "close-stream", class: provider.ClassNetwork, partial: true},
		{fault: "end-stream", class: provider.ClassNetwork, partial: true},
		{fault: "garbage", class: provider.ClassProviderError},
		{fault: "html", class: provider.ClassProviderError},
		{fault: "empty", class: provider.ClassProviderError, stream: provider.ClassNetwork},
		{fault: "error-in-200", class: provider.ClassProviderError, partial: true},
	}
	everyProvider(t, func(t *testing.T, id, model string, c provider.Client, stream bool) {
		for _, f := range faults {
			reply, failure := complete(t.Context(), t, c, ask(model+"-fault-"+f.fault, "Why?"), stream)
			if failure == nil {
				t.Errorf("%s: no failure, text %.40q", f.fault, reply.Text)
				continue
			}
			want, retry := f.class, f.retry
			if stream && f.stream != "" {
				want = f.stream
			}
			if id == "google" && f.fault == "quota" { // a quota of the day comes back by itself
				want, retry = provider.ClassRateLimited, time.Hour
			}
			if f.fault == "error-in-200" && (id == "anthropic" || id == "google") {
				want = provider.ClassOverloaded
			}
			if failure.Class != want || failure.RetryAfter != retry {
				t.Errorf("%s: %v, retry after %v; want %s after %v", f.fault, failure, failure.RetryAfter, want, retry)
			}
			if partial := stream && f.partial; (reply.Text != "") != partial {
				t.Errorf("%s: partial text %q", f.fault, reply.Text)
			}
			if failure.Class != provider.ClassNetwork && failure.HTTPStatus == 0 {
				t.Errorf("%s: no HTTP status", f.fault)
			}
		}
	})
}

func TestUnusualButValidStreams(t *testing.T) {
	everyProvider(t, func(t *testing.T, _, model string, c provider.Client, stream bool) {
		plain, failure := complete(t.Context(), t, c, ask(model+"-fault-crlf", "Why?"), stream)
		if failure != nil || !strings.Contains(plain.Text, "Your prompt, “Why?”") || plain.Usage == nil || plain.FinishReason != "stop" {
			t.Errorf("crlf: %v, %+v", failure, plain)
		}
		huge, failure := complete(t.Context(), t, c, ask(model+"-fault-huge-line", "Why?"), stream)
		if failure != nil || len(huge.Text) < 300<<10 {
			t.Errorf("huge line: %v, %d bytes", failure, len(huge.Text))
		}
	})
}

func TestHangingProvider(t *testing.T) {
	everyProvider(t, func(t *testing.T, _, model string, c provider.Client, stream bool) {
		for _, fault := range []string{"hang", "hang-stream"} {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			_, failure := complete(ctx, t, c, ask(model+"-fault-"+fault, "Why?"), stream)
			cancel()
			if failure == nil || failure.Class != provider.ClassTimeout {
				t.Errorf("%s: %v, want timeout", fault, failure)
			}

			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, cancel)
			_, failure = complete(ctx, t, c, ask(model+"-fault-"+fault, "Why?"), stream)
			if failure == nil || failure.Class != provider.ClassCancelled {
				t.Errorf("%s: %v, want cancelled", fault, failure)
			}
		}
	})
}

func TestEveryProviderChecksKeys(t *testing.T) {
	_, registry := startSandbox(t)
	for _, spec := range provider.Known {
		c, _ := registry.Client(spec.ID, true)
		tests := map[string]provider.Class{
			secret:                     "",
			"sk-unknown-to-anybody":    provider.ClassInvalidKey,
			secret + "-fault-401":      provider.ClassInvalidKey,
			secret + "-fault-403":      provider.ClassPermission,
			secret + "-fault-429":      provider.ClassRateLimited,
			secret + "-fault-500":      provider.ClassProviderError,
			secret + "-fault-html":     provider.ClassProviderError,
			"sandbox-with a\nlinefeed": provider.ClassInvalidKey,
			secret + "-fault-402":      "",
		}
		if spec.ID == "openrouter" || spec.ID == "deepseek" { // their checks know the balance
			tests[secret+"-fault-402"] = provider.ClassBilling
		}
		for key, want := range tests {
			err := c.Check(t.Context(), key)
			failure, _ := errors.AsType[*provider.Failure](err)
			switch {
			case want == "" && err != nil, want != "" && (failure == nil || failure.Class != want):
				t.Errorf("%s: Check(%q) = %v, want %q", spec.ID, key, err, want)
			case err != nil:
				noSecret(t, key, err.Error())
			}
		}
	}
}
