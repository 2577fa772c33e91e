package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/provider/sandbox"
)

var allModels = []string{"openai/gpt-5-mini", "anthropic/claude-haiku-5-5", "google/gemini-3.8-flash", "mistral/mistral-small-2603"}

// Two nodes under load, killed again and again, on a database that is restarted
// and crashes, with providers that fail, clients that leave or ask twice, and
// budgets that run out. Then everything has to add up.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	kills, restarts, callers, between := 4, 1, 24, 80
	if *long {
		kills, restarts, callers, between = 20, 5, 24, 150
	}
	w := newFragileWorld(t, 15*time.Millisecond)
	w.addPeople(8)
	for _, id := range []string{"openai", "anthropic", "google"} {
		w.addFallback(id, "0.0015", 1)
		for range 4 {
			w.addFallback(id, "", 2)
		}
	}
	w.addFallback("mistral", "0.001", 1)
	for i, p := range w.people[5:] {
		for _, id := range []string{"openai", "anthropic", "google", "mistral"}[:i+2] {
			w.addUserKey(p, id)
		}
	}
	w.exec(`insert into ops.budgets (daily_usd, learner_daily_usd, runs_per_minute, fallback_max_tokens) values (0.03, 0.006, 600, 400)`)
	w.addNode(nil)
	w.addNode(nil)
	w.box.Chaos(*seed, sandbox.Odds{
		"hang": 0.01, "500": 0.03, "503": 0.03, "429-retry": 0.004, "401": 0.005, "close": 0.02, "close-body": 0.02, "slow": 0.02, "hang-stream": 0.005,
	})

	c := newCrowd()
	load, stop := context.WithCancel(w.ctx)
	defer stop()
	var callersLeft sync.WaitGroup
	for i := range callers {
		callersLeft.Go(func() { w.caller(load, c, rand.New(rand.NewPCG(*seed, uint64(i)))) })
	}
	watching, endWatch := context.WithCancel(w.ctx)
	defer endWatch()
	watch := w.watchBudgets(watching)

	random := rand.New(rand.NewPCG(*seed, 1<<32))
	restartAt := random.Perm(kills)[:restarts]
	done := 0
	for i := range kills {
		c.more(between)
		if slices.Contains(restartAt, i) {
			w.restart([]syscall.Signal{syscall.SIGINT, syscall.SIGQUIT}[(done+int(*seed))%2])
			done++
			if !*long {
				w.seen()
			}
			c.more(between)
		}
		n := w.nodes[random.IntN(len(w.nodes))]
		n.kill()
		n.start()
		watch.raise("0.03", "0.003")
	}
	c.more(between)
	stop()
	callersLeft.Wait()
	w.box.Chaos(0, nil)
	took := w.settled()
	endWatch()
	samples := watch.end()

	b := w.books()
	told := b.asTold(c.answers)
	b.balance()
	b.asBilled(w.box.Entries())
	b.onlyOnce(c.answers)
	b.interruptedAreLogged()
	watch.replay()
	w.replays(c)

	reached := map[string]int{}
	statuses := map[int]int{}
	for _, a := range c.answers {
		statuses[a.status]++
		for _, r := range a.envelope.Results {
			if r.class() == "budget_exceeded" {
				reached[strings.Join(strings.Fields(r.Error.Message)[:3], " ")]++
			}
		}
		if a.err == nil && a.status != 200 && a.status != 409 && a.status != 422 && a.status != 429 && a.status != 503 {
			t.Errorf("HTTP %d: %s", a.status, a.body)
		}
		if a.err == nil && (a.status == 409 || a.status == 429 || a.status == 503) && !a.ask.stream && a.retry == "" {
			t.Errorf("HTTP %d without Retry-After: %s", a.status, a.body)
		}
	}
	if len(reached) < 2 {
		t.Errorf("budgets were not reached: %v", reached)
	}
	t.Logf("%d kills, %d restarts of the database; %d requests answered %v; %d runs: %s; %d calls billed; %d runs acknowledged, none lost unless it says so above; settled in %v; budgets sampled %d times, reached %v",
		kills, restarts, len(c.answers), statuses, len(b.runs), b.statuses(), len(w.box.Entries()), told, took.Round(time.Millisecond), samples, reached)
}

// caller sends requests one after the other until load ends.
func (w *world) caller(load context.Context, c *crowd, random *rand.Rand) {
	for load.Err() == nil {
		a := ask{who: w.people[0], marker: uuid.NewString(), stream: random.Float64() < 0.3}
		if random.Float64() > 0.2 { // the first is greedy
			a.who = w.people[random.IntN(len(w.people))]
		}
		models := slices.Clone(allModels)
		random.Shuffle(len(models), func(i, j int) { models[i], models[j] = models[j], models[i] })
		a.models = models[:1+random.IntN(3)]
		node, other := w.nodes[0].URL(), w.nodes[1].URL()
		if random.Float64() < 0.5 {
			node, other = other, node
		}
		if random.Float64() < 0.45 {
			a.key = uuid.NewString()
		}
		ctx, cancel := w.ctx, context.CancelFunc(func() {})
		if random.Float64() < 0.08 {
			ctx, cancel = context.WithTimeout(w.ctx, time.Duration(random.IntN(60))*time.Millisecond)
		}
		var twin sync.WaitGroup
		if a.key != "" && random.Float64() < 0.4 {
			twin.Go(func() { c.add(send(w.ctx, other, a)) })
		}
		got := c.add(send(ctx, node, a))
		cancel()
		twin.Wait()
		for tries := 0; a.key != "" && !got.acknowledged() && got.status != 422 && got.status != 429 && tries < 8 && load.Err() == nil; tries++ {
			sleep(load, 50*time.Millisecond<<min(tries, 4))
			node, other = other, node
			got = c.add(send(w.ctx, node, a))
		}
		if got.err != nil {
			sleep(load, 20*time.Millisecond) // nobody listens there right now
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// replays asks again for answers that were given, and with another body.
func (w *world) replays(c *crowd) {
	w.t.Helper()
	n := 0
	for _, a := range slices.Clone(c.answers) {
		if a.ask.key == "" || !a.acknowledged() || a.envelope.stored() != a.envelope.Status {
			continue
		}
		again := send(w.ctx, w.nodes[n%2].URL(), a.ask)
		if !again.acknowledged() || !again.replayed || again.envelope.RequestID != a.envelope.RequestID || !a.ask.stream && string(again.body) != string(a.body) {
			w.t.Errorf("run %s is not replayed: %v HTTP %d %s, first %s", a.envelope.RequestID, again.err, again.status, again.body, a.body)
		}
		other := a.ask
		other.stream = !other.stream
		if got := send(w.ctx, w.nodes[n%2].URL(), other); got.status != http.StatusUnprocessableEntity {
			w.t.Errorf("another request with the key of run %s: HTTP %d", a.envelope.RequestID, got.status)
		}
		if n++; n == 40 {
			break
		}
	}
	if n == 0 {
		w.t.Error("no answer could be asked for again")
	}
}

// budgetWatch looks at the counters all the time.
type budgetWatch struct {
	w       *world
	samples atomic.Int64
	ended   chan struct{}
	raises  []raise
}

// raise is when limits were raised, and what they had been.
type raise struct {
	at             time.Time
	daily, learner decimal.Decimal
}

const overLimit = `
	select format('%s %s %s: %s of %s', c.scope, c.subject, c.period, c.used_usd, l.usd)
	from ops.budget_counters c
	cross join ops.budgets b
	left join ops.fallback_keys k on k.id = c.subject
	cross join lateral (select case c.scope when 'platform' then b.daily_usd when 'key' then k.monthly_cap_usd else b.learner_daily_usd end) l (usd)
	where c.used_usd > l.usd`

func (w *world) watchBudgets(ctx context.Context) *budgetWatch {
	b := &budgetWatch{w: w, ended: make(chan struct{})}
	go func() {
		defer close(b.ended)
		for ctx.Err() == nil {
			rows, err := w.pool.Query(ctx, overLimit)
			if err == nil {
				over, err := pgx.CollectRows(rows, pgx.RowTo[string])
				if err == nil {
					b.samples.Add(1)
				}
				for _, one := range over {
					w.t.Errorf("over budget: %s", one)
				}
			}
			sleep(ctx, 25*time.Millisecond)
		}
	}()
	return b
}

// raise the limits, so that they are reached again.
func (b *budgetWatch) raise(daily, learner string) {
	b.w.t.Helper()
	r := raise{}
	must(b.w.t, b.w.pool.QueryRow(b.w.ctx, `select daily_usd, learner_daily_usd from ops.budgets`).Scan(&r.daily, &r.learner))
	r.at = time.Now()
	b.w.exec(`update ops.budgets set daily_usd = daily_usd + $1::text::numeric, learner_daily_usd = learner_daily_usd + $2::text::numeric`, daily, learner)
	b.raises = append(b.raises, r)
}

func (b *budgetWatch) end() int64 {
	<-b.ended
	if b.samples.Load() == 0 {
		b.w.t.Error("nobody looked at the budgets")
	}
	return b.samples.Load()
}

// replay checks from the rows alone what had been spent whenever a limit was
// raised, and at the end.
func (b *budgetWatch) replay() {
	b.w.t.Helper()
	b.raise("0", "0")
	for _, r := range b.raises {
		for _, group := range []struct {
			by    string
			limit decimal.Decimal
		}{{`a.created_at::date`, r.daily}, {`a.user_id, a.created_at::date`, r.learner}} {
			spent := value[decimal.Decimal](b.w, fmt.Sprintf(`
				select coalesce(max(usd), 0) from (
				  select sum(a.cost_usd) as usd
				  from public.prompt_attempts a join public.prompt_runs r on r.id = a.run_id
				  where a.key_source = 'fallback' and r.finished_at <= $1
				  group by %s) s`, group.by), r.at)
			if spent.GreaterThan(group.limit) {
				b.w.t.Errorf("%s USD were spent by %v, by %s, and the limit was %s", spent, r.at, group.by, group.limit)
			}
		}
	}
	over := value[int](b.w, `
		select count(*) from (
		  select 1 from public.prompt_attempts a join ops.fallback_keys k on k.id = a.fallback_key_id
		  group by k.id, k.monthly_cap_usd, date_trunc('month', a.created_at) having sum(a.cost_usd) > k.monthly_cap_usd) o`)
	if over != 0 {
		b.w.t.Errorf("%d keys have spent more than their cap", over)
	}
}
