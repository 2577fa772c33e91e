package outreach

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
)

func newStore(db postgres.DB) *Store { return NewStore(db, postgres.NewReader(db), time.UTC) }

func report(t testing.TB, s *Store, scope Scope, q Query, now time.Time) Report {
	t.Helper()
	if q.Show == "" {
		q.Show = ShowOpen
	}
	r, err := s.Report(context.Background(), scope, q, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// counted says again what the words mean, learner by learner and with SQL that has
// nothing in common with the store's. who narrows the learners, team_runs the runs
// and attempts.
const counted = `
	select count(*) from auth.users l
	where l.deleted_at is null and coalesce(l.banned_until, '-infinity') <= '%[1]s' and l.is_anonymous = false and (%[2]s)`

const hasKey = `exists (select 1 from public.user_api_keys k where k.user_id = l.id and (k.status = 'healthy' or k.status = 'cooling')
	and coalesce(k.suspect, '-') not in ('invalid_key', 'permission', 'billing')%s)`

func TestReportEqualsTheRows(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			db := pgtest.Tx(t)
			r := rand.New(rand.NewPCG(seed, 9))
			w := newWorld(t, db, r, noon, 60, 5, 400)
			s := newStore(db)
			checkReport(t, db, s, Scope{}, nil, noon)
			for _, team := range w.teams {
				checkReport(t, db, s, Scope{Teams: []uuid.UUID{team}}, &team, noon)
			}
		})
	}
}

// checkReport compares all numbers with counts of their own.
func checkReport(t *testing.T, db postgres.DB, s *Store, scope Scope, team *uuid.UUID, now time.Time) {
	t.Helper()
	got := report(t, s, scope, Query{AllTeams: true}, now)
	at := now.Format(time.RFC3339Nano)
	since := now.Add(-Window).Format(time.RFC3339Nano)
	mine := "true"
	if team != nil {
		mine = fmt.Sprintf("exists (select 1 from public.team_members m where m.user_id = l.id and m.team_id = '%s')", team)
	}
	count := func(condition string) int {
		return int(one[int64](t, db, fmt.Sprintf(counted, at, mine+" and ("+condition+")")))
	}
	anyKey := fmt.Sprintf(hasKey, "")
	ran := fmt.Sprintf(`exists (select 1 from public.prompt_runs p where p.user_id = l.id and p.created_at >= '%s')`, since)
	dead := `exists (select 1 from public.user_api_keys k where k.user_id = l.id and k.status in ('invalid', 'billing')%s)`
	learners := fmt.Sprintf(`select id from auth.users l where l.deleted_at is null and coalesce(l.banned_until, '-infinity') <= '%s' and not l.is_anonymous and %s`, at, mine)
	cost := func(more string) price.USD {
		return one[price.USD](t, db, fmt.Sprintf(`select coalesce(sum(cost_usd), 0) from public.prompt_attempts
			where key_source = 'fallback' and created_at >= '%s' and user_id in (%s) %s`, since, learners, more))
	}
	unpriced := func(more string) int64 {
		return one[int64](t, db, fmt.Sprintf(`select count(*) from public.prompt_attempts
			where key_source = 'fallback' and status <> 'running' and cost_usd is null and created_at >= '%s' and user_id in (%s) %s`, since, learners, more))
	}
	stored := `(select o.state from ops.outreach o where o.learner_id = l.id)`
	over := fmt.Sprintf(`(%s = 'snoozed' and (select snoozed_until from ops.outreach o where o.learner_id = l.id) <= '%s')`, stored, at)
	want := Figures{
		Learners: count("true"), With: count(anyKey), Without: count("not " + anyKey), Active: count(ran), ActiveWithout: count(ran + " and not " + anyKey),
		Broken: count(fmt.Sprintf(dead, "")), Cost: cost(""), Unpriced: unpriced(""),
		OnFallback: count(fmt.Sprintf(`exists (select 1 from public.prompt_attempts a where a.user_id = l.id and a.key_source = 'fallback' and a.created_at >= '%s')`, since)),
		New:        count("not " + anyKey + " and coalesce(" + stored + ", 'new') = 'new'"),
		Contacted:  count("not " + anyKey + " and " + stored + " = 'contacted'"),
		Snoozed:    count("not " + anyKey + " and " + stored + " = 'snoozed' and not " + over),
		Resolved:   count(anyKey + " and " + stored + " is not null"),
		Reopened:   count("not " + anyKey + " and (" + stored + " in ('reopened', 'resolved') or " + over + ")"),
	}
	want.BrokenSince = got.Figures.BrokenSince
	if diff := cmp.Diff(want, got.Figures, cmp.Comparer(price.USD.Equal)); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
	if want.With+want.Without != want.Learners {
		t.Error("with and without a key are not everybody")
	}
	for _, p := range providers {
		keyed := fmt.Sprintf(hasKey, " and k.provider = '"+p+"'")
		wanted := ProviderRow{
			Provider: p, With: count(keyed), Broken: count(fmt.Sprintf(dead, " and k.provider = '"+p+"'")), Cost: cost("and provider = '" + p + "'"),
			Unpriced: unpriced("and provider = '" + p + "'"),
			Fallback: count(fmt.Sprintf(`exists (select 1 from public.prompt_attempts a where a.user_id = l.id and a.provider = '%s' and a.key_source = 'fallback' and a.created_at >= '%s') and not %s`, p, since, keyed)),
		}
		var row ProviderRow
		for _, one := range got.Providers {
			if one.Provider == p {
				row = one
			}
		}
		if row.Provider == "" {
			row.Provider = p // nobody has anything to do with it
		}
		if diff := cmp.Diff(wanted, row, cmp.Comparer(price.USD.Equal)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p, diff)
		}
		for _, listed := range []struct {
			q    Query
			want int
		}{
			{Query{Show: ShowWith, Provider: p}, wanted.With}, {Query{Show: ShowWithout, Provider: p}, want.Learners - wanted.With},
			{Query{Show: ShowBroken, Provider: p}, wanted.Broken}, {Query{Show: ShowFallback, Provider: p}, wanted.Fallback},
		} {
			checkList(t, s, scope, listed.q, listed.want, now)
		}
	}
	for _, row := range got.Teams {
		its := fmt.Sprintf("exists (select 1 from public.team_members m where m.user_id = l.id and m.team_id = '%s')", row.TeamID)
		of := fmt.Sprintf("and user_id in (select user_id from public.team_members where team_id = '%s')", row.TeamID)
		wanted := TeamRow{
			TeamID: row.TeamID, Name: one[string](t, db, `select name from public.teams where id = $1`, row.TeamID),
			Members: count(its), With: count(its + " and " + anyKey), ActiveWithout: count(its + " and " + ran + " and not " + anyKey), Cost: cost(of), Unpriced: unpriced(of),
		}
		if diff := cmp.Diff(wanted, row, cmp.Comparer(price.USD.Equal)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.Name, diff)
		}
	}
	for show, want := range map[string]int{
		ShowOpen: want.New + want.Reopened, ShowContacted: want.Contacted, ShowSnoozed: want.Snoozed, ShowResolved: want.Resolved, ShowWithout: want.Without,
		ShowActive: want.ActiveWithout, ShowWith: want.With, ShowBroken: want.Broken, ShowAll: want.Learners,
	} {
		checkList(t, s, scope, Query{Show: show}, want, now)
	}
}

// checkList reads a list page by page and as a whole: they are the same, in order,
// and as long as its figure says.
func checkList(t *testing.T, s *Store, scope Scope, q Query, want int, now time.Time) {
	t.Helper()
	whole, err := s.List(t.Context(), scope, q, now)
	if err != nil {
		t.Fatal(err)
	}
	var pages []Learner
	for {
		r := report(t, s, scope, q, now)
		if r.Listed != want {
			t.Errorf("%+v finds %d learners, want %d", q, r.Listed, want)
		}
		pages = append(pages, r.Learners...)
		if q.After = r.After; q.After == nil {
			break
		}
	}
	if len(whole) != want {
		t.Errorf("%+v lists %d learners, want %d", q, len(whole), want)
	}
	if diff := cmp.Diff(whole, pages, cmpopts.EquateEmpty(), cmp.Comparer(price.USD.Equal), cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Errorf("%+v: pages (-whole +pages):\n%s", q, diff)
	}
	if !slices.IsSortedFunc(whole, func(a, b Learner) int {
		switch {
		case a.Active != b.Active && a.Active:
			return -1
		case a.Active != b.Active:
			return 1
		}
		return b.Cost.Cmp(a.Cost)
	}) {
		t.Errorf("%+v is not in the order of the queue", q)
	}
}

// What pages work out and what the loop writes down is what Next says.
func TestStatesInSQLAreThoseOfNext(t *testing.T) {
	db := pgtest.Tx(t)
	newWorld(t, db, rand.New(rand.NewPCG(7, 7)), noon, 300, 3, 0)
	s := newStore(db)
	all, err := s.List(t.Context(), Scope{}, Query{Show: ShowAll}, noon)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		LearnerID uuid.UUID
		State     State
		Until     *time.Time
	}
	rows, err := db.Query(t.Context(), `select learner_id, state, snoozed_until as until from ops.outreach`)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		t.Fatal(err)
	}
	was := map[uuid.UUID]Status{}
	for _, r := range stored {
		was[r.LearnerID] = Status{State: r.State}
		if r.Until != nil {
			was[r.LearnerID] = Status{r.State, *r.Until}
		}
	}
	wanted := map[uuid.UUID]State{}
	for _, l := range all {
		next, _ := Next(was[l.ID], len(l.Usable) > 0, len(l.Broken) > 0, noon)
		wanted[l.ID] = next.State
		if next.State != l.State {
			t.Errorf("%+v is shown as %q, want %q", was[l.ID], l.State, next.State)
		}
	}
	changed, err := s.settle(t.Context(), noon)
	if err != nil || changed == 0 {
		t.Fatalf("%d changed, %v", changed, err)
	}
	after, err := s.List(t.Context(), Scope{}, Query{Show: ShowAll}, noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range after {
		if got := one[string](t, db, `select coalesce((select state from ops.outreach where learner_id = $1), '')`, l.ID); State(got) != wanted[l.ID] || l.State != wanted[l.ID] {
			t.Errorf("stored is %q and shown %q, want %q", got, l.State, wanted[l.ID])
		}
	}
	if again, err := s.settle(t.Context(), noon); again != 0 || err != nil {
		t.Errorf("then %d changed again, %v", again, err)
	}
	if events := one[int](t, db, `select count(*)::int from ops.outreach_events where operator_id is null and note <> '' and actor = 'Key Health'`); events == 0 {
		t.Error("nobody is told why")
	}
}

func TestSettleManyAtOnce(t *testing.T) {
	db := pgtest.Tx(t)
	exec(t, db, `insert into auth.users (id, email) select gen_random_uuid(), 'l' || i || '@example.org' from generate_series(1, 1203) i`)
	changed, err := newStore(db).settle(t.Context(), noon)
	if err != nil || changed != 1203 {
		t.Errorf("%d changed, %v; want 1203", changed, err)
	}
}

func TestSnapshotOncePerDay(t *testing.T) {
	db := pgtest.Tx(t)
	w := newWorld(t, db, rand.New(rand.NewPCG(3, 3)), noon, 80, 4, 200)
	s := NewStore(db, postgres.NewReader(db), time.FixedZone("", 13*3600)) // where it is tomorrow
	k := NewKeeper(s, slog.New(slog.DiscardHandler))
	for range 2 {
		if err := k.RunOnce(t.Context(), noon); err != nil {
			t.Fatal(err)
		}
		exec(t, db, `delete from public.user_api_keys`) // what comes later does not change the past
	}
	days, err := s.Trend(t.Context(), nil, noon.AddDate(0, 0, 1))
	if err != nil || len(days) != 1 || days[0].Day.Format(time.DateOnly) != "2026-11-25" {
		t.Fatalf("%+v, %v", days, err)
	}
	if days[0].Usable == 0 || days[0].Broken == 0 || days[0].ActiveWithout == 0 || days[0].Learners <= days[0].Usable {
		t.Errorf("%+v", days[0])
	}
	if today, err := s.Trend(t.Context(), nil, noon); err != nil || len(today) != 0 {
		t.Errorf("today is in the past: %+v, %v", today, err)
	}
	for _, team := range w.teams {
		days, err := s.Trend(t.Context(), &team, noon.AddDate(0, 0, 1))
		if err != nil || len(days) != 1 || days[0].Learners == 0 {
			t.Errorf("team: %+v, %v", days, err)
		}
	}
	if per := one[int](t, db, `select count(*)::int from ops.key_health_days where team_id is null and provider <> 'any'`); per != len(providers) {
		t.Errorf("%d providers, want %d", per, len(providers))
	}
}

// Nobody is there: the day still has its snapshot.
func TestSnapshotOfNobody(t *testing.T) {
	db := pgtest.Tx(t)
	if err := newStore(db).snapshot(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, db, `select count(*)::int from ops.key_health_days where learners = 0 and provider = 'any'`); n != 1 {
		t.Errorf("%d snapshots", n)
	}
}
