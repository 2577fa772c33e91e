package usage_test

import (
	"bytes"
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/usage"
)

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
