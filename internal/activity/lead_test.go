package activity_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/activity"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// leadOf makes an account that leads some teams and is in no other.
func (s school) leadOf(t testing.TB, teams []uuid.UUID) uuid.UUID {
	t.Helper()
	lead := uuid.New()
	exec(t, s.db, `insert into auth.users (id, email, created_at) values ($1, $2, $3)`, lead, "lead-"+lead.String()+"@example.org", s.now.AddDate(0, 0, -40))
	exec(t, s.db, `insert into public.team_members (team_id, user_id, role) select unnest($1::uuid[]), $2, 'lead'`, teams, lead)
	return lead
}

// nameless takes away the names that are not for learners, and their order with them.
func nameless(r activity.Report) activity.Report {
	for i := range r.Lessons {
		r.Lessons[i].Title = ""
	}
	for i := range r.Templates {
		r.Templates[i].Title = ""
	}
	sortLessons(r.Lessons)
	return r
}

// sameForTheLead compares what the lead of all teams asked for gets with what the rows
// say, to them and to an admin.
func (s school) sameForTheLead(t testing.TB, store *activity.Store, lead uuid.UUID, q activity.Query) bool {
	t.Helper()
	got, err := store.As(lead).Report(t.Context(), q, s.now)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := store.As(lead).OfRows(t.Context(), q, s.now)
	if err != nil {
		t.Fatal(err)
	}
	ofAdmin, err := store.OfRows(t.Context(), q, s.now)
	if err != nil {
		t.Fatal(err)
	}
	return sameReports(t, rows, got) && sameReports(t, nameless(ofAdmin), nameless(got))
}

// What a handler that forgot whose teams they are gets for a lead: their own, as
// row-level security has it, though everybody's has been read and remembered.
func TestCountedForALead(t *testing.T) {
	pool := pgtest.Database(t)
	r := rand.New(rand.NewPCG(17, 18))
	s := newSchoolIn(t, pool, r, time.Now(), 40, 800)
	lead, other := s.leadOf(t, s.teams[:1]), s.leadOf(t, s.teams[1:])
	keep(t, newKeeper(pool))
	store := activity.NewStore(postgres.NewReader(pool))
	for range 4 {
		q, zone := anyQuery(t, r, s)
		for name, teams := range map[string][]uuid.UUID{
			"everybody": nil, "no team": {}, "the own team": s.teams[:1], "other teams": s.teams[1:], "all teams": s.teams, "no such team": {uuid.New()},
		} {
			q.TeamIDs = teams
			t.Run(fmt.Sprintf("%s&zone=%s, %s", q.Values().Encode(), zone, name), func(t *testing.T) {
				if _, err := store.Report(t.Context(), q, s.now); err != nil { // which remembers it
					t.Fatal(err)
				}
				if _, err := store.As(other).Report(t.Context(), q, s.now); err != nil {
					t.Fatal(err)
				}
				got, err := store.As(lead).Report(t.Context(), q, s.now)
				if err != nil {
					t.Fatal(err)
				}
				rows, err := store.As(lead).OfRows(t.Context(), q, s.now)
				if err != nil {
					t.Fatal(err)
				}
				sameReports(t, rows, got)
				for _, team := range got.Teams {
					if team.ID != s.teams[0] {
						t.Errorf("the lead sees %+v", team)
					}
				}
				if name == "other teams" || name == "no such team" || name == "everybody" {
					if got.Spent.Runs+got.Started+got.Completed+int64(got.Active+got.Monthly+got.SignUps+len(got.Events)+len(got.Quiet)) > 0 {
						t.Errorf("the lead sees %+v", got)
					}
				}
			})
		}
	}
	if n := one[int](t, pool, `select count(*) from ops.active_members where team_id = any ($1)`, s.teams[1:]); n == 0 {
		t.Error("there was nothing to see")
	}
}
