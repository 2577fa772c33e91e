package telemetry_test

import (
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/internal/telemetry"
)

// scraped is what Prometheus reads: a value for each series, written as in a
// query. Of histograms there are only _count and _sum.
type scraped map[string]float64

func scrape(t testing.TB, m *telemetry.Metrics) scraped {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if got := answer.Header().Get("Content-Type"); answer.Code != 200 || !strings.HasPrefix(got, "text/plain; version=0.0.4; charset=utf-8") {
		t.Fatalf("status %d, Content-Type %q", answer.Code, got)
	}
	return parse(t, answer.Body)
}

func parse(t testing.TB, text io.Reader) scraped {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(text)
	must(t, err)
	found := scraped{}
	for name, family := range families {
		for _, metric := range family.Metric {
			labels := labelsOf(metric)
			switch {
			case metric.Counter != nil:
				found[name+labels] = metric.Counter.GetValue()
			case metric.Gauge != nil:
				found[name+labels] = metric.Gauge.GetValue()
			case metric.Histogram != nil:
				found[name+"_count"+labels] = float64(metric.Histogram.GetSampleCount())
				found[name+"_sum"+labels] = metric.Histogram.GetSampleSum()
			}
		}
	}
	return found
}

func labelsOf(metric *dto.Metric) string {
	if len(metric.Label) == 0 {
		return ""
	}
	var pairs []string
	for _, label := range metric.Label {
		pairs = append(pairs, label.GetName()+"="+label.GetValue())
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// ours are the series that are not 0, without those of Go, the process, the
// pool and the build.
func (s scraped) ours() scraped {
	ours := maps.Clone(s)
	maps.DeleteFunc(ours, func(name string, value float64) bool {
		return value == 0 || !strings.HasPrefix(name, "promptcademy_") ||
			strings.HasPrefix(name, "promptcademy_db_pool") || strings.HasPrefix(name, "promptcademy_build_info")
	})
	return ours
}

var approximately = cmpopts.EquateApprox(0, 1e-9)

func TestARunIsCounted(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.Observe(finished(t))
	want := scraped{
		"promptcademy_ai_runs_total{status=partial}":                 1,
		"promptcademy_ai_run_duration_seconds_count{status=partial}": 1,
		"promptcademy_ai_run_duration_seconds_sum{status=partial}":   2,

		"promptcademy_ai_requests_total{error_type=none,key_source=fallback,model=gpt-5-mini,outcome=ok,provider=openai}":                1,
		"promptcademy_ai_request_duration_seconds_count{model=gpt-5-mini,outcome=ok,provider=openai}":                                    1,
		"promptcademy_ai_request_duration_seconds_sum{model=gpt-5-mini,outcome=ok,provider=openai}":                                      1.83,
		"promptcademy_ai_time_to_first_token_seconds_count{model=gpt-5-mini,provider=openai}":                                            1,
		"promptcademy_ai_time_to_first_token_seconds_sum{model=gpt-5-mini,provider=openai}":                                              0.412,
		"promptcademy_ai_tokens_total{model=gpt-5-mini,provider=openai,type=input}":                                                      20,
		"promptcademy_ai_tokens_total{model=gpt-5-mini,provider=openai,type=cached_input}":                                               5,
		"promptcademy_ai_tokens_total{model=gpt-5-mini,provider=openai,type=cache_write}":                                                2,
		"promptcademy_ai_tokens_total{model=gpt-5-mini,provider=openai,type=output}":                                                     392,
		"promptcademy_ai_tokens_total{model=gpt-5-mini,provider=openai,type=reasoning}":                                                  128,
		"promptcademy_ai_cost_usd_total{key_source=fallback,model=gpt-5-mini,provider=openai}":                                           0.00079,
		"promptcademy_ai_requests_total{error_type=content_filter,key_source=user,model=gemini-3.8-flash,outcome=error,provider=google}": 1,
		"promptcademy_ai_request_duration_seconds_count{model=gemini-3.8-flash,outcome=error,provider=google}":                           1,
		"promptcademy_ai_request_duration_seconds_sum{model=gemini-3.8-flash,outcome=error,provider=google}":                             0.09,
		"promptcademy_ai_provider_calls_total{action=next_key,class=invalid_key,provider=openai}":                                        1,
		"promptcademy_ai_provider_calls_total{action=done,class=none,provider=openai}":                                                   1,
		"promptcademy_ai_provider_calls_total{action=give_up,class=content_filter,provider=google}":                                      1,
	}
	if diff := cmp.Diff(want, scrape(t, m).ours(), approximately); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCancelledUnpricedKeylessRejectedInFlight(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	abandoned := of("openai/gpt-5-mini", false)
	abandoned.Abandoned = true
	abandoned.Envelope.Results[0].Error.Class = provider.ClassCancelled
	m.Observe(abandoned)
	m.Observe(of("groq/free", true)) // no price
	m.RunRejected(fault.Invalid)
	m.RunRejected(fault.Invalid)
	m.RunBegun()
	m.RunBegun()()
	got := scrape(t, m)
	for name, want := range map[string]float64{
		"promptcademy_ai_runs_total{status=cancelled}": 1,
		"promptcademy_ai_runs_total{status=error}":     0,
		"promptcademy_ai_requests_total{error_type=cancelled,key_source=none,model=gpt-5-mini,outcome=cancelled,provider=openai}": 1,
		"promptcademy_ai_unpriced_requests_total{model=free,provider=groq}":                                                       1,
		"promptcademy_ai_unpriced_requests_total{model=gpt-5-mini,provider=openai}":                                               0,
		"promptcademy_ai_rejected_runs_total{code=invalid}":                                                                       2,
		"promptcademy_ai_runs_in_flight":                                                                                          1,
	} {
		if value, shown := got[name]; !shown || value != want {
			t.Errorf("%s = %v, want %v", name, value, want)
		}
	}
}

func TestWhatIsShownWithoutAnyRun(t *testing.T) {
	t.Parallel()
	got := scrape(t, newMetrics())
	for name, want := range map[string]float64{
		"promptcademy_build_info{version=v1.2.3}":                    1,
		"promptcademy_ai_runs_total{status=success}":                 0,
		"promptcademy_ai_runs_total{status=error}":                   0,
		"promptcademy_db_pool_acquired_connections{pool=runs}":       3,
		"promptcademy_db_pool_idle_connections{pool=runs}":           4,
		"promptcademy_db_pool_max_connections{pool=runs}":            16,
		"promptcademy_db_pool_acquires_total{pool=runs}":             100,
		"promptcademy_db_pool_acquire_waits_total{pool=runs}":        7,
		"promptcademy_db_pool_acquire_wait_seconds_total{pool=runs}": 1.5,
	} {
		if value, shown := got[name]; !shown || value != want {
			t.Errorf("%s = %v, want %v", name, value, want)
		}
	}
	for _, name := range []string{"go_memstats_mallocs_total", "go_goroutines", "process_cpu_seconds_total", "process_resident_memory_bytes"} {
		if _, shown := got[name]; !shown {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestHTTPRequestsByRouteMethodAndStatus(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.Request("/usage", "GET", 200, 20*time.Millisecond)
	m.Request("/usage", "GET", 304, 0)
	m.Request("", "PROPFIND", 404, 0)
	m.Request("", "BREW", 999, 0)
	want := scraped{
		"promptcademy_http_requests_total{method=GET,route=/usage,status=2xx}":      1,
		"promptcademy_http_requests_total{method=GET,route=/usage,status=3xx}":      1,
		"promptcademy_http_requests_total{method=other,route=none,status=4xx}":      1,
		"promptcademy_http_requests_total{method=other,route=none,status=none}":     1,
		"promptcademy_http_request_duration_seconds_count{method=GET,route=/usage}": 2,
		"promptcademy_http_request_duration_seconds_sum{method=GET,route=/usage}":   0.02,
		"promptcademy_http_request_duration_seconds_count{method=other,route=none}": 2,
	}
	if diff := cmp.Diff(want, scrape(t, m).ours(), approximately); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Names and help are as Prometheus wants them.
func TestNamingLint(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.Observe(finished(t))
	m.RunRejected(fault.Invalid)
	m.Request("/usage", "GET", 200, time.Second)
	problems, err := testutil.GatherAndLint(m.Gatherer())
	must(t, err)
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

// A label is a provider, a model, an outcome, a route: never whose.
func TestNobodyIsNamed(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.Observe(finished(t))
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	for _, secret := range []string{secretPrompt, secretOutput, secretMessage, keyID.String(), learnerID.String()} {
		if strings.Contains(answer.Body.String(), secret) {
			t.Errorf("%s is among the metrics", secret)
		}
	}
}

// A model that anybody can make up gets no series of its own.
func TestModelsAreBounded(t *testing.T) {
	t.Parallel()
	models := telemetry.NewModels(listed)
	for _, c := range []struct {
		model string
		ok    bool
		want  string
	}{
		{"openai/gpt-5-mini", false, "gpt-5-mini"},       // has a price
		{"openai/gpt-5-mini-2025-08-07", false, "other"}, // costs the same, but there are many days
		{"openai/made-up", false, "other"},
		{"openai/made-up", true, "made-up"},
		{"openai/made-up", false, "made-up"}, // it was answered once
		{"openrouter/openai/gpt-6", true, "openai/gpt-6"},
		{"openai/not\xff-text", true, "other"},
		{"openai/" + strings.Repeat("x", 200), true, "other"},
		{"no-slash", true, "other"},
	} {
		if got := models.Label(c.model, c.ok); got != c.want {
			t.Errorf("%.40q, answered %v: labelled %q, want %q", c.model, c.ok, got, c.want)
		}
	}
}

func TestTheNumberOfModelsIsCapped(t *testing.T) {
	t.Parallel()
	everything := false
	m := telemetry.NewMetrics("", telemetry.NewModels(func(string, string) bool { return everything }), nil)
	fill := func(prefix string, n int) (models int) {
		for i := range n {
			m.Observe(of(fmt.Sprintf("openai/%s-%d", prefix, i), true))
		}
		seen := map[string]bool{}
		for name := range scrape(t, m) {
			if _, rest, is := strings.Cut(name, "promptcademy_ai_unpriced_requests_total{model="); is {
				seen[rest] = true
			}
		}
		return len(seen) - 1 // for "other"
	}
	if got := fill("answered", 300); got != 200 {
		t.Errorf("%d models without a price are named, want 200", got)
	}
	everything = true
	if got := fill("priced", 1100); got != 1000 {
		t.Errorf("%d models are named, want 1000", got)
	}
	if got := scrape(t, m)["promptcademy_ai_requests_total{error_type=none,key_source=user,model=other,outcome=ok,provider=openai}"]; got != 100+300 {
		t.Errorf("other has %v attempts, want 400", got)
	}
}

func TestMetricsFromManyGoroutines(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	f := finished(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				m.Observe(f)
				m.Request("/usage", "GET", 200, time.Millisecond)
			}
		})
	}
	for range 10 {
		scrape(t, m)
	}
	all.Wait()
	got := scrape(t, m)
	if got["promptcademy_ai_runs_total{status=partial}"] != 800 || got["promptcademy_http_requests_total{method=GET,route=/usage,status=2xx}"] != 800 {
		t.Errorf("of 800 runs and requests there are: %v", slices.Sorted(maps.Keys(got.ours())))
	}
}

func BenchmarkObserve(b *testing.B) {
	three := finished(b)
	three.Envelope.Results = append(three.Envelope.Results, three.Envelope.Results[0])
	three.Tries = append(three.Tries, three.Tries[0])
	one := finished(b)
	one.Envelope.Results, one.Tries = one.Envelope.Results[:1], [][]run.Try{one.Tries[0][1:]}
	for name, f := range map[string]run.Finished{"1 model": one, "3 models": three} {
		b.Run(name, func(b *testing.B) {
			m := newMetrics()
			b.ReportAllocs()
			for b.Loop() {
				m.Observe(f)
			}
		})
	}
}
