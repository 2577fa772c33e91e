package learner

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func TestFind(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tx := pgtest.Tx(t)
	store := NewStore(tx)
	add := func(email any, columns string, values ...any) uuid.UUID {
		t.Helper()
		id := uuid.New()
		if _, err := tx.Exec(ctx, `insert into auth.users (id, email) values ($1, $2)`, id, email); err != nil {
			t.Fatal(err)
		}
		if columns != "" {
			if _, err := tx.Exec(ctx, `update auth.users set `+columns+` where id = $1`, append([]any{id}, values...)...); err != nil {
				t.Fatal(err)
			}
		}
		return id
	}
	ada := add("Ada@Example.org", "")
	first, second := uuid.MustParse("00000000-0000-4000-8000-000000000001"), uuid.MustParse("00000000-0000-4000-8000-000000000002")
	for _, team := range []uuid.UUID{second, first} {
		if _, err := tx.Exec(ctx, `insert into public.teams (id, name) values ($1, 'team')`, team); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, `insert into public.team_members (team_id, user_id) values ($1, $2)`, team, ada); err != nil {
			t.Fatal(err)
		}
	}
	guest := add(nil, "is_anonymous = true")
	add("was@example.org", "deleted_at = $2", noon.Add(-time.Hour))
	again := add("again@example.org", "")
	if _, err := tx.Exec(ctx, `drop index auth.users_email_key`); err != nil { // as on Supabase, where a deleted account keeps its address
		t.Fatal(err)
	}
	add("AGAIN@example.org", "deleted_at = $2, created_at = $3", noon.Add(-time.Hour), noon.Add(-48*time.Hour))

	for _, test := range []struct {
		name string
		id   uuid.UUID
		want Learner
		kind fault.Kind
	}{
		{"in two teams", ada, Learner{ID: ada, Email: "Ada@Example.org", TeamIDs: []uuid.UUID{first, second}}, ""},
		{"anonymous", guest, Learner{ID: guest, Anonymous: true, TeamIDs: []uuid.UUID{}}, ""},
		{"missing", uuid.New(), Learner{}, fault.Unauthenticated},
		{"nobody", uuid.Nil, Learner{}, fault.Unauthenticated},
		{"banned", add("b1@example.org", "banned_until = $2", noon.Add(time.Second)), Learner{}, fault.Forbidden},
		{"banned for ever", add("b2@example.org", "banned_until = 'infinity'"), Learner{}, fault.Forbidden},
		{"deleted", add("d@example.org", "deleted_at = $2", noon.Add(-time.Second)), Learner{}, fault.Forbidden},
		{"deleted and banned", add("e@example.org", "deleted_at = $2, banned_until = $2", noon), Learner{}, fault.Forbidden},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := store.Find(ctx, test.id, noon)
			if (err == nil) != (test.kind == "") || err != nil && fault.KindOf(err) != test.kind {
				t.Errorf("got %v, want %q", err, test.kind)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}

	over := add("over@example.org", "banned_until = $2", noon)
	if _, err := store.Find(ctx, over, noon); err != nil {
		t.Errorf("a ban that is over: %v", err)
	}
	if _, err := store.Find(ctx, over, noon.Add(-time.Second)); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("a ban that is not over: %v", err)
	}

	for email, want := range map[string]uuid.UUID{"ada@example.org": ada, " ADA@EXAMPLE.ORG ": ada, "Again@example.org": again} {
		if got, err := store.FindByEmail(ctx, email, noon); err != nil || got.ID != want {
			t.Errorf("%q is %v, %v; want %v", email, got.ID, err, want)
		}
	}
	for email, want := range map[string]fault.Kind{
		"nobody@example.org": fault.NotFound, "": fault.NotFound, "%": fault.NotFound,
		"was@example.org": fault.Forbidden, "b1@example.org": fault.Forbidden,
	} {
		if got, err := store.FindByEmail(ctx, email, noon); fault.KindOf(err) != want || err == nil {
			t.Errorf("%q is %v, %v; want %s", email, got.ID, err, want)
		}
	}
}

func TestFindWithoutDatabase(t *testing.T) {
	pool := pgtest.Database(t)
	pool.Close()
	if _, err := NewStore(pool).Find(context.Background(), uuid.New(), noon); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
}
