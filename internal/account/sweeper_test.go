package account

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

func TestSweeper(t *testing.T) {
	ctx := context.Background()
	s, store, tx := newSessions(t)
	ada := makeAdmin(t, store, "ada@example.org")
	old := noon.Add(-SessionIdle)
	for ip, at := range map[string]time.Time{here: old, elsewhere: old.Add(time.Second)} {
		new(browser).start(t, s, ada, at)
		invited := makeAdmin(t, store, ip+"@example.org")
		if _, err := store.CreateLink(ctx, audit.CommandLine, invited.ID, SessionIdle, at); err != nil {
			t.Fatal(err)
		}
		if _, err := store.SignIn(ctx, ada.Email, "wrong", ip, at); err == nil {
			t.Fatal("signed in with a wrong password")
		}
	}
	// In use to the end, but over.
	new(browser).start(t, s, ada, noon.Add(-SessionMax))
	if _, err := tx.Exec(ctx, `update ops.sessions set last_seen_at = $1 where expires_at = $1`, noon); err != nil {
		t.Fatal(err)
	}

	if err := NewSweeper(tx, store.log).RunOnce(ctx, noon); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, table := range []string{"ops.sessions", "ops.sign_in_links", "ops.sign_in_failures", "ops.operators"} {
		got[table] = count(t, tx, table)
	}
	// A failure counts for the account and for the address.
	want := map[string]int{"ops.sessions": 1, "ops.sign_in_links": 1, "ops.sign_in_failures": 2, "ops.operators": 3}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows left (-want +got):\n%s", diff)
	}
}

func TestSweeperRun(t *testing.T) {
	pool := pgtest.Database(t)
	store, _ := newStore(pool)
	ada := makeAdmin(t, store, "ada@example.org")
	if _, err := store.CreateLink(context.Background(), audit.CommandLine, ada.ID, time.Hour, noon.AddDate(-10, 0, 0)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- NewSweeper(pool, store.log).Run(ctx) }()
	for count(t, pool, "ops.sign_in_links") > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run returned %v", err)
	}
}
