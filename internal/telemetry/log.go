package telemetry

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
)

// runEvents are the events that leave the house (PRODUCT.md §4). Prompts,
// outputs and keys are never among their fields.
var runEvents = []string{"ai_run_start", "ai_run_success", "ai_run_error"}

// logHandler turns run events into OTLP log records.
type logHandler struct {
	logger log.Logger
	prefix string // of the groups that are open
	fields []attribute.KeyValue
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if !slices.Contains(runEvents, r.Message) {
		return nil
	}
	var out log.Record
	out.SetTimestamp(r.Time)
	out.SetEventName(r.Message)
	out.SetBody(attribute.StringValue(r.Message))
	out.SetSeverity(log.Severity(r.Level) + log.SeverityInfo) // both count in fours
	out.SetSeverityText(r.Level.String())
	out.AddAttributes(h.fields...)
	r.Attrs(func(attr slog.Attr) bool {
		out.AddAttributes(h.translate(attr)...)
		return true
	})
	h.logger.Emit(ctx, out)
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.fields = slices.Clone(h.fields)
	for _, attr := range attrs {
		with.fields = append(with.fields, h.translate(attr)...)
	}
	return &with
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	with := *h
	if name != "" {
		with.prefix += name + "."
	}
	return &with
}

// translate returns one attribute, or none for what is null.
func (h *logHandler) translate(attr slog.Attr) []attribute.KeyValue {
	value := valueOf(attr.Value)
	if value.Type() == attribute.EMPTY {
		return nil
	}
	return []attribute.KeyValue{{Key: attribute.Key(h.prefix + attr.Key), Value: value}}
}

func valueOf(v slog.Value) attribute.Value {
	v = v.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return attribute.StringValue(v.String())
	case slog.KindInt64:
		return attribute.Int64Value(v.Int64())
	case slog.KindFloat64:
		return attribute.Float64Value(v.Float64())
	case slog.KindBool:
		return attribute.BoolValue(v.Bool())
	case slog.KindTime:
		return attribute.StringValue(v.Time().Format(time.RFC3339Nano))
	default:
		return fromJSON(v.Any())
	}
}

// fromJSON is a value as the log line shows it. Numbers are floats throughout: a
// cost of 0 must not be of another type than one of 0.1.
func fromJSON(v any) attribute.Value {
	text, err := json.Marshal(v)
	if err != nil {
		return attribute.StringValue("!ERROR: " + err.Error())
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		return attribute.StringValue(string(text))
	}
	return fromPlain(plain)
}

func fromPlain(v any) attribute.Value {
	switch v := v.(type) {
	case string:
		return attribute.StringValue(v)
	case float64:
		return attribute.Float64Value(v)
	case bool:
		return attribute.BoolValue(v)
	case []any:
		items := make([]attribute.Value, len(v))
		for i := range v {
			items[i] = fromPlain(v[i])
		}
		return attribute.SliceValue(items...)
	case map[string]any:
		members := make([]attribute.KeyValue, 0, len(v))
		for name, member := range v {
			if value := fromPlain(member); value.Type() != attribute.EMPTY {
				members = append(members, attribute.KeyValue{Key: attribute.Key(name), Value: value})
			}
		}
		return attribute.MapValue(members...)
	default:
		return attribute.Value{}
	}
}
