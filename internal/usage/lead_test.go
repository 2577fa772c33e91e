package usage_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/rollup"
	"github.com/promptcademy/promptops/internal/usage"
)

// A lead's report is what other SQL counts for the teams asked for; limits and
// filters narrow each other, and row-level security narrows both.
func TestReportOfALead(t *testing.T) {
	db := pgtest.Tx(t)
	r := rand.New(rand.NewPCG(4, 11))
	now := instant(t, "2026-11-24T04:08:57Z")
	teams := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	led, other, alsoOther := teams[:2], teams[2], teams[3]
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := db.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	lead := uuid.New()
	exec(`insert into auth.users (id, email) values ($1, 'lead@example.org')`, lead)
	for i, id := range teams {
		exec(`insert into public.teams (id, name) values ($1, $2)`, id, fmt.Sprint("Team ", i))
	}
	exec(`insert into public.team_members (team_id, user_id, role) values ($1, $4, 'lead'), ($2, $4, 'lead'), ($3, $4, 'member')`, led[0], led[1], other, lead)
	insert(t, db, scatter(r, 2500, now, teams)...)
	// Runs of their own, for a team that they do not lead and for none: row-level
	// security alone would let them pass.
	exec(`update public.prompt_attempts set user_id = $1 where (team_id = $2 or team_id is null) and ordinal = 0`, lead, other)

	one := func(id uuid.UUID) *uuid.UUID { return &id }
	for name, tt := range map[string]struct {
		teamIDs []uuid.UUID
		team    *uuid.UUID
		key     string
		where   string
	}{
		"both teams":                  {led, nil, "", fmt.Sprintf("team_id in ('%s', '%s')", led[0], led[1])},
		"one team":                    {led[:1], one(led[0]), "", fmt.Sprintf("team_id = '%s'", led[0])},
		"one team, on fallback keys":  {led[1:], one(led[1]), "fallback", fmt.Sprintf("team_id = '%s' and key_source = 'fallback'", led[1])},
		"one team, limit to another":  {led[:1], one(led[1]), "", "false"},
		"no team":                     {[]uuid.UUID{}, nil, "", "false"},
		"a team of somebody else":     {[]uuid.UUID{alsoOther}, nil, "", "false"},
		"theirs and somebody else's":  {[]uuid.UUID{led[0], alsoOther}, nil, "", fmt.Sprintf("team_id = '%s'", led[0])},
		"where they are only members": {[]uuid.UUID{other}, nil, "", fmt.Sprintf("team_id = '%s' and user_id = '%s'", other, lead)},
		"everything, by mistake":      {nil, nil, "", fmt.Sprintf("(team_id in ('%s', '%s') or user_id = '%s')", led[0], led[1], lead)},
	} {
		t.Run(name, func(t *testing.T) {
			q, err := usage.ParseQuery(url.Values{"from": {"2026-10-01"}, "key": {tt.key}}, now, time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			q.TeamIDs, q.TeamID = tt.teamIDs, tt.team
			store := usage.NewStore(postgres.NewReader(db)).As(lead)
			report, err := store.Report(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			checkSums(t, q, report)
			checkAgainstRows(t, db, q, report, tt.where+" and created_at >= '2026-10-01'")

			options, err := store.Options(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, team := range options.Teams {
				if tt.teamIDs != nil && team.ID != led[0] && team.ID != led[1] && team.ID != tt.teamIDs[0] {
					t.Errorf("the filter offers %+v", team)
				}
			}
			if tt.where == "false" && tt.team == nil && len(options.Models) > 0 {
				t.Errorf("the filter offers %v", options.Models)
			}
		})
	}
}

// The sums of a lead's teams are theirs, and nobody else's, whoever asked before.
func TestReportOfALeadEqualsTheRows(t *testing.T) {
	db := pgtest.Database(t)
	r := rand.New(rand.NewPCG(5, 13))
	now := instant(t, "2026-11-24T04:08:57Z")
	c := newCrowd(t, db)
	lead, other := uuid.New(), uuid.New()
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := db.Exec(context.Background(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`insert into auth.users (id, email) values ($1, 'lead@example.org'), ($2, 'other@example.org')`, lead, other)
	exec(`insert into public.team_members (team_id, user_id, role) values ($1, $4, 'lead'), ($2, $4, 'lead'), ($3, $4, 'member'), ($3, $5, 'lead')`,
		c.teams[0], c.teams[1], c.teams[2], lead, other)
	insert(t, db, c.scatter(r, 3500, now, 75)...)
	exec(`update public.prompt_attempts set user_id = $1 where team_id = $2 and ordinal = 0`, lead, c.teams[2])
	exec(`insert into ops.operators (email, role, timezone) values ('a@example.org', 'admin', 'Asia/Kathmandu'), ('b@example.org', 'admin', 'UTC')`)
	roller := rollup.NewRoller(db, zone(t, "Europe/Berlin"), slog.New(slog.DiscardHandler))
	if _, err := roller.Rebuild(context.Background()); err != nil {
		t.Fatal(err)
	}
	insert(t, db, c.scatter(r, 100, now.AddDate(0, 0, -50), 20)...)

	store := usage.NewStore(postgres.NewReader(db))
	for range 40 {
		asked := c.question(r, now)
		asked.lead, asked.led = &lead, pick(r, c.teams[:2], c.teams[:1], c.teams[1:2])
		for i, id := range asked.led {
			asked.where += fmt.Sprintf(map[bool]string{true: " and team_id in ('%s'", false: ", '%s'"}[i == 0], id)
		}
		asked.where += ")"
		t.Run(asked.values.Encode()+"&zone="+asked.zone, func(t *testing.T) {
			asked.check(t, store, db, now)
			asked.check(t, store, db, now)
			q, err := usage.ParseQuery(asked.values, now, zone(t, asked.zone))
			if err != nil {
				t.Fatal(err)
			}
			q.TeamIDs = asked.led
			if got, err := store.As(other).Report(t.Context(), q); err != nil || got.Totals.Attempts != 0 {
				t.Errorf("the lead of another team sees %d attempts, %v", got.Totals.Attempts, err)
			}
			// As long as they lead the teams.
			tx, err := db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.Background()) }()
			if _, err := tx.Exec(t.Context(), `update public.team_members set role = 'member' where user_id = $1`, lead); err != nil {
				t.Fatal(err)
			}
			if got, err := store.At(tx).As(lead).Report(t.Context(), q); err != nil || got.Totals.Attempts != 0 {
				t.Errorf("who led the team sees %d attempts, %v", got.Totals.Attempts, err)
			}
		})
	}
	checkSumsOf(t, db, lead, c.teams[:2])
	checkSumsOf(t, db, other, c.teams[2:3])
	checkSumsOf(t, db, c.learners[0], nil)
}

// checkSumsOf checks of which teams a learner gets sums whatever they ask.
func checkSumsOf(t *testing.T, db *pgxpool.Pool, learner uuid.UUID, teams []uuid.UUID) {
	t.Helper()
	err := postgres.NewReader(db).As(learner).Read(t.Context(), func(tx pgx.Tx) error {
		for sql, want := range map[string][]uuid.UUID{
			`select distinct subject_id from public.usage_sums where kind in ('team', 'team_model') and subject_id is not null`: teams,
			`select subject_id from public.usage_sums where kind not in ('team', 'team_model') or subject_id is null`:           nil,
		} {
			rows, err := tx.Query(t.Context(), sql)
			if err != nil {
				return err
			}
			got, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			if err != nil {
				return err
			}
			byID := func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
			slices.SortFunc(got, byID)
			want = slices.Clone(want)
			slices.SortFunc(want, byID)
			if !slices.Equal(got, want) {
				t.Errorf("%s: sums of %v, want %v", sql, got, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The limit is nothing that a URL can set or widen.
func TestTheLimitIsNotInTheURL(t *testing.T) {
	id := uuid.NewString()
	for _, name := range []string{"TeamIDs", "teamIDs", "teamids", "team_ids", "teams", "teamId"} {
		q, err := usage.ParseQuery(url.Values{name: {id}}, time.Now(), time.UTC)
		if err != nil || q.TeamIDs != nil || q.TeamID != nil {
			t.Errorf("%s: %v, %v", name, q, err)
		}
	}
	q := usage.Query{Range: "7d", TeamIDs: []uuid.UUID{uuid.New()}}
	if got := q.Values().Encode(); got != "range=7d" {
		t.Errorf("the limit is in the URL: %s", got)
	}
}
