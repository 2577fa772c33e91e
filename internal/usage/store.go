package usage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/rollup"
)

// Store reads prompt_attempts and the sums that are kept of it, and gives up rather
// than take the database away from the run endpoint.
type Store struct {
	reader postgres.Reader
	all    postgres.Reader // of what that which was found is called, and no policy lets a learner see
}

// NewStore returns a Store that reads with reader.
func NewStore(reader postgres.Reader) *Store { return &Store{reader, reader} }

// As returns a Store that sees what row-level security lets the learner see.
func (s *Store) As(learnerID uuid.UUID) *Store { return &Store{s.reader.As(learnerID), s.all} }

// Report counts the attempts of a query. fault.Unavailable: there are too many
// to count in time, or the database is away.
func (s *Store) Report(ctx context.Context, q Query) (report Report, err error) {
	q = q.withDefaults()
	learner, err := s.learner(ctx, q.Learner)
	if err == nil {
		err = s.read(ctx, func(tx pgx.Tx) error {
			report, err = s.report(ctx, tx, source{q, learner})
			return err
		})
	}
	if err == nil {
		err = s.name(ctx, q, &report)
	}
	if err != nil {
		return Report{}, fmt.Errorf("count usage: %w", err)
	}
	return report, nil
}

// Span is a stretch of time: From counts, To no longer does.
type Span struct{ From, To time.Time }

// Totals counts all attempts of each span, at the same moment. It fails like
// Report.
func (s *Store) Totals(ctx context.Context, zone *time.Location, spans ...Span) (totals []Totals, err error) {
	err = s.read(ctx, func(tx pgx.Tx) error {
		for _, span := range spans {
			q := Query{From: span.From, To: span.To, Zone: zone}.withDefaults()
			known, err := s.known(ctx, tx, q, span.From)
			if err != nil {
				return err
			}
			c := newCount(source{q: q}, known, []time.Time{span.From, span.To})
			c.ask(set{}, nil, nil, true)
			if err := c.send(ctx, tx); err != nil {
				return err
			}
			totals = append(totals, c.found[set{}][key{bucket: 1}].totals())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count usage: %w", err)
	}
	return totals, nil
}

// learner finds the account that a filter names. For an address that nobody has it
// is uuid.Nil, which never ran anything: who may not see a learner does not get to
// know either whether there is one.
func (s *Store) learner(ctx context.Context, email string) (*uuid.UUID, error) {
	if email == "" {
		return nil, nil
	}
	var id uuid.UUID
	err := s.all.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `select id from auth.users where lower(email) = lower($1)`, email).Scan(&id)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return &id, err
}

// known are the sums that hold from an instant to the end of a query. They are
// closed to learners, and of the teams of a lead there are few rows, which have an
// index.
func (s *Store) known(ctx context.Context, tx pgx.Tx, q Query, from time.Time) (rollup.Known, error) {
	if s.reader.Learner() != nil || q.TeamIDs != nil {
		return rollup.Known{}, nil
	}
	return rollup.Read(ctx, tx, q.Zone, from, q.To)
}

// report counts in two steps: first what is needed to know which groups are the
// largest, then what is shown of those.
func (s *Store) report(ctx context.Context, tx pgx.Tx, src source) (Report, error) {
	q, boundaries := src.q, src.q.boundaries()
	before, from := source{q.Previous(), src.learner}, q.From
	if q.Compare {
		from = before.q.From
	}
	known, err := s.known(ctx, tx, q, from)
	if err != nil {
		return Report{}, err
	}
	byDuration := q.Metric == Durations || q.Metric == FirstToken
	whole, groups, points := set{}, set{group: true}, set{bucket: true}
	lines, subs := set{bucket: true, group: true}, set{group: true, sub: true}

	first := newCount(src, known, boundaries)
	first.ask(whole, nil, nil, true)
	first.ask(groups, nil, nil, false)
	first.ask(points, q.Metric.columns(), nil, byDuration)
	if !byDuration {
		first.askRows(lines)
	}
	if q.Sub != "" {
		first.askRows(subs)
	}
	if err := first.send(ctx, tx); err != nil {
		return Report{}, err
	}
	r := Report{Totals: first.found[whole][key{bucket: 1}].totals(), Points: first.found[points].points(boundaries, byDuration)}
	most := MostGroups
	if q.Sub != "" {
		most = MostDivided
	}
	r.Groups, r.Others = cut(first.found[groups].groups(q.Metric), most, r.Totals, q.Group)

	ids := make([]string, len(r.Groups))
	for i, g := range r.Groups {
		ids[i] = g.ID
	}
	top := ids[:min(len(ids), MostLines)]
	if len(ids) > 0 {
		first.ask(groups, []string{}, ids, true)
		if !byDuration {
			first.ask(lines, q.Metric.columns(), top, false)
		}
		if q.Sub != "" {
			first.ask(subs, nil, ids, true)
		}
		if err := first.send(ctx, tx); err != nil {
			return Report{}, err
		}
	}
	for i := range r.Groups {
		g := &r.Groups[i]
		t := first.found[groups][key{1, g.ID, ""}]
		g.Latency, g.FirstToken = latencyOf(t.latency), latencyOf(t.first)
		if i < len(top) && !byDuration {
			g.Points = make([]Sums, len(r.Points))
			for at := range g.Points {
				if t := first.found[lines][key{int32(at + 1), g.ID, ""}]; t != nil {
					g.Points[at] = Sums{t.Sum, t.runs}
				}
			}
		}
		if q.Sub != "" {
			g.Subs, g.OtherSubs = cut(first.found[subs].of(g.ID).groups(q.Metric), MostSubs, g.Totals, q.Sub)
		}
	}
	if !q.Compare {
		return r, nil
	}
	earlier := newCount(before, known, q.mirrored())
	earlier.ask(whole, nil, nil, true)
	earlier.ask(points, q.Metric.columns(), nil, byDuration)
	if err := earlier.send(ctx, tx); err != nil {
		return Report{}, err
	}
	r.Before = &Earlier{before.q.From, before.q.To, earlier.found[whole][key{bucket: 1}].totals(), earlier.found[points].points(q.mirrored(), byDuration)}
	return r, nil
}

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
	type option struct {
		Provider string
		Model    string
		TeamID   *uuid.UUID
		TeamName string
	}
	var found []option
	err := s.read(ctx, func(tx pgx.Tx) error {
		known, err := s.known(ctx, tx, q, q.From)
		if err != nil {
			return err
		}
		models, teams := known.Plan(rollup.Model, []time.Time{q.From, q.To}), known.Plan(rollup.Team, []time.Time{q.From, q.To})
		var sums string
		args := []any{q.Provider, q.Model, q.TeamID, q.TeamIDs, models.From, models.To, teams.From, teams.To}
		if len(models.Periods) > 0 { // a learner may not even name the table
			sums = `
			  union
			  select distinct provider, model, null::uuid from ops.usage_sums where period_id = any ($9::bigint[]) and kind = 'model' and model <> '*'
			  union
			  select distinct '', '', subject_id from ops.usage_sums where period_id = any ($10::bigint[]) and kind = 'team'`
			args = append(args, models.Periods, teams.Periods)
		}
		found, err = collect[option](ctx, tx, `
			select used.provider, used.model, used.team_id, coalesce(teams.name, 'Deleted team') as team_name
			from (
			  select $1::text as provider, $2::text as model, $3::uuid as team_id
			  union
			  select distinct a.provider, a.model, null::uuid
			  from unnest($5::timestamptz[], $6::timestamptz[]) as span (from_at, to_at)
			  join public.prompt_attempts a on a.created_at >= span.from_at and a.created_at < span.to_at
			  where $4::uuid[] is null or a.team_id = any ($4)
			  union
			  select distinct '', '', a.team_id
			  from unnest($7::timestamptz[], $8::timestamptz[]) as span (from_at, to_at)
			  join public.prompt_attempts a on a.created_at >= span.from_at and a.created_at < span.to_at
			  where $4::uuid[] is null or a.team_id = any ($4)`+sums+`
			) used
			left join public.teams on teams.id = used.team_id`, args...)
		return err
	})
	if err != nil {
		return Options{}, fmt.Errorf("list usage filters: %w", err)
	}

	var o Options
	for _, f := range found {
		if f.Provider != "" {
			o.Providers = append(o.Providers, f.Provider)
		}
		if f.Model != "" {
			o.Models = append(o.Models, f.Model)
		}
		if f.TeamID != nil {
			o.Teams = append(o.Teams, Team{*f.TeamID, f.TeamName})
		}
	}
	if q.TemplateID != nil {
		seen := &Store{s.reader, s.reader} // whoever asks may have made the id up
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

func sortedUnique[T comparable](all []T, compare func(a, b T) int) []T {
	slices.SortFunc(all, compare)
	return slices.Compact(all)
}

func collect[T any](ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[T])
}

// read is Read with a message for whoever asked for too many days.
func (s *Store) read(ctx context.Context, fn func(tx pgx.Tx) error) error {
	err := s.reader.Read(ctx, fn)
	if postgres.TookTooLong(err) {
		return fault.New(fault.Unavailable, "These days hold too much to count in %d seconds. Choose a shorter range, or narrow the filters.",
			int(postgres.ReadTimeout.Seconds())).Because(err)
	}
	return err
}
