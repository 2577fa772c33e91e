package usage_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
	"github.com/promptcademy/promptops/internal/usage"
)

func TestMoversEqualTheRows(t *testing.T) {
	db := pgtest.Database(t)
	r := rand.New(rand.NewPCG(3, 4))
	now := time.Now().UTC().Truncate(time.Millisecond)
	teams := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	insert(t, db, scatter(r, 2000, now, teams)...)
	template := uuid.New()
	for _, sql := range []string{
		`update public.prompt_attempts set template_id = '` + template.String() + `' where get_byte(uuid_send(run_id), 14) % 5 = 0`,
		`insert into public.teams (id, name) values ('` + teams[0].String() + `', 'First')`,
	} {
		if _, err := db.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	roller := rollup.NewRoller(db, zone(t, "Europe/Berlin"), slog.New(slog.DiscardHandler))
	if _, err := roller.Rebuild(context.Background()); err != nil {
		t.Fatal(err)
	}
	insert(t, db, scatter(r, 60, now.AddDate(0, 0, -20), teams)...)

	store := usage.NewStore(postgres.NewReader(db))
	for range 50 {
		zoneName := pick(r, "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")
		z := zone(t, zoneName)
		group := pick(r, usage.Dimensions...)
		v, where := url.Values{"group": {string(group)}}, "true"
		if r.IntN(3) == 0 {
			v.Set("key", pick(r, "user", "fallback"))
			where += " and key_source = '" + v.Get("key") + "'"
		}
		if r.IntN(3) == 0 {
			v.Set("team", teams[0].String())
			where += " and team_id = '" + v.Get("team") + "'"
		}
		first := now.In(z).AddDate(0, 0, -r.IntN(30))
		v.Set("from", first.Format(time.DateOnly))
		v.Set("to", first.AddDate(0, 0, r.IntN(10)).Format(time.DateOnly))
		q, err := usage.ParseQuery(v, now, z)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(v.Encode()+"&zone="+zoneName, func(t *testing.T) {
			moved, counted, err := store.Movers(context.Background(), q, now)
			if err != nil || !counted {
				t.Fatal(counted, err)
			}
			days := period.DayOf(q.From, z).Until(period.DayOf(q.To.Add(-time.Nanosecond), z)) + 1
			from := period.DayOf(q.From, z).Plus(-days).Start(z)
			to := q.From
			if now.Before(q.To) && !now.Before(q.From) {
				today := period.DayOf(now, z)
				to = today.Plus(-days).Start(z).Add(now.Sub(today.Start(z)))
				if !moved.Partial {
					t.Error("nothing says that today is not over")
				}
			} else if moved.Partial {
				t.Error("the period is over, and is called partial")
			}
			if !moved.From.Equal(from) || !moved.To.Equal(to) {
				t.Errorf("compared with %s to %s, want %s to %s", moved.From, moved.To, from, to)
			}
			checkMovers(t, db, moved, group, where, [4]time.Time{q.From, q.To, from, to})
		})
	}
	q, err := usage.ParseQuery(url.Values{"group": {"provider"}, "template": {template.String()}}, now, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	if _, counted, err := store.Movers(context.Background(), q, now); counted || err != nil {
		t.Errorf("a template's providers are compared, which would mean to read everything: %v", err)
	}
}

// checkMovers compares again with the simplest SQL there is.
func checkMovers(t *testing.T, db postgres.DB, moved usage.Moved, group usage.Dimension, where string, at [4]time.Time) {
	t.Helper()
	column := map[usage.Dimension]string{
		usage.ByProvider: "provider", usage.ByModel: "model", usage.ByTeam: "team_id::text", usage.ByKey: "key_source", usage.ByTemplate: "template_id::text", usage.ByLearner: "user_id::text",
	}[group]
	rows, err := db.Query(context.Background(), `
		select coalesce(`+column+`, ''), coalesce(sum(cost_usd) filter (where created_at >= $3 and created_at < $4), 0),
		       coalesce(sum(cost_usd) filter (where created_at >= $1 and created_at < $2), 0)
		from prompt_attempts where `+where+` group by 1`, at[0], at[1], at[2], at[3])
	if err != nil {
		t.Fatal(err)
	}
	var up, down []string
	all := map[string]price.USD{}
	var id string
	var before, after price.USD
	if _, err := pgx.ForEachRow(rows, []any{&id, &before, &after}, func() error {
		switch change := after.Sub(before); change.Cmp(price.USD{}) {
		case 1:
			up = append(up, id)
			all[id] = change
		case -1:
			down = append(down, id)
			all[id] = change
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(up, func(a, b string) int { return cmp.Or(all[b].Cmp(all[a]), strings.Compare(a, b)) })
	slices.SortFunc(down, func(a, b string) int { return cmp.Or(all[a].Cmp(all[b]), strings.Compare(a, b)) })
	written := func(movers []usage.Mover) (text string) {
		for _, m := range movers {
			text += fmt.Sprintf("%s %s; ", m.ID, m.Change())
		}
		return text
	}
	wanted := func(ids []string) (text string) {
		for _, id := range ids[:min(len(ids), usage.MostMovers)] {
			text += fmt.Sprintf("%s %s; ", id, all[id])
		}
		return text
	}
	if written(moved.Up) != wanted(up) || written(moved.Down) != wanted(down) {
		t.Errorf("up %s\nwant %s\ndown %s\nwant %s", written(moved.Up), wanted(up), written(moved.Down), wanted(down))
	}
	for _, m := range append(moved.Up, moved.Down...) {
		if m.Name == "" || m.ID != "" && m.Filter == "" && group != usage.ByLearner {
			t.Errorf("%+v has no name or no filter", m)
		}
	}
}
