package provider

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"unicode"
)

// AnthropicMaxTokens is the limit of a call to Anthropic that sets none: its
// interface demands one.
const AnthropicMaxTokens = 4096

// anthropic is the messages format.
type anthropic struct{}

type anthropicRequest struct {
	Model         string    `json:"model"`
	MaxTokens     int       `json:"max_tokens"`
	System        string    `json:"system,omitempty"`
	Messages      []Message `json:"messages"`
	Temperature   *float64  `json:"temperature,omitempty"`
	TopP          *float64  `json:"top_p,omitempty"`
	StopSequences []string  `json:"stop_sequences,omitempty"`
	Stream        bool      `json:"stream,omitempty"`
}

func (anthropic) request(call Call, stream bool) (string, any, error) {
	system, messages := splitSystem(call.Messages)
	body := &anthropicRequest{
		Model:       call.Model,
		MaxTokens:   AnthropicMaxTokens,
		System:      system,
		Messages:    messages,
		Temperature: call.Temperature,
		TopP:        call.TopP,
		Stream:      stream,
	}
	for _, stop := range call.Stop {
		if !isBlank(stop) {
			body.StopSequences = append(body.StopSequences, stop)
		}
	}
	if call.MaxTokens != nil {
		body.MaxTokens = *call.MaxTokens
	}
	return "/v1/messages", body, nil
}

// splitSystem takes the system messages out of a conversation.
func splitSystem(all []Message) (system string, rest []Message) {
	if !slices.ContainsFunc(all, func(m Message) bool { return m.Role == RoleSystem }) {
		return "", all
	}
	var texts []string
	for _, m := range all {
		if m.Role == RoleSystem {
			texts = append(texts, m.Content)
		} else {
			rest = append(rest, m)
		}
	}
	return strings.Join(texts, "\n\n"), rest
}

func (anthropic) authorize(header http.Header, secret string) {
	header["X-Api-Key"] = []string{secret}
	header["Anthropic-Version"] = anthropicVersion
}

var anthropicVersion = []string{"2023-06-01"}

func (anthropic) decoder(call Call, a *answer) decoder {
	d := &anthropicDecoder{answer: a}
	for _, stop := range call.Stop {
		if isBlank(stop) {
			d.blankStops = append(d.blankStops, stop)
		}
	}
	return d
}

// isBlank says whether a stop sequence is nothing but white space. Anthropic
// refuses those, so they are honoured here.
func isBlank(stop string) bool { return strings.TrimSpace(stop) == "" }

// anthropicMessage is a whole answer, and the start of a streamed one.
type anthropicMessage struct {
	Type       string             `json:"type"`
	ID         string             `json:"id"`
	Content    []anthropicContent `json:"content"`
	StopReason string             `json:"stop_reason"`
	Usage      *anthropicUsage    `json:"usage"`
	Error      json.RawMessage    `json:"error"`
}

type anthropicContent struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// anthropicEvent is one event of a streamed answer.
type anthropicEvent struct {
	Type         string            `json:"type"`
	Message      *anthropicMessage `json:"message"`       // message_start
	ContentBlock anthropicContent  `json:"content_block"` // content_block_start
	Delta        struct {
		Type       string `json:"type"`
		Text       string `json:"text"`
		StopReason string `json:"stop_reason"`
	} `json:"delta"` // content_block_delta, message_delta
	Usage *anthropicUsage `json:"usage"` // message_delta: of the whole message so far
	Error json.RawMessage `json:"error"`
}

type anthropicUsage struct {
	Input         count `json:"input_tokens"`
	CacheRead     count `json:"cache_read_input_tokens"`
	CacheWrite    count `json:"cache_creation_input_tokens"`
	CacheCreation struct {
		FiveMinutes count `json:"ephemeral_5m_input_tokens"`
		OneHour     count `json:"ephemeral_1h_input_tokens"`
	} `json:"cache_creation"`
	Output        count `json:"output_tokens"`
	OutputDetails struct {
		Thinking count `json:"thinking_tokens"`
	} `json:"output_tokens_details"`
}

// usage translates. Anthropic counts cached input beside input_tokens, thinking
// into output_tokens.
func (u *anthropicUsage) usage() *Usage {
	write := u.CacheWrite
	if !write.set {
		write.n = u.CacheCreation.FiveMinutes.n + u.CacheCreation.OneHour.n
	}
	result := Usage{
		Input:        u.Input.n + u.CacheRead.n + write.n,
		CachedInput:  u.CacheRead.n,
		CacheWrite:   write.n,
		CacheWrite1h: u.CacheCreation.OneHour.n,
		Output:       u.Output.n,
		Reasoning:    u.OutputDetails.Thinking.n,
	}
	return believable(result, u.Input, u.CacheRead, write, u.CacheCreation.FiveMinutes, u.CacheCreation.OneHour, u.Output, u.OutputDetails.Thinking)
}

// anthropicDecoder reads one answer.
type anthropicDecoder struct {
	*answer
	usage      anthropicUsage // of the stream, as known so far
	blankStops []string
	stopped    bool   // at one of blankStops: what follows is not the answer
	tail       string // the white space at the end of the text so far
}

func (d *anthropicDecoder) whole(body []byte) error {
	var m anthropicMessage
	if err := decodeLoosely(body, &m, "content"); err != nil {
		return err
	}
	if given(m.Error) {
		return &reportedError{body}
	}
	if m.Content == nil {
		return errShape
	}
	d.identify(m.ID)
	if m.Usage != nil {
		d.reply.Usage = m.Usage.usage()
	}
	for _, block := range m.Content {
		if err := d.text(block.Type, block.Text); err != nil {
			return err
		}
	}
	d.stop(m.StopReason)
	return nil
}

func (d *anthropicDecoder) stop(reason string) {
	if d.stopped {
		reason = "stop_sequence"
	}
	d.finish(reason)
}

func (d *anthropicDecoder) identify(id string) {
	if d.reply.RequestID == "" {
		d.reply.RequestID = cleanID(id, d.secret)
	}
}

func (d *anthropicDecoder) text(kind, text string) error {
	if kind != "text" && kind != "text_delta" { // thinking, tool use
		return nil
	}
	if len(d.blankStops) == 0 {
		return d.add(text)
	}
	if d.stopped {
		return nil
	}
	whole, end := d.tail+text, len(d.tail)+len(text)
	for _, stop := range d.blankStops {
		if i := strings.Index(whole, stop); i >= 0 && stop != "" {
			d.stopped, end = true, min(end, max(i, len(d.tail)))
		}
	}
	text = whole[len(d.tail):end]
	d.tail = whole[len(strings.TrimRightFunc(whole, unicode.IsSpace)):]
	return d.add(text)
}

func (d *anthropicDecoder) event(e event) (bool, error) {
	var ev anthropicEvent
	// The usage that message_delta brings is of the whole message: it goes over
	// what message_start said, number by number.
	ev.Usage = &d.usage
	if err := decodeLoosely(e.data, &ev, "delta"); err != nil {
		return false, err
	}
	switch ev.Type {
	case "error":
		return false, &reportedError{e.data}
	case "message_start":
		if ev.Message != nil {
			d.identify(ev.Message.ID)
			if ev.Message.Usage != nil {
				d.usage = *ev.Message.Usage
			}
		}
	case "content_block_start":
		return false, d.text(ev.ContentBlock.Type, ev.ContentBlock.Text)
	case "content_block_delta":
		return false, d.text(ev.Delta.Type, ev.Delta.Text)
	case "message_delta":
		// Only now: the output that message_start reports is of one token.
		d.reply.Usage = d.usage.usage()
		d.stop(ev.Delta.StopReason)
	case "message_stop":
		return true, nil
	}
	if given(ev.Error) {
		return false, &reportedError{e.data}
	}
	return false, nil
}

// complete: only message_stop ends a stream.
func (*anthropicDecoder) complete() bool { return false }

func (anthropic) checks() []string { return []string{"/v1/models"} }

func (anthropic) checked(body []byte) (credit bool, err error) { return false, listed(body) }
