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
	return s.find(ctx, now, `u.id = $1`, id,
		fault.New(fault.Unauthenticated, "The account of this access token no longer exists."))
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
	var l Learner
	var bannedUntil, deletedAt *time.Time
	// An address may have been used before by accounts that are deleted now.
	err := s.db.QueryRow(ctx, `
		select u.id, coalesce(u.email, ''), u.is_anonymous, u.deleted_at,
		       case when isfinite(u.banned_until) then u.banned_until
		            when u.banned_until = 'infinity' then '9999-12-31' end,
		       array(select m.team_id from public.team_members m where m.user_id = u.id order by m.team_id)
		from auth.users u
		where `+condition+`
		order by u.deleted_at desc nulls first
		limit 1`,
		value).Scan(&l.ID, &l.Email, &l.Anonymous, &deletedAt, &bannedUntil, &l.TeamIDs)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Learner{}, missing
	case err != nil:
		return Learner{}, postgres.Fault(fmt.Errorf("find learner: %w", err))
	case deletedAt != nil:
		return Learner{}, fault.New(fault.Forbidden, "This account has been deleted.")
	case bannedUntil != nil && bannedUntil.After(now):
		return Learner{}, fault.New(fault.Forbidden, "This account is suspended.")
	}
	return l, nil
}
