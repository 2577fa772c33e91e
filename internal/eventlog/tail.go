package eventlog

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// late is how long after an event could first be read it may still come: each node
	// writes its own, some times a second, and after an outage those that waited.
	late = 10 * time.Second

	mostPerRead = 100   // events that a Tail hands out at a time
	mostInSight = 5_000 // of those within late
)

// Tail hands out events as they are written, by whichever node, each once. It is for
// one goroutine.
type Tail struct {
	store  *Store
	filter Filter
	seen   map[uuid.UUID]time.Time // what was handed out, and is still in sight
	reads  []time.Time             // that went well: when, the last one that is older than late first
}

// Tail begins right after a place, or at now; the filter's days do not count. Events
// of the moments before it are handed out again.
func (s *Store) Tail(f Filter, at Cursor, now time.Time) *Tail {
	begin := now
	if !at.At.IsZero() {
		begin = at.At
	}
	if oldest := now.Add(-time.Hour); begin.Before(oldest) { // somebody was away for long: the list has the rest
		begin = oldest
	}
	return &Tail{store: s, filter: f, seen: map[uuid.UUID]time.Time{}, reads: []time.Time{begin.Add(-late)}}
}

// Next returns what has come since the last time, the oldest first; skipped says that
// there was too much of it, and that only the newest is handed out. It fails like
// List, after which it may be asked again.
func (t *Tail) Next(ctx context.Context, now time.Time) (events []Event, skipped bool, err error) {
	for len(t.reads) > 1 && now.Sub(t.reads[1]) >= late {
		t.reads = t.reads[1:]
	}
	from := t.reads[0].Add(-time.Second) // what took long to be written
	f := t.filter
	f.From, f.To = from, now.Add(time.Hour)
	found := map[uuid.UUID]time.Time{}
	err = t.store.read(ctx, func(tx pgx.Tx) error {
		w, err := t.store.where(ctx, tx, f)
		if err != nil {
			return err
		}
		if f.Text != "" {
			w.text(f.Text)
		}
		w.args["limit"] = mostInSight
		rows, err := tx.Query(ctx, `select e.at, e.id from ops.log_events e where `+w.sql()+order(false)+` limit @limit`, w.args)
		if err != nil {
			return err
		}
		var fresh []uuid.UUID
		clear(found)
		skipped = false
		var at time.Time
		var id uuid.UUID
		oldest := now.Add(time.Hour)
		if _, err = pgx.ForEachRow(rows, []any{&at, &id}, func() error {
			if _, known := t.seen[id]; known {
				return nil
			}
			found[id] = at
			if len(fresh) == mostPerRead {
				skipped = true
				return nil
			}
			fresh, oldest = append(fresh, id), at
			return nil
		}); err != nil || len(fresh) == 0 {
			return err
		}
		one := where{args: pgx.NamedArgs{}}
		one.add("e.at >= @oldest and e.id = any (@ids)", "oldest", oldest, "ids", fresh)
		events, err = one.rows(ctx, tx, true, len(fresh))
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("follow log events: %w", err)
	}
	t.reads = append(t.reads, now)
	maps.Copy(t.seen, found)
	for id, at := range t.seen {
		if at.Before(from) {
			delete(t.seen, id)
		}
	}
	return events, skipped, nil
}
