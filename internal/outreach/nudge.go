package outreach

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/notify"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Nudge is a message to learners, or about them, that they should add a key.
type Nudge struct {
	Channel  string // Email or Slack
	Learners []uuid.UUID
	Template Template
	KeysURL  string              // where nobody has set one
	Provider func(string) string // how a provider is called
	By       audit.Actor
}

// Recipient is a learner who was chosen for a nudge.
type Recipient struct {
	Learner
	Skipped string // why there will be none, as a sentence about the learner: "was nudged on …"; "" if there will
}

// Why somebody gets no nudge; one who got one lately is told apart by the day.
const (
	skippedHasKey  = "has a usable key"
	skippedAddress = "has no e-mail address"
)

// lastNudge is the latest nudge that was queued and has not failed.
type lastNudge struct {
	LearnerID uuid.UUID
	At        time.Time
}

// skip says why a learner is not to be nudged, "" if nothing speaks against it.
func skip(l Learner, channel string, last *time.Time, days int, now time.Time) string {
	switch {
	case len(l.Usable) > 0:
		return skippedHasKey
	case channel == Email && !strings.Contains(l.Email, "@"):
		return skippedAddress
	case last != nil && now.Sub(*last) < time.Duration(days)*24*time.Hour:
		return fmt.Sprintf("was nudged on %s, less than %d days ago", last.UTC().Format("2 January 2006"), days)
	}
	return ""
}

// Prepare says who will get a nudge and who will not, and why. Nothing is changed.
func (s *Store) Prepare(ctx context.Context, scope Scope, n Nudge, now time.Time) (recipients []Recipient, err error) {
	ids, err := n.ids()
	if err != nil {
		return nil, err
	}
	src, err := s.source(ctx, scope, ids, now)
	if err != nil {
		return nil, err
	}
	set, err := s.Settings(ctx)
	if err != nil {
		return nil, err
	}
	err = s.reader.Read(ctx, func(tx pgx.Tx) error {
		found, err := find(ctx, tx, src)
		if err != nil {
			return err
		}
		if err := allFound(ids, found); err != nil {
			return err
		}
		recipients, err = sift(ctx, tx, n.Channel, ids, found, set.NudgeDays, now)
		return err
	})
	return recipients, err
}

// Check refuses a text that cannot be sent, as fault.Invalid.
func (n Nudge) Check() error {
	if problems := n.Template.check(n.Channel); len(problems) > 0 {
		return fault.InvalidFields(problems)
	}
	return nil
}

// ids are the learners, each once and in order.
func (n Nudge) ids() ([]uuid.UUID, error) {
	var problems []fault.Field
	if n.Channel != Email && n.Channel != Slack {
		problems = append(problems, fault.Field{Field: "channel", Message: "must be email or slack"})
	}
	switch {
	case len(n.Learners) == 0:
		problems = append(problems, fault.Field{Field: "learner", Message: "is missing: choose at least one"})
	case len(n.Learners) > MaxChosen:
		problems = append(problems, fault.Field{Field: "learner", Message: fmt.Sprintf("is chosen more than %d times; do it in several steps", MaxChosen)})
	}
	if len(problems) > 0 {
		return nil, fault.InvalidFields(problems)
	}
	chosen := make([]Chosen, len(n.Learners))
	for i, id := range n.Learners {
		chosen[i].ID = id
	}
	ids, _ := sorted(chosen)
	return ids, nil
}

// sift tells those who get a nudge from those who do not; the former come first.
func sift(ctx context.Context, tx pgx.Tx, channel string, ids []uuid.UUID, found map[uuid.UUID]Learner, days int, now time.Time) ([]Recipient, error) {
	// A nudge that reached nobody does not count.
	rows, err := tx.Query(ctx, `
		select n.learner_id, max(n.at) as at
		from ops.nudges n
		where n.learner_id = any($1) and n.delivery_id is not null
		  and not exists (select from ops.deliveries d where d.id = n.delivery_id and d.state in ('failed', 'skipped'))
		group by n.learner_id`, ids)
	if err != nil {
		return nil, err
	}
	nudged, err := pgx.CollectRows(rows, pgx.RowToStructByName[lastNudge])
	if err != nil {
		return nil, err
	}
	last := map[uuid.UUID]*time.Time{}
	for _, n := range nudged {
		last[n.LearnerID] = &n.At
	}
	recipients := make([]Recipient, len(ids))
	for i, id := range ids {
		recipients[i] = Recipient{found[id], skip(found[id], channel, last[id], days, now)}
	}
	slices.SortStableFunc(recipients, func(a, b Recipient) int {
		switch {
		case (a.Skipped == "") != (b.Skipped == ""):
			if a.Skipped == "" {
				return -1
			}
			return 1
		default:
			return strings.Compare(strings.ToLower(a.Called()), strings.ToLower(b.Called()))
		}
	})
	return recipients, nil
}

// Nudge queues the messages and says who gets one and who does not, and why. Two
// operators who press at once take turns: the second finds that it has been done.
func (s *Store) Nudge(ctx context.Context, scope Scope, n Nudge, now time.Time) (recipients []Recipient, err error) {
	ids, err := n.ids()
	if err != nil {
		return nil, err
	}
	if err := n.Check(); err != nil {
		return nil, err
	}
	src, err := s.source(ctx, scope, ids, now)
	if err != nil {
		return nil, err
	}
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		found, err := lock(ctx, tx, src, ids, now)
		if err != nil {
			return err
		}
		set, err := settings(ctx, tx)
		if err != nil {
			return err
		}
		if recipients, err = sift(ctx, tx, n.Channel, ids, found, set.NudgeDays, now); err != nil {
			return err
		}
		return n.send(ctx, tx, recipients, set.keysURL(n.KeysURL), now)
	})
	if err != nil {
		return nil, postgres.Fault(err)
	}
	return recipients, nil
}

// keysURL is where learners add a key.
func (s Settings) keysURL(otherwise string) string {
	if s.KeysURL != "" {
		return s.KeysURL
	}
	return otherwise
}

// send puts messages into the outbox and writes down for every learner what became
// of their nudge.
func (n Nudge) send(ctx context.Context, tx pgx.Tx, recipients []Recipient, keysURL string, now time.Time) error {
	var whole *uuid.UUID // of the one message to Slack
	if n.Channel == Slack {
		var learners []Learner
		for _, r := range recipients {
			if r.Skipped == "" {
				learners = append(learners, r.Learner)
			}
		}
		if len(learners) > 0 {
			text := n.Template.ForChannel(learners, n.Provider, keysURL).Text
			id, _, err := notify.Add(ctx, tx, notify.Message{Channel: notify.Slack, Subject: "Learners without a key of their own", Text: text, Purpose: "nudge"}, now)
			if err != nil {
				return err
			}
			whole = &id
		}
	}
	var entries []audit.Entry
	for _, r := range recipients {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		delivery := whole
		if r.Skipped != "" {
			delivery = nil
		} else if n.Channel == Email {
			mail := n.Template.ForLearner(r.Learner, n.Provider, keysURL)
			sent, _, err := notify.Add(ctx, tx, notify.Message{
				Channel: notify.Email, To: r.Email, Subject: mail.Subject, Text: mail.Text, Purpose: "nudge", Key: "nudge " + id.String(),
			}, now)
			if err != nil {
				return err
			}
			delivery = &sent
		}
		_, err = tx.Exec(ctx, `
			insert into ops.nudges (id, learner_id, at, operator_id, actor, channel, delivery_id, skipped)
			values ($1, $2, $3, $4, $5, $6, $7, $8)`, id, r.ID, now, n.By.OperatorID, n.By.Name, n.Channel, delivery, r.Skipped)
		if err != nil {
			return err
		}
		if r.Skipped != "" {
			continue
		}
		if _, err := tx.Exec(ctx, `update ops.outreach set nudged_at = $2 where learner_id = $1`, r.ID, now); err != nil {
			return err
		}
		event := Event{At: now, Kind: "nudged", OperatorID: n.By.OperatorID, Actor: n.By.Name, Note: map[string]string{Email: "By e-mail", Slack: "In Slack"}[n.Channel]}
		if err := change(ctx, tx, r.Learner, Status{State: Contacted}, event); err != nil {
			return err
		}
		entries = append(entries, entry("outreach.nudge", r.Learner, n.By, map[string]any{"channel": n.Channel, "delivery": delivery}, now))
	}
	return addEntries(ctx, tx, entries)
}

// Nudged is a nudge that somebody asked for.
type Nudged struct {
	At           time.Time    `json:"at"`
	Actor        string       `json:"actor"`
	Channel      string       `json:"channel"`
	Skipped      string       `json:"skipped"`      // why there was none
	State        notify.State `json:"state"`        // of its delivery: "" if there was none, or it is not on record any more
	StateReason  string       `json:"state_reason"` // for admins: it may tell of the server that sends
	LearnerID    uuid.UUID    `json:"learner_id"`
	LearnerName  string       `json:"learner_name"`
	LearnerEmail string       `json:"learner_email"`
}

// Nudges returns the latest nudges of a learner, the newest first. Whether the
// caller may see the learner is for Find to say.
func (s *Store) Nudges(ctx context.Context, learnerID uuid.UUID, limit int) (list []Nudged, err error) {
	err = s.reader.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			select n.at, n.actor, n.channel, n.skipped, coalesce(d.state, '') as state, coalesce(d.reason, '') as state_reason,
			       n.learner_id, `+learnerName+` as learner_name, coalesce(u.email, '') as learner_email
			from ops.nudges n
			join auth.users u on u.id = n.learner_id
			left join ops.deliveries d on d.id = n.delivery_id
			where n.learner_id = $1
			order by n.at desc, n.id desc
			limit $2`, learnerID, limit)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByName[Nudged])
		return err
	})
	return list, err
}
