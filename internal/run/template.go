package run

import (
	"regexp"
	"slices"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/provider"
)

var placeholder = regexp.MustCompile(`\{\{\s*([A-Za-z_][A-Za-z0-9_.-]*)\s*\}\}`)

// conversation is what every model of the run is sent: the system text, then
// the prompt or messages. With a template, body is its text: it is the prompt
// where the request brings none, and its {{placeholders}} are filled from the
// request's variables wherever they stand.
func conversation(req Request, body string) ([]provider.Message, error) {
	messages := slices.Clone(req.Messages)
	if messages == nil {
		prompt := req.Prompt
		if prompt == "" {
			prompt = body
		}
		messages = []provider.Message{{Role: provider.RoleUser, Content: prompt}}
	}
	if req.System != "" {
		messages = slices.Insert(messages, 0, provider.Message{Role: provider.RoleSystem, Content: req.System})
	}
	if req.TemplateID == nil {
		return messages, nil
	}
	var problems []fault.Field
	asked := map[string]bool{}
	for _, match := range placeholder.FindAllStringSubmatch(body, -1) {
		asked[match[1]] = true
	}
	missing := map[string]bool{}
	for i, message := range messages {
		messages[i].Content = placeholder.ReplaceAllStringFunc(message.Content, func(found string) string {
			name := placeholder.FindStringSubmatch(found)[1]
			asked[name] = true
			value, ok := req.Variables[name]
			if !ok && !missing[name] {
				missing[name] = true
				problems = append(problems, fault.Field{Field: "variables." + name, Message: "is missing; the template has a placeholder for it"})
			}
			return value
		})
	}
	for name := range req.Variables {
		if !asked[name] {
			problems = append(problems, fault.Field{Field: "variables." + name, Message: "has no placeholder in the template"})
		}
	}
	if len(problems) > 0 {
		slices.SortFunc(problems, func(a, b fault.Field) int { return compareFields(a, b) })
		return nil, fault.InvalidFields(problems)
	}
	return messages, nil
}
