package price

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/loop"
	"github.com/promptcademy/promptops/internal/postgres"
)

const (
	jobBatch   = 500 // attempts in one transaction: it locks counters that runs need
	lookForJob = time.Second
)

// Recomputer does what Jobs were started. Any number of nodes may run one: they take
// turns, batch by batch. A batch and how far the job came are written in one
// transaction, so a node that dies leaves nothing half-done, and the next goes on
// from there.
type Recomputer struct {
	jobs  *Jobs
	log   *slog.Logger
	batch int // jobBatch; smaller in tests
}

// NewRecomputer returns the loop.
func NewRecomputer(jobs *Jobs, log *slog.Logger) *Recomputer { return &Recomputer{jobs, log, jobBatch} }

// Run looks for jobs every second until ctx is done.
func (r *Recomputer) Run(ctx context.Context) error {
	return loop.Every(ctx, r.log, "costs_not_recomputed", lookForJob, r.RunOnce)
}

// RunOnce does all that is to be done, unless another node is at it.
func (r *Recomputer) RunOnce(ctx context.Context, now time.Time) error {
	for {
		if more, err := r.Step(ctx, now); err != nil || !more {
			return err
		}
	}
}

// Step does one batch of the oldest job; of previews first, for which somebody waits and
// which are soon done. more says that there is more to do for whom
// calls it.
func (r *Recomputer) Step(ctx context.Context, now time.Time) (more bool, err error) {
	err = postgres.InTx(ctx, r.jobs.db, func(tx pgx.Tx) error {
		var waiting, mine bool
		if err := tx.QueryRow(ctx, `select exists (select from ops.price_jobs where status = 'running')`).Scan(&waiting); err != nil || !waiting {
			return err
		}
		// One batch at a time: two that change attempts of one run would miscount it.
		if err := tx.QueryRow(ctx, `select pg_try_advisory_xact_lock(hashtext('ops.price_jobs'))`).Scan(&mine); err != nil || !mine {
			return err
		}
		// A plan that was made for any days would sort all there is for each batch.
		if _, err := tx.Exec(ctx, `select set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true)`); err != nil {
			return err
		}
		work, err := nextWork(ctx, tx)
		if err != nil || work == nil {
			return err
		}
		if !work.Preview {
			// As runs do, and first: whoever recounts holds it before it looks at attempts.
			if _, err := tx.Exec(ctx, `lock table ops.budget_counters in row exclusive mode`); err != nil {
				return err
			}
		}
		more = true
		return r.do(ctx, tx, work, now)
	})
	if err != nil {
		return false, postgres.Fault(fmt.Errorf("recompute costs: %w", err))
	}
	return more, nil
}

// work is a job that is going on.
type work struct {
	Job
	place
	actor audit.Actor
}

func nextWork(ctx context.Context, tx pgx.Tx) (*work, error) {
	rows, err := tx.Query(ctx, `select`+jobColumns+` from ops.price_jobs j where status = 'running' order by preview desc, id limit 1 for update of j`)
	if err != nil {
		return nil, err
	}
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByName[Job])
	if err != nil || len(jobs) == 0 {
		return nil, err
	}
	w := &work{Job: jobs[0], actor: audit.Actor{Name: jobs[0].Actor}}
	if w.LastAt != nil {
		w.place.at = *w.LastAt
	}
	err = tx.QueryRow(ctx, `select last_run, last_ordinal, operator_id from ops.price_jobs where id = $1`, w.ID).
		Scan(&w.place.run, &w.place.ordinal, &w.actor.OperatorID)
	return w, err
}

// changed is an attempt and what it costs from now on.
type changed struct {
	attempt
	after paid
}

// do is one batch: what attempts cost, the sums of their runs, the counters of
// budgets, what it was before, and how far the job came.
func (r *Recomputer) do(ctx context.Context, tx pgx.Tx, w *work, now time.Time) error {
	sums := w.Sums
	var changes []changed
	var ended bool
	var err error
	switch {
	case w.Preview:
		ended, err = r.preview(ctx, tx, w, &sums)
	case w.Undoes == nil:
		changes, ended, err = r.recompute(ctx, tx, w, r.batch, "for update", &sums)
	default:
		changes, ended, err = r.restore(ctx, tx, w, &sums)
	}
	if err != nil {
		return err
	}
	if len(changes) > 0 {
		if err := r.write(ctx, tx, w, changes, now); err != nil {
			return err
		}
	}
	return r.note(ctx, tx, w, sums, ended, now)
}

// preview reckons what recompute would do. What it reckoned by prices that have changed
// since is worth nothing.
func (r *Recomputer) preview(ctx context.Context, tx pgx.Tx, w *work, sums *Sums) (ended bool, err error) {
	entries, err := (&Store{tx}).History(ctx, w.Provider, w.Model)
	if err != nil {
		return false, err
	}
	if now := Seen(entries); now != w.PricesSeen {
		w.PricesSeen, w.place, *sums = now, place{}, Sums{}
	}
	_, ended, err = r.recompute(ctx, tx, w, r.batch*(previewBatch/jobBatch), "", sums)
	return ended, err
}

// recompute says what the next attempts cost by the prices of now.
func (r *Recomputer) recompute(ctx context.Context, tx pgx.Tx, w *work, most int, lock string, sums *Sums) (changes []changed, ended bool, err error) {
	book, _, err := (&Store{tx}).load(ctx)
	if err != nil {
		return nil, false, err
	}
	batch, err := r.jobs.walk(ctx, tx, w.Span, w.place, most, lock)
	if err != nil {
		return nil, false, err
	}
	for _, a := range batch {
		w.place = a.place()
		if !w.of(a) {
			continue
		}
		after, known := a.reprice(book)
		if sums.add(a.paid(), after, known) {
			changes = append(changes, changed{a, after})
		}
	}
	return changes, len(batch) < most, nil
}

// restore puts back what a job changed, where it is still as the job left it.
func (r *Recomputer) restore(ctx context.Context, tx pgx.Tx, w *work, sums *Sums) (changes []changed, ended bool, err error) {
	rows, err := tx.Query(ctx, `
		select created_at, run_id, ordinal, old_usd, old_source, old_price_id, new_usd, new_source, new_price_id
		from ops.price_changes
		where job_id = $1 and (created_at, run_id, ordinal) > ($2::timestamptz, $3::uuid, $4::smallint)
		order by created_at, run_id, ordinal limit $5`,
		*w.Undoes, w.place.at, w.place.run, w.place.ordinal, r.batch)
	if err != nil {
		return nil, false, err
	}
	type made struct {
		place
		before, after paid
	}
	past, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m made, err error) {
		err = row.Scan(&m.at, &m.run, &m.ordinal, &m.before.Cost, &m.before.Source, &m.before.PriceID, &m.after.Cost, &m.after.Source, &m.after.PriceID)
		return m, err
	})
	if err != nil || len(past) == 0 {
		return nil, true, err
	}
	runs := make([]uuid.UUID, len(past))
	for i, m := range past {
		runs[i] = m.run
	}
	rows, err = tx.Query(ctx, `
		select`+attemptColumns+`
		from public.prompt_attempts
		where run_id = any($1) and created_at between $2 and $3 and input_tokens is not null and output_tokens is not null and cost_source is not null
		order by created_at, run_id, ordinal
		for update`, runs, past[0].at, past[len(past)-1].at)
	if err != nil {
		return nil, false, err
	}
	present, err := pgx.CollectRows(rows, pgx.RowToStructByName[attempt])
	if err != nil {
		return nil, false, err
	}
	found := make(map[placeKey]attempt, len(present))
	for _, a := range present {
		found[placeKey{a.RunID, a.Ordinal}] = a
	}
	for _, m := range past {
		w.place = m.place
		a, ok := found[placeKey{m.run, m.ordinal}]
		if !ok { // its run was deleted
			continue
		}
		if !a.paid().same(m.after) || !sameID(a.PriceID, m.after.PriceID) {
			sums.add(a.paid(), a.paid(), false)
			continue
		}
		if sums.add(a.paid(), m.before, true) {
			changes = append(changes, changed{a, m.before})
		}
	}
	return changes, len(past) < r.batch, nil
}

type placeKey struct {
	run     uuid.UUID
	ordinal int16
}

func sameID(a, b *int64) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// write changes the attempts, and whatever is a sum of them but for the rollups,
// which follow by their triggers.
func (r *Recomputer) write(ctx context.Context, tx pgx.Tx, w *work, changes []changed, now time.Time) error {
	n := len(changes)
	times, runs, ordinals := make([]time.Time, n), make([]uuid.UUID, n), make([]int16, n)
	was, is := newPaidColumns(n), newPaidColumns(n)
	for i, c := range changes {
		times[i], runs[i], ordinals[i] = c.CreatedAt, c.RunID, c.Ordinal
		was.set(i, c.paid())
		is.set(i, c.after)
	}
	first, last := times[0], times[n-1]
	batch := &pgx.Batch{}
	batch.Queue(`
		insert into ops.price_changes (job_id, created_at, run_id, ordinal, old_usd, old_source, old_price_id, new_usd, new_source, new_price_id)
		select $1, * from unnest($2::timestamptz[], $3::uuid[], $4::smallint[], $5::numeric[], $6::text[], $7::bigint[], $8::numeric[], $9::text[], $10::bigint[])`,
		w.ID, times, runs, ordinals, was.usd, was.sources, was.prices, is.usd, is.sources, is.prices)
	batch.Queue(`
		update public.prompt_attempts a
		set cost_usd = u.usd, cost_source = u.source, price_id = u.price_id
		from unnest($1::timestamptz[], $2::uuid[], $3::smallint[], $4::numeric[], $5::text[], $6::bigint[]) as u (created_at, run_id, ordinal, usd, source, price_id)
		where a.run_id = u.run_id and a.created_at = u.created_at and a.ordinal = u.ordinal and a.created_at between $7 and $8`,
		times, runs, ordinals, is.usd, is.sources, is.prices, first, last)
	batch.Queue(`
		update public.prompt_runs r
		set total_cost_usd = s.usd, unpriced = s.unpriced
		from (
		  select run_id, created_at, coalesce(sum(cost_usd), 0) as usd, count(*) filter (where cost_usd is null) as unpriced
		  from public.prompt_attempts
		  where run_id = any($1) and created_at between $2 and $3
		  group by run_id, created_at
		) s
		where r.id = s.run_id and r.created_at = s.created_at and r.created_at between $2 and $3 and r.status <> 'running'`, runs, first, last)
	r.queueCounters(batch, changes, now)
	return tx.SendBatch(ctx, batch).Close()
}

// paidColumns are parameters.
type paidColumns struct {
	usd     []*USD
	sources []string
	prices  []*int64
}

func newPaidColumns(n int) paidColumns {
	return paidColumns{make([]*USD, n), make([]string, n), make([]*int64, n)}
}

func (c paidColumns) set(i int, p paid) {
	c.usd[i], c.sources[i], c.prices[i] = p.Cost, p.Source, p.PriceID
}

// queueCounters keeps what fallback keys have spent the sum over the attempts, as it
// is promised: of this month, like run.BudgetStore.Recount. What earlier months came
// to decides nothing any more and stays as it was booked.
func (r *Recomputer) queueCounters(batch *pgx.Batch, changes []changed, now time.Time) {
	month := now.In(r.jobs.zone).Format("2006-01-") + "01"
	var scopes, periods []string
	var subjects []uuid.UUID
	var amounts []USD
	add := func(scope string, subject uuid.UUID, period string, amount USD) {
		scopes, subjects, periods, amounts = append(scopes, scope), append(subjects, subject), append(periods, period), append(amounts, amount)
	}
	for _, c := range changes {
		day := c.CreatedAt.In(r.jobs.zone).Format(time.DateOnly)
		if c.FallbackKeyID == nil || day < month {
			continue
		}
		var amount USD
		if c.after.Cost != nil {
			amount = *c.after.Cost
		}
		if c.Cost != nil {
			amount = amount.Sub(*c.Cost)
		}
		if amount.IsZero() {
			continue
		}
		add("platform", uuid.Nil, day, amount)
		add("key", *c.FallbackKeyID, day[:len("2006-01-")]+"01", amount)
		if c.UserID != nil {
			add("learner", *c.UserID, day, amount)
		}
	}
	if len(scopes) == 0 {
		return
	}
	// In the order in which runs lock them, and as the last rows that are locked.
	batch.Queue(`
		insert into ops.budget_counters as c (scope, subject, period, used_usd)
		select d.scope, d.subject, d.period, sum(d.amount)
		from unnest($1::text[], $2::uuid[], $3::date[], $4::numeric[]) as d (scope, subject, period, amount)
		group by d.scope, d.subject, d.period
		order by d.scope <> 'platform', d.scope, d.subject, d.period
		on conflict (scope, subject, period) do update set used_usd = c.used_usd + excluded.used_usd`,
		scopes, subjects, periods, amounts)
}

// note writes down how far the job came; at its end also in the audit log, with what
// it came to.
func (r *Recomputer) note(ctx context.Context, tx pgx.Tx, w *work, sums Sums, ended bool, now time.Time) error {
	status, finished := "running", (*time.Time)(nil)
	if ended {
		status, finished = "done", &now
	}
	var at *time.Time
	if !w.place.at.IsZero() {
		at = &w.place.at
	}
	if _, err := tx.Exec(ctx, `
		update ops.price_jobs
		set last_at = coalesce($2::timestamptz, last_at), last_run = $3, last_ordinal = $4, seen = $5, changed = $6, priced = $7, unpriced = $8, kept = $9,
		    old_usd = $10, new_usd = $11, status = $12, finished_at = $13, prices_seen = $14
		where id = $1`,
		w.ID, at, w.place.run, w.place.ordinal, sums.Seen, sums.Changed, sums.Priced, sums.Unpriced, sums.Kept, sums.OldUSD, sums.NewUSD, status, finished, w.PricesSeen); err != nil {
		return err
	}
	if !ended || w.Preview {
		return nil
	}
	r.log.InfoContext(ctx, "costs_recomputed", "job", w.ID, "model", w.FullName(), "seen", sums.Seen, "changed", sums.Changed, "oldUsd", sums.OldUSD.String(), "newUsd", sums.NewUSD.String())
	action := map[bool]string{false: "price.recomputed", true: "price.undone"}[w.Undoes != nil]
	return audit.Add(ctx, tx, audit.Entry{
		At: now, Actor: w.actor, Action: action, SubjectType: "price_job", SubjectID: fmt.Sprint(w.ID), SubjectLabel: w.FullName(),
		Details: map[string]any{
			"attempts": sums.Seen, "changed": sums.Changed, "priced": sums.Priced, "unpriced": sums.Unpriced, "kept": sums.Kept,
			"cost_usd": audit.Change{From: sums.OldUSD.String(), To: sums.NewUSD.String()},
		},
	})
}
