package price

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/provider"
)

// Span is which attempts to recompute: those of a model, with the dated names that
// cost what it does, of runs that began in a time.
type Span struct {
	Provider string
	Model    string     // the provider's own name
	From     *time.Time // nil: from the beginning
	To       time.Time  // before this instant
	Reported bool       // also costs that the provider named
}

// FullName is the model as runs ask for it.
func (s Span) FullName() string { return s.Provider + "/" + s.Model }

// ParseSpan reads a Span: name (a model's full name), from and until as Parse has
// them, until now at the latest, and reported (yes).
func ParseSpan(values url.Values, now time.Time, zone *time.Location) (Span, error) {
	r := reader{values: values, zone: zone}
	s := Span{To: now.UTC().Truncate(time.Microsecond), From: r.when("from"), Reported: r.typed("reported") == "yes"}
	var ok bool
	if s.Provider, s.Model, ok = provider.Split(r.text("name", 2*maxName)); !ok {
		r.refuse("name", "must be the full name of a model, like openai/gpt-5-mini")
	}
	if until := r.when("until"); until != nil && until.Before(s.To) {
		s.To = *until
	}
	if s.From != nil && !s.From.Before(s.To) {
		r.refuse("from", "must be earlier than the end, and not in the future")
	}
	if len(r.problems) > 0 {
		return Span{}, fault.InvalidFields(r.problems)
	}
	return s, nil
}

// Values are what ParseSpan reads as s, whatever the time is.
func (s Span) Values() url.Values {
	values := url.Values{"name": {s.FullName()}, "until": {s.To.UTC().Format(time.RFC3339Nano)}}
	if s.From != nil {
		values.Set("from", s.From.UTC().Format(time.RFC3339Nano))
	}
	if s.Reported {
		values.Set("reported", "yes")
	}
	return values
}

// Job is a recomputation, or one that is taken back.
type Job struct {
	ID     int64
	Undoes *int64 // nil: it recomputes
	Span
	Status     string // running or done
	Expected   int64  // attempts to look at, as it was when it was started; 0: not known
	Sums              // so far
	Actor      string
	CreatedAt  time.Time
	FinishedAt *time.Time
	LastAt     *time.Time // when the run began that it came to; nil: it has not begun
	UndoneBy   *int64     // the job that takes it back
}

// Done says whether it came to its end.
func (j Job) Done() bool { return j.Status == "done" }

const jobColumns = `
	id, undoes, provider, model, case when isfinite(from_at) then from_at end as "from", to_at as "to", reported, status, expected,
	seen, changed, priced, unpriced, kept, old_usd, new_usd, actor, created_at, finished_at,
	case when isfinite(last_at) then last_at end as last_at,
	(select u.id from ops.price_jobs u where u.undoes = j.id) as undone_by`

// Jobs recomputes what attempts cost. Zone is where days of budgets begin.
type Jobs struct {
	db     postgres.DB
	reader postgres.Reader
	zone   *time.Location
}

// NewJobs returns Jobs on db; previews read with reader.
func NewJobs(db postgres.DB, reader postgres.Reader, zone *time.Location) *Jobs {
	return &Jobs{db, reader, zone}
}

// Find returns a job. It is fault.NotFound if there is none.
func (j *Jobs) Find(ctx context.Context, id int64) (Job, error) {
	rows, err := j.db.Query(ctx, `select`+jobColumns+` from ops.price_jobs j where id = $1`, id)
	if err != nil {
		return Job{}, postgres.Fault(err)
	}
	job, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Job])
	if errors.Is(err, pgx.ErrNoRows) {
		return Job{}, errNoJob
	}
	return job, postgres.Fault(err)
}

var errNoJob = fault.New(fault.NotFound, "There is no such recomputation.")

// Latest returns the newest jobs, of one model unless the names are empty.
func (j *Jobs) Latest(ctx context.Context, providerID, model string, most int) ([]Job, error) {
	rows, err := j.db.Query(ctx, `
		select`+jobColumns+`
		from ops.price_jobs j
		where ($1 = '' or provider = $1 and model = $2)
		order by id desc limit $3`, providerID, model, most)
	if err != nil {
		return nil, postgres.Fault(err)
	}
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByName[Job])
	return jobs, postgres.Fault(err)
}

// previewBatch is how many attempts a statement of a preview reads: few enough to be
// answered in time.
const previewBatch = 20_000

// Preview says what Start would come to, and changes nothing. It reads every
// attempt of the span.
func (j *Jobs) Preview(ctx context.Context, span Span) (Sums, error) {
	var sums Sums
	err := j.reader.Read(ctx, func(tx pgx.Tx) error {
		book, _, err := (&Store{tx}).load(ctx)
		if err != nil {
			return err
		}
		for at := (place{}); ; {
			batch, err := readSpan(ctx, tx, span, at, previewBatch, "")
			if err != nil {
				return err
			}
			for _, a := range batch {
				at = a.place()
				if span.of(a) {
					after, known := a.reprice(book)
					sums.add(a.paid(), after, known)
				}
			}
			if len(batch) < previewBatch {
				return nil
			}
		}
	})
	return sums, err
}

// place is how far a walk over attempts came; the zero value is the beginning.
type place struct {
	at      time.Time
	run     uuid.UUID
	ordinal int16
}

func (a attempt) place() place { return place{a.CreatedAt, a.RunID, a.Ordinal} }

// readSpan reads the next attempts of a span that have a cost which can be
// recomputed.
func readSpan(ctx context.Context, tx pgx.Tx, s Span, after place, most int, lock string) ([]attempt, error) {
	from := s.From
	if !after.at.IsZero() {
		from = &after.at
	}
	// A dated name is as long as the name and 9 or 11 characters; whether it is one
	// says withoutDate.
	rows, err := tx.Query(ctx, `
		select`+attemptColumns+`
		from public.prompt_attempts
		where created_at >= coalesce($1::timestamptz, '-infinity') and created_at < $2
		  and (created_at, run_id, ordinal) > ($3::timestamptz, $4::uuid, $5::smallint)
		  and (model = $6 or starts_with(model, $6 || '-') and length(model) - length($6) in (9, 11))
		  and provider = $7 and status <> 'running' and input_tokens is not null and output_tokens is not null
		  and cost_source in ('computed', 'estimated', 'unpriced', case when $8 then 'reported' end)
		order by created_at, run_id, ordinal
		limit $9 `+lock,
		from, s.To, after.at, after.run, after.ordinal, s.FullName(), s.Provider, s.Reported, most)
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

// Start has the span recomputed in the background; Recomputer does it. It is
// fault.Conflict while costs of the model are recomputed, and when its prices
// changed since they were seen. expected is how many attempts a preview looked at.
func (j *Jobs) Start(ctx context.Context, span Span, seen string, expected int64, actor audit.Actor, now time.Time) (int64, error) {
	return j.start(ctx, span, nil, max(expected, 0), actor, now, func(entries []Entry) error {
		if seen != Seen(entries) {
			return errPricesChanged
		}
		return nil
	})
}

// Undo has every cost put back that a job changed, unless it was changed again since.
func (j *Jobs) Undo(ctx context.Context, id int64, actor audit.Actor, now time.Time) (int64, error) {
	job, err := j.Find(ctx, id)
	switch {
	case err != nil:
		return 0, err
	case job.Undoes != nil:
		return 0, fault.New(fault.Invalid, "What was taken back cannot be taken back again. Recompute the costs instead.")
	case !job.Done():
		return 0, fault.New(fault.Conflict, "The recomputation is going on. Take it back when it is done.")
	case job.UndoneBy != nil:
		return 0, errUndone
	}
	return j.start(ctx, job.Span, &id, job.Changed, actor, now, func([]Entry) error { return nil })
}

var errUndone = fault.New(fault.Conflict, "This recomputation was taken back already.")

func (j *Jobs) start(ctx context.Context, span Span, undoes *int64, expected int64, actor audit.Actor, now time.Time, check func([]Entry) error) (id int64, err error) {
	err = postgres.InTx(ctx, j.db, func(tx pgx.Tx) error {
		entries, err := (&Store{tx}).lockModel(ctx, tx, span.Provider, span.Model)
		if err != nil {
			return err
		}
		if err := check(entries); err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `
			insert into ops.price_jobs (undoes, provider, model, from_at, to_at, reported, operator_id, actor, created_at, expected)
			values ($1, $2, $3, coalesce($4::timestamptz, '-infinity'), $5, $6, $7, $8, $9, $10)
			returning id`,
			undoes, span.Provider, span.Model, span.From, span.To, span.Reported, actor.OperatorID, actor.Name, now, expected).Scan(&id)
		if postgres.IsUnique(err, "price_jobs_undoes_key") {
			return errUndone
		}
		if err != nil {
			return err
		}
		action, details := "price.recompute", map[string]any{"span": flat(span.Values())}
		if undoes != nil {
			action, details = "price.undo", map[string]any{"undoes": *undoes}
		}
		return audit.Add(ctx, tx, audit.Entry{
			At: now, Actor: actor, Action: action, SubjectType: "price_job", SubjectID: fmt.Sprint(id), SubjectLabel: span.FullName(), Details: details,
		})
	})
	return id, postgres.Fault(err)
}
