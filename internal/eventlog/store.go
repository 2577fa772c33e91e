package eventlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Store answers what is asked about events. It only reads.
type Store struct {
	reader postgres.Reader
	keep   int // days
}

// NewStore returns a Store of events that are kept for so many days.
func NewStore(reader postgres.Reader, keep int) *Store { return &Store{reader, keep} }

// Days is how long events are kept.
func (s *Store) Days() int { return s.keep }

// KeptFrom is since when none is dropped for its age.
func (s *Store) KeptFrom(now time.Time) time.Time { return KeptFrom(now, s.keep) }

// Page is a part of a list, newest event first.
type Page struct {
	Events []Event
	Newer  bool // there are events before the first one
	Older  bool // there are events after the last one

	// A text is looked for in a limited number of events at a time. Where that limit
	// came before the end of the page, Rest is where to go on.
	Rest *Cursor
}

const (
	// MostSearched is in how many events a text is looked for at a time: reading them
	// takes a fifth of a second.
	MostSearched = 50_000

	mostOfRun = 200
)

// List returns up to limit events from a cursor on. It is fault.Unavailable when the
// database is away or that takes too long.
func (s *Store) List(ctx context.Context, f Filter, at Cursor, limit int) (Page, error) {
	var page Page
	err := s.read(ctx, func(tx pgx.Tx) error {
		w, err := s.where(ctx, tx, f)
		if err != nil {
			return err
		}
		w.from(at)
		if f.Text != "" {
			if page.Rest, err = w.limitSearch(ctx, tx, at.Newer); err != nil {
				return err
			}
			w.text(f.Text)
		}
		page.Events, err = w.rows(ctx, tx, at.Newer, limit+1)
		return err
	})
	if err != nil {
		return Page{}, fmt.Errorf("list log events: %w", err)
	}
	more := len(page.Events) > limit
	page.Events = page.Events[:min(limit, len(page.Events))]
	if more {
		page.Rest = nil
	}
	page.Newer, page.Older = !at.At.IsZero(), more
	if at.Newer {
		page.Newer, page.Older = more, true
		slices.Reverse(page.Events)
	}
	return page, nil
}

// OfRequest returns the first events of a request, the oldest first.
func (s *Store) OfRequest(ctx context.Context, id string, since time.Time) (events []Event, err error) {
	err = s.read(ctx, func(tx pgx.Tx) error {
		w := where{args: pgx.NamedArgs{}}
		w.add("e.request_id = @request", "request", id)
		w.add("e.at >= @since", "since", since)
		events, err = w.rows(ctx, tx, true, mostOfRun)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list log events of a request: %w", err)
	}
	return events, nil
}

// Choices are the sources and events that were counted in the days of a filter, in
// alphabetical order.
type Choices struct {
	Sources, Events []string
}

// Choices returns what can usefully be asked for.
func (s *Store) Choices(ctx context.Context, f Filter) (c Choices, err error) {
	err = s.read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			with found as (
			  select source, event from ops.log_counts where slot >= $1 and slot < $2 group by source, event
			)
			select coalesce((select array_agg(distinct source order by source) from found), '{}'),
			       coalesce((select array_agg(distinct event order by event) from found where $3 = '' or source = $3), '{}')`,
			f.From, f.To, f.Source).Scan(&c.Sources, &c.Events)
	})
	if err != nil {
		return Choices{}, fmt.Errorf("list sources of log events: %w", err)
	}
	return c, nil
}

// where collects conditions on an event e, and their parameters.
type where struct {
	all  []string
	args pgx.NamedArgs
}

func (w *where) add(condition string, args ...any) {
	w.all = append(w.all, condition)
	for i := 0; i < len(args); i += 2 {
		w.args[args[i].(string)] = args[i+1]
	}
}

func (w *where) sql() string { return strings.Join(w.all, " and ") }

// where has all of a filter but its text.
func (s *Store) where(ctx context.Context, tx pgx.Tx, f Filter) (*where, error) {
	w := &where{args: pgx.NamedArgs{}}
	w.add("e.at >= @fromAt and e.at < @toAt", "fromAt", f.From, "toAt", f.To)
	if f.Level != "" {
		w.level(levels[f.Level])
	}
	if f.Source != "" {
		w.add("e.source = @source", "source", f.Source)
	}
	if f.Event != "" {
		w.add("e.event = @event", "event", f.Event)
	}
	if f.RequestID != "" {
		w.add("e.request_id = @request", "request", f.RequestID)
	}
	if f.Learner != "" {
		id, err := learner(ctx, tx, f.Learner)
		if err != nil {
			return nil, err
		}
		w.add("e.user_id = @learner", "learner", id)
	}
	return w, nil
}

// level says 4 in so many words where that leads to an index.
func (w *where) level(least slog.Level) {
	w.add("e.level >= @level", "level", int16(least))
	if least >= slog.LevelWarn {
		w.add("e.level >= 4")
	}
}

func (w *where) from(at Cursor) {
	switch {
	case at.At.IsZero():
	case at.Newer:
		w.add("e.at >= @placeAt and (e.at, e.id) > (@placeAt, @placeID)", "placeAt", at.At, "placeID", at.ID)
	default:
		w.add("e.at <= @placeAt and (e.at, e.id) < (@placeAt, @placeID)", "placeAt", at.At, "placeID", at.ID)
	}
}

// text looks into everything that is not the answer to another filter. Capitals are
// only those of ASCII: that takes half the time.
func (w *where) text(text string) {
	w.add(`((e.attributes::text collate "C") ilike @text or (e.event collate "C") ilike @text)`, "text", pattern(text))
}

// pattern matches a text as JSON spells it.
func pattern(text string) string {
	var spelled bytes.Buffer
	encoder := json.NewEncoder(&spelled)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil { // strings always marshal
		panic(err)
	}
	inner := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(spelled.String()), `"`), `"`)
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(inner) + "%"
}

// limitSearch leaves only the first MostSearched events, and returns where the others
// begin; nil when there are none.
func (w *where) limitSearch(ctx context.Context, tx pgx.Tx, newer bool) (*Cursor, error) {
	var rest Cursor
	w.args["most"] = MostSearched - 1
	err := tx.QueryRow(ctx, `select e.at, e.id from ops.log_events e where `+w.sql()+order(newer)+` offset @most limit 1`, w.args).Scan(&rest.At, &rest.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rest.At, rest.Newer = rest.At.UTC(), newer
	if newer {
		w.add("(e.at, e.id) <= (@restAt, @restID) and e.at <= @restAt", "restAt", rest.At, "restID", rest.ID)
	} else {
		w.add("(e.at, e.id) >= (@restAt, @restID) and e.at >= @restAt", "restAt", rest.At, "restID", rest.ID)
	}
	return &rest, nil
}

func order(newer bool) string {
	if newer {
		return " order by e.at, e.id"
	}
	return " order by e.at desc, e.id desc"
}

type eventRow struct {
	ID         uuid.UUID
	At         time.Time
	Level      int16
	Source     string
	Event      string
	RequestID  string
	UserID     *uuid.UUID
	Learner    string
	Node       string
	Attributes json.RawMessage
}

func (w *where) rows(ctx context.Context, tx pgx.Tx, newer bool, limit int) ([]Event, error) {
	w.args["limit"] = limit
	rows, err := tx.Query(ctx, `
		with found as materialized (
		  select e.* from ops.log_events e where `+w.sql()+order(newer)+` limit @limit
		)
		select e.id, e.at, e.level, e.source, e.event, coalesce(e.request_id, '') as request_id, e.user_id,
		       coalesce(u.email, '') as learner, e.node, e.attributes
		from found e
		left join auth.users u on u.id = e.user_id`+order(newer), w.args)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[eventRow])
	if err != nil {
		return nil, err
	}
	events := make([]Event, len(found))
	for i, r := range found {
		events[i] = Event{r.ID, r.At.UTC(), slog.Level(r.Level), r.Source, r.Event, r.RequestID, r.UserID, r.Learner, r.Node, r.Attributes}
	}
	return events, nil
}

// learner finds the account that a filter names. For an address that nobody has it is
// uuid.Nil, which never did anything.
func learner(ctx context.Context, tx pgx.Tx, name string) (id uuid.UUID, err error) {
	if id, err = uuid.Parse(name); err == nil {
		return id, nil
	}
	err = tx.QueryRow(ctx, `select id from auth.users where lower(email) = lower($1)`, name).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, nil
	}
	return id, err
}

// read is Read with a message for whoever asked for too much.
func (s *Store) read(ctx context.Context, fn func(tx pgx.Tx) error) error {
	err := s.reader.Read(ctx, fn)
	if postgres.TookTooLong(err) {
		return fault.New(fault.Unavailable, "These events could not be found in %d seconds. Choose a shorter time, or filter by event, request or learner.",
			int(postgres.ReadTimeout.Seconds())).Because(err)
	}
	return err
}
