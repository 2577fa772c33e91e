package views

import (
	"testing"
	"time"
)

func TestBar(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		begin, took, whole time.Duration
		want               Bar
	}{
		{0, s, s, Bar{"0.0", "1000.0"}},
		{s / 4, s / 2, s, Bar{"250.0", "500.0"}},
		{0, 0, 0, Bar{"0", "1000"}},
		{s / 2, 1, s, Bar{"500.0", "4.0"}},       // too short to be seen
		{s, 0, s, Bar{"996.0", "4.0"}},           // nor out of sight
		{2 * s, s, s, Bar{"996.0", "4.0"}},       // longer than it can be
		{s / 2, 3 * s, s, Bar{"500.0", "500.0"}}, // ends with the line
		{-s, s, 2 * s, Bar{"0.0", "500.0"}},
	} {
		if got := BarOf(tt.begin, tt.took, tt.whole); got != tt.want {
			t.Errorf("BarOf(%s, %s, %s) = %v, want %v", tt.begin, tt.took, tt.whole, got, tt.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 ms", time.Microsecond: "<1 ms", time.Millisecond: "1 ms", 1830 * time.Millisecond: "1.83 s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%s) = %q, want %q", d, got, want)
		}
	}
}

func runPage() RunPage {
	main, spare := RunKey{Label: "Main account", LastFour: "9f2a", Source: "fallback"}, RunKey{Label: "Spare account", LastFour: "77b0", Source: "fallback"}
	since := MomentOf(time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC), time.UTC)
	return RunPage{
		Page: page("Run 019a7b3c-52b1-7cc0-a2b4-0d3f8a1c9e55", "/runs/019a7b3c-52b1-7cc0-a2b4-0d3f8a1c9e55"),
		ID:   "019a7b3c-52b1-7cc0-a2b4-0d3f8a1c9e55", Status: "partial", Started: MomentOf(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), time.UTC),
		Figures: []KeyFigure{{Label: "Duration", Value: "1.83 s"}, {Label: "Cost", Value: "$0.001934", Exact: "$0.001934", Note: "of what has a price"}},
		Facts:   []Fact{{Label: "Learner", Value: "ada@example.org", Href: "/learners/1", More: "/runs?learner=ada"}, {Label: "Caller’s request id", Value: "mine-1", Mono: true}},
		Axis:    [3]string{"0", "915 ms", "1.83 s"},
		List:    "/runs?range=7d", Newer: "/runs/2?range=7d", Older: "/runs/3?range=7d",
		Said: &RunSaid{Messages: []SaidText{{"system", "Be brief"}, {"user", "Explain RAG\nto a chef"}}, Outputs: []SaidText{{"openai/gpt-5-mini", "Like a cook."}}},
		Curl: RunBody{Prompt: "Explain RAG", Models: []string{"openai/gpt-5-mini"}}.Curl("https://ops.example.org"),
		Models: []RunModel{
			{
				Name: "gpt-5-mini", Provider: "OpenAI", Status: "ok", Finish: "stop", Took: "1.83 s",
				Tries: []RunTry{
					{Key: main, Begin: "12 ms", Took: "90 ms", Class: "rate_limited", HTTP: "429", Action: "next_key", Reason: "this key is rate limited", Bar: Bar{"6.6", "49.2"}},
					{Key: spare, Begin: "102 ms", Took: "1.72 s", Action: "done", Bar: Bar{"55.7", "944.3"}},
				},
				Facts: []Fact{{Label: "Price", Value: "$0.25 in, $2.00 out", Note: "per million tokens", Since: &since}},
			},
			{
				Name: "grok-4", Provider: "xAI", Status: "error", Took: "90 ms", ErrorClass: "overloaded", Message: "No capacity.",
				Tries: []RunTry{{Key: RunKey{Source: "user", Deleted: true}, Begin: "about 12 ms", Took: "<1 ms", Class: "overloaded", HTTP: "503", Action: "give_up", Bar: Bar{"6.6", "4.0"}}},
			},
			{Name: "never-called", Provider: "Groq", Status: "error", ErrorClass: "missing_key", Message: "There is no key."},
		},
	}
}

// withheldPage is what a lead sees: of keys only whose they are.
func withheldPage() RunPage {
	p := runPage()
	p.Said, p.Curl, p.Silent, p.List = nil, "", "This team does not share its prompts with those who lead it.", ""
	p.Models[0].Tries[0].Key, p.Models[0].Tries[1].Key = RunKey{Source: "user", Withheld: true}, RunKey{Source: "fallback", Withheld: true}
	return p
}

func runningPage() RunPage {
	p := runPage()
	p.Said, p.Silent = nil, "They are stored when the run ends."
	p.Status, p.Axis, p.Models = "running", [3]string{}, []RunModel{{Name: "gpt-5-mini", Provider: "OpenAI", Status: "running", Facts: []Fact{{Label: "Key", Value: "None"}}}}
	return p
}

func interruptedPage() RunPage {
	p := runPage()
	p.Status, p.Axis = "interrupted", [3]string{}
	p.Models = []RunModel{{Name: "gpt-5-mini", Provider: "OpenAI", Status: "interrupted", ErrorClass: "interrupted"}}
	return p
}
