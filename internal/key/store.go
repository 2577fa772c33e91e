package key

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/seal"
)

// Store keeps keys.
type Store struct {
	db   postgres.DB
	ring *seal.Ring
}

// NewStore returns a Store on db that seals with ring.
func NewStore(db postgres.DB, ring *seal.Ring) *Store { return &Store{db, ring} }

// row is a key as the queries below return it.
type row struct {
	ID           uuid.UUID
	OwnerID      *uuid.UUID
	Source       Source
	Provider     string
	Label        string
	LastFour     string
	Status       Status
	CoolingUntil *time.Time
	Priority     int
	Models       []string
	MonthlyCap   *price.USD
	Sandbox      bool
	LastUsedAt   *time.Time
	CreatedAt    time.Time
	Ciphertext   []byte

	Suspect        provider.Class
	Strikes        int
	ExpiresAt      *time.Time
	RetireAt       *time.Time
	StatusAt       time.Time
	Probes         int
	LastVerifiedAt *time.Time
	LastErrorAt    *time.Time
	StateRevision  int64
}

func (r row) key() Key {
	return Key{
		ID: r.ID, Source: r.Source, Provider: r.Provider, Label: r.Label, LastFour: r.LastFour,
		Status: r.Status, CoolingUntil: r.CoolingUntil, Priority: r.Priority, Models: r.Models, MonthlyCap: r.MonthlyCap,
		Sandbox: r.Sandbox, LastUsedAt: r.LastUsedAt, CreatedAt: r.CreatedAt, ciphertext: r.Ciphertext,
		Suspect: r.Suspect, Strikes: r.Strikes, ExpiresAt: r.ExpiresAt, RetireAt: r.RetireAt,
		statusAt: r.StatusAt, probes: r.Probes, verifiedAt: r.LastVerifiedAt, lastErrorAt: r.LastErrorAt, revision: r.StateRevision,
	}
}

const userColumns = `id, user_id as owner_id, 'user' as source, provider, label, last_four, status, cooling_until,
	0 as priority, null::text[] as models, null::numeric as monthly_cap,
	exists (select from ops.demo_records d where d.kind = 'user_key' and d.id = user_api_keys.id) as sandbox,
	last_used_at, created_at, ciphertext, null::timestamptz as expires_at, null::timestamptz as retire_at, ` + healthColumns

const fallbackColumns = `id, null::uuid as owner_id, 'fallback' as source, provider, label, last_four, status, cooling_until,
	priority, models, monthly_cap_usd as monthly_cap, sandbox, last_used_at, created_at, ciphertext, expires_at, retire_at, ` + healthColumns

const healthColumns = `coalesce(suspect, '') as suspect, strikes, status_at, probes, last_verified_at, last_error_at, state_revision`

// Candidates returns every key that an attempt at one of the providers could
// use, by provider: the learner's own (nil: nobody's) and all fallback keys. One
// round trip.
func (s *Store) Candidates(ctx context.Context, learnerID *uuid.UUID, providers []string) (map[string][]Key, error) {
	var owners []uuid.UUID
	if learnerID != nil {
		owners = []uuid.UUID{*learnerID}
	}
	byProvider := map[string][]Key{}
	var batch pgx.Batch
	QueueCandidates(&batch, owners, func(_ *uuid.UUID, k Key) {
		if slices.Contains(providers, k.Provider) {
			byProvider[k.Provider] = append(byProvider[k.Provider], k)
		}
	})
	if err := s.db.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, postgres.Fault(err)
	}
	return byProvider, nil
}

// QueueCandidates adds to a batch the question for the keys of these learners
// and all fallback keys. found is told of each, with its owner (nil: the
// platform), when the batch is read.
func QueueCandidates(batch *pgx.Batch, learnerIDs []uuid.UUID, found func(owner *uuid.UUID, k Key)) {
	batch.Queue(`
		select `+userColumns+` from public.user_api_keys where user_id = any($1)
		union all
		select `+fallbackColumns+` from ops.fallback_keys`, learnerIDs,
	).Query(func(rows pgx.Rows) error {
		all, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
		for _, one := range all {
			found(one.OwnerID, one.key())
		}
		return err
	})
}

// ListFallback returns every fallback key, by provider in the order of use.
func (s *Store) ListFallback(ctx context.Context) ([]Key, error) {
	keys, err := s.query(ctx, `select `+fallbackColumns+` from ops.fallback_keys order by provider`)
	slices.SortStableFunc(keys, func(a, b Key) int {
		if c := strings.Compare(a.Provider, b.Provider); c != 0 {
			return c
		}
		return before(a, b)
	})
	return keys, err
}

func (s *Store) query(ctx context.Context, sql string, args ...any) ([]Key, error) {
	rows, err := s.db.Query(ctx, sql, args...)
	if err != nil {
		return nil, postgres.Fault(err)
	}
	keys, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (Key, error) {
		found, err := pgx.RowToStructByName[row](r)
		return found.key(), err
	})
	return keys, postgres.Fault(err)
}

// Open returns the key in the clear.
func (s *Store) Open(k Key) (Secret, error) {
	plaintext, err := s.ring.Open(k.ciphertext, k.place())
	return Secret(plaintext), err
}

// AddFallback seals and stores a fallback key. Bad values are fault.Invalid, a
// key that is there already fault.Conflict. Warnings say what looks strange
// about a key that was stored all the same.
func (s *Store) AddFallback(ctx context.Context, n NewFallback) (Key, []string, error) {
	if err := n.clean(); err != nil {
		return Key{}, nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Key{}, nil, err
	}
	return s.add(ctx, n.Provider, n.Secret,
		`select label from ops.fallback_keys where provider = $1 and fingerprint = any($2)`,
		[]any{n.Provider, s.ring.Fingerprints(string(n.Secret))},
		`insert into ops.fallback_keys (id, provider, label, ciphertext, fingerprint, last_four, priority, models, monthly_cap_usd, sandbox)
		 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		 on conflict (provider, fingerprint) do nothing
		 returning `+fallbackColumns,
		id, n.Provider, n.Label, s.ring.Seal([]byte(n.Secret), placeOf(Fallback, id)), s.ring.Fingerprint(string(n.Secret)), lastFour(n.Secret),
		n.Priority, n.Models, n.MonthlyCapUSD, n.Sandbox)
}

// AddUser seals and stores a learner's own key, like AddFallback.
func (s *Store) AddUser(ctx context.Context, n NewUser) (Key, []string, error) {
	if err := n.clean(); err != nil {
		return Key{}, nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Key{}, nil, err
	}
	return s.add(ctx, n.Provider, n.Secret,
		`select label from public.user_api_keys where provider = $1 and fingerprint = any($2) and user_id = $3`,
		[]any{n.Provider, s.ring.Fingerprints(string(n.Secret)), n.LearnerID},
		`insert into public.user_api_keys (id, user_id, provider, label, ciphertext, fingerprint, last_four)
		 values ($1, $2, $3, $4, $5, $6, $7)
		 on conflict (user_id, provider, fingerprint) do nothing
		 returning `+userColumns,
		id, n.LearnerID, n.Provider, n.Label, s.ring.Seal([]byte(n.Secret), placeOf(User, id)), s.ring.Fingerprint(string(n.Secret)), lastFour(n.Secret))
}

// AddUsers is AddUser for many keys at once, each under an id of the caller's. None
// of them may be stored yet.
func (s *Store) AddUsers(ctx context.Context, ids []uuid.UUID, all []NewUser) error {
	_, err := s.db.CopyFrom(ctx, pgx.Identifier{"public", "user_api_keys"},
		[]string{"id", "user_id", "provider", "label", "ciphertext", "fingerprint", "last_four"},
		pgx.CopyFromSlice(len(all), func(i int) ([]any, error) {
			n, id := all[i], ids[i]
			err := n.clean()
			return []any{id, n.LearnerID, n.Provider, n.Label, s.ring.Seal([]byte(n.Secret), placeOf(User, id)), s.ring.Fingerprint(string(n.Secret)), lastFour(n.Secret)}, err
		}))
	return postgres.Fault(err)
}

// add stores a key unless its twin is there. The twin may come while we look:
// then the insert meets it.
func (s *Store) add(ctx context.Context, provider string, secret Secret, findTwin string, twinArgs []any, insert string, args ...any) (Key, []string, error) {
	for range 2 {
		var label string
		err := s.db.QueryRow(ctx, findTwin, twinArgs...).Scan(&label)
		if err == nil {
			return Key{}, nil, fault.New(fault.Conflict, "This key is stored already, as %q.", label)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return Key{}, nil, postgres.Fault(err)
		}
		added, err := s.query(ctx, insert, args...)
		if err != nil {
			return Key{}, nil, err
		}
		if len(added) > 0 {
			return added[0], strange(provider, secret), nil
		}
	}
	return Key{}, nil, fault.New(fault.Conflict, "This key is being changed right now. Try again.")
}

// CheckRing refuses to go on when a stored key was sealed with a master key that
// is not in the ring: it says which, and how many keys are concerned.
func (s *Store) CheckRing(ctx context.Context) error {
	rows, err := s.db.Query(ctx, `
		select ciphertext from public.user_api_keys
		union all
		select ciphertext from ops.fallback_keys`)
	if err != nil {
		return postgres.Fault(err)
	}
	missing := map[uint32]int{}
	var ciphertext []byte
	_, err = pgx.ForEachRow(rows, []any{&ciphertext}, func() error {
		if id, err := seal.KeyID(ciphertext); err == nil && !s.ring.Has(id) {
			missing[id]++
		}
		return nil
	})
	if err != nil {
		return postgres.Fault(err)
	}
	var parts []string
	for id, n := range missing {
		parts = append(parts, fmt.Sprintf("%d (%d stored)", id, n))
	}
	if len(parts) == 0 {
		return nil
	}
	slices.Sort(parts)
	return fault.New(fault.Conflict, "PROMPTOPS_MASTER_KEYS lacks master keys that stored provider keys were sealed with: %s. Add them behind the first entry.", strings.Join(parts, ", "))
}
