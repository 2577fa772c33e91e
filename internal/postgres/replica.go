package postgres

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/loop"
)

const (
	// ReplicaBound is how far behind a replica may be and still be read from.
	ReplicaBound = 30 * time.Second

	replicaEvery   = time.Second
	replicaTimeout = 2 * time.Second // rather the primary than a page that waits longer
)

// Replica is a streaming replica that pages may read from. It keeps an eye on how
// far behind it is; whoever reads goes to the primary when that is too far, or when
// it does not answer.
type Replica struct {
	primary *pgxpool.Pool
	pool    *pgxpool.Pool
	log     *slog.Logger

	mu    sync.Mutex
	seen  []position // of the primary, oldest first
	state ReplicaState
}

// position is how far a primary had written at an instant.
type position struct {
	at  time.Time
	lsn int64
}

// ReplicaState is what is known of a replica.
type ReplicaState struct {
	Age   time.Duration // of what can be read there
	Away  string        // why it is not read from; "" when it is
	known bool          // it was looked at
}

// OpenReplica returns the replica at url of a primary. It need not be there right
// now: Run finds out. An address that cannot be read is fault.Invalid.
func OpenReplica(ctx context.Context, url string, primary *pgxpool.Pool, opts Options, log *slog.Logger) (*Replica, error) {
	pool, err := newPool(ctx, url, opts, replicaTimeout)
	if err != nil {
		return nil, err
	}
	return &Replica{primary: primary, pool: pool, log: log, state: ReplicaState{Away: "it has not been looked at yet"}}, nil
}

// Close lets go of it.
func (r *Replica) Close() { r.pool.Close() }

// Pool is the connections to it.
func (r *Replica) Pool() *pgxpool.Pool { return r.pool }

// State is how it is.
func (r *Replica) State() ReplicaState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// Run looks at it every second until ctx is done.
func (r *Replica) Run(ctx context.Context) error {
	return loop.Every(ctx, r.log, "replica_not_looked_at", replicaEvery, func(ctx context.Context, now time.Time) error {
		r.RunOnce(ctx, now) // what goes wrong is the replica's state
		return nil
	})
}

// RunOnce compares how far the primary has written with how far the replica has
// read. A replica that lost its primary does not know that itself.
func (r *Replica) RunOnce(ctx context.Context, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	var written int64
	primaryErr := r.primary.QueryRow(ctx, `
		select case when pg_is_in_recovery() then 0 else pg_current_wal_lsn() - '0/0' end::bigint`).Scan(&written)
	var replayed pgtype.Int8
	err := r.pool.QueryRow(ctx, `
		select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() - '0/0' end::bigint`).Scan(&replayed)
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return // we are being stopped
	}
	r.mu.Lock()
	if primaryErr == nil && written > 0 {
		r.seen = append(r.seen, position{now, written})
	}
	next := ReplicaState{known: true}
	switch {
	case err != nil:
		next.Away = "it does not answer: " + reason(err)
	case !replayed.Valid:
		next.Away = "it is no streaming replica"
	default:
		next.Age, r.seen = ageOf(r.seen, replayed.Int64, now)
		if next.Age > ReplicaBound {
			next.Away = "it is too far behind"
		}
	}
	r.seen = r.seen[max(0, len(r.seen)-mostPositions):]
	r.mu.Unlock()
	r.become(next)
}

// mostPositions are those of ten minutes: beyond that it only matters that it is
// long.
const mostPositions = 600

// ageOf is how old what has been replayed is: the time since the primary had written
// no more than that. It drops what is not needed any more. Of a primary that was
// never seen nothing is known, which is not held against the replica.
func ageOf(seen []position, replayed int64, now time.Time) (time.Duration, []position) {
	if len(seen) == 0 {
		return 0, seen
	}
	for i := len(seen) - 1; i >= 0; i-- {
		if seen[i].lsn <= replayed {
			if i == len(seen)-1 {
				return 0, seen[i:] // it has all that the primary had when it was looked at last
			}
			return now.Sub(seen[i].at), seen[i:]
		}
	}
	return now.Sub(seen[0].at), seen
}

// fail notes that it did not answer somebody.
func (r *Replica) fail(err error) {
	r.become(ReplicaState{Away: "it does not answer: " + reason(err), known: true})
}

// become logs when pages begin to read elsewhere.
func (r *Replica) become(next ReplicaState) {
	r.mu.Lock()
	before := r.state
	r.state = next
	r.mu.Unlock()
	switch {
	case before.known && (before.Away == "") == (next.Away == ""):
	case next.Away != "":
		r.log.Warn("replica_not_read", "reason", next.Away, "behind", next.Age.Round(time.Second).String())
	default:
		r.log.Info("replica_read", "behind", next.Age.Round(time.Second).String())
	}
}

// usable says whether to read from it.
func (r *Replica) usable() bool { return r.State().Away == "" }

// begin begins a transaction on it; false: read from the primary.
func (r *Replica) begin(ctx context.Context) (pgx.Tx, bool) {
	bounded, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	tx, err := r.pool.BeginTx(bounded, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		if ctx.Err() == nil {
			r.fail(err)
		}
		return nil, false
	}
	return tx, true
}

// gone says whether an error while reading means that the replica cannot be read
// from: it went away, or had to choose between the reader and keeping up.
func gone(err error) bool {
	if err == nil {
		return false
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code == "40001" || pgErr.Code == "40P01" || isAway(err)
	}
	return isAway(err)
}

type primaryKey struct{}

// OnPrimary is a context in which Readers read from the primary: for whoever has just
// changed something and has to see it.
func OnPrimary(ctx context.Context) context.Context {
	return context.WithValue(ctx, primaryKey{}, true)
}

func onPrimary(ctx context.Context) bool { return ctx.Value(primaryKey{}) != nil }
