package usage_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/usage"
)

func report(t testing.TB, db postgres.DB, query string, now time.Time, z *time.Location) usage.Report {
	t.Helper()
	q, err := usage.ParseQuery(values(t, query), now, z)
	if err != nil {
		t.Fatal(err)
	}
	r, err := usage.NewStore(postgres.NewReader(db)).Report(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReportDaysOfTheZone(t *testing.T) {
	for _, c := range []struct {
		zone, first, last string
		hours             []float64
	}{
		{"UTC", "2026-02-28", "2026-03-01", []float64{24, 24}},
		{"Europe/Berlin", "2026-03-28", "2026-03-30", []float64{24, 23, 24}},
		{"Europe/Berlin", "2026-10-24", "2026-10-26", []float64{24, 25, 24}},
		{"Australia/Lord_Howe", "2026-04-04", "2026-04-06", []float64{24, 24.5, 24}},
		{"America/Sao_Paulo", "2018-11-03", "2018-11-05", []float64{24, 23, 24}}, // at midnight
		{"America/Sao_Paulo", "2018-02-16", "2018-02-18", []float64{24, 25, 24}},
		{"Asia/Beirut", "2026-03-28", "2026-03-30", []float64{24, 23, 24}},
		{"Pacific/Apia", "2011-12-29", "2011-12-31", []float64{24, 24}}, // no 30th
	} {
		t.Run(c.zone+" "+c.first, func(t *testing.T) {
			db := pgtest.Tx(t)
			query := url.Values{"from": {c.first}, "to": {c.last}}.Encode()
			now := instant(t, "2026-11-24T12:00:00Z")
			empty := report(t, db, query, now, zone(t, c.zone))
			var hours []float64
			var attempts []attempt
			for _, d := range empty.Points {
				hours = append(hours, d.End.Sub(d.Start).Hours())
				for _, at := range []time.Time{d.Start, d.End.Add(-time.Millisecond)} {
					attempts = append(attempts, attempt{at: at, model: "x/y", status: "ok"})
				}
			}
			if diff := cmp.Diff(c.hours, hours); diff != "" {
				t.Fatal("hours:", diff)
			}
			outside := []attempt{
				{at: empty.Points[0].Start.Add(-time.Millisecond), model: "x/y", status: "ok"},
				{at: empty.Points[len(empty.Points)-1].End, model: "x/y", status: "ok"},
			}
			insert(t, db, append(attempts, outside...)...)
			for _, d := range report(t, db, query, now, zone(t, c.zone)).Points {
				date := d.Start.Format(time.DateOnly)
				if d.Attempts != 2 {
					t.Errorf("%s: %d attempts, want 2", date, d.Attempts)
				}
				var want int64
				err := db.QueryRow(context.Background(), `select count(*) from prompt_attempts where (created_at at time zone $1)::date = $2::date`,
					c.zone, date).Scan(&want)
				if err != nil || want != d.Attempts {
					t.Errorf("%s: %d attempts, Postgres says %d (%v)", date, d.Attempts, want, err)
				}
			}
		})
	}
}

func TestReportWithoutAttempts(t *testing.T) {
	got := report(t, pgtest.Tx(t), "range=7d", instant(t, "2026-11-24T12:00:00Z"), time.UTC)
	if len(got.Points) != 7 || len(got.Groups) != 0 || got.Totals.Attempts != 0 || got.Totals.Latency != nil {
		t.Errorf("%d days, %d groups, totals %+v", len(got.Points), len(got.Groups), got.Totals)
	}
	if got.Totals.ErrorRate() != 0 || got.Totals.FallbackShare() != 0 || got.Totals.FallbackCostShare() != 0 {
		t.Error("shares of nothing are not 0")
	}
}

func TestRates(t *testing.T) {
	db := pgtest.Tx(t)
	now := instant(t, "2026-11-24T12:00:00Z")
	row := func(status, keySource, cost string) attempt {
		return attempt{at: now, model: "x/y", status: status, keySource: keySource, cost: cost}
	}
	insert(t, db,
		row("ok", "user", "1"), row("ok", "fallback", "3"), row("ok", "fallback", ""),
		row("error", "", "0"), row("interrupted", "user", ""), row("cancelled", "user", "0"),
		row("running", "user", ""), row("running", "user", ""))
	got := report(t, db, "range=today", now, time.UTC).Totals
	if got.Ended() != 6 || got.Priced() != 4 || got.Unpriced != 2 || got.UnknownUsage != 5 {
		t.Errorf("%d ended, %d priced, %d unpriced, %d of unknown usage, want 6, 4, 2, 5", got.Ended(), got.Priced(), got.Unpriced, got.UnknownUsage)
	}
	if got.ErrorRate() != 2.0/6 || got.FallbackShare() != 2.0/8 || got.FallbackCostShare() != 0.75 {
		t.Errorf("error rate %v, fallback share %v and %v of the cost, want 1/3, 1/4, 3/4", got.ErrorRate(), got.FallbackShare(), got.FallbackCostShare())
	}
}

func TestReportLeavesTheTransactionAsItWas(t *testing.T) {
	db := pgtest.Tx(t)
	settings := func() (all string) {
		err := db.QueryRow(context.Background(), `
			select concat_ws(' ', current_setting('transaction_read_only'), current_setting('statement_timeout'),
			  current_setting('work_mem'), current_setting('jit'))`).Scan(&all)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := settings()
	report(t, db, "", instant(t, "2026-11-24T12:00:00Z"), time.UTC)
	if after := settings(); after != before {
		t.Errorf("settings were %s and are %s", before, after)
	}
}

func TestReportThatTakesTooLong(t *testing.T) {
	t.Parallel() // waits for 5 s
	pool := pgtest.Database(t)
	ctx := context.Background()
	q, err := usage.ParseQuery(nil, time.Now(), time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback(ctx) }()
	if _, err := lock.Exec(ctx, `lock table prompt_attempts`); err != nil {
		t.Fatal(err)
	}

	t.Run("for the caller", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if _, err := usage.NewStore(postgres.NewReader(pool)).Report(short, q); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("error %v, want fault.Unavailable", err)
		}
	})
	t.Run("for us", func(t *testing.T) {
		if _, err := usage.NewStore(postgres.NewReader(pool)).Report(ctx, q); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("error %v, want fault.Unavailable", err)
		}
	})
}
