package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/loop"
	"github.com/promptcademy/promptops/internal/postgres"
)

const (
	pollInterval = 2 * time.Second
	sendTimeout  = 20 * time.Second
	claimFor     = 2 * time.Minute // far longer than an attempt takes
	perRound     = 1000            // deliveries of a channel
	purposeTest  = "test"
)

// Dispatcher sends what is in the outbox. Any number of nodes may run one: each
// delivery is claimed by one of them, for two minutes, before it is sent.
//
// Nothing is lost, and next to nothing is sent twice. An attempt is counted and
// committed before it begins, and what came of it right after. Only if the
// program dies, or the database goes away for longer than the claim, after the
// other side has taken a delivery and before that is written down, is it sent
// again: SMTP, Slack and webhooks know no transaction that spans both. Then an
// e-mail has the same Message-ID and a webhook the same delivery id as before, so
// that the receiver can tell. An attempt that goes on when the program is told to
// stop is let to end.
type Dispatcher struct {
	store *Store
	log   *slog.Logger

	mu        sync.Mutex
	unwritten []outcome // what came of attempts while the database was away
}

// NewDispatcher returns a Dispatcher of the outbox in store.
func NewDispatcher(store *Store, log *slog.Logger) *Dispatcher {
	return &Dispatcher{store: store, log: log}
}

// Run sends what is due, every two seconds, until ctx is over; then it returns
// nil. An error of one round is logged and left to the next.
func (d *Dispatcher) Run(ctx context.Context) error {
	return loop.Every(ctx, d.log, "notifications_stalled", pollInterval, d.RunOnce)
}

// RunOnce sends what is due at now, channel by channel at the same time: one
// that hangs holds up no other.
func (d *Dispatcher) RunOnce(ctx context.Context, now time.Time) error {
	began := time.Now()
	if err := d.catchUp(ctx); err != nil {
		return err
	}
	rows, err := d.store.db.Query(ctx, `
		select q.channel from unnest($1::text[]) as q (channel)
		where exists (select from ops.deliveries d where d.channel = q.channel and d.state = 'queued' and d.due_at <= $2)`, Channels(), now)
	if err != nil {
		return postgres.Fault(fmt.Errorf("deliveries that are due: %w", err))
	}
	due, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return postgres.Fault(fmt.Errorf("deliveries that are due: %w", err))
	}
	problems := make([]error, len(due))
	var channels sync.WaitGroup
	for i, channel := range due {
		channels.Go(func() {
			for range perRound {
				sent, err := d.next(ctx, channel, now.Add(time.Since(began)))
				if problems[i] = err; err != nil || !sent || ctx.Err() != nil {
					return
				}
			}
		})
	}
	channels.Wait()
	return errors.Join(problems...)
}

// next claims the delivery of the channel that has waited longest, and sends it.
func (d *Dispatcher) next(ctx context.Context, channel string, now time.Time) (found bool, err error) {
	setup, err := d.store.Setup(ctx, channel)
	if err != nil {
		return false, err
	}
	c, found, err := claimOne(ctx, d.store.db, channel, nil, now)
	if err != nil || !found {
		return false, postgres.Fault(err)
	}
	return true, d.attempt(ctx, setup, c, now)
}

// Test sends a test notification at once and returns what became of it. An
// e-mail goes to those whom the channel is set up for, or to mail, the operator's
// own address, when there are none.
func (d *Dispatcher) Test(ctx context.Context, channel, mail string, by audit.Actor, now time.Time) (Delivery, error) {
	setup, err := d.store.Setup(ctx, channel)
	if err != nil {
		return Delivery{}, err
	}
	m := Message{
		Channel: channel, Subject: "Test notification", Purpose: purposeTest,
		Text: fmt.Sprintf("This is a test of Promptcademy Ops, sent by %s. When it arrives, notifications on this channel work.", by.Name),
	}
	if channel == Email && len(setup.To) == 0 {
		m.To = mail
	}
	var c claimed
	err = postgres.InTx(ctx, d.store.db, func(tx pgx.Tx) error {
		id, _, err := Add(ctx, tx, m, now)
		if err != nil {
			return err
		}
		// Nobody else has seen it yet.
		if c, _, err = claimOne(ctx, tx, channel, &id, now); err != nil {
			return err
		}
		return audit.Add(ctx, tx, audit.Entry{At: now, Actor: by, Action: "channel.test", SubjectType: "channel", SubjectID: channel, SubjectLabel: setup.Name()})
	})
	if err != nil {
		return Delivery{}, postgres.Fault(err)
	}
	if err := d.attempt(ctx, setup, c, now); err != nil {
		return Delivery{}, err
	}
	found, err := d.store.Find(ctx, []uuid.UUID{c.ID})
	return found[c.ID], err
}

// claimed is a delivery that only we may send, until the claim ends.
type claimed struct {
	Delivery
	claim uuid.UUID
	again bool // an earlier claim ended without a word: its program died, perhaps after sending
}

// claimOne claims a delivery: the one with this id, or the one that is due first
// of a channel that does not rest.
func claimOne(ctx context.Context, db postgres.DB, channel string, id *uuid.UUID, now time.Time) (c claimed, found bool, err error) {
	c.claim = uuid.New()
	rows, err := db.Query(ctx, `
		with due as (
		  select id, claim is not null as again
		  from ops.deliveries
		  where channel = $1 and state = 'queued'
		    and case when $2::uuid is null
		        then due_at <= $3 and not exists (select from ops.channels c where c.channel = $1 and c.rest_until > $3)
		        else id = $2 end
		  order by due_at, id
		  limit 1
		  for update skip locked
		), claimed as (
		  update ops.deliveries d
		  set claim = $4, claimed_at = $3, due_at = $3 + $5::interval, attempts = attempts + 1
		  from due where d.id = due.id
		  returning d.*, due.again
		)
		select `+columns+`, again from claimed`, channel, id, now, c.claim, claimFor)
	if err != nil {
		return c, false, fmt.Errorf("claim a delivery: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (claimed, error) {
		err := row.Scan(&c.ID, &c.Channel, &c.To, &c.Subject, &c.Text, &c.Purpose, &c.Key, &c.State, &c.Attempts, &c.Reason, &c.CreatedAt, &c.DueAt, &c.FinishedAt, &c.again)
		return c, err
	})
	if err != nil {
		return c, false, fmt.Errorf("claim a delivery: %w", err)
	}
	return c, len(list) > 0, nil
}

// outcome is what came of an attempt and has to be written down.
type outcome struct {
	claimed
	decision
	at      time.Time
	skipped bool   // nothing was attempted
	trouble string // what is wrong with the channel as a whole
}

// attempt sends a delivery that is ours, and writes down what came of it.
func (d *Dispatcher) attempt(ctx context.Context, setup Setup, c claimed, now time.Time) error {
	if reason := skipReason(setup, c.Delivery); reason != "" {
		return d.write(ctx, outcome{claimed: c, decision: decision{State: Skipped, Reason: reason}, at: now, skipped: true})
	}
	if c.again {
		d.log.WarnContext(ctx, "notification_sent_again", "source", "notify", "delivery", c.ID, "channel", c.Channel, "purpose", c.Purpose,
			"reason", "the program that was sending it ended before it was known what became of it")
	}
	began := time.Now()
	sendCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	note, err := d.send(sendCtx, setup, c.Delivery)
	cancel()
	o := outcome{claimed: c, decision: decide(c.Delivery, note, err, now), at: now.Add(time.Since(began))}
	if err != nil {
		f, ok := errors.AsType[*Failure](err)
		switch {
		case !ok:
			d.log.ErrorContext(ctx, "notification_broken", "source", "notify", "delivery", c.ID, "error", err)
		case f.Everybody:
			o.trouble = f.Words
		}
		d.log.WarnContext(ctx, "notification_not_sent", "source", "notify", "delivery", c.ID, "channel", c.Channel, "purpose", c.Purpose,
			"attempt", c.Attempts, "state", string(o.State), "reason", o.Reason)
	}
	return d.write(ctx, o)
}

func (d *Dispatcher) send(ctx context.Context, setup Setup, delivery Delivery) (note string, err error) {
	if setup.sealedFor != nil {
		return "", &Failure{Words: "What is stored of the channel does not open with the master keys of this node. Save it anew on Settings → Channels.", Everybody: true}
	}
	return makers[setup.Channel](setup, d.store.opts).Send(ctx, delivery)
}

// write writes an outcome down, also when we are being told to stop. While the
// database is away it is kept and written by the next round.
func (d *Dispatcher) write(ctx context.Context, o outcome) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := d.store.mark(ctx, o)
	if err != nil {
		d.mu.Lock()
		d.unwritten = append(d.unwritten, o)
		d.mu.Unlock()
	}
	return err
}

// catchUp writes the outcomes that could not be written before: until then
// nothing more is claimed, as it would be sent and not written down either.
func (d *Dispatcher) catchUp(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.unwritten) > 0 {
		if err := d.store.mark(ctx, d.unwritten[0]); err != nil {
			return err
		}
		d.unwritten = d.unwritten[1:]
	}
	return nil
}

// mark writes down what came of an attempt, unless the claim has ended and
// somebody else has one.
func (s *Store) mark(ctx context.Context, o outcome) error {
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			update ops.deliveries
			set state = $3, reason = $4, claim = null, claimed_at = null,
			    due_at = case when $3 = 'queued' then $5 else due_at end,
			    finished_at = case when $3 = 'queued' then null else $6::timestamptz end,
			    attempts = attempts - case when $7 then 1 else 0 end
			where id = $1 and claim = $2 and state = 'queued'`,
			o.ID, o.claim, o.State, storable(o.decision.Reason), o.decision.DueAt, o.at, o.skipped)
		if err != nil || tag.RowsAffected() == 0 || o.skipped {
			return err
		}
		_, err = tx.Exec(ctx, `
			update ops.channels
			set last_sent_at = case when $2 then greatest(last_sent_at, $3) else last_sent_at end,
			    failed_at = case when $4 = '' then failed_at else $3 end,
			    failure = case when $4 = '' then failure else $4 end,
			    rest_until = case when $5::interval > interval '0' then greatest(rest_until, $3 + $5::interval) else rest_until end
			where channel = $1`, o.Channel, o.State == Sent, o.at, storable(o.trouble), o.Rest)
		return err
	})
	if err != nil {
		return postgres.Fault(fmt.Errorf("mark delivery %s as %s: %w", o.ID, o.State, err))
	}
	return nil
}
