package sandbox

import (
	"encoding/json"
	"net/http"
	"strings"
)

// gemini plays the generateContent format.
type gemini struct{}

func (gemini) secret(r *http.Request) string { return r.Header.Get("X-Goog-Api-Key") }

func (f gemini) parse(r *http.Request, body []byte) (prompt, *refusal) {
	type content struct {
		Role  string `json:"role"`
		Parts []struct {
			Text string `json:"text"`
		} `json:"parts"`
	}
	var in struct {
		SystemInstruction content   `json:"systemInstruction"`
		Contents          []content `json:"contents"`
		GenerationConfig  struct {
			MaxOutputTokens int      `json:"maxOutputTokens"`
			StopSequences   []string `json:"stopSequences"`
		} `json:"generationConfig"`
	}
	_, call, _ := strings.Cut(r.URL.Path, "/v1beta/models/")
	model, method, _ := strings.Cut(call, ":")
	stream := method == "streamGenerateContent"
	if model == "" || (method != "generateContent" && !stream) {
		return prompt{}, f.error(http.StatusNotFound, "NOT_FOUND", "Requested entity was not found.")
	}
	if stream && r.URL.Query().Get("alt") != "sse" {
		return prompt{}, f.error(http.StatusBadRequest, "INVALID_ARGUMENT", "Only alt=sse is played.")
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return prompt{}, f.error(http.StatusBadRequest, "INVALID_ARGUMENT", "Invalid JSON payload received.")
	}
	if len(in.Contents) == 0 {
		return prompt{}, f.error(http.StatusBadRequest, "INVALID_ARGUMENT", "* GenerateContentRequest.contents: contents is not specified")
	}
	text := func(c content) string {
		var b strings.Builder
		for _, part := range c.Parts {
			b.WriteString(part.Text)
		}
		return b.String()
	}
	p := prompt{
		model: model, system: text(in.SystemInstruction), stream: stream,
		maxTokens: in.GenerationConfig.MaxOutputTokens, stop: in.GenerationConfig.StopSequences,
	}
	for _, c := range in.Contents {
		if c.Role != "user" && c.Role != "model" {
			return prompt{}, f.error(http.StatusBadRequest, "INVALID_ARGUMENT", "Please use a valid role: user, model.")
		}
		p.turns = append(p.turns, text(c))
	}
	return p, nil
}

func (gemini) error(status int, word, message string, details ...object) *refusal {
	body := object{"code": status, "message": message, "status": word}
	if len(details) > 0 {
		body["details"] = details
	}
	return &refusal{status: status, body: object{"error": body}}
}

func (f gemini) refusal(fault string, p prompt, _ string) *refusal {
	switch fault {
	case "401":
		return f.error(http.StatusBadRequest, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.",
			object{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"})
	case "402":
		return f.error(http.StatusPaymentRequired, "RESOURCE_EXHAUSTED", "Payment is required to go on.")
	case "quota":
		return f.error(http.StatusTooManyRequests, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details.",
			object{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []object{{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}}},
			object{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"})
	case "403":
		return f.error(http.StatusForbidden, "PERMISSION_DENIED", "The caller does not have permission")
	case "404":
		return f.error(http.StatusNotFound, "NOT_FOUND", "models/"+p.model+" is not found for API version v1beta.")
	case "context":
		return f.error(http.StatusBadRequest, "INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).")
	case "429":
		return f.error(http.StatusTooManyRequests, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).")
	case "429-retry":
		return f.error(http.StatusTooManyRequests, "RESOURCE_EXHAUSTED", "You exceeded your current quota. Please retry in 2s.",
			object{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"})
	case "500":
		return f.error(http.StatusInternalServerError, "INTERNAL", "An internal error has occurred.")
	case "503", "529":
		return f.error(http.StatusServiceUnavailable, "UNAVAILABLE", "The model is overloaded. Please try again later.")
	case "filter": // not an error for Gemini
		return &refusal{status: http.StatusOK, body: object{
			"promptFeedback": object{"blockReason": "PROHIBITED_CONTENT"},
			"usageMetadata":  object{"promptTokenCount": compose(p).tally.input, "totalTokenCount": compose(p).tally.input},
		}}
	}
	return nil
}

func (gemini) keyInfo(path, _ string) any {
	if !strings.HasSuffix(path, "/v1beta/models") {
		return nil
	}
	return object{"models": []object{{"name": "models/gemini-sandbox", "displayName": "Sandbox"}}}
}

func (gemini) usage(t tally) object {
	u := object{
		"promptTokenCount":     t.input,
		"candidatesTokenCount": t.output - t.reasoning,
		"totalTokenCount":      t.input + t.output,
	}
	if t.cached > 0 {
		u["cachedContentTokenCount"] = t.cached
	}
	if t.reasoning > 0 {
		u["thoughtsTokenCount"] = t.reasoning
	}
	return u
}

// chunk is a whole answer, or a part of one without finish.
func (f gemini) chunk(p prompt, a answer, text, finish string, t tally) object {
	candidate := object{"index": 0, "content": object{"role": "model", "parts": []object{{"text": text}}}}
	if finish != "" {
		candidate["finishReason"] = finish
	}
	return object{
		"candidates":    []object{candidate},
		"usageMetadata": f.usage(t),
		"modelVersion":  p.model,
		"responseId":    a.id,
	}
}

func (gemini) finishReason(a answer) string {
	if a.finish == "length" {
		return "MAX_TOKENS"
	}
	return "STOP"
}

func (f gemini) whole(p prompt, a answer) any {
	return f.chunk(p, a, a.text(), f.finishReason(a), a.tally)
}

func (gemini) start(prompt, answer) []frame { return nil }

func (f gemini) delta(p prompt, a answer, text string) frame {
	return frame{data: f.chunk(p, a, text, "", tally{input: a.tally.input})}
}

func (f gemini) end(p prompt, a answer) []frame {
	return []frame{{data: f.chunk(p, a, "", f.finishReason(a), a.tally)}}
}

func (f gemini) failed(prompt) frame {
	return frame{data: f.error(http.StatusServiceUnavailable, "UNAVAILABLE", "The model is overloaded. Please try again later.").body}
}
