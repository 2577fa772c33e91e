package usage_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/rollup"
	"github.com/promptcademy/promptops/internal/usage"
)

// Some days have sums, others changed since, and of some zones there are none: random
// queries against other SQL than ours.
func TestReportEqualsTheRows(t *testing.T) {
	db := pgtest.Database(t)
	r := rand.New(rand.NewPCG(2, 11))
	now := instant(t, "2026-11-24T04:08:57Z")
	c := newCrowd(t, db)
	insert(t, db, c.scatter(r, 2900, now, 75)...)
	_, err := db.Exec(context.Background(), `insert into ops.operators (email, role, timezone) values ('a@example.org', 'admin', 'Asia/Kathmandu'), ('b@example.org', 'admin', 'UTC')`)
	if err != nil {
		t.Fatal(err)
	}
	roller := rollup.NewRoller(db, zone(t, "Europe/Berlin"), slog.New(slog.DiscardHandler))
	if days, err := roller.Rebuild(context.Background()); err != nil || days < 100 {
		t.Fatalf("%d days are summed, %v", days, err)
	}
	insert(t, db, c.scatter(r, 100, now.AddDate(0, 0, -50), 20)...)
	store := usage.NewStore(postgres.NewReader(db))
	for range 70 {
		asked := c.question(r, now)
		t.Run(asked.values.Encode()+"&zone="+asked.zone, func(t *testing.T) {
			asked.check(t, store, db, now)
			remembered := store.Remembered()
			asked.check(t, store, db, now)
			if now := store.Remembered(); now != remembered {
				t.Errorf("%d answers are remembered, and %d when it was asked again", remembered, now)
			}
		})
	}
}

// Sums come and go while it is asked.
func TestReportEqualsTheRowsWhileOthersWrite(t *testing.T) {
	db := pgtest.Database(t)
	r := rand.New(rand.NewPCG(3, 12))
	now := instant(t, "2026-11-24T04:08:57Z")
	c := newCrowd(t, db)
	insert(t, db, c.scatter(r, 600, now, 75)...)
	stop := make(chan struct{})
	var others sync.WaitGroup
	again := func(seed uint64, change func(r *rand.Rand) error) {
		others.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := change(r); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	roller := rollup.NewRoller(db, time.UTC, slog.New(slog.DiscardHandler))
	again(1, func(*rand.Rand) error { _, err := roller.RunOnce(context.Background()); return err })
	for seed := range uint64(2) {
		again(seed+2, func(r *rand.Rand) error {
			tx, err := db.Begin(context.Background())
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback(context.Background()) }()
			insert(t, tx, c.scatter(r, 3, now, 75)...)
			_, err = tx.Exec(context.Background(), pick(r,
				`delete from public.prompt_attempts where run_id in (select id from public.prompt_runs where id < $1 order by id desc limit 2)`,
				`update public.prompt_attempts set cost_usd = coalesce(cost_usd, 0) + 0.1 where status <> 'running' and run_id in (select id from public.prompt_runs where id > $1 order by id limit 3)`), uuid.New())
			if err != nil || r.IntN(4) == 0 {
				return err
			}
			time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
			return tx.Commit(context.Background())
		})
	}
	store := usage.NewStore(postgres.NewReader(db))
	for until := time.Now().Add(4 * time.Second); time.Now().Before(until) && !t.Failed(); {
		asked := c.question(r, now)
		asked.zone = "UTC"
		asked.during = true
		t.Run(asked.values.Encode(), func(t *testing.T) { asked.check(t, store, db, now) })
	}
	close(stop)
	others.Wait()
}

// question is a query and the same in SQL.
type question struct {
	values url.Values
	where  string // but for the days
	zone   string
	during bool // others write: what is asked twice may differ
	lead   *uuid.UUID
	led    []uuid.UUID // to which the lead is limited
}

func (c crowd) question(r *rand.Rand, now time.Time) question {
	q := question{values: url.Values{}, where: "true", zone: pick(r, "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")}
	filter := func(name, value, sql string) {
		if r.IntN(6) == 0 {
			q.values.Set(name, value)
			q.where += fmt.Sprintf(" and "+sql, value)
		}
	}
	filter("provider", pick(r, "openai", "groq", "nobody"), "provider = '%s'")
	filter("model", pick(r, "openai/a0", "groq/openai/a1", "google/rare3"), "model = '%s'")
	filter("team", pick(r, c.teams...).String(), "team_id = '%s'")
	filter("template", pick(r, c.templates...).String(), "template_id = '%s'")
	filter("key", pick(r, "user", "fallback"), "key_source = '%s'")
	filter("learner", pick(r, "0@example.org", "2@example.org", "nobody@example.org"), "user_id = (select id from auth.users where email = '%s')")
	days := 1 + r.IntN(70)
	q.values.Set("bucket", string(pick(r, usage.Days, usage.Days, usage.Weeks, usage.Hours)))
	if q.values.Get("bucket") == "hour" {
		days = 1 + r.IntN(usage.MostDaysOfHours)
	}
	last := now.AddDate(0, 0, -r.IntN(70-min(days, 69)))
	if days < 4 && r.IntN(2) == 0 {
		last = time.Date(2026, 10, 26, 0, 0, 0, 0, time.UTC) // clocks have just been put back
	}
	q.values.Set("from", last.AddDate(0, 0, 1-days).Format(time.DateOnly))
	q.values.Set("to", last.Format(time.DateOnly))
	q.values.Set("group", string(pick(r, usage.Dimensions...)))
	q.values.Set("metric", string(pick(r, usage.Metrics...)))
	if r.IntN(2) == 0 {
		q.values.Set("sub", string(pick(r, usage.Dimensions...)))
	}
	if r.IntN(3) == 0 {
		q.values.Set("compare", "previous")
	}
	return q
}

// check asks at the same moment as it counts.
func (asked question) check(t *testing.T, store *usage.Store, db *pgxpool.Pool, now time.Time) {
	t.Helper()
	q, err := usage.ParseQuery(asked.values, now, zone(t, asked.zone))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	store = store.At(tx)
	if asked.lead != nil {
		store, q.TeamIDs = store.As(*asked.lead), asked.led
	}
	got, err := store.Report(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	days := func(from, to string) string {
		return fmt.Sprintf("%s and (created_at at time zone '%s')::date between '%s' and '%s'", asked.where, asked.zone, from, to)
	}
	where := days(q.FirstDay(), q.LastDay())
	checkSums(t, q, got)
	checkAgainstRows(t, tx, q, got, where)
	if got.Before != nil {
		before := days(q.Previous().FirstDay(), q.Previous().LastDay())
		if diff := cmp.Diff(counted(t, tx, "''", before)[""], figuresOf(got.Before.Totals), near()); diff != "" {
			t.Error("the period before:", diff)
		}
		var sum usage.Totals
		for _, p := range got.Before.Points {
			sum.Cost, sum.Runs, sum.Attempts = sum.Cost.Add(p.Cost), sum.Runs+p.Runs, sum.Attempts+p.Attempts
		}
		total := got.Before.Totals
		if len(got.Before.Points) != len(got.Points) || q.Metric == usage.Cost && !sum.Cost.Equal(total.Cost) || q.Metric == usage.Runs && sum.Runs != total.Runs {
			t.Errorf("the %d buckets of the period before add up to %+v, want %+v", len(got.Before.Points), sum, total)
		}
	}
	lines, cut, err := store.Lines(t.Context(), q)
	if err != nil || cut {
		t.Fatal(cut, err)
	}
	checkLines(t, q, got, lines)
}
