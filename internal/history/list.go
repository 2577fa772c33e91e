package history

import (
	"context"
	"encoding/binary"
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
)

// Listed is one run in a list.
type Listed struct {
	ID              uuid.UUID
	StartedAt       time.Time
	Status          string
	Who             Who
	Team            *Named
	Template        *Named
	ClientRequestID string
	Models          []string // as requested, in their order
	Stream          bool
	DurationMs      *int64 // nil: it is running, or nobody was there to see it end
	Tokens          *int64
	Cost            *price.USD // of the priced attempts
	Unpriced        int
	KeySources      []string // user, fallback, both or none
	ErrorClasses    []string // of its attempts, each once
}

// Cursor is a place in a list: right after the run Before, or right before the
// run After. The zero value is the beginning.
type Cursor struct {
	Before, After uuid.UUID
}

// Page is a part of a list, newest run first.
type Page struct {
	Runs  []Listed
	Newer bool // there are runs before the first one
	Older bool // there are runs after the last one

	// Further is where to go on in the same direction, when these are only those of the
	// runs that could be looked through in the time there is; nil: nobody knows of more.
	Further *Cursor
}

// MostCounted is as far as Count counts.
const MostCounted = 1000

// List returns up to limit runs from a cursor on. A run's place is its id, which
// begins with the millisecond in which it started, so a page stays the same
// while others run. It fails like Run.
//
// Where hardly any run passes, it may be fewer than there are: see Page.Further.
func (s *Store) List(ctx context.Context, f Filter, at Cursor, limit int) (Page, error) {
	return s.list(ctx, f, at, limit, s.search)
}

func (s *Store) list(ctx context.Context, f Filter, at Cursor, limit int, how search) (Page, error) {
	var rows []listedRow
	var further *Cursor
	learner, err := s.learner(ctx, f)
	if err == nil {
		rows, further, err = s.find(ctx, f, learner, at, limit+1, how)
	}
	if err != nil {
		return Page{}, fmt.Errorf("list runs: %w", err)
	}
	page := Page{Newer: at.Before != uuid.Nil, Older: len(rows) > limit, Further: further}
	rows = rows[:min(limit, len(rows))]
	if at.After != uuid.Nil {
		page.Newer, page.Older = page.Older, true
		slices.Reverse(rows)
	}
	page.Runs, err = s.listed(ctx, rows)
	return page, err
}

// Count returns how many runs pass, up to MostCounted+1, which stands for more.
// It is -1 when they cannot be counted at once.
func (s *Store) Count(ctx context.Context, f Filter) (int, error) {
	count := 0
	learner, err := s.learner(ctx, f)
	if err == nil {
		err = s.reader.Read(ctx, func(tx pgx.Tx) error {
			q, err := newQuery(ctx, tx, f, learner, Cursor{}, uuid.Nil, MostCounted+1)
			if err == nil {
				count, err = q.count(ctx, tx, f)
			}
			return err
		})
	}
	if postgres.TookTooLong(err) {
		return -1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("count runs: %w", err)
	}
	return count, nil
}

// Neighbours returns the runs next to one in a list; uuid.Nil for none, or when
// finding out takes too long.
func (s *Store) Neighbours(ctx context.Context, f Filter, id uuid.UUID) (newer, older uuid.UUID, err error) {
	learner, err := s.learner(ctx, f)
	find := func(at Cursor) (found uuid.UUID, err error) {
		err = s.reader.Read(ctx, func(tx pgx.Tx) error {
			q, err := newQuery(ctx, tx, f, learner, at, uuid.Nil, 1)
			if err == nil {
				found, err = q.first(ctx, tx)
			}
			return err
		})
		if postgres.TookTooLong(err) {
			return uuid.Nil, nil
		}
		return found, err
	}
	if err == nil {
		newer, err = find(Cursor{After: id})
	}
	if err == nil {
		older, err = find(Cursor{Before: id})
	}
	if err != nil {
		return uuid.Nil, uuid.Nil, fmt.Errorf("find neighbours of run %s: %w", id, err)
	}
	return newer, older, nil
}

// Choices are values that occur among the newest runs of a filter's days.
type Choices struct {
	Models    []string
	Templates []Named
	Teams     []Named // every team that may be seen
}

// recent is how many runs are looked at for Choices.
const recent = 1000

// Choices returns what can usefully be asked for, in alphabetical order.
func (s *Store) Choices(ctx context.Context, f Filter) (Choices, error) {
	var c Choices
	err := s.read(ctx, func(tx pgx.Tx) error {
		q, err := newQuery(ctx, tx, Filter{Period: f.Period, TeamIDs: f.TeamIDs}, uuid.Nil, Cursor{}, uuid.Nil, recent)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `
			with found as materialized (`+q.sql+`)
			select distinct model from found cross join unnest(found.models) as model order by model`, q.args)
		if err != nil {
			return err
		}
		if c.Models, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		if f.TemplateID != nil {
			q.args["chosen"] = *f.TemplateID
		} else {
			q.args["chosen"] = nil
		}
		rows, err = tx.Query(ctx, `
			with found as materialized (`+q.sql+`)
			select id, title as name from public.prompt_templates
			where id in (select template_id from found) or id = @chosen
			order by title, id`, q.args)
		if err != nil {
			return err
		}
		if c.Templates, err = pgx.CollectRows(rows, pgx.RowToStructByName[Named]); err != nil {
			return err
		}
		rows, err = tx.Query(ctx, `select id, name from public.teams order by lower(name), id`)
		if err != nil {
			return err
		}
		c.Teams, err = pgx.CollectRows(rows, pgx.RowToStructByName[Named])
		return err
	})
	if err != nil {
		return Choices{}, fmt.Errorf("list filters of runs: %w", err)
	}
	return c, nil
}

// query finds the runs of a filter from a cursor on, in the cursor's direction.
type query struct {
	sql  string // columns of listedColumns
	args pgx.NamedArgs
}

const (
	newestFirst = "r.created_at desc, r.id desc"
	oldestFirst = "r.created_at, r.id"
	runColumns  = `r.id, r.created_at, r.status, r.user_id, r.operator_id, r.team_id, r.template_id, r.client_request_id,
		r.models, r.stream, r.duration_ms, r.total_tokens, r.total_cost_usd, r.unpriced`
)

// newQuery decides from which end to look: whatever is asked for, an index gives
// the runs in the order of the list, so that looking ends with the page. learner
// is f.Learner's account. It finds none beyond the run edge, unless that is uuid.Nil.
func newQuery(ctx context.Context, tx pgx.Tx, f Filter, learner uuid.UUID, at Cursor, edge uuid.UUID, limit int) (*query, error) {
	w := where{args: pgx.NamedArgs{"limit": limit}}
	if f.Learner != "" || f.TeamIDs != nil {
		// Postgres takes what a lead may see for far less than it is, and would rather sort
		// all of it than walk along the index for a page.
		if _, err := tx.Exec(ctx, `select set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)`); err != nil {
			return nil, err
		}
	}
	if f.RequestID != "" {
		found, err := hasRun(ctx, tx, f.RequestID)
		if err != nil {
			return nil, err
		}
		if found != nil {
			f.Period.From, f.Period.To = time.Time{}, time.Time{}
			w.add("r.id = @run and r.created_at = @runAt", "run", *found, "runAt", createdAt(*found))
		} else {
			w.add("r.client_request_id = @request", "request", f.RequestID)
		}
	}
	if f.Learner != "" {
		w.add("r.user_id = @learner", "learner", learner)
	}
	w.filter(f)

	order, byID := newestFirst, "r.id desc"
	if at.After != uuid.Nil {
		order, byID = oldestFirst, "r.id"
	}
	switch {
	case f.Learner != "":
		if f.TeamIDs != nil {
			w.add("r.team_id = any (@teams)", "teams", f.TeamIDs)
		}
		w.attempts(f)
		w.from(at, edge, false, f)
		return &query{`select ` + runColumns + ` from public.prompt_runs r where ` + w.text() + ` order by ` + order + ` limit @limit`, w.args}, nil
	case f.TeamIDs != nil: // each team's runs have their order; of several the first ones of each are enough
		w.add("r.team_id = team.id", "teams", f.TeamIDs)
		w.attempts(f)
		w.from(at, edge, false, f)
		return &query{`
			select r.* from unnest(@teams::uuid[]) as team (id)
			cross join lateral (select ` + runColumns + ` from public.prompt_runs r where ` + w.text() + ` order by ` + order + ` limit @limit) r
			order by ` + order + ` limit @limit`, w.args}, nil
	case f.leads() != "": // few attempts have one, and those have an index
		w.from(at, edge, false, f)
		if f.ErrorClass != "" {
			w.add(oneAttempt)
		} else {
			w.attempts(f)
		}
		w.add("a.error_class = @leads and a.created_at >= @fromAt and a.created_at < @toAt", "leads", f.leads(), "fromAt", earliest(f.From), "toAt", latest(f.To))
		if edge != uuid.Nil {
			w.add("a.created_at between @pieceFrom and @pieceTo", spanOf(f, at, edge)...)
		}
		return &query{`
			select distinct on (` + strings.ReplaceAll(order, " desc", "") + `) ` + runColumns + `
			from public.prompt_attempts a
			join public.prompt_runs r on r.id = a.run_id and r.created_at = a.created_at
			where ` + w.text() + ` order by ` + order + ` limit @limit`, w.args}, nil
	default: // ids are in the order of time, so the primary key is
		w.attempts(f)
		w.from(at, edge, true, f)
		return &query{`select ` + runColumns + ` from public.prompt_runs r where ` + w.text() + ` order by ` + byID + ` limit @limit`, w.args}, nil
	}
}

// where collects conditions on a run r, and their parameters.
type where struct {
	all  []string
	args pgx.NamedArgs
}

func (w *where) add(condition string, args ...any) {
	w.all = append(w.all, condition)
	for i := 0; i < len(args); i += 2 {
		w.args[args[i].(string)] = args[i+1]
	}
}

func (w *where) text() string {
	if len(w.all) == 0 {
		return "true"
	}
	return strings.Join(w.all, " and ")
}

// filter adds what can be said without knowing who and since when.
func (w *where) filter(f Filter) {
	if f.Status != "" {
		w.add("r.status = @status", "status", f.Status)
	}
	if f.TemplateID != nil {
		w.add("r.template_id = @template", "template", *f.TemplateID)
	}
	if f.Stream != "" {
		w.add("r.stream = @stream", "stream", f.Stream == "yes")
	}
	if f.MinCost != nil {
		w.add("r.total_cost_usd >= @cost", "cost", f.MinCost)
	}
	if f.MinDuration > 0 {
		w.add("r.duration_ms >= @duration", "duration", f.MinDuration.Milliseconds())
	}
	w.args["provider"], w.args["model"], w.args["key"], w.args["class"] = f.Provider, f.Model, f.KeySource, f.ErrorClass
	if f.Provider != "" || f.Model != "" { // also of runs that go on, whose attempts are not there yet
		w.add(`(@model = '' or @model = any (r.models))`) // the next one says it, too, but takes ten times as long
		w.add(`exists (select from unnest(r.models) as asked
			where (@model = '' or asked = @model) and (@provider = '' or split_part(asked, '/', 1) = @provider))`)
	}
}

// oneAttempt is what an attempt a has to be.
const oneAttempt = `(@provider = '' or a.provider = @provider) and (@model = '' or a.model = @model)
	and (@key = '' or a.key_source = @key) and (@class = '' or a.error_class = @class)`

// attempts adds what only the run's attempts tell.
func (w *where) attempts(f Filter) {
	if f.KeySource != "" || f.ErrorClass != "" {
		w.add(`exists (select from public.prompt_attempts a where a.run_id = r.id and a.created_at = r.created_at and ` + oneAttempt + `)`)
	}
}

// spanOf is the time between a cursor and a run. Postgres does not conclude from the
// run's time to that of the attempt.
func spanOf(f Filter, at Cursor, edge uuid.UUID) []any {
	from, to := any(createdAt(edge)), latest(f.To)
	switch {
	case at.After != uuid.Nil:
		from, to = createdAt(at.After), createdAt(edge)
	case at.Before != uuid.Nil:
		to = createdAt(at.Before)
	}
	return []any{"pieceFrom", from, "pieceTo", to}
}

// from adds the days, the cursor and the last run that counts (uuid.Nil: there is no
// such). Where byID is set, also as ids.
func (w *where) from(at Cursor, edge uuid.UUID, byID bool, f Filter) {
	if !f.From.IsZero() {
		w.add("r.created_at >= @from", "from", f.From)
		if byID {
			w.add("r.id >= @fromID", "fromID", firstID(f.From))
		}
	}
	if !f.To.IsZero() {
		w.add("r.created_at < @to", "to", f.To)
		if byID {
			w.add("r.id < @toID", "toID", firstID(f.To))
		}
	}
	switch {
	case at.Before != uuid.Nil:
		w.add("r.created_at <= @cursorAt and (r.created_at, r.id) < (@cursorAt, @cursor)", "cursor", at.Before, "cursorAt", createdAt(at.Before))
		if byID {
			w.add("r.id < @cursor")
		}
	case at.After != uuid.Nil:
		w.add("r.created_at >= @cursorAt and (r.created_at, r.id) > (@cursorAt, @cursor)", "cursor", at.After, "cursorAt", createdAt(at.After))
		if byID {
			w.add("r.id > @cursor")
		}
	}
	if edge != uuid.Nil {
		w.beyond(at, edge, byID)
	}
}

// beyond leaves out what comes after a run, in the direction of a cursor.
func (w *where) beyond(at Cursor, edge uuid.UUID, byID bool) {
	is := ">="
	if at.After != uuid.Nil {
		is = "<="
	}
	w.add("r.created_at "+is+" @edgeAt and (r.created_at, r.id) "+is+" (@edgeAt, @edge)", "edge", edge, "edgeAt", createdAt(edge))
	if byID {
		w.add("r.id " + is + " @edge")
	}
}

// firstID is where the ids of a millisecond begin. An instant within a
// millisecond is later than all runs of it.
func firstID(at time.Time) (id uuid.UUID) {
	ms := at.UnixMilli()
	if at.Sub(time.UnixMilli(ms)) > 0 {
		ms++
	}
	var bytes [8]byte
	binary.BigEndian.PutUint64(bytes[:], uint64(max(ms, 0)))
	copy(id[:6], bytes[2:])
	return id
}

func earliest(at time.Time) any {
	if at.IsZero() {
		return "-infinity"
	}
	return at
}

func latest(at time.Time) any {
	if at.IsZero() {
		return "infinity"
	}
	return at
}

type listedRow struct {
	ID              uuid.UUID
	CreatedAt       time.Time
	Status          string
	UserID          *uuid.UUID
	OperatorID      *uuid.UUID
	TeamID          *uuid.UUID
	TeamName        string
	TemplateID      *uuid.UUID
	TemplateTitle   string
	ClientRequestID string
	Models          []string
	Stream          bool
	DurationMs      *int64
	TotalTokens     *int64
	TotalCost       *price.USD
	Unpriced        int
	KeySources      []string
	ErrorClasses    []string
}

// rows reads the runs with what is said of them elsewhere.
func (q *query) rows(ctx context.Context, tx pgx.Tx) ([]listedRow, error) {
	rows, err := tx.Query(ctx, `
		with found as materialized (
		  select *, row_number() over () as place from (`+q.sql+`) found
		)
		select r.id, r.created_at, r.status, r.user_id, r.operator_id,
		       r.team_id, coalesce(team.name, '') as team_name,
		       r.template_id, coalesce(template.title, '') as template_title,
		       coalesce(r.client_request_id, '') as client_request_id,
		       r.models, r.stream, r.duration_ms, r.total_tokens, r.total_cost_usd as total_cost, coalesce(r.unpriced, 0) as unpriced,
		       coalesce(tried.key_sources, '{}') as key_sources, coalesce(tried.error_classes, '{}') as error_classes
		from found r
		left join lateral (
		  select array_agg(distinct key_source) filter (where key_source is not null) as key_sources,
		         array_agg(distinct error_class) filter (where error_class is not null) as error_classes
		  from public.prompt_attempts a
		  where a.run_id = r.id and a.created_at = r.created_at
		) tried on true
		left join public.teams team on team.id = r.team_id
		left join public.prompt_templates template on template.id = r.template_id
		order by r.place`, q.args)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[listedRow])
}

func (q *query) count(ctx context.Context, tx pgx.Tx, f Filter) (n int, err error) {
	// It is only said beside the list: rather not at all than late.
	patience := "150ms"
	if f.picky() { // what an index does not count at once takes long
		patience = "40ms"
	}
	if _, err = tx.Exec(ctx, `select set_config('statement_timeout', $1, true)`, patience); err != nil {
		return 0, err
	}
	err = tx.QueryRow(ctx, `select count(*) from (`+q.sql+`) found`, q.args).Scan(&n)
	return n, err
}

func (q *query) first(ctx context.Context, tx pgx.Tx) (id uuid.UUID, err error) {
	if _, err = tx.Exec(ctx, `set local statement_timeout = '150ms'`); err != nil {
		return uuid.Nil, err
	}
	err = tx.QueryRow(ctx, `select id from (`+q.sql+`) found`, q.args).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, nil
	}
	return id, err
}

// hasRun finds the run whose id is given, if it is one.
func hasRun(ctx context.Context, tx pgx.Tx, text string) (*uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || id.Version() != 7 {
		return nil, nil
	}
	var exists bool
	err = tx.QueryRow(ctx, `select exists (select from public.prompt_runs where id = $1 and created_at = $2)`, id, createdAt(id)).Scan(&exists)
	if err != nil || !exists {
		return nil, err
	}
	return &id, nil
}

// learner finds the account that a filter names. For an address that nobody has it
// is uuid.Nil, which never ran anything: who may not see a learner's runs does not
// get to know either whether there is such a learner.
func (s *Store) learner(ctx context.Context, f Filter) (id uuid.UUID, err error) {
	if f.Learner == "" {
		return uuid.Nil, nil
	}
	err = s.all.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `select id from auth.users where lower(email) = lower($1)`, f.Learner).Scan(&id)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, nil
	}
	return id, err
}

func (s *Store) listed(ctx context.Context, rows []listedRow) ([]Listed, error) {
	var learners, operators []uuid.UUID
	for _, r := range rows {
		if r.UserID != nil {
			learners = append(learners, *r.UserID)
		}
		if r.OperatorID != nil {
			operators = append(operators, *r.OperatorID)
		}
	}
	known, err := s.names(ctx, learners, operators)
	if err != nil {
		return nil, err
	}
	all := make([]Listed, len(rows))
	for i, r := range rows {
		all[i] = Listed{
			ID: r.ID, StartedAt: r.CreatedAt.UTC(), Status: r.Status, Who: known.who(r.UserID, r.OperatorID),
			Team: named(r.TeamID, r.TeamName), Template: named(r.TemplateID, r.TemplateTitle), ClientRequestID: r.ClientRequestID,
			Models: r.Models, Stream: r.Stream, DurationMs: r.DurationMs, Tokens: r.TotalTokens, Cost: r.TotalCost, Unpriced: r.Unpriced,
			KeySources: r.KeySources, ErrorClasses: r.ErrorClasses,
		}
	}
	return all, nil
}

// read is Read with a message for whoever asked for too much.
func (s *Store) read(ctx context.Context, fn func(tx pgx.Tx) error) error {
	err := s.reader.Read(ctx, fn)
	if postgres.TookTooLong(err) {
		return fault.New(fault.Unavailable, "These runs could not be found in %d seconds. Choose a shorter range, or filter by learner or team.",
			int(postgres.ReadTimeout.Seconds())).Because(err)
	}
	return err
}
