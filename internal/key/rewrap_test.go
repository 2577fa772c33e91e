package key

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/seal"
)

// both is the ring of a rotation that goes on.
const both = newKey + "," + oldKey

// fill stores n fallback keys and as many of one learner's.
func fill(t testing.TB, db postgres.DB, s *Store, n int) (ada uuid.UUID) {
	t.Helper()
	ada = learner(t, db)
	for i := range n {
		addFallback(t, s, NewFallback{Provider: "openai", Label: "many", Secret: Secret(fmt.Sprintf("sk-fallback-%06d", i))})
		addUser(t, s, NewUser{LearnerID: ada, Provider: "openai", Secret: Secret(fmt.Sprintf("sk-learner-%06d", i))})
	}
	return ada
}

// opens checks that every stored key opens with the ring of s, and that want are
// stored, each with its own secret.
func opens(t testing.TB, s *Store, ada uuid.UUID, want int) {
	t.Helper()
	keys, err := s.Candidates(within(t), &ada, []string{"openai"})
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[Secret]bool{}
	for _, k := range keys["openai"] {
		secret, err := s.Open(k)
		if err != nil {
			t.Errorf("%s key %s: %v", k.Source, k.ID, err)
		}
		if k.LastFour != lastFour(secret) {
			t.Errorf("%s key %s opens as another", k.Source, k.ID)
		}
		secrets[secret] = true
	}
	if len(secrets) != want {
		t.Errorf("%d secrets are stored, want %d", len(secrets), want)
	}
}

func rewrapAll(t testing.TB, s *Store, batch int) Rewrapped {
	t.Helper()
	r, err := s.Rewrap(within(t), batch, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRewrap(t *testing.T) {
	tx := pgtest.Tx(t)
	s := NewStore(tx, ring(t, both))
	if r := rewrapAll(t, s, 10); r.Stored+r.Resealed+r.Left+len(r.Broken) != 0 {
		t.Errorf("of nothing: %+v", r)
	}
	ada := fill(t, tx, NewStore(tx, ring(t, oldKey)), 12)
	addFallback(t, s, NewFallback{Provider: "openai", Label: "new", Secret: goodKey})
	if r, err := s.Survey(within(t)); err != nil || r.Stored != 25 || r.Left != 24 || len(r.Broken) != 0 {
		t.Errorf("before: %+v, %v", r, err)
	}
	var progress []string
	r, err := s.Rewrap(within(t), 5, func(done, left int) { progress = append(progress, fmt.Sprint(done, "+", left)) })
	if err != nil || r.Stored != 25 || r.Resealed != 24 || r.Left != 0 || len(r.Broken) != 0 {
		t.Errorf("got %+v, %v", r, err)
	}
	if got := strings.Join(progress, " "); got != "5+19 10+14 12+12 17+7 22+2 24+0" {
		t.Errorf("progress %s", got)
	}
	if r := rewrapAll(t, s, 5); r.Stored != 25 || r.Resealed != 0 || r.Left != 0 {
		t.Errorf("again: %+v", r)
	}

	// Without the old master key everything works.
	s = NewStore(tx, ring(t, newKey))
	opens(t, s, ada, 25)
	if err := s.CheckRing(within(t)); err != nil {
		t.Error(err)
	}
	for _, secret := range []Secret{"sk-fallback-000003", goodKey} {
		if _, _, err := s.AddFallback(within(t), NewFallback{Provider: "openai", Label: "again", Secret: secret}); fault.KindOf(err) != fault.Conflict {
			t.Errorf("a twin was met with %v", err)
		}
	}
	if _, _, err := s.AddUser(within(t), NewUser{LearnerID: ada, Provider: "openai", Secret: "sk-learner-000003"}); fault.KindOf(err) != fault.Conflict {
		t.Errorf("a twin was met with %v", err)
	}
}

// A new ciphertext is bound to its row like the one before.
func TestRewrappedIsBoundToTheRow(t *testing.T) {
	tx := pgtest.Tx(t)
	fill(t, tx, NewStore(tx, ring(t, oldKey)), 2)
	s := NewStore(tx, ring(t, both))
	rewrapAll(t, s, 10)
	exec(t, tx, `update ops.fallback_keys set ciphertext = (select ciphertext from public.user_api_keys order by id limit 1)`)
	exec(t, tx, `
		update public.user_api_keys k set ciphertext = other.ciphertext
		from public.user_api_keys other where other.id <> k.id`)
	r := rewrapAll(t, s, 10)
	if r.Stored != 4 || len(r.Broken) != 4 {
		t.Errorf("copied ciphertexts open: %+v", r)
	}
}

// What does not open is named, left alone, and in nobody's way.
func TestRewrapOfBrokenRows(t *testing.T) {
	tx := pgtest.Tx(t)
	old := NewStore(tx, ring(t, oldKey))
	s := NewStore(tx, ring(t, both))
	fill(t, tx, old, 5)
	broken := map[uuid.UUID]string{}
	spoil := func(k Key, ciphertext []byte) {
		broken[k.ID] = tableOf(k.Source)
		exec(t, tx, `update `+tableOf(k.Source)+` set ciphertext = $2 where id = $1`, k.ID, ciphertext)
	}
	add := func(secret Secret) Key {
		return addFallback(t, old, NewFallback{Provider: "groq", Label: "x", Secret: secret})
	}
	changed := add("sk-changed-0123456789")
	changed.ciphertext[len(changed.ciphertext)-1] ^= 1
	spoil(changed, changed.ciphertext)
	spoil(add("sk-emptied-0123456789"), []byte{})
	own := addUser(t, old, NewUser{LearnerID: learner(t, tx), Provider: "groq", Secret: "sk-learner-0123456789"})
	spoil(own, add("sk-copied-0123456789").ciphertext)
	renamed := add("sk-renamed-0123456789") // says that it is under the new master key
	renamed.ciphertext[4] = 2
	spoil(renamed, renamed.ciphertext)
	third := NewStore(tx, ring(t, "3:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))
	foreign := addFallback(t, third, NewFallback{Provider: "groq", Label: "x", Secret: "sk-foreign-0123456789"})
	broken[foreign.ID] = tableOf(Fallback)

	for _, batch := range []int{1, 3, 100, 0, -1} {
		r := rewrapAll(t, s, batch)
		if r.Stored != 16 || r.Left != 0 || len(r.Broken) != len(broken) {
			t.Errorf("got %+v", r)
		}
		for _, b := range r.Broken {
			if broken[b.ID] != b.Table || b.Table != tableOf(b.Source) || b.Problem == nil {
				t.Errorf("got %+v", b)
				continue
			}
			hides(t, b.Problem, "0123456789", oldKey[2:], newKey[2:])
			if b.ID == foreign.ID && !errors.Is(b.Problem, seal.ErrUnknownKey) {
				t.Errorf("of a master key that is not there: %v", b.Problem)
			}
		}
	}
	var kept []byte
	if err := tx.QueryRow(within(t), `select ciphertext from ops.fallback_keys where id = $1`, changed.ID).Scan(&kept); err != nil || string(kept) != string(changed.ciphertext) {
		t.Errorf("a row that does not open was written: %v", err)
	}
}

// Nodes with different rings can store one secret twice, and so can different
// old keys of one ring.
func TestRewrapOfTwins(t *testing.T) {
	const third = "3:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	tx := pgtest.Tx(t)
	ada := learner(t, tx)
	for _, keys := range []string{oldKey, newKey} {
		s := NewStore(tx, ring(t, keys))
		addFallback(t, s, NewFallback{Provider: "openai", Label: "Twin", Secret: goodKey})
		addUser(t, s, NewUser{LearnerID: ada, Provider: "openai", Secret: goodKey})
		addUser(t, s, NewUser{LearnerID: learner(t, tx), Provider: "openai", Secret: goodKey}) // somebody else's
	}
	for _, keys := range []string{both, third + "," + both} { // one fingerprint is there; both are made anew
		s := NewStore(tx, ring(t, keys))
		if r := rewrapAll(t, s, 100); r.Left != 0 || len(r.Broken) != 0 || r.Resealed == 0 {
			t.Errorf("got %+v", r)
		}
	}
	s := NewStore(tx, ring(t, third))
	if r, err := s.Survey(within(t)); err != nil || r.Stored != 6 || r.Left != 0 || len(r.Broken) != 0 {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, _, err := s.AddFallback(within(t), NewFallback{Provider: "openai", Label: "again", Secret: goodKey}); fault.KindOf(err) != fault.Conflict {
		t.Errorf("got %v", err)
	}
	if _, _, err := s.AddUser(within(t), NewUser{LearnerID: ada, Provider: "openai", Secret: goodKey}); fault.KindOf(err) != fault.Conflict {
		t.Errorf("got %v", err)
	}
}

// Several rewraps at once, while keys are read, used, cooled and added by nodes
// whose rings begin with either master key.
func TestRewrapWhileNodesRun(t *testing.T) {
	pool := pgtest.Database(t)
	ctx := within(t)
	before, after := NewStore(pool, ring(t, oldKey+","+newKey)), NewStore(pool, ring(t, both))
	const stored, added = 150, 40
	ada := fill(t, pool, before, stored)

	working, stop := context.WithCancel(ctx)
	var nodes, adding, rewraps sync.WaitGroup
	for _, s := range []*Store{before, after} {
		health, uses := NewHealth(s, HealthOptions{Log: quiet(), Now: time.Now}), NewUses(s, quiet())
		nodes.Go(func() {
			defer health.Wait()
			for i := 0; working.Err() == nil; i++ {
				keys, err := s.Candidates(ctx, &ada, []string{"openai"})
				if err != nil || len(keys["openai"]) < 2*stored {
					t.Errorf("%d keys, %v", len(keys["openai"]), err)
					return
				}
				for j, k := range keys["openai"] {
					if secret, err := s.Open(k); err != nil || lastFour(secret) != k.LastFour {
						t.Errorf("%s key %s: %v", k.Source, k.ID, err)
						return
					}
					uses.Touch(k, time.Now())
					if (i+j)%50 == 0 {
						health.Saw(ctx, k, Observation{
							Kind: ByAttempt, At: time.Now(), Class: provider.ClassRateLimited, RetryAfter: time.Duration(i+1) * time.Minute, Message: "slow down",
						})
					}
				}
				if err := uses.Flush(ctx); err != nil {
					t.Error(err)
				}
			}
		})
		adding.Go(func() { // both nodes the same ones, at the same time
			for i := range added {
				if _, _, err := s.AddFallback(ctx, NewFallback{Provider: "openai", Label: "added", Secret: Secret(fmt.Sprintf("sk-added-%06d", i))}); err != nil && fault.KindOf(err) != fault.Conflict {
					t.Error(err)
				}
			}
		})
	}
	var mu sync.Mutex
	resealed := 0
	for range 3 {
		rewraps.Go(func() {
			r, err := after.Rewrap(ctx, 7, nil)
			if err != nil || len(r.Broken) != 0 {
				t.Errorf("got %+v, %v", r, err)
			}
			mu.Lock()
			defer mu.Unlock()
			resealed += r.Resealed
		})
	}
	rewraps.Wait()
	adding.Wait()
	stop()
	nodes.Wait()
	// The node whose ring begins with the old key may have added one since.
	r := rewrapAll(t, after, 7)
	if resealed += r.Resealed; r.Left != 0 || resealed < 2*stored || resealed > 2*stored+added {
		t.Errorf("%d were sealed anew in all, in the end %+v", resealed, r)
	}
	opens(t, NewStore(pool, ring(t, newKey)), ada, 2*stored+added)
}

// Of several at once, each row is sealed anew by one.
func TestRewrapsAtOnce(t *testing.T) {
	pool := pgtest.Database(t)
	const stored = 150
	ada := fill(t, pool, NewStore(pool, ring(t, oldKey)), stored)
	var all sync.WaitGroup
	results := make([]Rewrapped, 4)
	for i := range results {
		all.Go(func() {
			var err error
			if results[i], err = NewStore(pool, ring(t, both)).Rewrap(within(t), 5, nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	sum := 0
	for _, r := range results {
		sum += r.Resealed
		if r.Left != 0 || len(r.Broken) != 0 {
			t.Errorf("got %+v", r)
		}
	}
	if sum != 2*stored {
		t.Errorf("%d rows were sealed anew, want %d", sum, 2*stored)
	}
	opens(t, NewStore(pool, ring(t, newKey)), ada, 2*stored)
}

func TestRewrapIsInterrupted(t *testing.T) {
	pool := pgtest.Database(t)
	ada := fill(t, pool, NewStore(pool, ring(t, oldKey)), 20)
	s := NewStore(pool, ring(t, both))
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	r, err := s.Rewrap(ctx, 3, func(done, _ int) {
		if done >= 9 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || r.Resealed != 9 {
		t.Errorf("got %+v, %v", r, err)
	}
	opens(t, s, ada, 40)
	if r, err := s.Survey(within(t)); err != nil || r.Left != 31 {
		t.Errorf("half-way: %+v, %v", r, err)
	}
	if r := rewrapAll(t, s, 3); r.Resealed != 31 || r.Left != 0 {
		t.Errorf("then: %+v", r)
	}
	opens(t, NewStore(pool, ring(t, newKey)), ada, 40)
}

// A locked row is waited for, but not forever, and in nobody's way.
func TestRewrapOfLockedRows(t *testing.T) {
	pool := pgtest.Database(t)
	ada := fill(t, pool, NewStore(pool, ring(t, oldKey)), 5)
	s := NewStore(pool, ring(t, both))
	unlock := lock(t, pool)
	r := rewrapAll(t, s, 2)
	if r.Resealed != 9 || r.Left != 1 || len(r.Broken) != 0 {
		t.Errorf("with one locked: %+v", r)
	}
	time.AfterFunc(2*rewrapPause, unlock)
	if r := rewrapAll(t, s, 2); r.Resealed != 1 || r.Left != 0 {
		t.Errorf("when it is free: %+v", r)
	}
	opens(t, NewStore(pool, ring(t, newKey)), ada, 10)
}

// lock holds the row of one fallback key until it is told otherwise.
func lock(t testing.TB, pool *pgxpool.Pool) (unlock func()) {
	t.Helper()
	tx, err := pool.Begin(within(t))
	if err != nil {
		t.Fatal(err)
	}
	unlock = sync.OnceFunc(func() { _ = tx.Rollback(context.Background()) })
	t.Cleanup(unlock)
	exec(t, tx, `select from ops.fallback_keys order by id limit 1 for update`)
	return unlock
}

func TestRewrapWithoutDatabase(t *testing.T) {
	pool := pgtest.Database(t)
	s := NewStore(pool, ring(t, both))
	pool.Close()
	if _, err := s.Rewrap(context.Background(), 10, nil); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
}
