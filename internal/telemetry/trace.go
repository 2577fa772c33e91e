package telemetry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
)

// TraceParent returns a W3C traceparent header in its canonical form, or "" if
// the header is absent or no valid one. The canonical form is of version 00 and
// has 55 characters, whatever a newer version adds.
func TraceParent(header string) string {
	parent, ok := parseTraceParent(header)
	if !ok {
		return ""
	}
	return "00-" + parent.TraceID().String() + "-" + parent.SpanID().String() + "-" + (parent.TraceFlags() & trace.FlagsSampled).String()
}

// parseTraceParent reads version-traceid-spanid-flags, in lower-case hex.
// Version 00 is exactly that long, newer ones may go on after another dash.
func parseTraceParent(header string) (parent trace.SpanContext, ok bool) {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(header) < length || header[2] != '-' || header[35] != '-' || header[52] != '-' {
		return parent, false
	}
	version, valid := lowerHex(header[:2])
	if !valid || version[0] == 0xff || version[0] == 0 && len(header) != length || len(header) > length && header[length] != '-' {
		return parent, false
	}
	traceID, valid1 := lowerHex(header[3:35])
	spanID, valid2 := lowerHex(header[36:52])
	flags, valid3 := lowerHex(header[53:55])
	if !valid1 || !valid2 || !valid3 {
		return parent, false
	}
	parent = trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID(traceID), SpanID: trace.SpanID(spanID), TraceFlags: trace.TraceFlags(flags[0]), Remote: true,
	})
	return parent, parent.IsValid()
}

func lowerHex(s string) ([]byte, bool) {
	b, err := hex.DecodeString(s)
	return b, err == nil && hex.EncodeToString(b) == s
}

// WithRun returns a context in which log records belong to the span of a run,
// although that span is made only when the run is over. traceParent may be
// empty.
func WithRun(ctx context.Context, id uuid.UUID, traceParent string) context.Context {
	return trace.ContextWithSpanContext(ctx, spanOf(id, traceParent))
}

// spanOf is the span of a run. Without a parent its trace id is the run's id, so
// that whoever has the one has the other; the span id is the random half of it.
func spanOf(id uuid.UUID, traceParent string) trace.SpanContext {
	config := trace.SpanContextConfig{TraceID: trace.TraceID(id), SpanID: trace.SpanID(id[8:]), TraceFlags: trace.FlagsSampled}
	if parent, ok := parseTraceParent(traceParent); ok {
		config.TraceID, config.TraceFlags = parent.TraceID(), parent.TraceFlags()
	}
	return trace.NewSpanContext(config)
}

// ids gives a run's span the ids of spanOf and every other span a random one.
type ids struct{}

type runID struct{} // in a context: the uuid.UUID of the run whose span is made

func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, ok := ctx.Value(runID{}).(uuid.UUID)
	if !ok {
		id = uuid.New()
	}
	return trace.TraceID(id), trace.SpanID(id[8:])
}

func (ids) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if id, ok := ctx.Value(runID{}).(uuid.UUID); ok {
		return trace.SpanID(id[8:])
	}
	var id trace.SpanID
	binary.BigEndian.PutUint64(id[:], max(rand.Uint64(), 1))
	return id
}
