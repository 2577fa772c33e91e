package run

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/fault"
)

func knownProvider(id string) bool { return id == "openai" || id == "anthropic" || id == "openrouter" }

func TestParseRequest(t *testing.T) {
	req, err := ParseRequest([]byte(`{
		"prompt": "Explain {{topic}}", "system": "Be brief",
		"models": ["openai/gpt-5-mini", "openrouter/openai/gpt-6-sol"],
		"config": {"temperature": 0, "maxTokens": 512, "topP": 1, "stop": ["\n\n"], "timeoutMs": 30000},
		"templateId": "0192f1c8-7b1c-7000-8000-000000000001", "variables": {"topic": "RAG"},
		"teamId": null, "stream": true}`), knownProvider)
	if err != nil {
		t.Fatal(err)
	}
	if req.Prompt != "Explain {{topic}}" || req.System != "Be brief" || !req.Stream || req.TeamID != nil || req.TemplateID == nil {
		t.Errorf("got %+v", req)
	}
	if diff := cmp.Diff([]string{"openai/gpt-5-mini", "openrouter/openai/gpt-6-sol"}, req.Models); diff != "" {
		t.Error(diff)
	}
	if *req.Config.Temperature != 0 || *req.Config.MaxTokens != 512 || req.Config.Timeout().Seconds() != 30 {
		t.Errorf("config %+v", req.Config)
	}
}

func TestParseRequestReadsEveryText(t *testing.T) {
	for written, want := range map[string]string{
		`"plain, ü and 😀"`:                  "plain, ü and 😀",
		`"\"quoted\"\n\tline \u00fc \\ \/"`: "\"quoted\"\n\tline ü \\ /",
		`"\ud83d\ude00"`:                    "😀",
		` "spaced" `:                        "spaced",
	} {
		req, err := ParseRequest([]byte(`{"prompt":`+written+`,"models":["openai/a"]}`), knownProvider)
		if err != nil || req.Prompt != want {
			t.Errorf("%s is %q (%v), want %q", written, req.Prompt, err, want)
		}
	}
}

func BenchmarkParseRequest(b *testing.B) {
	body := []byte(`{"prompt":"Explain retrieval-augmented generation to a chef in five short steps, each with an example from their own day.",
		"models":["openai/gpt-5-mini"],"config":{"temperature":0.7,"maxTokens":512},"teamId":"0192f1c8-7b1c-7000-8000-000000000001"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRequest(body, knownProvider); err != nil {
			b.Fatal(err)
		}
	}
}

func TestParseRequestRefuses(t *testing.T) {
	models := `"models":["openai/a"]`
	nine := `"models":["openai/1","openai/2","openai/3","openai/4","openai/5","openai/6","openai/7","openai/8","openai/9"]`
	for _, test := range []struct {
		name   string
		body   string
		kind   fault.Kind
		fields string // every bad field, in order
	}{
		{"nothing", ``, fault.Malformed, "body"},
		{"spaces", "  \n", fault.Malformed, "body"},
		{"not JSON", `prompt=hi`, fault.Malformed, "body"},
		{"cut off", `{"prompt":"hi"`, fault.Malformed, "body"},
		{"two values", `{` + models + `,"prompt":"hi"} {}`, fault.Malformed, "body"},
		{"a list", `[]`, fault.Malformed, "body"},
		{"null", `null`, fault.Malformed, "body"},
		{"wrong types", `{"prompt":1,"models":"openai/a","stream":"yes","config":[],"variables":7}`, fault.Malformed, "config models prompt stream variables"},
		{"wrong types below", `{"prompt":"hi","models":[1],"config":{"temperature":"hot","maxTokens":1.5,"stop":"x"}}`, fault.Malformed, "config.maxTokens config.stop config.temperature models[0]"},
		{"unknown fields", `{"prompt":"hi",` + models + `,"model":"x","config":{"top_p":1}}`, fault.Malformed, "config.top_p model"},
		{"fields differ by case", `{"Prompt":"hi","MODELS":["openai/a"]}`, fault.Malformed, "MODELS Prompt"},
		{"broken UTF-8", "{\"prompt\":\"a\xff\"," + models + "}", fault.Malformed, "prompt"},
		{"broken UTF-8 in a message", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\xff\"}]," + models + "}", fault.Malformed, "messages[0].content"},
		{"huge number", `{"prompt":"hi",` + models + `,"config":{"maxTokens":99999999999999999999}}`, fault.Malformed, "config.maxTokens"},
		{"empty object", `{}`, fault.Invalid, "models prompt"},
		{"prompt and messages", `{"prompt":"hi","messages":[{"role":"user","content":"hi"}],` + models + `}`, fault.Invalid, "messages"},
		{"blank prompt", `{"prompt":" \n",` + models + `}`, fault.Invalid, "prompt"},
		{"NUL", `{"prompt":"a\u0000b",` + models + `}`, fault.Invalid, "prompt"},
		{"NUL everywhere", `{"messages":[{"role":"user","content":"\u0000"}],"system":"\u0000","models":["openai/\u0000"],"templateId":"\u0000","variables":{"a":"\u0000"},"config":{"stop":["\u0000"]}}`, fault.Invalid,
			"config.stop[0] messages[0].content models[0] system templateId variables.a"},
		{"no models", `{"prompt":"hi","models":[]}`, fault.Invalid, "models"},
		{"nine models", `{"prompt":"hi",` + nine + `}`, fault.Invalid, "models"},
		{"bad models", `{"prompt":"hi","models":["gpt","openai/","nobody/x","openai/a b","openai/a","openai/a"]}`, fault.Invalid, "models[0] models[1] models[2] models[3] models[5]"},
		{"numbers out of range", `{"prompt":"hi",` + models + `,"config":{"temperature":-1,"topP":1.1,"maxTokens":-5,"timeoutMs":-1}}`, fault.Invalid, "config.maxTokens config.temperature config.timeoutMs config.topP"},
		{"no messages", `{"messages":[],` + models + `}`, fault.Invalid, "messages"},
		{"bad messages", `{"messages":[{"role":"robot","content":"x"},{"role":"user"},{"role":"user","content":"x"}],` + models + `}`, fault.Invalid, "messages[0].role messages[1].content"},
		{"nobody asks", `{"messages":[{"role":"assistant","content":"x"}],` + models + `}`, fault.Invalid, "messages"},
		{"ids", `{"prompt":"hi",` + models + `,"templateId":"7","teamId":"{0192f1c8-7b1c-7000-8000-000000000001}"}`, fault.Invalid, "teamId templateId"},
		{"variables alone", `{"prompt":"hi",` + models + `,"variables":{"a":"b"}}`, fault.Invalid, "variables"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseRequest([]byte(test.body), knownProvider)
			f, ok := errors.AsType[*fault.Error](err)
			if !ok {
				t.Fatalf("error is %v", err)
			}
			if f.Kind != test.kind {
				t.Errorf("kind %s, want %s (%v)", f.Kind, test.kind, f.Details)
			}
			var fields []string
			seen := map[string]bool{}
			for _, d := range f.Details {
				if !seen[d.Field] {
					fields = append(fields, d.Field)
				}
				seen[d.Field] = true
			}
			if got := strings.Join(fields, " "); got != test.fields {
				t.Errorf("fields %q, want %q: %v", got, test.fields, f.Details)
			}
		})
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"prompt":"hi","models":["openai/a"],"config":{"stop":["x"]},"variables":{}}`))
	f.Add([]byte(`{"messages":[{"role":"user","content":"hi"}],"models":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := ParseRequest(body, knownProvider)
		if err != nil {
			if problem, ok := errors.AsType[*fault.Error](err); !ok || len(problem.Details) == 0 {
				t.Fatalf("no field is named: %v", err)
			}
			return
		}
		if len(req.Models) == 0 || len(req.Models) > MaxModels || strings.ContainsRune(req.Prompt, 0) {
			t.Fatalf("accepted %+v", req)
		}
	})
}
