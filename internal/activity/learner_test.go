package activity_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/activity"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
)

func TestLearnerEqualsTheRows(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 8))
	s := newSchool(t, r, 12, 400)
	s.addAttempts(t)
	s.checkLearners(t, activity.NewStore(postgres.NewReader(s.db)), r)
}

// What attempts cost is what the rows say, also where it is read from sums, and after
// every change before these are made anew.
func TestLearnerFromSums(t *testing.T) {
	pool := pgtest.Database(t)
	r := rand.New(rand.NewPCG(7, 9))
	s := newSchoolIn(t, pool, r, time.Now(), 8, 400)
	s.addAttempts(t)
	store, roller := activity.NewStore(postgres.NewReader(pool)), rollup.NewRoller(pool, time.UTC, slog.New(slog.DiscardHandler))
	for _, change := range []string{
		`select`,
		`update public.prompt_attempts set cost_usd = 0.000000000007, status = 'ok' where cost_usd is null and created_at < now() - interval '20 days'`,
		`delete from public.prompt_attempts where ordinal = 1 and created_at < now() - interval '40 days'`,
	} {
		exec(t, pool, change)
		s.checkLearners(t, store, r)
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			if done, err := roller.RunOnce(t.Context()); err != nil {
				t.Fatal(err)
			} else if done {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("there is always more to sum")
			}
		}
		s.checkLearners(t, store, r)
	}
	if n := one[int](t, pool, `select count(*) from ops.usage_sums where kind = 'learner'`); n == 0 {
		t.Error("there were no sums")
	}
}

// addAttempts adds some on all kinds of keys, with and without a price.
func (s school) addAttempts(t *testing.T) {
	t.Helper()
	exec(t, s.db, `
		insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, team_id, provider, model, status, key_source, user_key_id, fallback_key_id, cost_usd)
		select id, n, created_at, user_id, team_id, 'a', 'a/b', 'ok', (array['user', 'fallback', null])[1 + (random() * 2)::int], id, id, case when random() < 0.8 then (random() * 1e6)::int / 1e9 end
		from public.prompt_runs cross join generate_series(1, 2) n where status <> 'running'`)
	exec(t, s.db, `update public.user_api_keys set status = 'invalid', status_at = created_at + interval '1 day' where fingerprint = '1'`)
}

// checkLearners compares everybody's page with the rows.
func (s school) checkLearners(t *testing.T, store *activity.Store, r *rand.Rand) {
	t.Helper()
	for _, id := range s.learners {
		for _, teams := range [][]uuid.UUID{nil, s.teams[:2]} {
			got, err := store.Learner(t.Context(), id, teams, s.now, time.UTC)
			members := one[int](t, s.db, `select count(*) from team_members where user_id = $1 and ($2::uuid[] is null or team_id = any ($2))`, id, teams)
			if teams != nil && members == 0 {
				if fault.KindOf(err) != fault.NotFound {
					t.Errorf("a learner of no such team: %v", err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			want := one[string](t, s.db, `
				select concat_ws(' ', (select count(*) from prompt_runs where user_id = $1 and ($2::uuid[] is null or team_id = any ($2))),
				  (select count(*) from user_progress where user_id = $1), (select count(*) from user_progress where user_id = $1 and status = 'completed'),
				  (select count(*) from user_api_keys where user_id = $1),
				  trim_scale(coalesce(sum(cost_usd) filter (where key_source = 'user'), 0)), trim_scale(coalesce(sum(cost_usd) filter (where key_source = 'fallback'), 0)),
				  count(*) filter (where cost_usd is null))
				from prompt_attempts where user_id = $1 and ($2::uuid[] is null or team_id = any ($2))`, id, teams)
			unpriced := got.Own.Unpriced + got.Fallback.Unpriced + got.Other.Unpriced
			if is := fmt.Sprint(got.Runs, " ", got.Started, " ", got.Completed, " ", len(got.Keys), " ", got.Own.Cost, " ", got.Fallback.Cost, " ", unpriced); is != want || len(got.Teams) != members {
				t.Errorf("%s and %d teams, want %s and %d", is, len(got.Teams), want, members)
			}
			s.checkTimeline(t, store, r, id, teams)
		}
	}
}

// checkTimeline walks through it, and compares it with what happened.
func (s school) checkTimeline(t *testing.T, store *activity.Store, r *rand.Rand, id uuid.UUID, teams []uuid.UUID) {
	t.Helper()
	var seen []string
	var last time.Time
	for place := (activity.Place{}); ; {
		events, next, err := store.Timeline(t.Context(), id, teams, place, 1+r.IntN(7))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if !last.IsZero() && e.At.After(last) {
				t.Errorf("%v comes after %s", e, last)
			}
			last = e.At
			seen = append(seen, e.Kind+" "+e.Ref)
		}
		if next == (activity.Place{}) {
			break
		}
		if place, err = activity.ParsePlace(next.String()); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := s.db.Query(t.Context(), `
		select 'run ' || id from prompt_runs where user_id = $1 and ($2::uuid[] is null or team_id = any ($2))
		union all select 'template ' || id from template_events where user_id = $1
		union all select 'lesson_started ' || lesson_id from user_progress where user_id = $1
		union all select 'lesson_completed ' || lesson_id from user_progress where user_id = $1 and status = 'completed'
		union all select 'key_added ' || id from user_api_keys where user_id = $1
		union all select 'key_status ' || id from user_api_keys where user_id = $1 and status = 'invalid'`, id, teams)
	if err != nil {
		t.Fatal(err)
	}
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	slices.Sort(seen)
	if !slices.Equal(want, seen) {
		t.Errorf("the timeline has %d entries, want %d", len(seen), len(want))
	}
}

// A lead sees members of the team led, of keys only their state, and only the
// team's runs.
func TestLearnerAsALead(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 9))
	s := newSchool(t, r, 20, 300)
	lead, member, stranger := s.learners[0], s.learners[1], s.learners[2]
	exec(t, s.db, `delete from public.team_members`)
	exec(t, s.db, `insert into public.team_members (team_id, user_id, role) values ($1, $3, 'lead'), ($1, $4, 'member'), ($2, $3, 'member'), ($2, $5, 'lead')`, s.teams[0], s.teams[1], lead, member, stranger)
	exec(t, s.db, `insert into public.user_api_keys (user_id, provider, label, ciphertext, fingerprint, last_four) values ($1, 'xai', 'private label', 'x', 'y', '9f2a')`, member)
	store := activity.NewStore(postgres.NewReader(s.db)).As(lead)
	got, err := store.Learner(t.Context(), member, s.teams[:1], now, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v", got); strings.Contains(text, "9f2a") || strings.Contains(text, "private label") || got.Email == "" || len(got.Keys) == 0 {
		t.Errorf("the lead gets %s", text)
	}
	if own := one[int64](t, s.db, `select count(*) from prompt_runs where user_id = $1 and team_id = $2`, member, s.teams[0]); got.Runs != own {
		t.Errorf("%d runs, want %d", got.Runs, own)
	}
	for who, ask := range map[string]func() (activity.Learner, error){
		"a stranger": func() (activity.Learner, error) {
			return store.Learner(t.Context(), stranger, s.teams[:1], now, time.UTC)
		},
		"nobody": func() (activity.Learner, error) {
			return store.Learner(t.Context(), uuid.New(), s.teams[:1], now, time.UTC)
		},
		"a learner of another team": func() (activity.Learner, error) {
			return store.Learner(t.Context(), s.learners[5], s.teams[:1], now, time.UTC)
		},
		"a team that is not theirs": func() (activity.Learner, error) {
			return store.Learner(t.Context(), stranger, s.teams[2:], now, time.UTC)
		},
	} {
		if _, err := ask(); fault.KindOf(err) != fault.NotFound || err == nil {
			t.Errorf("%s: %v", who, err)
		}
	}
	events, _, err := store.Timeline(t.Context(), stranger, s.teams, activity.Place{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind != "run" || one[*uuid.UUID](t, s.db, `select team_id from prompt_runs where id::text = $1`, e.Ref) == nil ||
			*one[*uuid.UUID](t, s.db, `select team_id from prompt_runs where id::text = $1`, e.Ref) != s.teams[0] {
			t.Errorf("the lead sees %+v of a stranger", e)
		}
	}
}

func TestParsePlaceRefuses(t *testing.T) {
	for _, text := range []string{"x", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z~odd~1", "2026-01-01~run~1", "0001-01-01T00:00:00Z~run~1", "2026-01-01T00:00:00Z~run~" + strings.Repeat("a", 40)} {
		if _, err := activity.ParsePlace(text); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestWriteCSV(t *testing.T) {
	score, err := price.ParseUSD("175")
	if err != nil {
		t.Fatal(err)
	}
	r := activity.Report{
		Days: []activity.Day{{Active: 3, LessonsStarted: 2}}, Cohorts: []activity.Cohort{{Size: 9, Active: []int{7, 2}, Going: true}},
		Funnel: []activity.Step{{Reached: 9}, {Reached: 4, AfterLast: 4, SinceStart: new(90 * time.Second)}}, Lessons: []activity.Lesson{{Title: "=1+1", Started: 1, Completed: 2, Scored: 2, Score: score}},
		Events: []activity.EventCount{{Event: "used", Count: 5}}, Templates: []activity.Template{{Title: "@x", Used: 5}},
		Teams: []activity.Team{{Name: "-a", Spent: activity.Spent{Runs: 1, Unpriced: 2}}}, Quiet: []activity.Quiet{{Email: "+a@b.c", Class: "timeout"}},
	}
	for table, want := range map[string]string{
		"days": ",3,0,0,0,2,0", "cohorts": ",1,9,2,false", "funnel": "First key,4,4,90,", "lessons": "'=1+1,1,2,87.5", "events": "used,5",
		"templates": ",'@x,5,0,0,0,0", "teams": ",'-a,0,0,0,1,,2,", "quiet": "'+a@b.c,",
	} {
		var file bytes.Buffer
		if err := activity.WriteCSV(&file, r, table); err != nil {
			t.Fatal(err)
		}
		if _, err := csv.NewReader(bytes.NewReader(file.Bytes())).ReadAll(); err != nil || !strings.Contains(file.String(), want) || !slices.Contains(activity.Tables, table) {
			t.Errorf("%s (%v):\n%s", table, err, file.String())
		}
	}
}
