package run

import (
	"context"
	"log/slog"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

// The three events of the endpoint (PRODUCT.md §4). Prompts, outputs and keys
// are never among their fields.

// statusClientClosed is logged for a run whose caller went away.
const statusClientClosed = 499

// statusInterrupted is logged for a run whose process ended: its caller got no
// answer, or one that says so.
const statusInterrupted = 503

func (r *Runner) logStart(ctx context.Context, call Call, availability map[string]string) {
	req := call.Request
	r.Log.LogAttrs(ctx, slog.LevelInfo, "ai_run_start", append(identity(call),
		slog.Any("models", req.Models),
		slog.Any("keyAvailability", availability),
		slog.Any("config", req.Config),
		idAttr("teamId", req.TeamID),
		idAttr("templateId", req.TemplateID),
		slog.Bool("stream", req.Stream),
	)...)
}

// logOutcome logs a run that is recorded with this status.
func (r *Runner) logOutcome(ctx context.Context, call Call, e Envelope, status Status, abandoned bool) {
	results, problems := logged(e.Results)
	fields := append(identity(call), slog.Int64("durationMs", e.DurationMs), slog.Any("results", results))
	failed := func(reason string, httpStatus int) {
		r.Log.LogAttrs(ctx, slog.LevelError, "ai_run_error", append(fields, slog.String("error", reason), slog.Int("status", httpStatus), slog.Any("errors", problems))...)
	}
	switch {
	case abandoned:
		failed("the caller went away", statusClientClosed)
	case status == Interrupted:
		failed("interrupted: the server was stopped before the run ended", statusInterrupted)
	case e.Status == Failed:
		failed("no model answered", 200)
	default:
		r.Log.LogAttrs(ctx, slog.LevelInfo, "ai_run_success", append(fields, slog.String("status", string(e.Status)),
			slog.Int64("totalTokens", e.TotalTokens), slog.Any("totalCost", e.TotalCost), slog.Any("errors", problems))...)
	}
}

func (r *Runner) logReplay(ctx context.Context, call Call, e Envelope) {
	r.Log.LogAttrs(ctx, slog.LevelInfo, "ai_run_replayed", append(identity(call), slog.String("answerOf", e.RequestID.String()), slog.String("status", string(e.Status)))...)
}

// identity is what every event of the endpoint carries. A rejected request may
// have no learner.
func identity(call Call) []slog.Attr {
	return Identity(call.ID, call.ClientRequestID, call.LearnerID, call.OperatorID)
}

// Identity are the fields that every event of the endpoint carries, also those
// of a request that was rejected before it became a Call.
func Identity(id uuid.UUID, clientRequestID string, learnerID, operatorID *uuid.UUID) []slog.Attr {
	fields := make([]slog.Attr, 0, 12) // those of the event follow
	fields = append(fields,
		slog.String("source", "api/ai/run"),
		slog.String("requestId", id.String()),
		idAttr("userId", learnerID),
	)
	if operatorID != nil {
		fields = append(fields, idAttr("operatorId", operatorID))
	}
	if clientRequestID != "" {
		fields = append(fields, slog.String("clientRequestId", clientRequestID))
	}
	return fields
}

// idAttr is an id as text, or null. As slog.Any it would be marshalled.
func idAttr(name string, id *uuid.UUID) slog.Attr {
	if id == nil {
		return slog.Any(name, nil)
	}
	return slog.String(name, id.String())
}

type loggedResult struct {
	Model       string          `json:"model"`
	KeySource   any             `json:"keySource"`
	DurationMs  int64           `json:"durationMs"`
	TotalTokens *int64          `json:"totalTokens"`
	Cost        *price.USD      `json:"cost"`
	Error       *provider.Class `json:"error"`
}

type loggedError struct {
	Model   string         `json:"model"`
	Class   provider.Class `json:"class"`
	Message string         `json:"message"`
}

func logged(results []Result) ([]loggedResult, []loggedError) {
	all := make([]loggedResult, len(results))
	problems := []loggedError{}
	for i, result := range results {
		all[i] = loggedResult{Model: result.Model, KeySource: result.KeySource, DurationMs: result.DurationMs, Cost: result.Cost}
		if result.Usage != nil {
			all[i].TotalTokens = &result.Usage.TotalTokens
		}
		if result.Error != nil {
			all[i].Error = &result.Error.Class
			problems = append(problems, loggedError{result.Model, result.Error.Class, result.Error.Message})
		}
	}
	return all, problems
}
