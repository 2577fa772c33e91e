package provider

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// gemini is the generateContent format.
type gemini struct{}

type geminiRequest struct {
	SystemInstruction *geminiContent  `json:"systemInstruction,omitempty"`
	Contents          []geminiContent `json:"contents"`
	GenerationConfig  *geminiConfig   `json:"generationConfig,omitempty"`
}

type geminiContent struct {
	Role  string       `json:"role,omitempty"`
	Parts []geminiPart `json:"parts"`
}

type geminiPart struct {
	Text    string `json:"text"`
	Thought bool   `json:"thought,omitempty"` // in answers: the model's reasoning
}

type geminiConfig struct {
	Temperature     *float64 `json:"temperature,omitempty"`
	MaxOutputTokens *int     `json:"maxOutputTokens,omitempty"`
	TopP            *float64 `json:"topP,omitempty"`
	StopSequences   []string `json:"stopSequences,omitempty"`
}

func (gemini) request(call Call, stream bool) (string, any, error) {
	name, ok := geminiName(call.Model)
	if !ok {
		return "", nil, &Failure{Class: ClassNotFound, Message: "This is not the name of a model."}
	}
	system, messages := splitSystem(call.Messages)
	body := &geminiRequest{Contents: make([]geminiContent, 0, len(messages))}
	if system != "" {
		body.SystemInstruction = &geminiContent{Parts: []geminiPart{{Text: system}}}
	}
	for _, m := range messages {
		role := "user"
		if m.Role == RoleAssistant {
			role = "model"
		}
		body.Contents = append(body.Contents, geminiContent{Role: role, Parts: []geminiPart{{Text: m.Content}}})
	}
	if call.Temperature != nil || call.MaxTokens != nil || call.TopP != nil || len(call.Stop) > 0 {
		body.GenerationConfig = &geminiConfig{call.Temperature, call.MaxTokens, call.TopP, call.Stop}
	}
	if stream {
		return "/v1beta/models/" + name + ":streamGenerateContent?alt=sse", body, nil
	}
	return "/v1beta/models/" + name + ":generateContent", body, nil
}

// geminiName makes a model's name one segment of a path. What would lead to
// another path is refused, not escaped: servers differ in what they decode.
func geminiName(model string) (string, bool) {
	model = strings.TrimPrefix(model, "models/")
	if strings.ContainsAny(model, `:?#%\`) || len(model) > 256 || !sendable(model) {
		return "", false
	}
	for segment := range strings.SplitSeq(model, "/") {
		if strings.Trim(segment, ".") == "" {
			return "", false
		}
	}
	return url.PathEscape(model), true
}

func (gemini) authorize(header http.Header, secret string) {
	header["X-Goog-Api-Key"] = []string{secret}
}

func (gemini) decoder(_ Call, a *answer) decoder { return &geminiDecoder{answer: a} }

// geminiAnswer is a whole answer, and one chunk of a streamed one.
type geminiAnswer struct {
	Candidates []struct {
		Index        int           `json:"index"`
		Content      geminiContent `json:"content"`
		FinishReason string        `json:"finishReason"`
	} `json:"candidates"`
	PromptFeedback struct {
		BlockReason        string `json:"blockReason"`
		BlockReasonMessage string `json:"blockReasonMessage"`
	} `json:"promptFeedback"`
	UsageMetadata *geminiUsage    `json:"usageMetadata"`
	ResponseID    string          `json:"responseId"`
	Error         json.RawMessage `json:"error"`
}

type geminiUsage struct {
	Prompt     count `json:"promptTokenCount"`
	Cached     count `json:"cachedContentTokenCount"`
	ToolUse    count `json:"toolUsePromptTokenCount"`
	Candidates count `json:"candidatesTokenCount"`
	Thoughts   count `json:"thoughtsTokenCount"`
}

// usage translates. Gemini counts cached input into the prompt, thoughts beside
// the candidates.
func (u *geminiUsage) usage() *Usage {
	result := Usage{
		Input:       u.Prompt.n + u.ToolUse.n,
		CachedInput: u.Cached.n,
		Output:      u.Candidates.n + u.Thoughts.n,
		Reasoning:   u.Thoughts.n,
	}
	return believable(result, u.Prompt, u.Cached, u.ToolUse, u.Candidates, u.Thoughts)
}

// geminiDecoder reads one answer.
type geminiDecoder struct {
	*answer
	begun bool // a candidate has come
}

func (d *geminiDecoder) whole(body []byte) error {
	var a geminiAnswer
	if err := decodeLoosely(body, &a, "candidates"); err != nil {
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

func (d *geminiDecoder) event(e event) (bool, error) {
	var a geminiAnswer
	if err := decodeLoosely(e.data, &a, "candidates"); err != nil {
		return false, err
	}
	return false, d.take(&a, e.data)
}

// complete: the stream has no end mark of its own.
func (d *geminiDecoder) complete() bool { return d.reply.FinishReason != "" }

func (d *geminiDecoder) take(a *geminiAnswer, body []byte) error {
	if given(a.Error) {
		return &reportedError{body}
	}
	if d.reply.RequestID == "" {
		d.reply.RequestID = cleanID(a.ResponseID, d.secret)
	}
	if a.UsageMetadata != nil {
		d.reply.Usage = a.UsageMetadata.usage()
	}
	if reason := a.PromptFeedback.BlockReason; reason != "" && len(a.Candidates) == 0 {
		message := "The prompt was blocked (" + tidyWord(reason) + ")."
		if more := tidy(a.PromptFeedback.BlockReasonMessage); more != "" {
			message += " " + more
		}
		return &Failure{Class: ClassContentFilter, Message: cut(message)}
	}
	for _, candidate := range a.Candidates {
		if candidate.Index != 0 {
			continue
		}
		d.begun = true
		for _, part := range candidate.Content.Parts {
			if part.Thought {
				continue
			}
			if err := d.add(part.Text); err != nil {
				return err
			}
		}
		d.finish(candidate.FinishReason)
	}
	return nil
}

func (gemini) checks() []string { return []string{"/v1beta/models?pageSize=1"} }

func (gemini) checked(body []byte) (credit bool, err error) { return false, listed(body) }
