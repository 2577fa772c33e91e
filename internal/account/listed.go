package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
)

// Listed is an operator with what an admin wants to know of them at a moment.
type Listed struct {
	Operator
	LearnerEmail  string     // of their account among the learners; empty: they have none, or it is gone
	LearnerClosed bool       // they have one, but it is gone, deleted or suspended
	Leads         []string   // the teams that it leads, by name
	Sessions      int        // open ones
	LinkUntil     *time.Time // until when a one-time link is good; nil: there is none
}

const listedColumns = operatorColumns + `,
	coalesce(u.email, '') as learner_email,
	o.learner_id is not null and (u.id is null or u.deleted_at is not null or coalesce(u.banned_until > $1, false)) as learner_closed,
	case when u.deleted_at is null and coalesce(u.banned_until <= $1, true) then array(
	  select t.name
	  from public.team_members m
	  join public.teams t on t.id = m.team_id
	  where m.user_id = u.id and m.role = 'lead'
	  order by lower(t.name), t.id) else '{}' end as leads,
	(select count(*) from ops.sessions s where s.operator_id = o.id and s.expires_at > $1 and s.last_seen_at > $2) as sessions,
	(select max(l.expires_at) from ops.sign_in_links l where l.operator_id = o.id and l.used_at is null and l.expires_at > $1) as link_until
	from ops.operators o
	left join auth.users u on u.id = o.learner_id`

// List returns all operators: those who may sign in before those who are
// disabled, by e-mail address.
func (s *Store) List(ctx context.Context, now time.Time) ([]Listed, error) {
	rows, _ := s.db.Query(ctx, `
		select`+listedColumns+`
		order by o.disabled_at is not null, lower(o.email)`, now, now.Add(-SessionIdle))
	operators, err := pgx.CollectRows(rows, pgx.RowToStructByName[Listed])
	if err != nil {
		return nil, postgres.Fault(fmt.Errorf("list operators: %w", err))
	}
	return operators, nil
}

// FindListed returns one of them; fault.NotFound if there is none.
func (s *Store) FindListed(ctx context.Context, id uuid.UUID, now time.Time) (Listed, error) {
	operator, err := one[Listed](ctx, s.db, `
		select`+listedColumns+`
		where o.id = $3`, now, now.Add(-SessionIdle), id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Listed{}, noOperator()
	}
	if err != nil {
		return Listed{}, fmt.Errorf("find operator: %w", err)
	}
	return operator, nil
}
