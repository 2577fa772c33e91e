package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// identity is whom the database takes us for.
type identity struct {
	Role, UID, JWTRole, Timeout string
}

func whoAmI(t *testing.T, db postgres.DB) identity {
	t.Helper()
	var who identity
	err := db.QueryRow(context.Background(), `
		select current_user, coalesce(auth.uid()::text, ''), coalesce(auth.role(), ''), current_setting('statement_timeout')`,
	).Scan(&who.Role, &who.UID, &who.JWTRole, &who.Timeout)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func TestAsLearner(t *testing.T) {
	ctx := context.Background()
	asAnn := identity{Role: "authenticated", UID: ann.String(), JWTRole: "authenticated", Timeout: "8s"}
	asBob := asAnn
	asBob.UID = bob.String()

	pool := pgtest.Database(t)
	inTx := pgtest.Tx(t)
	for name, db := range map[string]postgres.DB{"pool": pool, "transaction": inTx} {
		t.Run(name, func(t *testing.T) {
			before := whoAmI(t, db)
			err := postgres.AsLearner(ctx, db, ann, func(tx pgx.Tx) error {
				if diff := cmp.Diff(asAnn, whoAmI(t, tx)); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
				if err := postgres.AsLearner(ctx, tx, bob, func(tx pgx.Tx) error {
					if diff := cmp.Diff(asBob, whoAmI(t, tx)); diff != "" {
						t.Errorf("inside: (-want +got)\n%s", diff)
					}
					return nil
				}); err != nil {
					return err
				}
				if diff := cmp.Diff(asAnn, whoAmI(t, tx)); diff != "" {
					t.Errorf("after the inner one: (-want +got)\n%s", diff)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			boom := errors.New("boom")
			if err := postgres.AsLearner(ctx, db, ann, func(pgx.Tx) error { return boom }); !errors.Is(err, boom) {
				t.Errorf("got %v, want fn's own error", err)
			}
			if diff := cmp.Diff(before, whoAmI(t, db)); diff != "" {
				t.Errorf("afterwards: (-before +after)\n%s", diff)
			}
		})
	}
}

func TestAsLearnerIsHeldToItsRights(t *testing.T) {
	tx := pgtest.Tx(t)
	ctx := context.Background()
	if _, err := tx.Exec(ctx, `create table ops.secret ()`); err != nil {
		t.Fatal(err)
	}
	err := postgres.AsLearner(ctx, tx, ann, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `select from ops.secret`)
		return err
	})
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "42501" {
		t.Errorf("got %v, want a permission error", err)
	}
}

func TestAsRoleKnowsTwoRoles(t *testing.T) {
	ctx := context.Background()
	tx := pgtest.Tx(t)
	for _, role := range []string{"service_role", "postgres", "none", "", `authenticated"; reset role; --`} {
		err := postgres.AsRole(ctx, tx, role, nil, func(pgx.Tx) error {
			t.Errorf("ran as %q", role)
			return nil
		})
		if err == nil {
			t.Errorf("role %q: no error", role)
		}
	}
	err := postgres.AsRole(ctx, tx, "anon", map[string]any{"role": "anon"}, func(tx pgx.Tx) error {
		if diff := cmp.Diff(identity{Role: "anon", JWTRole: "anon", Timeout: "8s"}, whoAmI(t, tx)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
