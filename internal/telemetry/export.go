package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/run"
)

// What may wait for a collector, and for how long. Beyond that spans and events
// are dropped: a collector that is away costs some megabytes, never a run.
const (
	maxQueue      = 4096 // spans, and as many events
	exportTimeout = 10 * time.Second
	closeTimeout  = 5 * time.Second
)

const scope = "github.com/promptcademy/promptops"

// ExportOptions say where to export to and as whom. Endpoint, Service, Models and
// Log are required.
type ExportOptions struct {
	Endpoint    string            // base address of an OTLP collector that takes http/protobuf
	Headers     map[string]string // sent along, as for authorization
	Service     string
	Version     string
	Models      *Models
	TraceParent func(run.Call) string // the caller's traceparent header; nil: there is none
	Log         *slog.Logger          // hears that a collector is away, once a minute at most; must not lead to LogHandler
}

// Export sends what happens to an OTLP collector, from goroutines of its own. It
// is safe for concurrent use.
type Export struct {
	models      *Models
	traceParent func(run.Call) string
	problems    *problems
	logs        *logHandler
	tracer      trace.Tracer
	tokens      metric.Int64Histogram
	duration    metric.Float64Histogram
	firstChunk  metric.Float64Histogram
	shutdown    []func(context.Context) error
}

// NewExport begins to export. It does not wait for the collector, nor does an
// error mean that it is away, but that the options cannot be used. Close it.
//
// OpenTelemetry reports failed exports to one handler of the whole process; the
// newest Export is the one that hears them.
func NewExport(ctx context.Context, o ExportOptions) (*Export, error) {
	e := &Export{models: o.Models, traceParent: o.TraceParent, problems: &problems{log: o.Log, now: time.Now}}
	otel.SetErrorHandler(e.problems)
	res := resource.NewSchemaless(
		attribute.String(attrService, o.Service),
		attribute.String(attrServiceVersion, o.Version),
		attribute.String(attrServiceInstance, uuid.NewString()), // counters of several nodes must not be taken for one
	)

	spans, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(o.Endpoint+"/v1/traces"),
		otlptracehttp.WithHeaders(o.Headers), otlptracehttp.WithTimeout(exportTimeout))
	if err != nil {
		return nil, err
	}
	traces := sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithIDGenerator(ids{}),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())),
		sdktrace.WithBatcher(spans, sdktrace.WithMaxQueueSize(maxQueue), sdktrace.WithExportTimeout(exportTimeout)))
	e.tracer = traces.Tracer(scope)

	points, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(o.Endpoint+"/v1/metrics"),
		otlpmetrichttp.WithHeaders(o.Headers), otlpmetrichttp.WithTimeout(exportTimeout))
	if err != nil {
		return nil, err
	}
	metrics := sdkmetric.NewMeterProvider(sdkmetric.WithResource(res),
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(points, sdkmetric.WithTimeout(exportTimeout))))
	if err := e.makeInstruments(metrics.Meter(scope)); err != nil {
		return nil, err
	}

	records, err := otlploghttp.New(ctx, otlploghttp.WithEndpointURL(o.Endpoint+"/v1/logs"),
		otlploghttp.WithHeaders(o.Headers), otlploghttp.WithTimeout(exportTimeout))
	if err != nil {
		return nil, err
	}
	logs := sdklog.NewLoggerProvider(sdklog.WithResource(res),
		sdklog.WithProcessor(sdklog.NewBatchProcessor(records, sdklog.WithMaxQueueSize(maxQueue), sdklog.WithExportTimeout(exportTimeout))))
	e.logs = &logHandler{logger: logs.Logger(scope)}

	e.shutdown = []func(context.Context) error{traces.Shutdown, metrics.Shutdown, logs.Shutdown}
	return e, nil
}

func (e *Export) makeInstruments(meter metric.Meter) error {
	var err1, err2, err3 error
	e.tokens, err1 = meter.Int64Histogram(metricTokenUsage, metric.WithUnit("{token}"),
		metric.WithDescription("Tokens of model calls."), metric.WithExplicitBucketBoundaries(tokenBuckets...))
	e.duration, err2 = meter.Float64Histogram(metricOperationDuration, metric.WithUnit("s"),
		metric.WithDescription("Duration of model calls."), metric.WithExplicitBucketBoundaries(durationBuckets...))
	e.firstChunk, err3 = meter.Float64Histogram(metricFirstChunk, metric.WithUnit("s"),
		metric.WithDescription("From a model call to the first text."), metric.WithExplicitBucketBoundaries(durationBuckets...))
	return errors.Join(err1, err2, err3)
}

// LogHandler passes the events of the run endpoint on to the collector, and
// nothing else that is logged.
func (e *Export) LogHandler() slog.Handler { return e.logs }

// Close sends what still waits, for five seconds at most.
func (e *Export) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, shutdown := range e.shutdown {
		all.Go(func() {
			if err := shutdown(ctx); err != nil {
				e.problems.Handle(err)
			}
		})
	}
	all.Wait()
}

// Observe makes the spans and measurements of a finished run: a span for the
// run, and under it one for every call to a provider.
func (e *Export) Observe(f run.Finished) {
	root := e.startRun(f)
	under := trace.ContextWithSpan(context.Background(), root)
	for i := range f.Envelope.Results {
		result := &f.Envelope.Results[i]
		_, model, _ := provider.Split(result.Model)
		common := []attribute.KeyValue{
			attribute.String(attrOperation, operationOf(result.Provider)),
			attribute.String(attrProvider, conventionalProvider(result.Provider)),
		}
		bounded := append(common[:2:2], attribute.String(attrModel, e.models.Label(result.Model, result.Status == run.AttemptOK)))
		tries := triesOf(f, i)
		for n, try := range tries {
			e.traceTry(under, f.Call, try, n, model, common, lastOf(result, n, tries))
			e.measureTry(try, bounded)
		}
		if u := result.Usage; u != nil {
			e.measureTokens(u.InputTokens, tokenInput, bounded)
			e.measureTokens(u.OutputTokens, tokenOutput, bounded)
		}
	}
	root.End(trace.WithTimestamp(f.EndedAt))
}

// lastOf is the result to show with a try: only the last one made it.
func lastOf(result *run.Result, n int, tries []run.Try) *run.Result {
	if n == len(tries)-1 {
		return result
	}
	return nil
}

func (e *Export) startRun(f run.Finished) trace.Span {
	ctx := context.WithValue(context.Background(), runID{}, f.Call.ID)
	if e.traceParent != nil {
		if parent, ok := parseTraceParent(e.traceParent(f.Call)); ok {
			ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
		}
	}
	attributes := []attribute.KeyValue{
		attribute.String(attrMethod, http.MethodPost),
		attribute.String(attrRoute, runRoute),
		attribute.String(attrRequestID, f.Call.ID.String()),
		attribute.String(attrRunStatus, string(statusOf(f))),
		attribute.StringSlice(attrRunModels, f.Call.Request.Models),
		attribute.Int64(attrRunTokens, f.Envelope.TotalTokens),
		attribute.Float64(attrRunCost, f.Envelope.TotalCost.Decimal().InexactFloat64()),
		attribute.Int(attrRunUnpriced, f.Envelope.Unpriced),
	}
	if !f.Abandoned {
		attributes = append(attributes, attribute.Int(attrStatusCode, http.StatusOK))
	}
	_, span := e.tracer.Start(ctx, http.MethodPost+" "+runRoute, trace.WithTimestamp(f.StartedAt),
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes...))
	if status := statusOf(f); status == run.Failed || status == run.Cancelled {
		span.SetStatus(codes.Error, string(status))
	}
	return span
}

const runRoute = "/api/ai/run"

// traceTry makes the span of one call to a provider. result is nil unless this
// call made it. A provider's message may quote the prompt, so only its class is
// told.
func (e *Export) traceTry(under context.Context, call run.Call, try run.Try, n int, model string, common []attribute.KeyValue, result *run.Result) {
	config := call.Request.Config
	attributes := append(make([]attribute.KeyValue, 0, 24), common...)
	attributes = append(attributes,
		attribute.String(attrModel, model),
		attribute.Bool(attrStream, call.Request.Stream),
		attribute.String(attrKeySource, string(try.KeySource)),
		attribute.Int(attrTry, n+1),
		attribute.String(attrAction, string(try.Action)),
	)
	if config.Temperature != nil {
		attributes = append(attributes, attribute.Float64(attrTemperature, *config.Temperature))
	}
	if config.MaxTokens != nil {
		attributes = append(attributes, attribute.Int(attrMaxTokens, *config.MaxTokens))
	}
	if config.TopP != nil {
		attributes = append(attributes, attribute.Float64(attrTopP, *config.TopP))
	}
	if try.ProviderCall != "" {
		attributes = append(attributes, attribute.String(attrResponseID, try.ProviderCall))
	}
	if try.HTTPStatus != 0 {
		attributes = append(attributes, attribute.Int(attrStatusCode, try.HTTPStatus))
	}
	if try.FirstToken > 0 {
		attributes = append(attributes, attribute.Float64(attrFirstChunk, try.FirstToken.Seconds()))
	}
	if try.Class != "" {
		attributes = append(attributes, attribute.String(attrErrorType, string(try.Class)))
	}
	if result != nil && result.FinishReason != nil {
		attributes = append(attributes, attribute.StringSlice(attrFinish, []string{*result.FinishReason}))
	}
	if result != nil && result.Usage != nil {
		u := result.Usage
		attributes = append(attributes,
			attribute.Int64(attrInput, u.InputTokens), attribute.Int64(attrOutput, u.OutputTokens),
			attribute.Int64(attrCacheRead, u.CachedInputTokens), attribute.Int64(attrCacheWrite, u.CacheWriteTokens),
			attribute.Int64(attrReasoning, u.ReasoningTokens))
	}
	name := common[0].Value.AsString() + " " + model
	_, span := e.tracer.Start(under, name, trace.WithTimestamp(try.StartedAt),
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	if try.Class != "" {
		span.SetStatus(codes.Error, string(try.Class))
	}
	span.End(trace.WithTimestamp(try.StartedAt.Add(try.Duration)))
}

func (e *Export) measureTry(try run.Try, bounded []attribute.KeyValue) {
	of := bounded[:len(bounded):len(bounded)]
	if try.Class != "" {
		of = append(of, attribute.String(attrErrorType, string(try.Class)))
	}
	e.duration.Record(context.Background(), try.Duration.Seconds(), metric.WithAttributes(of...))
	if try.FirstToken > 0 {
		e.firstChunk.Record(context.Background(), try.FirstToken.Seconds(), metric.WithAttributes(bounded...))
	}
}

func (e *Export) measureTokens(n int64, kind string, bounded []attribute.KeyValue) {
	of := append(bounded[:len(bounded):len(bounded)], attribute.String(attrTokenType, kind))
	e.tokens.Record(context.Background(), n, metric.WithAttributes(of...))
}

// problems warns of failed exports, once a minute at most.
type problems struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	warned time.Time
	unsaid int // since then
}

// Handle is what OpenTelemetry reports errors to.
func (p *problems) Handle(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if now.Sub(p.warned) < time.Minute {
		p.unsaid++
		return
	}
	p.log.Warn("otlp_export_failed", "error", err, "unsaid", p.unsaid)
	p.warned, p.unsaid = now, 0
}
