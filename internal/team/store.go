package team

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Store keeps teams. Its methods return fault.NotFound for a team that is gone,
// and fault.Unavailable when the database is away.
type Store struct {
	db postgres.DB
}

// NewStore returns a Store on db.
func NewStore(db postgres.DB) *Store { return &Store{db} }

const summaryColumns = `
	t.id, t.name, t.share_prompts, t.created_at,
	(select count(*) from public.team_members m where m.team_id = t.id) as members,
	array(
	  select coalesce(nullif(u.email, ''), 'no address')
	  from public.team_members m
	  join auth.users u on u.id = m.user_id
	  where m.team_id = t.id and m.role = 'lead'
	  order by 1) as leads
	from public.teams t`

// List returns a page of the teams whose name, or the address of one of whose
// members, holds search in upper or lower case; by name. Pages count from 1.
func (s *Store) List(ctx context.Context, search string, page int) (Listing, error) {
	var listing Listing
	const matches = `
		where ($1 = '' or strpos(lower(t.name), lower($1)) > 0 or exists (
		  select from public.team_members m
		  join auth.users u on u.id = m.user_id
		  where m.team_id = t.id and strpos(lower(u.email), lower($1)) > 0))`
	if err := s.db.QueryRow(ctx, `select count(*) from public.teams t`+matches, search).Scan(&listing.Total); err != nil {
		return Listing{}, postgres.Fault(fmt.Errorf("count teams: %w", err))
	}
	rows, _ := s.db.Query(ctx, `
		select`+summaryColumns+matches+`
		order by lower(t.name), t.id
		limit $2 offset $3`, search, PageSize, (page-1)*PageSize)
	var err error
	if listing.Teams, err = pgx.CollectRows(rows, pgx.RowToStructByName[Summary]); err != nil {
		return Listing{}, postgres.Fault(fmt.Errorf("list teams: %w", err))
	}
	return listing, nil
}

// Find returns a team and those of its members whose address holds search.
func (s *Store) Find(ctx context.Context, id uuid.UUID, search string, now time.Time) (Team, error) {
	summary, err := find(ctx, s.db, id, "")
	if err != nil {
		return Team{}, postgres.Fault(fmt.Errorf("find team: %w", err))
	}
	team := Team{Summary: summary}
	rows, _ := s.db.Query(ctx, `
		select m.user_id as id, coalesce(u.email, '') as email, m.role, m.created_at as joined_at,
		       u.deleted_at is not null or coalesce(u.banned_until > $2, false) as closed,
		       exists (select from ops.operators o where o.learner_id = m.user_id and o.role = 'team_lead' and o.disabled_at is null) as operator
		from public.team_members m
		join auth.users u on u.id = m.user_id
		where m.team_id = $1 and ($3 = '' or strpos(lower(u.email), lower($3)) > 0)
		order by m.role = 'lead' desc, lower(u.email), m.user_id
		limit $4`, id, now, search, MemberLimit)
	if team.People, err = pgx.CollectRows(rows, pgx.RowToStructByName[Person]); err != nil {
		return Team{}, postgres.Fault(fmt.Errorf("find members: %w", err))
	}
	err = s.db.QueryRow(ctx, `
		select (select count(*) from public.team_templates where team_id = $1),
		       (select count(*) from (select from public.prompt_runs where team_id = $1 limit $2) some)`, id, RunLimit).Scan(&team.Templates, &team.Runs)
	if err != nil {
		return Team{}, postgres.Fault(fmt.Errorf("find team: %w", err))
	}
	return team, nil
}

func find(ctx context.Context, db postgres.DB, id uuid.UUID, lock string) (Summary, error) {
	rows, _ := db.Query(ctx, `
		select`+summaryColumns+`
		where t.id = $1`+lock, id)
	team, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Summary])
	if errors.Is(err, pgx.ErrNoRows) {
		return Summary{}, noTeam()
	}
	return team, err
}

// Create makes a team without members. It is fault.Invalid for a name that
// cannot be used. Two teams may have the same name: the platform allows it.
func (s *Store) Create(ctx context.Context, by audit.Actor, name string, now time.Time) (id uuid.UUID, err error) {
	if name, err = checkName(name); err != nil {
		return uuid.Nil, err
	}
	err = postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			insert into public.teams (name, created_at)
			values ($1, $2)
			returning id`, name, now).Scan(&id)
		if err != nil {
			return err
		}
		return note(ctx, tx, by, "team.create", Summary{ID: id, Name: name}, now, nil)
	})
	if err != nil {
		return uuid.Nil, postgres.Fault(fmt.Errorf("create team: %w", err))
	}
	return id, nil
}

// Rename gives a team another name. It is fault.Invalid for one that cannot be
// used, and fault.Conflict when the team is by now called something else than
// was.
func (s *Store) Rename(ctx context.Context, by audit.Actor, id uuid.UUID, was, name string, now time.Time) error {
	name, err := checkName(name)
	if err != nil {
		return err
	}
	return s.change(ctx, "rename team", id, func(tx pgx.Tx, team Summary) error {
		if team.Name == name {
			return nil
		}
		if team.Name != was {
			return fault.New(fault.Conflict, "Somebody else renamed this team to “%s” while this page was open. Rename it again if need be.", team.Name)
		}
		if _, err := tx.Exec(ctx, `update public.teams set name = $2 where id = $1`, id, name); err != nil {
			return err
		}
		return note(ctx, tx, by, "team.rename", team, now, map[string]any{"name": audit.Change{From: team.Name, To: name}})
	})
}

// SharePrompts says whether leads may read what members asked and got, also what
// they asked before.
func (s *Store) SharePrompts(ctx context.Context, by audit.Actor, id uuid.UUID, share bool, now time.Time) error {
	return s.change(ctx, "share prompts", id, func(tx pgx.Tx, team Summary) error {
		if team.SharePrompts == share {
			return nil
		}
		if _, err := tx.Exec(ctx, `update public.teams set share_prompts = $2 where id = $1`, id, share); err != nil {
			return err
		}
		return note(ctx, tx, by, "team.share_prompts", team, now, map[string]any{"sharePrompts": audit.Change{From: !share, To: share}})
	})
}

// Delete removes a team with its memberships and what it shares, and returns what
// it was called. Its runs stay in the books. It is fault.Invalid, on the field confirm, unless typed is the
// team's name.
func (s *Store) Delete(ctx context.Context, by audit.Actor, id uuid.UUID, typed string, now time.Time) (name string, err error) {
	err = s.change(ctx, "delete team", id, func(tx pgx.Tx, team Summary) error {
		if !team.Matches(typed) {
			return fault.InvalidFields([]fault.Field{{Field: "confirm", Message: "must be the team’s name exactly as it is written above"}})
		}
		name = team.Name
		if _, err := tx.Exec(ctx, `delete from public.teams where id = $1`, id); err != nil {
			return err
		}
		return note(ctx, tx, by, "team.delete", team, now, map[string]any{"members": team.Members, "leads": team.Leads})
	})
	return name, err
}

// change runs fn in a transaction in which nobody else changes the team.
func (s *Store) change(ctx context.Context, what string, id uuid.UUID, fn func(tx pgx.Tx, team Summary) error) error {
	err := postgres.InTx(ctx, s.db, func(tx pgx.Tx) error {
		team, err := find(ctx, tx, id, ` for update of t`)
		if err != nil {
			return err
		}
		return fn(tx, team)
	})
	if err != nil {
		return postgres.Fault(fmt.Errorf("%s: %w", what, err))
	}
	return nil
}

func note(ctx context.Context, tx pgx.Tx, by audit.Actor, action string, team Summary, now time.Time, details map[string]any) error {
	return audit.Add(ctx, tx, audit.Entry{
		At: now, Actor: by, Action: action, SubjectType: "team", SubjectID: team.ID.String(), SubjectLabel: team.Name, Details: details,
	})
}
