package usage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
)

// attempt is a row of prompt_attempts with a run of its own, unless run is set.
type attempt struct {
	run       uuid.UUID
	ordinal   int
	at        time.Time
	team      *uuid.UUID
	template  *uuid.UUID
	learner   *uuid.UUID // nil: somebody or other
	model     string
	status    string
	keySource string  // "": no key
	tokens    []int64 // input, cached, written, output, reasoning; nil: unknown
	cost      string  // "": unknown
	duration  *int
	first     *int
}

func insert(t testing.TB, db postgres.DB, attempts ...attempt) {
	t.Helper()
	ctx := context.Background()
	runs := map[uuid.UUID]bool{}
	batch := &pgx.Batch{}
	somebody, keyID := uuid.MustParse("5eb0d000-0000-4000-8000-000000000001"), uuid.New()
	for _, a := range attempts {
		if a.run == uuid.Nil {
			a.run = uuid.New()
		}
		learner := &somebody
		if a.learner != nil {
			learner = a.learner
		}
		if !runs[a.run] {
			runs[a.run] = true
			batch.Queue(`select ops.ensure_partitions($1::date, $1::date)`, a.at.UTC())
			batch.Queue(`insert into public.prompt_runs (id, created_at, user_id, models) values ($1, $2, $3, '{}')`, a.run, a.at, learner)
		}
		tokens := make([]*int64, 5)
		for i := range a.tokens {
			tokens[i] = &a.tokens[i]
		}
		batch.Queue(`
			insert into public.prompt_attempts
			  (run_id, ordinal, created_at, user_id, team_id, template_id, first_token_ms, provider, model, status, key_source, user_key_id, fallback_key_id,
			   input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_usd, duration_ms)
			values ($1, $2, $3, $4, $5, $17, $18, split_part($6, '/', 1), $6, $7, nullif($8, ''), $9, $9,
			   $10, $11, $12, $13, $14, nullif($15, '')::numeric, $16)`,
			a.run, a.ordinal, a.at, learner, a.team, a.model, a.status, a.keySource, keyID,
			tokens[0], tokens[1], tokens[2], tokens[3], tokens[4], a.cost, a.duration, a.template, a.first)
	}
	if err := db.SendBatch(ctx, batch).Close(); err != nil {
		t.Fatal(err)
	}
}

// pick returns one of the choices.
func pick[T any](r *rand.Rand, choices ...T) T { return choices[r.IntN(len(choices))] }

// crowd is who and what attempts are of.
type crowd struct {
	teams, templates, learners []uuid.UUID
}

// newCrowd makes teams, templates and learners, of which some are gone.
func newCrowd(t testing.TB, db postgres.DB) crowd {
	t.Helper()
	var c crowd
	for i := range 4 {
		c.teams, c.templates, c.learners = append(c.teams, uuid.New()), append(c.templates, uuid.New()), append(c.learners, uuid.New())
		if i == 3 {
			break
		}
		for sql, id := range map[string]uuid.UUID{
			`insert into auth.users (id, email) values ($1, $2 || '@example.org')`: c.learners[i], `insert into public.teams (id, name) values ($1, 'Team ' || $2)`: c.teams[i],
		} {
			if _, err := db.Exec(t.Context(), sql, id, strconv.Itoa(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c
}

// scatter fills the days before now with attempts of every kind.
func scatter(r *rand.Rand, n int, now time.Time, teams []uuid.UUID) []attempt {
	return crowd{teams: teams}.scatter(r, n, now, 60)
}

func (c crowd) scatter(r *rand.Rand, n int, now time.Time, days int) []attempt {
	some := func(ids []uuid.UUID) *uuid.UUID {
		if len(ids) == 0 || r.IntN(3) == 0 {
			return nil
		}
		return &ids[r.IntN(len(ids))]
	}
	var all []attempt
	for len(all) < n {
		run, at := uuid.New(), now.Add(-time.Duration(r.Int64N(int64(days)*int64(24*time.Hour)))).Truncate(time.Millisecond)
		team, template, learner := some(c.teams), some(c.templates), some(c.learners)
		for ordinal := range 1 + r.IntN(4) {
			a := attempt{
				run: run, ordinal: ordinal, at: at, team: team, template: template, learner: learner,
				model:     pick(r, "openai/a", "openai/b", "anthropic/a", "groq/openai/a", "google/rare") + strconv.Itoa(ordinal),
				status:    pick(r, "ok", "ok", "ok", "ok", "error", "cancelled", "interrupted", "running"),
				keySource: pick(r, "user", "user", "fallback", ""),
			}
			if r.IntN(5) > 0 {
				a.tokens = []int64{r.Int64N(1e6), r.Int64N(1e5), r.Int64N(1e4), r.Int64N(1e6), r.Int64N(1e5)}
			}
			if a.status != "running" && r.IntN(6) > 0 {
				a.cost = fmt.Sprintf("%d.%012d", r.IntN(3), r.Int64N(1e12))
			}
			if ms := 1 + r.IntN(300); r.IntN(20) > 0 { // few enough values that there are ties
				first := 1 + r.IntN(ms)
				a.duration, a.first = &ms, &first
			}
			all = append(all, a)
		}
	}
	return all
}
