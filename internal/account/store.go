package account

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Store keeps operators, their passwords and sign-in links. What it changes it
// writes into the audit log, as done by whoever is given as by. Its methods
// return fault.Unavailable when the database is away.
type Store struct {
	db     postgres.DB
	log    *slog.Logger
	hasher hasher
}

// NewStore returns a Store on db that logs every attempt to sign in. A process
// should have only one: it limits how many passwords are hashed at once.
func NewStore(db postgres.DB, log *slog.Logger) *Store {
	return &Store{db: db, log: log, hasher: newHasher()}
}

const operatorColumns = `
	o.id, o.email, o.name, o.role, o.learner_id, o.timezone, o.password_hash is not null as has_password,
	o.disabled_at, o.last_sign_in_at, o.created_at`

// one maps the single row of a query; pgx.ErrNoRows if there is none.
func one[T any](ctx context.Context, db postgres.DB, sql string, args ...any) (T, error) {
	rows, _ := db.Query(ctx, sql, args...) // CollectOneRow returns its error
	row, err := pgx.CollectOneRow(rows, pgx.RowToStructByName[T])
	return row, postgres.Fault(err)
}

func noOperator() *fault.Error {
	return fault.New(fault.NotFound, "There is no such operator.")
}

// Create adds an operator. It is fault.Invalid with every bad field, and
// fault.Conflict when another operator has the address.
func (s *Store) Create(ctx context.Context, by audit.Actor, n NewOperator, now time.Time) (operator Operator, err error) {
	if bad := n.check(); bad != nil {
		return Operator{}, fault.InvalidFields(bad)
	}
	var hash *string
	if n.Password != "" {
		made, err := s.hasher.hash(ctx, n.Password)
		if err != nil {
			return Operator{}, fmt.Errorf("hash password: %w", err)
		}
		hash = &made
	}
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		operator, err = one[Operator](ctx, tx, `
			insert into ops.operators as o (email, name, role, learner_id, timezone, password_hash, created_at)
			values ($1, $2, $3, $4, $5, $6, $7)
			returning`+operatorColumns,
			normalEmail(n.Email), n.Name, n.Role, n.LearnerID, n.Timezone, hash, now)
		if err != nil {
			return err
		}
		return note(ctx, tx, by, "operator.create", operator, now, map[string]any{
			"name": operator.Name, "role": operator.Role, "learnerId": operator.LearnerID, "timezone": operator.Timezone,
		})
	})
	if postgres.IsUnique(err, "operators_email_key") {
		taken := fault.New(fault.Conflict, "Another operator has this e-mail address.")
		taken.Details = []fault.Field{{Field: "email", Message: "belongs to another operator"}}
		return Operator{}, taken
	}
	if err != nil {
		return Operator{}, postgres.Fault(fmt.Errorf("create operator: %w", err))
	}
	return operator, nil
}

// note writes what was done to an operator into the audit log.
func note(ctx context.Context, tx pgx.Tx, by audit.Actor, action string, o Operator, now time.Time, details map[string]any) error {
	return audit.Add(ctx, tx, audit.Entry{
		At: now, Actor: by, Action: action, SubjectType: "operator", SubjectID: o.ID.String(), SubjectLabel: o.Email, Details: details,
	})
}

// EnsureFirstAdmin makes sure that there is an admin who may sign in: the oldest
// one, or a new one, without a password, for email. Of several nodes that start
// at once one creates it.
func (s *Store) EnsureFirstAdmin(ctx context.Context, email string, now time.Time) (operator Operator, created bool, err error) {
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		// Against other nodes: there is no row yet that could be locked.
		if _, err := tx.Exec(ctx, `lock table ops.operators in share row exclusive mode`); err != nil {
			return err
		}
		operator, err = one[Operator](ctx, tx, `
			select`+operatorColumns+`
			from ops.operators o
			where o.role = 'admin' and o.disabled_at is null
			order by o.created_at, o.id
			limit 1`)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		created = true
		inTx := *s
		inTx.db = tx
		operator, err = inTx.Create(ctx, audit.Actor{Name: "first start"}, NewOperator{Email: email, Role: RoleAdmin}, now)
		return err
	})
	if err != nil {
		return Operator{}, false, postgres.Fault(fmt.Errorf("make sure of an admin: %w", err))
	}
	return operator, created, nil
}

// Find returns an operator, also a disabled one; fault.NotFound if there is none.
func (s *Store) Find(ctx context.Context, id uuid.UUID) (Operator, error) {
	return found(one[Operator](ctx, s.db, `
		select`+operatorColumns+`
		from ops.operators o
		where o.id = $1`, id))
}

// FindByEmail is Find by address, in any case.
func (s *Store) FindByEmail(ctx context.Context, email string) (Operator, error) {
	return found(one[Operator](ctx, s.db, `
		select`+operatorColumns+`
		from ops.operators o
		where lower(o.email) = $1`, normalEmail(email)))
}

func found(operator Operator, err error) (Operator, error) {
	if errors.Is(err, pgx.ErrNoRows) {
		return Operator{}, noOperator()
	}
	if err != nil {
		return Operator{}, fmt.Errorf("find operator: %w", err)
	}
	return operator, nil
}

// SetPassword changes the password and ends every session and open sign-in
// link of the operator: for the browser at hand call Sessions.Start again. It
// is fault.Invalid, on the field password, for one that is easy to guess.
func (s *Store) SetPassword(ctx context.Context, by audit.Actor, id uuid.UUID, password string, now time.Time) error {
	operator, err := s.Find(ctx, id)
	if err != nil {
		return err
	}
	if bad := checkPassword(password, operator.Email); bad != nil {
		return fault.InvalidFields(bad)
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			update ops.operators
			set password_hash = $2
			where id = $1`, id, hash)
		if err != nil {
			return err
		}
		if _, err := endAll(ctx, tx, id); err != nil {
			return err
		}
		return note(ctx, tx, by, "operator.set_password", operator, now, nil)
	})
	if err != nil {
		return postgres.Fault(fmt.Errorf("set password: %w", err))
	}
	return nil
}

// Edit changes an operator to n, whose Email and Password do not count. It takes
// effect with the operator's next request. It is fault.Invalid with every bad
// field, and fault.Conflict when the operator is by now another one than seen,
// or the last admin who is not disabled and would not be one any more.
func (s *Store) Edit(ctx context.Context, by audit.Actor, seen Operator, n NewOperator, now time.Time) (operator Operator, err error) {
	n.Email, n.Password = seen.Email, ""
	if bad := n.check(); bad != nil {
		return Operator{}, fault.InvalidFields(bad)
	}
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		before, last, err := lock(ctx, tx, seen.ID)
		switch {
		case err != nil:
			return err
		case before.Version() != seen.Version():
			return fault.New(fault.Conflict, "Somebody else changed this operator while this page was open. Look at how it is now, and change it again if need be.")
		case last && n.Role != RoleAdmin:
			return lastAdmin()
		}
		operator, err = one[Operator](ctx, tx, `
			update ops.operators o
			set name = $2, role = $3, learner_id = $4, timezone = $5
			where id = $1
			returning`+operatorColumns,
			seen.ID, n.Name, n.Role, n.LearnerID, n.Timezone)
		if err != nil {
			return err
		}
		if changes := before.changes(operator); len(changes) > 0 {
			return note(ctx, tx, by, "operator.edit", operator, now, changes)
		}
		return nil
	})
	if err != nil {
		return Operator{}, postgres.Fault(fmt.Errorf("edit operator: %w", err))
	}
	return operator, nil
}

// Disable keeps the operator from signing in and ends their sessions and
// sign-in links at once. It is fault.Conflict for the last admin who is not
// disabled and for operators who would disable themselves, and does nothing to an
// operator who is.
func (s *Store) Disable(ctx context.Context, by audit.Actor, id uuid.UUID, now time.Time) error {
	if by.OperatorID != nil && *by.OperatorID == id {
		return fault.New(fault.Conflict, "You cannot disable yourself. Another admin can.")
	}
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		operator, last, err := lock(ctx, tx, id)
		switch {
		case err != nil:
			return err
		case last:
			return lastAdmin()
		}
		_, err = tx.Exec(ctx, `
			update ops.operators
			set disabled_at = coalesce(disabled_at, $2)
			where id = $1`, id, now)
		if err != nil {
			return err
		}
		ended, err := endAll(ctx, tx, id)
		if err != nil || operator.DisabledAt != nil {
			return err
		}
		return note(ctx, tx, by, "operator.disable", operator, now, map[string]any{"sessionsEnded": ended})
	})
	if err != nil {
		return postgres.Fault(fmt.Errorf("disable operator: %w", err))
	}
	return nil
}

// Enable lets a disabled operator sign in again; it does nothing to one who may.
func (s *Store) Enable(ctx context.Context, by audit.Actor, id uuid.UUID, now time.Time) error {
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		operator, _, err := lock(ctx, tx, id)
		if err != nil || operator.DisabledAt == nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			update ops.operators
			set disabled_at = null
			where id = $1`, id)
		if err != nil {
			return err
		}
		return note(ctx, tx, by, "operator.enable", operator, now, nil)
	})
	if err != nil {
		return postgres.Fault(fmt.Errorf("enable operator: %w", err))
	}
	return nil
}

// EndSessions signs the operator out everywhere, and says of how many sessions
// that was the end. Their sign-in links stay good.
func (s *Store) EndSessions(ctx context.Context, by audit.Actor, id uuid.UUID, now time.Time) (ended int64, err error) {
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		operator, err := found(one[Operator](ctx, tx, `
			select`+operatorColumns+`
			from ops.operators o
			where o.id = $1`, id))
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `delete from ops.sessions where operator_id = $1`, id)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		ended = tag.RowsAffected()
		return note(ctx, tx, by, "operator.end_sessions", operator, now, map[string]any{"sessionsEnded": ended})
	})
	if err != nil {
		return 0, postgres.Fault(fmt.Errorf("end sessions: %w", err))
	}
	return ended, nil
}

// lock keeps others from changing the operator until the end of the transaction,
// and says whether it is the last admin who may sign in.
func lock(ctx context.Context, tx pgx.Tx, id uuid.UUID) (operator Operator, last bool, err error) {
	// All admins are locked, in the same order by everybody: two of them cannot
	// disable each other.
	rows, _ := tx.Query(ctx, `
		select`+operatorColumns+`
		from ops.operators o
		where o.id = $1 or (o.role = 'admin' and o.disabled_at is null)
		order by o.id
		for update`, id)
	locked, err := pgx.CollectRows(rows, pgx.RowToStructByName[Operator])
	if err != nil {
		return Operator{}, false, err
	}
	at := slices.IndexFunc(locked, func(o Operator) bool { return o.ID == id })
	if at < 0 {
		return Operator{}, false, noOperator()
	}
	operator = locked[at]
	return operator, operator.Role == RoleAdmin && operator.DisabledAt == nil && len(locked) == 1, nil
}

func lastAdmin() *fault.Error {
	return fault.New(fault.Conflict, "This is the only admin left. Make somebody else an admin first.")
}

// endAll ends the operator's sessions, and says how many, and open links.
func endAll(ctx context.Context, tx pgx.Tx, id uuid.UUID) (sessions int64, err error) {
	tag, err := tx.Exec(ctx, `delete from ops.sessions where operator_id = $1`, id)
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `delete from ops.sign_in_links where operator_id = $1`, id)
	return tag.RowsAffected(), err
}

// admit counts the attempt, or says how long it has to wait.
func (s *Store) admit(ctx context.Context, try attempt, now time.Time) (wait time.Duration, err error) {
	account, address := try.subjects()
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		for _, subject := range []struct {
			name string
			free int
		}{{account, freeFailuresAccount}, {address, freeFailuresAddress}} {
			// The update that changes nothing locks the row: nodes take turns.
			state, err := one[failures](ctx, tx, `
				insert into ops.sign_in_failures as f (subject, failures, last_at)
				values ($1, 0, $2)
				on conflict (subject) do update set subject = excluded.subject
				returning f.failures as count, f.last_at, f.blocked_until`,
				subject.name, now)
			if err != nil {
				return err
			}
			next, mustWait := throttle(state, subject.free, now)
			if mustWait > 0 {
				wait = mustWait
				return errMustWait // nothing is counted
			}
			_, err = tx.Exec(ctx, `
				update ops.sign_in_failures
				set failures = $2, last_at = $3, blocked_until = $4
				where subject = $1`,
				subject.name, next.Count, next.LastAt, next.BlockedUntil)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errMustWait) {
		return 0, postgres.Fault(fmt.Errorf("count attempt: %w", err))
	}
	return wait, nil
}

// errMustWait rolls admit back.
var errMustWait = errors.New("must wait")

// credentials returns the zero value for an unknown account.
func (s *Store) credentials(ctx context.Context, email string) (credentials, error) {
	c, err := one[credentials](ctx, s.db, `
		select id, coalesce(password_hash, '') as password_hash, disabled_at is not null as disabled
		from ops.operators
		where lower(email) = $1`, email)
	if errors.Is(err, pgx.ErrNoRows) {
		return credentials{}, nil
	}
	if err != nil {
		return credentials{}, fmt.Errorf("find credentials: %w", err)
	}
	return c, nil
}

// signedIn stores that the attempt succeeded and takes its failure back. It is
// fault.Unauthenticated if the operator was disabled or got another password
// since c was read.
func (s *Store) signedIn(ctx context.Context, c credentials, rehashed string, try attempt, now time.Time) (operator Operator, err error) {
	account, address := try.subjects()
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		operator, err = one[Operator](ctx, tx, `
			update ops.operators o
			set last_sign_in_at = $4, password_hash = $3
			where id = $1 and password_hash = $2 and disabled_at is null
			returning`+operatorColumns,
			c.ID, c.PasswordHash, rehashed, now)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from ops.sign_in_failures where subject = $1`, account); err != nil {
			return err
		}
		// Only its own: with an account of theirs, somebody who guesses
		// others' passwords could otherwise start from zero again and again.
		_, err = tx.Exec(ctx, `
			update ops.sign_in_failures
			set failures = greatest(failures - 1, 0), blocked_until = null
			where subject = $1`, address)
		if err != nil {
			return err
		}
		return note(ctx, tx, audit.Operator(operator.ID, operator.Email), "operator.sign_in", operator, now, map[string]any{"via": "password", "ip": try.ip})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Operator{}, wrongCredentials()
	}
	if err != nil {
		return Operator{}, postgres.Fault(fmt.Errorf("store sign-in: %w", err))
	}
	return operator, nil
}

// insertLink makes earlier links of the operator worthless.
func (s *Store) insertLink(ctx context.Context, by audit.Actor, hash []byte, operatorID uuid.UUID, createdAt, expiresAt time.Time) error {
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		operator, err := found(one[Operator](ctx, tx, `
			select`+operatorColumns+`
			from ops.operators o
			where o.id = $1`, operatorID))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			delete from ops.sign_in_links
			where operator_id = $1 and used_at is null`, operatorID)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			insert into ops.sign_in_links (token_hash, operator_id, created_at, expires_at)
			values ($1, $2, $3, $4)`,
			hash, operatorID, createdAt, expiresAt)
		if err != nil {
			return err
		}
		return note(ctx, tx, by, "operator.create_link", operator, createdAt, map[string]any{"expiresAt": expiresAt.UTC()})
	})
	if err != nil {
		return postgres.Fault(fmt.Errorf("create sign-in link: %w", err))
	}
	return nil
}

func (s *Store) linkedOperator(ctx context.Context, hash []byte, now time.Time) (Operator, error) {
	operator, err := one[Operator](ctx, s.db, `
		select`+operatorColumns+`
		from ops.sign_in_links l
		join ops.operators o on o.id = l.operator_id
		where l.token_hash = $1 and l.used_at is null and l.expires_at > $2 and o.disabled_at is null`,
		hash, now)
	if err != nil {
		return Operator{}, fmt.Errorf("find sign-in link: %w", err)
	}
	return operator, nil
}

func (s *Store) useLink(ctx context.Context, hash []byte, now time.Time) (operator Operator, err error) {
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		operator, err = one[Operator](ctx, tx, `
			with used as (
			  update ops.sign_in_links l
			  set used_at = $2
			  from ops.operators o
			  where l.token_hash = $1 and l.used_at is null and l.expires_at > $2
			    and o.id = l.operator_id and o.disabled_at is null
			  returning l.operator_id
			)
			update ops.operators o
			set last_sign_in_at = $2
			from used
			where o.id = used.operator_id
			returning`+operatorColumns,
			hash, now)
		if err != nil {
			return err
		}
		return note(ctx, tx, audit.Operator(operator.ID, operator.Email), "operator.sign_in", operator, now, map[string]any{"via": "link"})
	})
	if err != nil {
		return Operator{}, postgres.Fault(fmt.Errorf("use sign-in link: %w", err))
	}
	return operator, nil
}
