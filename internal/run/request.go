package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/provider"
)

// Limits of a request. PRODUCT.md §3 fixes the models and the body; the others
// are as wide as any provider goes.
const (
	MaxBody        = 1 << 20 // bytes
	MaxModels      = 8
	maxMessages    = 500
	maxStop        = 16
	maxVariables   = 100
	maxTokens      = 1_000_000
	minTimeout     = 100 * time.Millisecond
	maxTimeout     = 5 * time.Minute
	defaultTimeout = time.Minute
)

// Request is one run as it was asked for, checked in itself: whether the team,
// the template and the learner go together is Runner's to see.
type Request struct {
	Prompt     string
	Messages   []provider.Message
	System     string
	Models     []string // provider/model, distinct
	Config     Config
	TemplateID *uuid.UUID
	Variables  map[string]string
	TeamID     *uuid.UUID
	Stream     bool
}

// Config is what the models are asked with. Nil means: not given, not sent.
type Config struct {
	Temperature *float64 `json:"temperature,omitempty"`
	MaxTokens   *int     `json:"maxTokens,omitempty"`
	TopP        *float64 `json:"topP,omitempty"`
	Stop        []string `json:"stop,omitempty"`
	TimeoutMs   *int     `json:"timeoutMs,omitempty"`
}

// Timeout is how long each attempt may take.
func (c Config) Timeout() time.Duration {
	if c.TimeoutMs == nil {
		return defaultTimeout
	}
	return time.Duration(*c.TimeoutMs) * time.Millisecond
}

// text is the config as it is stored.
func (c Config) text() string { return jsonText(c) }

// ParseRequest reads the body of POST /api/ai/run. What cannot be read (syntax,
// types, unknown fields) is fault.Malformed, what can be read but not accepted
// fault.Invalid; either way every bad field is listed. isProvider says which
// providers exist.
func ParseRequest(body []byte, isProvider func(id string) bool) (Request, error) {
	var req Request
	p := parser{isProvider: isProvider}
	p.request(body, &req)
	if len(p.malformed) > 0 {
		return req, &fault.Error{Kind: fault.Malformed, Message: "The request could not be read; see details.", Details: p.malformed}
	}
	if len(p.invalid) > 0 {
		return req, fault.InvalidFields(p.invalid)
	}
	return req, nil
}

// parser collects what is wrong. encoding/json alone would stop at the first
// fault, take "MODELS" for "models" and mend broken UTF-8 in silence.
type parser struct {
	isProvider         func(string) bool
	malformed, invalid []fault.Field
}

func (p *parser) unreadable(field, format string, args ...any) {
	p.malformed = append(p.malformed, fault.Field{Field: field, Message: fmt.Sprintf(format, args...)})
}

func (p *parser) refuse(field, format string, args ...any) {
	p.invalid = append(p.invalid, fault.Field{Field: field, Message: fmt.Sprintf(format, args...)})
}

func (p *parser) request(body []byte, req *Request) {
	if len(bytes.TrimSpace(body)) == 0 {
		p.unreadable("body", "is empty; send a JSON object with prompt and models")
		return
	}
	fields, ok := p.object("body", body)
	if !ok {
		return
	}
	given := func(name string) bool { return fields[name] != nil }
	for _, name := range names(fields) {
		raw := fields[name]
		switch name {
		case "prompt":
			p.text(name, raw, &req.Prompt)
		case "messages":
			p.messages(raw, &req.Messages)
		case "system":
			p.text(name, raw, &req.System)
		case "models":
			p.models(raw, &req.Models)
		case "config":
			p.config(raw, &req.Config)
		case "templateId":
			p.id(name, raw, &req.TemplateID)
		case "variables":
			p.variables(raw, &req.Variables)
		case "teamId":
			p.id(name, raw, &req.TeamID)
		case "stream":
			p.value(name, raw, &req.Stream, "true or false")
		default:
			p.unreadable(name, "is not a field of this request")
		}
	}
	if !given("models") {
		p.refuse("models", "is required: 1 to %d models, each written provider/model", MaxModels)
	}
	switch {
	case given("prompt") && given("messages"):
		p.refuse("messages", "send either prompt or messages, not both")
	case !given("prompt") && !given("messages") && !given("templateId"):
		p.refuse("prompt", "is required: send prompt, or messages")
	case given("prompt") && strings.TrimSpace(req.Prompt) == "":
		p.refuse("prompt", "is empty")
	}
	if given("variables") && !given("templateId") {
		p.refuse("variables", "need a templateId whose placeholders they fill")
	}
}

// object reads a JSON object into its raw members.
func (p *parser) object(field string, raw []byte) (map[string]json.RawMessage, bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		p.unreadable(field, "%s", whyNoObject(raw))
		return nil, false
	}
	if members == nil {
		p.unreadable(field, "must be a JSON object")
		return nil, false
	}
	for name, member := range members { // an explicit null is as good as absent
		if string(member) == "null" {
			delete(members, name)
		}
	}
	return members, true
}

// whyNoObject says why json.Unmarshal refuses raw. A Decoder tells more, but costs
// too much to be asked first.
func whyNoObject(raw []byte) string {
	var members map[string]json.RawMessage
	err := json.NewDecoder(bytes.NewReader(raw)).Decode(&members)
	syntax, isSyntax := errors.AsType[*json.SyntaxError](err)
	switch {
	case err == nil:
		return "holds more than one JSON value"
	case isSyntax:
		return fmt.Sprintf("is not JSON: %s at byte %d", syntax, syntax.Offset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "is not JSON: it ends too early"
	default:
		return "must be a JSON object"
	}
}

// names lists an object's names in order, so that details come in the same order
// every time.
func names(fields map[string]json.RawMessage) []string {
	all := make([]string, 0, len(fields))
	for name := range fields {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// value reads raw into target; kind says in words what belongs there.
func (p *parser) value(field string, raw json.RawMessage, target any, kind string) bool {
	if err := json.Unmarshal(raw, target); err != nil {
		p.unreadable(field, "must be %s", kind)
		return false
	}
	return true
}

// text reads a string that Postgres can store and a provider can be sent.
func (p *parser) text(field string, raw json.RawMessage, target *string) bool {
	if !utf8.Valid(raw) {
		p.unreadable(field, "is not valid UTF-8")
		return false
	}
	if raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 { // most are what they look like
		*target = string(raw[1 : len(raw)-1])
	} else if !p.value(field, raw, target, "a string") {
		return false
	}
	if strings.ContainsRune(*target, 0) {
		p.refuse(field, "contains a NUL character; remove it")
		return false
	}
	return true
}

func (p *parser) id(field string, raw json.RawMessage, target **uuid.UUID) {
	var s string
	if !p.text(field, raw, &s) {
		return
	}
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		p.refuse(field, "is not a UUID")
		return
	}
	*target = &id
}

func (p *parser) list(field string, raw json.RawMessage) []json.RawMessage {
	var items []json.RawMessage
	if !p.value(field, raw, &items, "a list") {
		return nil
	}
	return items
}

func (p *parser) messages(raw json.RawMessage, target *[]provider.Message) {
	items := p.list("messages", raw)
	if items == nil {
		return
	}
	if len(items) == 0 || len(items) > maxMessages {
		p.refuse("messages", "must hold 1 to %d messages", maxMessages)
		return
	}
	asked := false
	for i, item := range items {
		at := fmt.Sprintf("messages[%d]", i)
		fields, ok := p.object(at, item)
		if !ok {
			continue
		}
		var role, content string
		for _, name := range names(fields) {
			member := fields[name]
			switch name {
			case "role":
				p.text(at+".role", member, &role)
			case "content":
				p.text(at+".content", member, &content)
			default:
				p.unreadable(at+"."+name, "is not a field of a message")
			}
		}
		switch provider.Role(role) {
		case provider.RoleSystem, provider.RoleAssistant:
		case provider.RoleUser:
			asked = true
		default:
			p.refuse(at+".role", "must be system, user or assistant")
		}
		if strings.TrimSpace(content) == "" {
			p.refuse(at+".content", "is empty")
		}
		*target = append(*target, provider.Message{Role: provider.Role(role), Content: content})
	}
	if !asked {
		p.refuse("messages", "must hold at least one message of role user")
	}
}

func (p *parser) models(raw json.RawMessage, target *[]string) {
	items := p.list("models", raw)
	if items == nil {
		return
	}
	if len(items) == 0 || len(items) > MaxModels {
		p.refuse("models", "must name 1 to %d models, not %d", MaxModels, len(items))
	}
	seen := map[string]int{}
	for i, item := range items[:min(len(items), MaxModels)] {
		at := "models[" + strconv.Itoa(i) + "]"
		var model string
		if !p.text(at, item, &model) {
			continue
		}
		id, name, ok := provider.Split(model)
		first, twice := seen[model]
		switch {
		case !ok || len(model) > 200 || strings.ContainsFunc(name, isSpaceOrControl):
			p.refuse(at, "must be written provider/model, like openai/gpt-5-mini")
		case !p.isProvider(id):
			p.refuse(at, "names no provider that is set up here: %q", id)
		case twice:
			p.refuse(at, "is the same model as models[%d]; each model runs once", first)
		}
		if !twice {
			seen[model] = i
		}
		*target = append(*target, model)
	}
}

func isSpaceOrControl(r rune) bool { return r <= ' ' || r == 0x7f }

func (p *parser) config(raw json.RawMessage, c *Config) {
	fields, ok := p.object("config", raw)
	if !ok {
		return
	}
	for _, name := range names(fields) {
		member := fields[name]
		at := "config." + name
		switch name {
		case "temperature":
			p.number(at, member, &c.Temperature, 0, 2)
		case "topP":
			p.number(at, member, &c.TopP, 0, 1)
		case "maxTokens":
			p.integer(at, member, &c.MaxTokens, 1, maxTokens)
		case "timeoutMs":
			p.integer(at, member, &c.TimeoutMs, int(minTimeout.Milliseconds()), int(maxTimeout.Milliseconds()))
		case "stop":
			for i, item := range p.list(at, member) {
				if i == maxStop {
					p.refuse(at, "may hold at most %d sequences", maxStop)
					break
				}
				var s string
				if p.text(fmt.Sprintf("%s[%d]", at, i), item, &s) && s == "" {
					p.refuse(fmt.Sprintf("%s[%d]", at, i), "is empty")
				}
				c.Stop = append(c.Stop, s)
			}
		default:
			p.unreadable(at, "is not a field of config")
		}
	}
}

func (p *parser) number(field string, raw json.RawMessage, target **float64, least, most float64) {
	n, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		p.unreadable(field, "must be a number")
		return
	}
	if n < least || n > most {
		p.refuse(field, "must be between %v and %v", least, most)
	}
	*target = &n
}

func (p *parser) integer(field string, raw json.RawMessage, target **int, least, most int) {
	n, err := strconv.Atoi(string(raw))
	if err != nil {
		p.unreadable(field, "must be a whole number")
		return
	}
	if n < least || n > most {
		p.refuse(field, "must be between %d and %d", least, most)
	}
	*target = &n
}

func (p *parser) variables(raw json.RawMessage, target *map[string]string) {
	fields, ok := p.object("variables", raw)
	if !ok {
		return
	}
	if len(fields) > maxVariables {
		p.refuse("variables", "may hold at most %d values", maxVariables)
		return
	}
	*target = make(map[string]string, len(fields))
	for _, name := range names(fields) {
		member := fields[name]
		var s string
		if p.text("variables."+name, member, &s) {
			(*target)[name] = s
		}
	}
}
