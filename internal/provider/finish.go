package provider

import "strings"

// finishReasons are the providers' words for why a model stopped, in ours.
var finishReasons = map[string]string{
	"stop":          "stop",
	"end_turn":      "stop", // Anthropic
	"stop_sequence": "stop",
	"eos":           "stop", // some OpenAI-compatible servers

	"length":                        "length",
	"max_tokens":                    "length", // Anthropic, Gemini
	"model_length":                  "length", // Mistral
	"model_context_window_exceeded": "length", // Anthropic

	"content_filter":     "content_filter",
	"refusal":            "content_filter", // Anthropic
	"safety":             "content_filter", // Gemini, from here on
	"recitation":         "content_filter",
	"blocklist":          "content_filter",
	"prohibited_content": "content_filter",
	"spii":               "content_filter",
	"image_safety":       "content_filter",

	"tool_calls":    "tool_calls",
	"tool_use":      "tool_calls", // Anthropic
	"function_call": "tool_calls",
}

// finish takes the provider's word for why the model stopped.
func (a *answer) finish(word string) {
	if word == "" {
		return
	}
	if ours, ok := finishReasons[strings.ToLower(word)]; ok {
		a.reply.FinishReason = ours
		return
	}
	a.reply.FinishReason = tidyWord(Scrub(word, a.secret))
}

// tidyWord is a provider's word as it may be stored and shown.
func tidyWord(word string) string {
	word = tidy(word)
	if len(word) > 64 {
		return "other"
	}
	return word
}
