package usage

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Store reads prompt_attempts, and gives up rather than take the database away
// from the run endpoint.
type Store struct {
	reader postgres.Reader
}

// NewStore returns a Store that reads with reader.
func NewStore(reader postgres.Reader) *Store { return &Store{reader} }

// As returns a Store that sees what row-level security lets the learner see.
func (s *Store) As(learnerID uuid.UUID) *Store { return &Store{s.reader.As(learnerID)} }

// Report counts the attempts of a query. fault.Unavailable: there are too many
// to count in time, or the database is away.
func (s *Store) Report(ctx context.Context, q Query) (Report, error) {
	boundaries := q.boundaries()
	var rows []row
	err := s.read(ctx, func(tx pgx.Tx) error {
		// One statement, so that everything is of the same moment. The days are
		// told apart by their boundaries and not by Postgres's own knowledge of
		// the zone, which may be of another year than ours.
		found, err := tx.Query(ctx, `
			with attempts as not materialized (
			  select width_bucket(created_at, $1::timestamptz[]) as day, *
			  from public.prompt_attempts
			  where created_at >= $2 and created_at < $3
			    and ($4 = '' or provider = $4)
			    and ($5 = '' or model = $5)
			    and ($6::uuid is null or team_id = $6)
			    and ($7 = '' or key_source = $7)
			    and ($8::uuid[] is null or team_id = any ($8))
			)
			select day, provider, model,
			       count(*) as attempts,
			       count(*) filter (where status = 'running') as running,
			       count(*) filter (where status in ('error', 'interrupted')) as errors,
			       count(*) filter (where status = 'cancelled') as cancelled,
			       count(*) filter (where key_source = 'fallback') as fallback,
			       coalesce(sum(input_tokens), 0)::bigint as input,
			       coalesce(sum(cached_input_tokens), 0)::bigint as cached_input,
			       coalesce(sum(cache_write_tokens), 0)::bigint as cache_write,
			       coalesce(sum(output_tokens), 0)::bigint as output,
			       coalesce(sum(reasoning_tokens), 0)::bigint as reasoning,
			       count(*) filter (where input_tokens is null and status not in ('running', 'error')) as unknown_usage,
			       coalesce(sum(cost_usd), 0) as cost,
			       coalesce(sum(cost_usd) filter (where key_source = 'fallback'), 0) as fallback_cost,
			       count(*) filter (where cost_usd is null and status <> 'running') as unpriced,
			       array_agg(duration_ms) filter (where status = 'ok' and duration_ms is not null) as durations,
			       (select count(distinct run_id) from attempts) as runs
			from attempts
			group by day, provider, model`,
			boundaries, q.From, q.To, q.Provider, q.Model, q.TeamID, q.KeySource, q.TeamIDs)
		if err != nil {
			return err
		}
		rows, err = pgx.CollectRows(found, pgx.RowToStructByName[row])
		return err
	})
	if err != nil {
		return Report{}, fmt.Errorf("count usage: %w", err)
	}
	return newReport(boundaries, rows), nil
}

// Options are the values that a query's filters can usefully have.
type Options struct {
	Providers []string
	Models    []string
	Teams     []Team
}

// Team is a team that asked for something.
type Team struct {
	ID   uuid.UUID
	Name string
}

// Options returns what occurs in a query's days whatever its filters, in its
// TeamIDs only, in alphabetical order, and what the filters are set to even if it does not occur.
// It fails like Report.
func (s *Store) Options(ctx context.Context, q Query) (Options, error) {
	type option struct {
		Provider string
		Model    string
		TeamID   *uuid.UUID
		TeamName string
	}
	var found []option
	err := s.read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			select used.provider, used.model, used.team_id, coalesce(teams.name, 'Deleted team') as team_name
			from (
			  select distinct provider, model, team_id
			  from public.prompt_attempts
			  where created_at >= $1 and created_at < $2
			    and ($6::uuid[] is null or team_id = any ($6))
			  union
			  select $3::text, $4::text, $5::uuid
			) used
			left join public.teams on teams.id = used.team_id`,
			q.From, q.To, q.Provider, q.Model, q.TeamID, q.TeamIDs)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowToStructByName[option])
		return err
	})
	if err != nil {
		return Options{}, fmt.Errorf("list usage filters: %w", err)
	}

	var o Options
	for _, f := range found {
		if f.Provider != "" {
			o.Providers = append(o.Providers, f.Provider)
		}
		if f.Model != "" {
			o.Models = append(o.Models, f.Model)
		}
		if f.TeamID != nil {
			o.Teams = append(o.Teams, Team{*f.TeamID, f.TeamName})
		}
	}
	o.Providers = sortedUnique(o.Providers, strings.Compare)
	o.Models = sortedUnique(o.Models, strings.Compare)
	o.Teams = sortedUnique(o.Teams, func(a, b Team) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return o, nil
}

func sortedUnique[T comparable](all []T, compare func(a, b T) int) []T {
	slices.SortFunc(all, compare)
	return slices.Compact(all)
}

// read is Read with a message for whoever asked for too many days.
func (s *Store) read(ctx context.Context, fn func(tx pgx.Tx) error) error {
	err := s.reader.Read(ctx, fn)
	if postgres.TookTooLong(err) {
		return fault.New(fault.Unavailable, "These days hold too much to count in %d seconds. Choose a shorter range, or narrow the filters.",
			int(postgres.ReadTimeout.Seconds())).Because(err)
	}
	return err
}
