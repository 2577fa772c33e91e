package key

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/provider"
)

// Added is a fallback key that was stored.
type Added struct {
	Key Key
	Odd []Oddity // what looks strange about it
}

// Twin is the cause of a refusal: the same key is stored already.
type Twin struct {
	ID    uuid.UUID
	Label string
}

func (t Twin) Error() string { return "it is the fallback key " + t.ID.String() }

// Add seals and stores a fallback key, behind the others of its provider unless
// a priority (lowest first) says otherwise. Bad values are fault.Invalid; a key
// that is stored already is fault.Conflict because of its Twin.
func (f *Fallbacks) Add(ctx context.Context, wanted NewKey, by audit.Actor, now time.Time) (added Added, err error) {
	n := NewFallback{
		Provider: wanted.Provider, Label: wanted.Label, Secret: wanted.Secret, Priority: wanted.Priority,
		Models: wanted.Models, MonthlyCapUSD: wanted.MonthlyCap,
	}
	if err := n.clean(); err != nil {
		return Added{}, err
	}
	if err := wanted.aheadOf(now); err != nil {
		return Added{}, err
	}
	err = f.do(ctx, n.Provider, by, now, func(d *deed) error {
		if wanted.Priority == 0 {
			n.Priority = d.last()
		}
		if added, err = f.store(ctx, d, n, wanted.ExpiresAt); err != nil {
			return err
		}
		details := map[string]any{"lastFour": added.Key.LastFour, "priority": n.Priority}
		maps.Copy(details, flat(wanted.Values(f.zone)))
		return d.note(ctx, "add", FallbackKey{ID: added.Key.ID, Provider: n.Provider, Label: n.Label, Status: Healthy}, Healthy, "Added.", details)
	})
	return added, err
}

// store stores a key that is not there yet.
func (f *Fallbacks) store(ctx context.Context, d *deed, n NewFallback, expiresAt *time.Time) (Added, error) {
	if err := f.refuseTwin(ctx, d.tx, n.Provider, n.Secret); err != nil {
		return Added{}, err
	}
	k, _, err := NewStore(d.tx, f.ring).AddFallback(ctx, n)
	if err != nil {
		return Added{}, err
	}
	_, err = d.tx.Exec(ctx, `
		update ops.fallback_keys set expires_at = $2, created_at = $3, updated_at = $3, status_at = $3 where id = $1`, k.ID, expiresAt, d.now)
	return Added{k, oddities(n.Provider, n.Secret)}, err
}

func (f *Fallbacks) refuseTwin(ctx context.Context, tx pgx.Tx, provider string, secret Secret) error {
	var twin Twin
	err := tx.QueryRow(ctx, `
		select id, label from ops.fallback_keys where provider = $1 and fingerprint = any($2)`, provider, f.ring.Fingerprints(string(secret)),
	).Scan(&twin.ID, &twin.Label)
	switch {
	case err == nil:
		return fault.New(fault.Conflict, "This key is stored already, as %q.", twin.Label).Because(twin)
	case isNoRows(err):
		return nil
	default:
		return err
	}
}

// Change changes the settings of a key as it was at a revision. It is
// fault.Conflict when somebody else was first, and then they are in force.
// Nothing is noted when nothing is different.
func (f *Fallbacks) Change(ctx context.Context, id uuid.UUID, s Settings, revision int, by audit.Actor, now time.Time) (changed bool, err error) {
	err = f.doTo(ctx, id, by, now, func(d *deed, k FallbackKey) error {
		if k.Revision != revision {
			return fault.New(fault.Conflict, "Somebody else has changed this key meanwhile.")
		}
		details, said := changes(k.Settings().Values(f.zone), s.Values(f.zone))
		if changed = len(details) > 0; !changed {
			return nil
		}
		_, err := d.tx.Exec(ctx, `
			update ops.fallback_keys
			set label = $2, models = $3, monthly_cap_usd = $4, expires_at = $5, revision = revision + 1, updated_at = $6
			where id = $1`, id, s.Label, s.Models, s.MonthlyCap, s.ExpiresAt, now)
		if err != nil {
			return err
		}
		k.Label = s.Label
		return d.note(ctx, "change", k, k.Status, said, details)
	})
	return changed, err
}

// Reorder puts the keys of a provider into another order, 10, 20, 30 …; the first
// is used first. seen is the order in which whoever asks saw them: it is
// fault.Conflict when that is no longer so.
func (f *Fallbacks) Reorder(ctx context.Context, provider string, seen, wanted []uuid.UUID, by audit.Actor, now time.Time) error {
	return f.do(ctx, provider, by, now, func(d *deed) error {
		was := d.order()
		if !slices.Equal(was, seen) {
			return fault.New(fault.Conflict, "The order was changed meanwhile, or a key was added or deleted. Nothing was moved: look at what it is now.")
		}
		if !sameIDs(was, wanted) {
			return fault.New(fault.Invalid, "The new order has to name every key of the provider once.")
		}
		if slices.Equal(was, wanted) {
			return nil
		}
		if err := d.place(ctx, wanted); err != nil {
			return err
		}
		labels := func(ids []uuid.UUID) []string {
			var names []string
			for _, id := range ids {
				k, _ := Overview{Keys: d.keys}.Find(id) // they are the same
				names = append(names, k.Label)
			}
			return names
		}
		for i, id := range wanted {
			if from := slices.Index(was, id); from != i {
				k, _ := Overview{Keys: d.keys}.Find(id)
				if err := d.remember(ctx, id, provider, k.Status, k.Status, fmt.Sprintf("Moved from place %d to place %d.", from+1, i+1)); err != nil {
					return err
				}
			}
		}
		return audit.Add(ctx, d.tx, audit.Entry{
			At: now, Actor: by, Action: "fallback_key.reorder", SubjectType: "provider", SubjectID: provider, SubjectLabel: provider,
			Details: map[string]any{"order": audit.Change{From: labels(was), To: labels(wanted)}},
		})
	})
}

// Moved is the order in which one key is by places further down, or up when they
// are negative; at an end it stays there.
func Moved(order []uuid.UUID, id uuid.UUID, places int) []uuid.UUID {
	from := slices.Index(order, id)
	if from < 0 {
		return order
	}
	rest := slices.Delete(slices.Clone(order), from, from+1)
	return slices.Insert(rest, min(max(from+places, 0), len(rest)), id)
}

func sameIDs(a, b []uuid.UUID) bool {
	byText := func(x, y uuid.UUID) int { return strings.Compare(x.String(), y.String()) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), byText), slices.SortedFunc(slices.Values(b), byText))
}

const maxReason = 300 // bytes

// Rotate stores a new key in the place of an old one, which goes on right behind
// it until the overlap is over; with none it is disabled at once. Models and cap
// are the old key's.
func (f *Fallbacks) Rotate(ctx context.Context, id uuid.UUID, r Rotation, by audit.Actor, now time.Time) (added Added, err error) {
	var p problems
	if p.overlap(r.Overlap); len(p) > 0 {
		return Added{}, p.err()
	}
	if err := (Settings{ExpiresAt: r.ExpiresAt}).aheadOf(now); err != nil {
		return Added{}, err
	}
	err = f.doTo(ctx, id, by, now, func(d *deed, old FallbackKey) error {
		if old.ReplacedBy != nil {
			return fault.New(fault.Conflict, "%q has been replaced already. Rotate the key that took its place.", old.Label)
		}
		n := NewFallback{
			Provider: old.Provider, Label: r.Label, Secret: r.Secret, Priority: old.Priority,
			Models: old.Models, MonthlyCapUSD: old.MonthlyCap, Sandbox: old.Sandbox,
		}
		if strings.TrimSpace(r.Label) == "" {
			n.Label = old.Label
		}
		if err := n.clean(); err != nil {
			return err
		}
		if added, err = f.store(ctx, d, n, r.ExpiresAt); err != nil {
			return err
		}
		at := slices.Index(d.order(), id)
		if err := d.place(ctx, slices.Insert(d.order(), at, added.Key.ID)); err != nil {
			return err
		}
		fresh := FallbackKey{ID: added.Key.ID, Provider: n.Provider, Label: n.Label, Status: Healthy}
		if err := d.remember(ctx, fresh.ID, fresh.Provider, Healthy, Healthy, fmt.Sprintf("Added in the place of %q, which ends in %s.", old.Label, old.LastFour)); err != nil {
			return err
		}
		status, reason, err := d.retire(ctx, old, fresh, added.Key.LastFour, r.Overlap)
		if err != nil {
			return err
		}
		return d.note(ctx, "rotate", old, status, reason, map[string]any{
			"newKey": fresh.ID, "newLabel": fresh.Label, "newLastFour": added.Key.LastFour, "lastFour": old.LastFour, "overlap": r.Overlap.String(),
		})
	})
	return added, err
}

// retire makes old go when the overlap is over, or at once. A key that is disabled
// has gone already.
func (d *deed) retire(ctx context.Context, old, fresh FallbackKey, lastFour string, overlap time.Duration) (status Status, reason string, err error) {
	reason = fmt.Sprintf("Replaced by %q, which ends in %s", fresh.Label, lastFour)
	switch {
	case old.Status == Disabled:
		status, reason = Disabled, reason+"; it stays disabled."
		_, err = d.tx.Exec(ctx, `update ops.fallback_keys set replaced_by = $2, updated_at = $3 where id = $1`, old.ID, fresh.ID, d.now)
	case overlap == 0:
		status, reason = Disabled, reason+"."
		_, err = d.tx.Exec(ctx, `
			update ops.fallback_keys
			set replaced_by = $2, retire_at = $3, status = 'disabled', status_at = $3, status_by = $4, status_reason = $5, suspect = null,
			    cooling_until = null, next_probe_at = null, updated_at = $3
			where id = $1`, old.ID, fresh.ID, d.now, d.by.OperatorID, reason)
	default:
		until := d.now.Add(overlap)
		status, reason = old.Status, reason+"; used behind it until "+until.UTC().Format("2 Jan 2006, 15:04 MST")+"."
		_, err = d.tx.Exec(ctx, `update ops.fallback_keys set replaced_by = $2, retire_at = $3, updated_at = $4 where id = $1`, old.ID, fresh.ID, until, d.now)
	}
	return status, reason, err
}

// Keep takes back that a key is to go at the end of a rotation's overlap, as long
// as it has not gone.
func (f *Fallbacks) Keep(ctx context.Context, id uuid.UUID, by audit.Actor, now time.Time) error {
	return f.doTo(ctx, id, by, now, func(d *deed, k FallbackKey) error {
		if k.RetireAt == nil {
			return fault.New(fault.Conflict, "%q is not about to retire.", k.Label)
		}
		if state := k.State(now); state == StateDisabled || state == StateRetired {
			return fault.New(fault.Conflict, "%q has retired already. Enable it to use it again.", k.Label)
		}
		if _, err := d.tx.Exec(ctx, `update ops.fallback_keys set retire_at = null, replaced_by = null, updated_at = $2 where id = $1`, id, now); err != nil {
			return err
		}
		return d.note(ctx, "keep", k, k.Status, "It stays, behind the key that took its place.", map[string]any{"retireAt": audit.Change{From: k.RetireAt, To: nil}})
	})
}

// Disable takes a key out of use until somebody enables it. Nothing else ever
// does.
func (f *Fallbacks) Disable(ctx context.Context, id uuid.UUID, reason string, by audit.Actor, now time.Time) error {
	reason = strings.TrimSpace(reason)
	if reason == "" {
		return fault.InvalidFields([]fault.Field{{Field: "reason", Message: "is empty; say why, for those who find the key disabled"}})
	}
	if len(reason) > maxReason || strings.ContainsFunc(reason, unprintable) {
		return fault.InvalidFields([]fault.Field{{Field: "reason", Message: fmt.Sprintf("must be one line of at most %d bytes", maxReason)}})
	}
	return f.doTo(ctx, id, by, now, func(d *deed, k FallbackKey) error {
		if k.Status == Disabled {
			return fault.New(fault.Conflict, "%q is disabled already.", k.Label)
		}
		_, err := d.tx.Exec(ctx, `
			update ops.fallback_keys
			set status = 'disabled', status_at = $2, status_by = $3, status_reason = $4, suspect = null, cooling_until = null,
			    next_probe_at = null, strikes = 0, updated_at = $2
			where id = $1`, id, now, by.OperatorID, reason)
		if err != nil {
			return err
		}
		return d.note(ctx, "disable", k, Disabled, reason, map[string]any{"reason": reason})
	})
}

// Enable puts a key that is disabled, or has retired, into use again.
func (f *Fallbacks) Enable(ctx context.Context, id uuid.UUID, by audit.Actor, now time.Time) error {
	return f.doTo(ctx, id, by, now, func(d *deed, k FallbackKey) error {
		if state := k.State(now); state != StateDisabled && state != StateRetired {
			return fault.New(fault.Conflict, "%q is not disabled.", k.Label)
		}
		_, err := d.tx.Exec(ctx, `
			update ops.fallback_keys
			set status = 'healthy', status_at = $2, status_by = null, status_reason = '', suspect = null, cooling_until = null,
			    next_probe_at = null, strikes = 0, retire_at = null, replaced_by = null, updated_at = $2
			where id = $1`, id, now)
		if err != nil {
			return err
		}
		return d.note(ctx, "enable", k, Healthy, "Enabled.", map[string]any{"wasDisabledBecause": k.StatusReason})
	})
}

// Delete deletes a key for good, if label is its label. What runs have spent with
// it stays in the books.
func (f *Fallbacks) Delete(ctx context.Context, id uuid.UUID, label string, by audit.Actor, now time.Time) (FallbackKey, error) {
	var deleted FallbackKey
	err := f.doTo(ctx, id, by, now, func(d *deed, k FallbackKey) error {
		if strings.TrimSpace(label) != k.Label {
			return fault.InvalidFields([]fault.Field{{Field: "confirm", Message: "is not the label of this key; type it exactly as it is written above"}})
		}
		if _, err := d.tx.Exec(ctx, `delete from ops.fallback_keys where id = $1`, id); err != nil {
			return err
		}
		deleted = k
		details := map[string]any{"lastFour": k.LastFour, "priority": k.Priority, "status": k.Status}
		maps.Copy(details, flat(k.Settings().Values(f.zone)))
		return d.note(ctx, "delete", k, k.Status, "Deleted.", details)
	})
	return deleted, err
}

func flat(values map[string][]string) map[string]any {
	all := map[string]any{}
	for field, value := range values {
		all[field] = value[0]
	}
	return all
}

// usable returns the provider's first key that is neither disabled nor refused,
// still sealed; fault.NotFound if there is none.
func (f *Fallbacks) usable(ctx context.Context, providerID string) (Key, error) {
	keys, err := NewStore(f.db, f.ring).ListFallback(ctx)
	if err != nil {
		return Key{}, postgres.Fault(err)
	}
	for _, k := range keys {
		if k.Provider == providerID && k.Status != Disabled && k.Status != Invalid {
			return k, nil
		}
	}
	return Key{}, errNoFallback
}

// Models asks a provider for its models with its first usable fallback key, or
// with none if there is none.
func (f *Fallbacks) Models(ctx context.Context, from *provider.Registry, providerID string) ([]string, error) {
	var secret Secret
	k, err := f.usable(ctx, providerID)
	if err == nil {
		secret, err = NewStore(f.db, f.ring).Open(k)
	}
	if err != nil && fault.KindOf(err) != fault.NotFound {
		return nil, err
	}
	return from.Models(ctx, providerID, secret.Reveal())
}
