package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/seal"
)

// Setup returns how a channel is set up. Its zero value, but for the channel,
// says that nothing is stored.
func (s *Store) Setup(ctx context.Context, channel string) (Setup, error) {
	found, err := s.read(ctx, s.db, channel, "")
	return found, postgres.Fault(err)
}

func (s *Store) read(ctx context.Context, db postgres.DB, channel, lock string) (Setup, error) {
	setup := Setup{Channel: channel}
	if _, known := makers[channel]; !known {
		return setup, fault.New(fault.NotFound, "There is no such channel.")
	}
	var address, secret []byte
	err := db.QueryRow(ctx, `
		select c.enabled, c.host, c.port, c.security, c.username, c.mail_from, c.mail_to, c.address, c.secret, c.revision,
		       c.updated_at, c.updated_by, coalesce(nullif(o.name, ''), o.email, ''), c.rest_until, c.last_sent_at, c.failed_at, c.failure
		from ops.channels c left join ops.operators o on o.id = c.updated_by
		where c.channel = $1 `+lock, channel).Scan(
		&setup.Enabled, &setup.Host, &setup.Port, &setup.Security, &setup.Username, &setup.From, &setup.To, &address, &secret, &setup.Revision,
		&setup.ChangedAt, &setup.ChangedBy, &setup.ChangedAs, &setup.RestUntil, &setup.LastSentAt, &setup.FailedAt, &setup.Failure)
	if errors.Is(err, pgx.ErrNoRows) {
		return setup, nil
	}
	if err != nil {
		return setup, fmt.Errorf("read channel %s: %w", channel, err)
	}
	for _, one := range []struct {
		ciphertext []byte
		column     string
		into       *Secret
	}{{address, "address", &setup.Address}, {secret, "secret", &setup.Secret}} {
		if one.ciphertext == nil {
			continue
		}
		plaintext, err := s.ring.Open(one.ciphertext, placeOf(channel, one.column))
		if err != nil {
			*one.into, setup.sealedFor = Kept, err
			continue
		}
		*one.into = Secret(plaintext)
	}
	return setup, nil
}

// placeOf is where a sealed value of a channel belongs.
func placeOf(channel, column string) seal.Place {
	return seal.Place{Table: "ops.channels", Column: column, Row: channel}
}

// Seed sets a channel up as the configuration has it, until somebody sets it up
// on the page.
func (s *Store) Seed(ctx context.Context, first Setup, now time.Time) error {
	first.normalise()
	if problems := first.check(s.opts); len(problems) > 0 {
		return fmt.Errorf("the configuration of %s: %s %s", first.Channel, problems[0].Field, problems[0].Message)
	}
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		old, err := s.read(ctx, tx, first.Channel, "for update of c")
		if err != nil {
			return err
		}
		if old.ChangedBy != nil || old.Revision > 0 && old.sealedFor == nil && len(changes(old, first)) == 0 {
			return nil
		}
		_, err = s.save(ctx, tx, first, old.Revision, nil, now)
		return err
	})
	return postgres.Fault(err)
}

// Set changes how a channel is set up, on all nodes and for everything that is
// sent from now on. revision is that of the setup it was made from; if another
// one holds by now, it is fault.Conflict. What cannot be used is fault.Invalid,
// with every bad field. It returns whether anything changed.
func (s *Store) Set(ctx context.Context, wanted Setup, revision int, by audit.Actor, now time.Time) (changed bool, err error) {
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		old, err := s.read(ctx, tx, wanted.Channel, "for update of c")
		if err != nil {
			return err
		}
		if old.Revision != revision {
			return errChannelChanged
		}
		wanted.normalise()
		problems := wanted.merge(old)
		if old.sealedFor != nil && (wanted.Address == Kept || wanted.Secret == Kept) {
			return fault.New(fault.Invalid, "What is stored does not open with the master keys of this node: type everything that is masked again.")
		}
		if problems = append(problems, wanted.check(s.opts)...); len(problems) > 0 {
			return fault.InvalidFields(problems)
		}
		details := changes(old, wanted)
		if changed = len(details) > 0; !changed {
			return nil
		}
		won, err := s.save(ctx, tx, wanted, revision, by.OperatorID, now)
		if err != nil {
			return err
		}
		if !won {
			return errChannelChanged
		}
		return audit.Add(ctx, tx, audit.Entry{
			At: now, Actor: by, Action: "channel.change", SubjectType: "channel", SubjectID: wanted.Channel, SubjectLabel: wanted.Name(), Details: details,
		})
	})
	return changed && err == nil, postgres.Fault(err)
}

var errChannelChanged = fault.New(fault.Conflict, "Somebody else has changed this channel meanwhile.")

// save stores a setup over the revision given, 0 for none; won is false when
// that is not the one that is stored. What the channel was resting for does not
// hold any more.
func (s *Store) save(ctx context.Context, tx pgx.Tx, setup Setup, revision int, operatorID *uuid.UUID, now time.Time) (won bool, err error) {
	sealed := func(secret Secret, column string) []byte {
		if secret == "" {
			return nil
		}
		return s.ring.Seal([]byte(secret), placeOf(setup.Channel, column))
	}
	to := setup.To
	if to == nil {
		to = []string{}
	}
	tag, err := tx.Exec(ctx, `
		insert into ops.channels as c (channel, enabled, host, port, security, username, mail_from, mail_to, address, secret, updated_at, updated_by)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		on conflict (channel) do update set
		  enabled = excluded.enabled, host = excluded.host, port = excluded.port, security = excluded.security, username = excluded.username,
		  mail_from = excluded.mail_from, mail_to = excluded.mail_to, address = excluded.address, secret = excluded.secret,
		  updated_at = excluded.updated_at, updated_by = excluded.updated_by, revision = c.revision + 1,
		  rest_until = null, failed_at = null, failure = ''
		where c.revision = $13`,
		setup.Channel, setup.Enabled, setup.Host, setup.Port, setup.Security, setup.Username, setup.From, to,
		sealed(setup.Address, "address"), sealed(setup.Secret, "secret"), now, operatorID, revision)
	if err != nil {
		return false, fmt.Errorf("save channel %s: %w", setup.Channel, err)
	}
	return tag.RowsAffected() > 0, nil
}

// changes says what differs, without any secret.
func changes(old, wanted Setup) map[string]any {
	details := map[string]any{}
	was, is := old.Values(), wanted.Values()
	for field := range is {
		if was.Get(field) != is.Get(field) {
			details[field] = audit.Change{From: was.Get(field), To: is.Get(field)}
		}
	}
	if was.Get("enabled") != is.Get("enabled") {
		details["enabled"] = audit.Change{From: old.Enabled, To: wanted.Enabled}
	}
	for field, differs := range map[string]bool{
		"secret": old.Secret != wanted.Secret, "url": old.Address != wanted.Address,
	} {
		if _, said := details[field]; differs && !said {
			details[field] = "changed"
		}
	}
	return details
}
