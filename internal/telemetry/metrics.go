// Package telemetry tells monitoring systems what the product does: counters
// and histograms that Prometheus scrapes (metrics.go), and, where a collector is
// configured, traces, metrics and the run events by OTLP (export.go). It is told
// of runs after they are over and recorded; nothing here can delay or fail one.
// No user and no key is a label or an attribute of a span; prompts and outputs
// are not told at all.
package telemetry

import (
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/run"
)

// none is the value of a label that has none, as in the error type of an attempt
// that is ok.
const none = "none"

// Metrics are the counters of this process, on a registry of their own. They are
// safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	handler  http.Handler
	models   *Models

	runs     cache[run.Status, runSeries]
	attempts cache[attemptLabels, attemptSeries]
	calls    cache[callLabels, prometheus.Counter]
	requests cache[requestLabels, requestSeries]
	rejected *prometheus.CounterVec
	inFlight prometheus.Gauge
}

// Pool is the state of the database pool at one moment.
type Pool struct {
	Acquired, Idle, Max int32
	Acquires            int64         // connections handed out so far
	Waits               int64         // of those, how many had to be waited for
	Waited              time.Duration // in all
}

// NewMetrics makes the metrics of a program of that version. Each of the database
// pools, by name, is asked at every scrape.
func NewMetrics(version string, models *Models, pools map[string]func() Pool) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), models: models}
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.gauge("promptcademy_build_info", "Always 1; the label says which version this is.", prometheus.Labels{"version": version}).Set(1)
	m.registerRuns()
	m.registerAttempts()
	m.registerHTTP()
	for name, pool := range pools {
		m.registerPool(name, pool)
	}
	return m
}

func (m *Metrics) registerRuns() {
	total := m.counters("promptcademy_ai_runs_total", "Runs that were recorded.", "status")
	seconds := m.histograms("promptcademy_ai_run_duration_seconds", "From the start of a run to its record, all models included.", modelSeconds, "status")
	m.runs.make = func(status run.Status) runSeries {
		return runSeries{total.WithLabelValues(string(status)), seconds.WithLabelValues(string(status))}
	}
	m.rejected = m.counters("promptcademy_ai_rejected_runs_total", "Requests of the run endpoint that were answered with an error.", "code")
	m.inFlight = m.gauge("promptcademy_ai_runs_in_flight", "Requests for runs that are being worked on.", nil)
	for _, status := range []run.Status{run.Success, run.Partial, run.Failed, run.Cancelled} {
		m.runs.get(status) // shown as 0 from the start, so that a first error is a rise
	}
}

func (m *Metrics) registerAttempts() {
	requests := m.counters("promptcademy_ai_requests_total", "Attempts: models of runs, each counted once whatever its retries.", "provider", "model", "outcome", "error_type", "key_source")
	seconds := m.histograms("promptcademy_ai_request_duration_seconds", "How long an attempt took, with its retries.", modelSeconds, "provider", "model", "outcome")
	firstToken := m.histograms("promptcademy_ai_time_to_first_token_seconds", "From the call to the first text, of attempts that were streamed.", firstTokenSeconds, "provider", "model")
	tokens := m.counters("promptcademy_ai_tokens_total", "Tokens, as reported or estimated. The types overlap: input includes cached_input and cache_write, output includes reasoning.", "provider", "model", "type")
	cost := m.counters("promptcademy_ai_cost_usd_total", "Cost of the attempts whose price is known, in US dollars; a float, where the database has every digit.", "provider", "model", "key_source")
	unpriced := m.counters("promptcademy_ai_unpriced_requests_total", "Attempts whose cost is unknown, because no price is.", "provider", "model")
	m.attempts.make = func(l attemptLabels) attemptSeries {
		s := attemptSeries{
			requests:   requests.WithLabelValues(l.provider, l.model, l.outcome, l.class, l.source),
			seconds:    seconds.WithLabelValues(l.provider, l.model, l.outcome),
			firstToken: firstToken.WithLabelValues(l.provider, l.model),
			cost:       cost.WithLabelValues(l.provider, l.model, l.source),
			unpriced:   unpriced.WithLabelValues(l.provider, l.model),
		}
		for i, kind := range []string{"input", "cached_input", "cache_write", "output", "reasoning"} {
			s.tokens[i] = tokens.WithLabelValues(l.provider, l.model, kind)
		}
		return s
	}
	calls := m.counters("promptcademy_ai_provider_calls_total", "Calls to providers: the tries that attempts are made of, by what came of them and what was done about it.", "provider", "class", "action")
	m.calls.make = func(l callLabels) prometheus.Counter {
		return calls.WithLabelValues(l.provider, l.class, string(l.action))
	}
}

// Buckets, in seconds: of model calls up to the longest timeout there is, and of
// what answers without a model.
var (
	modelSeconds      = []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300}
	firstTokenSeconds = []float64{0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 60}
	requestSeconds    = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 300}
)

// Handler serves the metrics in the formats that Prometheus asks for, to a few at
// a time.
func (m *Metrics) Handler() http.Handler { return m.handler }

type runSeries struct {
	total   prometheus.Counter
	seconds prometheus.Observer
}

type attemptLabels struct{ provider, model, outcome, class, source string }

type attemptSeries struct {
	requests   prometheus.Counter
	seconds    prometheus.Observer
	firstToken prometheus.Observer
	tokens     [5]prometheus.Counter
	cost       prometheus.Counter
	unpriced   prometheus.Counter
}

type callLabels struct {
	provider, class string
	action          run.Action
}

// Observe counts a finished run.
func (m *Metrics) Observe(f run.Finished) {
	series := m.runs.get(statusOf(f))
	series.total.Inc()
	series.seconds.Observe(f.EndedAt.Sub(f.StartedAt).Seconds())
	for i := range f.Envelope.Results {
		m.observeAttempt(&f.Envelope.Results[i])
		for _, try := range triesOf(f, i) {
			class := orNone(try.Class)
			m.calls.get(callLabels{f.Envelope.Results[i].Provider, class, try.Action}).Inc()
		}
	}
}

func (m *Metrics) observeAttempt(r *run.Result) {
	labels := attemptLabels{r.Provider, m.models.Label(r.Model, r.Status == run.AttemptOK), string(outcomeOf(r)), none, none}
	if r.Error != nil {
		labels.class = orNone(r.Error.Class)
	}
	if r.KeySource != nil {
		labels.source = orNone(*r.KeySource)
	}
	series := m.attempts.get(labels)
	series.requests.Inc()
	series.seconds.Observe(float64(r.DurationMs) / 1000)
	if r.FirstTokenMs != nil {
		series.firstToken.Observe(float64(*r.FirstTokenMs) / 1000)
	}
	if u := r.Usage; u != nil {
		for i, n := range [...]int64{u.InputTokens, u.CachedInputTokens, u.CacheWriteTokens, u.OutputTokens, u.ReasoningTokens} {
			if n > 0 {
				series.tokens[i].Add(float64(n))
			}
		}
	}
	switch {
	case r.Cost == nil:
		series.unpriced.Inc()
	case r.Cost.Decimal().Sign() > 0:
		series.cost.Add(r.Cost.Decimal().InexactFloat64())
	}
}

// RunRejected counts a request of the run endpoint that was answered with an
// error.
func (m *Metrics) RunRejected(kind fault.Kind) { m.rejected.WithLabelValues(string(kind)).Inc() }

// RunBegun counts a request for a run as being worked on until done is called.
func (m *Metrics) RunBegun() (done func()) {
	m.inFlight.Inc()
	return m.inFlight.Dec
}

// statusOf is a run's status as it is stored.
func statusOf(f run.Finished) run.Status {
	if f.Abandoned {
		return run.Cancelled
	}
	return f.Envelope.Status
}

// outcomeOf is how an attempt ended, as it is stored.
func outcomeOf(r *run.Result) run.AttemptStatus {
	if r.Error != nil && r.Error.Class == provider.ClassCancelled {
		return run.AttemptCancelled
	}
	return r.Status
}

func triesOf(f run.Finished, i int) []run.Try {
	if i >= len(f.Tries) {
		return nil
	}
	return f.Tries[i]
}

func orNone[S provider.Class | key.Source](s S) string {
	if s == "" {
		return none
	}
	return string(s)
}

type requestLabels struct {
	route, method string
	class         int // 2 of 200
}

type requestSeries struct {
	total   prometheus.Counter
	seconds prometheus.Observer
}

func (m *Metrics) registerHTTP() {
	total := m.counters("promptcademy_http_requests_total", "HTTP requests that were answered. The route is its pattern, none where there is nothing.", "route", "method", "status")
	seconds := m.histograms("promptcademy_http_request_duration_seconds", "From the arrival of a request to the end of its answer.", requestSeconds, "route", "method")
	classes := [...]string{none, "1xx", "2xx", "3xx", "4xx", "5xx"}
	m.requests.make = func(l requestLabels) requestSeries {
		return requestSeries{total.WithLabelValues(l.route, l.method, classes[l.class]), seconds.WithLabelValues(l.route, l.method)}
	}
}

var knownMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// Request counts an HTTP request that was answered. route is the pattern that it
// matched, of a table that is known beforehand; empty for an address where there
// is nothing.
func (m *Metrics) Request(route, method string, status int, took time.Duration) {
	labels := requestLabels{route, method, status / 100}
	if route == "" {
		labels.route = none
	}
	if !slices.Contains(knownMethods, method) {
		labels.method = "other"
	}
	if labels.class < 1 || labels.class > 5 {
		labels.class = 0
	}
	series := m.requests.get(labels)
	series.total.Inc()
	series.seconds.Observe(took.Seconds())
}

// Unwritten shows how many outcomes of runs wait for the database, which count is
// asked for at every scrape.
func (m *Metrics) Unwritten(count func() int64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "promptcademy_ai_unwritten_outcomes", Help: "Outcomes of runs that wait to be written to the database.",
	}, func() float64 { return float64(count()) }))
}

// Denied shows how many statements of ours were refused for want of a right, which
// count is asked for at every scrape.
func (m *Metrics) Denied(count func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "promptcademy_rls_errors_total", Help: "Statements of ours that Postgres refused with SQLSTATE 42501.",
	}, func() float64 { return float64(count()) }))
}

// LogEventsDropped shows how many events of the log could not be kept for searching,
// which count is asked for at every scrape.
func (m *Metrics) LogEventsDropped(count func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "promptcademy_log_events_dropped_total", Help: "Events of the log that are on standard output only, because the database did not take them.",
	}, func() float64 { return float64(count()) }))
}

func (m *Metrics) registerPool(pool string, state func() Pool) {
	labels := prometheus.Labels{"pool": pool}
	gauge := func(name, help string, value func(Pool) float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return value(state()) }))
	}
	counter := func(name, help string, value func(Pool) float64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return value(state()) }))
	}
	gauge("promptcademy_db_pool_acquired_connections", "Connections to the database that are in use.", func(p Pool) float64 { return float64(p.Acquired) })
	gauge("promptcademy_db_pool_idle_connections", "Connections to the database that wait for work.", func(p Pool) float64 { return float64(p.Idle) })
	gauge("promptcademy_db_pool_max_connections", "The most connections to the database at once.", func(p Pool) float64 { return float64(p.Max) })
	counter("promptcademy_db_pool_acquires_total", "Connections that were handed out.", func(p Pool) float64 { return float64(p.Acquires) })
	counter("promptcademy_db_pool_acquire_waits_total", "Connections that had to be waited for.", func(p Pool) float64 { return float64(p.Waits) })
	counter("promptcademy_db_pool_acquire_wait_seconds_total", "Time spent waiting for a connection.", func(p Pool) float64 { return p.Waited.Seconds() })
}

func (m *Metrics) gauge(name, help string, constant prometheus.Labels) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: constant})
	m.registry.MustRegister(g)
	return g
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(h)
	return h
}
