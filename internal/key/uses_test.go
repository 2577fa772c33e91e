package key

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// lastUsed is what the database says, by key id.
func lastUsed(t testing.TB, db postgres.DB) map[uuid.UUID]*time.Time {
	t.Helper()
	rows, err := db.Query(within(t), `select id, last_used_at from ops.fallback_keys union all select id, last_used_at from public.user_api_keys`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	found := map[uuid.UUID]*time.Time{}
	for rows.Next() {
		var id uuid.UUID
		var at *time.Time
		if err := rows.Scan(&id, &at); err != nil {
			t.Fatal(err)
		}
		found[id] = at
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestUses(t *testing.T) {
	tx := pgtest.Tx(t)
	s := NewStore(tx, ring(t, oldKey))
	own := addUser(t, s, NewUser{LearnerID: learner(t, tx), Provider: "openai", Secret: goodKey})
	first := addFallback(t, s, NewFallback{Provider: "openai", Label: "first", Secret: goodKey})
	unused := addFallback(t, s, NewFallback{Provider: "openai", Label: "unused", Secret: "sk-unused"})
	u := NewUses(s, quiet())
	if err := u.Flush(within(t)); err != nil {
		t.Errorf("nothing to write: %v", err)
	}
	check := func(k Key, want *time.Time) {
		t.Helper()
		got := lastUsed(t, tx)[k.ID]
		if (got == nil) != (want == nil) || got != nil && !got.Equal(*want) {
			t.Errorf("%s was last used %v, want %v", k.Label, got, want)
		}
	}
	flush := func() {
		t.Helper()
		if err := u.Flush(within(t)); err != nil {
			t.Fatal(err)
		}
	}

	// The newest counts, in whatever order they come.
	u.Touch(first, *at(time.Second))
	u.Touch(first, *at(2 * time.Second))
	u.Touch(first, *at(0))
	u.Touch(own, *at(time.Minute))
	u.Touch(Key{ID: uuid.New(), Source: Fallback}, *at(0)) // deleted meanwhile
	check(first, nil)
	flush()
	check(first, at(2*time.Second))
	check(own, at(time.Minute))
	check(unused, nil)

	// That it went well is another thing.
	worked := func(k Key) (at *time.Time) {
		t.Helper()
		if err := tx.QueryRow(within(t), `select last_success_at from `+tableOf(k.Source)+` where id = $1`, k.ID).Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	u.Worked(first, *at(3 * time.Second))
	flush()
	check(first, at(2*time.Second))
	if got := worked(first); got == nil || !got.Equal(*at(3 * time.Second)) || worked(own) != nil {
		t.Errorf("last went well %v, %v", got, worked(own))
	}

	// What another node wrote is not turned back.
	u.Touch(own, *at(time.Second))
	flush()
	check(own, at(time.Minute))
	flush()
	check(own, at(time.Minute))
}

// What could not be written is written the next time, unless newer.
func TestUsesAreKept(t *testing.T) {
	pool := pgtest.Database(t)
	s := NewStore(pool, ring(t, oldKey))
	one := addFallback(t, s, NewFallback{Provider: "openai", Label: "one", Secret: goodKey})
	two := addFallback(t, s, NewFallback{Provider: "groq", Label: "two", Secret: goodKey})
	u := NewUses(s, quiet())
	u.Touch(one, *at(0))
	u.Touch(two, *at(0))
	exec(t, pool, `alter table ops.fallback_keys rename column last_used_at to gone`)
	if err := u.Flush(within(t)); err == nil {
		t.Fatal("wrote into a column that is not there")
	}
	u.Touch(one, *at(time.Second))
	u.Touch(two, *at(-time.Second))
	exec(t, pool, `alter table ops.fallback_keys rename column gone to last_used_at`)
	if err := u.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	found := lastUsed(t, pool)
	if !found[one.ID].Equal(*at(time.Second)) || !found[two.ID].Equal(*at(0)) {
		t.Errorf("got %v", found)
	}

	pool.Close()
	u.Touch(one, *at(time.Minute))
	if err := u.Flush(context.Background()); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
}

// Several nodes write about the same keys while runs use them.
func TestUsesAtOnce(t *testing.T) {
	pool := pgtest.Database(t)
	ctx := within(t)
	s := NewStore(pool, ring(t, oldKey))
	var keys []Key
	for i := range 40 {
		keys = append(keys, addFallback(t, s, NewFallback{Provider: "openai", Label: "many", Secret: Secret(fmt.Sprintf("sk-%d", i))}))
		keys = append(keys, addUser(t, s, NewUser{LearnerID: learner(t, pool), Provider: "openai", Secret: goodKey}))
	}
	const rounds = 30
	var all sync.WaitGroup
	for range 3 {
		u := NewUses(s, quiet())
		for worker := range 2 {
			all.Go(func() {
				for round := range rounds {
					for i, k := range keys {
						u.Touch(k, *at(time.Duration(round*1000+i) * time.Second))
					}
					if worker == 0 {
						if err := u.Flush(ctx); err != nil {
							t.Error(err)
						}
					}
				}
				if err := u.Flush(ctx); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	found := lastUsed(t, pool)
	for i, k := range keys {
		if want := at(time.Duration((rounds-1)*1000+i) * time.Second); found[k.ID] == nil || !found[k.ID].Equal(*want) {
			t.Errorf("key %d was last used %v, want %v", i, found[k.ID], want)
		}
	}
}
