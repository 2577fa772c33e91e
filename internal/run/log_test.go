package run

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// fieldsOf are the names of an event's fields, in order.
func fieldsOf(event map[string]any) string {
	return strings.Join(slices.Sorted(maps.Keys(event)), " ")
}

func checkFieldsOf(t *testing.T, event map[string]any, also string) {
	t.Helper()
	want := slices.Sorted(slices.Values(strings.Fields("time level source event requestId userId " + also)))
	if got := fieldsOf(event); got != strings.Join(want, " ") {
		t.Errorf("%s has the fields\n%s, want\n%s", event["event"], got, strings.Join(want, " "))
	}
	if _, err := time.Parse(time.RFC3339Nano, event["time"].(string)); err != nil {
		t.Error(err)
	}
	if event["source"] != "api/ai/run" {
		t.Errorf("source %v", event["source"])
	}
}

func checkEvent(t *testing.T, event, want map[string]any) {
	t.Helper()
	for name, value := range want {
		if diff := cmp.Diff(value, event[name]); diff != "" {
			t.Errorf("%s of %s:\n%s", name, event["event"], diff)
		}
	}
}

// list is what JSON makes of a list.
func list(items ...any) []any { return append([]any{}, items...) }

type object = map[string]any

func TestLogOfASuccess(t *testing.T) {
	w := makeWorld(t)
	w.exec(`update ops.fallback_keys set status = 'disabled' where provider = 'google'`)
	template := w.template(&w.ada, `Say hello to {{name}}`, false)
	call := w.call("openai/good", "anthropic/500", "google/good", "mistral/x")
	call.ClientRequestID = "mine"
	call.Request.TeamID = &w.team
	call.Request.Prompt, call.Request.TemplateID, call.Request.Variables = "", &template, map[string]string{"name": "Zebedee-the-prompt"}
	call.Request.Config = Config{MaxTokens: ptr(64), Temperature: ptr(0.0)}
	call.Request.Stream = true
	e := w.run(call, &hearing{})

	events := w.logs.of(t, call.ID)
	if len(events) != 2 {
		t.Fatalf("%d events: %v", len(events), events)
	}
	start, success := events[0], events[1]
	checkFieldsOf(t, start, "models keyAvailability config teamId templateId stream clientRequestId")
	checkEvent(t, start, object{
		"event": "ai_run_start", "level": "INFO", "requestId": call.ID.String(), "userId": w.ada.String(), "clientRequestId": "mine",
		"models":          list("openai/good", "anthropic/500", "google/good", "mistral/x"),
		"keyAvailability": object{"openai": "user", "anthropic": "fallback", "google": "none", "mistral": "fallback"},
		"config":          object{"maxTokens": 64.0, "temperature": 0.0},
		"teamId":          w.team.String(), "templateId": template.String(), "stream": true,
	})
	checkFieldsOf(t, success, "durationMs totalTokens totalCost status results errors clientRequestId")
	cost := func(i int) any {
		if e.Results[i].Cost == nil {
			return nil
		}
		return e.Results[i].Cost.Decimal().InexactFloat64()
	}
	ms := func(i int) float64 { return float64(e.Results[i].DurationMs) }
	checkEvent(t, success, object{
		"event": "ai_run_success", "level": "INFO", "requestId": call.ID.String(), "userId": w.ada.String(), "clientRequestId": "mine",
		"status": "partial", "durationMs": float64(e.DurationMs), "totalTokens": float64(e.TotalTokens), "totalCost": e.TotalCost.Decimal().InexactFloat64(),
		"results": list(
			object{"model": "openai/good", "keySource": "user", "durationMs": ms(0), "totalTokens": 18.0, "cost": cost(0), "error": nil},
			object{"model": "anthropic/500", "keySource": "fallback", "durationMs": ms(1), "totalTokens": nil, "cost": 0.0, "error": "provider_error"},
			object{"model": "google/good", "keySource": nil, "durationMs": 0.0, "totalTokens": nil, "cost": 0.0, "error": "missing_key"},
			object{"model": "mistral/x", "keySource": "fallback", "durationMs": ms(3), "totalTokens": float64(e.Results[3].Usage.TotalTokens), "cost": nil, "error": nil},
		),
		"errors": list(
			object{"model": "anthropic/500", "class": "provider_error", "message": e.Results[1].Error.Message},
			object{"model": "google/good", "class": "missing_key", "message": e.Results[2].Error.Message},
		),
	})
	if !strings.Contains(w.logs.String(), `"totalCost":`+e.TotalCost.String()+",") {
		t.Errorf("the cost is not logged to the last digit: %s", w.logs)
	}
	for _, said := range []string{"Zebedee", "Say hello", goodText[:10], *e.Results[3].Output} {
		if strings.Contains(w.logs.String(), said) {
			t.Errorf("%q of the conversation is logged", said)
		}
	}
	w.checkSecrets(e)
}

// What has nothing to say says null, or is an empty list.
func TestLogOfLittle(t *testing.T) {
	w := makeWorld(t)
	call := w.call("google/good")
	operator := uuid.New()
	call.LearnerID, call.OperatorID = nil, &operator
	w.run(call, nil)
	events := w.logs.of(t, call.ID)
	if len(events) != 2 {
		t.Fatalf("%d events: %v", len(events), events)
	}
	checkFieldsOf(t, events[0], "models keyAvailability config teamId templateId stream operatorId")
	checkEvent(t, events[0], object{"userId": nil, "operatorId": operator.String(), "teamId": nil, "templateId": nil, "config": object{}, "stream": false})
	checkFieldsOf(t, events[1], "durationMs totalTokens totalCost status results errors operatorId")
	checkEvent(t, events[1], object{"event": "ai_run_success", "status": "success", "errors": list()})
}

func TestLogOfAnError(t *testing.T) {
	w := makeWorld(t)
	call := w.call("openai/401", "google/close")
	e := w.run(call, nil)
	events := w.logs.of(t, call.ID)
	if len(events) != 2 || e.Status != Failed {
		t.Fatalf("%d events: %v", len(events), events)
	}
	checkFieldsOf(t, events[1], "error status durationMs results errors")
	checkEvent(t, events[1], object{
		"event": "ai_run_error", "level": "ERROR", "status": 200.0, "durationMs": float64(e.DurationMs), "error": "no model answered",
		"errors": list(
			object{"model": "openai/401", "class": "invalid_key", "message": e.Results[0].Error.Message},
			object{"model": "google/close", "class": "network", "message": e.Results[1].Error.Message},
		),
	})
	if results, ok := events[1]["results"].([]any); !ok || len(results) != 2 {
		t.Errorf("results %v", events[1]["results"])
	}
	w.checkSecrets(e)
}
