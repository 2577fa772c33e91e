package outreach

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// MaxChosen is how many learners one action may be about.
const MaxChosen = 100

const (
	maxNote   = 500
	maxSnooze = 366 * 24 * time.Hour
)

// Chosen is a learner as somebody saw them: the revision tells whether another
// operator has done something since. 0 is one that nobody had done anything about.
type Chosen struct {
	ID       uuid.UUID
	Revision int
}

// Action is what an operator wants for some learners.
type Action struct {
	Verb     Verb
	Learners []Chosen
	Note     string
	Until    time.Time // of Snooze
	By       audit.Actor
}

// Outcome says what became of an action.
type Outcome struct {
	Done    int
	Refused []Refusal
}

// Refusal is a learner with whom nothing was done.
type Refusal struct {
	Who string // name or address
	Why string // "has a usable key by now"
}

// check refuses an action that makes no sense, as fault.Invalid.
func (a Action) check(now time.Time) error {
	var problems []fault.Field
	refuse := func(field, format string, args ...any) {
		problems = append(problems, fault.Field{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if !slices.Contains([]Verb{MarkContacted, Snooze, Reopen, Undo}, a.Verb) {
		refuse("action", "must be contacted, snooze, reopen or undo")
	}
	switch n := len(a.Learners); {
	case n == 0:
		refuse("learner", "is missing: choose at least one")
	case n > MaxChosen:
		refuse("learner", "is chosen more than %d times; do it in several steps", MaxChosen)
	}
	if len(a.Note) > maxNote {
		refuse("note", "is longer than %d bytes; shorten it", maxNote)
	}
	if !utf8.ValidString(a.Note) || strings.ContainsFunc(a.Note, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' }) {
		refuse("note", "holds characters that cannot be shown")
	}
	if a.Verb == Snooze {
		switch {
		case a.Until.IsZero():
			refuse("until", "is missing: choose the day on which to come back to this")
		case !a.Until.After(now):
			refuse("until", "has passed; choose a later day")
		case a.Until.Sub(now) > maxSnooze:
			refuse("until", "is more than a year away; choose an earlier day")
		}
	}
	if len(problems) > 0 {
		return fault.InvalidFields(problems)
	}
	return nil
}

// Act does what an operator wants, for each learner or not at all. Somebody
// outside of the scope is fault.NotFound for the whole of it.
func (s *Store) Act(ctx context.Context, scope Scope, a Action, now time.Time) (outcome Outcome, err error) {
	a.Note = strings.TrimSpace(a.Note)
	if err := a.check(now); err != nil {
		return Outcome{}, err
	}
	ids, revisions := sorted(a.Learners)
	src, err := s.source(ctx, scope, ids, now)
	if err != nil {
		return Outcome{}, err
	}
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		found, err := lock(ctx, tx, src, ids, now)
		if err != nil {
			return err
		}
		last, err := latest(ctx, tx, ids)
		if err != nil {
			return err
		}
		var entries []audit.Entry
		for _, id := range ids {
			l := found[id]
			next, refused := Act(l.Status(), a.Verb, a.Until, len(l.Usable) > 0, last[id])
			if refused == "" && l.Revision != revisions[id] {
				refused = RefusedMeanwhile
			}
			if refused != "" {
				outcome.Refused = append(outcome.Refused, Refusal{l.Called(), refused})
				continue
			}
			kind := map[Verb]string{MarkContacted: "contacted", Snooze: "snoozed", Reopen: "reopened", Undo: "undone"}[a.Verb]
			if err := change(ctx, tx, l, next, Event{At: now, Kind: kind, OperatorID: a.By.OperatorID, Actor: a.By.Name, Note: a.Note}); err != nil {
				return err
			}
			outcome.Done++
			details := map[string]any{"from": l.State}
			if a.Note != "" {
				details["note"] = a.Note
			}
			if a.Verb == Snooze {
				details["until"] = a.Until
			}
			entries = append(entries, entry("outreach."+string(a.Verb), l, a.By, details, now))
		}
		return addEntries(ctx, tx, entries)
	})
	if err != nil {
		return Outcome{}, postgres.Fault(err)
	}
	return outcome, nil
}

// sorted are the ids, each once and in the order in which they are locked, and the
// revisions by id.
func sorted(chosen []Chosen) ([]uuid.UUID, map[uuid.UUID]int) {
	revisions := make(map[uuid.UUID]int, len(chosen))
	ids := make([]uuid.UUID, 0, len(chosen))
	for _, c := range chosen {
		if _, twice := revisions[c.ID]; !twice {
			ids = append(ids, c.ID)
		}
		revisions[c.ID] = c.Revision
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return ids, revisions
}

// lock makes others who want to do something with these learners wait until the
// transaction is over, and returns them as they are then. ids have to be in order.
func lock(ctx context.Context, tx pgx.Tx, src source, ids []uuid.UUID, now time.Time) (map[uuid.UUID]Learner, error) {
	found, err := find(ctx, tx, src)
	if err != nil {
		return nil, err
	}
	if err := allFound(ids, found); err != nil {
		return nil, err
	}
	// Whoever is in the queue without a row gets one to lock. Nobody else: a row
	// says that somebody once was without a key.
	var open []uuid.UUID
	for _, id := range ids {
		if len(found[id].Usable) == 0 {
			open = append(open, id)
		}
	}
	if err := enter(ctx, tx, open, now); err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, `select from ops.outreach where learner_id = any($1) order by learner_id for update`, ids); err != nil {
		return nil, err
	}
	if found, err = find(ctx, tx, src); err != nil {
		return nil, err
	}
	return found, allFound(ids, found)
}

// enter puts learners into the queue who are not in it.
func enter(ctx context.Context, tx pgx.Tx, ids []uuid.UUID, now time.Time) error {
	_, err := tx.Exec(ctx, `
		insert into ops.outreach (learner_id, state_at, revision)
		select id, $2, 0 from unnest($1::uuid[]) as id order by id
		on conflict do nothing`, ids, now)
	return err
}

// latest are the latest entries about learners.
func latest(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) (map[uuid.UUID]*Event, error) {
	type entry struct {
		LearnerID uuid.UUID
		Event
	}
	rows, err := tx.Query(ctx, `
		select e.learner_id, e.id, e.at, e.kind, e.from_state, e.from_until, e.to_state, e.to_until, e.operator_id, e.actor, e.note
		from unnest($1::uuid[]) as chosen
		cross join lateral (
		  select * from ops.outreach_events where learner_id = chosen order by id desc limit 1) e`, ids)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[entry])
	last := make(map[uuid.UUID]*Event, len(found))
	for _, e := range found {
		last[e.LearnerID] = &e.Event
	}
	return last, err
}

// change gives a learner another status and says so in their history.
func change(ctx context.Context, tx pgx.Tx, l Learner, next Status, e Event) error {
	var until *time.Time
	if next.State == Snoozed {
		until = &next.Until
	}
	_, err := tx.Exec(ctx, `
		update ops.outreach
		set state = $2, state_at = $3, snoozed_until = $4, revision = revision + 1
		where learner_id = $1`, l.ID, next.State, e.At, until)
	if err != nil {
		return err
	}
	return record(ctx, tx, l, next, e)
}

// record adds to a learner's history.
func record(ctx context.Context, tx pgx.Tx, l Learner, next Status, e Event) error {
	var until *time.Time
	if next.State == Snoozed {
		until = &next.Until
	}
	_, err := tx.Exec(ctx, `
		insert into ops.outreach_events (learner_id, at, kind, from_state, from_until, to_state, to_until, operator_id, actor, note)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		l.ID, e.At, e.Kind, l.State, l.Until, next.State, until, e.OperatorID, e.Actor, e.Note)
	return err
}

// entry is one of the audit log about a learner.
func entry(action string, l Learner, by audit.Actor, details map[string]any, now time.Time) audit.Entry {
	return audit.Entry{At: now, Actor: by, Action: action, SubjectType: "learner", SubjectID: l.ID.String(), SubjectLabel: l.Called(), Details: details}
}

// Called is the learner's name, else the address, else what there is.
func (l Learner) Called() string {
	switch {
	case l.Name != "":
		return l.Name
	case l.Email != "":
		return l.Email
	}
	return "Learner " + l.ID.String()[:8]
}

// addEntries adds to the audit log, last of all: from there on others wait.
func addEntries(ctx context.Context, tx pgx.Tx, entries []audit.Entry) error {
	for _, e := range entries {
		if err := audit.Add(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}
