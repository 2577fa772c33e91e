package outreach

import (
	"os"
	"sort"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// BenchmarkReport measures the page with 20,000 learners, 500 teams and, with
// ATTEMPTS, so many attempts of the last 180 days (1,000,000 otherwise): as it is,
// and with the attempts added up beforehand.
//
//	go test ./internal/outreach -run '^$' -bench Report -benchtime 20x
func BenchmarkReport(b *testing.B) {
	db := pgtest.Database(b)
	attempts := "1000000"
	if n := os.Getenv("ATTEMPTS"); n != "" {
		attempts = n
	}
	for month := noon.AddDate(0, 0, -200); !month.After(noon.AddDate(0, 1, 0)); month = month.AddDate(0, 0, 20) {
		exec(b, db, `select ops.ensure_partitions($1::date, $1::date)`, month)
	}
	for _, sql := range []string{
		`insert into auth.users (id, email, raw_user_meta_data)
		 select md5('l' || i)::uuid, 'learner' || i || '@example.org', jsonb_build_object('name', 'Learner ' || i) from generate_series(1, 20000) i`,
		`insert into public.teams (id, name) select md5('t' || i)::uuid, 'Team ' || i from generate_series(1, 500) i`,
		`insert into public.team_members (team_id, user_id, role)
		 select md5('t' || (1 + (i * k) % 500))::uuid, md5('l' || i)::uuid, case when i <= 500 then 'lead' else 'member' end
		 from generate_series(1, 20000) i, generate_series(1, 2) k where k = 1 or i % 3 = 0 on conflict do nothing`,
		`insert into public.user_api_keys (user_id, provider, ciphertext, fingerprint, last_four, status)
		 select md5('l' || i)::uuid, (array['openai', 'anthropic', 'google'])[k], 'x', 'f' || k, '1234', case when (i + k) % 11 = 0 then 'invalid' else 'healthy' end
		 from generate_series(1, 20000) i, generate_series(1, 3) k where (i * 7 + k) % 5 < 2`,
		`create table made as
		 select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid as id, at,
		        md5('l' || (1 + floor(20000 * power(random(), 2))::int))::uuid as user_id, md5('t' || (1 + floor(500 * random())::int))::uuid as team_id
		 from (select i, timestamptz '2026-11-24T12:00Z' - random() * interval '180 days' as at from generate_series(1, ` + attempts + ` / 2) i) made_up`,
		`insert into public.prompt_runs (id, created_at, user_id, team_id, models, status, finished_at) select id, at, user_id, team_id, '{}', 'success', at from made`,
		`insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, team_id, provider, model, status, key_source, user_key_id, fallback_key_id, cost_usd)
		 select id, k, at, user_id, team_id, (array['openai', 'anthropic', 'google'])[1 + k], 'm', 'ok', case when random() < 0.4 then 'fallback' else 'user' end, id, id, random()::numeric / 1000
		 from made, generate_series(0, 1) k`,
		`analyze`,
	} {
		conn := db
		exec(b, conn, sql)
	}
	s := newStore(db)
	if _, err := s.settle(b.Context(), noon); err != nil {
		b.Fatal(err)
	}
	exec(b, db, `analyze ops.outreach`)
	lead := one[uuid.UUID](b, db, `select user_id from public.team_members where role = 'lead' order by user_id limit 1`)
	led := one[[]uuid.UUID](b, db, `select array_agg(team_id) from public.team_members where user_id = $1 and role = 'lead'`, lead)
	measure := func(name string, scope Scope, q Query) {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				report(b, s, scope, q, noon)
				took = append(took, time.Since(began))
			}
			sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		})
	}
	measure("counted", Scope{}, Query{})
	began := time.Now()
	countNow(b, s, noon)
	b.Logf("adding up took %s", time.Since(began))
	exec(b, db, `analyze ops.fallback_sums, ops.last_runs, ops.key_health_learners, ops.key_health_keys, ops.key_health_sums`)
	measure("ahead", Scope{}, Query{})
	measure("everybody", Scope{}, Query{Show: ShowAll})
	measure("one-team", Scope{Teams: led}, Query{})
	measure("lead", Scope{As: &lead, Teams: led}, Query{})
}
