package provider

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// quirks is how a provider differs from the plain OpenAI format.
type quirks struct {
	maxCompletionTokens bool     // the limit is called max_completion_tokens; newest models refuse the old name
	noStreamOptions     bool     // usage comes in the last chunk anyway, and unknown fields are refused
	reasoningApart      bool     // completion_tokens does not include reasoning_tokens
	askForCost          bool     // usage.cost comes when asked for
	checks              []string // where a key is proved; default the list of models
}

// quirksOf names the providers that differ. Added endpoints have none: the old
// names are what all servers know.
var quirksOf = map[string]quirks{
	"openai":  {maxCompletionTokens: true},
	"groq":    {maxCompletionTokens: true},
	"mistral": {noStreamOptions: true},
	"xai":     {maxCompletionTokens: true, reasoningApart: true},
	// OpenRouter lists its models for everybody: that proves nothing.
	"openrouter": {askForCost: true, checks: []string{"/key"}},
	"deepseek":   {checks: []string{"/user/balance", "/models"}},
}

// openAI is the chat completions format.
type openAI struct{ quirks quirks }

type openAIRequest struct {
	Model               string               `json:"model"`
	Messages            []Message            `json:"messages"`
	Temperature         *float64             `json:"temperature,omitempty"`
	MaxTokens           *int                 `json:"max_tokens,omitempty"`
	MaxCompletionTokens *int                 `json:"max_completion_tokens,omitempty"`
	TopP                *float64             `json:"top_p,omitempty"`
	Stop                []string             `json:"stop,omitempty"`
	Stream              bool                 `json:"stream,omitempty"`
	StreamOptions       *openAIStreamOptions `json:"stream_options,omitempty"`
	Usage               *openAIUsageOptions  `json:"usage,omitempty"`
}

type openAIStreamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type openAIUsageOptions struct {
	Include bool `json:"include"`
}

func (w openAI) request(call Call, stream bool) (string, any, error) {
	body := &openAIRequest{
		Model:       call.Model,
		Messages:    call.Messages,
		Temperature: call.Temperature,
		TopP:        call.TopP,
		Stop:        call.Stop,
		Stream:      stream,
	}
	if w.quirks.maxCompletionTokens {
		body.MaxCompletionTokens = call.MaxTokens
	} else {
		body.MaxTokens = call.MaxTokens
	}
	if stream && !w.quirks.noStreamOptions {
		body.StreamOptions = &openAIStreamOptions{IncludeUsage: true}
	}
	if w.quirks.askForCost {
		body.Usage = &openAIUsageOptions{Include: true}
	}
	return "/chat/completions", body, nil
}

func (openAI) authorize(header http.Header, secret string) {
	header["Authorization"] = []string{"Bearer " + secret}
}

func (w openAI) decoder(_ Call, a *answer) decoder {
	return &openAIDecoder{answer: a, quirks: w.quirks}
}

// openAIAnswer is a whole answer, and one chunk of a streamed one.
type openAIAnswer struct {
	ID      string          `json:"id"`
	Error   json.RawMessage `json:"error"`
	Choices []openAIChoice  `json:"choices"`
	Usage   *openAIUsage    `json:"usage"`
	XGroq   *struct {
		Usage *openAIUsage `json:"usage"`
	} `json:"x_groq"`
}

type openAIChoice struct {
	Index        int             `json:"index"`
	Message      *openAIMessage  `json:"message"`
	Delta        *openAIMessage  `json:"delta"`
	FinishReason string          `json:"finish_reason"`
	Error        json.RawMessage `json:"error"`
}

type openAIMessage struct {
	Content any    `json:"content"`
	Refusal string `json:"refusal"`
}

// text is the content, or the refusal if there is none. Content is a string, or
// (Mistral's reasoning models) a list of parts of which the texts count. A type
// with an UnmarshalJSON would have long answers scanned once more.
func (m *openAIMessage) text() (string, error) {
	var text string
	switch content := m.Content.(type) {
	case nil:
	case string:
		text = content
	case []any:
		for _, part := range content {
			part, ok := part.(map[string]any)
			if !ok {
				return "", errShape
			}
			if piece, ok := part["text"].(string); ok && part["type"] == "text" {
				text += piece
			}
		}
	default:
		return "", errShape
	}
	return cmp.Or(text, m.Refusal), nil
}

type openAIUsage struct {
	Prompt        count `json:"prompt_tokens"`
	Completion    count `json:"completion_tokens"`
	CacheHit      count `json:"prompt_cache_hit_tokens"` // DeepSeek
	PromptDetails struct {
		Cached     count `json:"cached_tokens"`
		CacheWrite count `json:"cache_write_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		Reasoning count `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
	Cost        dollars `json:"cost"` // OpenRouter
	IsBYOK      bool    `json:"is_byok"`
	CostDetails struct {
		Upstream dollars `json:"upstream_inference_cost"`
	} `json:"cost_details"`
}

// usage translates. OpenAI counts cached input into the prompt and reasoning
// into the completion; xAI does not do the latter.
func (u *openAIUsage) usage(reasoningApart bool) *Usage {
	cached := u.PromptDetails.Cached
	if !cached.set {
		cached = u.CacheHit
	}
	reasoning := u.CompletionDetails.Reasoning
	result := Usage{
		Input:       u.Prompt.n,
		CachedInput: cached.n,
		CacheWrite:  u.PromptDetails.CacheWrite.n,
		Output:      u.Completion.n,
		Reasoning:   reasoning.n,
	}
	if reasoningApart {
		result.Output += reasoning.n
	}
	return believable(result, u.Prompt, u.Completion, cached, u.PromptDetails.CacheWrite, reasoning)
}

// openAIDecoder reads one answer.
type openAIDecoder struct {
	*answer
	quirks quirks
	begun  bool // a choice has come
}

// decodeLoosely decodes JSON in which only what is below path must have the
// right types: a usage that is no usage is not worth an answer.
func decodeLoosely(body []byte, v any, path string) error {
	err := json.Unmarshal(body, v)
	if err == nil {
		return nil
	}
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) && wrongType.Field != "" && !strings.HasPrefix(wrongType.Field, path) {
		return nil
	}
	return errShape
}

func given(raw json.RawMessage) bool { return len(raw) > 0 && !bytes.Equal(raw, []byte("null")) }

func (d *openAIDecoder) whole(body []byte) error {
	var a openAIAnswer
	if err := decodeLoosely(body, &a, "choices"); err != nil {
		return err
	}
	if err := d.take(&a, body); err != nil {
		return err
	}
	if !d.begun {
		return errShape
	}
	return nil
}

func (d *openAIDecoder) event(e event) (bool, error) {
	if string(bytes.TrimSpace(e.data)) == "[DONE]" {
		if !d.begun {
			return true, errShape
		}
		return true, nil
	}
	var a openAIAnswer
	if err := decodeLoosely(e.data, &a, "choices"); err != nil {
		return false, err
	}
	return false, d.take(&a, e.data)
}

// complete: some compatible servers forget [DONE].
func (d *openAIDecoder) complete() bool { return d.reply.FinishReason != "" }

func (d *openAIDecoder) take(a *openAIAnswer, body []byte) error {
	if d.reply.RequestID == "" {
		d.reply.RequestID = cleanID(a.ID, d.secret)
	}
	usage := a.Usage
	if usage == nil && a.XGroq != nil {
		usage = a.XGroq.Usage
	}
	if usage != nil {
		d.takeUsage(usage)
	}
	reported := given(a.Error)
	for _, choice := range a.Choices {
		if choice.Index != 0 {
			continue
		}
		reported = reported || given(choice.Error) || choice.FinishReason == "error"
		message := choice.Message
		if message == nil {
			message = choice.Delta
		}
		if message != nil {
			d.begun = true
			text, err := message.text()
			if err == nil {
				err = d.add(text)
			}
			if err != nil {
				return err
			}
		}
		if choice.FinishReason != "" {
			d.begun = true
			d.finish(choice.FinishReason)
		}
	}
	if reported {
		return &reportedError{body}
	}
	return nil
}

func (d *openAIDecoder) takeUsage(u *openAIUsage) {
	d.reply.Usage = u.usage(d.quirks.reasoningApart)
	d.reply.Cost = u.Cost.amount
	// With the learner's own key at the provider behind OpenRouter, cost is only
	// OpenRouter's fee.
	if upstream := u.CostDetails.Upstream.amount; u.IsBYOK && u.Cost.amount != nil && upstream != nil {
		total := u.Cost.amount.Add(*upstream)
		d.reply.Cost = &total
	}
}

func (w openAI) checks() []string {
	if w.quirks.checks != nil {
		return w.quirks.checks
	}
	return []string{"/models"}
}

// checked reads a list of models, OpenRouter's {"data":{limit_remaining}} or
// DeepSeek's {"is_available"}.
func (w openAI) checked(body []byte) (credit bool, err error) {
	var key struct {
		Available *bool `json:"is_available"`
		Data      struct {
			Remaining *float64 `json:"limit_remaining"`
		} `json:"data"`
	}
	if w.quirks.checks == nil {
		return false, listed(body)
	}
	_ = decodeLoosely(body, &key, "is_available") // data may be a list of models
	switch {
	case key.Available != nil && !*key.Available:
		return false, &Failure{Class: ClassBilling, Message: "The key is good, but its account has no balance left."}
	case key.Available != nil:
		return true, nil
	case key.Data.Remaining != nil && *key.Data.Remaining <= 0:
		return false, &Failure{Class: ClassBilling, Message: "The key is good, but its spending limit is used up."}
	}
	return key.Data.Remaining != nil, listed(body)
}
