package activity

import (
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
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
)

// Learner is one learner, and what they did so far.
type Learner struct {
	ID         uuid.UUID
	Email      string
	SignedUpAt time.Time
	Anonymous  bool
	Closed     string       // "banned" or "deleted"; "" for an account that may be used
	Teams      []Membership // that may be seen
	Keys       []Key

	Runs      int64
	LastRunAt *time.Time
	Own       Spent // attempts on keys of their own; Runs is not counted
	Fallback  Spent // attempts on fallback keys
	Other     Spent // attempts without a key
	Started   int64 // lessons
	Completed int64
}

// Membership is a team and the learner's role in it.
type Membership struct {
	TeamID uuid.UUID
	Name   string
	Role   string
}

// Key is the state of a learner's own key. It never holds the key.
type Key struct {
	Provider string
	Label    string // "" when it is not for the reader; so is LastFour
	LastFour string
	Status   string
	AddedAt  time.Time
}

// Event is one entry of a learner's timeline.
type Event struct {
	At     time.Time
	Kind   string // run, key_added, key_status, lesson_started, lesson_completed, template
	Ref    string // id of the run, the key, the lesson or the event
	What   string // models, provider, title; "" when it is not for the reader
	Detail string // status of the run or key, score, what was done with the template
}

// Place is where a timeline goes on: after the event with this At, Kind and Ref.
// The zero value is the beginning.
type Place struct {
	At   time.Time
	Kind string
	Ref  string
}

// String is the inverse of ParsePlace; "" for the beginning.
func (p Place) String() string {
	if p.At.IsZero() {
		return ""
	}
	return p.At.UTC().Format(time.RFC3339Nano) + "~" + p.Kind + "~" + p.Ref
}

var kinds = []string{"key_added", "key_status", "lesson_completed", "lesson_started", "run", "template"}

// ParsePlace reads a Place from a URL. fault.Invalid: it is none.
func ParsePlace(text string) (Place, error) {
	if text == "" {
		return Place{}, nil
	}
	parts := strings.SplitN(text, "~", 3)
	if len(parts) == 3 && slices.Contains(kinds, parts[1]) && len(parts[2]) <= 36 {
		if at, err := time.Parse(time.RFC3339Nano, parts[0]); err == nil && at.Year() > 1970 && at.Year() < 9999 {
			return Place{at, parts[1], parts[2]}, nil
		}
	}
	return Place{}, fault.InvalidFields([]fault.Field{{Field: "before", Message: "is no place in a timeline"}})
}

// Learner returns a learner. teamIDs are the teams whose members, and runs, may be
// seen; nil: all. In days of zone some of it may have been summed, which changes no
// figure. fault.NotFound: there is none who may be seen; fault.Unavailable: the database
// is away or too busy.
func (s *Store) Learner(ctx context.Context, id uuid.UUID, teamIDs []uuid.UUID, now time.Time, zone *time.Location) (Learner, error) {
	l := Learner{ID: id}
	err := s.reader.Read(ctx, func(tx pgx.Tx) error {
		if err := l.readTeams(ctx, tx, teamIDs); err != nil {
			return err
		}
		if teamIDs != nil && len(l.Teams) == 0 {
			return fault.New(fault.NotFound, "There is no such learner in the teams that you lead.")
		}
		if err := l.readKeys(ctx, tx); err != nil {
			return err
		}
		if err := l.readDeeds(ctx, tx, teamIDs); err != nil {
			return err
		}
		begin, end := time.Unix(0, 0), endOfTime()
		plan := rollup.Rows(begin, end)
		if s.reader.Learner() == nil && teamIDs == nil {
			sums, err := rollup.Read(ctx, tx, zone, begin, end)
			if err != nil {
				return err
			}
			plan = sums.Plan(rollup.Learner, []time.Time{begin, end})
		}
		return l.readSpent(ctx, tx, teamIDs, plan)
	})
	if err == nil {
		err = s.all.Read(ctx, func(tx pgx.Tx) error { return l.readAccount(ctx, tx, now, s.reader.Learner() == nil) })
	}
	if err != nil {
		return Learner{}, fmt.Errorf("read learner %s: %w", id, err)
	}
	return l, nil
}

func (l *Learner) readTeams(ctx context.Context, tx pgx.Tx, teamIDs []uuid.UUID) error {
	rows, err := tx.Query(ctx, `
		select m.team_id, t.name, m.role
		from public.team_members m
		join public.teams t on t.id = m.team_id
		where m.user_id = $1 and ($2::uuid[] is null or m.team_id = any ($2))
		order by lower(t.name), t.id`, l.ID, teamIDs)
	if err != nil {
		return err
	}
	l.Teams, err = pgx.CollectRows(rows, pgx.RowToStructByName[Membership])
	return err
}

func (l *Learner) readKeys(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
		select provider, label, last_four, status, created_at as added_at
		from public.user_api_keys
		where user_id = $1
		order by provider, created_at, id`, l.ID)
	if err != nil {
		return err
	}
	l.Keys, err = pgx.CollectRows(rows, pgx.RowToStructByName[Key])
	return err
}

// ranForThem limits a learner's runs and attempts to the teams $2. It is written so that
// no index answers it: a learner's rows are few and a team's are many, but beside what
// row-level security asks for the planner would take those of the team.
const ranForThem = `($2::uuid[] is null or (team_id = any ($2)) is true)`

func (l *Learner) readDeeds(ctx context.Context, tx pgx.Tx, teamIDs []uuid.UUID) error {
	err := tx.QueryRow(ctx, `
		select count(*), max(created_at)
		from public.prompt_runs
		where user_id = $1 and `+ranForThem, l.ID, teamIDs).Scan(&l.Runs, &l.LastRunAt)
	if err != nil {
		return err
	}
	return tx.QueryRow(ctx, `
		select count(*), count(completed_at) from public.user_progress where user_id = $1`, l.ID).Scan(&l.Started, &l.Completed)
}

// readSpent adds up attempts by whose key paid: sums where they hold, which are of all
// teams, and the rows of the rest.
func (l *Learner) readSpent(ctx context.Context, tx pgx.Tx, teamIDs []uuid.UUID, plan rollup.Plan) error {
	parts, args := []string{}, []any{l.ID, teamIDs}
	if len(plan.Periods) > 0 { // else they may be closed to the reader
		args = append(args, plan.Periods)
		parts = append(parts, `
		  select key_source, cost, unpriced from ops.usage_sums
		  where period_id = any ($3) and kind = 'learner' and subject_id = $1 and key_source <> '*' `)
	}
	for i := range plan.From {
		args = append(args, plan.From[i], plan.To[i])
		parts = append(parts, fmt.Sprintf(`
		  select coalesce(key_source, ''), coalesce(cost_usd, 0), (cost_usd is null and status <> 'running')::int from public.prompt_attempts
		  where user_id = $1 and created_at >= $%d and created_at < $%d and `, len(args)-1, len(args))+ranForThem)
	}
	rows, err := tx.Query(ctx, `
		select source, sum(cost) as cost, sum(unpriced)::bigint as unpriced
		from (`+strings.Join(parts, ` union all `)+`) spent (source, cost, unpriced)
		group by source`, args...)
	if err != nil {
		return err
	}
	var source string
	var cost price.USD
	var unpriced int64
	_, err = pgx.ForEachRow(rows, []any{&source, &cost, &unpriced}, func() error {
		spent := map[string]*Spent{"user": &l.Own, "fallback": &l.Fallback, "": &l.Other}[source]
		spent.Cost, spent.Unpriced = cost, unpriced
		return nil
	})
	return err
}

// readAccount reads what no policy lets anybody but us see. What tells keys apart
// is for admins.
func (l *Learner) readAccount(ctx context.Context, tx pgx.Tx, now time.Time, admin bool) error {
	err := tx.QueryRow(ctx, `
		select coalesce(email, ''), coalesce(created_at, '-infinity'), is_anonymous,
		       case when deleted_at is not null then 'deleted' when banned_until > $2 then 'banned' else '' end
		from auth.users where id = $1`, l.ID, now).Scan(&l.Email, &l.SignedUpAt, &l.Anonymous, &l.Closed)
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.New(fault.NotFound, "There is no such learner, or the account is gone.")
	}
	if !admin {
		for i := range l.Keys {
			l.Keys[i].Label, l.Keys[i].LastFour = "", ""
		}
	}
	return err
}

// Timeline returns up to limit entries of a learner's timeline, the latest first,
// and where it goes on; the zero Place: nowhere. Whether the learner may be seen is
// for Learner to say. It fails like Learner.
func (s *Store) Timeline(ctx context.Context, id uuid.UUID, teamIDs []uuid.UUID, from Place, limit int) ([]Event, Place, error) {
	var events []Event
	if from.At.IsZero() { // later than everything
		from = Place{At: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
	}
	err := s.reader.Read(ctx, func(tx pgx.Tx) error {
		// Of each kind as many as a page has are enough, and an index has them in order.
		rows, err := tx.Query(ctx, `
			select at, kind, ref, what, detail from (
			  (select created_at as at, 'run' as kind, id::text as ref, array_to_string(models, ', ') as what, status as detail
			   from public.prompt_runs
			   where user_id = $1 and `+ranForThem+` and created_at <= $3 and (created_at, 'run', id::text) < ($3, $4, $5)
			   order by created_at desc, id desc limit $6)
			  union all
			  (select e.created_at, 'template', e.id::text, coalesce(t.title, ''), e.event
			   from public.template_events e
			   left join public.prompt_templates t on t.id = e.template_id
			   where e.user_id = $1 and e.created_at <= $3 and (e.created_at, 'template', e.id::text) < ($3, $4, $5)
			   order by e.created_at desc, e.id::text desc limit $6)
			  union all
			  select p.started_at, 'lesson_started', p.lesson_id::text, coalesce(l.title, ''), ''
			  from public.user_progress p left join public.lessons l on l.id = p.lesson_id
			  where p.user_id = $1
			  union all
			  select p.completed_at, 'lesson_completed', p.lesson_id::text, coalesce(l.title, ''), coalesce(p.score::text, '')
			  from public.user_progress p left join public.lessons l on l.id = p.lesson_id
			  where p.user_id = $1 and p.completed_at is not null
			  union all
			  select created_at, 'key_added', id::text, provider, ''
			  from public.user_api_keys where user_id = $1
			  union all
			  select status_at, 'key_status', id::text, provider, status
			  from public.user_api_keys where user_id = $1 and status <> 'healthy' and status_at > created_at
			) events
			where (at, kind, ref) < ($3, $4, $5)
			order by at desc, kind desc, ref desc
			limit $6`, id, teamIDs, from.At, from.Kind, from.Ref, limit+1)
		if err != nil {
			return err
		}
		events, err = pgx.CollectRows(rows, pgx.RowToStructByName[Event])
		return err
	})
	if postgres.TookTooLong(err) {
		return nil, Place{}, fault.New(fault.Unavailable, "This timeline is too long to be read now. Try again in a minute.").Because(err)
	}
	if err != nil {
		return nil, Place{}, fmt.Errorf("read timeline of %s: %w", id, err)
	}
	if len(events) <= limit {
		return events, Place{}, nil
	}
	events = events[:limit]
	last := events[limit-1]
	return events, Place{last.At, last.Kind, last.Ref}, nil
}
