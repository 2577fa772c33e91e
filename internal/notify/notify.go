// Package notify tells people: by e-mail, in Slack, and programs by a signed
// webhook. What is to be told is added to an outbox in the transaction of its
// cause, so that there is neither a notification without its cause nor a cause
// without its notification; a Dispatcher sends it afterwards, on whichever node.
package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// The channels there are.
const (
	Email   = "email"
	Slack   = "slack"
	Webhook = "webhook"
)

// Channels lists them in the order in which they are shown.
func Channels() []string { return []string{Email, Slack, Webhook} }

// Message is one notification for one recipient.
type Message struct {
	Channel string // Email, Slack or Webhook
	To      string // e-mail address; empty: whom the channel is set up for, as always with Slack and the webhook
	Subject string // one line
	Text    string // plain text; each channel escapes it for its own format
	Purpose string // "nudge", "key_alert", "test": for the list of deliveries
	Key     string // deduplication: of the same key only one is ever stored; empty: none
}

// Add puts a message into the outbox, in the transaction of its cause, and
// returns the id of its delivery. When there is one with the same Key already,
// it returns that one's id and false, and nothing is stored. Whether To is an
// address shows when it is sent: one bad address does not undo what else the
// transaction does.
func Add(ctx context.Context, tx pgx.Tx, m Message, now time.Time) (id uuid.UUID, added bool, err error) {
	if _, known := makers[m.Channel]; !known {
		return uuid.Nil, false, fmt.Errorf("notify: there is no channel %q", m.Channel)
	}
	if id, err = uuid.NewV7(); err != nil {
		return uuid.Nil, false, err
	}
	tag, err := tx.Exec(ctx, `
		insert into ops.deliveries (id, channel, recipient, subject, body, purpose, dedup_key, due_at, created_at)
		values ($1, $2, $3, $4, $5, $6, nullif($7, ''), $8, $8)
		on conflict (dedup_key) do nothing`,
		id, m.Channel, storable(m.To), storable(m.Subject), storable(m.Text), m.Purpose, m.Key, now)
	if err != nil {
		return uuid.Nil, false, fmt.Errorf("notify: %w", err)
	}
	if tag.RowsAffected() > 0 {
		return id, true, nil
	}
	err = tx.QueryRow(ctx, `select id from ops.deliveries where dedup_key = $1`, m.Key).Scan(&id)
	if err != nil {
		return uuid.Nil, false, fmt.Errorf("notify: %w", err)
	}
	return id, false, nil
}

// State is how far a delivery is.
type State string

const (
	Queued  State = "queued"  // to be sent, or to be tried again
	Sent    State = "sent"    // the other side has taken it
	Failed  State = "failed"  // given up, see Reason
	Skipped State = "skipped" // never tried: the channel is off or not set up, see Reason
)

// States lists them.
func States() []State { return []State{Queued, Sent, Failed, Skipped} }

// Delivery is a message on its way.
type Delivery struct {
	ID uuid.UUID
	Message
	State      State
	Attempts   int        // how often sending was begun
	Reason     string     // in words: what the last attempt met with, or why there was none; "" when all went well
	CreatedAt  time.Time  // when it was added
	DueAt      time.Time  // while queued: when it is tried next
	FinishedAt *time.Time // when it was sent, given up or skipped; nil: not yet
}

// SentAt is when the other side took it; nil: it has not.
func (d Delivery) SentAt() *time.Time {
	if d.State == Sent {
		return d.FinishedAt
	}
	return nil
}
