package usage_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
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

// Some days have sums, others changed since, and of some zones there are none.
func TestReportEqualsTheRows(t *testing.T) {
	db := pgtest.Database(t)
	r := rand.New(rand.NewPCG(2, 11))
	now := instant(t, "2026-11-24T04:08:57Z")
	teams := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	insert(t, db, scatter(r, 2900, now, teams)...)
	_, err := db.Exec(context.Background(), `insert into ops.operators (email, role, timezone) values ('a@example.org', 'admin', 'Asia/Kathmandu'), ('b@example.org', 'admin', 'UTC')`)
	if err != nil {
		t.Fatal(err)
	}
	roller := rollup.NewRoller(db, zone(t, "Europe/Berlin"), slog.New(slog.DiscardHandler))
	if days, err := roller.Rebuild(context.Background()); err != nil || days < 100 {
		t.Fatalf("%d days are summed, %v", days, err)
	}
	insert(t, db, scatter(r, 100, now.AddDate(0, 0, -50), teams)...)

	for range 60 {
		zoneName := pick(r, "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
		v, where := url.Values{}, "true"
		filter := func(name, value, sql string) {
			if r.IntN(3) == 0 {
				v.Set(name, value)
				where += fmt.Sprintf(" and "+sql, value)
			}
		}
		filter("provider", pick(r, "openai", "groq", "nobody"), "provider = '%s'")
		filter("model", pick(r, "openai/a0", "groq/openai/a1", "google/rare3"), "model = '%s'")
		filter("team", pick(r, teams...).String(), "team_id = '%s'")
		filter("key", pick(r, "user", "fallback"), "key_source = '%s'")
		from := 1 + r.IntN(60)
		first, last := now.AddDate(0, 0, -from), now.AddDate(0, 0, -r.IntN(from))
		v.Set("from", first.Format(time.DateOnly))
		v.Set("to", last.Format(time.DateOnly))
		where += fmt.Sprintf(" and (created_at at time zone '%s')::date between '%s' and '%s'", zoneName, v.Get("from"), v.Get("to"))

		t.Run(v.Encode()+"&zone="+zoneName, func(t *testing.T) {
			got := report(t, db, v.Encode(), now, zone(t, zoneName))
			checkSums(t, got)
			checkOrder(t, got)
			checkAgainstRows(t, db, got, where, zoneName)
			checkCSV(t, got)
		})
	}
}

// checkAgainstRows counts again with the simplest SQL there is.
func checkAgainstRows(t *testing.T, db postgres.DB, got usage.Report, where, zoneName string) {
	t.Helper()
	const columns = `
		count(*), count(*) filter (where status = 'running'), count(*) filter (where status = 'error' or status = 'interrupted'),
		count(*) filter (where status = 'cancelled'), count(*) filter (where key_source = 'fallback'),
		coalesce(sum(input_tokens), 0), coalesce(sum(cached_input_tokens), 0), coalesce(sum(cache_write_tokens), 0),
		coalesce(sum(output_tokens), 0), coalesce(sum(reasoning_tokens), 0), coalesce(sum(total_tokens), 0),
		sum(case when status in ('ok', 'cancelled', 'interrupted') and total_tokens is null then 1 else 0 end),
		coalesce(sum(cost_usd), 0), coalesce(sum(case when key_source = 'fallback' then cost_usd end), 0),
		sum(case when status != 'running' and cost_usd is null then 1 else 0 end),
		count(distinct run_id),
		(array_agg(duration_ms order by duration_ms) filter (where status = 'ok' and duration_ms is not null))[ceil(0.5 * count(duration_ms) filter (where status = 'ok'))],
		(array_agg(duration_ms order by duration_ms) filter (where status = 'ok' and duration_ms is not null))[ceil(0.95 * count(duration_ms) filter (where status = 'ok'))]`
	type figures struct {
		Key                string
		Counts             [12]int64
		Cost, FallbackCost string
		Unpriced, Runs     int64
		P50, P95           int64 // -1: none
	}
	query := func(key, groupBy string) []figures {
		t.Helper()
		rows, err := db.Query(context.Background(), fmt.Sprintf(
			`select %s as key, %s from prompt_attempts where %s %s order by 1`, key, columns, where, groupBy))
		if err != nil {
			t.Fatal(err)
		}
		all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (figures, error) {
			var f figures
			var cost, fallbackCost price.USD
			var unpriced *int64
			var p50, p95 *int64
			into := []any{&f.Key}
			for i := range f.Counts {
				into = append(into, &f.Counts[i])
			}
			unknown := new(*int64)
			into[12] = unknown
			err := row.Scan(append(into, &cost, &fallbackCost, &unpriced, &f.Runs, &p50, &p95)...)
			if *unknown != nil {
				f.Counts[11] = **unknown
			}
			if unpriced != nil {
				f.Unpriced = *unpriced
			}
			f.P50, f.P95 = -1, -1
			if p50 != nil {
				f.P50, f.P95 = *p50, *p95
			}
			f.Cost, f.FallbackCost = cost.String(), fallbackCost.String()
			return f, err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	ours := func(key string, s usage.Sum, runs int64, l *usage.Latency) figures {
		f := figures{
			Key: key,
			Counts: [12]int64{s.Attempts, s.Running, s.Errors, s.Cancelled, s.Fallback,
				s.Input, s.CachedInput, s.CacheWrite, s.Output, s.Reasoning, s.Total(), s.UnknownUsage},
			Cost: s.Cost.String(), FallbackCost: s.FallbackCost.String(), Unpriced: s.Unpriced, Runs: runs, P50: -1, P95: -1,
		}
		if l != nil {
			f.P50, f.P95 = l.P50.Milliseconds(), l.P95.Milliseconds()
		}
		return f
	}

	near := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".P50" || p.Last().String() == ".P95" },
		cmp.Comparer(func(a, b int64) bool { return math.Abs(float64(a-b)) <= 0.02*float64(max(a, b))+0.5 }))
	if diff := cmp.Diff(query(`''`, ``)[0], ours("", got.Totals.Sum, got.Totals.Runs, got.Totals.Latency), near); diff != "" {
		t.Error("totals:", diff)
	}
	models := map[string]figures{}
	for _, m := range got.Models {
		key := m.Provider + " " + m.Model
		models[key] = ours(key, m.Sum, m.Attempts, m.Latency)
	}
	want := map[string]figures{}
	for _, f := range query(`provider || ' ' || model`, `group by provider, model`) {
		want[f.Key] = f
	}
	if diff := cmp.Diff(want, models, near); diff != "" {
		t.Error("models:", diff)
	}
	cells := map[string]figures{}
	for _, day := range got.Days {
		for _, m := range day.Models {
			key := day.Date() + " " + m.Model
			cells[key] = ours(key, m.Sum, 0, nil)
		}
	}
	want = map[string]figures{}
	for _, f := range query(fmt.Sprintf(`(created_at at time zone '%s')::date || ' ' || model`, zoneName), `group by 1`) {
		f.Runs, f.P50, f.P95 = 0, -1, -1
		want[f.Key] = f
	}
	if diff := cmp.Diff(want, cells); diff != "" {
		t.Error("days:", diff)
	}
}

// checkSums adds the report up in every direction.
func checkSums(t *testing.T, r usage.Report) {
	t.Helper()
	var models, days, cells usage.Sum
	for _, m := range r.Models {
		models = plus(models, m.Sum)
	}
	for i, d := range r.Days {
		if i > 0 && !d.Start.Equal(r.Days[i-1].End) {
			t.Errorf("%s begins at %s, but the day before ends at %s", d.Date(), d.Start, r.Days[i-1].End)
		}
		days = plus(days, d.Sum)
		for _, m := range d.Models {
			cells = plus(cells, m.Sum)
		}
	}
	for name, sum := range map[string]usage.Sum{"models": models, "days": days, "days by model": cells} {
		if diff := cmp.Diff(r.Totals.Sum, sum); diff != "" {
			t.Errorf("totals against the sum of %s: %s", name, diff)
		}
	}
}

func checkOrder(t *testing.T, r usage.Report) {
	t.Helper()
	total, place := r.Totals.Cost.Decimal().InexactFloat64(), map[string]int{}
	for i, m := range r.Models {
		place[m.Model] = i
		if i > 0 && m.Cost.Cmp(r.Models[i-1].Cost) > 0 {
			t.Errorf("%s comes after %s, which is cheaper", m.Model, r.Models[i-1].Model)
		}
		if total > 0 && math.Abs(m.Share-m.Cost.Decimal().InexactFloat64()/total) > 1e-9 {
			t.Errorf("%s has %v of the cost: %s of %v", m.Model, m.Share, m.Cost, total)
		}
	}
	for _, d := range r.Days {
		for i := 1; i < len(d.Models); i++ {
			if place[d.Models[i].Model] <= place[d.Models[i-1].Model] {
				t.Errorf("%s: %s comes after %s", d.Date(), d.Models[i].Model, d.Models[i-1].Model)
			}
		}
	}
}

func plus(a, b usage.Sum) usage.Sum {
	return usage.Sum{
		Attempts: a.Attempts + b.Attempts, Running: a.Running + b.Running, Errors: a.Errors + b.Errors,
		Cancelled: a.Cancelled + b.Cancelled, Fallback: a.Fallback + b.Fallback,
		Tokens: usage.Tokens{
			Input: a.Input + b.Input, CachedInput: a.CachedInput + b.CachedInput, CacheWrite: a.CacheWrite + b.CacheWrite,
			Output: a.Output + b.Output, Reasoning: a.Reasoning + b.Reasoning,
		},
		UnknownUsage: a.UnknownUsage + b.UnknownUsage, Unpriced: a.Unpriced + b.Unpriced,
		Cost: a.Cost.Add(b.Cost), FallbackCost: a.FallbackCost.Add(b.FallbackCost),
	}
}

// checkCSV adds up the file as whoever gets it would.
func checkCSV(t *testing.T, r usage.Report) {
	t.Helper()
	var file bytes.Buffer
	if err := usage.WriteCSV(&file, r); err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(&file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	sums, cost := map[string]int64{}, price.USD{}
	for _, record := range records[1:] {
		for i, cell := range record[3:] {
			switch column := records[0][i+3]; {
			case column != "cost_usd":
				n, err := strconv.ParseInt(cell, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				sums[column] += n
			case cell != "":
				cost = cost.Add(usd(t, cell))
			}
		}
	}
	total := r.Totals
	for column, want := range map[string]int64{
		"attempts": total.Attempts, "errors": total.Errors, "unpriced": total.Unpriced,
		"input_tokens": total.Input, "cached_input_tokens": total.CachedInput, "cache_write_tokens": total.CacheWrite,
		"output_tokens": total.Output, "reasoning_tokens": total.Reasoning, "total_tokens": total.Total(),
	} {
		if sums[column] != want {
			t.Errorf("CSV: %s add up to %d, want %d", column, sums[column], want)
		}
	}
	if !cost.Equal(total.Cost) {
		t.Errorf("CSV: costs add up to %s, want %s", cost, total.Cost)
	}
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
			for _, d := range empty.Days {
				hours = append(hours, d.End.Sub(d.Start).Hours())
				for _, at := range []time.Time{d.Start, d.End.Add(-time.Millisecond)} {
					attempts = append(attempts, attempt{at: at, model: "x/y", status: "ok"})
				}
			}
			if diff := cmp.Diff(c.hours, hours); diff != "" {
				t.Fatal("hours:", diff)
			}
			outside := []attempt{
				{at: empty.Days[0].Start.Add(-time.Millisecond), model: "x/y", status: "ok"},
				{at: empty.Days[len(empty.Days)-1].End, model: "x/y", status: "ok"},
			}
			insert(t, db, append(attempts, outside...)...)
			for _, d := range report(t, db, query, now, zone(t, c.zone)).Days {
				if d.Attempts != 2 {
					t.Errorf("%s: %d attempts, want 2", d.Date(), d.Attempts)
				}
				var want int64
				err := db.QueryRow(context.Background(), `select count(*) from prompt_attempts where (created_at at time zone $1)::date = $2::date`,
					c.zone, d.Date()).Scan(&want)
				if err != nil || want != d.Attempts {
					t.Errorf("%s: %d attempts, Postgres says %d (%v)", d.Date(), d.Attempts, want, err)
				}
			}
		})
	}
}

func TestReportWithoutAttempts(t *testing.T) {
	got := report(t, pgtest.Tx(t), "range=7d", instant(t, "2026-11-24T12:00:00Z"), time.UTC)
	if len(got.Days) != 7 || len(got.Models) != 0 || got.Totals.Attempts != 0 || got.Totals.Latency != nil {
		t.Errorf("%d days, %d models, totals %+v", len(got.Days), len(got.Models), got.Totals)
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

func TestOptions(t *testing.T) {
	db := pgtest.Tx(t)
	ctx := context.Background()
	now := instant(t, "2026-11-24T12:00:00Z")
	var beta, alpha uuid.UUID
	gone, unused := uuid.New(), uuid.New()
	if err := db.QueryRow(ctx, `insert into teams (name) values ('Beta') returning id`).Scan(&beta); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow(ctx, `insert into teams (name) values ('Alpha') returning id`).Scan(&alpha); err != nil {
		t.Fatal(err)
	}
	insert(t, db,
		attempt{at: now, model: "openai/b", status: "ok", team: &beta},
		attempt{at: now, model: "openai/a", status: "running", team: &alpha},
		attempt{at: now, model: "groq/openai/a", status: "error", team: &gone},
		attempt{at: now, model: "groq/openai/a", status: "ok"},
		attempt{at: now.AddDate(0, 0, -1), model: "old/old", status: "ok"})

	q, err := usage.ParseQuery(url.Values{"range": {"today"}, "model": {"x/chosen"}, "team": {unused.String()}}, now, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	got, err := usage.NewStore(postgres.NewReader(db)).Options(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	deleted := []usage.Team{{ID: gone, Name: "Deleted team"}, {ID: unused, Name: "Deleted team"}}
	if bytes.Compare(gone[:], unused[:]) > 0 {
		deleted[0], deleted[1] = deleted[1], deleted[0]
	}
	want := usage.Options{
		Providers: []string{"groq", "openai"},
		Models:    []string{"groq/openai/a", "openai/a", "openai/b", "x/chosen"},
		Teams:     append([]usage.Team{{ID: alpha, Name: "Alpha"}, {ID: beta, Name: "Beta"}}, deleted...),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
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
