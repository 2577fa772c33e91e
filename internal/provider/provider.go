// Package provider speaks to AI providers: one file per wire format (openai.go
// serves every OpenAI-compatible one, anthropic.go, gemini.go), failure.go with
// everything known about what they answer when they do not answer, and a
// sandbox that plays all three formats over a real socket.
package provider

import (
	"context"
	"time"

	"github.com/shopspring/decimal"
)

// Client speaks one provider's wire format to one base URL. It is safe for
// concurrent use and never logs.
type Client interface {
	// Complete makes one model call. With onText it streams: every piece of
	// text is handed over as it arrives, in order, from this goroutine.
	//
	// Every error is a *Failure. The Reply is filled as far as the call got,
	// also beside an error: text already streamed, usage already reported.
	Complete(ctx context.Context, call Call, onText func(text string)) (Reply, error)

	// Check verifies a secret by a call that costs nothing (list models, key
	// info), never by a completion. nil means the provider accepted it, a Failure
	// of ClassBilling that the key is good but has nothing left to spend.
	Check(ctx context.Context, secret string) error

	// Inspect is Check that also tells whether the provider said, in the same
	// answer, that there is money left to spend. Most do not say.
	Inspect(ctx context.Context, secret string) (credit bool, err error)
}

// Role of a message.
type Role string

const (
	RoleSystem    Role = "system"
	RoleUser      Role = "user"
	RoleAssistant Role = "assistant"
)

// Message is one turn of a conversation.
type Message struct {
	Role    Role   `json:"role"`
	Content string `json:"content"`
}

// Call is one model call. Only what is set is sent: several new models refuse
// parameters that were not needed.
type Call struct {
	Secret      string // the provider key; never logged, never in an error
	Model       string // the provider's own name, without "provider/"
	Messages    []Message
	Temperature *float64
	MaxTokens   *int
	TopP        *float64
	Stop        []string
}

// Reply is what a model answered.
type Reply struct {
	Text         string
	FinishReason string           // "stop", "length", "content_filter", "tool_calls" or the provider's own word
	Usage        *Usage           // nil: the provider did not say
	Cost         *decimal.Decimal // USD as billed by the provider (OpenRouter); nil: it did not say
	FirstToken   time.Duration    // from the call to the first text; 0 when not streamed or none came
	RequestID    string           // the provider's id of this call, for its support
	Accepted     bool             // the provider answered with a 2xx, so it may bill the call whatever followed
}

// Usage is tokens by category, in our one meaning whatever the provider's own:
// Input includes CachedInput and CacheWrite, CacheWrite includes CacheWrite1h,
// and Output includes Reasoning.
type Usage struct {
	Input        int64
	CachedInput  int64
	CacheWrite   int64
	CacheWrite1h int64
	Output       int64
	Reasoning    int64
}

// Total is Input + Output.
func (u Usage) Total() int64 { return u.Input + u.Output }

// Wire is a wire format.
type Wire string

const (
	WireOpenAI    Wire = "openai"
	WireAnthropic Wire = "anthropic"
	WireGemini    Wire = "gemini"
)

// Spec is a provider as it is known before any call.
type Spec struct {
	ID      string // "openai"; the part of a model's name before the first slash
	Name    string // "OpenAI", as people write it
	Wire    Wire
	BaseURL string // as the vendor's own clients expect it, without a trailing slash
}

// Known are the providers that need no setting up. More OpenAI-compatible ones
// come from ops.providers.
var Known = []Spec{
	{"openai", "OpenAI", WireOpenAI, "https://api.openai.com/v1"},
	{"anthropic", "Anthropic", WireAnthropic, "https://api.anthropic.com"},
	{"google", "Google", WireGemini, "https://generativelanguage.googleapis.com"},
	{"mistral", "Mistral", WireOpenAI, "https://api.mistral.ai/v1"},
	{"openrouter", "OpenRouter", WireOpenAI, "https://openrouter.ai/api/v1"},
	{"groq", "Groq", WireOpenAI, "https://api.groq.com/openai/v1"},
	{"deepseek", "DeepSeek", WireOpenAI, "https://api.deepseek.com"},
	{"xai", "xAI", WireOpenAI, "https://api.x.ai/v1"},
}
