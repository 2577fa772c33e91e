package run

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// asRoot stores what a test needs, and fails with it.
func asRoot(t testing.TB, db postgres.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%v\n%s", err, sql)
	}
}

func TestParseBudgets(t *testing.T) {
	all := Budgets{DailyUSD: usd(t, "25.5"), LearnerDailyUSD: usd(t, "0"), RunsPerMinute: new(600), ConcurrentRuns: new(1), FallbackMaxTokens: 1_000_000}
	for name, tt := range map[string]struct {
		typed url.Values
		want  Budgets
		bad   []string // fields
	}{
		"all":      {typed: url.Values{"dailyUsd": {" $25.50 "}, "learnerDailyUsd": {"0"}, "runsPerMinute": {"600"}, "concurrentRuns": {" 1"}, "fallbackMaxTokens": {"1000000"}}, want: all},
		"no limit": {typed: url.Values{"dailyUsd": {" "}, "fallbackMaxTokens": {"4096"}}, want: Budgets{FallbackMaxTokens: 4096}},
		"small":    {typed: url.Values{"dailyUsd": {"0.000000001"}, "fallbackMaxTokens": {"1"}}, want: Budgets{DailyUSD: usd(t, "0.000000001"), FallbackMaxTokens: 1}},
		"nothing":  {bad: []string{"fallbackMaxTokens"}},
		"no numbers": {
			typed: url.Values{"dailyUsd": {"25,50"}, "learnerDailyUsd": {"a lot"}, "runsPerMinute": {"1.5"}, "concurrentRuns": {"x"}, "fallbackMaxTokens": {"4k"}},
			bad:   []string{"concurrentRuns", "dailyUsd", "fallbackMaxTokens", "learnerDailyUsd", "runsPerMinute"},
		},
		"too small": {
			typed: url.Values{"dailyUsd": {"-1"}, "learnerDailyUsd": {"0.0000000001"}, "runsPerMinute": {"0"}, "concurrentRuns": {"-3"}, "fallbackMaxTokens": {"0"}},
			bad:   []string{"concurrentRuns", "dailyUsd", "fallbackMaxTokens", "learnerDailyUsd", "runsPerMinute"},
		},
		"too large": {
			typed: url.Values{"dailyUsd": {"1e99"}, "learnerDailyUsd": {"1e999999"}, "runsPerMinute": {"601"}, "concurrentRuns": {"99999999999999999999"}, "fallbackMaxTokens": {"1000001"}},
			bad:   []string{"concurrentRuns", "dailyUsd", "fallbackMaxTokens", "learnerDailyUsd", "runsPerMinute"},
		},
		"one unreadable, one refused": {typed: url.Values{"dailyUsd": {"much"}, "runsPerMinute": {"0"}, "fallbackMaxTokens": {"5"}}, bad: []string{"dailyUsd", "runsPerMinute"}},
	} {
		got, err := ParseBudgets(tt.typed)
		var bad []string
		if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Invalid {
			for _, detail := range f.Details {
				bad = append(bad, detail.Field)
				if detail.Message == "" {
					t.Errorf("%s: %s is refused without a word", name, detail.Field)
				}
			}
			slices.Sort(bad)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tt.bad, bad); diff != "" {
			t.Errorf("%s: bad fields (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if again, err := ParseBudgets(got.Values()); err == nil && !again.equal(got) || err != nil && tt.bad == nil {
			t.Errorf("%s: %v is read as %+v, %v", name, got.Values(), again, err)
		}
	}
}

func TestLimitsAreSetOnce(t *testing.T) {
	ctx, db, now := t.Context(), pgtest.Database(t), time.Date(2026, 11, 24, 12, 0, 0, 123456000, time.UTC)
	s := NewBudgetStore(db, time.UTC)
	marta, lena := uuid.New(), uuid.New()
	asRoot(t, db, `insert into ops.operators (id, email, name, role) values ($1, 'marta@example.org', 'Marta', 'admin'), ($2, 'lena@example.org', '', 'admin')`, marta, lena)
	inForce := func() InForce {
		t.Helper()
		found, err := s.InForce(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if diff := cmp.Diff(InForce{Budgets: Budgets{FallbackMaxTokens: DefaultFallbackMaxTokens}}, inForce()); diff != "" {
		t.Errorf("nothing is set (-want +got):\n%s", diff)
	}

	// The configuration sets the first ones, and no later ones.
	first := Budgets{DailyUSD: usd(t, "25"), ConcurrentRuns: new(4), FallbackMaxTokens: 4096}
	if err := s.Seed(ctx, first); err != nil {
		t.Fatal(err)
	}
	if err := s.Seed(ctx, Budgets{DailyUSD: usd(t, "99"), FallbackMaxTokens: 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Seed(ctx, Budgets{DailyUSD: usd(t, "-1"), FallbackMaxTokens: 0}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a negative budget: %v", err)
	}
	seeded := inForce()
	if diff := cmp.Diff(InForce{Budgets: first, ChangedAt: seeded.ChangedAt}, seeded); diff != "" || seeded.ChangedAt.IsZero() {
		t.Errorf("the first limits (-want +got):\n%s", diff)
	}

	second := Budgets{DailyUSD: usd(t, "0.000000001"), LearnerDailyUSD: usd(t, "1.5"), RunsPerMinute: new(10), FallbackMaxTokens: 512}
	before, err := s.Set(ctx, second, seeded.ChangedAt, marta, now)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, before); diff != "" {
		t.Errorf("what held before (-want +got):\n%s", diff)
	}
	set := inForce()
	want := InForce{Budgets: second, ChangedAt: set.ChangedAt, ChangedBy: &marta, Name: "Marta", Email: "marta@example.org"}
	if diff := cmp.Diff(want, set); diff != "" {
		t.Errorf("what holds now (-want +got):\n%s", diff)
	}

	// Whoever has not seen that must not undo it.
	if _, err := s.Set(ctx, first, seeded.ChangedAt, lena, now); fault.KindOf(err) != fault.Conflict {
		t.Errorf("an old state: %v, want fault.Conflict", err)
	}
	if _, err := s.Set(ctx, first, time.Time{}, lena, now); fault.KindOf(err) != fault.Conflict {
		t.Errorf("no state: %v, want fault.Conflict", err)
	}
	if _, err := s.Set(ctx, Budgets{FallbackMaxTokens: 0}, set.ChangedAt, lena, now); fault.KindOf(err) != fault.Invalid {
		t.Errorf("no tokens: %v, want fault.Invalid", err)
	}
	if _, err := s.Set(ctx, second, set.ChangedAt, lena, now); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if diff := cmp.Diff(set, inForce()); diff != "" {
		t.Errorf("something was changed after all (-want +got):\n%s", diff)
	}

	// Back again, with a clock that is behind: the state is another one all the same.
	if _, err := s.Set(ctx, first, set.ChangedAt, lena, set.ChangedAt.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if back := inForce(); !back.ChangedAt.After(set.ChangedAt) || *back.ChangedBy != lena || !back.equal(first) {
		t.Errorf("put back as %+v", back)
	}
	asRoot(t, db, `delete from ops.operators`)
	if gone := inForce(); *gone.ChangedBy != lena || gone.Email != "" {
		t.Errorf("changed by somebody who is gone: %+v", gone)
	}
}

// Of many who save at once, one does, also where there is nothing yet.
func TestOneOfManyChangesTheLimits(t *testing.T) {
	ctx, s := t.Context(), NewBudgetStore(pgtest.Database(t), time.UTC)
	for round := range 3 {
		seen, err := s.InForce(ctx)
		if err != nil {
			t.Fatal(err)
		}
		kinds := make([]string, 8)
		var wait sync.WaitGroup
		for i := range kinds {
			wait.Go(func() {
				_, err := s.Set(ctx, Budgets{RunsPerMinute: new(10*round + i + 1), FallbackMaxTokens: 1}, seen.ChangedAt, uuid.New(), time.Now())
				kinds[i] = "set"
				if err != nil {
					kinds[i] = string(fault.KindOf(err))
				}
			})
		}
		wait.Wait()
		slices.Sort(kinds)
		if got := strings.Join(kinds, " "); got != "conflict conflict conflict conflict conflict conflict conflict set" {
			t.Errorf("round %d: %s", round, got)
		}
	}
}

// counted is all that is counted, written out, without zeros.
func counted(t testing.TB, db postgres.DB) map[string]string {
	t.Helper()
	rows, err := db.Query(context.Background(), `
		select scope || ' ' || subject || ' ' || period, trim_scale(used_usd)::text from ops.budget_counters where used_usd <> 0`)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	var id, amount string
	if _, err := pgx.ForEachRow(rows, []any{&id, &amount}, func() error { found[id] = amount; return nil }); err != nil {
		t.Fatal(err)
	}
	return found
}

// past writes runs with one attempt each, as they would have been recorded.
type past struct {
	t  testing.TB
	db postgres.DB
}

func (p past) months(days ...string) past {
	p.t.Helper()
	for _, day := range days {
		asRoot(p.t, p.db, `select ops.ensure_partitions($1::date, $1::date)`, day)
	}
	return p
}

// attempt costs cost, empty for one that nobody could price, with a fallback key,
// or, where that is nil, with one of the learner's own.
func (p past) attempt(at string, learner, fallbackKey *uuid.UUID, cost string) {
	p.t.Helper()
	source, own := "fallback", (*uuid.UUID)(nil)
	if fallbackKey == nil {
		source, own = "user", new(uuid.New())
	}
	var operator *uuid.UUID
	if learner == nil {
		operator = new(uuid.New())
	}
	asRoot(p.t, p.db, `
		insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, operator_id, provider, model, status, key_source, user_key_id, fallback_key_id, cost_usd)
		values ($1, 0, $2::text::timestamptz, $3, $4, 'openai', 'openai/good', 'ok', $5, $6, $7, nullif($8, '')::numeric)`,
		uuid.New(), at, learner, operator, source, own, fallbackKey, cost)
}

// running is a run that is going on, with that plan.
func (p past) running(at string, learner uuid.UUID, plan string, args ...any) {
	p.t.Helper()
	asRoot(p.t, p.db, `
		insert into public.prompt_runs (id, created_at, user_id, models, plan)
		values ($1, $2::text::timestamptz, $3, '{openai/good}', $4::text::jsonb)`, uuid.New(), at, learner, fmt.Sprintf(plan, args...))
}

// What runs have counted is what the rows say, at the end and while they go on.
func TestRecountFindsWhatRunsCounted(t *testing.T) {
	w := makeWorld(t)
	store := NewBudgetStore(w.pool, time.UTC)
	w.exec(`update ops.fallback_keys set monthly_cap_usd = 1000`)
	w.must(store.Seed(w.ctx, Budgets{DailyUSD: usd(t, "1000"), LearnerDailyUSD: usd(t, "500"), FallbackMaxTokens: 100}))
	grace := uuid.New()
	w.exec(`insert into auth.users (id, email) values ($1, 'grace@example.org')`, grace)

	var wait sync.WaitGroup
	for i := range 24 {
		wait.Go(func() {
			call := w.call("openai/good", "anthropic/good", "google/good", "mistral/sandbox-has-no-price")
			if i%2 == 0 {
				call.LearnerID = &grace
			}
			if _, err := w.Run(w.ctx, call, nil); err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
	for range 6 {
		wait.Go(func() {
			if err := store.Recount(w.ctx, time.Now()); err != nil {
				t.Errorf("recount: %v", err)
			}
		})
	}
	wait.Wait()
	byRuns := counted(t, w.pool)
	if len(byRuns) < 5 { // the platform, two learners, keys of openai, anthropic and google
		t.Fatalf("counted: %v", byRuns)
	}
	for name, spoil := range map[string]string{
		"as it is":   `select 1`,
		"lost":       `delete from ops.budget_counters`,
		"wrong":      `update ops.budget_counters set used_usd = used_usd * 2 + 1`,
		"too many":   `insert into ops.budget_counters select scope, gen_random_uuid(), period, 5 from ops.budget_counters`,
		"yesterdays": `insert into ops.budget_counters values ('platform', gen_random_uuid(), date_trunc('month', now() at time zone 'UTC')::date, 5)`,
	} {
		w.exec(spoil)
		w.must(store.Recount(w.ctx, time.Now()))
		if diff := cmp.Diff(byRuns, counted(t, w.pool)); diff != "" {
			t.Errorf("%s: what runs counted, and what the rows say (-runs +rows):\n%s", name, diff)
		}
	}
}

func TestRecountByDayAndMonth(t *testing.T) {
	db := pgtest.Tx(t)
	ada, grace, k, l := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	p := past{t, db}.months("2026-10-01", "2026-11-01", "2026-12-01")
	// In Berlin it is an hour later: November begins at 23:00 on 31 October.
	p.attempt("2026-10-31 22:59:59.999Z", &ada, &k, "1")
	p.attempt("2026-10-31 23:00:00Z", &ada, &k, "2")
	p.attempt("2026-11-23 22:59:59.999Z", &ada, &k, "4")
	p.attempt("2026-11-23 23:00:00Z", &ada, &k, "8.000000001")
	p.attempt("2026-11-24 11:00:00Z", &ada, &l, "16")
	p.attempt("2026-11-24 11:00:00Z", &grace, &k, "32")
	p.attempt("2026-11-24 11:00:00Z", nil, &k, "64")  // an operator
	p.attempt("2026-11-24 11:00:00Z", &ada, nil, "7") // her own money
	p.attempt("2026-11-24 11:00:00Z", &ada, &k, "")   // unpriced
	p.attempt("2026-11-30 22:59:59.999Z", &grace, &k, "128")
	p.attempt("2026-11-30 23:00:00Z", &grace, &k, "256")
	asRoot(t, db, `insert into ops.budget_counters values ('key', $1, '2026-10-01', 1), ('key', $2, '2026-11-01', 3), ('learner', $3, '2026-11-02', 3)`, k, uuid.New(), uuid.New())

	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	platform := uuid.Nil.String()
	for zone, want := range map[*time.Location]map[string]string{
		berlin: {
			"key " + k.String() + " 2026-10-01":         "1", // not of this month: left alone
			"platform " + platform + " 2026-11-01":      "2",
			"platform " + platform + " 2026-11-23":      "4",
			"platform " + platform + " 2026-11-24":      "120.000000001",
			"platform " + platform + " 2026-11-30":      "128",
			"learner " + ada.String() + " 2026-11-01":   "2",
			"learner " + ada.String() + " 2026-11-23":   "4",
			"learner " + ada.String() + " 2026-11-24":   "24.000000001",
			"learner " + grace.String() + " 2026-11-24": "32",
			"learner " + grace.String() + " 2026-11-30": "128",
			"key " + k.String() + " 2026-11-01":         "238.000000001",
			"key " + l.String() + " 2026-11-01":         "16",
		},
		time.UTC: {
			"key " + k.String() + " 2026-10-01":         "1",
			"platform " + platform + " 2026-11-23":      "12.000000001",
			"platform " + platform + " 2026-11-24":      "112",
			"platform " + platform + " 2026-11-30":      "384",
			"learner " + ada.String() + " 2026-11-23":   "12.000000001",
			"learner " + ada.String() + " 2026-11-24":   "16",
			"learner " + grace.String() + " 2026-11-24": "32",
			"learner " + grace.String() + " 2026-11-30": "384",
			"key " + k.String() + " 2026-11-01":         "492.000000001",
			"key " + l.String() + " 2026-11-01":         "16",
		},
	} {
		if err := NewBudgetStore(db, zone).Recount(t.Context(), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, counted(t, db)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", zone, diff)
		}
	}
}

// What is set aside for runs that are going on counts, once and where it will be
// given back.
func TestRecountOfRunsThatGoOn(t *testing.T) {
	db := pgtest.Tx(t)
	ada, k, l := uuid.New(), uuid.New(), uuid.New()
	p := past{t, db}.months("2026-10-01", "2026-11-01")
	p.attempt("2026-11-01 10:00Z", &ada, &k, "0.5")
	p.running("2026-11-01 11:59Z", ada, `{"day":"2026-11-01","attempts":[
		{"provider":"openai","model":"openai/good","keySource":"fallback","keyId":"%s","held":0.25},
		{"provider":"google","model":"google/good","keySource":"fallback","keyId":"%s","held":1.125},
		{"provider":"mistral","model":"mistral/good","keySource":"user","keyId":"%s"},
		{"provider":"groq","model":"groq/good","keySource":"user","keyId":"%s","held":null},
		{"provider":"xai","model":"xai/good","keySource":null,"keyId":null}]}`, k, l, uuid.New(), uuid.New())
	// Its node is gone, and nobody has closed it yet.
	p.running("2026-11-01 01:00Z", ada, `{"day":"2026-11-01","attempts":[{"keySource":"fallback","keyId":"%s","held":2}]}`, k)
	// Of last month's last minute: it counts there, and is given back there.
	p.running("2026-10-31 23:59Z", ada, `{"day":"2026-10-31","attempts":[{"keySource":"fallback","keyId":"%s","held":100}]}`, k)
	if err := NewBudgetStore(db, time.UTC).Recount(t.Context(), time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"platform " + uuid.Nil.String() + " 2026-11-01": "3.875",
		"learner " + ada.String() + " 2026-11-01":       "3.875",
		"key " + k.String() + " 2026-11-01":             "2.75",
		"key " + l.String() + " 2026-11-01":             "1.125",
	}
	if diff := cmp.Diff(want, counted(t, db)); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}

// The same with a run that waits for its provider: counting it anew changes
// nothing, and when it ends, what it reserved is free again.
func TestRecountWhileARunWaits(t *testing.T) {
	w := makeWorld(t)
	store := NewBudgetStore(w.pool, time.UTC)
	w.must(store.Seed(w.ctx, Budgets{DailyUSD: usd(t, "1000"), LearnerDailyUSD: usd(t, "500"), FallbackMaxTokens: 100}))
	asked, answer := make(chan struct{}), make(chan struct{})
	w.double.before = func(string) {
		asked <- struct{}{}
		<-answer
	}
	done := make(chan Envelope, 1)
	go func() {
		e, err := w.Run(w.ctx, w.call("anthropic/good"), nil)
		if err != nil {
			t.Errorf("run: %v", err)
		}
		done <- e
	}()
	<-asked
	reserved := counted(t, w.pool)
	w.must(store.Recount(w.ctx, time.Now()))
	if diff := cmp.Diff(reserved, counted(t, w.pool)); diff != "" || len(reserved) != 3 {
		t.Errorf("%d counters while it waits (-before +after):\n%s", len(reserved), diff)
	}
	close(answer)
	e := <-done
	spent := counted(t, w.pool)
	if cost := spent["platform "+uuid.Nil.String()+" "+CreatedAt(e.RequestID).UTC().Format(time.DateOnly)]; len(spent) != 3 || cost != e.TotalCost.String() {
		t.Errorf("the run cost %s, counted is %v", e.TotalCost, spent)
	}
	w.must(store.Recount(w.ctx, time.Now()))
	if diff := cmp.Diff(spent, counted(t, w.pool)); diff != "" {
		t.Errorf("at the end (-before +after):\n%s", diff)
	}
}

// Every moment of a year falls on the same day for Recount as for a run, also
// where days do not begin at midnight or have 23 hours.
func TestBudgetDaysOfAYear(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "America/Santiago", "Asia/Beirut", "Africa/Cairo", "Pacific/Apia"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		s := NewBudgetStore(nil, zone)
		var days []budgetDay
		var next time.Time
		for at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC); at.Year() == 2026; at = at.Add(10 * time.Minute) {
			if at.Minute() == 0 || !at.Before(next) { // asked every hour it says the same, and it takes long to say
				days, next = s.month(at)
			}
			i, found := slices.BinarySearchFunc(days, at, func(d budgetDay, at time.Time) int { return d.begin.Compare(at) })
			if !found {
				i--
			}
			day, month := s.periods(at)
			if i < 0 || days[i].date != day || days[0].date != month || !at.Before(next) {
				t.Fatalf("%s: %s is on %s for a run, for Recount on day %d of %v", name, at.In(zone), day, i+1, days)
			}
		}
	}
}

func TestCatchUp(t *testing.T) {
	ctx, db, now := t.Context(), pgtest.Tx(t), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	s := NewBudgetStore(db, time.UTC)
	ada, k := uuid.New(), uuid.New()
	catchUp := func() map[string]string {
		t.Helper()
		if err := s.CatchUp(ctx, now); err != nil {
			t.Fatal(err)
		}
		return counted(t, db)
	}
	p := past{t, db}.months("2026-10-01", "2026-11-01")
	p.attempt("2026-10-31 10:00Z", &ada, &k, "1")
	p.attempt("2026-11-24 10:00Z", &ada, nil, "1")
	p.attempt("2026-11-24 10:00Z", &ada, &k, "")
	if got := catchUp(); len(got) != 0 {
		t.Errorf("there is nothing to count: %v", got)
	}
	p.attempt("2026-11-02 10:00Z", &ada, &k, "2")
	want := map[string]string{
		"platform " + uuid.Nil.String() + " 2026-11-02": "2", "learner " + ada.String() + " 2026-11-02": "2", "key " + k.String() + " 2026-11-01": "2",
	}
	if diff := cmp.Diff(want, catchUp()); diff != "" {
		t.Errorf("a start of a version that counts (-want +got):\n%s", diff)
	}
	// From then on runs count themselves.
	asRoot(t, db, `update ops.budget_counters set used_usd = used_usd + 1`)
	before := counted(t, db)
	if diff := cmp.Diff(before, catchUp()); diff != "" {
		t.Errorf("a later start (-before +after):\n%s", diff)
	}
}

func TestUsed(t *testing.T) {
	ctx, db := t.Context(), pgtest.Tx(t)
	kathmandu, err := time.LoadLocation("Asia/Kathmandu")
	if err != nil {
		t.Fatal(err)
	}
	s := NewBudgetStore(db, kathmandu)
	now := time.Date(2026, 10, 31, 18, 15, 0, 0, time.UTC) // there it is midnight, and November
	used := func() Used {
		t.Helper()
		found, err := s.Used(ctx, now)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if diff := cmp.Diff(Used{Keys: []KeyUsed{}, Learners: []LearnerUsed{}}, used()); diff != "" {
		t.Errorf("nothing used (-want +got):\n%s", diff)
	}

	first, second, unused, gone := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	asRoot(t, db, `
		insert into ops.fallback_keys (id, provider, label, priority, ciphertext, fingerprint, last_four, monthly_cap_usd)
		values ($1, 'openai', 'Main', 1, '', '\x01', '1111', 20.5), ($2, 'openai', 'Spare', 2, '', '\x02', '2222', null), ($3, 'anthropic', 'Main', 0, '', '\x03', '3333', 0)`,
		first, second, unused)
	asRoot(t, db, `
		insert into ops.budget_counters (scope, subject, period, used_usd)
		values ('platform', $1, '2026-10-31', 50), ('platform', $1, '2026-11-01', 12.000000001),
		       ('key', $2, '2026-10-01', 50), ('key', $2, '2026-11-01', 20.51), ('key', $3, '2026-11-01', 0.25), ('key', $4, '2026-11-01', 3), ('key', $5, '2026-11-01', 0)`,
		uuid.Nil, first, second, gone, uuid.New())
	learners := map[uuid.UUID]string{}
	for i := range 12 {
		id := uuid.New()
		learners[id] = fmt.Sprintf("learner-%d@example.org", i)
		asRoot(t, db, `insert into auth.users (id, email) values ($1, $2)`, id, learners[id])
		asRoot(t, db, `insert into ops.budget_counters values ('learner', $1, '2026-11-01', $2), ('learner', $1, '2026-10-31', 100)`, id, 12-i)
	}
	stranger := uuid.New()
	asRoot(t, db, `insert into ops.budget_counters values ('learner', $1, '2026-11-01', 99.5), ('learner', $2, '2026-11-01', 0)`, stranger, uuid.New())

	got := used()
	want := []KeyUsed{
		{unused, "anthropic", "Main", usd(t, "0"), *usd(t, "0")},
		{first, "openai", "Main", usd(t, "20.5"), *usd(t, "20.51")},
		{second, "openai", "Spare", nil, *usd(t, "0.25")},
		{gone, "", "", nil, *usd(t, "3")},
	}
	if diff := cmp.Diff(want, got.Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if !got.Day.Equal(*usd(t, "12.000000001")) {
		t.Errorf("the day is %s", got.Day)
	}
	var lines []string
	for _, l := range got.Learners {
		lines = append(lines, l.Email+" "+l.USD.String())
	}
	if want := " 99.5, learner-0@example.org 12, learner-1@example.org 11, learner-2@example.org 10, learner-3@example.org 9, learner-4@example.org 8, " +
		"learner-5@example.org 7, learner-6@example.org 6, learner-7@example.org 5, learner-8@example.org 4"; strings.Join(lines, ", ") != want || got.Learners[0].LearnerID != stranger {
		t.Errorf("learners are %s", strings.Join(lines, ", "))
	}
}
