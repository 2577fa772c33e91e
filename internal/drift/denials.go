package drift

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promptcademy/promptops/internal/loop"
)

const (
	slot        = 5 * time.Minute
	writeEvery  = 5 * time.Second
	sweepEvery  = time.Hour
	keepErrors  = 30 * 24 * time.Hour
	maxKinds    = 500 // kept apart until they are written
	maxText     = 300
	tooManyText = "Others, of which there were too many to keep apart."
)

// Denial is a kind of refused statement.
type Denial struct {
	Reason  string // "grant": a right is missing; "policy": row-level security; or "other"
	Object  string // "table user_api_keys", as Postgres names it; "" where it does not
	Policy  string // where Postgres names it
	Role    string // as which the statement ran; "" for the program's own
	Route   string // of the request; "" for work without one
	Message string
	Hint    string
}

// tally is how often one was seen within five minutes.
type tally struct {
	first, last time.Time
	n           int64
}

type slotted struct {
	slot time.Time
	Denial
}

// Denials counts refused statements and writes the counts down every few seconds.
// Noting one never waits for the database.
type Denials struct {
	total atomic.Int64
	mu    sync.Mutex
	noted map[slotted]tally
}

// NewDenials returns an empty Denials; a Recorder writes.
func NewDenials() *Denials { return &Denials{noted: map[slotted]tally{}} }

// Total is how many were seen since the program began.
func (d *Denials) Total() int64 { return d.total.Load() }

type contextKey int

const (
	routeKey contextKey = iota
	quietKey
)

// OnRoute says for which route what is done in the context is done.
func OnRoute(ctx context.Context, route string) context.Context {
	return context.WithValue(ctx, routeKey, route)
}

// Note counts a refused statement; it is a postgres.Denied.
func (d *Denials) Note(ctx context.Context, role string, refusal *pgconn.PgError) {
	if ctx.Value(quietKey) != nil {
		return // our own writing, which would go on for ever
	}
	denial := ParseDenial(refusal)
	denial.Role = role
	denial.Route, _ = ctx.Value(routeKey).(string)
	now := time.Now().UTC()
	d.total.Add(1)
	d.add(slotted{now.Truncate(slot), denial}, tally{now, now, 1})
}

func (d *Denials) add(key slotted, t tally) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.noted[key]; !known && len(d.noted) >= maxKinds {
		key = slotted{key.slot, Denial{Reason: "other", Message: tooManyText}}
	}
	if before, known := d.noted[key]; known {
		if before.first.Before(t.first) {
			t.first = before.first
		}
		if before.last.After(t.last) {
			t.last = before.last
		}
		t.n += before.n
	}
	d.noted[key] = t
}

// take hands out what is noted and begins anew.
func (d *Denials) take() map[slotted]tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.noted) == 0 {
		return nil
	}
	noted := d.noted
	d.noted = map[slotted]tally{}
	return noted
}

var (
	byPolicy = regexp.MustCompile(`row-level security policy (?:"(.+)" )?(?:\(.*\) )?for (table|view) "(.+)"`)
	byGrant  = regexp.MustCompile(`(?:permission denied for|must be owner of) (.+)$`)
)

// ParseDenial reads what Postgres says about a refused statement. In another
// language than English only the message is known.
func ParseDenial(refusal *pgconn.PgError) Denial {
	d := Denial{Reason: "other", Message: short(refusal.Message), Hint: short(refusal.Hint)}
	if found := byPolicy.FindStringSubmatch(refusal.Message); found != nil {
		d.Reason, d.Policy, d.Object = "policy", short(found[1]), short(found[2]+" "+found[3])
	} else if found := byGrant.FindStringSubmatch(refusal.Message); found != nil {
		d.Reason, d.Object = "grant", short(strings.ReplaceAll(found[1], `"`, ""))
	} else if refusal.TableName != "" {
		d.Object = short("table " + refusal.TableName)
	}
	return d
}

// short is a text without what Postgres cannot hold, and not longer than it need be.
func short(text string) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "")
	if runes := []rune(text); len(runes) > maxText {
		return string(runes[:maxText-1]) + "…"
	}
	return text
}

// Recorder writes what Denials noted. It may run on any number of nodes.
type Recorder struct {
	denials *Denials
	store   *Store
	log     *slog.Logger
	swept   time.Time
}

// NewRecorder returns a Recorder of the denials.
func NewRecorder(denials *Denials, store *Store, log *slog.Logger) *Recorder {
	return &Recorder{denials: denials, store: store, log: log}
}

// Run writes every few seconds until ctx is done.
func (r *Recorder) Run(ctx context.Context) error {
	return loop.Every(ctx, r.log, "rls_errors_not_written", writeEvery, r.RunOnce)
}

// RunOnce writes what was noted and, once in an hour, forgets what is older than 30
// days. What could not be written is kept for the next time.
func (r *Recorder) RunOnce(ctx context.Context, now time.Time) error {
	ctx = context.WithValue(ctx, quietKey, true)
	if noted := r.denials.take(); noted != nil {
		if err := r.store.record(ctx, noted); err != nil {
			for key, t := range noted {
				r.denials.add(key, t)
			}
			return err
		}
	}
	if now.Sub(r.swept) < sweepEvery {
		return nil
	}
	r.swept = now
	return r.store.forget(ctx, now.Add(-keepErrors))
}
