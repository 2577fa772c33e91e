package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

const (
	// Of what waits, up to this much is written in one transaction.
	mostEntries = 256

	commitTimeout = 5 * time.Second
	firstPause    = 25 * time.Millisecond  // before a batch is tried again; it doubles …
	longestPause  = 500 * time.Millisecond // … up to this
)

// record writes e down and waits until that is done. A start or a hold that
// cannot be written within patience never will be, or is undone: the error says
// so. An outcome is waited for that long and then kept: it is written when the
// database is back, whatever this returns. Nobody's leaving ends the wait, as a run
// that is committed has to be brought to its end.
func (s *Store) record(e *entry, patience time.Duration) error {
	e.done = make(chan error, 1)
	if e.finish == nil {
		e.until = time.Now().Add(patience)
		s.beginnings.add(e)
		return <-e.done // the writer heeds until
	}
	s.unwritten.Add(1)
	s.outcomes.add(e)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-e.done:
		return err
	case <-timer.C:
		return away(errors.New("the outcome of a run waits to be written"))
	}
}

func away(cause error) error {
	return fault.New(fault.Unavailable, "The database does not answer right now. Try again in a moment.").
		After(2 * time.Second).Because(cause)
}

// write commits a batch and answers every entry. When the database is away, those
// that still have time go back to the queue.
func (s *Store) write(batch []*entry) {
	batch = s.patient(batch, errors.New("it waited too long"))
	if len(batch) == 0 {
		return
	}
	err := s.commit(batch, slices.ContainsFunc(batch, func(e *entry) bool { return e.tries > 0 }))
	if isMet(err) {
		err = s.commit(batch, true)
	}
	switch {
	case err == nil:
		s.pause.Store(0)
		s.answer(batch, nil)
	case passes(err):
		for _, e := range batch {
			e.tries++
		}
		s.log.Warn("runs_not_written_yet", "entries", len(batch), "error", err, "where", placeOf(err))
		pause := min(max(2*time.Duration(s.pause.Load()), firstPause), longestPause)
		s.pause.Store(int64(pause))
		time.Sleep(pause)
		for _, e := range s.patient(batch, err) {
			if e.finish != nil {
				s.outcomes.add(e)
			} else {
				s.beginnings.add(e)
			}
		}
	case len(batch) > 1: // one of them cannot be written: find out which
		for i := range batch {
			s.write(batch[i : i+1])
		}
	default:
		s.refuse(batch[0], err)
	}
}

// patient drops, and answers, what has waited long enough.
func (s *Store) patient(batch []*entry, err error) []*entry {
	now := time.Now()
	kept := batch[:0:0]
	var doubtful []uuid.UUID
	for _, e := range batch {
		if e.until.IsZero() || now.Before(e.until) {
			kept = append(kept, e)
			continue
		}
		if e.start != nil && e.tries > 0 {
			doubtful = append(doubtful, e.start.call.ID)
		}
		e.done <- away(err)
	}
	if len(doubtful) > 0 {
		go s.undo(doubtful)
	}
	return kept
}

// When to look for a run whose start was given up: at once, and later, as what was
// sent may be with a server that hangs.
var undoAfter = []time.Duration{0, 10 * time.Second, time.Minute, 10 * time.Minute}

// undo closes runs that were given up when nobody knew whether their start had
// been committed: nobody runs them.
func (s *Store) undo(runs []uuid.UUID) {
	times := make([]time.Time, len(runs))
	for i, id := range runs {
		times[i] = CreatedAt(id)
	}
	for _, pause := range undoAfter {
		time.Sleep(pause)
		for wait := longestPause; ; wait = min(2*wait, commitTimeout) {
			err := s.closeStarted(runs, times)
			if err == nil {
				break
			}
			if !passes(err) { // the process ends, and closes what it leaves behind
				s.log.Error("runs_not_closed", "runs", runs, "error", err)
				return
			}
			time.Sleep(wait)
		}
	}
}

func (s *Store) closeStarted(runs []uuid.UUID, times []time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	var orphans []orphan
	err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (err error) {
		orphans, err = closeRuns(ctx, tx, `(r.id, r.created_at) in (select * from unnest($1::uuid[], $2::timestamptz[]))`, runs, times)
		return err
	})
	if err == nil {
		logOrphans(ctx, s.log, orphans)
	}
	return err
}

func (s *Store) answer(batch []*entry, err error) {
	for _, e := range batch {
		if e.finish != nil {
			s.unwritten.Add(-1)
		}
		e.done <- err
	}
}

// refuse answers an entry that the database will never take. A run whose outcome
// it is is closed without one.
func (s *Store) refuse(e *entry, err error) {
	if e.finish != nil {
		f := e.finish
		s.log.Error("run_not_recorded", "requestId", f.call.ID, "totalTokens", f.envelope.TotalTokens, "totalCost", f.envelope.TotalCost, "error", err)
		go s.undo([]uuid.UUID{f.call.ID})
	}
	s.answer([]*entry{e}, postgres.Fault(err))
}

// passes says whether it makes sense to try again: the database is away, full,
// slow or read-only, or two transactions stood in each other's way.
func passes(err error) bool {
	if errors.Is(err, puddle.ErrClosedPool) { // the process ends
		return false
	}
	if fault.KindOf(postgres.Fault(err)) == fault.Unavailable || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pgErr.Code) != 5 {
		return false
	}
	switch pgErr.Code {
	case "25006", "55P03", "57014": // read-only, a lock, a timeout
		return true
	}
	switch pgErr.Code[:2] {
	case "40", "53": // deadlock, no room
		return true
	}
	return false
}

// isMet says whether a batch failed because it did not look: a row is there already, or
// the account that one belongs to is not.
func isMet(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "23505" || pgErr.Code == "23503")
}

// Unwritten is how many outcomes wait for the database.
func (s *Store) Unwritten() int64 { return s.unwritten.Load() }

// Settle waits until every outcome is written, or ctx is done.
func (s *Store) Settle(ctx context.Context) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for s.Unwritten() > 0 {
		select {
		case <-ctx.Done():
			s.log.Error("runs_lost", "outcomes", s.Unwritten())
			return fmt.Errorf("the outcomes of %d runs could not be written before the end", s.Unwritten())
		case <-ticker.C:
		}
	}
	return nil
}

// placeOf is what the database says on what it was doing; of a deadlock, which row
// of which table it waited for.
func placeOf(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Where
	}
	return ""
}
