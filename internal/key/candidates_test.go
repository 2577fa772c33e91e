package key

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/postgres/pgtest"
)

// counter counts round trips.
type counter struct{ n atomic.Int32 }

func (c *counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (c *counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (c *counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestCandidates(t *testing.T) {
	config, err := pgxpool.ParseConfig(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	queries := &counter{}
	config.ConnConfig.Tracer = queries
	pool, err := pgxpool.NewWithConfig(within(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)

	s := NewStore(pool, ring(t, oldKey))
	ada, bob := learner(t, pool), learner(t, pool)
	addUser(t, s, NewUser{LearnerID: ada, Provider: "openai", Label: "ada's", Secret: "sk-ada"})
	demo := addUser(t, s, NewUser{LearnerID: ada, Provider: "anthropic", Label: "ada's demo", Secret: "sk-ant-api-ada"})
	exec(t, pool, `insert into ops.demo_records (kind, id) values ('user_key', $1), ('fallback_key', gen_random_uuid())`, demo.ID)
	addUser(t, s, NewUser{LearnerID: bob, Provider: "openai", Label: "bob's", Secret: "sk-bob"})
	addFallback(t, s, NewFallback{Provider: "openai", Label: "main", Secret: "sk-main"})
	addFallback(t, s, NewFallback{Provider: "openai", Label: "spare", Secret: "sk-spare", Priority: 200, Models: []string{"gpt-5"}, Sandbox: true})
	off := addFallback(t, s, NewFallback{Provider: "openai", Label: "off", Secret: "sk-off"})
	exec(t, pool, `update ops.fallback_keys set status = 'cooling', cooling_until = $2, last_used_at = $2 where id = $1`, off.ID, noon)
	addFallback(t, s, NewFallback{Provider: "groq", Label: "groq's", Secret: "gsk_main"})

	labels := func(found map[string][]Key) map[string]string {
		all := map[string]string{}
		for provider, keys := range found {
			var names []string
			for _, k := range keys {
				names = append(names, fmt.Sprintf("%s %s %v", k.Source, k.Label, k.Sandbox))
				if k.Provider != provider {
					t.Errorf("a key of %s is among those of %s", k.Provider, provider)
				}
			}
			slices.Sort(names)
			all[provider] = strings.Join(names, ", ")
		}
		return all
	}
	const fallbacks = "fallback main false, fallback off false, fallback spare true"
	for _, test := range []struct {
		name      string
		learner   *uuid.UUID
		providers []string
		want      map[string]string
	}{
		{"ada", &ada, []string{"openai", "anthropic"}, map[string]string{"openai": fallbacks + ", user ada's false", "anthropic": "user ada's demo true"}},
		{"bob", &bob, []string{"openai", "anthropic", "openai"}, map[string]string{"openai": fallbacks + ", user bob's false"}},
		{"an operator", nil, []string{"openai", "groq"}, map[string]string{"openai": fallbacks, "groq": "fallback groq's false"}},
		{"nobody known", &uuid.Nil, []string{"groq"}, map[string]string{"groq": "fallback groq's false"}},
		{"no provider", &ada, nil, map[string]string{}},
		{"a strange provider", &ada, []string{"openai' or true --"}, map[string]string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			queries.n.Store(0)
			found, err := s.Candidates(within(t), test.learner, test.providers)
			if err != nil {
				t.Fatal(err)
			}
			if n := queries.n.Load(); n != 1 {
				t.Errorf("%d queries, want 1", n)
			}
			if diff := cmp.Diff(test.want, labels(found)); diff != "" {
				t.Error(diff)
			}
		})
	}

	found, err := s.Candidates(within(t), nil, []string{"openai"})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range found["openai"] {
		switch k.Label {
		case "off":
			if k.Status != Cooling || k.CoolingUntil == nil || !k.CoolingUntil.Equal(noon) || k.LastUsedAt == nil || !k.LastUsedAt.Equal(noon) {
				t.Errorf("got %+v", k)
			}
		case "spare":
			if diff := cmp.Diff([]string{"gpt-5"}, k.Models); diff != "" || k.Priority != 200 || k.LastFour != "re" {
				t.Errorf("got %+v", k)
			}
		case "main":
			if k.Models != nil || k.Priority != defaultPriority || k.Status != Healthy || k.LastUsedAt != nil {
				t.Errorf("got %+v", k)
			}
		}
	}

	listed, err := s.ListFallback(within(t))
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, k := range listed {
		order = append(order, k.Label)
	}
	if diff := cmp.Diff([]string{"groq's", "main", "off", "spare"}, order); diff != "" {
		t.Error(diff)
	}

	pool.Close()
	if _, err := s.Candidates(context.Background(), &ada, []string{"openai"}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
	if _, _, err := s.AddFallback(context.Background(), NewFallback{Provider: "openai", Label: "x", Secret: goodKey}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	} else {
		hides(t, err, goodKey)
	}
}

// Starting with too small a key ring is refused before anybody notices by
// failing runs.
func TestCheckRing(t *testing.T) {
	tx := pgtest.Tx(t)
	with := func(keys ...string) *Store { return NewStore(tx, ring(t, strings.Join(keys, ","))) }
	if err := with(newKey).CheckRing(within(t)); err != nil {
		t.Errorf("no key is stored: %v", err)
	}
	addFallback(t, with(oldKey), NewFallback{Provider: "openai", Label: "old", Secret: goodKey})
	addUser(t, with(oldKey), NewUser{LearnerID: learner(t, tx), Provider: "openai", Secret: goodKey})
	addFallback(t, with(newKey, oldKey), NewFallback{Provider: "groq", Label: "new", Secret: goodKey})
	if err := with(newKey, oldKey).CheckRing(within(t)); err != nil {
		t.Errorf("nothing is missing: %v", err)
	}
	const third = "3:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for _, test := range []struct {
		ring *Store
		says string
	}{
		{with(newKey), "sealed with: 1 (2 stored)."},
		{with(oldKey), "sealed with: 2 (1 stored)."},
		{with(third), "sealed with: 1 (2 stored), 2 (1 stored)."},
	} {
		err := test.ring.CheckRing(within(t))
		if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "PROMPTOPS_MASTER_KEYS") || !strings.Contains(err.Error(), test.says) {
			t.Errorf("got %v, want %q in it", err, test.says)
			continue
		}
		hides(t, err, goodKey, oldKey, newKey, third)
	}
	// One that opens with the ring's other key opens, too.
	keys, err := with(newKey, oldKey).ListFallback(within(t))
	if err != nil || len(keys) != 2 {
		t.Fatalf("got %v, %v", keys, err)
	}
	for _, k := range keys {
		if secret, err := with(newKey, oldKey).Open(k); err != nil || secret.Reveal() != goodKey {
			t.Errorf("%s: %v", k.Label, err)
		}
	}
}
