package key

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promptcademy/promptops/internal/postgres"
)

// claimFor is how long the node that was first to want a check has for it before
// another one makes it.
const claimFor = 30 * time.Second

const recordTries = 3

// recorded is what an observation has led to.
type recorded struct {
	verdict verdict
	after   Key // as its row is now; the zero Key: there is none any more
}

// record judges an observation by the key's row and writes what follows, with the
// evidence, in one transaction. All fallback keys of the provider are locked for
// it, in one order on every node: whether it was the last one is known only so.
// Who changes several of them in another order may have it give way; then it tries
// again.
func (h *Health) record(ctx context.Context, source Source, id uuid.UUID, o Observation) (w recorded, err error) {
	for range recordTries {
		w, err = h.recordOnce(ctx, source, id, o)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "40P01" {
			break
		}
	}
	return w, err
}

func (h *Health) recordOnce(ctx context.Context, source Source, id uuid.UUID, o Observation) (w recorded, err error) {
	var said []announcement
	var from Status
	err = postgres.InTx(ctx, h.store.db, func(tx pgx.Tx) error {
		w, said = recorded{}, nil
		keys, owner, err := lockKeys(ctx, tx, source, id)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(keys, func(k Key) bool { return k.ID == id })
		if i < 0 {
			return nil
		}
		before := keys[i]
		from = before.Status
		w.verdict = judge(before.state(), o)
		w.after = before.with(w.verdict.state)
		if w.verdict.keep {
			if err := addEvent(ctx, tx, before, w.verdict, owner, o); err != nil {
				return err
			}
		}
		if source == Fallback && w.verdict.changed {
			keys[i] = w.after
			if said, err = h.settleProvider(ctx, tx, before.Provider, keys, o.At, before.Label+": "+w.verdict.reason); err != nil {
				return err
			}
		}
		return writeState(ctx, tx, &w, o)
	})
	if err != nil {
		return recorded{}, fmt.Errorf("write the state of a key: %w", err)
	}
	if w.verdict.changed && w.after.Status != from {
		h.Log.InfoContext(ctx, "key_status_changed", "keyId", id, "keySource", source, "provider", w.after.Provider,
			"from", from, "to", w.after.Status, "reason", w.verdict.reason)
	}
	h.announce(ctx, said)
	return w, nil
}

// lockKeys reads the key, and with a fallback key all of its provider. The lock
// lets others refer to the rows.
func lockKeys(ctx context.Context, tx pgx.Tx, source Source, id uuid.UUID) (keys []Key, owner *uuid.UUID, err error) {
	query := `select ` + userColumns + ` from public.user_api_keys where id = $1 for no key update`
	if source == Fallback {
		query = `select ` + fallbackColumns + ` from ops.fallback_keys
			where provider = (select provider from ops.fallback_keys where id = $1) order by id for no key update`
	}
	rows, err := tx.Query(ctx, query, id)
	if err != nil {
		return nil, nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	for _, one := range found {
		keys, owner = append(keys, one.key()), one.OwnerID
	}
	return keys, owner, err
}

// writeState writes what the verdict changes, if anything: a change of the state
// makes every node read its facts again.
func writeState(ctx context.Context, tx pgx.Tx, w *recorded, o Observation) error {
	v := w.verdict
	if !v.changed && !v.keep {
		return nil
	}
	next := v.state.nextProbe
	if v.probe {
		claimed := o.At.Add(claimFor)
		next = &claimed
	}
	table := tableOf(w.after.Source)
	_, err := tx.Exec(ctx, `
		update `+table+`
		set next_probe_at = $2,
		    last_verified_at = case when $3 then greatest(last_verified_at, $4) else last_verified_at end,
		    last_error_at = case when $5::text is null then last_error_at else $4 end,
		    last_error_class = coalesce($5, last_error_class),
		    last_error_message = case when $5 is null then last_error_message else $6 end,
		    last_error_run_id = case when $5 is null then last_error_run_id else $7::uuid end,
		    last_error_request_id = case when $5 is null then last_error_request_id else nullif($8, '') end
		where id = $1`,
		w.after.ID, next, o.Class == "" && o.Kind != ByAttempt && o.Kind != ByClock, o.At,
		textOrNull(string(o.Class)), o.Message, o.RunID, o.ProviderCall)
	if err != nil || !v.changed {
		return err
	}
	s := v.state
	return tx.QueryRow(ctx, `
		update `+table+`
		set status = $2, status_reason = $3, status_at = $4, cooling_until = $5, suspect = nullif($6, ''), strikes = $7, probes = $8,
		    updated_at = now()
		where id = $1
		returning state_revision`,
		w.after.ID, s.status, v.reason, s.since, s.until, s.suspect, s.strikes, s.probes).Scan(&w.after.revision)
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// addEvent keeps the evidence.
func addEvent(ctx context.Context, tx pgx.Tx, before Key, v verdict, owner *uuid.UUID, o Observation) error {
	var latency *int64
	if o.Latency > 0 {
		ms := o.Latency.Milliseconds()
		latency = &ms
	}
	var status *int
	if o.HTTPStatus != 0 {
		status = &o.HTTPStatus
	}
	_, err := tx.Exec(ctx, `
		insert into ops.key_events
		  (at, key_source, key_id, user_id, provider, kind, class, http_status, message, run_id, provider_request_id, latency_ms,
		   from_status, to_status, reason, operator_id)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		o.At, before.Source, before.ID, owner, before.Provider, o.Kind, textOrNull(string(o.Class)), status, textOrNull(o.Message), o.RunID,
		textOrNull(o.ProviderCall), latency, before.Status, v.state.status, v.reason, o.OperatorID)
	return err
}
