package views

import (
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/google/go-cmp/cmp"
)

const (
	startLine = `{"models":["openai/gpt-5-mini","anthropic/claude-haiku-5-5"],"keyAvailability":{"openai":"user","anthropic":"fallback","google":"none"},"config":{"temperature":0.7,"maxTokens":512},"teamId":null,"stream":false}`
	errorLine = `{"durationMs":1834,"results":[{"model":"openai/gpt-5-mini","keySource":"fallback","durationMs":90,"totalTokens":null,"cost":0.00079,"error":"rate_limited"}],"error":"no model <b>answered</b>","status":200,"errors":[{"model":"openai/gpt-5-mini","class":"rate_limited","message":"Slow down."}]}`
)

func logEvent(id, level, name, attributes string) LogEvent {
	at := time.Date(2026, 11, 24, 12, 0, 0, 123_000_000, time.UTC)
	return LogEvent{
		ID: id, Place: "1764072000123456-" + id, At: LogMomentOf(at, time.UTC), Level: level, Name: name, Source: "api/ai/run", Node: "web-1/9f2a",
		Request: "r1", Events: "/logs?request=r1", Run: "/runs/r1", Learner: "ada@example.org", Who: "/learners/1",
		Facts: LogFacts([]byte(attributes)), JSON: IndentJSON([]byte(attributes)),
	}
}

func logsPage() LogsPage {
	day := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	spans := make([]LogSpan, 8)
	for i := range spans {
		from := day.Add(time.Duration(i) * 3 * time.Hour)
		spans[i] = LogSpan{From: from, To: from.Add(3 * time.Hour), Href: "/logs?from=2026-11-24"}
	}
	spans[2].Others, spans[4].Others, spans[4].Warnings, spans[4].Errors = 12, 20_000, 3, 1
	plain := logEvent("e2", "INFO", "server_started", `{"listen":":8080","embedded":true}`)
	plain.Request, plain.Events, plain.Run, plain.Learner, plain.Who, plain.Source = "", "", "", "", "", "promptops"
	return LogsPage{
		Page: page("Logs", "/logs"), Period: "18 – 24 Nov 2026", Count: "20,016 events", CSV: "/logs.csv?range=7d", NDJSON: "/logs.ndjson?range=7d", FileMost: "10,000", Cut: true, Kept: "30 days",
		Filters: LogsFilters{
			Period: PeriodChoice{Ranges: LogRanges(UsageRanges("7d"), []string{"today", "7d"}), From: "2026-11-18", To: "2026-11-24", Today: "2026-11-24"},
			Levels: LogLevels("warn"), Sources: []Option{{Label: "All sources", Selected: true}, {Value: "api/ai/run", Label: "api/ai/run"}},
			Events: []string{"ai_run_error", "ai_run_start"}, Start: "14:05", Text: `say "no"`, Narrowed: true,
		},
		Chart:  LogChartOf(spans, 3*time.Hour, time.UTC),
		Events: []LogEvent{logEvent("e1", "ERROR", "ai_run_error", errorLine), plain},
		Newest: "/logs", Newer: "/logs?after=1", Older: "/logs?before=2", Tail: "/logs/tail?range=7d",
	}
}

func logPages() map[string]templ.Component {
	none, refused, searched, end := logsPage(), logsPage(), logsPage(), logsPage()
	none.Events, none.Newest, none.Newer, none.Older, none.Filters.Narrowed, none.Count, none.Cut = nil, "", "", "", false, "0 events", false
	none.Chart = LogChartOf([]LogSpan{{From: time.Unix(0, 0), To: time.Unix(0, 0).Add(24 * time.Hour)}}, 0, time.UTC)
	refused.Filters.Problem, refused.Theme, refused.Tail = "The filters could not be used: level must be info, warn or error.", "dark", ""
	searched.Events, searched.Newest, searched.Newer, searched.Older, searched.Count, searched.Chart.Unknown = nil, "", "", "", "", true
	searched.Searched, searched.Since, searched.Rest = "50,000", new(someMoment()), "/logs?q=x&before=3"
	end.Events, end.Older, end.Tail = nil, "", ""
	logged, silent := runPage(), runPage()
	start, failed := logEvent("e3", "INFO", "ai_run_start", startLine), logEvent("e4", "ERROR", "ai_run_error", errorLine)
	failed.After = "+1.83 s"
	logged.Log = &RunLog{Events: []LogEvent{start, failed}, Href: "/logs?request=r1"}
	silent.Log = &RunLog{Silent: "They are gone: events are kept for 30 days."}
	return map[string]templ.Component{
		"logs": Logs(logsPage()), "logs-fragment": LogsContent(logsPage()), "logs-none": Logs(none), "logs-refused": Logs(refused),
		"logs-searched": Logs(searched), "logs-end": Logs(end), "run-logged": Run(logged), "run-silent": Run(silent),
	}
}

func TestLogFacts(t *testing.T) {
	want := []LogFact{
		{"durationMs", []string{"1.83 s"}},
		{"results", []string{"openai/gpt-5-mini: key source fallback · duration 90 ms · cost $0.00079 · error rate_limited"}},
		{"error", []string{"no model <b>answered</b>"}},
		{"status", []string{"200"}},
		{"errors", []string{"openai/gpt-5-mini: rate_limited · Slow down."}},
	}
	if diff := cmp.Diff(want, LogFacts([]byte(errorLine))); diff != "" {
		t.Errorf("of an error (-want +got):\n%s", diff)
	}
	want = []LogFact{
		{"models", []string{"openai/gpt-5-mini, anthropic/claude-haiku-5-5"}},
		{"keyAvailability", []string{"openai: user · anthropic: fallback · google: none"}},
		{"config", []string{"temperature: 0.7 · maxTokens: 512"}},
		{"stream", []string{"no"}},
	}
	if diff := cmp.Diff(want, LogFacts([]byte(startLine))); diff != "" {
		t.Errorf("of a start (-want +got):\n%s", diff)
	}
	if got := LogFacts([]byte(`{"a":null,"b":"","c":[],"d":{},"e":"x\ny","f":[[1,2],3]}`)); len(got) != 2 || len(got[0].Lines) != 2 || got[1].Lines[0] != "1, 2, 3" {
		t.Errorf("%v", got)
	}
	for _, odd := range []string{"", "[]", `"x"`, "{", `{"a":`} {
		if got := LogFacts([]byte(odd)); len(got) > 0 {
			t.Errorf("%q: %v", odd, got)
		}
	}
	if got := logEvent("e", "ERROR", "x", errorLine).gist(); !strings.HasPrefix(got, "no model <b>answered</b> · duration 1.83 s · status 200") {
		t.Errorf("gist %q", got)
	}
}

// Whatever is logged is only text, also in what is followed live.
func TestLogsLetNoMarkupThrough(t *testing.T) {
	evil := `</script><script>alert("x")</script><img src=x onerror=alert(1)>`
	e := logEvent("e1", evil, evil, `{"error":"`+strings.ReplaceAll(evil, `"`, `\"`)+`"}`)
	e.Source, e.Node, e.Learner, e.JSON, e.Run, e.Events = evil, evil, evil, evil, "/runs/"+evil, "/logs?request="+evil
	p := logsPage()
	p.Events = []LogEvent{e}
	p.Filters.Text, p.Filters.Event, p.Filters.Request, p.Filters.Learner, p.Filters.Events = evil, evil, evil, evil, []string{evil}
	p.Chart.Bars[0].Title, p.Chart.Bars[0].Href = evil, "/logs?q="+evil
	logged := runPage()
	logged.Log = &RunLog{Events: []LogEvent{e}}
	for name, page := range map[string]templ.Component{"logs": Logs(p), "run": Run(logged), "line": LogLine(e)} {
		html := render(t, page)
		if strings.Contains(html, "<img") || strings.Contains(html, "<script>") {
			t.Errorf("%s lets markup through", name)
		}
		if !strings.Contains(html, "alert") {
			t.Errorf("%s does not show it at all", name)
		}
	}
}

func TestLogPieces(t *testing.T) {
	for _, c := range []struct {
		span LogSpan
		want []LogPiece
	}{
		{LogSpan{Others: 10}, []LogPiece{{"other", "0.00", "100.00"}}},
		{LogSpan{Errors: 1, Others: 9}, []LogPiece{{"error", "90.00", "10.00"}, {"other", "0.00", "90.00"}}},
		{LogSpan{Errors: 1}, []LogPiece{{"error", "90.00", "10.00"}}},
	} {
		if diff := cmp.Diff(c.want, logPieces(c.span, 10)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.span, diff)
		}
	}
	if got := logPieces(LogSpan{Errors: 1, Warnings: 1, Others: 1_000_000}, 1_000_002); got[0].Height != "4.00" || got[2].Height != "92.00" {
		t.Errorf("few among many: %v", got)
	}
}
