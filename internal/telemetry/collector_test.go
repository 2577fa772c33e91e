package telemetry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/internal/telemetry"
)

// collector is an OTLP collector that speaks http/protobuf.
type collector struct {
	*httptest.Server
	mu       sync.Mutex
	raw      bytes.Buffer
	headers  []http.Header
	services []map[string]any
	spans    []*tracev1.Span
	metrics  map[string]*metrics.Metric
	logs     []*logs.LogRecord
}

func newCollector(t testing.TB) *collector {
	t.Helper()
	c := &collector{metrics: map[string]*metrics.Metric{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		var request coltrace.ExportTraceServiceRequest
		c.take(t, r, &request, func() {
			for _, resource := range request.ResourceSpans {
				c.services = append(c.services, plain(resource.Resource.Attributes))
				for _, scope := range resource.ScopeSpans {
					c.spans = append(c.spans, scope.Spans...)
				}
			}
		})
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		var request colmetrics.ExportMetricsServiceRequest
		c.take(t, r, &request, func() {
			for _, resource := range request.ResourceMetrics {
				c.services = append(c.services, plain(resource.Resource.Attributes))
				for _, scope := range resource.ScopeMetrics {
					for _, metric := range scope.Metrics {
						c.metrics[metric.Name] = metric
					}
				}
			}
		})
	})
	mux.HandleFunc("POST /v1/logs", func(w http.ResponseWriter, r *http.Request) {
		var request collogs.ExportLogsServiceRequest
		c.take(t, r, &request, func() {
			for _, resource := range request.ResourceLogs {
				c.services = append(c.services, plain(resource.Resource.Attributes))
				for _, scope := range resource.ScopeLogs {
					c.logs = append(c.logs, scope.LogRecords...)
				}
			}
		})
	})
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(t testing.TB, r *http.Request, request proto.Message, keep func()) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, request)
	}
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
		t.Errorf("%s: %v, Content-Type %q", r.URL.Path, err, r.Header.Get("Content-Type"))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(body)
	c.headers = append(c.headers, r.Header)
	keep()
}

// plain makes attributes comparable.
func plain(attributes []*common.KeyValue) map[string]any {
	m := map[string]any{}
	for _, kv := range attributes {
		m[kv.Key] = plainValue(kv.Value)
	}
	return m
}

func plainValue(v *common.AnyValue) any {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_IntValue:
		return v.IntValue
	case *common.AnyValue_DoubleValue:
		return v.DoubleValue
	case *common.AnyValue_BoolValue:
		return v.BoolValue
	case *common.AnyValue_ArrayValue:
		items := []any{}
		for _, item := range v.ArrayValue.Values {
			items = append(items, plainValue(item))
		}
		return items
	case *common.AnyValue_KvlistValue:
		return plain(v.KvlistValue.Values)
	default:
		return nil
	}
}

func newExport(t testing.TB, endpoint, traceParent string) (*telemetry.Export, *bytes.Buffer) {
	t.Helper()
	var said bytes.Buffer
	export, err := telemetry.NewExport(t.Context(), telemetry.ExportOptions{
		Endpoint: endpoint, Headers: map[string]string{"X-Api-Key": "collector secret"}, Service: "promptops", Version: "v1.2.3",
		Models: telemetry.NewModels(listed), TraceParent: func(run.Call) string { return traceParent },
		Log: slog.New(slog.NewJSONHandler(&said, nil)),
	})
	must(t, err)
	return export, &said
}

type object = map[string]any

const parentHeader = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestSpansOfARun(t *testing.T) {
	for name, c := range map[string]struct{ header, trace, parent string }{
		"without a parent":     {"", "", ""},
		"with a parent":        {parentHeader, "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"},
		"with a broken header": {"00-nonsense", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			collector := newCollector(t)
			export, said := newExport(t, collector.URL, c.header)
			f := finished(t)
			export.Observe(f)
			export.Close()
			if said.Len() > 0 {
				t.Errorf("warned: %s", said)
			}
			if c.trace == "" {
				c.trace = strings.ReplaceAll(f.Call.ID.String(), "-", "")
			}
			root := checkSpans(t, collector.spans, c.trace)
			if got := fmt.Sprintf("%x", root.ParentSpanId); got != c.parent {
				t.Errorf("the parent is %q, want %q", got, c.parent)
			}
			for _, header := range collector.headers {
				if header.Get("X-Api-Key") != "collector secret" {
					t.Errorf("sent with %v", header)
				}
			}
			service := collector.services[0]
			if service["service.name"] != "promptops" || service["service.version"] != "v1.2.3" || service["service.instance.id"] == nil {
				t.Errorf("sent as %v", service)
			}
			collector.hides(t)
		})
	}
}

// checkSpans checks the spans of finished and returns the one of the run.
func checkSpans(t *testing.T, spans []*tracev1.Span, traceID string) *tracev1.Span {
	t.Helper()
	slices.SortFunc(spans, func(a, b *tracev1.Span) int {
		return strings.Compare(fmt.Sprint(a.Name, a.StartTimeUnixNano), fmt.Sprint(b.Name, b.StartTimeUnixNano))
	})
	if len(spans) != 4 {
		t.Fatalf("%d spans, want one for the run and three for the calls: %v", len(spans), spans)
	}
	root := spans[0]
	want := []struct {
		name       string
		kind       tracev1.Span_SpanKind
		start, end time.Duration
		status     string
		attributes object
	}{
		{"POST /api/ai/run", tracev1.Span_SPAN_KIND_SERVER, 0, 2 * time.Second, "", object{
			"http.request.method": "POST", "http.route": "/api/ai/run", "http.response.status_code": int64(200),
			"promptcademy.run.status": "partial", "promptcademy.run.models": []any{"openai/gpt-5-mini", "google/gemini-3.8-flash"},
			"promptcademy.run.total_tokens": int64(412), "promptcademy.run.cost_usd": 0.00079, "promptcademy.run.unpriced": int64(0),
		}},
		{"chat gpt-5-mini", tracev1.Span_SPAN_KIND_CLIENT, 10 * time.Millisecond, 60 * time.Millisecond, "invalid_key", object{
			"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-mini",
			"gen_ai.request.stream": true, "gen_ai.request.temperature": 0.5, "gen_ai.request.max_tokens": int64(64), "gen_ai.request.top_p": 0.9,
			"error.type": "invalid_key", "http.response.status_code": int64(401),
			"promptcademy.key_source": "user", "promptcademy.try": int64(1), "promptcademy.try.action": "next_key",
		}},
		{"chat gpt-5-mini", tracev1.Span_SPAN_KIND_CLIENT, 60 * time.Millisecond, 1840 * time.Millisecond, "", object{
			"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-mini",
			"gen_ai.request.stream": true, "gen_ai.request.temperature": 0.5, "gen_ai.request.max_tokens": int64(64), "gen_ai.request.top_p": 0.9,
			"gen_ai.response.id": "call-1", "gen_ai.response.finish_reasons": []any{"stop"}, "gen_ai.response.time_to_first_chunk": 0.412,
			"gen_ai.usage.input_tokens": int64(20), "gen_ai.usage.output_tokens": int64(392), "gen_ai.usage.cache_read.input_tokens": int64(5),
			"gen_ai.usage.cache_creation.input_tokens": int64(2), "gen_ai.usage.reasoning.output_tokens": int64(128),
			"http.response.status_code": int64(200),
			"promptcademy.key_source":   "fallback", "promptcademy.try": int64(2), "promptcademy.try.action": "done",
		}},
		{"generate_content gemini-3.8-flash", tracev1.Span_SPAN_KIND_CLIENT, 10 * time.Millisecond, 90 * time.Millisecond, "content_filter", object{
			"gen_ai.operation.name": "generate_content", "gen_ai.provider.name": "gcp.gemini", "gen_ai.request.model": "gemini-3.8-flash",
			"gen_ai.request.stream": true, "gen_ai.request.temperature": 0.5, "gen_ai.request.max_tokens": int64(64), "gen_ai.request.top_p": 0.9,
			"error.type": "content_filter", "http.response.status_code": int64(400),
			"promptcademy.key_source": "user", "promptcademy.try": int64(1), "promptcademy.try.action": "give_up",
		}},
	}
	for i, w := range want {
		got := spans[i]
		attributes := plain(got.Attributes)
		if i == 0 {
			if _, err := uuid.Parse(fmt.Sprint(attributes["promptcademy.request.id"])); err != nil {
				t.Error("the request id is missing")
			}
			delete(attributes, "promptcademy.request.id")
		} else if !bytes.Equal(got.ParentSpanId, root.SpanId) {
			t.Errorf("%s is not under the run", got.Name)
		}
		if got.Name != w.name || got.Kind != w.kind || fmt.Sprintf("%x", got.TraceId) != traceID ||
			got.StartTimeUnixNano != uint64(noon.Add(w.start).UnixNano()) || got.EndTimeUnixNano != uint64(noon.Add(w.end).UnixNano()) {
			t.Errorf("span %d is %v", i, got)
		}
		failed := got.Status.GetCode() == tracev1.Status_STATUS_CODE_ERROR
		if failed != (w.status != "") || got.Status.GetMessage() != w.status {
			t.Errorf("%s has the status %v, want %q", got.Name, got.Status, w.status)
		}
		if diff := cmp.Diff(w.attributes, attributes); diff != "" {
			t.Errorf("%s (-want +got):\n%s", got.Name, diff)
		}
	}
	return root
}

// A caller that does not record the trace does not want our part of it either.
func TestUnsampledParent(t *testing.T) {
	collector := newCollector(t)
	export, _ := newExport(t, collector.URL, strings.TrimSuffix(parentHeader, "01")+"00")
	export.Observe(finished(t))
	export.Close()
	if len(collector.spans) > 0 || len(collector.metrics) == 0 {
		t.Errorf("%d spans and %d metrics, want metrics only", len(collector.spans), len(collector.metrics))
	}
}

func TestGenAIMetrics(t *testing.T) {
	collector := newCollector(t)
	export, _ := newExport(t, collector.URL, "")
	export.Observe(finished(t))
	export.Observe(of("openai/made-up", false)) // no calls: nothing to measure
	export.Close()

	openAI := "gen_ai.operation.name=chat gen_ai.provider.name=openai gen_ai.request.model=gpt-5-mini"
	gemini := "gen_ai.operation.name=generate_content gen_ai.provider.name=gcp.gemini gen_ai.request.model=gemini-3.8-flash"
	for name, want := range map[string]struct {
		unit    string
		buckets int
		sums    map[string]float64
	}{
		"gen_ai.client.token.usage": {"{token}", 14, map[string]float64{
			openAI + " gen_ai.token.type=input": 20, openAI + " gen_ai.token.type=output": 392,
		}},
		"gen_ai.client.operation.duration": {"s", 14, map[string]float64{
			"error.type=invalid_key " + openAI: 0.05, openAI: 1.78, "error.type=content_filter " + gemini: 0.08,
		}},
		"gen_ai.client.operation.time_to_first_chunk": {"s", 14, map[string]float64{openAI: 0.412}},
	} {
		metric := collector.metrics[name]
		if metric.GetUnit() != want.unit {
			t.Errorf("%s has the unit %q", name, metric.GetUnit())
		}
		sums := map[string]float64{}
		for _, point := range metric.GetHistogram().GetDataPoints() {
			if len(point.ExplicitBounds) != want.buckets || point.Count != 1 {
				t.Errorf("%s: buckets %v, count %d", name, point.ExplicitBounds, point.Count)
			}
			sums[written(plain(point.Attributes))] = point.GetSum()
		}
		if diff := cmp.Diff(want.sums, sums, approximately); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	collector.hides(t)
}

func written(attributes object) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		pairs = append(pairs, fmt.Sprintf("%s=%v", name, attributes[name]))
	}
	return strings.Join(pairs, " ")
}

func TestRunEventsAsLogs(t *testing.T) {
	collector := newCollector(t)
	export, _ := newExport(t, collector.URL, "")
	var lines bytes.Buffer
	log := slog.New(slog.NewMultiHandler(slog.NewJSONHandler(&lines, nil), export.LogHandler()))
	id := run.NewID(noon)
	ctx := telemetry.WithRun(t.Context(), id, parentHeader)
	log.With("source", "api/ai/run").InfoContext(ctx, "ai_run_start", "models", []string{"openai/gpt-5-mini"}, "teamId", (*uuid.UUID)(nil), "stream", true,
		"keyAvailability", map[string]string{"openai": "user"})
	log.ErrorContext(t.Context(), "ai_run_error", "status", 499, "durationMs", int64(12), "totalCost", usd(t, "0.5"),
		"results", []struct {
			Model string  `json:"model"`
			Error *string `json:"error"`
			Cost  float64 `json:"cost"`
		}{{"openai/gpt-5-mini", ptr("timeout"), 0}})
	log.Debug("ai_run_success")                       // too fine
	log.Error("request_failed", "path", secretPrompt) // not of the endpoint
	export.Close()

	if len(collector.logs) != 2 || strings.Count(lines.String(), "\n") != 3 {
		t.Fatalf("%d records and the lines\n%s", len(collector.logs), lines.String())
	}
	start, failed := collector.logs[0], collector.logs[1]
	if start.EventName != "ai_run_start" || plainValue(start.Body) != "ai_run_start" || start.SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_INFO ||
		failed.EventName != "ai_run_error" || failed.SeverityText != "ERROR" || failed.SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_ERROR {
		t.Errorf("the events are %v and %v", start, failed)
	}
	want := object{"source": "api/ai/run", "models": []any{"openai/gpt-5-mini"}, "stream": true, "keyAvailability": object{"openai": "user"}}
	if diff := cmp.Diff(want, plain(start.Attributes)); diff != "" {
		t.Errorf("ai_run_start (-want +got):\n%s", diff)
	}
	want = object{"status": int64(499), "durationMs": int64(12), "totalCost": 0.5, "results": []any{object{"model": "openai/gpt-5-mini", "error": "timeout", "cost": 0.0}}}
	if diff := cmp.Diff(want, plain(failed.Attributes)); diff != "" {
		t.Errorf("ai_run_error (-want +got):\n%s", diff)
	}
	// The event is part of the span that is made later.
	if trace, span := fmt.Sprintf("%x", start.TraceId), fmt.Sprintf("%x", start.SpanId); trace != parentHeader[3:35] || span != strings.ReplaceAll(id.String(), "-", "")[16:] {
		t.Errorf("the event is of the trace %s, span %s", trace, span)
	}
	collector.hides(t)
}

// hides checks that nothing came which is nobody's business.
func (c *collector) hides(t *testing.T) {
	t.Helper()
	for _, secret := range []string{secretPrompt, secretOutput, secretMessage, keyID.String(), learnerID.String()} {
		if bytes.Contains(c.raw.Bytes(), []byte(secret)) {
			t.Errorf("%s was sent", secret)
		}
	}
}

// Whatever a collector does, Observe returns at once, memory stays bounded, and
// Close comes to an end.
func TestACollectorThatIsNoHelp(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	must(t, err)
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, gone.Close())
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer sick.Close()

	for name, endpoint := range map[string]string{"silent": "http://" + silent.Addr().String(), "gone": "http://" + gone.Addr().String(), "sick": sick.URL} {
		t.Run(name, func(t *testing.T) {
			export, said := newExport(t, endpoint, "")
			log := slog.New(export.LogHandler())
			f := finished(t)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			slowest := time.Duration(0)
			for range 3000 { // 12,000 spans and 6,000 events
				started := time.Now()
				export.Observe(f)
				log.Info("ai_run_start", "requestId", f.Call.ID, "models", f.Call.Request.Models)
				log.Info("ai_run_success", "requestId", f.Call.ID, "status", "success")
				slowest = max(slowest, time.Since(started))
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if slowest > 4*time.Second { // the machine may be busy; waiting for the collector would take ten
				t.Errorf("a run waited %s", slowest)
			}
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 30<<20 {
				t.Errorf("%d MiB wait for the collector", grown>>20)
			}
			began := time.Now()
			export.Close()
			if took := time.Since(began); took > 9*time.Second { // an export may take ten
				t.Errorf("Close took %s", took)
			}
			if warned := strings.Count(said.String(), "otlp_export_failed"); warned != 1 {
				t.Errorf("warned %d times:\n%s", warned, said)
			}
			if strings.Contains(said.String(), "collector secret") {
				t.Errorf("the warning shows a header: %s", said)
			}
		})
	}
}

func TestOneWarningAMinute(t *testing.T) {
	var said bytes.Buffer
	now := noon
	problems := telemetry.Problems(slog.New(slog.NewTextHandler(&said, nil)), func() time.Time { return now })
	for range 180 {
		problems.Handle(errors.New("the collector is away"))
		now = now.Add(time.Second)
	}
	if got := strings.Count(said.String(), "otlp_export_failed"); got != 3 || !strings.Contains(said.String(), "unsaid=59") {
		t.Errorf("%d warnings in three minutes:\n%s", got, said.String())
	}
}

func TestTraceParent(t *testing.T) {
	for header, want := range map[string]string{
		parentHeader: parentHeader,
		"":           "",
		strings.TrimSuffix(parentHeader, "01") + "03":             parentHeader, // only sampled is known of the flags
		strings.TrimSuffix(parentHeader, "01") + "00":             strings.TrimSuffix(parentHeader, "01") + "00",
		"cc" + parentHeader[2:]:                                   parentHeader, // of a newer version
		"cc" + parentHeader[2:] + "-what-the-future-brings":       parentHeader,
		"cc" + parentHeader[2:] + "what":                          "",
		"ff" + parentHeader[2:]:                                   "",
		parentHeader + "-more":                                    "",
		strings.ToUpper(parentHeader):                             "",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": "",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": "",
		"00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01": "",
		"00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01": "",
		"0g" + parentHeader[2:]:                                   "",
	} {
		if got := telemetry.TraceParent(header); got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}

func FuzzTraceParent(f *testing.F) {
	f.Add(parentHeader)
	f.Add("cc" + parentHeader[2:] + "-x")
	f.Fuzz(func(t *testing.T, header string) {
		got := telemetry.TraceParent(header)
		if got != "" && (len(got) != 55 || telemetry.TraceParent(got) != got) {
			t.Errorf("%q: %q", header, got)
		}
	})
}

func BenchmarkExport(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	export, _ := newExport(b, collector.URL, "")
	f := finished(b)
	b.ReportAllocs()
	for b.Loop() {
		export.Observe(f)
	}
	b.StopTimer()
	export.Close()
}
