package eventlog

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestParseLine(t *testing.T) {
	ada := uuid.MustParse("0193a5b0-0000-7000-8000-000000000001")
	for name, c := range map[string]struct {
		line string
		want Event
	}{
		"a run's": {
			`{"time":"2026-11-24T13:00:00.1234567+01:00","level":"ERROR","event":"ai_run_error","source":"api/ai/run","requestId":"r1","userId":"` + ada.String() + `","status":502,"errors":[{"model":"a/b","message":"\"no\" }"}]}`,
			Event{At: noon.Add(123456 * time.Microsecond), Level: slog.LevelError, Source: "api/ai/run", Name: "ai_run_error", RequestID: "r1", UserID: &ada, Attributes: json.RawMessage(`{"status":502,"errors":[{"model":"a/b","message":"\"no\" }"}]}`)},
		},
		"without anything": {`{}`, Event{At: noon, Source: Program, Name: Text, Attributes: json.RawMessage(`{}`)}},
		"of nobody":        {`{"event":"x","userId":null,"n":1}`, Event{At: noon, Source: Program, Name: "x", Attributes: json.RawMessage(`{"n":1}`)}},
		"a sentence":       {`{"event":"http: TLS handshake error from 1.2.3.4","level":"WARN","n":1}`, Event{At: noon, Level: slog.LevelWarn, Source: Program, Name: Text, Attributes: json.RawMessage(`{"n":1,"message":"http: TLS handshake error from 1.2.3.4"}`)}},
		"of other types":   {`{"event":7,"level":[],"time":"soon","requestId":{},"userId":"x","source":""}`, Event{At: noon, Source: Program, Name: Text, Attributes: json.RawMessage(`{"event":7,"level":[],"time":"soon","requestId":{},"userId":"x","source":""}`)}},
		"with space":       {" { \"event\" : \"x\" , \"a\" : { \"b\" : [ 1 , { } ] } , \"c\" : 1 } \n", Event{At: noon, Source: Program, Name: "x", Attributes: json.RawMessage(`{"a":{ "b" : [ 1 , { } ] },"c":1}`)}},
		"no JSON":          {`panic: <b>`, Event{At: noon, Level: slog.LevelWarn, Source: Program, Name: Text, Attributes: json.RawMessage(`{"message":"panic: <b>"}`)}},
		"not UTF-8":        {"{\"event\":\"x\",\"a\":\"\xff\"}", Event{At: noon, Source: Program, Name: "x", Attributes: json.RawMessage(`{"a":"` + "\uFFFD" + `"}`)}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, parseLine([]byte(c.line), noon)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	long := parseLine([]byte(`{"event":"x","a":"`+strings.Repeat("ä", maxLine)+`"}`), noon)
	if !json.Valid(long.Attributes) || len(long.Attributes) > maxLine || long.Name != Text {
		t.Errorf("a line that is too long: %d bytes of attributes, event %q", len(long.Attributes), long.Name)
	}
}

// Whatever is logged is kept whole, and is JSON.
func FuzzParseLine(f *testing.F) {
	f.Add(`{"event":"x","requestId":"r","a":[1,{"b":"}\\\""}],"c":null}`)
	f.Add(`{"a":1,"a":2}`)
	f.Add(`{"event":"not a name","level":"WARN+2","time":"2026-11-24T12:00:00Z"}`)
	f.Fuzz(func(t *testing.T, line string) {
		e := parseLine([]byte(line), noon)
		if !json.Valid(e.Attributes) || e.Attributes[0] != '{' {
			t.Fatalf("attributes %q of %q", e.Attributes, line)
		}
		if !json.Valid(e.JSON()) {
			t.Fatalf("whole %q of %q", e.JSON(), line)
		}
		var whole map[string]json.RawMessage
		if !strings.HasPrefix(strings.TrimSpace(line), "{") || len(line) > maxLine || json.Unmarshal([]byte(line), &whole) != nil {
			return
		}
		var kept map[string]json.RawMessage
		if err := json.Unmarshal(e.Attributes, &kept); err != nil {
			t.Fatal(err)
		}
		for name, value := range whole {
			switch name {
			case "time", "level", "event", "source", "requestId", "userId", "message":
			default:
				if same := compact(t, value); kept[name] == nil || compact(t, kept[name]) != same {
					t.Fatalf("%q: %q is %q, want %q", line, name, kept[name], value)
				}
			}
		}
	})
}

func compact(t *testing.T, value json.RawMessage) string {
	var out bytes.Buffer
	if err := json.Compact(&out, value); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestWholeEvent(t *testing.T) {
	e := parseLine([]byte(`{"time":"2026-11-24T12:00:00.5Z","level":"INFO","event":"x","source":"s","requestId":"r","a":"<b>"}`), noon)
	e.Node = "one"
	want := `{"time":"2026-11-24T12:00:00.5Z","level":"INFO","source":"s","event":"x","requestId":"r","eventId":"00000000-0000-0000-0000-000000000000","node":"one","a":"<b>"}`
	if diff := cmp.Diff(want, string(e.JSON())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
