package history_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"
	_ "time/tzdata"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/history"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/run"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// crowd is a database with teams, learners and an operator who run things.
type crowd struct {
	db                         postgres.DB
	teams, learners, templates []uuid.UUID
	operator                   uuid.UUID
}

func pick[T any](r *rand.Rand, choices ...T) T { return choices[r.IntN(len(choices))] }

func newCrowd(t testing.TB, db postgres.DB) crowd {
	t.Helper()
	c := crowd{db: db, operator: uuid.New()}
	exec(t, db, `select ops.ensure_partitions($1::date, $2::date)`, now.AddDate(0, -3, 0), now.AddDate(0, 1, 0))
	exec(t, db, `insert into ops.operators (id, email, role) values ($1, 'marta@example.org', 'admin')`, c.operator)
	for i := range 3 {
		c.teams, c.templates = append(c.teams, uuid.New()), append(c.templates, uuid.New())
		exec(t, db, `insert into public.teams (id, name) values ($1, $2)`, c.teams[i], fmt.Sprint("Team ", i))
		exec(t, db, `insert into public.prompt_templates (id, title, body, is_public) values ($1, $2, 'x', true)`, c.templates[i], fmt.Sprint("Template ", i))
	}
	for i := range 6 {
		c.learners = append(c.learners, uuid.New())
		exec(t, db, `insert into auth.users (id, email) values ($1, $2)`, c.learners[i], fmt.Sprintf("Learner%d@example.org", i))
	}
	return c
}

func exec(t testing.TB, db postgres.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(context.Background(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// run queues a run of any kind.
func (c crowd) run(r *rand.Rand, batch *pgx.Batch, at time.Time) {
	id := run.NewID(at)
	at = run.CreatedAt(id)
	var learner, operator, team, template *uuid.UUID
	if r.IntN(8) == 0 {
		operator = &c.operator
	} else {
		learner = new(pick(r, c.learners...))
		if r.IntN(3) > 0 {
			team = new(pick(r, c.teams...))
		}
	}
	if r.IntN(2) == 0 {
		template = new(pick(r, c.templates...))
	}
	models := slices.Clone([]string{"openai/a", "openai/b", "groq/openai/a", "xai/rare"})
	r.Shuffle(len(models), func(i, j int) { models[i], models[j] = models[j], models[i] })
	models = models[:1+r.IntN(3)]
	status := pick(r, "success", "success", "success", "partial", "error", "cancelled", "interrupted", "running")
	var ended *time.Time
	var duration, tokens, unpriced *int64
	var cost *string
	if status != "running" {
		ended, duration, tokens, unpriced = new(at.Add(time.Second)), new(r.Int64N(30_000)), new(r.Int64N(5000)), new(r.Int64N(2))
		cost = new(fmt.Sprintf("0.%06d", r.IntN(200_000)))
	}
	var client *string
	if r.IntN(5) == 0 {
		client = new(pick(r, "mine-1", "mine-2", id.String()))
	}
	batch.Queue(`
		insert into public.prompt_runs (id, created_at, user_id, operator_id, team_id, template_id, client_request_id, models, stream,
		  status, finished_at, duration_ms, total_tokens, total_cost_usd, unpriced)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14::text::numeric, $15)`,
		id, at, learner, operator, team, template, client, models, r.IntN(3) == 0, status, ended, duration, tokens, cost, unpriced)
	if status == "running" {
		return
	}
	for i, model := range models {
		source, class := pick(r, new("user"), new("fallback"), nil), (*string)(nil)
		if r.IntN(4) == 0 {
			class = new(pick(r, "timeout", "rate_limited", "missing_key"))
		}
		if status == "interrupted" && i == 0 {
			class = new("interrupted")
		}
		batch.Queue(`
			insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, operator_id, team_id, template_id, provider, model, status, key_source, user_key_id, fallback_key_id, error_class)
			values ($1, $2, $3, $4, $5, $6, $7, split_part($8, '/', 1), $8, case when $10::text is null then 'ok' else 'error' end, $9, $1, $1, $10)`,
			id, i, at, learner, operator, team, template, model, source, class)
	}
}

func (c crowd) runs(t testing.TB, r *rand.Rand, n int, within time.Duration) {
	t.Helper()
	batch := &pgx.Batch{}
	for range n {
		c.run(r, batch, now.Add(-time.Duration(r.Int64N(int64(within))).Round(time.Minute))) // some in the same millisecond
	}
	if err := c.db.SendBatch(context.Background(), batch).Close(); err != nil {
		t.Fatal(err)
	}
}

// walk pages through a list from one end to the other.
func walk(t testing.TB, s *history.Store, f history.Filter, limit int) []uuid.UUID {
	t.Helper()
	var seen []uuid.UUID
	for at := (history.Cursor{}); ; {
		page, err := s.List(context.Background(), f, at, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range page.Runs {
			seen = append(seen, run.ID)
		}
		switch {
		case page.Further != nil:
			at = *page.Further
		case page.Older:
			at.Before = seen[len(seen)-1]
		default:
			return seen
		}
	}
}

// walkBack pages from the end to the beginning.
func walkBack(t testing.TB, s *history.Store, f history.Filter, limit int, last uuid.UUID) []uuid.UUID {
	t.Helper()
	seen := []uuid.UUID{last}
	for at := (history.Cursor{After: last}); ; at.After = seen[0] {
		page, err := s.List(context.Background(), f, at, limit)
		for err == nil && page.Further != nil {
			var more history.Page
			if more, err = s.List(context.Background(), f, *page.Further, limit); err == nil {
				more.Runs = append(more.Runs, page.Runs...) // nearer to the end
				page = more
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		var ids []uuid.UUID
		for _, run := range page.Runs {
			ids = append(ids, run.ID)
		}
		seen = append(ids, seen...)
		if !page.Newer {
			return seen
		}
	}
}

func TestListEqualsTheRows(t *testing.T) {
	c := newCrowd(t, pgtest.Tx(t))
	r := rand.New(rand.NewPCG(5, 11))
	c.runs(t, r, 600, 60*24*time.Hour)
	whole := history.NewStore(postgres.NewReader(c.db))
	for range 150 {
		zoneName := pick(r, "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")
		zone, err := time.LoadLocation(zoneName)
		if err != nil {
			t.Fatal(err)
		}
		v, where := url.Values{}, "true"
		add := func(one int, name, value, sql string) {
			if r.IntN(one) == 0 {
				v.Set(name, value)
				where += " and (" + sql + ")"
			}
		}
		attempt, asked := "", ""
		provider, model, key, class := pick(r, "openai", "groq", "nobody"), pick(r, "openai/a", "groq/openai/a", "xai/rare"), pick(r, "user", "fallback"), pick(r, "timeout", "rate_limited", "billing")
		for _, chosen := range [][2]string{{"provider", provider}, {"model", model}, {"key", key}, {"class", class}} {
			name, value := chosen[0], chosen[1]
			if r.IntN(4) > 0 {
				continue
			}
			v.Set(name, value)
			column := map[string]string{"provider": "provider", "model": "model", "key": "key_source", "class": "error_class"}[name]
			attempt += fmt.Sprintf(" and %s = '%s'", column, value)
			if name == "model" {
				asked += fmt.Sprintf(" and '%s' = any (models)", value)
				if v.Has("provider") {
					asked += fmt.Sprintf(" and '%s' like '%s/%%'", value, provider)
				}
			}
			if name == "provider" {
				asked += fmt.Sprintf(" and array_to_string(models, ' ') ~ '(^| )%s/'", value)
			}
		}
		if v.Has("key") || v.Has("class") {
			where += " and id in (select run_id from prompt_attempts where true" + attempt + ")"
		} else if attempt != "" {
			where += " and (id in (select run_id from prompt_attempts where true" + attempt + ") or status = 'running'" + asked + ")"
		}
		status := pick(r, history.Statuses...)
		add(4, "status", status, fmt.Sprintf("status = '%s'", status))
		who := r.IntN(6)
		add(4, "learner", fmt.Sprintf("LEARNER%d@example.org", who), fmt.Sprintf("user_id = '%s'", c.learners[who]))
		template := pick(r, c.templates...)
		add(5, "template", template.String(), fmt.Sprintf("template_id = '%s'", template))
		add(5, "stream", "yes", "stream")
		add(5, "cost", "0.0501", "total_cost_usd >= 0.0501")
		add(5, "seconds", "12.5", "duration_ms >= 12500")
		add(9, "request", "mine-1", "client_request_id = 'mine-1'")
		team := pick(r, c.teams...)
		var teamIDs []uuid.UUID
		switch r.IntN(3) {
		case 0:
			teamIDs = []uuid.UUID{team}
			where += fmt.Sprintf(" and team_id = '%s'", team)
		case 1:
			teamIDs = c.teams[:2]
			where += fmt.Sprintf(" and team_id in ('%s', '%s')", c.teams[0], c.teams[1])
		}
		from := r.IntN(60)
		v.Set("from", now.AddDate(0, 0, -from).Format(time.DateOnly))
		v.Set("to", now.AddDate(0, 0, -r.IntN(from+1)).Format(time.DateOnly))
		where += fmt.Sprintf(" and (created_at at time zone '%s')::date between '%s' and '%s'", zoneName, v.Get("from"), v.Get("to"))

		t.Run(fmt.Sprintf("%s&zone=%s&teams=%d", v.Encode(), zoneName, len(teamIDs)), func(t *testing.T) {
			f, err := history.ParseFilter(v, now, zone)
			if err != nil {
				t.Fatal(err)
			}
			if again := f.Values(); again.Encode() != v.Encode() {
				t.Errorf("Values() = %s", again.Encode())
			}
			f.TeamIDs = teamIDs
			rows, err := c.db.Query(t.Context(), `select id from prompt_runs where `+where+` order by created_at desc, id desc`)
			if err != nil {
				t.Fatal(err)
			}
			want, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			if err != nil {
				t.Fatal(err)
			}
			store := pick(r, whole, whole.InPieces(1+r.IntN(60)))
			got := walk(t, store, f, 1+r.IntN(40))
			if diff := gocmp.Diff(want, got, gocmp.Transformer("empty", func(ids []uuid.UUID) []string { return fmtIDs(ids) })); diff != "" {
				t.Fatalf("runs (-want +got):\n%s", diff)
			}
			n, err := store.Count(t.Context(), f)
			for deadline := time.Now().Add(time.Minute); n < 0 && err == nil && time.Now().Before(deadline); {
				n, err = store.Count(t.Context(), f) // it could not be counted at once
			}
			if err != nil || n != len(want) {
				t.Errorf("counted %d (%v), want %d", n, err, len(want))
			}
			if len(want) == 0 {
				return
			}
			if back := walkBack(t, store, f, 1+r.IntN(40), want[len(want)-1]); !slices.Equal(back, want) {
				t.Errorf("from the end to the beginning: %v, want %v", back, want)
			}
			at := r.IntN(len(want))
			newer, older, err := store.Neighbours(t.Context(), f, want[at])
			if err != nil || at > 0 && newer != want[at-1] || at == 0 && newer != uuid.Nil || at+1 < len(want) && older != want[at+1] || at+1 == len(want) && older != uuid.Nil {
				t.Errorf("beside %d of %d are %s and %s (%v)", at, len(want), newer, older, err)
			}
		})
	}
}

func fmtIDs(ids []uuid.UUID) []string {
	all := []string{}
	for _, id := range ids {
		all = append(all, id.String())
	}
	return all
}

// What a row says is what is stored, also in the file.
func TestListedIsWhatWasWritten(t *testing.T) {
	p := newPast(t)
	id := p.ended(t)
	store := history.NewStore(postgres.NewReader(p.db))
	f := history.Filter{RequestID: id.String()}
	page, err := store.List(t.Context(), f, history.Cursor{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	want := history.Listed{
		ID: id, StartedAt: began, Status: "success", Who: history.Who{LearnerID: &p.ada, Email: "ada@example.org"},
		Team: &history.Named{ID: p.team, Name: "Kitchen"}, Template: &history.Named{ID: p.template, Name: "Recipe"}, ClientRequestID: "mine-1",
		Models: []string{"openai/good", "google/odd"}, Stream: true, DurationMs: new(int64(500)), Tokens: new(int64(450)), Cost: usd(t, "0.00079"), Unpriced: 1,
		KeySources: []string{"fallback", "user"}, ErrorClasses: []string{},
	}
	if diff := gocmp.Diff(history.Page{Runs: []history.Listed{want}}, page); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	none := history.Filter{RequestID: id.String(), ErrorClass: "timeout"} // whatever the days, but not whatever else is asked for
	if page, err := store.List(t.Context(), none, history.Cursor{}, 10); err != nil || len(page.Runs) != 0 {
		t.Errorf("of another class: %d runs, %v", len(page.Runs), err)
	}
	var file bytes.Buffer
	if cut, err := store.WriteCSV(t.Context(), &file, f); err != nil || cut {
		t.Fatalf("cut %v, %v", cut, err)
	}
	records, err := csv.NewReader(&file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	row := map[string]string{}
	for i, column := range records[0] {
		row[column] = records[1][i]
	}
	wantRow := map[string]string{
		"started_at": "2026-11-24T12:00:00.123Z", "request_id": id.String(), "client_request_id": "mine-1", "learner": "ada@example.org", "operator": "",
		"team": "Kitchen", "template": "Recipe", "status": "success", "models": "openai/good google/odd", "stream": "true",
		"duration_ms": "500", "total_tokens": "450", "cost_usd": "0.00079", "unpriced": "1", "key_sources": "fallback user", "error_classes": "",
	}
	if diff := gocmp.Diff(wantRow, row); diff != "" || len(records) != 2 {
		t.Errorf("%d records, the first (-want +got):\n%s", len(records), diff)
	}
}

// Amounts that nobody knows are empty in the file, and names are no formulas.
func TestCSVOfTheUnknown(t *testing.T) {
	c := newCrowd(t, pgtest.Tx(t))
	exec(t, c.db, `update public.teams set name = '=cmd()' where id = $1`, c.teams[0])
	id := run.NewID(now)
	exec(t, c.db, `insert into public.prompt_runs (id, created_at, user_id, team_id, models, status, finished_at, total_tokens, total_cost_usd, unpriced)
		values ($1, $2, $3, $4, '{a/b}', 'success', $2, 5, 0, 1)`, id, run.CreatedAt(id), c.learners[0], c.teams[0])
	var file bytes.Buffer
	if _, err := history.NewStore(postgres.NewReader(c.db)).WriteCSV(t.Context(), &file, history.Filter{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(file.Bytes(), []byte(",'=cmd(),")) || !bytes.Contains(file.Bytes(), []byte(",5,,1,")) {
		t.Errorf("the file is\n%s", file.String())
	}
}

// Runs that start meanwhile neither hide others nor show them twice.
func TestPagingWhileRunsAreWritten(t *testing.T) {
	pool := pgtest.Database(t)
	c := newCrowd(t, pool)
	r := rand.New(rand.NewPCG(7, 7))
	c.runs(t, r, 400, 20*24*time.Hour)
	rows, err := pool.Query(t.Context(), `select id from prompt_runs`)
	if err != nil {
		t.Fatal(err)
	}
	before, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	writers.Go(func() {
		own := rand.New(rand.NewPCG(8, 8))
		for ctx.Err() == nil {
			batch := &pgx.Batch{}
			c.run(own, batch, now.Add(-time.Duration(own.Int64N(int64(20*24*time.Hour)))))
			if err := pool.SendBatch(ctx, batch).Close(); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	defer writers.Wait()
	defer stop()
	f, err := history.ParseFilter(url.Values{}, now, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	for _, teams := range [][]uuid.UUID{nil, c.teams} {
		f.TeamIDs = teams
		seen := map[uuid.UUID]int{}
		for _, id := range walk(t, history.NewStore(postgres.NewReader(pool)), f, 7) {
			seen[id]++
		}
		for id, n := range seen {
			if n > 1 {
				t.Errorf("run %s was shown %d times", id, n)
			}
		}
		if teams == nil {
			for _, id := range before {
				if seen[id] != 1 {
					t.Errorf("run %s was shown %d times", id, seen[id])
				}
			}
		}
	}
}

// A lead of one team finds nothing of another's, whatever is asked for.
func TestListAsALead(t *testing.T) {
	c := newCrowd(t, pgtest.Tx(t))
	r := rand.New(rand.NewPCG(9, 9))
	c.runs(t, r, 300, 10*24*time.Hour)
	lead := c.learners[0]
	exec(t, c.db, `insert into public.team_members (team_id, user_id, role) values ($1, $2, 'lead'), ($3, $2, 'member')`, c.teams[0], lead, c.teams[1])
	store := history.NewStore(postgres.NewReader(c.db)).As(lead)
	for _, query := range []string{
		"", "range=180d", "learner=learner1@example.org", "learner=learner0@example.org", "key=fallback", "class=timeout", "status=error", "model=openai/a",
		"team=" + c.teams[1].String(), "request=mine-1",
	} {
		v, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		f, err := history.ParseFilter(v, now, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		for _, teams := range [][]uuid.UUID{{c.teams[0]}, {c.teams[1]}, {c.teams[2]}, c.teams, {}} {
			f.TeamIDs = teams
			for _, id := range walk(t, store, f, 50) {
				var team *uuid.UUID
				var learner *uuid.UUID
				if err := c.db.QueryRow(t.Context(), `select team_id, user_id from prompt_runs where id = $1`, id).Scan(&team, &learner); err != nil {
					t.Fatal(err)
				}
				own := learner != nil && *learner == lead // whom row-level security shows what is theirs
				if team == nil || !slices.Contains(teams, *team) || *team != c.teams[0] && !own {
					t.Errorf("%s of %v: shows a run of team %v", query, teams, team)
				}
			}
		}
	}
	f := history.Filter{TeamIDs: []uuid.UUID{c.teams[0]}}
	if choices, err := store.Choices(t.Context(), f); err != nil || len(choices.Models) == 0 {
		t.Errorf("choices %+v, %v", choices, err)
	}
}

func TestParseFilterRefuses(t *testing.T) {
	for query, fields := range map[string][]string{
		"range=31d&status=odd": {"range", "status"}, "team=7&template=8": {"team", "template"}, "key=sandbox": {"key"}, "class=odd": {"class"},
		"cost=-1&seconds=-1": {"cost", "seconds"}, "cost=a&seconds=1e9": {"cost", "seconds"}, "cost=1e999999": {"cost"}, "stream=1": {"stream"},
		"learner=%00&request=%ff": {"learner", "request"}, "model=" + string(bytes.Repeat([]byte("x"), 256)): {"model"},
	} {
		v, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		_, err = history.ParseFilter(v, now, time.UTC)
		var got []string
		if f, ok := errors.AsType[*fault.Error](err); ok {
			for _, d := range f.Details {
				got = append(got, d.Field)
			}
		}
		slices.SortFunc(got, cmp.Compare[string])
		slices.Sort(fields)
		if !slices.Equal(got, fields) {
			t.Errorf("%s: refused %v, want %v", query, got, fields)
		}
	}
}

// A file ends somewhere, and says so.
func TestCSVIsCut(t *testing.T) {
	c := newCrowd(t, pgtest.Tx(t))
	exec(t, c.db, `
		insert into public.prompt_runs (id, created_at, user_id, models)
		select (substr(ms, 1, 8) || '-' || substr(ms, 9) || '-7000-8000-' || lpad(n::text, 12, '0'))::uuid, at, $1, '{a/b}'
		from (select n, at, lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') as ms
		      from (select n, timestamptz '2026-11-01Z' + n * interval '1 second' as at from generate_series(1, $2) n) x) y`,
		c.learners[0], history.MostInCSV+1)
	store := history.NewStore(postgres.NewReader(c.db))
	var file bytes.Buffer
	if cut, err := store.WriteCSV(t.Context(), &file, history.Filter{}); err != nil || !cut || bytes.Count(file.Bytes(), []byte("\r\n")) != history.MostInCSV+1 {
		t.Errorf("cut %v, %d lines, %v", cut, bytes.Count(file.Bytes(), []byte("\r\n")), err)
	}
	n, err := store.Count(t.Context(), history.Filter{})
	for deadline := time.Now().Add(time.Minute); n < 0 && err == nil && time.Now().Before(deadline); {
		n, err = store.Count(t.Context(), history.Filter{})
	}
	if err != nil || n != history.MostCounted+1 {
		t.Errorf("counted %d, %v", n, err)
	}
}
