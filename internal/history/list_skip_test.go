package history_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/history"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/rollup"
)

// With sums, days that have nothing of what is asked for are not looked through, and
// still every run is found.
func TestListWithSums(t *testing.T) {
	pool := pgtest.Database(t)
	c := newCrowd(t, pool)
	r := rand.New(rand.NewPCG(8, 8))
	c.runs(t, r, 500, 60*24*time.Hour)
	exec(t, pool, `
		update public.prompt_attempts a set cost_usd = r.total_cost_usd, cost_source = 'computed'
		from public.prompt_runs r where r.id = a.run_id and a.ordinal = 0`) // as it is: a run costs what its attempts do
	exec(t, pool, `delete from public.prompt_runs where status = 'running' and created_at < now() - interval '1 hour'`) // none goes on for so long
	// What is rare is of a few days only.
	exec(t, pool, `delete from public.prompt_runs where models && '{xai/rare}' and extract(day from created_at)::int % 9 <> 0`)
	exec(t, pool, `delete from public.prompt_runs where template_id = $1 and extract(day from created_at)::int % 11 <> 0`, c.templates[0])
	exec(t, pool, `delete from public.prompt_attempts a where not exists (select from public.prompt_runs r where r.id = a.run_id)`)
	roller := rollup.NewRoller(pool, time.UTC, slog.New(slog.DiscardHandler))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		done, err := roller.RunOnce(t.Context())
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the sums are not made: %v", err)
		}
		if done {
			break
		}
	}
	whole := history.NewStore(postgres.NewReader(pool))
	check := func() {
		t.Helper()
		for _, c := range []struct{ query, where string }{
			{"model=xai/rare", `'xai/rare' = any (models)`},
			{"model=nobody/ever", `false`},
			{"provider=xai", `models && '{xai/rare}'`},
			{"provider=xai&key=user", `exists (select from prompt_attempts a where a.run_id = r.id and provider = 'xai' and key_source = 'user')`},
			{"key=fallback&status=error", `status = 'error' and exists (select from prompt_attempts a where a.run_id = r.id and key_source = 'fallback')`},
			{"template=" + c.templates[0].String(), fmt.Sprintf(`template_id = '%s'`, c.templates[0])},
			{"model=xai/rare&template=" + c.templates[0].String(), fmt.Sprintf(`'xai/rare' = any (models) and template_id = '%s'`, c.templates[0])},
			{"model=xai/rare&status=running", `'xai/rare' = any (models) and status = 'running'`},
			{"cost=0.19", `total_cost_usd >= 0.19`},
			{"cost=1000", `total_cost_usd >= 1000`},
			{"status=interrupted", `status = 'interrupted'`},
			{"status=interrupted&provider=xai", `status = 'interrupted' and models && '{xai/rare}'`},
			{"status=interrupted&key=user", `status = 'interrupted' and exists (select from prompt_attempts a where a.run_id = r.id and key_source = 'user')`},
			{"status=cancelled&model=xai/rare", `status = 'cancelled' and 'xai/rare' = any (models)`},
			{"class=timeout&model=xai/rare", `exists (select from prompt_attempts a where a.run_id = r.id and error_class = 'timeout' and model = 'xai/rare')`},
			{"class=billing", `false`},
			{"class=timeout&status=cancelled&cost=0.1", `status = 'cancelled' and total_cost_usd >= 0.1 and exists (select from prompt_attempts a where a.run_id = r.id and error_class = 'timeout')`},
		} {
			for _, zone := range []*time.Location{time.UTC, time.FixedZone("Asia/Kathmandu", 20700)} {
				v, err := url.ParseQuery("range=180d&" + c.query)
				if err != nil {
					t.Fatal(err)
				}
				f, err := history.ParseFilter(v, now, zone)
				if err != nil {
					t.Fatal(err)
				}
				rows, err := pool.Query(t.Context(), `select id from prompt_runs r where (`+c.where+`) and created_at >= $1 and created_at < $2 order by created_at desc, id desc`, f.From, f.To)
				if err != nil {
					t.Fatal(err)
				}
				want, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
				if err != nil {
					t.Fatal(err)
				}
				store := pick(r, whole, whole.InPieces(1+r.IntN(60)))
				if got := walk(t, store, f, 1+r.IntN(40)); !slices.Equal(got, want) && len(got)+len(want) > 0 {
					t.Errorf("%s: %v, want %v", c.query, got, want)
				}
				if len(want) > 0 {
					if back := walkBack(t, store, f, 1+r.IntN(40), want[len(want)-1]); !slices.Equal(back, want) {
						t.Errorf("%s, from the end: %v, want %v", c.query, back, want)
					}
				}
			}
		}
	}
	check()
	c.runs(t, r, 40, 60*24*time.Hour) // late ones
	exec(t, pool, `delete from public.prompt_runs where status = 'running' and created_at < now() - interval '1 hour'`)
	exec(t, pool, `
		update public.prompt_attempts a set cost_usd = r.total_cost_usd, cost_source = 'computed'
		from public.prompt_runs r where r.id = a.run_id and a.ordinal = 0 and a.cost_usd is null`)
	check()
}
