package team

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
)

// Add makes the learner with this address a member or lead. It is fault.Invalid,
// on the field email, when there is no such learner or they are in the team
// already.
func (s *Store) Add(ctx context.Context, by audit.Actor, id uuid.UUID, email string, role Role, now time.Time) (Person, error) {
	if err := checkRole(role); err != nil {
		return Person{}, err
	}
	refuse := func(message string) error {
		return fault.InvalidFields([]fault.Field{{Field: "email", Message: message}})
	}
	email = strings.TrimSpace(email)
	if email == "" || strings.ContainsRune(email, 0) {
		return Person{}, refuse("is missing; give the address with which the learner signed up")
	}
	person := Person{Role: role, JoinedAt: now}
	err := s.change(ctx, "add member", id, func(tx pgx.Tx, team Summary) error {
		err := tx.QueryRow(ctx, `
			select id, email
			from auth.users
			where lower(email) = lower($1) and deleted_at is null
			limit 1`, email).Scan(&person.ID, &person.Email)
		if errors.Is(err, pgx.ErrNoRows) {
			return refuse("belongs to no learner; they have to sign up on the platform first")
		}
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			insert into public.team_members (team_id, user_id, role, created_at)
			values ($1, $2, $3, $4)
			on conflict do nothing`, id, person.ID, role, now)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return refuse("is in this team already; change their role in the list")
		}
		return note(ctx, tx, by, "team.add_member", team, now, map[string]any{"learnerId": person.ID, "email": person.Email, "role": role})
	})
	return person, err
}

// SetRole makes a member lead, or a lead member, from their next request on. It
// is fault.NotFound for whoever is not in the team any more.
func (s *Store) SetRole(ctx context.Context, by audit.Actor, id, learnerID uuid.UUID, role Role, now time.Time) (Person, error) {
	if err := checkRole(role); err != nil {
		return Person{}, err
	}
	var person Person
	err := s.change(ctx, "set role", id, func(tx pgx.Tx, team Summary) (err error) {
		if person, err = member(ctx, tx, id, learnerID); err != nil || person.Role == role {
			return err
		}
		_, err = tx.Exec(ctx, `
			update public.team_members
			set role = $3
			where team_id = $1 and user_id = $2`, id, learnerID, role)
		if err != nil {
			return err
		}
		was := person.Role
		person.Role = role
		return note(ctx, tx, by, "team.set_role", team, now, map[string]any{
			"learnerId": learnerID, "email": person.Email, "role": audit.Change{From: was, To: role},
		})
	})
	return person, err
}

// Remove takes somebody out of a team. What they ran for it stays the team's. It
// is fault.NotFound for whoever is not in it any more.
func (s *Store) Remove(ctx context.Context, by audit.Actor, id, learnerID uuid.UUID, now time.Time) (Person, error) {
	var person Person
	err := s.change(ctx, "remove member", id, func(tx pgx.Tx, team Summary) (err error) {
		if person, err = member(ctx, tx, id, learnerID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from public.team_members where team_id = $1 and user_id = $2`, id, learnerID); err != nil {
			return err
		}
		return note(ctx, tx, by, "team.remove_member", team, now, map[string]any{"learnerId": learnerID, "email": person.Email, "role": person.Role})
	})
	return person, err
}

func member(ctx context.Context, tx pgx.Tx, id, learnerID uuid.UUID) (person Person, err error) {
	person.ID = learnerID
	err = tx.QueryRow(ctx, `
		select coalesce(u.email, ''), m.role, m.created_at
		from public.team_members m
		join auth.users u on u.id = m.user_id
		where m.team_id = $1 and m.user_id = $2
		for update of m`, id, learnerID).Scan(&person.Email, &person.Role, &person.JoinedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return Person{}, fault.New(fault.NotFound, "This learner is not in the team any more.")
	}
	return person, err
}
