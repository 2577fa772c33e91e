package learner

import (
	"context"
	"errors"
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
	TeamIDs   []uuid.UUID
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
		fault.New(fault.Unauthenticated, "The account of this access token does not exist. Sign in again."))
}

// FindByEmail returns the learner with this address, in any case of letters. It
// is fault.NotFound when there is none and fault.Forbidden when the account is
// banned or deleted.
func (s *Store) FindByEmail(ctx context.Context, email string, now time.Time) (Learner, error) {
	return s.find(ctx, now, `lower(u.email) = $1`, strings.ToLower(strings.TrimSpace(email)),
		fault.New(fault.NotFound, "There is no learner with the address %q.", email))
}

func (s *Store) find(ctx context.Context, now time.Time, condition string, value any, missing error) (Learner, error) {
	var l Learner
	var bannedUntil, deletedAt *time.Time
	err := s.db.QueryRow(ctx, `
		select u.id, coalesce(u.email, ''), u.is_anonymous, u.banned_until, u.deleted_at,
		       array(select m.team_id from public.team_members m where m.user_id = u.id order by m.team_id)
		from auth.users u
		where `+condition+`
		order by u.deleted_at nulls first, u.created_at
		limit 1`, value).Scan(&l.ID, &l.Email, &l.Anonymous, &bannedUntil, &deletedAt, &l.TeamIDs)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Learner{}, missing
	case err != nil:
		return Learner{}, postgres.Fault(err)
	case deletedAt != nil:
		return Learner{}, fault.New(fault.Forbidden, "This account has been deleted.")
	case bannedUntil != nil && bannedUntil.After(now):
		return Learner{}, fault.New(fault.Forbidden, "This account is suspended.")
	}
	return l, nil
}
