package outreach

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
)

var (
	keyStatuses = []string{"healthy", "healthy", "healthy", "cooling", "cooling", "invalid", "billing", "disabled"}
	suspects    = []string{"", "", "rate_limited", "overloaded", "provider_error", "network", "timeout", "invalid_key", "permission", "billing"}
	providers   = []string{"openai", "anthropic", "google", "my-ollama"}
)

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func exec(t testing.TB, db postgres.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%v\nin: %s", err, sql)
	}
}

func one[T any](t testing.TB, db postgres.DB, sql string, args ...any) T {
	t.Helper()
	rows, err := db.Query(context.Background(), sql, args...)
	if err != nil {
		t.Fatalf("%v\nin: %s", err, sql)
	}
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%v\nin: %s", err, sql)
	}
	return value
}

// world is learners of every kind, with keys of every kind, and runs in and around
// the window.
type world struct {
	learners []uuid.UUID
	teams    []uuid.UUID
}

func newWorld(t testing.TB, db postgres.DB, r *rand.Rand, now time.Time, learners, teams, runs int) world {
	t.Helper()
	var w world
	batch := &pgx.Batch{}
	id := func() (id uuid.UUID) {
		for i := range id {
			id[i] = byte(r.Uint32())
		}
		return id
	}
	for month := now.AddDate(0, 0, -70); !month.After(now.AddDate(0, 1, 0)); month = month.AddDate(0, 0, 28) {
		batch.Queue(`select ops.ensure_partitions($1::date, $1::date)`, month)
	}
	for i := range teams {
		w.teams = append(w.teams, id())
		batch.Queue(`insert into public.teams (id, name) values ($1, $2)`, w.teams[i], fmt.Sprintf("Team %d", i))
	}
	for i := range learners {
		l := id()
		w.learners = append(w.learners, l)
		var deleted, banned *time.Time
		anonymous := r.IntN(12) == 0
		if r.IntN(12) == 0 {
			at := now.Add(-time.Hour)
			deleted = &at
		}
		if r.IntN(6) == 0 {
			at := now.Add(pick(r, -time.Hour, time.Hour, 0))
			banned = &at
		}
		var email *string
		if r.IntN(10) > 0 && !anonymous {
			address := fmt.Sprintf("l%d@example.org", i)
			email = &address
		}
		batch.Queue(`insert into auth.users (id, email, raw_user_meta_data, deleted_at, banned_until, is_anonymous) values ($1, $2, $3, $4, $5, $6)`,
			l, email, map[string]any{"name": pick(r, "", fmt.Sprintf("Learner %d", i))}, deleted, banned, anonymous)
		for range r.IntN(3) {
			batch.Queue(`insert into public.team_members (team_id, user_id, role) values ($1, $2, $3) on conflict do nothing`, pick(r, w.teams...), l, pick(r, "member", "member", "lead"))
		}
		for k := range r.IntN(4) {
			suspect := pick(r, suspects...)
			batch.Queue(`
				insert into public.user_api_keys (user_id, provider, ciphertext, fingerprint, last_four, status, suspect, status_at)
				values ($1, $2, 'sealed', $3, '1234', $4, nullif($5, ''), $6)`,
				l, pick(r, providers...), fmt.Sprint(k), pick(r, keyStatuses...), suspect, now.Add(-time.Duration(r.IntN(1000))*time.Hour))
		}
		if r.IntN(3) == 0 {
			state := pick(r, New, Contacted, Snoozed, Resolved, Reopened)
			var until *time.Time
			if state == Snoozed {
				at := now.Add(pick(r, -time.Hour, 0, time.Hour))
				until = &at
			}
			batch.Queue(`insert into ops.outreach (learner_id, state, state_at, snoozed_until) values ($1, $2, $3, $4)`, l, state, now.Add(-48*time.Hour), until)
		}
	}
	for range runs {
		l := pick(r, w.learners...)
		at := now.Add(-time.Duration(r.Int64N(int64(40 * 24 * time.Hour)))).Truncate(time.Microsecond)
		switch r.IntN(20) {
		case 0:
			at = now.Add(-Window) // counts
		case 1:
			at = now.Add(-Window - time.Microsecond) // does not
		case 2:
			at = now
		}
		var team, learner, operator *uuid.UUID
		if r.IntN(2) == 0 {
			one := pick(r, w.teams...)
			team = &one
		}
		learner = &l
		if r.IntN(15) == 0 {
			learner, operator = nil, &l
		}
		run := timed(id(), at)
		batch.Queue(`insert into public.prompt_runs (id, created_at, user_id, operator_id, team_id, models) values ($1, $2, $3, $4, $5, '{}')`, run, at, learner, operator, team)
		for ordinal := range 1 + r.IntN(3) {
			source := pick(r, "user", "fallback", "fallback", "")
			status := pick(r, "ok", "ok", "ok", "error", "cancelled", "interrupted", "running")
			var cost *string
			if status != "running" && r.IntN(5) > 0 {
				amount := fmt.Sprintf("%d.%012d", r.IntN(2), r.Int64N(1e12))
				cost = &amount
			}
			batch.Queue(`
				insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, operator_id, team_id, provider, model, status, key_source, user_key_id, fallback_key_id, cost_usd)
				values ($1, $2, $3, $4, $5, $6, $7::text, $7 || '/m', $8, nullif($9, ''), $10, $10, $11::text::numeric)`,
				run, ordinal, at, learner, operator, team, pick(r, providers...), status, source, run, cost)
		}
	}
	if err := db.SendBatch(context.Background(), batch).Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

// timed makes an id that of a run of an instant.
func timed(id uuid.UUID, at time.Time) uuid.UUID {
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6] = id[6]&0x0f | 0x70
	return id
}

func must(t testing.TB, amount string) price.USD {
	t.Helper()
	usd, err := price.ParseUSD(amount)
	if err != nil {
		t.Fatal(err)
	}
	return usd
}
