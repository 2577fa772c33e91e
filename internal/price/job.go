package price

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

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
	Preview    bool   // it only says what it would come to
	Status     string // running or done
	Expected   int64  // attempts to look at, as it was when it was started; 0: not known
	Sums              // so far
	Actor      string
	CreatedAt  time.Time
	FinishedAt *time.Time
	LastAt     *time.Time // when the run began that it came to; nil: it has not begun
	UndoneBy   *int64     // the job that takes it back
	PricesSeen string     // of a preview: what Seen says of the prices that it reckons with

	// What whoever started it was told that it would come to; nil: nothing.
	PromisedChanged          *int64
	PromisedOld, PromisedNew *USD
}

// Done says whether it came to its end.
func (j Job) Done() bool { return j.Status == "done" }

// AsPromised says that it came to what a preview said.
func (j Job) AsPromised() bool {
	return j.PromisedChanged == nil ||
		*j.PromisedChanged == j.Changed && j.PromisedOld.Equal(j.OldUSD) && j.PromisedNew.Equal(j.NewUSD)
}

const jobColumns = `
	id, preview, undoes, provider, model, case when isfinite(from_at) then from_at end as "from", to_at as "to", reported, status, expected,
	seen, changed, priced, unpriced, kept, old_usd, new_usd, actor, created_at, finished_at,
	case when isfinite(last_at) then last_at end as last_at,
	(select u.id from ops.price_jobs u where u.undoes = j.id) as undone_by,
	prices_seen, promised_changed, promised_old, promised_new`

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

// Latest returns the newest jobs that change something, of one model unless the names are empty.
func (j *Jobs) Latest(ctx context.Context, providerID, model string, most int) ([]Job, error) {
	rows, err := j.db.Query(ctx, `
		select`+jobColumns+`
		from ops.price_jobs j
		where not preview and ($1 = '' or provider = $1 and model = $2)
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
// attempt of the span at one moment: of very many StartPreview is for whoever waits.
func (j *Jobs) Preview(ctx context.Context, span Span) (Sums, error) {
	var sums Sums
	err := j.reader.Read(ctx, func(tx pgx.Tx) error {
		book, _, err := (&Store{tx}).load(ctx)
		if err != nil {
			return err
		}
		for at := (place{}); ; {
			batch, err := j.walk(ctx, tx, span, at, previewBatch, "")
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

// Start has the span recomputed in the background; Recomputer does it. It is
// fault.Conflict while costs of the model are recomputed, and when its prices
// changed since they were seen. promised is what a preview said, so that it can be
// told when it comes to something else; nil: there was none.
func (j *Jobs) Start(ctx context.Context, span Span, seen string, promised *Sums, actor audit.Actor, now time.Time) (int64, error) {
	return j.start(ctx, span, nil, promised, actor, now, func(entries []Entry) error {
		if seen != Seen(entries) {
			return errPricesChanged
		}
		return nil
	})
}

const previewsKept = 24 * time.Hour

// StartPreview has it reckoned in the background what Start would come to; Recomputer
// does it, and begins anew when the model's prices change meanwhile. One operator waits
// for one preview: the one before is given up. It is fault.Conflict while costs of the
// model are recomputed.
func (j *Jobs) StartPreview(ctx context.Context, span Span, size Size, actor audit.Actor, now time.Time) (id int64, err error) {
	err = postgres.InTx(ctx, j.db, func(tx pgx.Tx) error {
		entries, err := (&Store{tx}).lockModel(ctx, tx, span.Provider, span.Model)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			delete from ops.price_jobs
			where preview and (created_at < $1 or status = 'running' and actor = $2 and operator_id is not distinct from $3::uuid)`,
			now.Add(-previewsKept), actor.Name, actor.OperatorID)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `
			insert into ops.price_jobs (preview, provider, model, from_at, to_at, reported, operator_id, actor, created_at, expected, prices_seen)
			values (true, $1, $2, coalesce($3::timestamptz, '-infinity'), $4, $5, $6, $7, $8, $9, $10)
			returning id`,
			span.Provider, span.Model, span.From, span.To, span.Reported, actor.OperatorID, actor.Name, now, size.Attempts, Seen(entries)).Scan(&id)
	})
	return id, postgres.Fault(err)
}

// Undo has every cost put back that a job changed, unless it was changed again since.
func (j *Jobs) Undo(ctx context.Context, id int64, actor audit.Actor, now time.Time) (int64, error) {
	job, err := j.Find(ctx, id)
	switch {
	case err != nil:
		return 0, err
	case job.Preview:
		return 0, fault.New(fault.Invalid, "A preview changes nothing: there is nothing to take back.")
	case job.Undoes != nil:
		return 0, fault.New(fault.Invalid, "What was taken back cannot be taken back again. Recompute the costs instead.")
	case !job.Done():
		return 0, fault.New(fault.Conflict, "The recomputation is going on. Take it back when it is done.")
	case job.UndoneBy != nil:
		return 0, errUndone
	}
	return j.start(ctx, job.Span, &job, nil, actor, now, func([]Entry) error { return nil })
}

var errUndone = fault.New(fault.Conflict, "This recomputation was taken back already.")

func (j *Jobs) start(ctx context.Context, span Span, undoes *Job, promised *Sums, actor audit.Actor, now time.Time, check func([]Entry) error) (id int64, err error) {
	err = postgres.InTx(ctx, j.db, func(tx pgx.Tx) error {
		entries, err := (&Store{tx}).lockModel(ctx, tx, span.Provider, span.Model)
		if err != nil {
			return err
		}
		if err := check(entries); err != nil {
			return err
		}
		var undone *int64
		var expected int64
		var changed *int64
		var before, after *USD
		switch {
		case undoes != nil:
			undone, expected = &undoes.ID, undoes.Changed
		case promised != nil:
			expected, changed, before, after = max(promised.Seen, 0), &promised.Changed, &promised.OldUSD, &promised.NewUSD
		}
		err = tx.QueryRow(ctx, `
			insert into ops.price_jobs (undoes, provider, model, from_at, to_at, reported, operator_id, actor, created_at, expected,
			  promised_changed, promised_old, promised_new)
			values ($1, $2, $3, coalesce($4::timestamptz, '-infinity'), $5, $6, $7, $8, $9, $10, $11, $12, $13)
			returning id`,
			undone, span.Provider, span.Model, span.From, span.To, span.Reported, actor.OperatorID, actor.Name, now, expected,
			changed, before, after).Scan(&id)
		if postgres.IsUnique(err, "price_jobs_undoes_key") {
			return errUndone
		}
		if err != nil {
			return err
		}
		action, details := "price.recompute", map[string]any{"span": flat(span.Values())}
		if undoes != nil {
			action, details = "price.undo", map[string]any{"undoes": undoes.ID}
		}
		return audit.Add(ctx, tx, audit.Entry{
			At: now, Actor: actor, Action: action, SubjectType: "price_job", SubjectID: fmt.Sprint(id), SubjectLabel: span.FullName(), Details: details,
		})
	})
	return id, postgres.Fault(err)
}
