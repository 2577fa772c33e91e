package eventlog

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

const (
	gatherFor    = 200 * time.Millisecond // what is logged meanwhile is written together
	mostAtOnce   = 5000                   // events of a transaction
	writeTimeout = 10 * time.Second
	longestPause = 5 * time.Second // between tries, while the database is away
	mostTries    = 3               // with events that a database which answers does not take

	slot = 5 * time.Minute // in which events are counted
)

// PoolOptions are for a Writer's pool: one connection that nobody else uses, so that
// neither runs nor pages wait for the log, nor the log for them.
var PoolOptions = postgres.Options{MaxConns: 1, ApplicationName: "promptops log"}

// Writer writes to the database what a Tee keeps.
type Writer struct {
	tee  *Tee
	db   postgres.DB
	node string
	log  *slog.Logger

	lines   []byte // of waiting, and the Tee's next buffer
	waiting []Event
	tries   int                // that failed with the events in waiting
	down    bool               // the last write failed, and an event has told of it
	days    map[time.Time]bool // known to have a partition
	seq     uint16
}

// NewWriter returns the Writer of a Tee. db should be a pool of its own; see
// PoolOptions. node names this process among others.
func NewWriter(tee *Tee, db postgres.DB, node string, log *slog.Logger) *Writer {
	return &Writer{tee: tee, db: db, node: node, log: log, days: map[time.Time]bool{}}
}

// Run writes some times a second, while there is something to write, until ctx is
// done. What is left then is for Flush.
func (w *Writer) Run(ctx context.Context) error {
	pause := gatherFor
	for {
		if len(w.waiting) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-w.tee.some:
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = gatherFor
		if err := w.RunOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
			pause = min(time.Second*time.Duration(w.tries), longestPause)
		}
	}
}

// Flush writes what is left, once Run has ended.
func (w *Writer) Flush(ctx context.Context) error { return w.RunOnce(ctx, time.Now()) }

// RunOnce writes all that is kept by now. What could not be written is kept for the
// next time, as long as there is room for what comes meanwhile.
func (w *Writer) RunOnce(ctx context.Context, now time.Time) error {
	for {
		if len(w.waiting) == 0 {
			if w.lines = w.tee.take(w.lines); len(w.lines) == 0 {
				return nil
			}
			w.parse(now)
		}
		for len(w.waiting) > 0 {
			batch := w.waiting[:min(len(w.waiting), mostAtOnce)]
			if err := w.write(ctx, batch); err != nil {
				if w.failed(ctx, err, len(batch)) {
					return err
				}
			} else {
				w.succeeded()
			}
			w.tries = 0
			w.waiting = w.waiting[len(batch):]
		}
		w.waiting = nil
	}
}

func (w *Writer) parse(now time.Time) {
	for line := range bytes.Lines(w.lines) {
		e := parseLine(line, now)
		e.ID, e.Node = w.newID(e.At), w.node
		w.waiting = append(w.waiting, e)
	}
}

// newID is a UUIDv7 of an instant. Those of one node's events of a millisecond are
// in the order in which they were logged.
func (w *Writer) newID(at time.Time) (id uuid.UUID) {
	_, _ = rand.Read(id[8:]) // never fails
	binary.BigEndian.PutUint64(id[:8], uint64(max(at.UnixMilli(), 0))<<16|0x7000|uint64(w.seq&0x0fff))
	id[8] = id[8]&0x3f | 0x80
	w.seq++
	return id
}

// failed says whether to try again. A database that answers and does not take these
// events never will.
func (w *Writer) failed(ctx context.Context, err error, events int) (again bool) {
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	if answered && pgErr.Code == "23505" && w.tries > 0 {
		w.succeeded() // they were written: only the answer got lost
		return false
	}
	w.tries++
	clear(w.days) // one may have been dropped
	if ctx.Err() != nil {
		return true
	}
	if !w.down {
		w.down = true
		w.log.Warn("log_events_not_written", "error", postgres.Fault(err))
	}
	if answered && fault.KindOf(postgres.Fault(err)) != fault.Unavailable && w.tries >= mostTries {
		w.tee.lose(events)
		return false
	}
	return true
}

func (w *Writer) succeeded() {
	w.down = false
	if n, since := w.tee.owned(); n > 0 {
		w.log.Error("log_events_dropped", "events", n, "since", since.UTC(), "where", "they are on standard output only")
	}
}

// write writes events and their counts, both or neither. That they are there a
// moment later on disk than a commit says is no loss that counts.
func (w *Writer) write(ctx context.Context, events []Event) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := w.ensureDays(ctx, events); err != nil {
		return err
	}
	return postgres.InTx(ctx, w.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local synchronous_commit = off`); err != nil {
			return err
		}
		columns := []string{"id", "at", "level", "source", "event", "request_id", "user_id", "node", "attributes"}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"ops", "log_events"}, columns, pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
			e := &events[i]
			var requestID, userID any
			if e.RequestID != "" {
				requestID = e.RequestID
			}
			if e.UserID != nil {
				userID = *e.UserID
			}
			return []any{e.ID, e.At, int16(e.Level), e.Source, e.Name, requestID, userID, e.Node, e.Attributes}, nil
		}))
		if err != nil {
			return fmt.Errorf("write log events: %w", err)
		}
		return count(ctx, tx, events)
	})
}

// counted is what events are counted by.
type counted struct {
	slot                time.Time
	source, event, node string
	level               slog.Level
}

func count(ctx context.Context, tx pgx.Tx, events []Event) error {
	counts := map[counted]int64{}
	for _, e := range events {
		counts[counted{e.At.UTC().Truncate(slot), e.Source, e.Name, e.Node, e.Level}]++
	}
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b counted) int { // the same order for everybody: no deadlock
		return cmp.Or(a.slot.Compare(b.slot), cmp.Compare(a.source, b.source), cmp.Compare(a.event, b.event), cmp.Compare(a.level, b.level), cmp.Compare(a.node, b.node))
	})
	slots, sources, names, nodes := make([]time.Time, len(keys)), make([]string, len(keys)), make([]string, len(keys)), make([]string, len(keys))
	levels, ns := make([]int16, len(keys)), make([]int64, len(keys))
	for i, k := range keys {
		slots[i], sources[i], names[i], nodes[i], levels[i], ns[i] = k.slot, k.source, k.event, k.node, int16(k.level), counts[k]
	}
	_, err := tx.Exec(ctx, `
		insert into ops.log_counts as c (slot, source, event, level, node, n)
		select * from unnest($1::timestamptz[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::bigint[])
		on conflict (slot, source, event, level, node) do update set n = c.n + excluded.n`,
		slots, sources, names, levels, nodes, ns)
	if err != nil {
		return fmt.Errorf("count log events: %w", err)
	}
	return nil
}

// ensureDays makes the partitions that the events need. Days keeps them ahead: this
// is for a clock that was put forward, and for the first events of all.
func (w *Writer) ensureDays(ctx context.Context, events []Event) error {
	for _, e := range events {
		day := e.At.UTC().Truncate(24 * time.Hour)
		if w.days[day] {
			continue
		}
		if _, err := w.db.Exec(ctx, `select ops.ensure_log_days($1::date, $1::date)`, day.Format(time.DateOnly)); err != nil {
			return fmt.Errorf("make a day of the log: %w", err)
		}
		if len(w.days) > 10 {
			clear(w.days)
		}
		w.days[day] = true
	}
	return nil
}
