package views

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func at(hours int) *Moment {
	return new(MomentOf(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).Add(time.Duration(hours)*time.Hour), time.FixedZone("CET", 3600)))
}

func demoKey(id, label, state string) FallbackKey {
	return FallbackKey{
		ID: id, Label: label, LastFour: "a1b2", Provider: "OpenAI", Place: "1", State: KeyState{State: state, Before: KeyStateWords(state)},
		Today: "$0.012345", Month: LimitUseOf(usd("41"), ptr(usd("50"))), Runway: Runway(3.4), Used: at(0), Worked: at(0),
	}
}

func fallbackPage() FallbackPage {
	main, spare, old := demoKey("k1", "Main", "healthy"), demoKey("k2", "Spare <b>", "cooling"), demoKey("k3", "Old", "disabled")
	main.First, main.Notes, main.Endless = true, []KeyNote{{"warning", "Expires", at(200)}, {"info", "Retires", at(24)}}, true
	spare.State.At, spare.Place, spare.InTurn, spare.Sandbox, spare.Models = at(1), "2", true, true, "gpt-5-mini, gpt-6-sol"
	spare.Month, spare.Runway = LimitUseOf(usd("0"), nil), "No cap"
	spare.Error = &KeyError{*at(-1), "rate_limited", "429", "Too many <requests>.", "019a7b3c-52b1-7cc0-a2b4-0d3f8a1c9e55", "req_1"}
	old.Place, old.Last, old.InTurn = "3", true, true
	old.State = KeyState{"disabled", "Disabled by marta@example.org on", at(-5), "Leaked in a screenshot"}
	old.Used, old.Worked, old.Runway = nil, nil, "Not used"
	lone := demoKey("k4", "vLLM", "invalid")
	lone.First, lone.Last = true, true
	return FallbackPage{
		Page: page("Fallback Keys", "/keys/fallback"), Day: "24 Nov 2026", Month: "November 2026", Zone: "Europe/Berlin",
		Forsaken: []Forsaken{{"xai", "xAI", 0, "1,234"}, {"vllm", "vLLM", 1, ""}},
		Providers: []FallbackProvider{
			{ID: "openai", Name: "OpenAI", Usable: "2 of 3 keys usable", Seen: "k1,k2,k3", Keys: []FallbackKey{main, spare, old}},
			{ID: "vllm", Name: "vllm", Gone: true, Usable: "0 of 1 key usable", Seen: "k4", Keys: []FallbackKey{lone}},
		},
	}
}

func keyPage(state string) KeyPage {
	k := demoKey("k1", "Main", state)
	k.Error = &KeyError{At: *at(-1), Class: "invalid_key", HTTP: "401", Message: "Incorrect API key provided."}
	was, now := url.Values{"label": {"Main"}, "models": {""}}, url.Values{"label": {"Main"}, "models": {"gpt-5-mini"}}
	p := KeyPage{
		Page: page("Main", "/keys/fallback/k1"), Key: k, Zone: "Europe/Berlin", Revision: "3", Was: was.Encode(), LastHope: state == "healthy",
		Facts:    []Fact{{Label: "Spent today", Value: "$0.01"}, {Label: "Id", Value: "k1", Mono: true}},
		Settings: KeyFields("", url.Values{"label": {"Main"}, "models": {"gpt-6-sol"}, "monthlyCapUsd": {"-1"}}, map[string]string{"monthlyCapUsd": "This must not be negative."}, was, now),
		Rotate:   []KeyField{SecretField("rotate-", "")}, Overlaps: Overlaps("24h"), Reason: ReasonField("", ""), Confirm: ConfirmField("Main", ""),
		History: []KeyEvent{
			{At: *at(0), Who: EventActor("operator", "marta@example.org"), Reason: "Leaked", From: "healthy", To: "disabled"},
			{At: *at(-1), Who: EventActor("attempt", ""), Reason: "Refused.", From: "healthy", To: "healthy", Class: "invalid_key", HTTP: "401", Message: "Incorrect API key provided.", RunID: "r1", RequestID: "req_1", Took: "312 ms"},
			{At: *at(-2), Who: EventActor("operator", ""), Reason: "Added."},
		},
		MoreEvents: true,
	}
	if state == "disabled" {
		p.Replaced, p.Successor, p.Problem, p.Twin = true, &KeyLink{"/keys/fallback/k2", "Main …c3d4"}, "This key is stored already.", "/keys/fallback/k2"
	}
	return p
}

func newKeyPage() NewKeyPage {
	fields := KeyFields("", url.Values{"label": {"Main"}}, map[string]string{"expires": "This is not a day."}, nil, nil)
	return NewKeyPage{
		Page: page("Add a fallback key", "/keys/fallback"), Problem: "This key is stored already, as “Main”.", Twin: "/keys/fallback/k1", TwinLabel: "Main",
		Providers: []Option{{"openai", "OpenAI", true}, {"xai", "xAI", false}}, Provider: "This is not set up here.",
		Fields: append(fields, SecretField("", "Type the key again.")), Zone: "Europe/Berlin",
	}
}

func providersPage() ProvidersPage {
	return ProvidersPage{
		Page:  page("Providers", "/settings/providers"),
		Known: []KnownProvider{{"openai", "OpenAI", "https://api.openai.com/v1", "OPENAI_BASE_URL", false}, {"google", "Google", "https://proxy.example.com", "GEMINI_BASE_URL", true}},
		Added: []AddedEndpoint{
			{"vllm", "vLLM", "https://llm.example.com/v1", "1 fallback key", "/keys/fallback", &EndpointModels{Took: "12 ms", Names: []string{"llama", "qwen"}}},
			{"box", "Box", "https://box.example.com/v1", "No fallback key", "/keys/fallback/new?provider=box", &EndpointModels{Problem: "Nobody answers."}},
		},
		Form: EndpointFields("Big", "", "x", map[string]string{"id": "This must be small letters."}), Problem: "Nothing was added.",
	}
}

func TestRunway(t *testing.T) {
	for days, want := range map[float64]string{
		-1: "At its cap", 0: "At its cap", 0.2: "Less than a day", 1: "1 day", 1.49: "1 day", 1.5: "2 days", 30.2: "30 days", 999.4: "999 days", 1e9: "Over 1,000 days",
	} {
		if got := Runway(days); got != want {
			t.Errorf("%v: %s, want %s", days, got, want)
		}
	}
}

func TestForsakenSays(t *testing.T) {
	for _, tt := range []struct {
		forsaken Forsaken
		want     string
	}{
		{Forsaken{Name: "xAI"}, "xAI has no fallback key. Learners without a key of their own get no answer from its models."},
		{Forsaken{Name: "xAI", Attempts: "1"}, "xAI has no fallback key. Learners without a key of their own get no answer from its models. That happened once in the last seven days."},
		{Forsaken{Name: "xAI", Keys: 2, Attempts: "12"}, "xAI has no fallback key that can be used: all 2 are out of use. Learners without a key of their own get no answer from its models. That happened 12 times in the last seven days."},
	} {
		if diff := cmp.Diff(tt.want, tt.forsaken.says()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func TestEveryKeyStateHasAMark(t *testing.T) {
	for _, state := range []string{"healthy", "cooling", "checking", "trial", "over_cap", "billing", "invalid", "expired", "retired", "disabled"} {
		if mark := (KeyState{State: state}).mark(); mark.Label == "" || mark.Icon == "" {
			t.Errorf("%s has none", state)
		}
	}
}
