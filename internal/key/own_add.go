package key

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/provider"
)

// sandboxPrefix is what keys of the built-in sandbox begin with.
const sandboxPrefix = "sandbox-"

// OwnAdded is a learner's key that was stored.
type OwnAdded struct {
	Key      OwnKey   `json:"key"`
	Verified bool     `json:"verified"` // the provider accepted it
	Note     string   `json:"note"`     // why it could not be verified; empty if it was
	Warnings []string `json:"warnings"` // what looks strange about it
}

// Add verifies a learner's key with its provider, by a call that costs nothing,
// and stores it. A key that the provider refuses is not stored: fault.Invalid, as
// for every other bad value. One that cannot be verified now is, and is due to be
// checked again. A key that is there already, or one too many, is fault.Conflict;
// too many checks are fault.RateLimited.
func (o *OwnKeys) Add(ctx context.Context, n NewUser, now time.Time) (OwnAdded, error) {
	if err := o.clean(&n); err != nil {
		return OwnAdded{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return OwnAdded{}, err
	}
	c, err := o.reserve(ctx, n, id, now)
	if err != nil {
		return OwnAdded{}, ownFault("add own key", err)
	}
	failure, err := o.check(ctx, n, &c)
	if err != nil {
		return OwnAdded{}, err
	}
	if failure != nil && failure.Class == provider.ClassInvalidKey {
		if err := o.conclude(ctx, o.store.db, c, failure, "refused", "The provider refused the key, so it was not stored."); err != nil {
			return OwnAdded{}, ownFault("add own key", err)
		}
		o.log.Info("user_key_refused", "userId", n.LearnerID, "provider", n.Provider)
		return OwnAdded{}, fault.InvalidFields([]fault.Field{{
			Field: "secret", Message: fmt.Sprintf("was refused by %s, so it was not stored: %s", o.providerName(n.Provider), failure.Message),
		}})
	}
	added := OwnAdded{Verified: failure == nil, Warnings: []string{}}
	for _, odd := range oddities(n.Provider, n.Secret) {
		if odd != OddShape || failure != nil { // a key that was accepted looks as it should
			added.Warnings = append(added.Warnings, odd.Words(n.Provider))
		}
	}
	if failure != nil {
		added.Note = unverified(failure.Class, o.providerName(n.Provider))
	}
	if err := o.insert(ctx, n, c, failure, now); err != nil {
		return OwnAdded{}, ownFault("add own key", err)
	}
	o.log.Info("user_key_added", "userId", n.LearnerID, "keyId", id, "provider", n.Provider, "verified", added.Verified)
	added.Key, err = o.Find(ctx, n.LearnerID, id, now)
	return added, err
}

// clean is NewUser.clean with the providers there are.
func (o *OwnKeys) clean(n *NewUser) error {
	err := n.clean()
	if _, ok := o.providers.Lookup(n.Provider); ok {
		return err
	}
	unknown := problems{{Field: "provider", Message: "is not a provider that is set up here; GET /api/keys lists them"}}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		for _, detail := range f.Details {
			if detail.Field != "provider" {
				unknown.add(detail.Field, detail.Message)
			}
		}
	}
	return unknown.err()
}

// unverified says to the learner why their key could not be verified.
func unverified(class provider.Class, providerName string) string {
	why := providerName + " did not answer"
	switch class {
	case provider.ClassPermission:
		why = providerName + " does not let this key be checked"
	case provider.ClassBilling:
		why = providerName + " says that its account is out of credit"
	case provider.ClassRateLimited:
		why = providerName + " limits its requests for now"
	case provider.ClassOverloaded, provider.ClassProviderError:
		why = providerName + " has trouble"
	case provider.ClassBadRequest, provider.ClassNotFound:
		why = providerName + " did not understand the check"
	}
	return "The key is stored, but could not be verified: " + why + ". It will be checked again by itself."
}

// check is the verification of a new key, as its event has it.
type check struct {
	keyID   uuid.UUID
	event   int64
	sandbox bool          // the key is a demo learner's, for the built-in sandbox
	latency time.Duration // of the call
}

// reserve decides whether a key may be verified, and writes that down as an event
// before it is: the event is what counts against the limit. It says "cancelled"
// until the outcome is known.
func (o *OwnKeys) reserve(ctx context.Context, n NewUser, id uuid.UUID, now time.Time) (check, error) {
	c := check{keyID: id}
	err := postgres.InTx(ctx, o.store.db, func(tx pgx.Tx) error {
		if err := takeTurns(ctx, tx, n.LearnerID); err != nil {
			return err
		}
		if err := o.mayAdd(ctx, tx, n); err != nil {
			return err
		}
		if err := mayCheck(ctx, tx, n.LearnerID, now); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `
			insert into ops.key_events (at, key_source, key_id, user_id, provider, kind, class, from_status, to_status, reason)
			values ($1, 'user', $2, $3, $4, 'learner', 'cancelled', 'new', 'new', 'The learner adds a key, which is to be verified.')
			returning id, exists (select from ops.demo_records where kind = 'learner' and id = $3)`,
			now, id, n.LearnerID, n.Provider).Scan(&c.event, &c.sandbox)
		c.sandbox = c.sandbox && strings.HasPrefix(string(n.Secret), sandboxPrefix)
		return err
	})
	return c, err
}

// mayAdd is fault.Conflict when the key is there already, or the learner has as
// many as they may have.
func (o *OwnKeys) mayAdd(ctx context.Context, tx pgx.Tx, n NewUser) error {
	var all int
	var twin *uuid.UUID
	err := tx.QueryRow(ctx, `
		select count(*), (array_agg(id) filter (where provider = $2 and fingerprint = any($3)))[1]
		from public.user_api_keys
		where user_id = $1`, n.LearnerID, n.Provider, o.store.ring.Fingerprints(string(n.Secret))).Scan(&all, &twin)
	switch {
	case err != nil:
		return err
	case twin != nil:
		f := fault.New(fault.Conflict, "You have added this key already.")
		f.Details = []fault.Field{{Field: "secret", Message: "is that of your key " + twin.String()}}
		return f
	case all >= MaxOwn:
		return fault.New(fault.Conflict, "You have %d keys, which is as many as there may be. Remove one first.", all)
	}
	return nil
}

// check asks the provider about a key. It returns why it did not accept it, or an
// error when the caller did not wait for the answer.
func (o *OwnKeys) check(ctx context.Context, n NewUser, c *check) (*provider.Failure, error) {
	client, ok := o.providers.Client(n.Provider, c.sandbox)
	if !ok {
		return &provider.Failure{Class: provider.ClassNotFound, Message: "The provider is no longer set up."}, nil
	}
	begun := time.Now()
	within, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	err := client.Check(within, n.Secret.Reveal())
	c.latency = time.Since(begun)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if failure, ok := errors.AsType[*provider.Failure](err); ok {
		return failure, nil
	}
	return nil, err
}

// insert stores a key that was not refused.
func (o *OwnKeys) insert(ctx context.Context, n NewUser, c check, failure *provider.Failure, now time.Time) error {
	ring := o.store.ring
	var verifiedAt, errorAt, probeAt *time.Time
	var class, message *string
	reason := "The provider accepted the key."
	if failure == nil {
		verifiedAt = &now
	} else {
		errorAt, probeAt, class, message = &now, &now, new(string(failure.Class)), &failure.Message
		reason = "The key could not be verified. It was stored, and is due to be checked again."
	}
	return postgres.InTx(ctx, o.store.db, func(tx pgx.Tx) error {
		if err := takeTurns(ctx, tx, n.LearnerID); err != nil {
			return err
		}
		if err := o.mayAdd(ctx, tx, n); err != nil { // meanwhile it may have been added
			return err
		}
		_, err := tx.Exec(ctx, `
			insert into public.user_api_keys
			  (id, user_id, provider, label, ciphertext, fingerprint, last_four, last_verified_at,
			   last_error_at, last_error_class, last_error_message, next_probe_at, created_at, updated_at, status_at)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, $13)`,
			c.keyID, n.LearnerID, n.Provider, n.Label, ring.Seal([]byte(n.Secret), placeOf(User, c.keyID)), ring.Fingerprint(string(n.Secret)), lastFour(n.Secret),
			verifiedAt, errorAt, class, message, probeAt, now)
		if err != nil {
			return err
		}
		if c.sandbox {
			if _, err := tx.Exec(ctx, `insert into ops.demo_records (kind, id) values ('user_key', $1)`, c.keyID); err != nil {
				return err
			}
		}
		return o.conclude(ctx, tx, c, failure, string(Healthy), reason)
	})
}

// conclude writes down what came of a verification.
func (o *OwnKeys) conclude(ctx context.Context, db postgres.DB, c check, failure *provider.Failure, status, reason string) error {
	var class, message, requestID *string
	var httpStatus *int
	if failure != nil {
		class, message = new(string(failure.Class)), &failure.Message
		if failure.HTTPStatus != 0 {
			httpStatus = &failure.HTTPStatus
		}
		if failure.RequestID != "" {
			requestID = &failure.RequestID
		}
	}
	_, err := db.Exec(ctx, `
		update ops.key_events
		set class = $2, message = $3, http_status = $4, provider_request_id = $5, latency_ms = $6, to_status = $7, reason = $8
		where id = $1`, c.event, class, message, httpStatus, requestID, c.latency.Milliseconds(), status, reason)
	return err
}
