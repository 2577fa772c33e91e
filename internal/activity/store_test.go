package activity_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/activity"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/run"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// school is a database with learners, some in teams, who do things.
type school struct {
	db                                  postgres.DB
	teams, learners, lessons, templates []uuid.UUID
	key                                 uuid.UUID // fallback
	now                                 time.Time
}

func pick[T any](r *rand.Rand, choices ...T) T { return choices[r.IntN(len(choices))] }

func exec(t testing.TB, db postgres.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(context.Background(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func newSchool(t testing.TB, r *rand.Rand, learners, runs int) school {
	t.Helper()
	return newSchoolIn(t, pgtest.Tx(t), r, now, learners, runs)
}

func newSchoolIn(t testing.TB, db postgres.DB, r *rand.Rand, now time.Time, learners, runs int) school {
	t.Helper()
	s := school{db: db, key: uuid.New(), now: now}
	exec(t, s.db, `select ops.ensure_partitions($1::date, $2::date)`, now.AddDate(0, -6, 0), now)
	ago := func() time.Time {
		return now.Add(-time.Duration(r.Int64N(int64(150 * 24 * time.Hour)))).Truncate(time.Millisecond)
	}
	for i := range 3 {
		s.teams = append(s.teams, uuid.New())
		exec(t, s.db, `insert into public.teams (id, name) values ($1, $2)`, s.teams[i], fmt.Sprint("Team ", i))
	}
	for i := range 5 {
		s.lessons, s.templates = append(s.lessons, uuid.New()), append(s.templates, uuid.New())
		exec(t, s.db, `insert into public.lessons (id, slug, title, position, published) values ($1, $2, $2, $3, $4)`, s.lessons[i], fmt.Sprint("Lesson ", i), i, i < 4)
		exec(t, s.db, `insert into public.prompt_templates (id, title, body, is_public) values ($1, $2, 'x', $3)`, s.templates[i], fmt.Sprint("Template ", i), i < 4)
	}
	batch := &pgx.Batch{}
	for i := range learners {
		id, at := uuid.New(), ago()
		s.learners = append(s.learners, id)
		batch.Queue(`insert into auth.users (id, email, created_at, is_anonymous, deleted_at) values ($1, $2, $3, $4, $5)`,
			id, fmt.Sprintf("learner%d@example.org", i), at, r.IntN(15) == 0, pick(r, nil, nil, nil, nil, nil, nil, nil, new(now)))
		if r.IntN(3) > 0 {
			batch.Queue(`insert into public.team_members (team_id, user_id) values ($1, $2)`, pick(r, s.teams...), id)
		}
		for n := range r.IntN(3) {
			batch.Queue(`insert into public.user_api_keys (user_id, provider, ciphertext, fingerprint, last_four, created_at) values ($1, 'openai', 'x', $2, 'abcd', $3)`, id, fmt.Sprint(n), ago())
		}
		for _, lesson := range s.lessons {
			if r.IntN(3) == 0 {
				continue
			}
			started := ago()
			if r.IntN(2) == 0 {
				batch.Queue(`insert into public.user_progress (user_id, lesson_id, started_at) values ($1, $2, $3)`, id, lesson, started)
				continue
			}
			batch.Queue(`insert into public.user_progress (user_id, lesson_id, status, started_at, completed_at, score) values ($1, $2, 'completed', $3, $4, $5)`,
				id, lesson, started, started.Add(time.Duration(r.Int64N(int64(10*24*time.Hour)))), pick(r, nil, new(r.IntN(100)), new(r.IntN(100))))
		}
		for range r.IntN(6) {
			batch.Queue(`insert into public.template_events (template_id, user_id, event, created_at) values ($1, $2, $3, $4)`,
				pick(r, s.templates...), pick(r, &id, &id, &id, nil), pick(r, "created", "viewed", "used", "forked", "shared"), ago())
		}
	}
	for range runs {
		s.queueRun(r, batch, s.learners[r.IntN(len(s.learners))], ago())
	}
	if err := s.db.SendBatch(context.Background(), batch).Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s school) queueRun(r *rand.Rand, batch *pgx.Batch, learner uuid.UUID, at time.Time) {
	id := run.NewID(at)
	var team *uuid.UUID
	if r.IntN(2) == 0 {
		team = new(pick(r, s.teams...))
	}
	status := pick(r, "success", "success", "error", "interrupted", "running")
	var ended *time.Time
	var cost *string
	var unpriced *int
	if status != "running" {
		ended, cost, unpriced = &at, new(fmt.Sprintf("0.%012d", r.Int64N(1e12))), new(r.IntN(2))
	}
	batch.Queue(`insert into public.prompt_runs (id, created_at, user_id, team_id, models, status, finished_at, total_cost_usd, unpriced)
		values ($1, $2, $3, $4, '{a/b}', $5, $6, $7::text::numeric, $8)`, id, run.CreatedAt(id), learner, team, status, ended, cost, unpriced)
	if status == "error" {
		batch.Queue(`insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, team_id, provider, model, status, error_class) values ($1, 0, $2, $3, $4, 'a', 'a/b', 'error', 'timeout')`,
			id, run.CreatedAt(id), learner, team)
	}
}

// one reads a single value.
func one[T any](t testing.TB, db postgres.DB, sql string, args ...any) T {
	t.Helper()
	var value T
	if err := db.QueryRow(context.Background(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// did is every deed of anybody: who, when.
func did(teams []uuid.UUID) string {
	runs, learners := "true", "true"
	if teams != nil {
		quoted := make([]string, len(teams))
		for i, id := range teams {
			quoted[i] = "'" + id.String() + "'"
		}
		list := strings.Join(quoted, ",")
		runs, learners = "team_id in ("+list+")", "user_id in (select user_id from team_members where team_id in ("+list+"))"
	}
	return `(select user_id, created_at as at from prompt_runs where user_id is not null and ` + runs + `
		union all select user_id, started_at from user_progress where ` + learners + `
		union all select user_id, completed_at from user_progress where completed_at is not null and ` + learners + `
		union all select user_id, created_at from template_events where user_id is not null and ` + learners + `) did`
}

func TestReportEqualsTheRows(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	s := newSchool(t, r, 60, 900)
	for range 20 {
		zoneName := pick(r, "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
		v := url.Values{}
		from := r.IntN(140)
		v.Set("from", now.AddDate(0, 0, -from).Format(time.DateOnly))
		v.Set("to", now.AddDate(0, 0, -r.IntN(from+1)).Format(time.DateOnly))
		if r.IntN(3) == 0 {
			v = url.Values{"range": {pick(r, "today", "7d", "30d", "90d")}}
		}
		var teams []uuid.UUID
		switch r.IntN(3) {
		case 0:
			teams = s.teams[:1]
		case 1:
			teams = s.teams[1:]
		}
		t.Run(fmt.Sprintf("%s&zone=%s&teams=%d", v.Encode(), zoneName, len(teams)), func(t *testing.T) {
			zone, err := time.LoadLocation(zoneName)
			if err != nil {
				t.Fatal(err)
			}
			q, err := activity.ParseQuery(v, now, zone)
			if err != nil {
				t.Fatal(err)
			}
			q.TeamIDs = teams
			got, err := activity.NewStore(postgres.NewReader(s.db)).Report(t.Context(), q, now)
			if err != nil {
				t.Fatal(err)
			}
			s.check(t, q, got, zoneName)
		})
	}
}

func (s school) check(t *testing.T, q activity.Query, got activity.Report, zone string) {
	t.Helper()
	same := func(what string, want, got any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got): %s", what, diff)
		}
	}
	runs, learners := "true", "true"
	if q.TeamIDs != nil {
		runs, learners = "team_id = any ($3)", "user_id in (select user_id from team_members where team_id = any ($3))"
	}
	args := func(more ...any) []any { return append([]any{q.FirstDay().String(), q.LastDay().String()}, more...) }
	if q.TeamIDs != nil {
		plain := args
		args = func(more ...any) []any { return append(plain(q.TeamIDs), more...) }
	}
	local := func(column string) string {
		return fmt.Sprintf("(%s at time zone '%s')::date", column, zone)
	}
	within := func(column string) string { return local(column) + " between $1::text::date and $2::text::date" }
	in := func(sql string) int { // how many, in the period
		t.Helper()
		return one[int](t, s.db, sql, args()...)
	}
	deeds := did(q.TeamIDs)
	on := func(last string, days int) int { // active learners in the days until last
		t.Helper()
		return one[int](t, s.db, fmt.Sprintf(`select count(distinct user_id) from %s where %s > $1::text::date - $2::int and %s <= $1::text::date`, deeds, local("at"), local("at")), last, days)
	}

	same("active", one[int](t, s.db, fmt.Sprintf(`select count(distinct user_id) from %s where %s`, deeds, within("at")), q.FirstDay().String(), q.LastDay().String()), got.Active)
	same("days", q.FirstDay().Until(q.LastDay())+1, len(got.Days))
	visits := 0
	for n := range 30 {
		visits += on(q.LastDay().Plus(-n).String(), 1)
	}
	same("monthly", on(q.LastDay().String(), 30), got.Monthly)
	same("weekly", on(q.LastDay().String(), 7), got.Weekly)
	same("visits", visits, int(math.Round(got.PerDay*30)))
	signedUp := "deleted_at is null and not is_anonymous and " + strings.ReplaceAll(learners, "user_id in", "id in")
	for i, day := range got.Days {
		name := day.String()
		if i > 0 && !day.Start.Equal(got.Days[i-1].End) {
			t.Errorf("%s begins at %s", name, day.Start)
		}
		if i%9 > 0 && i < len(got.Days)-1 { // each takes many queries
			continue
		}
		same(name+": active", [3]int{on(name, 1), on(name, 7), on(name, 30)}, [3]int{day.Active, day.Weekly, day.Monthly})
		dayArgs := []any{name, name}
		if q.TeamIDs != nil {
			dayArgs = append(dayArgs, q.TeamIDs)
		}
		same(name+": sign-ups", one[int](t, s.db, `select count(*) from auth.users where `+signedUp+` and `+within("created_at"), dayArgs...), day.SignUps)
		same(name+": lessons started", one[int64](t, s.db, `select count(*) from user_progress where `+learners+` and `+within("started_at"), dayArgs...), day.LessonsStarted)
		same(name+": lessons completed", one[int64](t, s.db, `select count(*) from user_progress where `+learners+` and `+within("completed_at"), dayArgs...), day.LessonsCompleted)
	}
	same("sign-ups", in(`select count(*) from auth.users where `+signedUp+` and `+within("created_at")), got.SignUps)
	same("lessons", [2]int64{int64(in(`select count(*) from user_progress where ` + learners + ` and ` + within("started_at"))), int64(in(`select count(*) from user_progress where ` + learners + ` and ` + within("completed_at")))},
		[2]int64{got.Started, got.Completed})
	s.checkBefore(t, q, got, deeds, signedUp, runs, learners, zone)
	same("spent", one[string](t, s.db, `select concat_ws(' ', count(*), trim_scale(coalesce(sum(total_cost_usd), 0)), coalesce(sum(unpriced), 0)) from prompt_runs where user_id is not null and `+runs+` and `+within("created_at"), args()...),
		fmt.Sprint(got.Spent.Runs, " ", got.Spent.Cost, " ", got.Spent.Unpriced))

	s.checkCohorts(t, q, got, zone, deeds, signedUp)
	s.checkFunnel(t, got, args(), within, signedUp, runs)
	s.checkTables(t, got, args(), within, runs, learners)
}

// checkBefore counts the period before.
func (s school) checkBefore(t *testing.T, q activity.Query, got activity.Report, deeds, signedUp, runs, learners, zone string) {
	t.Helper()
	days := q.FirstDay().Until(q.LastDay()) + 1
	args := []any{q.FirstDay().Plus(-days).String(), q.FirstDay().Plus(-1).String()}
	if q.TeamIDs != nil {
		args = append(args, q.TeamIDs)
	}
	within := func(column string) string {
		return fmt.Sprintf("(%s at time zone '%s')::date between $1::text::date and $2::text::date", column, zone)
	}
	want := one[string](t, s.db, `
		select concat_ws(' ', (select count(*) from auth.users where `+signedUp+` and `+within("created_at")+`),
		  (select count(*) from user_progress where `+learners+` and `+within("started_at")+`), (select count(*) from user_progress where `+learners+` and `+within("completed_at")+`),
		  (select concat_ws(' ', count(*), trim_scale(coalesce(sum(total_cost_usd), 0)), coalesce(sum(unpriced), 0)) from prompt_runs where user_id is not null and `+runs+` and `+within("created_at")+`))`, args...)
	b := got.Before
	if is := fmt.Sprint(b.SignUps, " ", b.Started, " ", b.Completed, " ", b.Spent.Runs, " ", b.Spent.Cost, " ", b.Spent.Unpriced); is != want {
		t.Errorf("the period before: %s, want %s", is, want)
	}
	args = args[:2]
	if want := one[int](t, s.db, fmt.Sprintf(`select count(distinct user_id) from %s where %s`, deeds, within("at")), args...); b.Active != want {
		t.Errorf("%d were active in the period before, want %d", b.Active, want)
	}
	args[0] = q.FirstDay().Plus(-30).String()
	if want := one[string](t, s.db, fmt.Sprintf(`select concat_ws(' ', count(distinct user_id), count(distinct (user_id, (at at time zone '%s')::date))) from %s where %s`, zone, deeds, within("at")), args...); want != fmt.Sprint(b.Monthly, " ", math.Round(b.PerDay*30)) {
		t.Errorf("in the month until the period before ended %d, %v a day; want %s", b.Monthly, b.PerDay, want)
	}
}

func (s school) checkCohorts(t *testing.T, q activity.Query, got activity.Report, zone, deeds, signedUp string) {
	t.Helper()
	signedUp = strings.ReplaceAll(signedUp, "$3", "$1")
	var none []any
	if q.TeamIDs != nil {
		none = []any{q.TeamIDs}
	}
	weeks := q.FirstDay().Monday().Until(q.LastDay().Monday())/7 + 1
	if want := min(max(weeks, 8), 16); len(got.Cohorts) != want {
		t.Errorf("%d cohorts, want %d", len(got.Cohorts), want)
	}
	for i, c := range got.Cohorts {
		if i%5 > 0 && i < len(got.Cohorts)-2 {
			continue
		}
		in := fmt.Sprintf(`select %%s from auth.users u where %s and date_trunc('week', created_at at time zone '%s')::date = '%s'
			and created_at < '%s'`, signedUp, zone, c.Week, q.To.UTC().Format(time.RFC3339Nano))
		if size := one[int](t, s.db, fmt.Sprintf(in, "count(*)"), none...); size != c.Size {
			t.Errorf("cohort of %s: %d, want %d", c.Week, c.Size, size)
		}
		if len(c.Active) != len(got.Cohorts)-i {
			t.Errorf("cohort of %s has %d weeks", c.Week, len(c.Active))
		}
		for week, active := range c.Active {
			want := one[int](t, s.db, fmt.Sprintf(in, "count(*)")+fmt.Sprintf(` and id in (select user_id from %s where date_trunc('week', at at time zone '%s')::date = '%s' and at < '%s')`,
				deeds, zone, c.Week.Plus(7*week), q.To.UTC().Format(time.RFC3339Nano)), none...)
			if want != active {
				t.Errorf("cohort of %s, week %d: %d active, want %d", c.Week, week, active, want)
			}
		}
	}
}

func (s school) checkFunnel(t *testing.T, got activity.Report, args []any, within func(string) string, signedUp, runs string) {
	t.Helper()
	end := strings.Replace(within("at"), "between $1::text::date and $2::text::date", "<= $2::text::date and $1::text is not null", 1)
	firsts := `with people as (select id, created_at as signed from auth.users where ` + signedUp + ` and ` + within("created_at") + `),
		firsts as (select people.*,
		  (select min(at) from (select created_at as at from user_api_keys where user_id = people.id) x where ` + end + `) as key,
		  (select min(at) from (select created_at as at from prompt_runs where user_id = people.id and ` + runs + ` and ` + within("created_at") + `) x) as ran,
		  (select min(at) from (select completed_at as at from user_progress where user_id = people.id and ` + within("completed_at") + `) x) as learned from people) `
	columns := []string{"signed", "key", "ran", "learned"}
	for i, column := range columns {
		if want := one[int](t, s.db, firsts+`select count(`+column+`) from firsts`, args...); got.Funnel[i].Reached != want {
			t.Errorf("%s: reached by %d, want %d", column, got.Funnel[i].Reached, want)
		}
		if i == 0 {
			continue
		}
		before := columns[i-1]
		if want := one[int](t, s.db, firsts+`select count(*) from firsts where `+column+` is not null and `+before+` is not null`, args...); got.Funnel[i].AfterLast != want {
			t.Errorf("%s after %s: %d, want %d", column, before, got.Funnel[i].AfterLast, want)
		}
		for since, took := range map[string]*time.Duration{"signed": got.Funnel[i].SinceStart, before: got.Funnel[i].SinceLast} {
			want := one[*float64](t, s.db, firsts+`select percentile_cont(0.5) within group (order by extract(epoch from `+column+` - `+since+`)) from firsts where `+column+` >= `+since, args...)
			if (want == nil) != (took == nil) || want != nil && math.Abs(*want-took.Seconds()) > 0.001 {
				t.Errorf("%s since %s: %v, want %v s", column, since, took, want)
			}
			if i == 1 {
				break // both are the same
			}
		}
	}
}

func (s school) checkTables(t *testing.T, got activity.Report, args []any, within func(string) string, runs, learners string) {
	t.Helper()
	lines := func(sql string) []string {
		t.Helper()
		rows, err := s.db.Query(t.Context(), sql, args...)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		slices.Sort(all)
		return all
	}
	same := func(what string, want, got []string) {
		t.Helper()
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Errorf("%s (-want +got): %s", what, cmp.Diff(want, got))
		}
	}
	var lessons, events, templates, teams, quiet []string
	for _, l := range got.Lessons {
		score := "-"
		if l.Scored > 0 {
			score = l.Score.Decimal().DivRound(decimal.NewFromInt(l.Scored), 2).StringFixed(2)
		}
		lessons = append(lessons, fmt.Sprint(l.ID, " ", l.Title, " ", l.Started, " ", l.Completed, " ", score))
	}
	same("lessons", lines(fmt.Sprintf(`
		select concat(id, ' ', title, ' ',
		  (select count(*) from user_progress where lesson_id = lessons.id and %[1]s and %[2]s), ' ',
		  (select count(*) from user_progress where lesson_id = lessons.id and %[1]s and %[3]s), ' ',
		  coalesce((select round(avg(score), 2)::text from user_progress where lesson_id = lessons.id and %[1]s and %[3]s), '-'))
		from lessons where exists (select from user_progress where lesson_id = lessons.id and %[1]s and (%[2]s or %[3]s))`,
		learners, within("started_at"), within("completed_at"))), lessons)
	for _, e := range got.Events {
		events = append(events, fmt.Sprint(e.Event, " ", e.Count))
	}
	same("events", lines(`select concat(event, ' ', count(*)) from template_events where `+learners+` and `+within("created_at")+` group by event`), events)
	for _, e := range got.Templates {
		templates = append(templates, fmt.Sprint(e.Title, " ", e.Used, " ", e.Viewed, " ", e.Forked, " ", e.Shared, " ", e.Created))
	}
	same("templates", lines(`select concat(title, ' ', sum((event = 'used')::int), ' ', sum((event = 'viewed')::int), ' ', sum((event = 'forked')::int), ' ', sum((event = 'shared')::int), ' ', sum((event = 'created')::int))
		from template_events e join prompt_templates t on t.id = template_id where `+learners+` and `+within("e.created_at")+` group by title`), templates)
	for _, team := range got.Teams {
		teams = append(teams, fmt.Sprint(team.Name, " ", team.Members, " ", team.Active, " ", team.Completed, " ", team.LastRunAt.UnixMilli(), " ", team.Runs, " ", team.Cost, " ", team.Unpriced))
	}
	same("teams", lines(`select concat(name, ' ', (select count(*) from team_members where team_id = teams.id), ' ', count(distinct user_id), ' ',
		  (select count(*) from user_progress join team_members using (user_id) where team_id = teams.id and `+within("completed_at")+`), ' ', (extract(epoch from max(prompt_runs.created_at)) * 1000)::bigint, ' ', count(*), ' ', trim_scale(coalesce(sum(total_cost_usd), 0)), ' ', coalesce(sum(unpriced), 0))
		from prompt_runs join teams on teams.id = team_id where user_id is not null and `+runs+` and `+within("prompt_runs.created_at")+` group by teams.id`), teams)
	if got.QuietAll != len(got.Quiet) {
		t.Errorf("%d went quiet, of whom %d are listed", got.QuietAll, len(got.Quiet))
	}
	for _, one := range got.Quiet {
		quiet = append(quiet, fmt.Sprint(one.Email, " ", one.RunID, " ", one.Class))
	}
	who := "deleted_at is null and " + strings.Replace(learners, "user_id", "u.id", 1)
	same("quiet", lines(fmt.Sprintf(`
		select concat(email, ' ', last.id, ' ', (select error_class from prompt_attempts where run_id = last.id))
		from auth.users u
		cross join lateral (select * from prompt_runs where user_id = u.id and %s order by id desc limit 1) last
		where %s and last.status in ('error', 'interrupted') and %s and last.created_at < timestamptz '%s' - interval '7 days'`,
		runs, who, within("last.created_at"), s.now.Format(time.RFC3339))), quiet)
}

// A lead of one team gets nothing of another's counted.
func TestReportAsALead(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 6))
	s := newSchool(t, r, 50, 600)
	lead := s.learners[0]
	exec(t, s.db, `update auth.users set deleted_at = null, is_anonymous = false where id = $1`, lead)
	exec(t, s.db, `delete from public.team_members where user_id = $1`, lead)
	exec(t, s.db, `insert into public.team_members (team_id, user_id, role) values ($1, $2, 'lead')`, s.teams[0], lead)
	store := activity.NewStore(postgres.NewReader(s.db))
	q, err := activity.ParseQuery(url.Values{"range": {"90d"}}, now, time.UTC)
	if err != nil {
		t.Fatal(err)
	}

	q.TeamIDs = s.teams[:1]
	asAdmin, err := store.Report(t.Context(), q, now)
	if err != nil {
		t.Fatal(err)
	}
	asLead, err := store.As(lead).Report(t.Context(), q, now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range asAdmin.Lessons { // what is not published has no name for learners
		if asAdmin.Lessons[i].Title == "Lesson 4" {
			asAdmin.Lessons[i].Title = ""
		}
	}
	for i := range asAdmin.Templates {
		if asAdmin.Templates[i].Title == "Template 4" {
			asAdmin.Templates[i].Title = ""
		}
	}
	sortLessons(asAdmin.Lessons)
	sortLessons(asLead.Lessons)
	if diff := cmp.Diff(asAdmin, asLead, cmp.Comparer(func(a, b activity.Day) bool {
		return a == b || a.String() == b.String() && a.Active == b.Active && a.SignUps == b.SignUps
	}),
		cmp.Comparer(func(a, b activity.Cohort) bool {
			return a.Week == b.Week && a.Size == b.Size && slices.Equal(a.Active, b.Active)
		})); diff != "" {
		t.Errorf("an admin and the lead see another team (-admin +lead): %s", diff)
	}

	// Also if the handler forgot whose teams they are.
	for name, teams := range map[string][]uuid.UUID{"another's": s.teams[1:], "no": {}} {
		q.TeamIDs = teams
		got, err := store.As(lead).Report(t.Context(), q, now)
		if err != nil {
			t.Fatal(err)
		}
		own := one[int64](t, s.db, `select count(*) from prompt_runs where user_id = $1 and team_id = any ($2) and created_at >= $3 and created_at < $4`, lead, teams, q.From, q.To)
		if got.Spent.Runs != own || got.Active > 1 || got.SignUps > 0 || got.Started > 0 || len(got.Events) > 0 || len(got.Quiet) > 0 {
			t.Errorf("%s teams: %+v", name, got)
		}
	}
	q.TeamIDs = nil
	got, err := store.As(lead).Report(t.Context(), q, now)
	if err != nil || got.Spent.Runs+got.Started > 0 || got.Active+got.SignUps > 0 {
		t.Errorf("without a team a lead gets %+v, %v", got, err)
	}
}

// sortLessons puts them in an order that does not depend on what may be seen of them.
func sortLessons(lessons []activity.Lesson) {
	slices.SortFunc(lessons, func(a, b activity.Lesson) int { return strings.Compare(a.ID.String(), b.ID.String()) })
}

func TestReportWithoutAnything(t *testing.T) {
	q, err := activity.ParseQuery(url.Values{}, now, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	got, err := activity.NewStore(postgres.NewReader(pgtest.Tx(t))).Report(t.Context(), q, now)
	if err != nil || got.Active != 0 || got.Stickiness() != 0 || len(got.Days) != 30 || !got.Spent.Known() || got.Funnel[3].SinceStart != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestParseQueryRefuses(t *testing.T) {
	_, err := activity.ParseQuery(url.Values{"range": {"soon"}, "team": {"7"}}, now, time.UTC)
	if f, ok := errors.AsType[*fault.Error](err); !ok || f.Kind != fault.Invalid || len(f.Details) != 2 {
		t.Errorf("%v", err)
	}
}
