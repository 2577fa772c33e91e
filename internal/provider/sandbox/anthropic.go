package sandbox

import (
	"encoding/json"
	"net/http"
	"strings"
)

// anthropic plays the messages format.
type anthropic struct{}

func (anthropic) secret(r *http.Request) string { return r.Header.Get("X-Api-Key") }

func (f anthropic) parse(r *http.Request, body []byte) (prompt, *refusal) {
	var in struct {
		Model    string `json:"model"`
		System   string `json:"system"`
		Messages []struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		} `json:"messages"`
		MaxTokens     *int     `json:"max_tokens"`
		StopSequences []string `json:"stop_sequences"`
		Stream        bool     `json:"stream"`
	}
	bad := func(message string) (prompt, *refusal) {
		return prompt{}, f.error(http.StatusBadRequest, "invalid_request_error", message)
	}
	if !strings.HasSuffix(r.URL.Path, "/v1/messages") {
		return prompt{}, f.error(http.StatusNotFound, "not_found_error", "Not Found")
	}
	if r.Header.Get("Anthropic-Version") == "" {
		return bad("anthropic-version: header is required")
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return bad("The request body is not valid JSON.")
	}
	if in.MaxTokens == nil || *in.MaxTokens < 1 {
		return bad("max_tokens: Field required")
	}
	if in.Model == "" || len(in.Messages) == 0 {
		return bad("messages: at least one message is required")
	}
	for _, stop := range in.StopSequences {
		if strings.TrimSpace(stop) == "" {
			return bad("stop_sequences: each stop sequence must contain non-whitespace")
		}
	}
	p := prompt{model: in.Model, system: in.System, maxTokens: *in.MaxTokens, stop: in.StopSequences, stream: in.Stream}
	for _, m := range in.Messages {
		if m.Role != "user" && m.Role != "assistant" {
			return bad(`messages: Unexpected role "` + m.Role + `".`)
		}
		p.turns = append(p.turns, m.Content)
	}
	return p, nil
}

func (anthropic) error(status int, kind, message string) *refusal {
	return &refusal{status: status, body: object{
		"type":       "error",
		"error":      object{"type": kind, "message": message},
		"request_id": "req_00000000",
	}}
}

func (f anthropic) refusal(fault string, p prompt, _ string) *refusal {
	switch fault {
	case "401":
		return f.error(http.StatusUnauthorized, "authentication_error", "invalid x-api-key")
	case "402":
		return f.error(http.StatusPaymentRequired, "billing_error", "There is a problem with your billing.")
	case "quota":
		return f.error(http.StatusBadRequest, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.")
	case "403":
		return f.error(http.StatusForbidden, "permission_error", "Your API key does not have permission to use the specified resource.")
	case "404":
		return f.error(http.StatusNotFound, "not_found_error", "model: "+p.model)
	case "context":
		return f.error(http.StatusBadRequest, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
	case "filter":
		return f.error(http.StatusBadRequest, "invalid_request_error", "Output blocked by content filtering policy: it violates our usage policies.")
	case "429":
		return f.error(http.StatusTooManyRequests, "rate_limit_error", "This request would exceed your organization's rate limit.")
	case "429-retry":
		r := f.error(http.StatusTooManyRequests, "rate_limit_error", "This request would exceed your organization's rate limit.")
		r.header = http.Header{"Retry-After": {"2"}}
		return r
	case "500":
		return f.error(http.StatusInternalServerError, "api_error", "Internal server error")
	case "503", "529":
		return f.error(529, "overloaded_error", "Overloaded")
	}
	return nil
}

func (anthropic) keyInfo(path, _ string) any {
	if !strings.HasSuffix(path, "/v1/models") {
		return nil
	}
	return object{"data": []object{{"type": "model", "id": "claude-sandbox", "display_name": "Sandbox"}}, "has_more": false}
}

// usage of an answer. Half of what was written to the cache is kept for an hour.
func (anthropic) usage(t tally) object {
	return object{
		"input_tokens":                t.input - t.cached - t.cacheWrite,
		"cache_read_input_tokens":     t.cached,
		"cache_creation_input_tokens": t.cacheWrite,
		"cache_creation": object{
			"ephemeral_5m_input_tokens": t.cacheWrite - t.cacheWrite/2,
			"ephemeral_1h_input_tokens": t.cacheWrite / 2,
		},
		"output_tokens":         t.output,
		"output_tokens_details": object{"thinking_tokens": t.reasoning},
		"service_tier":          "standard",
	}
}

func (anthropic) stopReason(a answer) string {
	if a.finish == "length" {
		return "max_tokens"
	}
	return "end_turn"
}

func (f anthropic) whole(p prompt, a answer) any {
	return object{
		"id": "msg_" + a.id, "type": "message", "role": "assistant", "model": p.model,
		"content":       []object{{"type": "text", "text": a.text()}},
		"stop_reason":   f.stopReason(a),
		"stop_sequence": nil,
		"usage":         f.usage(a.tally),
	}
}

func (f anthropic) start(p prompt, a answer) []frame {
	begun := a.tally
	begun.output, begun.reasoning = 1, 0
	return []frame{
		{name: "message_start", data: object{"type": "message_start", "message": object{
			"id": "msg_" + a.id, "type": "message", "role": "assistant", "model": p.model, "content": []object{},
			"stop_reason": nil, "stop_sequence": nil, "usage": f.usage(begun),
		}}},
		{name: "content_block_start", data: object{"type": "content_block_start", "index": 0, "content_block": object{"type": "text", "text": ""}}},
		{name: "ping", data: object{"type": "ping"}},
	}
}

func (anthropic) delta(_ prompt, _ answer, text string) frame {
	return frame{name: "content_block_delta", data: object{
		"type": "content_block_delta", "index": 0, "delta": object{"type": "text_delta", "text": text},
	}}
}

func (f anthropic) end(_ prompt, a answer) []frame {
	return []frame{
		{name: "content_block_stop", data: object{"type": "content_block_stop", "index": 0}},
		{name: "message_delta", data: object{
			"type":  "message_delta",
			"delta": object{"stop_reason": f.stopReason(a), "stop_sequence": nil},
			"usage": object{"output_tokens": a.tally.output, "output_tokens_details": object{"thinking_tokens": a.tally.reasoning}},
		}},
		{name: "message_stop", data: object{"type": "message_stop"}},
	}
}

func (anthropic) failed(prompt) frame {
	return frame{name: "error", data: object{"type": "error", "error": object{"type": "overloaded_error", "message": "Overloaded"}}}
}
