package drift

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func tried(t *testing.T, pool *pgxpool.Pool) Matrix {
	t.Helper()
	m, err := NewStore(pool).Try(context.Background(), time.Now())
	must(t, err)
	return m
}

// contents counts the rows of every table, and sums what is in them.
func contents(t *testing.T, pool *pgxpool.Pool) map[string]string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('public', 'ops', 'auth')`)
	must(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	found := map[string]string{}
	for _, table := range tables {
		var sum string
		must(t, pool.QueryRow(t.Context(), `select count(*) || ' ' || coalesce(sum(hashtext(t::text)), 0) from `+table+` t`).Scan(&sum))
		found[table] = sum
	}
	return found
}

func TestTryOnAHealthyDatabase(t *testing.T) {
	pool := pgtest.Database(t)
	if _, err := NewStore(pool).Try(t.Context(), time.Now()); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "no month") {
		t.Errorf("without a month: %v", err)
	}
	run(t, pool, `select ops.ensure_partitions('2026-10-01', '2026-10-01')`) // not the month that is now
	before := contents(t, pool)
	m := tried(t, pool)
	if wrong := m.Wrong(); len(wrong) > 0 || m.Borrowed {
		t.Errorf("wrong: %+v", wrong)
	}
	covered := map[string]int{}
	for _, c := range m.Cells {
		covered[c.Table]++
	}
	want, err := Expected()
	must(t, err)
	for _, f := range want.Facts {
		cells := map[bool]int{true: 4 * len(Actors()), false: 8}[strings.HasPrefix(f.Object, "public.")]
		if f.Kind == "table" && covered[f.Object] != cells {
			t.Errorf("%s was tried %d times, want %d", f.Object, covered[f.Object], cells)
		}
	}
	if diff := cmp.Diff(before, contents(t, pool)); diff != "" {
		t.Errorf("what stays of it (-before +after):\n%s", diff)
	}
	run(t, pool, `select ops.ensure_partitions(current_date, current_date)`)
	if wrong := tried(t, pool).Wrong(); len(wrong) > 0 {
		t.Errorf("wrong: %+v", wrong)
	}
}

func TestTryOnABrokenDatabase(t *testing.T) {
	for _, c := range []struct {
		sql  string
		want []string
	}{
		{`alter policy user_api_keys_select on public.user_api_keys using (true)`, []string{
			"public.user_api_keys select mate: allowed, not empty", "public.user_api_keys select nosub: allowed, not empty", "public.user_api_keys select stranger: allowed, not empty"}},
		{`drop policy teams_select on public.teams`, []string{
			"public.teams select lead: empty, not allowed", "public.teams select mate: empty, not allowed", "public.teams select owner: empty, not allowed"}},
		{`alter table public.prompt_contents disable row level security`, []string{
			"public.prompt_contents select lead: allowed, not empty", "public.prompt_contents select mate: allowed, not empty",
			"public.prompt_contents select nosub: allowed, not empty", "public.prompt_contents select stranger: allowed, not empty"}},
		{`grant select on public.lessons to anon; create policy everybody on public.lessons to anon using (true)`, []string{"public.lessons select anon: allowed, not denied"}},
		{`grant usage on schema ops to anon; grant delete on ops.operators to anon`, []string{"ops.operators delete anon: empty, not denied"}},
		{`revoke delete on public.prompt_templates from authenticated`, []string{
			"public.prompt_templates delete lead: denied, not empty", "public.prompt_templates delete mate: denied, not empty", "public.prompt_templates delete nosub: denied, not empty",
			"public.prompt_templates delete owner: denied, not allowed", "public.prompt_templates delete stranger: denied, not empty"}},
		{`create or replace function ops.led_learner_ids() returns setof uuid language sql stable security definer as $$ select 1/0; select id from auth.users $$`, []string{
			"public.template_events select lead: 22012"}},
	} {
		t.Run(c.sql, func(t *testing.T) {
			pool := pgtest.Database(t)
			run(t, pool, `select ops.ensure_partitions(current_date, current_date)`)
			run(t, pool, c.sql)
			var got []string
			for _, cell := range tried(t, pool).Wrong() {
				got = append(got, fmt.Sprintf("%s %s %s: %s, not %s", cell.Table, cell.Verb, cell.Actor, cell.Got, cell.Expected))
			}
			slices.Sort(got)
			for _, want := range c.want {
				if !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, want) }) {
					t.Errorf("not found: %s", want)
				}
			}
			if len(got) != len(c.want) && !strings.HasSuffix(c.want[0], ": 22012") {
				t.Errorf("found %q", got)
			}
		})
	}
}

// Runs read and lock the version of the facts when they begin: acting as learners
// must not wait for them, nor they for it.
func TestTryStaysOutOfTheWayOfRuns(t *testing.T) {
	pool := pgtest.Database(t)
	run(t, pool, `select ops.ensure_partitions(current_date, current_date)`)
	busy, err := pool.Begin(t.Context())
	must(t, err)
	defer func() { _ = busy.Rollback(context.Background()) }()
	run(t, busy, `select version from ops.facts_version for update`)
	if wrong := tried(t, pool).Wrong(); len(wrong) > 0 {
		t.Errorf("wrong: %+v", wrong)
	}
}

// Several people at once, and a check meanwhile.
func TestTryTogether(t *testing.T) {
	pool := pgtest.Database(t)
	run(t, pool, `select ops.ensure_partitions(current_date, current_date)`)
	var together sync.WaitGroup
	for range 4 {
		together.Go(func() {
			m, err := NewStore(pool).Try(context.Background(), time.Now())
			if err != nil || len(m.Wrong()) > 0 {
				t.Errorf("%v, wrong: %+v", err, m.Wrong())
			}
		})
		together.Go(func() {
			found, err := NewStore(pool).Check(context.Background(), time.Now())
			if err != nil || len(found.Differences) > 0 {
				t.Errorf("%v, found: %+v", err, found.Differences)
			}
		})
	}
	together.Wait()
}
