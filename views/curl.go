package views

import (
	"encoding/json"
	"strings"
)

// RunBody is the body of a run as the run endpoint takes it.
type RunBody struct {
	Prompt   string         `json:"prompt,omitempty"`
	Messages []BodyMessage  `json:"messages,omitempty"`
	System   string         `json:"system,omitempty"`
	Models   []string       `json:"models"`
	Config   map[string]any `json:"config,omitempty"`
	TeamID   string         `json:"teamId,omitempty"`
	Stream   bool           `json:"stream,omitempty"`
}

// BodyMessage is one turn of a conversation in a RunBody.
type BodyMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Curl is a run as a command line; the token stays in the environment.
func (b RunBody) Curl(origin string) string { return curl(origin, b) }

func curl(origin string, body any) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // templ escapes for the page; the shell needs & as it is
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(body); err != nil {
		return ""
	}
	return "curl " + origin + "/api/ai/run \\\n" +
		"  -H \"Authorization: Bearer $TOKEN\" \\\n" +
		"  -H 'Content-Type: application/json' \\\n" +
		"  -d '" + strings.ReplaceAll(strings.TrimSpace(text.String()), "'", `'\''`) + "'"
}
