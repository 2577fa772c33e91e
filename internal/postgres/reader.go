package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promptcademy/promptops/internal/fault"
)

// ReadTimeout is how long a page's statement may take: rather none than one that
// takes the database away from the run endpoint.
const ReadTimeout = 5 * time.Second

// Reader reads for pages: in transactions that cannot write and whose statements
// end after ReadTimeout. As makes one that sees what a learner may see.
type Reader struct {
	db      DB
	replica *Replica // nil: there is none
	learner *uuid.UUID
}

// NewReader returns a Reader that sees everything.
func NewReader(db DB) Reader { return Reader{db: db} }

// Beside returns a Reader that reads from a replica of its database as long as that
// keeps up, see OnPrimary; nil is none.
func (r Reader) Beside(replica *Replica) Reader {
	r.replica = replica
	return r
}

// As returns a Reader whose statements row-level security treats as the learner's
// own; see AsLearner. Schema ops is closed to it.
func (r Reader) As(learnerID uuid.UUID) Reader {
	r.learner = &learnerID
	return r
}

// Learner is whom it reads as; nil: it sees everything.
func (r Reader) Learner() *uuid.UUID { return r.learner }

// Read runs fn in a transaction of its own, all of whose statements see the same
// moment, and which is rolled back: that also takes back the settings where db is a
// transaction of the caller's. It is
// fault.Unavailable when the database is away or a statement took too long; the
// latter also TookTooLong.
func (r Reader) Read(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return r.ReadAfter(ctx, func(pgx.Tx) error { return nil }, fn)
}

// ReadAfter is Read in which own runs first, with our own rights also where fn reads
// as a learner: for what is nobody's, and has to be known at the same moment.
func (r Reader) ReadAfter(ctx context.Context, own, fn func(tx pgx.Tx) error) error {
	tx, remote, err := r.begin(ctx)
	if err != nil {
		return Fault(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	// Sums over half a year need more than the usual 4 MB to be hashed, compiling
	// them takes longer than running them, and a plan made for any days and filters
	// is a bad one for all of them. A page has one processor at most: the others are for
	// runs.
	_, err = tx.Exec(ctx, `
		select set_config('transaction_read_only', 'on', true),
		       set_config('statement_timeout', $1, true),
		       set_config('work_mem', '32MB', true),
		       set_config('jit', 'off', true),
		       set_config('max_parallel_workers_per_gather', '0', true),
		       set_config('plan_cache_mode', 'force_custom_plan', true)`,
		fmt.Sprint(ReadTimeout.Milliseconds()))
	if err == nil {
		err = own(tx)
	}
	if err == nil && r.learner != nil {
		defer runsAs(tx, "authenticated")()
		err = learnerSettings(*r.learner, ReadTimeout).apply(ctx, tx)
	}
	if err == nil {
		err = fn(tx)
	}
	if remote && gone(err) {
		r.replica.fail(err)
		return fault.New(fault.Unavailable, "The copy of the database that pages are read from went away just now. Try again: the next page is read from the database itself.").
			After(time.Second).Because(err)
	}
	if TookTooLong(err) {
		return fault.New(fault.Unavailable, "The database is too busy to answer this in %d seconds. Try again in a minute, or ask for less.",
			int(ReadTimeout.Seconds())).Because(err)
	}
	return Fault(err)
}

// begin begins where to read; remote says that it is on the replica.
func (r Reader) begin(ctx context.Context) (tx pgx.Tx, remote bool, err error) {
	if r.replica != nil && !onPrimary(ctx) && r.replica.usable() {
		if tx, remote = r.replica.begin(ctx); remote {
			return tx, true, nil
		}
	}
	if pool, ok := r.db.(interface {
		BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
	}); ok {
		tx, err = pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	} else {
		tx, err = r.db.Begin(ctx)
	}
	return tx, false, err
}

// TookTooLong reports whether err means that a statement was cut off.
func TookTooLong(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code == "57014" // query_canceled
	}
	return errors.Is(err, context.DeadlineExceeded)
}
