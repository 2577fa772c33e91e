package learner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Learner is an account of the platform that may be used.
type Learner struct {
	ID        uuid.UUID
	Email     string // empty for an anonymous sign-in
	Anonymous bool
	TeamIDs   []uuid.UUID // as lead or member
}

// Store reads accounts. Supabase owns auth.users: nothing is written here.
type Store struct {
	db postgres.DB
}

// NewStore returns a Store on db.
func NewStore(db postgres.DB) *Store { return &Store{db} }

// Find returns the learner. It is fault.Unauthenticated when there is no such
// account and fault.Forbidden when it is banned or deleted.
func (s *Store) Find(ctx context.Context, id uuid.UUID, now time.Time) (Learner, error) {
	return s.find(ctx, now, `u.id = $1`, id, ErrGone)
}

// FindByEmail returns the learner with this address, in upper or lower case. It
// is fault.NotFound when there is none and fault.Forbidden when the account is
// banned or deleted.
func (s *Store) FindByEmail(ctx context.Context, email string, now time.Time) (Learner, error) {
	email = strings.TrimSpace(email)
	return s.find(ctx, now, `lower(u.email) = lower($1)`, email,
		fault.New(fault.NotFound, "There is no learner with the address %q. Learners sign up on the platform; promptops demo load makes some to try with.", email))
}

func (s *Store) find(ctx context.Context, now time.Time, condition string, value any, missing error) (Learner, error) {
	// An address may have been used before by accounts that are deleted now.
	rows, err := s.db.Query(ctx, selectAccounts+`
		where `+condition+`
		order by u.deleted_at desc nulls first
		limit 1`, value)
	if err != nil {
		return Learner{}, postgres.Fault(fmt.Errorf("find learner: %w", err))
	}
	account, err := pgx.CollectOneRow(rows, scanAccount)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Learner{}, missing
	case err != nil:
		return Learner{}, postgres.Fault(fmt.Errorf("find learner: %w", err))
	}
	if err := account.Usable(now); err != nil {
		return Learner{}, err
	}
	return account.Learner, nil
}

// Team is a team of learners.
type Team struct {
	ID   uuid.UUID
	Name string
}

// Led returns the teams that a learner leads, by name; none for an account that is
// gone, banned or deleted.
func (s *Store) Led(ctx context.Context, id uuid.UUID, now time.Time) ([]Team, error) {
	rows, err := s.db.Query(ctx, `
		select t.id, t.name
		from auth.users u
		join public.team_members m on m.user_id = u.id and m.role = 'lead'
		join public.teams t on t.id = m.team_id
		where u.id = $1 and u.deleted_at is null and (u.banned_until is null or u.banned_until <= $2)
		order by lower(t.name), t.id`, id, now)
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("find teams led: %w", err))
	}
	teams, err := pgx.CollectRows(rows, pgx.RowToStructByName[Team])
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("find teams led: %w", err))
	}
	return teams, nil
}

// Account is a learner whose account may be closed.
type Account struct {
	Learner
	bannedUntil, deletedAt *time.Time
}

// Usable is fault.Forbidden when the account is banned or deleted.
func (a Account) Usable(now time.Time) error {
	switch {
	case a.deletedAt != nil:
		return fault.New(fault.Forbidden, "This account has been deleted.")
	case a.bannedUntil != nil && a.bannedUntil.After(now):
		return fault.New(fault.Forbidden, "This account is suspended.")
	}
	return nil
}

// ErrGone is what Find returns when there is no such account.
var ErrGone = fault.New(fault.Unauthenticated, "The account of this access token no longer exists.")

// QueueAccounts adds to a batch the question for these accounts. found is told
// of each that exists when the batch is read.
func QueueAccounts(batch *pgx.Batch, ids []uuid.UUID, found func(Account)) {
	batch.Queue(selectAccounts+`where u.id = any($1)`, ids).Query(func(rows pgx.Rows) error {
		accounts, err := pgx.CollectRows(rows, scanAccount)
		for _, account := range accounts {
			found(account)
		}
		return err
	})
}

const selectAccounts = `
	select u.id, coalesce(u.email, ''), u.is_anonymous, u.deleted_at,
	       case when isfinite(u.banned_until) then u.banned_until
	            when u.banned_until = 'infinity' then '9999-12-31' end,
	       array(select m.team_id from public.team_members m where m.user_id = u.id order by m.team_id)
	from auth.users u
	`

func scanAccount(row pgx.CollectableRow) (a Account, err error) {
	err = row.Scan(&a.ID, &a.Email, &a.Anonymous, &a.deletedAt, &a.bannedUntil, &a.TeamIDs)
	return a, err
}
