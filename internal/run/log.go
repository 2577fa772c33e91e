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
	r.Log.InfoContext(ctx, "ai_run_start", append(identity(call),
		slog.Any("models", req.Models),
		slog.Any("keyAvailability", availability),
		slog.Any("config", req.Config),
		slog.Any("teamId", req.TeamID),
		slog.Any("templateId", req.TemplateID),
		slog.Bool("stream", req.Stream),
	)...)
}

func (r *Runner) logOutcome(ctx context.Context, call Call, e Envelope, abandoned bool) {
	results, problems := logged(e.Results)
	fields := append(identity(call), slog.Int64("durationMs", e.DurationMs), slog.Any("results", results))
	switch {
	case abandoned:
		r.Log.ErrorContext(ctx, "ai_run_error", append(fields, slog.String("error", "the caller went away"), slog.Int("status", statusClientClosed))...)
	case e.Status == Failed:
		r.Log.ErrorContext(ctx, "ai_run_error", append(fields, slog.String("error", "no model answered"), slog.Int("status", 200), slog.Any("errors", problems))...)
	default:
		r.Log.InfoContext(ctx, "ai_run_success", append(fields, slog.String("status", string(e.Status)),
			slog.Int64("totalTokens", e.TotalTokens), slog.Any("totalCost", e.TotalCost), slog.Any("errors", problems))...)
	}
}

func (r *Runner) logReplay(ctx context.Context, call Call, e Envelope) {
	r.Log.InfoContext(ctx, "ai_run_replayed", append(identity(call), slog.String("answerOf", e.RequestID.String()), slog.String("status", string(e.Status)))...)
}

// Identity is what every event of the endpoint carries. A rejected request may
// have no learner.
func identity(call Call) []any {
	return Identity(call.ID, call.ClientRequestID, call.LearnerID, call.OperatorID)
}

// Identity are the fields that every event of the endpoint carries, also those
// of a request that was rejected before it became a Call.
func Identity(id uuid.UUID, clientRequestID string, learnerID, operatorID *uuid.UUID) []any {
	fields := []any{
		slog.String("source", "api/ai/run"),
		slog.String("requestId", id.String()),
		slog.Any("userId", learnerID),
	}
	if operatorID != nil {
		fields = append(fields, slog.Any("operatorId", operatorID))
	}
	if clientRequestID != "" {
		fields = append(fields, slog.String("clientRequestId", clientRequestID))
	}
	return fields
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
