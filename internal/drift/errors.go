package drift

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
)

// ErrorGroup is all refused statements of one kind.
type ErrorGroup struct {
	Reason  string
	Object  string
	Policy  string
	Role    string
	Route   string
	Message string
	Hint    string
	FirstAt time.Time
	LastAt  time.Time
	N       int64
	Recent  int64 // of them in the last five to ten minutes
}

// Errors groups the statements that were refused since then, the latest first, and
// at most 200 groups. The last few seconds of each node may not be in it.
func (s *Store) Errors(ctx context.Context, since, now time.Time) (groups []ErrorGroup, err error) {
	err = s.reader.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			select reason, object, policy, role, route, message, max(hint) as hint,
			       min(first_at) as first_at, max(last_at) as last_at, sum(n)::bigint as n,
			       coalesce(sum(n) filter (where slot >= date_bin('5 minutes', $2, 'epoch') - interval '5 minutes'), 0)::bigint as recent
			from ops.rls_errors
			where last_at >= $1
			group by reason, object, policy, role, route, message
			order by max(last_at) desc, sum(n) desc, object, message
			limit 200`, since, now)
		if err != nil {
			return err
		}
		groups, err = pgx.CollectRows(rows, pgx.RowToStructByName[ErrorGroup])
		return err
	})
	return groups, err
}

// record adds counts to those of the other nodes, in an order that is the same for
// all of them.
func (s *Store) record(ctx context.Context, noted map[slotted]tally) error {
	ctx, cancel := context.WithTimeout(ctx, writeEvery)
	defer cancel()
	keys := make([]slotted, 0, len(noted))
	for key := range noted {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b slotted) int {
		return slices.Compare(
			[]string{a.slot.Format(time.RFC3339), a.Object, a.Role, a.Route, a.Policy, a.Reason, a.Message, a.Hint},
			[]string{b.slot.Format(time.RFC3339), b.Object, b.Role, b.Route, b.Policy, b.Reason, b.Message, b.Hint})
	})
	return postgres.Fault(postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		var batch pgx.Batch
		for _, k := range keys {
			t := noted[k]
			batch.Queue(`
				insert into ops.rls_errors as e (slot, source, reason, object, policy, role, route, message, hint, first_at, last_at, n)
				values ($1, 'pool', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
				on conflict (slot, source, reason, object, policy, role, route, message) do update
				set n = e.n + excluded.n, first_at = least(e.first_at, excluded.first_at), last_at = greatest(e.last_at, excluded.last_at)`,
				k.slot, k.Reason, k.Object, k.Policy, k.Role, k.Route, k.Message, k.Hint, t.first, t.last, t.n)
		}
		if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
			return fmt.Errorf("write refused statements: %w", err)
		}
		return nil
	}))
}

func (s *Store) forget(ctx context.Context, before time.Time) error {
	_, err := s.db.Exec(ctx, `
		delete from ops.rls_errors
		where last_at < $1`, before)
	return postgres.Fault(err)
}
