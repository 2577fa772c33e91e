package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/provider"
)

// Store keeps runs: as started before the first byte goes to a provider, with
// their outcome before the answer goes to the caller.
type Store struct {
	db       postgres.DB
	patience time.Duration // with a database that is to record an outcome
}

// NewStore returns a Store on db.
func NewStore(db postgres.DB) *Store { return &Store{db: db, patience: 10 * time.Second} }

// start records a run and its attempts as running, in one transaction and one
// round trip.
func (s *Store) start(ctx context.Context, call Call, attempts []attempt) error {
	req := call.Request
	at := CreatedAt(call.ID)
	var batch pgx.Batch
	batch.Queue(`
		insert into public.prompt_runs
		  (id, created_at, user_id, operator_id, team_id, template_id, client_request_id, models, config, stream)
		values ($1, $2, $3, $4, $5, $6, nullif($7, ''), $8, $9, $10)`,
		call.ID, at, call.LearnerID, call.OperatorID, req.TeamID, req.TemplateID, call.ClientRequestID, req.Models, req.Config, req.Stream)
	for _, a := range attempts {
		userKey, fallbackKey := a.keyIDs()
		batch.Queue(`
			insert into public.prompt_attempts
			  (run_id, ordinal, created_at, user_id, operator_id, team_id, template_id, provider, model,
			   key_source, user_key_id, fallback_key_id)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			call.ID, a.ordinal, at, call.LearnerID, call.OperatorID, req.TeamID, req.TemplateID, a.provider, a.result.Model,
			a.result.KeySource, userKey, fallbackKey)
	}
	return s.commit(ctx, &batch, "record the start of a run")
}

// finish records the outcome of a run, its attempts and what was said, in one
// transaction and one round trip. It does not end with the caller, who may have
// left, but when its own patience does.
func (s *Store) finish(ctx context.Context, call Call, messages []provider.Message, attempts []attempt, e Envelope, abandoned bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.patience)
	defer cancel()
	status := e.Status
	if abandoned {
		status = Cancelled
	}
	at := CreatedAt(call.ID)
	var batch pgx.Batch
	batch.Queue(`
		update public.prompt_runs
		set status = $3, finished_at = $2::timestamptz + $4 * interval '1 millisecond', duration_ms = $4,
		    total_tokens = $5, total_cost_usd = $6, unpriced = $7
		where id = $1 and created_at = $2`,
		call.ID, at, status, e.DurationMs, e.TotalTokens, e.TotalCost, e.Unpriced)
	outputs := map[string]string{}
	for _, a := range attempts {
		queueOutcome(&batch, call.ID, at, a)
		if a.result.Output != nil {
			outputs[a.result.Model] = storable(*a.result.Output)
		}
	}
	system, rest := splitSystem(call.Request, messages)
	batch.Queue(`
		insert into public.prompt_contents (run_id, created_at, user_id, team_id, system, messages, outputs)
		values ($1, $2, (select id from auth.users where id = $3), $4, $5, $6, $7)`, // the account may be gone by now
		call.ID, at, call.LearnerID, call.Request.TeamID, system, rest, outputs)
	err := s.commit(ctx, &batch, "record the outcome of a run")
	if err != nil && ctx.Err() != nil {
		return fault.New(fault.Unavailable, "The outcome of the run could not be recorded in time. Try again in a moment.").
			After(2 * time.Second).Because(err)
	}
	return err
}

func queueOutcome(batch *pgx.Batch, id uuid.UUID, at time.Time, a attempt) {
	r := a.result
	var input, cached, written, output, reasoning *int64
	var usageSource *string
	if u := r.Usage; u != nil {
		input, cached, written, output, reasoning = &u.InputTokens, &u.CachedInputTokens, &u.CacheWriteTokens, &u.OutputTokens, &u.ReasoningTokens
		usageSource = &u.Source
	}
	var class, message *string
	var httpStatus *int
	var retryAfter *int64
	if e := r.Error; e != nil {
		class, message = (*string)(&e.Class), &e.Message
		if e.HTTPStatus != 0 {
			httpStatus = &e.HTTPStatus
		}
		if e.RetryAfterMs != 0 {
			retryAfter = &e.RetryAfterMs
		}
	}
	batch.Queue(`
		update public.prompt_attempts
		set status = $4, tries = $5,
		    input_tokens = $6, cached_input_tokens = $7, cache_write_tokens = $8, output_tokens = $9, reasoning_tokens = $10,
		    usage_source = $11, cost_usd = $12, cost_source = $13, price_id = $14, finish_reason = $15,
		    error_class = $16, error_message = $17, http_status = $18, retry_after_ms = $19,
		    provider_request_id = nullif($20, ''), duration_ms = $21, first_token_ms = $22
		where run_id = $1 and ordinal = $2 and created_at = $3`,
		id, a.ordinal, at, a.rowStatus(), r.Attempts,
		input, cached, written, output, reasoning,
		usageSource, r.Cost, r.CostSource, a.priceID, r.FinishReason,
		class, message, httpStatus, retryAfter,
		storable(a.providerCall), r.DurationMs, r.FirstTokenMs)
}

// commit sends a batch as one transaction.
func (s *Store) commit(ctx context.Context, batch *pgx.Batch, what string) error {
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return postgres.Fault(fmt.Errorf("%s: %w", what, err))
	}
	return nil
}

func (a attempt) keyIDs() (user, fallback *uuid.UUID) {
	switch {
	case !a.hasKey:
		return nil, nil
	case a.key.Source == key.User:
		return &a.key.ID, nil
	default:
		return nil, &a.key.ID
	}
}

// splitSystem takes the request's own system text off the messages again, for
// its column.
func splitSystem(req Request, messages []provider.Message) (*string, []provider.Message) {
	if req.System == "" {
		return nil, messages
	}
	return &messages[0].Content, messages[1:]
}

// storable drops what Postgres cannot hold in a text.
func storable(s string) string { return strings.ReplaceAll(s, "\x00", "") }

// template returns the body of a template that the learner may use: an own one,
// a public one or one shared with a team of theirs. An operator may use any.
// fault.NotFound otherwise.
func (s *Store) template(ctx context.Context, id uuid.UUID, learnerID *uuid.UUID) (string, error) {
	var body string
	err := s.db.QueryRow(ctx, `
		select t.body
		from public.prompt_templates t
		where t.id = $1
		  and ($2::uuid is null or t.is_public or t.owner_id = $2 or exists (
		    select from public.team_templates s
		    join public.team_members m using (team_id)
		    where s.template_id = t.id and m.user_id = $2))`, id, learnerID).Scan(&body)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fault.New(fault.NotFound, "There is no such template.")
	}
	return body, postgres.Fault(err)
}
