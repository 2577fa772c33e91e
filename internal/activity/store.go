package activity

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
)

// Store reads what learners did, and gives up rather than take the database away
// from the run endpoint.
type Store struct {
	reader postgres.Reader
	all    postgres.Reader // of accounts, by ids that the other one found: no policy lets a learner see them
	known
}

// known is what is remembered between reports.
type known struct {
	ledger   *ledger
	memory   *memory
	accounts *accounts
}

// NewStore returns a Store that reads with reader.
func NewStore(reader postgres.Reader) *Store {
	return &Store{reader, reader, known{&ledger{}, newMemory(), &accounts{}}}
}

// As returns a Store that sees what row-level security lets the learner see.
func (s *Store) As(learnerID uuid.UUID) *Store {
	return &Store{s.reader.As(learnerID), s.all, s.known}
}

// mostQuiet and mostTemplates are how many of them a Report lists.
const (
	mostQuiet     = 100
	mostTemplates = 20
)

// Report counts what a query asks for, as of now. fault.Unavailable: there is too
// much to count in time, or the database is away.
func (s *Store) Report(ctx context.Context, q Query, now time.Time) (Report, error) {
	r, err := s.report(ctx, q, now, true)
	if postgres.TookTooLong(err) {
		return Report{}, fault.New(fault.Unavailable, "These days hold too much to count in %d seconds. Choose a shorter range, or a team.",
			int(postgres.ReadTimeout.Seconds())).Because(err)
	}
	if err != nil {
		return Report{}, fmt.Errorf("count activity: %w", err)
	}
	return r, nil
}

// count is a Report that is being made.
type count struct {
	q         Query
	plan      plan
	members   []uuid.UUID // of the teams asked for; nil: everybody
	learners  learners
	signUps   []signUp
	teams     map[uuid.UUID]*teamCount
	lessons   map[uuid.UUID]*Lesson
	templates map[uuid.UUID]*Template
	known
	lead   *uuid.UUID // as whom it is read; nil: an admin
	base   int        // the period's first day among those that are looked at
	report *Report
}

// report reads what is counted, or else rows only.
func (s *Store) report(ctx context.Context, q Query, now time.Time, counted bool) (Report, error) {
	c := count{
		q: q, teams: map[uuid.UUID]*teamCount{}, lessons: map[uuid.UUID]*Lesson{}, templates: map[uuid.UUID]*Template{},
		known: s.known, lead: s.reader.Learner(), plan: planRows(q), report: &Report{Days: daysOf(q)},
	}
	if c.lead != nil && q.TeamIDs == nil {
		c.q.TeamIDs = []uuid.UUID{} // nobody is a lead of everybody
	}
	c.base = c.plan.first.Until(q.FirstDay())
	err := s.reader.ReadAfter(ctx, func(tx pgx.Tx) (err error) {
		if counted { // when what was counted is nobody's secret
			c.plan, err = newPlan(ctx, tx, q, now)
		}
		return err
	}, func(tx pgx.Tx) (err error) {
		if c.members, err = readMembers(ctx, tx, c.q); err != nil {
			return err
		}
		led, err := c.leadsAll(ctx, tx)
		if err != nil {
			return err
		}
		if !led {
			c.plan = planRows(q)
		}
		return c.read(ctx, tx)
	})
	if err != nil {
		return Report{}, err
	}
	err = s.all.Read(ctx, func(tx pgx.Tx) error {
		if c.members != nil {
			var err error
			if c.signUps, err = readSignUps(ctx, tx, q.signedUpSince(), q.To, c.members); err != nil {
				return err
			}
		}
		if err := c.findSignUps(ctx, tx); err != nil {
			return err
		}
		return c.nameQuiet(ctx, tx, now)
	})
	if err != nil {
		return Report{}, err
	}
	c.finish(now)
	return *c.report, nil
}

// read reads everything but accounts.
func (c *count) read(ctx context.Context, tx pgx.Tx) error {
	reads := []func(context.Context, pgx.Tx) error{c.readRows, c.readLearning}
	if c.plan.counted != (daySet{}) {
		reads = append(reads, c.readCounted, c.readSums)
	}
	people := c.readTeams
	if c.members == nil {
		people = c.readEverybody
	}
	for _, read := range append(reads, people, c.nameTeams, c.nameLearning) {
		if err := read(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

// readMembers is nil for everybody.
func readMembers(ctx context.Context, tx pgx.Tx, q Query) ([]uuid.UUID, error) {
	if q.TeamIDs == nil {
		return nil, nil
	}
	rows, err := tx.Query(ctx, `select distinct user_id from public.team_members where team_id = any ($1) order by user_id`, q.TeamIDs)
	if err != nil {
		return nil, err
	}
	members, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if members == nil {
		members = []uuid.UUID{}
	}
	return members, err
}

// leadsAll says whether an admin asks, or somebody who leads all of the teams asked
// for. Of other teams row-level security lets one see what is one's own, which is counted
// together with that of others.
func (c *count) leadsAll(ctx context.Context, tx pgx.Tx) (led bool, err error) {
	if c.lead == nil {
		return true, nil
	}
	err = tx.QueryRow(ctx, `
		select not exists (
		  select from unnest($2::uuid[]) as asked (id)
		  where not exists (select from public.team_members m where m.team_id = asked.id and m.user_id = $1 and m.role = 'lead'))`,
		c.lead, c.q.TeamIDs).Scan(&led)
	return led, err
}

// teamCount is a Team that is being counted.
type teamCount struct {
	Team
	active map[uuid.UUID]bool // who ran something for it, by the rows; Active has the others
}

func (c *count) team(id uuid.UUID) *teamCount {
	if c.teams[id] == nil {
		c.teams[id] = &teamCount{Team{ID: id}, map[uuid.UUID]bool{}}
	}
	return c.teams[id]
}

func (c *count) lesson(id uuid.UUID) *Lesson {
	if c.lessons[id] == nil {
		c.lessons[id] = &Lesson{ID: id}
	}
	return c.lessons[id]
}

func (c *count) template(id uuid.UUID) *Template {
	if c.templates[id] == nil {
		c.templates[id] = &Template{ID: id}
	}
	return c.templates[id]
}

// nameTeams lists the teams for which something was run.
func (c *count) nameTeams(ctx context.Context, tx pgx.Tx) error {
	ids := make([]uuid.UUID, 0, len(c.teams))
	for id, team := range c.teams {
		if team.Runs > 0 {
			ids = append(ids, id)
		}
	}
	rows, err := tx.Query(ctx, `
		select id, name from public.teams where id = any ($1)`, ids)
	if err != nil {
		return err
	}
	var id uuid.UUID
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error {
		c.teams[id].Name = name
		return nil
	}); err != nil {
		return err
	}
	for _, id := range ids {
		team := c.teams[id]
		team.Active += len(team.active)
		c.report.Teams = append(c.report.Teams, team.Team)
	}
	sortTeams(c.report.Teams)
	return nil
}

// nameLearning lists lessons and templates.
func (c *count) nameLearning(ctx context.Context, tx pgx.Tx) error {
	for _, l := range c.lessons {
		if l.Started+l.Completed > 0 {
			c.report.Lessons = append(c.report.Lessons, *l)
		}
	}
	for _, t := range c.templates {
		if t.all() > 0 {
			c.report.Templates = append(c.report.Templates, *t)
		}
	}
	c.report.countEvents()
	c.report.Templates = mostUsed(c.report.Templates)
	var ids []uuid.UUID
	for _, l := range c.report.Lessons {
		ids = append(ids, l.ID)
	}
	for _, t := range c.report.Templates {
		ids = append(ids, t.ID)
	}
	rows, err := tx.Query(ctx, `
		select id, title, position from public.lessons where id = any ($1)
		union all
		select id, title, 0 from public.prompt_templates where id = any ($1)`, ids)
	if err != nil {
		return err
	}
	titles, positions := map[uuid.UUID]string{}, map[uuid.UUID]int{}
	var id uuid.UUID
	var title string
	var position int
	if _, err := pgx.ForEachRow(rows, []any{&id, &title, &position}, func() error {
		titles[id], positions[id] = title, position
		return nil
	}); err != nil {
		return err
	}
	for i := range c.report.Lessons {
		l := &c.report.Lessons[i]
		l.Title = titles[l.ID]
	}
	for i := range c.report.Templates {
		t := &c.report.Templates[i]
		t.Title = titles[t.ID]
	}
	sortLessons(c.report.Lessons, positions)
	return nil
}

// nameQuiet finds whose last run failed, in the period and long enough ago.
func (c *count) nameQuiet(ctx context.Context, tx pgx.Tx, now time.Time) error {
	until := now.AddDate(0, 0, -QuietDays)
	if c.q.To.Before(until) {
		until = c.q.To
	}
	var ids []uuid.UUID
	for i := range c.learners.all {
		l := &c.learners.all[i]
		if l.last.failed && !l.last.at.Before(c.q.From) && l.last.at.Before(until) && (c.members == nil || slices.Contains(c.members, l.id)) {
			ids = append(ids, l.id)
		}
	}
	rows, err := tx.Query(ctx, `select id, coalesce(email, '') from auth.users where id = any ($1) and deleted_at is null`, ids)
	if err != nil {
		return err
	}
	var id uuid.UUID
	var email string
	if _, err = pgx.ForEachRow(rows, []any{&id, &email}, func() error {
		last := c.learners.find(id).last
		c.report.Quiet = append(c.report.Quiet, Quiet{LearnerID: id, Email: email, RunID: last.id, At: last.at})
		return nil
	}); err != nil {
		return err
	}
	sortQuiet(c.report.Quiet)
	c.report.QuietAll = len(c.report.Quiet)
	c.report.Quiet = c.report.Quiet[:min(len(c.report.Quiet), mostQuiet)]
	return c.readClasses(ctx, tx)
}

// readClasses reads with what the last runs of those who went quiet failed.
func (c *count) readClasses(ctx context.Context, tx pgx.Tx) error {
	ids, times := make([]uuid.UUID, len(c.report.Quiet)), make([]time.Time, len(c.report.Quiet))
	for i, q := range c.report.Quiet {
		ids[i], times[i] = q.RunID, q.At
	}
	rows, err := tx.Query(ctx, `
		select asked.place::int - 1, a.error_class
		from unnest($1::uuid[], $2::timestamptz[]) with ordinality as asked (id, at, place), lateral (
		  select error_class from public.prompt_attempts
		  where run_id = asked.id and created_at = asked.at and error_class is not null
		  order by ordinal limit 1) a`, ids, times)
	if err != nil {
		return err
	}
	var place int
	var class string
	_, err = pgx.ForEachRow(rows, []any{&place, &class}, func() error {
		c.report.Quiet[place].Class = class
		return nil
	})
	return err
}

// Teams returns every team that may be seen, by name.
func (s *Store) Teams(ctx context.Context) ([]Team, error) {
	var teams []Team
	err := s.reader.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `select id, name from public.teams order by lower(name), id`)
		if err != nil {
			return err
		}
		teams, err = pgx.CollectRows(rows, pgx.RowToStructByNameLax[Team])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list teams: %w", err)
	}
	return teams, nil
}
