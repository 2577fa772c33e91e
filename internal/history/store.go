package history

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
)

// Store reads prompt_runs, prompt_attempts and prompt_contents, and gives up
// rather than take the database away from the run endpoint.
type Store struct {
	reader postgres.Reader // of runs
	all    postgres.Reader // of what runs that were found belong to, and no policy lets a learner see
	search search
}

// NewStore returns a Store that reads with reader.
func NewStore(reader postgres.Reader) *Store { return &Store{reader, reader, forPages} }

// As returns a Store that finds only the runs that row-level security lets the
// learner see. Of keys it tells whose they are, and no more.
func (s *Store) As(learnerID uuid.UUID) *Store {
	return &Store{s.reader.As(learnerID), s.all, s.search}
}

type runRow struct {
	ID              uuid.UUID
	CreatedAt       time.Time
	UserID          *uuid.UUID
	OperatorID      *uuid.UUID
	TeamID          *uuid.UUID
	TeamName        string
	TeamShares      bool
	TemplateID      *uuid.UUID
	TemplateTitle   string
	ClientRequestID string
	Stream          bool
	Config          Config
	Status          string
	FinishedAt      *time.Time
	DurationMs      *int64
	TotalTokens     *int64
	TotalCost       *price.USD
	Unpriced        int
	Plan            *plan
}

type attemptRow struct {
	Provider          string
	Model             string
	Status            string
	KeySource         *string
	KeyID             *uuid.UUID
	Tries             int
	TryLog            []loggedTry
	Input             *int64
	CachedInput       int64
	CacheWrite        int64
	Output            *int64
	Reasoning         int64
	UsageSource       string
	Cost              *price.USD
	CostSource        string
	PriceID           *int64
	FinishReason      string
	ErrorClass        string
	ErrorMessage      string
	HTTPStatus        int
	RetryAfterMs      int64
	ProviderRequestID string
	DurationMs        *int64
	FirstTokenMs      *int64
}

// Run returns a run, what became of its models, and what was said, as far as that
// may be read. teamIDs are the teams whose runs may be seen; nil: all.
// fault.NotFound: there is no such run; fault.Unavailable: the database is away
// or too busy.
func (s *Store) Run(ctx context.Context, id uuid.UUID, teamIDs []uuid.UUID) (Run, error) {
	if id.Version() != 7 {
		return Run{}, notFound()
	}
	var row runRow
	var attempts []attemptRow
	var said *Said
	err := s.reader.Read(ctx, func(tx pgx.Tx) (err error) {
		if row, err = readRun(ctx, tx, id); err != nil {
			return err
		}
		if teamIDs != nil && (row.TeamID == nil || !slices.Contains(teamIDs, *row.TeamID)) {
			return notFound()
		}
		if row.Status == "running" { // its attempts are written when it ends
			attempts = row.Plan.rows()
			return nil
		}
		if attempts, err = readAttempts(ctx, tx, id); err != nil {
			return err
		}
		said, err = readSaid(ctx, tx, id)
		return err
	})
	var run Run
	if err == nil {
		run, err = s.complete(ctx, row, attempts)
	}
	if err != nil {
		return Run{}, fmt.Errorf("read run %s: %w", id, err)
	}
	run.Said = said
	return run, nil
}

// complete adds what a run belongs to and was paid with.
func (s *Store) complete(ctx context.Context, row runRow, attempts []attemptRow) (run Run, err error) {
	var learners, operators []uuid.UUID
	if row.UserID != nil {
		learners = append(learners, *row.UserID)
	}
	if row.OperatorID != nil {
		operators = append(operators, *row.OperatorID)
	}
	known, err := s.names(ctx, learners, operators)
	if err != nil {
		return Run{}, err
	}
	err = s.all.Read(ctx, func(tx pgx.Tx) error {
		lookUp := func(id uuid.UUID, source string) *Key { return &Key{ID: id, Source: source, Withheld: true} }
		if s.reader.Learner() == nil {
			keys, err := readKeys(ctx, tx, attempts)
			if err != nil {
				return err
			}
			lookUp = func(id uuid.UUID, source string) *Key {
				if k, ok := keys[id]; ok {
					return &k
				}
				return &Key{ID: id, Source: source, Deleted: true}
			}
		}
		prices, err := readPrices(ctx, tx, attempts)
		if err != nil {
			return err
		}
		run = newRun(row, attempts, known.who(row.UserID, row.OperatorID), lookUp, prices)
		return nil
	})
	return run, err
}

func notFound() error { return fault.New(fault.NotFound, "There is no run with this id.") }

// StartedAt is when a run started, as its id says.
func StartedAt(id uuid.UUID) time.Time { return createdAt(id) }

// createdAt is the millisecond in a run's id, which leads to its month.
func createdAt(id uuid.UUID) time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:]))).UTC()
}

func readRun(ctx context.Context, tx pgx.Tx, id uuid.UUID) (runRow, error) {
	rows, err := tx.Query(ctx, `
		select r.id, r.created_at, r.user_id, r.operator_id,
		       r.team_id, coalesce(team.name, '') as team_name, coalesce(team.share_prompts, false) as team_shares,
		       r.template_id, coalesce(template.title, '') as template_title,
		       coalesce(r.client_request_id, '') as client_request_id,
		       r.stream, r.config, r.status, r.finished_at, r.duration_ms,
		       r.total_tokens, r.total_cost_usd as total_cost, coalesce(r.unpriced, 0) as unpriced, r.plan
		from public.prompt_runs r
		left join public.teams team on team.id = r.team_id
		left join public.prompt_templates template on template.id = r.template_id
		where r.id = $1 and r.created_at = $2`,
		id, createdAt(id))
	if err != nil {
		return runRow{}, err
	}
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[runRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return runRow{}, notFound()
	}
	return row, err
}

// readSaid is nil where nothing was kept, or the reader may not know it.
func readSaid(ctx context.Context, tx pgx.Tx, id uuid.UUID) (*Said, error) {
	rows, err := tx.Query(ctx, `
		select coalesce(system, '') as system, messages, coalesce(outputs, '{}') as outputs
		from public.prompt_contents
		where run_id = $1 and created_at = $2`,
		id, createdAt(id))
	if err != nil {
		return nil, err
	}
	said, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[Said])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return said, err
}

// known are the names of accounts.
type known map[uuid.UUID]Who

// names finds what the accounts are called. Those that are gone are not in it.
func (s *Store) names(ctx context.Context, learners, operators []uuid.UUID) (known, error) {
	type account struct {
		ID    uuid.UUID
		Email string
		Name  string
	}
	var found []account
	err := s.all.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			select id, coalesce(email, '') as email, '' as name from auth.users where id = any ($1)
			union all
			select id, email, name from ops.operators where id = any ($2)`,
			learners, operators)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowToStructByName[account])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find names: %w", err)
	}
	all := make(known, len(found))
	for _, a := range found {
		all[a.ID] = Who{Email: a.Email, Name: a.Name}
	}
	return all, nil
}

// who is one of learnerID and operatorID.
func (k known) who(learnerID, operatorID *uuid.UUID) Who {
	if operatorID != nil {
		who := k[*operatorID]
		who.Operator = true
		return who
	}
	if learnerID == nil {
		return Who{}
	}
	who := k[*learnerID]
	who.LearnerID = learnerID
	return who
}

func readAttempts(ctx context.Context, tx pgx.Tx, id uuid.UUID) ([]attemptRow, error) {
	rows, err := tx.Query(ctx, `
		select provider, model, status, key_source,
		       case key_source when 'user' then user_key_id else fallback_key_id end as key_id,
		       tries, try_log,
		       input_tokens as input,
		       coalesce(cached_input_tokens, 0) as cached_input,
		       coalesce(cache_write_tokens, 0) as cache_write,
		       output_tokens as output,
		       coalesce(reasoning_tokens, 0) as reasoning,
		       coalesce(usage_source, '') as usage_source,
		       cost_usd as cost, coalesce(cost_source, '') as cost_source, price_id,
		       coalesce(finish_reason, '') as finish_reason,
		       coalesce(error_class, '') as error_class,
		       coalesce(error_message, '') as error_message,
		       coalesce(http_status, 0) as http_status,
		       coalesce(retry_after_ms, 0) as retry_after_ms,
		       coalesce(provider_request_id, '') as provider_request_id,
		       duration_ms, first_token_ms
		from public.prompt_attempts
		where run_id = $1 and created_at = $2
		order by ordinal`,
		id, createdAt(id))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[attemptRow])
}

// readKeys finds what can be said of all keys that the attempts name.
func readKeys(ctx context.Context, tx pgx.Tx, attempts []attemptRow) (map[uuid.UUID]Key, error) {
	ids := []uuid.UUID{}
	for _, a := range attempts {
		if a.KeyID != nil {
			ids = append(ids, *a.KeyID)
		}
		for _, t := range a.TryLog {
			ids = append(ids, t.KeyID)
		}
	}
	rows, err := tx.Query(ctx, `
		select id, 'fallback' as source, label, last_four, false as deleted, false as withheld
		from ops.fallback_keys where id = any ($1)
		union all
		select id, 'user', label, last_four, false, false
		from public.user_api_keys where id = any ($1)`,
		ids)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Key])
	keys := make(map[uuid.UUID]Key, len(found))
	for _, k := range found {
		keys[k.ID] = k
	}
	return keys, err
}

func readPrices(ctx context.Context, tx pgx.Tx, attempts []attemptRow) (map[int64]Price, error) {
	ids := []int64{}
	for _, a := range attempts {
		if a.PriceID != nil {
			ids = append(ids, *a.PriceID)
		}
	}
	rows, err := tx.Query(ctx, `
		select id, provider || '/' || model as name, input, output, cache_read, cache_write_5m,
		       tier_above_input_tokens as tier_above, tier_input, tier_output,
		       nullif(effective_from, '-infinity') as effective_from, source
		from ops.model_prices where id = any ($1)`,
		ids)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Price])
	prices := make(map[int64]Price, len(found))
	for _, p := range found {
		prices[p.ID] = p
	}
	return prices, err
}

func newRun(row runRow, attempts []attemptRow, who Who, lookUp func(id uuid.UUID, source string) *Key, prices map[int64]Price) Run {
	run := Run{
		ID: row.ID, StartedAt: row.CreatedAt.UTC(), Status: row.Status, Who: who,
		Team: named(row.TeamID, row.TeamName), TeamShares: row.TeamShares,
		Template: named(row.TemplateID, row.TemplateTitle), ClientRequestID: row.ClientRequestID, Stream: row.Stream, Config: row.Config,
		FinishedAt: row.FinishedAt, DurationMs: row.DurationMs, Tokens: row.TotalTokens, Cost: row.TotalCost, Unpriced: row.Unpriced,
	}
	for _, a := range attempts {
		attempt := Attempt{
			Provider: a.Provider, Model: a.Model, Status: a.Status, Key: a.key(lookUp), Calls: a.Tries, Tries: a.tries(run.StartedAt, lookUp),
			Cost: a.Cost, CostSource: a.CostSource,
			FinishReason: a.FinishReason, ErrorClass: a.ErrorClass, ErrorMessage: a.ErrorMessage, HTTPStatus: a.HTTPStatus,
			RetryAfter: time.Duration(a.RetryAfterMs) * time.Millisecond, ProviderRequestID: a.ProviderRequestID,
			DurationMs: a.DurationMs, FirstTokenMs: a.FirstTokenMs,
		}
		if a.Input != nil && a.Output != nil {
			attempt.Tokens = Tokens{*a.Input, a.CachedInput, a.CacheWrite, *a.Output, a.Reasoning, *a.Input + *a.Output, a.UsageSource}
		}
		if a.PriceID != nil {
			if p, ok := prices[*a.PriceID]; ok {
				attempt.Price = &p
			}
		}
		run.Attempts = append(run.Attempts, attempt)
	}
	place(&run)
	return run
}

func named(id *uuid.UUID, name string) *Named {
	if id == nil {
		return nil
	}
	return &Named{*id, name}
}
