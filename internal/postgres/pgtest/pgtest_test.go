package pgtest_test

import (
	"context"
	"testing"

	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func TestTxIsUndone(t *testing.T) {
	ctx := context.Background()
	t.Run("write", func(t *testing.T) {
		if _, err := pgtest.Tx(t).Exec(ctx, `create table ops.kept ()`); err != nil {
			t.Fatal(err)
		}
	})
	var kept bool
	if err := pgtest.Tx(t).QueryRow(ctx, `select to_regclass('ops.kept') is not null`).Scan(&kept); err != nil {
		t.Fatal(err)
	}
	if kept {
		t.Error("what a transaction wrote is still there after its test")
	}
}
