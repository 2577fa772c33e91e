package sandbox

import (
	"encoding/json"
	"net/http"
	"strings"
)

// openAI plays the chat completions format and its dialects.
type openAI struct{ provider string }

func (openAI) secret(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func (f openAI) parse(r *http.Request, body []byte) (prompt, *refusal) {
	var in struct {
		Model    string `json:"model"`
		Messages []struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		} `json:"messages"`
		MaxTokens           int      `json:"max_tokens"`
		MaxCompletionTokens int      `json:"max_completion_tokens"`
		Stop                []string `json:"stop"`
		Stream              bool     `json:"stream"`
		StreamOptions       *struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
		Usage struct {
			Include bool `json:"include"`
		} `json:"usage"`
	}
	if !strings.HasSuffix(r.URL.Path, "/chat/completions") {
		return prompt{}, f.error(http.StatusNotFound, "invalid_request_error", "unknown_url", "Unknown request URL: "+r.Method+" "+r.URL.Path)
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return prompt{}, f.error(http.StatusBadRequest, "invalid_request_error", nil, "We could not parse the JSON body of your request.")
	}
	if in.Model == "" || len(in.Messages) == 0 {
		return prompt{}, f.error(http.StatusBadRequest, "invalid_request_error", "missing_required_parameter", "Missing required parameter: 'model' or 'messages'.")
	}
	if f.provider == "openai" && in.MaxTokens > 0 && reasons(in.Model) {
		return prompt{}, f.error(http.StatusBadRequest, "invalid_request_error", "unsupported_parameter",
			"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
	}
	if f.provider == "mistral" && (in.StreamOptions != nil || in.MaxCompletionTokens > 0) {
		return prompt{}, &refusal{status: http.StatusUnprocessableEntity, body: object{"detail": []object{
			{"type": "extra_forbidden", "loc": []string{"body", "stream_options"}, "msg": "Extra inputs are not permitted"},
		}}}
	}
	p := prompt{
		model:     in.Model,
		maxTokens: max(in.MaxTokens, in.MaxCompletionTokens),
		stop:      in.Stop,
		stream:    in.Stream,
		withUsage: in.StreamOptions != nil && in.StreamOptions.IncludeUsage,
		withCost:  in.Usage.Include,
	}
	for _, m := range in.Messages {
		if m.Role == "system" {
			p.system += m.Content
		} else {
			p.turns = append(p.turns, m.Content)
		}
	}
	return p, nil
}

// error is an error in OpenAI's words; code may be nil.
func (f openAI) error(status int, kind string, code any, message string) *refusal {
	body := object{"message": message, "type": kind, "param": nil, "code": code}
	if f.provider == "openrouter" {
		body = object{"message": message, "code": status}
	}
	return &refusal{status: status, body: object{"error": body}}
}

// mask is how OpenAI repeats a key that it refuses.
func mask(secret string) string {
	if len(secret) < 8 {
		return "***"
	}
	return secret[:4] + strings.Repeat("*", len(secret)-8) + secret[len(secret)-4:]
}

func (f openAI) refusal(fault string, p prompt, secret string) *refusal {
	switch fault {
	case "401":
		return f.badKey(secret)
	case "402":
		return f.error(http.StatusPaymentRequired, "unknown_error", "invalid_request_error", "Insufficient Balance")
	case "quota":
		if f.provider == "openai" {
			return f.error(http.StatusTooManyRequests, "insufficient_quota", "credit_balance_exhausted",
				"You exceeded your current quota, please check your plan and billing details.")
		}
		return f.error(http.StatusPaymentRequired, "unknown_error", "invalid_request_error", "Insufficient credits. Add more to go on.")
	case "403":
		return f.error(http.StatusForbidden, "invalid_request_error", "unsupported_country_region_territory", "Country, region, or territory not supported")
	case "404":
		return f.error(http.StatusNotFound, "invalid_request_error", "model_not_found", "The model `"+p.model+"` does not exist or you do not have access to it.")
	case "context":
		return f.error(http.StatusBadRequest, "invalid_request_error", "context_length_exceeded",
			"This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.")
	case "filter":
		return f.error(http.StatusBadRequest, "invalid_request_error", "content_policy_violation", "The prompt was flagged by our content policy.")
	case "429":
		return f.error(http.StatusTooManyRequests, "requests", "rate_limit_exceeded", "Rate limit reached for "+p.model+". Please slow down.")
	case "429-retry":
		r := f.error(http.StatusTooManyRequests, "requests", "rate_limit_exceeded", "Rate limit reached for "+p.model+". Please try again in 2s.")
		r.header = http.Header{"Retry-After": {"2"}}
		return r
	case "500":
		return f.error(http.StatusInternalServerError, "server_error", nil, "The server had an error while processing your request. Sorry about that!")
	case "503", "529":
		status := http.StatusServiceUnavailable
		if fault == "529" {
			status = 529
		}
		return f.error(status, "service_unavailable_error", "server_is_overloaded", "The engine is currently overloaded, please try again later")
	}
	return nil
}

// badKey is how each of them refuses a key.
func (f openAI) badKey(secret string) *refusal {
	switch f.provider {
	case "mistral":
		return &refusal{status: http.StatusUnauthorized, body: object{"detail": "Unauthorized"}}
	case "xai":
		return &refusal{status: http.StatusBadRequest, body: object{
			"code":  "Client specified an invalid argument",
			"error": "Incorrect API key provided: " + mask(secret) + ". You can obtain an API key from the console.",
		}}
	case "deepseek":
		return f.error(http.StatusUnauthorized, "authentication_error", "invalid_request_error",
			"Authentication Fails, Your api key: ****"+secret[max(0, len(secret)-4):]+" is invalid")
	case "openrouter":
		return f.error(http.StatusUnauthorized, "", nil, "User not found.")
	}
	return f.error(http.StatusUnauthorized, "invalid_request_error", "invalid_api_key",
		"Incorrect API key provided: "+mask(secret)+". You can find your API key in your account.")
}

func (f openAI) keyInfo(path, fault string) any {
	broke := fault == "402" || fault == "quota"
	switch {
	case strings.HasSuffix(path, "/models"):
		return object{"object": "list", "data": []object{{"id": "sandbox-model", "object": "model", "owned_by": "sandbox"}}}
	case f.provider == "openrouter" && strings.HasSuffix(path, "/key"):
		remaining := 12.5
		if broke {
			remaining = 0
		}
		return object{"data": object{"label": "sandbox", "usage": 7.5, "limit": 20, "limit_remaining": remaining, "is_free_tier": false}}
	case f.provider == "deepseek" && strings.HasSuffix(path, "/user/balance"):
		return object{"is_available": !broke, "balance_infos": []object{{"currency": "USD", "total_balance": "12.50"}}}
	}
	return nil
}

func (f openAI) usage(p prompt, t tally) object {
	output := t.output
	if f.provider == "xai" {
		output -= t.reasoning
	}
	u := object{
		"prompt_tokens":             t.input,
		"completion_tokens":         output,
		"total_tokens":              t.input + t.output,
		"completion_tokens_details": object{"reasoning_tokens": t.reasoning},
	}
	if f.provider == "deepseek" {
		u["prompt_cache_hit_tokens"] = t.cached
		u["prompt_cache_miss_tokens"] = t.input - t.cached
	} else {
		u["prompt_tokens_details"] = object{"cached_tokens": t.cached}
	}
	if f.provider == "openrouter" && p.withCost {
		u["cost"] = (0.2*float64(t.input) + 0.8*float64(t.output)) / 1e6
		u["is_byok"] = false
	}
	return u
}

func (f openAI) whole(p prompt, a answer) any {
	return object{
		"id": "chatcmpl-" + a.id, "object": "chat.completion", "created": 1700000000, "model": p.model,
		"choices": []object{{
			"index":         0,
			"message":       object{"role": "assistant", "content": a.text(), "refusal": nil},
			"finish_reason": a.finish,
		}},
		"usage": f.usage(p, a.tally),
	}
}

func (f openAI) chunk(p prompt, a answer, delta object, finish any) object {
	return object{
		"id": "chatcmpl-" + a.id, "object": "chat.completion.chunk", "created": 1700000000, "model": p.model,
		"choices": []object{{"index": 0, "delta": delta, "finish_reason": finish}},
	}
}

func (f openAI) start(p prompt, a answer) []frame {
	first := frame{data: f.chunk(p, a, object{"role": "assistant", "content": ""}, nil)}
	switch f.provider {
	case "openrouter":
		return []frame{{comment: "OPENROUTER PROCESSING"}, first}
	case "deepseek":
		return []frame{{comment: "keep-alive"}, first}
	}
	return []frame{first}
}

func (f openAI) delta(p prompt, a answer, text string) frame {
	return frame{data: f.chunk(p, a, object{"content": text}, nil)}
}

func (f openAI) end(p prompt, a answer) []frame {
	last := f.chunk(p, a, object{}, a.finish)
	frames := []frame{{data: last}}
	switch {
	case f.provider == "mistral":
		last["usage"] = f.usage(p, a.tally)
	case f.provider == "groq" && !p.withUsage:
		last["x_groq"] = object{"usage": f.usage(p, a.tally)}
	case p.withUsage:
		usage := f.chunk(p, a, nil, nil)
		usage["choices"] = []object{}
		usage["usage"] = f.usage(p, a.tally)
		frames = append(frames, frame{data: usage})
	}
	return append(frames, frame{data: "[DONE]"})
}

func (f openAI) failed(p prompt) frame {
	body := object{"error": object{"code": http.StatusBadGateway, "message": "The model behind this answer has failed"}}
	if p.stream {
		body["choices"] = []object{{"index": 0, "delta": object{"content": ""}, "finish_reason": "error"}}
	}
	return frame{data: body}
}
