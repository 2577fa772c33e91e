package run

import (
	"encoding/json"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

// runRow is a row of prompt_runs, attemptRow one of prompt_attempts, contentRow
// one of prompt_contents.
type runRow struct {
	CreatedAt       time.Time
	UserID          *uuid.UUID
	OperatorID      *uuid.UUID
	TeamID          *uuid.UUID
	TemplateID      *uuid.UUID
	ClientRequestID *string
	Models          []string
	Config          json.RawMessage
	Stream          bool
	Status          string
	FinishedAt      *time.Time
	DurationMs      *int64
	TotalTokens     *int64
	TotalCostUsd    *price.USD
	Unpriced        *int
}

type attemptRow struct {
	Ordinal           int
	CreatedAt         time.Time
	UserID            *uuid.UUID
	OperatorID        *uuid.UUID
	TeamID            *uuid.UUID
	TemplateID        *uuid.UUID
	Provider          string
	Model             string
	Status            string
	KeySource         *key.Source
	UserKeyID         *uuid.UUID
	FallbackKeyID     *uuid.UUID
	Tries             int
	InputTokens       *int64
	CachedInputTokens *int64
	CacheWriteTokens  *int64
	OutputTokens      *int64
	ReasoningTokens   *int64
	TotalTokens       *int64
	UsageSource       *string
	CostUsd           *price.USD
	CostSource        *CostSource
	PriceID           *int64
	FinishReason      *string
	ErrorClass        *provider.Class
	ErrorMessage      *string
	HTTPStatus        *int
	RetryAfterMs      *int64
	ProviderRequestID *string
	DurationMs        *int64
	FirstTokenMs      *int64
}

type contentRow struct {
	UserID   *uuid.UUID
	TeamID   *uuid.UUID
	System   *string
	Messages []provider.Message
	Outputs  map[string]string
}

func (w *world) runRow(id uuid.UUID) runRow {
	w.t.Helper()
	rows, err := w.pool.Query(w.ctx, `
		select created_at, user_id, operator_id, team_id, template_id, client_request_id, models, config, stream,
		       status, finished_at, duration_ms, total_tokens, total_cost_usd, unpriced
		from public.prompt_runs where id = $1`, id)
	w.must(err)
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[runRow])
	w.must(err)
	return row
}

func (w *world) attemptRows(id uuid.UUID) []attemptRow {
	w.t.Helper()
	rows, err := w.pool.Query(w.ctx, `
		select ordinal, created_at, user_id, operator_id, team_id, template_id, provider, model, status,
		       key_source, user_key_id, fallback_key_id, tries,
		       input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, total_tokens, usage_source,
		       cost_usd, cost_source, price_id, finish_reason, error_class, error_message, http_status, retry_after_ms,
		       provider_request_id, duration_ms, first_token_ms
		from public.prompt_attempts where run_id = $1 order by ordinal`, id)
	w.must(err)
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[attemptRow])
	w.must(err)
	return found
}

func (w *world) contentRow(id uuid.UUID) contentRow {
	w.t.Helper()
	rows, err := w.pool.Query(w.ctx, `select user_id, team_id, system, messages, outputs from public.prompt_contents where run_id = $1`, id)
	w.must(err)
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[contentRow])
	w.must(err)
	return row
}

// checkRows compares what is stored of a run with its answer, to the last digit.
func (w *world) checkRows(call Call, e Envelope, status Status) {
	w.t.Helper()
	req, at := call.Request, CreatedAt(call.ID)
	row := w.runRow(call.ID)
	finished := at.Add(time.Duration(e.DurationMs) * time.Millisecond)
	want := runRow{
		CreatedAt: at, UserID: call.LearnerID, OperatorID: call.OperatorID, TeamID: req.TeamID, TemplateID: req.TemplateID,
		Models: req.Models, Config: row.Config, Stream: req.Stream, Status: string(status), FinishedAt: &finished,
		DurationMs: &e.DurationMs, TotalTokens: &e.TotalTokens, TotalCostUsd: &e.TotalCost, Unpriced: &e.Unpriced,
	}
	if call.ClientRequestID != "" {
		want.ClientRequestID = &call.ClientRequestID
	}
	w.same("the run", want, row)
	w.same("its config", json.RawMessage(encoded(w.t, req.Config)), compact(w, row.Config))

	attempts := w.attemptRows(call.ID)
	if len(attempts) != len(e.Results) {
		w.t.Fatalf("%d attempts are stored of %d", len(attempts), len(e.Results))
	}
	outputs := map[string]string{}
	var tokens int64
	var cost price.USD
	unpriced, ok := 0, 0
	for i, r := range e.Results {
		stored := attempts[i]
		wanted := attemptRow{
			Ordinal: i, CreatedAt: at, UserID: call.LearnerID, OperatorID: call.OperatorID, TeamID: req.TeamID, TemplateID: req.TemplateID,
			Provider: r.Provider, Model: r.Model, Status: string(r.Status), KeySource: r.KeySource, Tries: r.Attempts,
			CostUsd: r.Cost, CostSource: r.CostSource, FinishReason: r.FinishReason, DurationMs: &r.DurationMs, FirstTokenMs: r.FirstTokenMs,
			// Not in the answer; looked at where it matters.
			UserKeyID: stored.UserKeyID, FallbackKeyID: stored.FallbackKeyID, PriceID: stored.PriceID, ProviderRequestID: stored.ProviderRequestID,
		}
		if (stored.UserKeyID != nil) != (r.KeySource != nil && *r.KeySource == key.User) ||
			(stored.FallbackKeyID != nil) != (r.KeySource != nil && *r.KeySource == key.Fallback) {
			w.t.Errorf("%s: keys %v and %v, source %v", r.Model, stored.UserKeyID, stored.FallbackKeyID, r.KeySource)
		}
		if u := r.Usage; u != nil {
			wanted.InputTokens, wanted.CachedInputTokens, wanted.CacheWriteTokens = &u.InputTokens, &u.CachedInputTokens, &u.CacheWriteTokens
			wanted.OutputTokens, wanted.ReasoningTokens, wanted.TotalTokens = &u.OutputTokens, &u.ReasoningTokens, &u.TotalTokens
			wanted.UsageSource = &u.Source
			tokens += u.TotalTokens
		}
		if r.Error != nil {
			wanted.ErrorClass, wanted.ErrorMessage = &r.Error.Class, &r.Error.Message
			if r.Error.HTTPStatus != 0 {
				wanted.HTTPStatus = &r.Error.HTTPStatus
			}
			if r.Error.RetryAfterMs != 0 {
				wanted.RetryAfterMs = &r.Error.RetryAfterMs
			}
			if r.Error.Class == provider.ClassCancelled {
				wanted.Status = "cancelled"
			}
		} else {
			ok++
		}
		w.same(r.Model, wanted, stored)
		if r.Output != nil {
			outputs[r.Model] = *r.Output
		}
		if r.Cost == nil {
			unpriced++
		} else {
			cost = cost.Add(*r.Cost)
		}
	}
	content := w.contentRow(call.ID)
	w.same("the outputs", outputs, content.Outputs)
	w.same("whose", call.LearnerID, content.UserID)
	if e.TotalTokens != tokens || !e.TotalCost.Equal(cost) || e.Unpriced != unpriced {
		w.t.Errorf("totals %d, %s, %d; the results make %d, %s, %d", e.TotalTokens, e.TotalCost, e.Unpriced, tokens, cost, unpriced)
	}
	if status := map[bool]Status{true: Success, false: Partial}[ok == len(e.Results)]; ok > 0 && e.Status != status || ok == 0 && e.Status != Failed {
		w.t.Errorf("%d of %d are ok, and the status is %s", ok, len(e.Results), e.Status)
	}
}

func (w *world) same(what string, want, got any) {
	w.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s is stored differently (- answered, + stored):\n%s", what, diff)
	}
}

// compact is JSON as encoding/json writes it; jsonb has its own order.
func compact(w *world, raw json.RawMessage) json.RawMessage {
	w.t.Helper()
	var c Config
	w.must(json.Unmarshal(raw, &c))
	return json.RawMessage(encoded(w.t, c))
}
