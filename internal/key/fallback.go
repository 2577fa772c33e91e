package key

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/seal"
)

// Fallbacks is what admins do with the platform's keys. Every change is one
// transaction with its entry in the audit log and in the key's own history.
type Fallbacks struct {
	db    postgres.DB
	ring  *seal.Ring
	zone  *time.Location // where the days and months of money begin
	spent periodMemory
}

// NewFallbacks returns a Fallbacks on db that seals with ring.
func NewFallbacks(db postgres.DB, ring *seal.Ring, zone *time.Location) *Fallbacks {
	return &Fallbacks{db: db, ring: ring, zone: zone}
}

// Zone is where the days and months of money begin.
func (f *Fallbacks) Zone() *time.Location { return f.zone }

// FallbackKey is all that is known of a fallback key but the key itself.
type FallbackKey struct {
	ID         uuid.UUID
	Provider   string
	Label      string
	LastFour   string
	Priority   int
	Models     []string   // the provider's own names; nil: every model
	MonthlyCap *price.USD // nil: none
	Sandbox    bool
	Revision   int // grows with every edit
	CreatedAt  time.Time

	Status       Status
	StatusReason string
	StatusAt     time.Time
	StatusBy     string // e-mail of the operator who disabled it; empty: nobody we know
	CoolingUntil *time.Time
	Suspect      *string // error class that is looked into, or rested for
	ExpiresAt    *time.Time
	RetireAt     *time.Time
	ReplacedBy   *uuid.UUID

	LastVerifiedAt *time.Time
	LastUsedAt     *time.Time
	LastSuccessAt  *time.Time
	LastErrorAt    *time.Time
	LastError      Evidence `db:"-"`

	Spent Spent `db:"-"`
}

// Evidence is what a provider said when it did not take a key.
type Evidence struct {
	Class             string
	HTTPStatus        int // 0: not known
	Message           string
	RunID             *uuid.UUID
	ProviderRequestID string
}

// fallbackRow is a FallbackKey as the query below returns it.
type fallbackRow struct {
	FallbackKey
	ErrorClass, ErrorMessage, ErrorRequestID string
	ErrorStatus                              int
	ErrorRunID                               *uuid.UUID
}

const fallbackQuery = `
	select k.id, k.provider, k.label, k.last_four, k.priority, k.models, k.monthly_cap_usd as monthly_cap, k.sandbox, k.revision, k.created_at,
	       k.status, k.status_reason, k.status_at, coalesce(o.email, '') as status_by, k.cooling_until, k.suspect,
	       k.expires_at, k.retire_at, k.replaced_by,
	       k.last_verified_at, k.last_used_at, k.last_success_at, k.last_error_at,
	       coalesce(k.last_error_class, '') as error_class, coalesce(k.last_error_message, '') as error_message,
	       coalesce(k.last_error_request_id, '') as error_request_id, k.last_error_run_id as error_run_id,
	       coalesce((
	         select e.http_status from ops.key_events e
	         where e.key_id = k.id and e.class = k.last_error_class
	         order by e.id desc limit 1), 0) as error_status
	from ops.fallback_keys k left join ops.operators o on o.id = k.status_by`

// fallbackOrder is the order of use as it stands still: of equal priorities
// whichever rested longest is first, which changes with every run.
const fallbackOrder = ` order by k.provider, k.priority, k.created_at, k.id`

func collectFallbacks(rows pgx.Rows) ([]FallbackKey, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (FallbackKey, error) {
		found, err := pgx.RowToStructByName[fallbackRow](row)
		found.LastError = Evidence{found.ErrorClass, found.ErrorStatus, found.ErrorMessage, found.ErrorRunID, found.ErrorRequestID}
		return found.FallbackKey, err
	})
}

// Overview is every fallback key, and where there ought to be one.
type Overview struct {
	Keys    []FallbackKey  // by provider, in the order of use
	Missing map[string]int // attempts without any key since the beginning of the seventh day before this one, by provider
}

// Overview returns every fallback key with what it has spent.
func (f *Fallbacks) Overview(ctx context.Context, now time.Time) (Overview, error) {
	var all Overview
	err := postgres.NewReader(f.db).Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, fallbackQuery+fallbackOrder)
		if err != nil {
			return err
		}
		if all.Keys, err = collectFallbacks(rows); err != nil {
			return err
		}
		all.Missing, err = f.spending(ctx, tx, all.Keys, now)
		return err
	})
	if err != nil {
		return Overview{}, fmt.Errorf("fallback keys: %w", err)
	}
	return all, nil
}

// Find returns one of these keys.
func (o Overview) Find(id uuid.UUID) (FallbackKey, error) {
	if i := slices.IndexFunc(o.Keys, func(k FallbackKey) bool { return k.ID == id }); i >= 0 {
		return o.Keys[i], nil
	}
	return FallbackKey{}, errNoFallback
}

// Of returns the keys of a provider in the order of use.
func (o Overview) Of(provider string) []FallbackKey {
	return slices.DeleteFunc(slices.Clone(o.Keys), func(k FallbackKey) bool { return k.Provider != provider })
}

// Forsaken returns the providers that are used, or have keys, and none of whose
// keys will be usable again unless somebody does something, sorted.
func (o Overview) Forsaken(now time.Time) []string {
	hope := map[string]bool{}
	for provider, attempts := range o.Missing {
		if attempts > 0 {
			hope[provider] = false
		}
	}
	for _, k := range o.Keys {
		hope[k.Provider] = hope[k.Provider] || k.State(now).Hopeful()
	}
	var forsaken []string
	for provider, any := range hope {
		if !any {
			forsaken = append(forsaken, provider)
		}
	}
	slices.Sort(forsaken)
	return forsaken
}

var errNoFallback = fault.New(fault.NotFound, "There is no such fallback key any more.")

// FallbackEvent is one thing that happened to a key.
type FallbackEvent struct {
	At                time.Time
	Kind              string // attempt, probe, operator, learner or clock
	Class             string // error class; empty: it went well
	HTTPStatus        int
	Message           string
	RunID             *uuid.UUID
	ProviderRequestID string
	LatencyMs         *int
	From, To          Status
	Reason            string
	Operator          string // e-mail
}

// History returns what happened to a key, the newest first, at most limit things.
func (f *Fallbacks) History(ctx context.Context, id uuid.UUID, limit int) ([]FallbackEvent, error) {
	rows, err := f.db.Query(ctx, `
		select e.at, e.kind, coalesce(e.class, '') as class, coalesce(e.http_status, 0) as http_status, coalesce(e.message, '') as message,
		       e.run_id, coalesce(e.provider_request_id, '') as provider_request_id, e.latency_ms,
		       e.from_status as "from", e.to_status as "to", e.reason, coalesce(o.email, '') as operator
		from ops.key_events e left join ops.operators o on o.id = e.operator_id
		where e.key_id = $1 and e.key_source = 'fallback'
		order by e.id desc
		limit $2`, id, limit)
	if err != nil {
		return nil, postgres.Fault(err)
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByName[FallbackEvent])
	return events, postgres.Fault(err)
}

// deed is a change in the making: one transaction in which the keys of a provider
// are locked.
type deed struct {
	tx   pgx.Tx
	by   audit.Actor
	now  time.Time
	keys []FallbackKey // of the provider, in the order of use
}

// do runs fn with the provider's keys locked. Changes of the order take turns;
// the rows are locked by id and before anything is written, as whoever notes uses
// and rests of keys does it.
func (f *Fallbacks) do(ctx context.Context, provider string, by audit.Actor, now time.Time, fn func(d *deed) error) error {
	err := postgres.InTx(ctx, f.db, func(tx pgx.Tx) error {
		d := &deed{tx: tx, by: by, now: now}
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('ops.fallback_keys'))`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `select from ops.fallback_keys where provider = $1 order by id for update`, provider); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, fallbackQuery+` where k.provider = $1`+fallbackOrder, provider)
		if err != nil {
			return err
		}
		if d.keys, err = collectFallbacks(rows); err != nil {
			return err
		}
		return fn(d)
	})
	return postgres.Fault(err)
}

// doTo is do for one key.
func (f *Fallbacks) doTo(ctx context.Context, id uuid.UUID, by audit.Actor, now time.Time, fn func(d *deed, k FallbackKey) error) error {
	var provider string
	err := f.db.QueryRow(ctx, `select provider from ops.fallback_keys where id = $1`, id).Scan(&provider)
	switch {
	case err == nil:
	case isNoRows(err):
		return errNoFallback
	default:
		return postgres.Fault(err)
	}
	return f.do(ctx, provider, by, now, func(d *deed) error {
		k, err := Overview{Keys: d.keys}.Find(id)
		if err != nil {
			return err
		}
		return fn(d, k)
	})
}

// note adds what was done to the audit log and to the key's history. It comes
// last in a transaction.
func (d *deed) note(ctx context.Context, verb string, k FallbackKey, to Status, reason string, details map[string]any) error {
	if err := d.remember(ctx, k.ID, k.Provider, k.Status, to, reason); err != nil {
		return err
	}
	details["provider"] = k.Provider
	return audit.Add(ctx, d.tx, audit.Entry{
		At: d.now, Actor: d.by, Action: "fallback_key." + verb, SubjectType: "fallback_key", SubjectID: k.ID.String(), SubjectLabel: k.Label,
		Details: details,
	})
}

// remember adds to a key's history.
func (d *deed) remember(ctx context.Context, id uuid.UUID, provider string, from, to Status, reason string) error {
	_, err := d.tx.Exec(ctx, `
		insert into ops.key_events (at, key_source, key_id, provider, kind, from_status, to_status, reason, operator_id)
		values ($1, 'fallback', $2, $3, 'operator', $4, $5, $6, $7)`, d.now, id, provider, from, to, reason, d.by.OperatorID)
	return err
}

// place gives every key a place of its own, 10, 20, 30 …, in the order given.
func (d *deed) place(ctx context.Context, order []uuid.UUID) error {
	_, err := d.tx.Exec(ctx, `
		update ops.fallback_keys k
		set priority = u.place * 10, updated_at = $2
		from unnest($1::uuid[]) with ordinality as u (id, place)
		where k.id = u.id and k.priority <> u.place * 10`, order, d.now)
	return err
}

// last is the priority behind all others.
func (d *deed) last() int {
	if len(d.keys) == 0 {
		return 10
	}
	behind := slices.MaxFunc(d.keys, func(a, b FallbackKey) int { return cmp.Compare(a.Priority, b.Priority) }).Priority
	return min(behind+10, maxPriority)
}

func (d *deed) order() []uuid.UUID {
	ids := make([]uuid.UUID, len(d.keys))
	for i, k := range d.keys {
		ids[i] = k.ID
	}
	return ids
}
