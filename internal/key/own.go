package key

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/provider"
)

// MaxOwn is how many keys a learner may have.
const MaxOwn = 20

// Checks of keys go to the providers, and tell whoever asks whether a key is
// good: one learner may ask for so many in such a time, on all nodes together.
const (
	maxChecks   = 10
	checkWindow = 10 * time.Minute
)

// OwnKeys is what learners do with keys of their own.
type OwnKeys struct {
	store     *Store
	providers *provider.Registry
	log       *slog.Logger
}

// NewOwnKeys returns the OwnKeys of a store. New keys are verified with the
// providers' clients.
func NewOwnKeys(store *Store, providers *provider.Registry, log *slog.Logger) *OwnKeys {
	return &OwnKeys{store, providers, log}
}

// OwnKey is a key as its owner sees it.
type OwnKey struct {
	ID             uuid.UUID  `json:"id"`
	Provider       string     `json:"provider"`
	ProviderName   string     `json:"providerName"`
	Label          string     `json:"label"`
	LastFour       string     `json:"lastFour"`
	Status         Status     `json:"status"`
	StatusReason   string     `json:"statusReason"` // in words; empty when there is nothing to say
	CoolingUntil   *time.Time `json:"coolingUntil"` // nil unless Status is Cooling
	LastVerifiedAt *time.Time `json:"lastVerifiedAt"`
	LastUsedAt     *time.Time `json:"lastUsedAt"`
	LastError      *OwnError  `json:"lastError"` // nil: none so far
	CreatedAt      time.Time  `json:"createdAt"`
}

// OwnError is what went wrong with a key the last time something did.
type OwnError struct {
	Class   string    `json:"class"`
	Message string    `json:"message"` // the provider's, scrubbed
	At      time.Time `json:"at"`
}

// OwnProvider is a provider that a learner may have a key for.
type OwnProvider struct {
	ID       string  `json:"id"`
	Name     string  `json:"name"`
	KeyShape *string `json:"keyShape"` // what its keys usually look like; nil: not known
}

// ForProviders lists the providers in the order in which people see them.
func (o *OwnKeys) ForProviders() []OwnProvider {
	specs := o.providers.Specs()
	list := make([]OwnProvider, len(specs))
	for i, spec := range specs {
		list[i] = OwnProvider{ID: spec.ID, Name: spec.Name}
		if shape, known := shapes[spec.ID]; known {
			list[i].KeyShape = &shape.words
		}
	}
	return list
}

// List returns a learner's keys, the oldest first.
func (o *OwnKeys) List(ctx context.Context, learnerID uuid.UUID, now time.Time) ([]OwnKey, error) {
	return o.list(ctx, o.store.db, learnerID, nil, now)
}

// Find returns one key of a learner. It is fault.NotFound when there is none of
// this id, or it is somebody else's.
func (o *OwnKeys) Find(ctx context.Context, learnerID, id uuid.UUID, now time.Time) (OwnKey, error) {
	keys, err := o.list(ctx, o.store.db, learnerID, &id, now)
	if err == nil && len(keys) == 0 {
		err = errNotOwn
	}
	if err != nil {
		return OwnKey{}, err
	}
	return keys[0], nil
}

var errNotOwn = fault.New(fault.NotFound, "You have no key with this id.")

// ownRow is a key of a learner as the query below returns it.
type ownRow struct {
	ID               uuid.UUID
	Provider         string
	Label            string
	LastFour         string
	Status           Status
	CoolingUntil     *time.Time
	Suspect          *string
	LastVerifiedAt   *time.Time
	LastUsedAt       *time.Time
	LastSuccessAt    *time.Time
	LastErrorAt      *time.Time
	LastErrorClass   *string
	LastErrorMessage *string
	CreatedAt        time.Time
}

func (o *OwnKeys) list(ctx context.Context, db postgres.DB, learnerID uuid.UUID, id *uuid.UUID, now time.Time) ([]OwnKey, error) {
	rows, err := db.Query(ctx, `
		select id, provider, label, last_four, status, cooling_until, suspect, last_verified_at, last_used_at, last_success_at,
		       last_error_at, last_error_class, last_error_message, created_at
		from public.user_api_keys
		where user_id = $1 and ($2::uuid is null or id = $2)
		order by created_at, id`, learnerID, id)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("list own keys: %w", err))
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[ownRow])
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("list own keys: %w", err))
	}
	keys := make([]OwnKey, len(found))
	for i, r := range found {
		keys[i] = r.key(o.providerName(r.Provider), now)
	}
	return keys, nil
}

func (o *OwnKeys) providerName(id string) string {
	if spec, ok := o.providers.Lookup(id); ok {
		return spec.Name
	}
	return id
}

func (r ownRow) key(providerName string, now time.Time) OwnKey {
	k := OwnKey{
		ID: r.ID, Provider: r.Provider, ProviderName: providerName, Label: r.Label, LastFour: r.LastFour,
		LastVerifiedAt: inUTC(r.LastVerifiedAt), LastUsedAt: inUTC(r.LastUsedAt), CreatedAt: r.CreatedAt.UTC(),
	}
	k.Status, k.StatusReason = r.state(providerName, now)
	if k.Status == Cooling {
		k.CoolingUntil = inUTC(r.CoolingUntil)
	}
	if r.LastErrorAt != nil && r.LastErrorClass != nil {
		k.LastError = &OwnError{Class: *r.LastErrorClass, At: r.LastErrorAt.UTC()}
		if r.LastErrorMessage != nil {
			k.LastError.Message = *r.LastErrorMessage
		}
	}
	return k
}

// state says to the owner how a key stands and what to do about it. The reason
// that its row holds is written for operators.
func (r ownRow) state(providerName string, now time.Time) (Status, string) {
	suspect := provider.Class("")
	if r.Suspect != nil {
		suspect = provider.Class(*r.Suspect)
	}
	switch {
	case r.Status == Disabled:
		return Disabled, "It is switched off, so it is not used."
	case r.Status == Invalid:
		return Invalid, fmt.Sprintf("%s does not accept it. Add a new one and remove this.", providerName)
	case r.Status == Billing:
		return Billing, fmt.Sprintf("Its account at %s is out of credit. Once you have topped it up, test the key.", providerName)
	case r.Status == Cooling && r.CoolingUntil != nil && r.CoolingUntil.After(now):
		switch suspect {
		case provider.ClassInvalidKey:
			return Cooling, fmt.Sprintf("%s refused it. It is being checked, and not used meanwhile.", providerName)
		case provider.ClassBilling:
			return Cooling, fmt.Sprintf("%s said that its account is out of credit. It is being checked, and not used meanwhile.", providerName)
		case "", provider.ClassRateLimited:
			return Cooling, fmt.Sprintf("%s limits its requests for now. It is used again by itself.", providerName)
		}
		return Cooling, fmt.Sprintf("%s did not answer its requests. It is used again by itself.", providerName)
	case r.LastVerifiedAt == nil && r.LastSuccessAt == nil:
		return Healthy, "It has not been verified yet. It is used all the same."
	}
	return Healthy, ""
}

func inUTC(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	return new(at.UTC())
}

// Remove deletes a key of a learner. It is fault.NotFound like Find.
func (o *OwnKeys) Remove(ctx context.Context, learnerID, id uuid.UUID, now time.Time) error {
	err := postgres.InTx(ctx, o.store.db, func(tx pgx.Tx) error {
		var providerID, status string
		err := tx.QueryRow(ctx, `
			delete from public.user_api_keys
			where id = $1 and user_id = $2
			returning provider, status`, id, learnerID).Scan(&providerID, &status)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNotOwn
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from ops.demo_records where kind = 'user_key' and id = $1`, id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			insert into ops.key_events (at, key_source, key_id, user_id, provider, kind, from_status, to_status, reason)
			values ($1, 'user', $2, $3, $4, 'learner', $5, 'removed', 'The learner removed the key.')`,
			now, id, learnerID, providerID, status)
		return err
	})
	if err != nil {
		return ownFault("remove own key", err)
	}
	o.log.Info("user_key_removed", "userId", learnerID, "keyId", id)
	return nil
}

// testAsked is the event of a test that a learner asked for: it counts as a check.
// What came of it is an event of its own.
const testAsked = "The learner asked for a test."

// AskTest notes that a learner wants a key of theirs to be tested. It is
// fault.NotFound like Find, and fault.RateLimited when there were too many checks.
func (o *OwnKeys) AskTest(ctx context.Context, learnerID, id uuid.UUID, now time.Time) error {
	return ownFault("ask for a test", postgres.InTx(ctx, o.store.db, func(tx pgx.Tx) error {
		if err := takeTurns(ctx, tx, learnerID); err != nil {
			return err
		}
		var providerID, status string
		err := tx.QueryRow(ctx, `
			select provider, status
			from public.user_api_keys
			where id = $1 and user_id = $2`, id, learnerID).Scan(&providerID, &status)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNotOwn
		}
		if err != nil {
			return err
		}
		if err := mayCheck(ctx, tx, learnerID, now); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			insert into ops.key_events (at, key_source, key_id, user_id, provider, kind, from_status, to_status, reason)
			values ($1, 'user', $2, $3, $4, 'learner', $5, $5, $6)`,
			now, id, learnerID, providerID, status, testAsked)
		return err
	}))
}

// takeTurns makes whatever else adds or tests keys of the learner wait until the
// transaction is over.
func takeTurns(ctx context.Context, tx pgx.Tx, learnerID uuid.UUID) error {
	_, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('own keys of ' || $1, 0))`, learnerID.String())
	return err
}

// mayCheck is fault.RateLimited when the learner has asked for too many checks.
func mayCheck(ctx context.Context, tx pgx.Tx, learnerID uuid.UUID, now time.Time) error {
	rows, err := tx.Query(ctx, `
		select at
		from ops.key_events
		where user_id = $1 and kind = 'learner' and at > $2 and (from_status = 'new' or reason = $3)
		order by at`, learnerID, now.Add(-checkWindow), testAsked)
	if err != nil {
		return err
	}
	asked, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return err
	}
	if wait := checkWait(asked, now); wait > 0 {
		return fault.New(fault.RateLimited, "Too many keys were checked: %d in %d minutes are possible. Try again later.", maxChecks, int(checkWindow.Minutes())).After(wait)
	}
	return nil
}

// checkWait is how long one more check has to wait; asked are the earlier ones
// within the window, the oldest first.
func checkWait(asked []time.Time, now time.Time) time.Duration {
	if len(asked) < maxChecks {
		return 0
	}
	return max(asked[len(asked)-maxChecks].Add(checkWindow).Sub(now), time.Second)
}

// ownFault words errors of the database. The account may be deleted while one of
// its requests is under way.
func ownFault(what string, err error) error {
	if err == nil {
		return nil
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "23503" { // foreign_key_violation
		return fault.New(fault.Unauthenticated, "The account of this access token no longer exists.").Because(err)
	}
	return postgres.Fault(fmt.Errorf("%s: %w", what, err))
}
