package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DB is what a store needs of Postgres. A *pgxpool.Pool and a pgx.Tx both are
// one, so whatever takes a DB can run inside a transaction of its caller's.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error)
	Begin(ctx context.Context) (pgx.Tx, error)
}

// InTx runs fn in a transaction and commits it. If fn fails or panics, it is
// rolled back and fn's error is returned. When db already is a transaction, fn
// runs in a savepoint of it.
func InTx(ctx context.Context, db DB, fn func(tx pgx.Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	// After a commit this does nothing. The context may be over, but the
	// connection should go back to the pool clean.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()

	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// AsLearner runs fn in a transaction that row-level security treats as the
// learner's own: role authenticated, auth.uid() = learnerID, statements limited
// to 8 s. Afterwards db is what it was.
func AsLearner(ctx context.Context, db DB, learnerID uuid.UUID, fn func(tx pgx.Tx) error) error {
	return asRole(ctx, db, learnerSettings(learnerID, 8*time.Second), fn)
}

// AsRole is AsLearner with the role ("anon" or "authenticated") and all claims
// of the access token given.
func AsRole(ctx context.Context, db DB, role string, claims map[string]any, fn func(tx pgx.Tx) error) error {
	if role != "anon" && role != "authenticated" {
		return fmt.Errorf("postgres: no query may run as role %q", role)
	}
	claimsJSON, err := json.Marshal(claims)
	if err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	sub, _ := claims["sub"].(string)
	return asRole(ctx, db, settings{Claims: string(claimsJSON), Sub: sub, Role: role, Timeout: "8s"}, fn)
}

func asRole(ctx context.Context, db DB, s settings, fn func(tx pgx.Tx) error) error {
	_, nested := db.(pgx.Tx)
	return InTx(ctx, db, func(tx pgx.Tx) error {
		var before settings
		if nested {
			var err error
			if before, err = currentSettings(ctx, tx); err != nil {
				return err
			}
		}
		if err := s.apply(ctx, tx); err != nil {
			return err
		}
		defer runsAs(tx, s.Role)()
		if err := fn(tx); err != nil {
			return err
		}
		// Local settings outlive a savepoint that is released: the caller's
		// transaction must not go on as the learner.
		if nested {
			return before.apply(ctx, tx)
		}
		return nil
	})
}

// settings are the transaction-local ones that make a query somebody's own.
type settings struct {
	Claims, Sub, Role, Timeout string
}

// learnerSettings are those of a learner.
func learnerSettings(id uuid.UUID, timeout time.Duration) settings {
	return settings{
		Claims: fmt.Sprintf(`{"sub": %q, "role": "authenticated", "aud": "authenticated"}`, id),
		Sub:    id.String(), Role: "authenticated", Timeout: fmt.Sprint(timeout.Milliseconds()),
	}
}

func (s settings) apply(ctx context.Context, tx pgx.Tx) error {
	// The role comes after the claims, as PostgREST does it.
	_, err := tx.Exec(ctx, `
		select set_config('request.jwt.claims', $1, true),
		       set_config('request.jwt.claim.sub', $2, true),
		       set_config('role', $3, true),
		       set_config('statement_timeout', $4, true)`,
		s.Claims, s.Sub, s.Role, s.Timeout)
	if err != nil {
		return fmt.Errorf("become role %s: %w", s.Role, err)
	}
	return nil
}

func currentSettings(ctx context.Context, tx pgx.Tx) (s settings, err error) {
	err = tx.QueryRow(ctx, `
		select coalesce(current_setting('request.jwt.claims', true), ''),
		       coalesce(current_setting('request.jwt.claim.sub', true), ''),
		       current_setting('role'),
		       current_setting('statement_timeout')`,
	).Scan(&s.Claims, &s.Sub, &s.Role, &s.Timeout)
	return s, err
}

// IsUnique reports whether err is a violation of the named unique constraint or
// index; an empty name stands for any.
func IsUnique(err error, constraint string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == "23505" && (constraint == "" || pgErr.ConstraintName == constraint)
}
