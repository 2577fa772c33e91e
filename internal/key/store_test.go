package key

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/seal"
)

const (
	oldKey  = "1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	newKey  = "2:Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
	goodKey = "sk-proj-J6fX0aQ2mWv8TzR4yLpN1sKd7uHb3CgE"
)

func ring(t testing.TB, s string) *seal.Ring {
	t.Helper()
	r, err := seal.ParseRing(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func exec(t testing.TB, db postgres.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(within(t), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func learner(t testing.TB, db postgres.DB) uuid.UUID {
	t.Helper()
	id := uuid.New()
	exec(t, db, `insert into auth.users (id, email) values ($1, gen_random_uuid() || '@example.org')`, id)
	return id
}

func addFallback(t testing.TB, s *Store, n NewFallback) Key {
	t.Helper()
	k, _, err := s.AddFallback(within(t), n)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func addUser(t testing.TB, s *Store, n NewUser) Key {
	t.Helper()
	k, _, err := s.AddUser(within(t), n)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// hides checks that an error shows no piece of a key.
func hides(t testing.TB, err error, secrets ...string) {
	t.Helper()
	said := err.Error()
	var f *fault.Error
	if errors.As(err, &f) {
		for _, detail := range f.Details {
			said += "\n" + detail.Field + " " + detail.Message
		}
	}
	for _, secret := range secrets {
		for i := 0; i+6 <= len(secret); i++ {
			if strings.Contains(said, secret[i:i+6]) {
				t.Fatalf("%q of the key stands in %s", secret[i:i+6], said)
			}
		}
	}
}

func TestAddAndOpen(t *testing.T) {
	tx := pgtest.Tx(t)
	s := NewStore(tx, ring(t, oldKey))
	limit, err := price.ParseUSD("25.50")
	if err != nil {
		t.Fatal(err)
	}
	added := addFallback(t, s, NewFallback{
		Provider: " openai ", Label: "  Main key\n", Secret: Secret("\t" + goodKey + "\r\n"), Priority: 7,
		Models: []string{" gpt-5", "gpt-5-mini "}, MonthlyCapUSD: &limit, Sandbox: true,
	})
	want := Key{
		ID: added.ID, Source: Fallback, Provider: "openai", Label: "Main key", LastFour: "3CgE", Status: Healthy,
		Priority: 7, Models: []string{"gpt-5", "gpt-5-mini"}, MonthlyCap: &limit, Sandbox: true, CreatedAt: added.CreatedAt,
	}
	if diff := cmp.Diff(want, added, cmpopts.IgnoreUnexported(Key{})); diff != "" {
		t.Error(diff)
	}
	own := addUser(t, s, NewUser{LearnerID: learner(t, tx), Provider: "openai", Label: "mine", Secret: goodKey})
	if own.Source != User || own.Sandbox || own.Models != nil {
		t.Errorf("got %+v", own)
	}
	for _, k := range []Key{added, own} {
		secret, err := s.Open(k)
		if err != nil || secret.Reveal() != goodKey {
			t.Errorf("%s: opened as %q, %v", k.Label, secret.Reveal(), err)
		}
	}

	// Nothing of it is readable in the database, and the cap is what was given.
	var row string
	if err := tx.QueryRow(within(t), `select (select f::text from ops.fallback_keys f) || (select k::text from public.user_api_keys k)`).Scan(&row); err != nil {
		t.Fatal(err)
	}
	for i := 0; i+5 <= len(goodKey); i++ {
		if piece := goodKey[i : i+5]; strings.Contains(row+string(added.ciphertext)+string(own.ciphertext), piece) || strings.Contains(row, hex.EncodeToString([]byte(piece))) {
			t.Errorf("%q stands in the row", piece)
		}
	}
	var stored price.USD
	if err := tx.QueryRow(within(t), `select monthly_cap_usd from ops.fallback_keys`).Scan(&stored); err != nil || !stored.Equal(limit) {
		t.Errorf("cap %v, %v", stored, err)
	}

	// A list of no models is no restriction.
	everything := addFallback(t, s, NewFallback{Provider: "openai", Label: "any", Secret: "sk-another-key-altogether", Models: []string{}})
	if everything.Priority != defaultPriority || Choose([]Key{everything}, "gpt-5", noon).Keys == nil {
		t.Errorf("got %+v", everything)
	}
}

// A ciphertext opens in its own row only.
func TestOpenIsBoundToTheRow(t *testing.T) {
	tx := pgtest.Tx(t)
	s := NewStore(tx, ring(t, oldKey))
	ada, bob := learner(t, tx), learner(t, tx)
	first := addUser(t, s, NewUser{LearnerID: ada, Provider: "openai", Secret: "sk-of-ada-0123456789"})
	second := addUser(t, s, NewUser{LearnerID: bob, Provider: "openai", Secret: "sk-of-bob-9876543210"})
	third := addFallback(t, s, NewFallback{Provider: "openai", Label: "main", Secret: "sk-of-all-5555555555"})
	exec(t, tx, `
		update public.user_api_keys k set ciphertext = other.ciphertext
		from public.user_api_keys other where k.id in ($1, $2) and other.id in ($1, $2) and other.id <> k.id`, first.ID, second.ID)
	exec(t, tx, `update ops.fallback_keys set ciphertext = $2 where id = $1`, third.ID, first.ciphertext)
	for _, id := range []uuid.UUID{ada, bob} {
		keys, err := s.Candidates(within(t), &id, []string{"openai"})
		if err != nil || len(keys["openai"]) != 2 {
			t.Fatalf("got %v, %v", keys, err)
		}
		for _, k := range keys["openai"] {
			secret, err := s.Open(k)
			if err == nil || secret != "" {
				t.Errorf("%s key %s opened as %q", k.Source, k.ID, secret.Reveal())
				continue
			}
			hides(t, err, "sk-of-ada-0123456789", "sk-of-bob-9876543210", "sk-of-all-5555555555")
		}
	}
	// The same row as the other kind of key is another row.
	if secret, err := s.Open(Key{ID: first.ID, Source: Fallback, ciphertext: first.ciphertext}); err == nil {
		t.Errorf("opened as %q", secret.Reveal())
	}
	for _, ciphertext := range [][]byte{nil, {1}, []byte("sealed"), append(slices.Clone(first.ciphertext), 0), first.ciphertext[:20]} {
		if secret, err := s.Open(Key{ID: first.ID, Source: User, ciphertext: ciphertext}); err == nil {
			t.Errorf("%x opened as %q", ciphertext, secret.Reveal())
		}
	}
	if _, err := s.Open(first); err != nil {
		t.Errorf("as it was it does not open either: %v", err)
	}
}

func TestDuplicates(t *testing.T) {
	tx := pgtest.Tx(t)
	ada, bob := learner(t, tx), learner(t, tx)
	s := NewStore(tx, ring(t, oldKey))
	addFallback(t, s, NewFallback{Provider: "openai", Label: "Main", Secret: goodKey})
	addUser(t, s, NewUser{LearnerID: ada, Provider: "openai", Label: "mine", Secret: goodKey})
	addUser(t, s, NewUser{LearnerID: bob, Provider: "openai", Secret: goodKey})         // somebody else's
	addUser(t, s, NewUser{LearnerID: ada, Provider: "deepseek", Secret: goodKey})       // for something else
	addFallback(t, s, NewFallback{Provider: "groq", Label: "Main", Secret: goodKey})    // for something else
	addFallback(t, s, NewFallback{Provider: "openai", Label: "Main", Secret: "sk-new"}) // a label may repeat

	// Also after the master key was rotated.
	for _, s := range []*Store{s, NewStore(tx, ring(t, newKey+","+oldKey))} {
		_, _, err := s.AddFallback(within(t), NewFallback{Provider: "openai", Label: "Again", Secret: " " + goodKey})
		if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), `"Main"`) {
			t.Errorf("got %v", err)
		}
		hides(t, err, goodKey)
		_, _, err = s.AddUser(within(t), NewUser{LearnerID: ada, Provider: "openai", Label: "again", Secret: goodKey})
		if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), `"mine"`) {
			t.Errorf("got %v", err)
		}
		hides(t, err, goodKey)
	}
}

func TestDuplicatesAtOnce(t *testing.T) {
	pool := pgtest.Database(t)
	ctx := within(t)
	s := NewStore(pool, ring(t, oldKey))
	ada := learner(t, pool)
	for round := range 5 {
		secret := Secret(goodKey + string(rune('a'+round)))
		var mu sync.Mutex
		added := map[Source]int{}
		var all sync.WaitGroup
		add := func(source Source, err error) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				added[source]++
			case fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), `"Twin"`):
				t.Errorf("got %v", err)
			}
		}
		for range 4 {
			all.Go(func() {
				_, _, err := s.AddFallback(ctx, NewFallback{Provider: "openai", Label: "Twin", Secret: secret})
				add(Fallback, err)
			})
			all.Go(func() {
				_, _, err := s.AddUser(ctx, NewUser{LearnerID: ada, Provider: "openai", Label: "Twin", Secret: secret})
				add(User, err)
			})
		}
		all.Wait()
		if added[User] != 1 || added[Fallback] != 1 {
			t.Errorf("stored %v times, want each once", added)
		}
	}
}

func TestBadValuesAreNamed(t *testing.T) {
	tx := pgtest.Tx(t)
	s := NewStore(tx, ring(t, oldKey))
	minus, err := price.ParseUSD("-0.01")
	if err != nil {
		t.Fatal(err)
	}
	good := NewFallback{Provider: "openai", Label: "Main", Secret: goodKey}
	with := func(change func(*NewFallback)) NewFallback { n := good; change(&n); return n }
	for _, test := range []struct {
		name   string
		key    NewFallback
		fields string
	}{
		{"nothing", NewFallback{}, "provider label secret"},
		{"spaces", NewFallback{Provider: " ", Label: "\t", Secret: "\n"}, "provider label secret"},
		{"a key of two words", with(func(n *NewFallback) { n.Secret = "sk-abcdef ghijkl" }), "secret"},
		{"a key of two lines", with(func(n *NewFallback) { n.Secret = "sk-abcdef\nghijkl" }), "secret"},
		{"NUL in the key", with(func(n *NewFallback) { n.Secret = "sk-abcdef\x00ghijkl" }), "secret"},
		{"broken UTF-8 in the key", with(func(n *NewFallback) { n.Secret = "sk-abcdef\xffghijkl" }), "secret"},
		{"a masked key", with(func(n *NewFallback) { n.Secret = "sk-abcdef…ghijkl" }), "secret"},
		{"an invisible space in the key", with(func(n *NewFallback) { n.Secret = "sk-abcdefghijkl\u200b" }), "secret"},
		{"a key that ends in a letter of two bytes", with(func(n *NewFallback) { n.Secret = "sk-abcdefghijklé" }), "secret"},
		{"a novel for a key", with(func(n *NewFallback) { n.Secret = Secret(strings.Repeat("k", 1001)) }), "secret"},
		{"NUL in the label", with(func(n *NewFallback) { n.Label = "Ma\x00in" }), "label"},
		{"two lines of label", with(func(n *NewFallback) { n.Label = "Ma\nin" }), "label"},
		{"broken label", with(func(n *NewFallback) { n.Label = "Ma\xffin" }), "label"},
		{"long label", with(func(n *NewFallback) { n.Label = strings.Repeat("l", 201) }), "label"},
		{"NUL in the provider", with(func(n *NewFallback) { n.Provider = "open\x00ai" }), "provider"},
		{"negative cap", with(func(n *NewFallback) { n.MonthlyCapUSD = &minus }), "monthlyCapUsd"},
		{"negative priority", with(func(n *NewFallback) { n.Priority = -1 }), "priority"},
		{"huge priority", with(func(n *NewFallback) { n.Priority = 1 << 40 }), "priority"},
		{"bad models", with(func(n *NewFallback) { n.Models = []string{"gpt-5", "", "gpt 5", "gpt\x005"} }), "models[1] models[2] models[3]"},
		{"many models", with(func(n *NewFallback) { n.Models = make([]string, 101) }), "models"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := s.AddFallback(within(t), test.key)
			checkFields(t, err, test.fields)
			hides(t, err, strings.TrimSpace(string(test.key.Secret)))
		})
	}
	_, _, err = s.AddUser(within(t), NewUser{LearnerID: uuid.New(), Label: "a\x00", Secret: "sk-abc def"})
	checkFields(t, err, "provider label secret")
	var stored int
	if err := tx.QueryRow(within(t), `select (select count(*) from ops.fallback_keys) + (select count(*) from public.user_api_keys)`).Scan(&stored); err != nil || stored != 0 {
		t.Errorf("stored %d keys, %v", stored, err)
	}
}

func checkFields(t testing.TB, err error, want string) {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != fault.Invalid {
		t.Fatalf("got %v", err)
	}
	var fields []string
	for _, detail := range f.Details {
		fields = append(fields, detail.Field)
		if detail.Message == "" {
			t.Errorf("nothing is said about %s", detail.Field)
		}
	}
	if got := strings.Join(fields, " "); got != want {
		t.Errorf("named %q, want %q", got, want)
	}
}
