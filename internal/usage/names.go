package usage

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// name says what the groups of a report are called. A learner's ID is left as it is;
// Filter has the address.
func (s *Store) name(ctx context.Context, q Query, r *Report) error {
	groups := map[Dimension][]*Group{}
	for i := range r.Groups {
		g := &r.Groups[i]
		groups[q.Group] = append(groups[q.Group], g)
		for at := range g.Subs {
			groups[q.Sub] = append(groups[q.Sub], &g.Subs[at])
		}
	}
	for by, all := range groups {
		ids := make([]string, len(all))
		for i, g := range all {
			ids[i] = g.ID
		}
		names, err := s.names(ctx, by, ids)
		if err != nil {
			return err
		}
		for _, g := range all {
			g.Name, g.Filter = names.of(by, g.ID)
		}
	}
	return nil
}

// names are what accounts, teams and templates are called; of those that are gone
// there are none.
type names map[string]string

func (s *Store) names(ctx context.Context, by Dimension, ids []string) (names, error) {
	sql := map[Dimension]string{
		ByTeam:     `select id::text, name from public.teams where id = any ($1::uuid[])`,
		ByTemplate: `select id::text, title from public.prompt_templates where id = any ($1::uuid[])`,
		ByLearner:  `select id::text, coalesce(email, '') from auth.users where id = any ($1::uuid[])`,
	}[by]
	if sql == "" {
		return nil, nil
	}
	var known []uuid.UUID
	for _, id := range ids {
		if id, err := uuid.Parse(id); err == nil {
			known = append(known, id)
		}
	}
	found := names{}
	err := s.all.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, known)
		if err != nil {
			return err
		}
		var id, name string
		_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error {
			found[id] = name
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("name what was counted: %w", err)
	}
	return found, nil
}

// of returns what a value of a dimension is called, and how a filter writes it; ""
// where no filter can.
func (n names) of(by Dimension, id string) (name, filter string) {
	name, known := n[id]
	short := id[:min(len(id), 8)]
	switch by {
	case ByKey:
		return map[string]string{"user": "Own keys", "fallback": "Fallback keys", "": "No key"}[id], id
	case ByTeam:
		switch {
		case id == "":
			return "No team", ""
		case !known:
			return "Deleted team", id
		}
		return name, id
	case ByTemplate:
		switch {
		case id == "":
			return "No template", ""
		case !known:
			return "Deleted template " + short, id
		}
		return name, id
	case ByLearner:
		switch {
		case id == "":
			return "Operators, on the playground", ""
		case !known:
			return "Deleted learner " + short, ""
		case name == "":
			return "Learner without an address " + short, ""
		}
		return name, name
	default:
		return id, id
	}
}
