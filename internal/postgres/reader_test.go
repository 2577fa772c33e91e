package postgres_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func TestReader(t *testing.T) {
	for name, db := range map[string]postgres.DB{"pool": pgtest.Database(t), "transaction": pgtest.Tx(t)} {
		t.Run(name, func(t *testing.T) {
			before := whoAmI(t, db)
			reader := postgres.NewReader(db)
			for _, test := range []struct {
				reader postgres.Reader
				want   identity
			}{
				{reader, identity{Role: before.Role, Timeout: "5s"}},
				{reader.As(ann), identity{Role: "authenticated", UID: ann.String(), JWTRole: "authenticated", Timeout: "5s"}},
			} {
				err := test.reader.Read(t.Context(), func(tx pgx.Tx) error {
					if diff := cmp.Diff(test.want, whoAmI(t, tx)); diff != "" {
						t.Errorf("(-want +got)\n%s", diff)
					}
					_, err := tx.Exec(t.Context(), `create table public.written ()`)
					return err
				})
				if err == nil {
					t.Error("a page can write")
				}
			}
			if diff := cmp.Diff(before, whoAmI(t, db)); diff != "" {
				t.Errorf("afterwards (-want +got)\n%s", diff)
			}
		})
	}
}

// What a learner may not see stays unseen whatever the statement.
func TestReaderAsLearnerIsClosedToOps(t *testing.T) {
	err := postgres.NewReader(pgtest.Tx(t)).As(ann).Read(t.Context(), func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `select from ops.fallback_keys`)
		return err
	})
	if err == nil {
		t.Error("a learner reads fallback keys")
	}
}

func TestReaderGivesUp(t *testing.T) {
	err := postgres.NewReader(pgtest.Database(t)).Read(t.Context(), func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `set local statement_timeout = '10ms'; select pg_sleep(5)`)
		return err
	})
	if fault.KindOf(err) != fault.Unavailable || !postgres.TookTooLong(err) {
		t.Errorf("got %v", err)
	}
	wanted := errors.New("of the caller")
	if err := postgres.NewReader(pgtest.Tx(t)).Read(t.Context(), func(pgx.Tx) error { return wanted }); !errors.Is(err, wanted) {
		t.Errorf("got %v", err)
	}
}
