package usage

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/rollup"
)

// Store reads prompt_attempts and the sums that are kept of it, and gives up rather than take the database away
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
func (s *Store) Report(ctx context.Context, q Query) (report Report, err error) {
	err = s.read(ctx, func(tx pgx.Tx) error {
		report, err = s.report(ctx, tx, q, q.boundaries())
		return err
	})
	if err != nil {
		return Report{}, fmt.Errorf("count usage: %w", err)
	}
	return report, nil
}

// Span is a stretch of time: From counts, To no longer does.
type Span struct{ From, To time.Time }

// Totals counts all attempts of each span, at the same moment. It fails like
// Report.
func (s *Store) Totals(ctx context.Context, zone *time.Location, spans ...Span) (totals []Totals, err error) {
	err = s.read(ctx, func(tx pgx.Tx) error {
		for _, span := range spans {
			report, err := s.report(ctx, tx, Query{From: span.From, To: span.To, Zone: zone}, []time.Time{span.From, span.To})
			if err != nil {
				return err
			}
			totals = append(totals, report.Totals)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count usage: %w", err)
	}
	return totals, nil
}

func (s *Store) report(ctx context.Context, tx pgx.Tx, q Query, boundaries []time.Time) (Report, error) {
	plan, err := s.plan(ctx, tx, q, boundaries)
	if err != nil {
		return Report{}, err
	}
	var rows []row
	var runs int64
	var batch pgx.Batch
	take := func(found pgx.Rows) error {
		some, err := pgx.CollectRows(found, pgx.RowToStructByName[row])
		rows = append(rows, some...)
		return err
	}
	count := func(row pgx.Row) error {
		var some int64
		err := row.Scan(&some)
		runs += some
		return err
	}
	queueSums(&batch, q, plan, boundaries, take, count)
	for i := range plan.From {
		queueRows(&batch, q, plan.From[i], plan.To[i], boundaries, take, count)
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return Report{}, err
	}
	return newReport(boundaries, rows, runs), nil
}

// plan says what is read from sums. They are closed to learners, and there are
// none by team and model: a team's rows are few and have an index.
func (s *Store) plan(ctx context.Context, tx pgx.Tx, q Query, boundaries []time.Time) (rollup.Plan, error) {
	if s.reader.Learner() != nil || q.TeamID != nil || q.TeamIDs != nil {
		return rollup.Rows(q.From, q.To), nil
	}
	return rollup.NewPlan(ctx, tx, q.Zone, boundaries)
}

// queueSums asks for the sums of a plan, and for how many runs they are of: runs of
// several providers or key sources are summed on their own.
func queueSums(batch *pgx.Batch, q Query, plan rollup.Plan, boundaries []time.Time, take func(pgx.Rows) error, count func(pgx.Row) error) {
	if len(plan.Days)+len(plan.Slots) == 0 {
		return
	}
	batch.Queue(`
		select width_bucket(starts_at, $1::timestamptz[]) as day, provider, model, key_source, `+rollup.SumColumns+`,
		       latency, null::integer[] as durations
		from ops.usage_sums
		where kind = 'model' and (zone = $2 and starts_at = any ($3) or zone = '' and starts_at = any ($4))
		  and ($5 = '' or provider = $5) and ($6 = '' or model = $6) and ($7 = '' or key_source = $7)`,
		boundaries, plan.Zone, plan.Days, plan.Slots, q.Provider, q.Model, q.KeySource).Query(take)
	batch.Queue(`
		select coalesce(sum(runs), 0)::bigint
		from ops.usage_sums
		where (zone = $1 and starts_at = any ($2) or zone = '' and starts_at = any ($3))
		  and case when $5 = '' then kind = 'run' and provider = coalesce(nullif($4, ''), '*') and key_source = coalesce(nullif($6, ''), '*')
		           else kind = 'model' and model = $5 and ($4 = '' or provider = $4) and ($6 = '' or key_source = $6) end`,
		plan.Zone, plan.Days, plan.Slots, q.Provider, q.Model, q.KeySource).QueryRow(count)
}

// queueRows asks for the same of the rows of a span. The days are told apart by
// their boundaries and not by Postgres's own knowledge of the zone, which may be of
// another year than ours.
func queueRows(batch *pgx.Batch, q Query, from, to time.Time, boundaries []time.Time, take func(pgx.Rows) error, count func(pgx.Row) error) {
	const attempts = `
		from public.prompt_attempts
		where created_at >= $1 and created_at < $2
		  and ($3 = '' or provider = $3)
		  and ($4 = '' or model = $4)
		  and ($5::uuid is null or team_id = $5)
		  and ($6 = '' or key_source = $6)
		  and ($7::uuid[] is null or team_id = any ($7))`
	batch.Queue(`
		select width_bucket(created_at, $8::timestamptz[]) as day, provider, model, coalesce(key_source, '') as key_source, `+rollup.Sums+`,
		       null::bytea as latency,
		       array_agg(duration_ms) filter (where status = 'ok' and duration_ms is not null) as durations
		`+attempts+`
		group by day, provider, model, key_source`,
		from, to, q.Provider, q.Model, q.TeamID, q.KeySource, q.TeamIDs, boundaries).Query(take)
	batch.Queue(`select count(distinct run_id) `+attempts,
		from, to, q.Provider, q.Model, q.TeamID, q.KeySource, q.TeamIDs).QueryRow(count)
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
		plan, err := s.plan(ctx, tx, q, q.boundaries())
		if err != nil {
			return err
		}
		var sums string
		args := []any{q.Provider, q.Model, q.TeamID, q.TeamIDs, plan.From, plan.To}
		if len(plan.Days)+len(plan.Slots) > 0 { // a learner may not even name the table
			sums = `
			  union
			  select distinct provider, model, subject_id
			  from ops.usage_sums
			  where kind in ('model', 'team') and (zone = $7 and starts_at = any ($8) or zone = '' and starts_at = any ($9))`
			args = append(args, plan.Zone, plan.Days, plan.Slots)
		}
		found, err = collect[option](ctx, tx, `
			select used.provider, used.model, used.team_id, coalesce(teams.name, 'Deleted team') as team_name
			from (
			  select $1::text as provider, $2::text as model, $3::uuid as team_id
			  union
			  select distinct a.provider, a.model, a.team_id
			  from unnest($5::timestamptz[], $6::timestamptz[]) as span (from_at, to_at)
			  join public.prompt_attempts a on a.created_at >= span.from_at and a.created_at < span.to_at
			  where $4::uuid[] is null or a.team_id = any ($4)`+sums+`
			) used
			left join public.teams on teams.id = used.team_id`, args...)
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

func collect[T any](ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[T])
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
