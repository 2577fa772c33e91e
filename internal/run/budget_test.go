package run

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

func fallbackKey(name string, cap *price.USD) key.Key {
	return key.Key{ID: uuid.NewSHA1(uuid.Nil, []byte(name)), Source: key.Fallback, Label: name, MonthlyCap: cap}
}

func TestGrant(t *testing.T) {
	day, bob := "2026-11-30", uuid.New()
	own := key.Key{ID: uuid.New(), Source: key.User, Label: "own"}
	free, capped := fallbackKey("free", nil), fallbackKey("capped", usd(t, "1"))
	platform, ofBob, ofCapped := counterID{ofPlatform, uuid.Nil, day}, counterID{ofLearner, bob, day}, counterID{ofKey, capped.ID, "2026-11-01"}
	for _, c := range []struct {
		name    string
		used    map[counterID]string
		budgets Budgets
		keys    []key.Key
		amount  *price.USD
		release held
		index   int
		full    scope
	}{
		{"no key", nil, Budgets{}, nil, usd(t, "1"), held{}, -1, ""},
		{"no limit", nil, Budgets{}, []key.Key{free}, usd(t, "1000"), held{}, 0, ""},
		{"an own key needs no money", map[counterID]string{platform: "5"}, Budgets{DailyUSD: usd(t, "5")}, []key.Key{own, free}, usd(t, "1"), held{}, 0, ""},
		{"just enough", map[counterID]string{platform: "4.5"}, Budgets{DailyUSD: usd(t, "5")}, []key.Key{free}, usd(t, "0.5"), held{}, 0, ""},
		{"a millionth too much", map[counterID]string{platform: "4.5"}, Budgets{DailyUSD: usd(t, "5")}, []key.Key{free}, usd(t, "0.500001"), held{}, -1, ofPlatform},
		{"a budget of nothing", nil, Budgets{DailyUSD: usd(t, "0")}, []key.Key{free}, usd(t, "0.000001"), held{}, -1, ofPlatform},
		{"the learner's allowance", map[counterID]string{ofBob: "0.9"}, Budgets{LearnerDailyUSD: usd(t, "1")}, []key.Key{free}, usd(t, "0.2"), held{}, -1, ofLearner},
		{"over the cap, the next key", map[counterID]string{ofCapped: "0.9"}, Budgets{}, []key.Key{capped, free}, usd(t, "0.2"), held{}, 1, ""},
		{"over every cap", map[counterID]string{ofCapped: "0.9"}, Budgets{}, []key.Key{capped}, usd(t, "0.2"), held{}, -1, ofKey},
		{"what it holds already counts once", map[counterID]string{platform: "4.5"}, Budgets{DailyUSD: usd(t, "5")}, []key.Key{free}, usd(t, "1"), held{capped.ID, *usd(t, "0.5")}, 0, ""},
		{"unknown cost, room left", map[counterID]string{platform: "4.99"}, Budgets{DailyUSD: usd(t, "5")}, []key.Key{free}, nil, held{}, 0, ""},
		{"unknown cost, no room", map[counterID]string{platform: "5"}, Budgets{DailyUSD: usd(t, "5")}, []key.Key{free}, nil, held{}, -1, ofPlatform},
	} {
		sums := counters{}
		for id, amount := range c.used {
			sums.at(id).used = *usd(t, amount)
		}
		index, holds, full := sums.grant(wish{keys: c.keys, amount: c.amount, day: day, learnerID: &bob, budgets: c.budgets, release: c.release})
		if index != c.index || full != c.full {
			t.Errorf("%s: key %d, full %q; want %d, %q", c.name, index, full, c.index, c.full)
		}
		if index < 0 && holds != c.release {
			t.Errorf("%s: refused, and holds %v", c.name, holds)
		}
	}
}

// However wishes come, no limit is ever exceeded, and what was granted is what the
// counters say.
func TestGrantNeverExceeds(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		budgets := Budgets{DailyUSD: usd(t, "10"), LearnerDailyUSD: usd(t, "4")}
		keys := []key.Key{fallbackKey("a", usd(t, "3")), fallbackKey("b", usd(t, "5")), fallbackKey("c", nil)}
		learners := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
		sums := counters{}
		granted := map[counterID]price.USD{}
		for range 40 {
			w := wish{keys: keys[r.IntN(3):], amount: usd(t, fmt.Sprintf("0.%d", 1+r.IntN(9))), day: "2026-11-30", learnerID: &learners[r.IntN(3)], budgets: budgets}
			if index, holds, _ := sums.grant(w); index >= 0 {
				for _, id := range countersOf(w.day, holds.keyID, w.learnerID) {
					granted[id] = granted[id].Add(holds.amount)
				}
			}
		}
		for id, sum := range granted {
			limit := map[scope]*price.USD{ofPlatform: usd(t, "10"), ofLearner: usd(t, "4")}[id.Scope]
			for _, k := range keys {
				if id.Subject == k.ID {
					limit = k.MonthlyCap
				}
			}
			if limit != nil && sum.Cmp(*limit) > 0 || !sums.at(id).added.Equal(sum) {
				t.Fatalf("%v: granted %s of %v, counted %s", id, sum, limit, sums.at(id).added)
			}
		}
	}
}

func TestPace(t *testing.T) {
	two, three := 2, 3
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	p := pace{}
	limits := Budgets{RunsPerMinute: &three, ConcurrentRuns: &two}
	for i, c := range []struct {
		after  time.Duration
		ended  int // since then
		refuse string
		wait   time.Duration
	}{
		{0, 0, "", 0},
		{time.Second, 0, "", 0},
		{2 * time.Second, 0, "at once", time.Second},
		{3 * time.Second, 2, "", 0},
		{4 * time.Second, 1, "within a minute", 56 * time.Second},
		{60 * time.Second, 0, "", 0}, // the first one is a minute ago
		{60 * time.Second, 1, "within a minute", time.Second},
		{61 * time.Second, 0, "", 0},
	} {
		p.running -= c.ended
		refusal, wait := p.admit(limits, now.Add(c.after))
		if (refusal == "") != (c.refuse == "") || wait != c.wait {
			t.Errorf("step %d: %q, wait %s; want %q, %s", i, refusal, wait, c.refuse, c.wait)
		}
	}
}

// The most that a call can cost is never less than what it does cost.
func TestWorstCostIsAnUpperBound(t *testing.T) {
	w := makeWorld(t)
	store := price.NewStore(w.pool)
	_, err := store.Seed(w.ctx)
	w.must(err)
	w.must(w.Prices.RunOnce(w.ctx, time.Now()))
	w.exec(`insert into ops.budgets (daily_usd) values (1000000)`)
	r := rand.New(rand.NewPCG(1, 9))
	for _, listed := range w.Prices.Book().Current(time.Now()) {
		messages := []provider.Message{{Role: provider.RoleUser, Content: string(make([]byte, 1+r.IntN(500_000)))}}
		most := int64(1 + r.IntN(10_000))
		worst := price.WorstCost(listed, price.MaxInputTokens(messages), most)
		usage := provider.Usage{Input: r.Int64N(int64(len(messages[0].Content)) + 1), Output: r.Int64N(most + 1)}
		usage.CacheWrite = r.Int64N(usage.Input + 1)
		usage.CachedInput = r.Int64N(usage.Input - usage.CacheWrite + 1)
		if cost := price.Cost(listed, usage); cost.Cmp(worst) > 0 {
			t.Errorf("%s/%s: %+v costs %s, more than %s", listed.Provider, listed.Model, usage, cost, worst)
		}
	}
}

// limited gives the world limits.
func (w *world) limited(columns string, values ...any) {
	w.t.Helper()
	places := "$1"
	for i := 2; i <= len(values); i++ {
		places += fmt.Sprintf(", $%d", i)
	}
	w.exec(`insert into ops.budgets (`+columns+`) values (`+places+`)`, values...)
}

// used is what a scope's counters say in sum.
func (w *world) used(of scope) price.USD {
	w.t.Helper()
	var sum price.USD
	w.must(w.pool.QueryRow(w.ctx, `select coalesce(sum(used_usd), 0) from ops.budget_counters where scope = $1`, string(of)).Scan(&sum))
	return sum
}

// spent is what the rows say was spent on fallback keys.
func (w *world) spent() price.USD {
	w.t.Helper()
	var sum price.USD
	w.must(w.pool.QueryRow(w.ctx, `select coalesce(sum(cost_usd), 0) from public.prompt_attempts where key_source = 'fallback'`).Scan(&sum))
	return sum
}

// Any number of runs at the same time on two nodes stay within every limit; what
// was set aside is given back to the last digit.
func TestConcurrentRunsDoNotOvershoot(t *testing.T) {
	for _, c := range []struct{ name, columns, limit string }{
		{"daily budget", "daily_usd", "0.1"},
		{"learner's allowance", "learner_daily_usd", "0.1"},
		{"monthly cap", "", "0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := makeWorld(t)
			limit := usd(t, c.limit)
			if c.columns != "" {
				w.limited(c.columns, limit)
			} else {
				w.exec(`update ops.fallback_keys set monthly_cap_usd = $1 where provider = 'anthropic'`, limit)
			}
			nodes := []*world{w, w.node()}
			// Nobody is answered until somebody was refused: else, on a slow machine,
			// one run may end before the next one begins.
			refused := make(chan struct{})
			goOn := sync.OnceFunc(func() { close(refused) })
			w.double.before = func(string) { <-refused }
			defer goOn()
			var mu sync.Mutex
			exceeded, ok := 0, 0
			stop := make(chan struct{})
			var watching sync.WaitGroup
			watching.Go(func() { // nobody ever sees more
				for {
					select {
					case <-stop:
						return
					default:
					}
					if used := w.used(ofPlatform); used.Cmp(*limit) > 0 {
						t.Errorf("%s of %s are used", used, limit)
						return
					}
				}
			})
			var all sync.WaitGroup
			for i := range 60 {
				all.Go(func() {
					node := nodes[i%2]
					call := node.call("anthropic/good", "google/good")
					call.Request.Config.MaxTokens = ptr(400)
					e, err := node.Run(w.ctx, call, &hearing{onResult: func(r Result) {
						if r.Error != nil {
							goOn()
						}
					}})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if r := e.Results[0]; r.Error != nil && r.Error.Class == provider.ClassBudgetExceeded && r.Attempts == 0 && r.Cost.IsZero() && r.CostSource == nil {
						exceeded++
					} else if r.Error == nil {
						ok++
					} else {
						t.Errorf("got %s", encoded(t, r))
					}
				})
			}
			all.Wait()
			close(stop)
			watching.Wait()
			if ok == 0 || exceeded == 0 {
				t.Errorf("%d ran, %d were refused; the limit is no test", ok, exceeded)
			}
			for _, of := range []scope{ofPlatform, ofKey, ofLearner} {
				if used, spent := w.used(of), w.spent(); !used.Equal(spent) {
					t.Errorf("%s: counted %s, spent %s", of, used, spent)
				}
			}
			if spent := w.spent(); spent.Cmp(*limit) > 0 {
				t.Errorf("spent %s of %s", spent, limit)
			}
		})
	}
}

// A learner's own key has no limit, and when it is refused its fallback has.
func TestOwnKeysAreNotLimited(t *testing.T) {
	w := makeWorld(t)
	w.limited("daily_usd", usd(t, "0"))
	e := w.run(w.call("openai/good"), nil)
	if r := e.Results[0]; r.Status != AttemptOK || *r.KeySource != key.User {
		t.Errorf("got %s", encoded(t, r))
	}
	w.double.refuseKey = func(secret string) bool { return secret == secrets["user"] }
	e = w.run(w.call("openai/good"), nil)
	if r := e.Results[0]; r.Error == nil || r.Error.Class != provider.ClassInvalidKey || r.Attempts != 1 {
		t.Errorf("got %s", encoded(t, r))
	}
	w.warm()
	w.exec(`update ops.budgets set daily_usd = 1`)
	e = w.run(w.call("openai/good"), nil)
	if r := e.Results[0]; r.Status != AttemptOK || *r.KeySource != key.Fallback || r.Attempts != 2 {
		t.Errorf("got %s", encoded(t, r))
	}
	if used, spent := w.used(ofPlatform), w.spent(); !used.Equal(spent) || spent.IsZero() {
		t.Errorf("counted %s, spent %s", used, spent)
	}
}

// Where a limit has to be kept, a call without a maximum is given one.
func TestFallbackMaxTokens(t *testing.T) {
	k := fallbackKey("a", nil)
	budgets := Budgets{DailyUSD: usd(t, "1"), FallbackMaxTokens: 4096}
	for _, c := range []struct {
		name    string
		budgets Budgets
		k       key.Key
		asked   *int
		want    *int
	}{
		{"a limit", budgets, k, nil, ptr(4096)},
		{"the caller's own", budgets, k, ptr(17), ptr(17)},
		{"no limit", Budgets{FallbackMaxTokens: 4096}, k, nil, nil},
		{"only a cap", Budgets{FallbackMaxTokens: 4096}, fallbackKey("b", usd(t, "1")), nil, ptr(4096)},
		{"an own key", budgets, key.Key{Source: key.User}, nil, nil},
	} {
		got := c.budgets.maxTokens(Config{MaxTokens: c.asked}, c.k)
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// The rate of one learner is limited over all nodes; others do not notice.
func TestPaceHoldsAcrossNodes(t *testing.T) {
	w := makeWorld(t)
	w.limited("runs_per_minute", 5)
	bob := uuid.New()
	w.exec(`insert into auth.users (id, email) values ($1, 'bob@example.org')`, bob)
	nodes := []*world{w, w.node()}
	var mu sync.Mutex
	refused, ran := 0, 0
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			node := nodes[i%2]
			_, err := node.Run(w.ctx, node.call("google/good"), nil)
			mu.Lock()
			defer mu.Unlock()
			switch f, _ := errors.AsType[*fault.Error](err); {
			case err == nil:
				ran++
			case f != nil && f.Kind == fault.RateLimited && f.RetryAfter >= time.Second && f.RetryAfter <= time.Minute:
				refused++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if ran != 5 || refused != 19 {
		t.Errorf("%d ran, %d were refused", ran, refused)
	}
	call := w.call("google/good")
	call.LearnerID = &bob
	w.run(call, nil)

	// A minute later there is room again, and nothing counts as running.
	w.exec(`update ops.learner_pace set starts = array(select at - interval '1 minute' from unnest(starts) at)`)
	w.run(w.call("google/good"), nil)
	var running int
	w.must(w.pool.QueryRow(w.ctx, `select sum(running) from ops.learner_pace`).Scan(&running))
	if running != 0 {
		t.Errorf("%d count as running", running)
	}
}

func TestConcurrentRunsAreLimited(t *testing.T) {
	w := makeWorld(t)
	w.limited("concurrent_runs", 2)
	ctx, cancel := context.WithCancel(w.ctx)
	var all sync.WaitGroup
	begun := make(chan struct{}, 2)
	w.double.before = func(string) { begun <- struct{}{} }
	for range 2 {
		all.Go(func() {
			if _, err := w.Run(ctx, w.call("anthropic/hang"), nil); err != nil {
				t.Error(err)
			}
		})
	}
	<-begun
	<-begun
	_, err := w.node().Run(w.ctx, w.call("google/good"), nil)
	if f, ok := errors.AsType[*fault.Error](err); !ok || f.Kind != fault.RateLimited || f.RetryAfter <= 0 {
		t.Errorf("a third one: %v", err)
	}
	cancel()
	all.Wait()
	w.double.before = nil
	w.run(w.call("google/good"), nil)
}

// What earlier tries may have cost stays set aside when another key is used.
func TestAnotherKeyAfterSpending(t *testing.T) {
	w := makeWorld(t)
	_, _, err := w.Keys.AddFallback(w.ctx, key.NewFallback{Provider: "anthropic", Label: "Second", Secret: "sandbox-of-the-second", Sandbox: true})
	w.must(err)
	w.exec(`insert into ops.model_prices (provider, model, input, output, source) values ('anthropic', 'close-body', 3, 15, 'test')`)
	w.must(w.Prices.RunOnce(w.ctx, time.Now()))
	w.limited("daily_usd", usd(t, "1"))
	calls := 0
	var first, third price.USD
	w.double.before = func(string) {
		switch calls++; calls {
		case 1:
			first = w.used(ofPlatform)
		case 2: // the connection broke in mid-answer, which may have to be paid for
			w.double.limits.Store(1)
		case 3:
			third = w.used(ofPlatform)
		}
	}
	e := w.run(w.call("anthropic/close-body"), nil)
	if calls < 3 || e.TotalCost.IsZero() || third.Cmp(first) <= 0 {
		t.Errorf("%d calls; %s are set aside for the first and %s for another key, after which the run has cost %s", calls, first, third, e.TotalCost)
	}
	if used := w.used(ofPlatform); !used.Equal(e.TotalCost) {
		t.Errorf("counted %s, spent %s", used, e.TotalCost)
	}
}
