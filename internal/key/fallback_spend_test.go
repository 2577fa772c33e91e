package key

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
)

// What was spent is what the rows say, whether periods are summed, remembered, changed
// or emptied meanwhile.
func TestSpentIsWhatTheRowsSay(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t)
	o := newOffice(t, db)
	main, now := o.add("main"), time.Now()
	if _, err := db.Exec(within(t), `select ops.ensure_partitions((now() - interval '10 days')::date, now()::date)`); err != nil {
		t.Fatal(err)
	}
	exec(t, db, `update ops.fallback_keys set created_at = now() - interval '30 days'`)
	spend := func(at time.Time, usd string) {
		exec(t, db, `
			insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, provider, model, status, key_source, fallback_key_id, cost_usd)
			values (gen_random_uuid(), 0, $1, $2, 'openai', 'openai/m', 'ok', 'fallback', $3, $4::numeric)`, at, uuid.New(), main, usd)
	}
	roller := rollup.NewRoller(db, time.UTC, slog.New(slog.DiscardHandler))
	roll := func() {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; {
			if done, err := roller.RunOnce(within(t)); err != nil || done {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the periods are not summed")
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	begins := o.days(now)
	dollars := func(text string) price.USD {
		amount, err := price.ParseUSD(text)
		if err != nil {
			t.Fatal(err)
		}
		return amount
	}
	wants := func(when string) {
		t.Helper()
		var today, week string
		if err := db.QueryRow(within(t), `
			select coalesce(sum(cost_usd) filter (where created_at >= $2), 0)::text, coalesce(sum(cost_usd) filter (where created_at < $2), 0)::text
			from public.prompt_attempts where created_at >= $1 and created_at < $3`, begins[0], begins[spendDays], begins[spendDays+1]).Scan(&today, &week); err != nil {
			t.Fatal(err)
		}
		all, err := o.Overview(within(t), now)
		if err != nil {
			t.Fatal(err)
		}
		k, err := all.Find(main)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Spent; got.Today.Cmp(dollars(today)) != 0 || got.Week.Cmp(dollars(week)) != 0 {
			t.Errorf("%s: spent %s today and %s in the week, the rows say %s and %s", when, got.Today, got.Week, today, week)
		}
	}
	for hours := range 8 * 24 {
		spend(now.Add(-time.Duration(hours)*time.Hour), "0.01")
	}
	wants("from rows")
	roll()
	wants("from periods")
	if len(o.spent.spent) == 0 {
		t.Error("no period is remembered")
	}
	wants("from what is remembered")
	exec(t, db, `update public.prompt_attempts set cost_usd = 0.5 where created_at < $1`, now.Add(-50*time.Hour))
	spend(now.Add(-30*time.Hour), "7")
	wants("after changes")
	roll()
	wants("after the changes are summed")
	exec(t, db, `delete from public.prompt_attempts where created_at < $1`, now.Add(-3*time.Hour))
	wants("after a deletion")
	roll()
	wants("after the deletion is summed")
}
