package key

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
)

// longRest is a rest so long that whoever needs the key should know.
const longRest = 5 * time.Minute

// announcement is logged when what it says is committed.
type announcement struct {
	provider string
	usable   bool // a key is, again; else none is any more
	why      string
}

func (h *Health) announce(ctx context.Context, said []announcement) {
	for _, a := range said {
		if a.usable {
			h.Log.InfoContext(ctx, "fallback_keys_recovered", "provider", a.provider, "reason", a.why)
		} else {
			h.Log.ErrorContext(ctx, "fallback_keys_exhausted", "provider", a.provider, "reason", a.why)
		}
	}
}

// out says whether runs can no longer count on the key. A short rest is no reason
// for alarm: rate limits come and go.
func (k Key) out(now time.Time) bool {
	s := k.state()
	switch {
	case k.expired(now), k.retired(now):
		return true
	case s.status == Cooling:
		return s.resting(now) && s.until.Sub(s.since) >= longRest
	}
	return s.status != Healthy
}

// settleProvider notes when the last fallback key of a provider is out, and when
// one is usable again. The caller has locked all of them, so it is noted once.
func (h *Health) settleProvider(ctx context.Context, tx pgx.Tx, provider string, keys []Key, now time.Time, why string) ([]announcement, error) {
	usable := slices.ContainsFunc(keys, func(k Key) bool { return !k.out(now) })
	if usable || len(keys) == 0 {
		tag, err := tx.Exec(ctx, `delete from ops.exhausted_providers where provider = $1`, provider)
		if err != nil || tag.RowsAffected() == 0 || len(keys) == 0 {
			return nil, err
		}
		return []announcement{{provider, true, why}}, nil
	}
	tag, err := tx.Exec(ctx, `
		insert into ops.exhausted_providers (provider, at, reason) values ($1, $2, $3) on conflict do nothing`, provider, now, why)
	if err != nil || tag.RowsAffected() == 0 {
		return nil, err
	}
	if h.Exhausted != nil {
		if err := h.Exhausted(ctx, tx, provider, why); err != nil {
			return nil, err
		}
	}
	return []announcement{{provider, false, why}}, nil
}

// sweep looks at the providers whose fallback keys changed by what is not seen
// here: somebody disabled, added or deleted one, a rest grew long or ended, one
// expired.
func (h *Health) sweep(ctx context.Context, now time.Time) error {
	keys, err := h.store.ListFallback(ctx)
	if err != nil {
		return err
	}
	rows, err := h.store.db.Query(ctx, `select provider from ops.exhausted_providers`)
	if err != nil {
		return postgres.Fault(err)
	}
	marked, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return postgres.Fault(err)
	}
	usable := map[string]bool{}
	for _, k := range keys {
		usable[k.Provider] = usable[k.Provider] || !k.out(now)
	}
	var problems []error
	for provider, ok := range usable {
		if ok == slices.Contains(marked, provider) {
			problems = append(problems, h.sweepProvider(ctx, provider, now))
		}
	}
	for _, provider := range marked {
		if _, there := usable[provider]; !there {
			problems = append(problems, h.sweepProvider(ctx, provider, now))
		}
	}
	return errors.Join(problems...)
}

func (h *Health) sweepProvider(ctx context.Context, provider string, now time.Time) error {
	var said []announcement
	err := postgres.InTx(ctx, h.store.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			select `+fallbackColumns+` from ops.fallback_keys where provider = $1 order by id for no key update`, provider)
		if err != nil {
			return err
		}
		found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
		if err != nil {
			return err
		}
		var keys []Key
		for _, one := range found {
			keys = append(keys, one.key())
		}
		why := "The last one was disabled, has expired or rests for long."
		if slices.ContainsFunc(keys, func(k Key) bool { return !k.out(now) }) {
			why = "One was added or enabled, or its rest is over."
		}
		said, err = h.settleProvider(ctx, tx, provider, keys, now, why)
		return err
	})
	if err != nil {
		return postgres.Fault(err)
	}
	h.announce(ctx, said)
	return nil
}
