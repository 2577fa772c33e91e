package usage

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/rollup"
)

// Options are the values that a query's filters can usefully have.
type Options struct {
	Providers []string
	Models    []string
	Teams     []Team
	Template  string // what the chosen one is called
}

// Team is a team that asked for something.
type Team struct {
	ID   uuid.UUID
	Name string
}

// Options returns what occurs in a query's days whatever its filters, in its
// TeamIDs only, in alphabetical order, and what the filters are set to even if it does not occur.
// It fails like Report.
func (s *Store) Options(ctx context.Context, q Query) (Options, error) {
	var o Options
	err := s.read(ctx, func(tx pgx.Tx) error {
		known, err := s.known(ctx, tx, q, q.From)
		if err != nil {
			return err
		}
		all := Query{From: q.From, To: q.To, Zone: q.Zone, TeamIDs: q.TeamIDs}
		models, err := s.occurring(ctx, tx, known, all, ByProvider, ByModel)
		if err != nil {
			return err
		}
		for place := range models {
			o.Providers, o.Models = append(o.Providers, place.group), append(o.Models, place.sub)
		}
		teams, err := s.occurring(ctx, tx, known, all, ByTeam, "")
		if err != nil {
			return err
		}
		ids := []string{}
		for place := range teams {
			ids = append(ids, place.group)
		}
		if q.TeamID != nil {
			ids = append(ids, q.TeamID.String())
		}
		o.Teams, err = collect[Team](ctx, tx, `
			select id, coalesce(teams.name, 'Deleted team') as name
			from (select distinct nullif(text, '')::uuid as id from unnest($1::text[]) text) used
			left join public.teams using (id)
			where id is not null`, ids)
		return err
	})
	if err != nil {
		return Options{}, fmt.Errorf("list usage filters: %w", err)
	}

	if q.Provider != "" {
		o.Providers = append(o.Providers, q.Provider)
	}
	if q.Model != "" {
		o.Models = append(o.Models, q.Model)
	}
	if q.TemplateID != nil {
		seen := &Store{s.reader, s.reader, s.memory, s.sums} // whoever asks may have made the id up
		templates, err := seen.names(ctx, ByTemplate, []string{q.TemplateID.String()})
		if err != nil {
			return Options{}, err
		}
		o.Template = cmp.Or(templates[q.TemplateID.String()], "Template "+q.TemplateID.String()[:8])
	}
	o.Providers = sortedUnique(o.Providers, strings.Compare)
	o.Models = sortedUnique(o.Models, strings.Compare)
	o.Teams = sortedUnique(o.Teams, func(a, b Team) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return o, nil
}

// occurring are the values that there are of one or two dimensions.
func (s *Store) occurring(ctx context.Context, tx pgx.Tx, known rollup.Known, q Query, by, sub Dimension) (tallies, error) {
	q.Group, q.Sub = by, sub
	of := set{group: true, sub: sub != ""}
	c := s.newCount(s.source(q, nil), known, []time.Time{q.From, q.To})
	c.ask(of, []string{}, nil, false)
	err := c.send(ctx, tx)
	return c.found[of], err
}
