package usage_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
	"github.com/promptcademy/promptops/internal/usage"
)

// Some days have sums, others changed since, of today there are parts, and of some
// zones there are no days at all.
func TestHeatAndDaysEqualTheRows(t *testing.T) {
	db := pgtest.Database(t)
	r := rand.New(rand.NewPCG(5, 8))
	now := time.Now().UTC().Truncate(time.Millisecond)
	teams := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	insert(t, db, scatter(r, 2000, now, teams)...)
	today := scatter(r, 400, now, teams)
	for i := range today {
		today[i].at = now.Add(-now.Sub(today[i].at) / 60)
	}
	insert(t, db, today...)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := db.Exec(context.Background(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	learner, template := uuid.New(), uuid.New()
	exec(`insert into auth.users (id, email) values ($1, 'ada@example.org')`, learner)
	exec(`update public.prompt_attempts set user_id = $1 where get_byte(uuid_send(run_id), 15) % 7 = 0`, learner)
	exec(`update public.prompt_attempts set template_id = $1 where get_byte(uuid_send(run_id), 14) % 5 = 0`, template)
	exec(`insert into ops.operators (email, role, timezone) values ('a@example.org', 'admin', 'Australia/Lord_Howe'), ('b@example.org', 'admin', 'UTC')`)
	roller := rollup.NewRoller(db, zone(t, "Europe/Berlin"), slog.New(slog.DiscardHandler))
	if days, err := roller.Rebuild(context.Background()); err != nil || days < 100 {
		t.Fatalf("%d days are summed, %v", days, err)
	}
	insert(t, db, scatter(r, 60, now.AddDate(0, 0, -50), teams)...)

	store := usage.NewStore(postgres.NewReader(db))
	for range 60 {
		zoneName := pick(r, "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
		z := zone(t, zoneName)
		v, where := url.Values{}, "true"
		filter := func(name, value, sql string) {
			if r.IntN(4) == 0 {
				v.Set(name, value)
				where += fmt.Sprintf(" and "+sql, value)
			}
		}
		filter("provider", pick(r, "openai", "groq", "nobody"), "provider = '%s'")
		filter("model", pick(r, "openai/a0", "groq/openai/a1", "google/rare3"), "model = '%s'")
		filter("key", pick(r, "user", "fallback"), "key_source = '%s'")
		if r.IntN(3) == 0 {
			filter("team", pick(r, teams...).String(), "team_id = '%s'")
			filter("learner", pick(r, "Ada@example.org", "nobody@example.org"), "user_id = (select id from auth.users where email = lower('%s'))")
		}
		if r.IntN(3) == 0 {
			filter("template", template.String(), "template_id = '%s'")
		}
		from := r.IntN(60)
		v.Set("from", now.In(z).AddDate(0, 0, -from).Format(time.DateOnly))
		v.Set("to", now.In(z).AddDate(0, 0, -r.IntN(from+1)).Format(time.DateOnly))
		where += fmt.Sprintf(" and (created_at at time zone '%s')::date between '%s' and '%s'", zoneName, v.Get("from"), v.Get("to"))

		t.Run(v.Encode()+"&zone="+zoneName, func(t *testing.T) {
			q, err := usage.ParseQuery(v, now, z)
			if err != nil {
				t.Fatal(err)
			}
			heat, counted, err := store.Heat(context.Background(), q, now)
			if err != nil {
				t.Fatal(err)
			}
			if costly := v.Has("template") && !v.Has("team") && !v.Has("learner"); counted == costly {
				t.Errorf("counted: %v", counted)
			} else if counted {
				checkHeat(t, db, heat, q, now, where)
			}
			boundaries := period.Starts(period.DayOf(q.From, z), period.DayOf(q.To.Add(-time.Nanosecond), z), z)
			days, counted, err := store.DailyCost(context.Background(), q, boundaries)
			if err != nil {
				t.Fatal(err)
			}
			if costly := v.Has("template") && (v.Has("provider") || v.Has("model")) && !v.Has("team") && !v.Has("learner"); counted == costly {
				t.Errorf("days are counted: %v", counted)
			} else if counted {
				checkDays(t, db, days, boundaries, where, zoneName)
			}
		})
	}
}

func checkHeat(t *testing.T, db postgres.DB, heat usage.Heat, q usage.Query, now time.Time, where string) {
	t.Helper()
	var want usage.Heat
	rows, err := db.Query(context.Background(), `
		select extract(isodow from created_at at time zone $1)::int - 1, extract(hour from created_at at time zone $1)::int,
		       count(distinct run_id), coalesce(sum(cost_usd), 0), count(*) filter (where status <> 'running') - count(cost_usd) filter (where status <> 'running')
		from prompt_attempts where `+where+` group by 1, 2`, q.Zone.String())
	if err != nil {
		t.Fatal(err)
	}
	var weekday, clock int
	var sum usage.HourSum
	if _, err := pgx.ForEachRow(rows, []any{&weekday, &clock, &sum.Runs, &sum.Cost, &sum.Unpriced}, func() error {
		want[weekday][clock] = sum
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	rows, err = db.Query(context.Background(), `
		select extract(isodow from at at time zone $1)::int - 1, extract(hour from at at time zone $1)::int, count(*) / 60.0::float8
		from generate_series($2::timestamptz, $3::timestamptz - interval '1 second', '1 minute') at group by 1, 2`, q.Zone.String(), q.From, sooner(q.To, now))
	if err != nil {
		t.Fatal(err)
	}
	var hours float64
	if _, err := pgx.ForEachRow(rows, []any{&weekday, &clock, &hours}, func() error {
		want[weekday][clock].Hours = hours
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	same := cmp.Options{
		cmp.Comparer(func(a, b price.USD) bool { return a.Equal(b) }),
		cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 0.02 }), // counted in minutes
	}
	if diff := cmp.Diff(want, heat, same); diff != "" {
		t.Errorf("heat (-rows +got):\n%.3000s", diff)
	}
}

func checkDays(t *testing.T, db postgres.DB, days []usage.DayCost, boundaries []time.Time, where, zoneName string) {
	t.Helper()
	want := map[string]usage.DayCost{}
	rows, err := db.Query(context.Background(), `
		select (created_at at time zone $1)::date::text, coalesce(sum(cost_usd), 0), coalesce(sum(case key_source when 'fallback' then cost_usd end), 0),
		       sum(case when cost_usd is null and status <> 'running' then 1 else 0 end)
		from prompt_attempts where `+where+` group by 1`, zoneName)
	if err != nil {
		t.Fatal(err)
	}
	var date string
	var day usage.DayCost
	if _, err := pgx.ForEachRow(rows, []any{&date, &day.Cost, &day.Fallback, &day.Unpriced}, func() error {
		want[date] = day
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i, got := range days {
		date := boundaries[i].Format(time.DateOnly)
		if w := want[date]; !got.Cost.Equal(w.Cost) || !got.Fallback.Equal(w.Fallback) || got.Unpriced != w.Unpriced {
			t.Errorf("%s: %+v, want %+v", date, got, w)
		}
	}
}

func sooner(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
