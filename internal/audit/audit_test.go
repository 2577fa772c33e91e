package audit

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 123456789, time.UTC)

func add(t *testing.T, db postgres.DB, entries ...Entry) {
	t.Helper()
	for _, e := range entries {
		if err := postgres.InTx(t.Context(), db, func(tx pgx.Tx) error { return Add(t.Context(), tx, e) }); err != nil {
			t.Fatal(err)
		}
	}
}

func verify(t *testing.T, db postgres.DB, wantEntries int, wantBroken int64) {
	t.Helper()
	entries, broken, err := NewStore(db).Verify(t.Context())
	if err != nil || entries != wantEntries || broken != wantBroken {
		t.Errorf("%d entries, the first broken one %d, %v; want %d and %d", entries, broken, err, wantEntries, wantBroken)
	}
}

func TestListAndVerify(t *testing.T) {
	tx := pgtest.Tx(t)
	verify(t, tx, 0, 0)
	ada := Operator(uuid.New(), "ada@example.org")
	key := Entry{At: noon, Actor: ada, Action: "fallback_key.disable", SubjectType: "fallback_key", SubjectID: "k1", SubjectLabel: "main",
		Details: map[string]any{"reason": "leaked <b>", "priority": Change{1, 2.5}, "none": nil}}
	team := Entry{At: noon.Add(time.Hour), Actor: CommandLine, Action: "team.create", SubjectType: "team", SubjectID: "t1"}
	add(t, tx, key, team, key)
	verify(t, tx, 3, 0)

	ids := func(f Filter, limit int) (ids []int64) {
		found, err := NewStore(tx).List(t.Context(), f, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range found {
			ids = append(ids, e.ID)
		}
		return ids
	}
	for _, test := range []struct {
		filter Filter
		limit  int
		want   []int64
	}{
		{Filter{}, 10, []int64{3, 2, 1}},
		{Filter{}, 2, []int64{3, 2}},
		{Filter{Before: 2}, 2, []int64{1}},
		{Filter{SubjectType: "fallback_key", SubjectID: "k1"}, 10, []int64{3, 1}},
		{Filter{SubjectType: "team"}, 10, []int64{2}},
		{Filter{Action: "fallback_key."}, 10, []int64{3, 1}},
		{Filter{OperatorID: ada.OperatorID}, 10, []int64{3, 1}},
	} {
		if diff := cmp.Diff(test.want, ids(test.filter, test.limit)); diff != "" {
			t.Errorf("%+v: %s", test.filter, diff)
		}
	}
	found, err := NewStore(tx).List(t.Context(), Filter{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	key.ID, key.At = 3, noon.Truncate(time.Microsecond)
	key.Details = map[string]any{"reason": "leaked <b>", "priority": map[string]any{"from": json.Number("1"), "to": json.Number("2.5")}, "none": nil}
	key.Hash = found[0].Hash
	if diff := cmp.Diff(key, found[0]); diff != "" {
		t.Error(diff)
	}
}

func TestVerifyNoticesEveryChange(t *testing.T) {
	for name, change := range map[string]string{
		"who":        `update ops.audit_log set actor = 'somebody else' where id = 2`,
		"whose id":   `update ops.audit_log set operator_id = gen_random_uuid() where id = 2`,
		"what":       `update ops.audit_log set action = 'x' where id = 2`,
		"when":       `update ops.audit_log set at = at + interval '1 microsecond' where id = 2`,
		"to what":    `update ops.audit_log set subject_id = 'x' where id = 2`,
		"no details": `update ops.audit_log set details = '[]' where id = 2`,
		"details":    `update ops.audit_log set details = '{"a": 2}' where id = 2`,
		"deleted":    `delete from ops.audit_log where id = 2`,
		"closed up": `
			delete from ops.audit_log where id = 2;
			update ops.audit_log set id = 2 where id = 3;
			update ops.audit_log set id = 3 where id = 4`,
	} {
		t.Run(name, func(t *testing.T) {
			tx := pgtest.Tx(t)
			for range 4 {
				add(t, tx, Entry{At: noon, Actor: CommandLine, Action: "a", SubjectID: "s", Details: map[string]any{"a": 1}})
			}
			if _, err := tx.Exec(t.Context(), change, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			if _, broken, err := NewStore(tx).Verify(t.Context()); broken != 2 || err != nil {
				t.Errorf("the first broken entry is %d, %v; want 2", broken, err)
			}
		})
	}
}

// Entries of transactions that run at the same time are one chain, and those of
// one that is rolled back leave no gap.
func TestAddAtOnce(t *testing.T) {
	pool := pgtest.Database(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 10 {
				err := postgres.InTx(context.Background(), pool, func(tx pgx.Tx) error {
					if err := Add(context.Background(), tx, Entry{At: noon, Action: "a"}); err != nil {
						return err
					}
					if (i+j)%2 == 0 {
						return pgx.ErrTxClosed // any error
					}
					return nil
				})
				if err != nil && (i+j)%2 != 0 {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	verify(t, pool, 40, 0)
}
