package price

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/rollup"
)

// Size is how much there is to do for a Span.
type Size struct {
	Attempts  int64 // of the model, also those that used nothing and cost nothing
	Uncounted bool  // it is not known, and they may be very many: hardly anything is summed at the moment
	walk      int64 // attempts of all models that have to be looked at for them
}

const (
	fewAttempts = 2_000
	fewToWalk   = 20_000
	mostCounted = 50_000 // rows that are counted one by one
)

// Small says that somebody who waits for a page can wait for a Preview.
func (s Size) Small() bool {
	return !s.Uncounted && s.Attempts <= fewAttempts && s.walk <= fewToWalk
}

// Size counts, and reads few attempts for that.
func (j *Jobs) Size(ctx context.Context, span Span) (size Size, err error) {
	err = j.reader.Read(ctx, func(tx pgx.Tx) error {
		known, from, err := j.known(ctx, tx, span, place{})
		if err != nil || from.IsZero() {
			return err
		}
		plan := known.Plan(rollup.Model, []time.Time{from, span.To})
		var rest int
		err = tx.QueryRow(ctx, `
			select count(*) from (
			  select from unnest($1::timestamptz[], $2::timestamptz[]) span (from_at, to_at)
			  join public.prompt_attempts a on a.created_at >= span.from_at and a.created_at < span.to_at
			  limit $3) rest`, plan.From, plan.To, mostCounted+1).Scan(&rest)
		if size.Uncounted = rest > mostCounted; err != nil || size.Uncounted {
			return err
		}
		rows, err := tx.Query(ctx, `
			select model, sum(attempts)::bigint
			from (
			  select model, attempts from ops.usage_sums where period_id = any (@periods) and kind = 'model' and subject_id is null and provider = @provider
			  union all
			  select model, 1
			  from unnest(@from::timestamptz[], @to::timestamptz[]) span (from_at, to_at)
			  join public.prompt_attempts a on a.created_at >= span.from_at and a.created_at < span.to_at
			  where provider = @provider
			) parts
			where `+named+`
			group by model`,
			pgx.NamedArgs{"periods": plan.Periods, "from": plan.From, "to": plan.To, "provider": span.Provider, "model": span.FullName()})
		if err != nil {
			return err
		}
		var model string
		var attempts int64
		_, err = pgx.ForEachRow(rows, []any{&model, &attempts}, func() error {
			if span.of(attempt{Provider: span.Provider, Model: model}) {
				size.Attempts += attempts
			}
			return nil
		})
		if err != nil {
			return err
		}
		stretches, err := known.Among(ctx, tx, []rollup.Sought{sought(span)}, from, span.To)
		if err == nil {
			size.walk, err = walkOf(ctx, tx, known, stretches)
		}
		return err
	})
	if err != nil {
		return Size{}, fmt.Errorf("count attempts of a model: %w", err)
	}
	return size, nil
}

// named is SQL for a model by its name, or one that is dated: that is as long as the
// name and 9 or 11 characters; whether it is one says withoutDate.
const named = `(model = @model or starts_with(model, @model || '-') and length(model) - length(@model) in (9, 11))`

func sought(s Span) rollup.Sought {
	return rollup.Sought{
		Kind: rollup.Model, Where: `s.subject_id is null and s.provider = @provider and ` + named,
		Args: pgx.NamedArgs{"provider": s.Provider, "model": s.FullName()},
	}
}

// known are the sums from a place of a walk on; from is where it goes on. It is zero
// when there are no attempts at all.
func (j *Jobs) known(ctx context.Context, tx pgx.Tx, s Span, after place) (known rollup.Known, from time.Time, err error) {
	switch {
	case !after.at.IsZero():
		from = after.at
	case s.From != nil:
		from = *s.From
	default:
		var oldest *time.Time
		err := tx.QueryRow(ctx, `select min(created_at) from public.prompt_attempts`).Scan(&oldest)
		if err != nil || oldest == nil || !oldest.Before(s.To) {
			return known, from, err
		}
		from = oldest.AddDate(0, 0, -longest) // so that the period in which it is counts
	}
	known, err = rollup.Read(ctx, tx, j.zone, from, s.To)
	return known, from, err
}

// walkOf counts the attempts of stretches of time.
func walkOf(ctx context.Context, tx pgx.Tx, known rollup.Known, stretches []rollup.Span) (n int64, err error) {
	var all rollup.Plan
	for _, s := range stretches {
		plan := known.Plan(rollup.Key, []time.Time{s.From, s.To})
		all.Periods, all.From, all.To = append(all.Periods, plan.Periods...), append(all.From, plan.From...), append(all.To, plan.To...)
	}
	err = tx.QueryRow(ctx, `
		select (select coalesce(sum(attempts), 0)::bigint from ops.usage_sums where period_id = any ($1) and kind = 'key')
		     + (select count(*) from unnest($2::timestamptz[], $3::timestamptz[]) span (from_at, to_at)
		        join public.prompt_attempts a on a.created_at >= span.from_at and a.created_at < span.to_at)`,
		all.Periods, all.From, all.To).Scan(&n)
	return n, err
}

// place is how far a walk over attempts came; the zero value is the beginning.
type place struct {
	at      time.Time
	run     uuid.UUID
	ordinal int16
}

func (a attempt) place() place { return place{a.CreatedAt, a.RunID, a.Ordinal} }

// walk reads the next attempts of a span that have a cost which can be recomputed.
// Days of which the sums say that they have none of the model are left out: what is
// written into one at this very moment is what comes too late for any walk.
func (j *Jobs) walk(ctx context.Context, tx pgx.Tx, s Span, after place, most int, lock string) (batch []attempt, err error) {
	known, from, err := j.known(ctx, tx, s, after)
	if err != nil || from.IsZero() {
		return nil, err
	}
	stretches, err := known.Among(ctx, tx, []rollup.Sought{sought(s)}, from, s.To)
	if err != nil {
		return nil, err
	}
	for _, stretch := range stretches {
		some, err := readStretch(ctx, tx, s, stretch, after, most-len(batch), lock)
		if err != nil {
			return nil, err
		}
		if batch = append(batch, some...); len(batch) == most {
			break
		}
	}
	return batch, nil
}

func readStretch(ctx context.Context, tx pgx.Tx, s Span, stretch rollup.Span, after place, most int, lock string) ([]attempt, error) {
	rows, err := tx.Query(ctx, `
		select`+attemptColumns+`
		from public.prompt_attempts
		where created_at >= @from and created_at < @to
		  and (created_at, run_id, ordinal) > (@at::timestamptz, @run::uuid, @ordinal::smallint)
		  and `+named+`
		  and provider = @provider and status <> 'running' and input_tokens is not null and output_tokens is not null
		  and cost_source in ('computed', 'estimated', 'unpriced', case when @reported then 'reported' end)
		order by created_at, run_id, ordinal
		limit @most `+lock,
		pgx.NamedArgs{
			"from": stretch.From, "to": stretch.To, "at": after.at, "run": after.run, "ordinal": after.ordinal,
			"model": s.FullName(), "provider": s.Provider, "reported": s.Reported, "most": most,
		})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[attempt])
}

// of says whether an attempt is one of the model's.
func (s Span) of(a attempt) bool {
	if a.name() == s.Model {
		return true
	}
	undated, ok := withoutDate(a.name())
	return ok && undated == s.Model
}
