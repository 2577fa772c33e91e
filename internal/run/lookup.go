package run

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/learner"
	"github.com/promptcademy/promptops/internal/postgres"
)

// facts are what the database knows that a run depends on.
//
// They may be remembered from an earlier run. So whoever is refused because of
// them is looked up again first, and a run starts only if ops.facts_version is
// still what it was when they were read: whoever is suspended, and whichever key is
// disabled, is so from the next run on, on every node.
type facts struct {
	account *learner.Account // nil: there is none, or an operator runs
	keys    map[string][]key.Key
	budgets Budgets
	earlier *earlier // nil: no run has used the idempotency key

	version    int64 // of ops.facts_version
	prices     int64 // likewise: those of the run must not be older
	remembered bool  // rather than just read
}

// earlier is what is known of the run that used an idempotency key before.
type earlier struct {
	runID  uuid.UUID
	hash   []byte
	answer *string // nil: it is going on
}

// question asks for the facts of one run.
type question struct {
	ctx       context.Context // of the caller: whoever has left is not answered for
	call      *Call
	providers []string

	facts facts
	done  chan error // receives once, and never blocks
}

const lookTimeout = 3 * time.Second

// facts says what a call depends on: what is remembered, unless it has to be fresh
// or the call has an idempotency key, of which nothing is. While the database is
// away it asks again, for a bounded time; then it is fault.Unavailable.
func (s *Store) facts(ctx context.Context, call *Call, providers []string, fresh bool) (facts, error) {
	if !fresh && call.IdempotencyKey == "" {
		if f, ok := s.memory.recall(call, providers); ok {
			return f, nil
		}
	}
	until := time.Now().Add(s.startPatience)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		q := &question{ctx: ctx, call: call, providers: providers, done: make(chan error, 1)}
		s.questions.add(q)
		var err error
		select {
		case err = <-q.done:
		case <-ctx.Done():
			return facts{}, ctx.Err()
		}
		if err == nil || !passes(err) {
			return q.facts, err
		}
		if time.Now().Add(pause).After(until) {
			return facts{}, away(err)
		}
		if !sleep(ctx, pause) {
			return facts{}, ctx.Err()
		}
	}
}

// look answers a batch of questions in one round trip.
func (s *Store) look(questions []*question) {
	var learnerIDs []uuid.UUID
	var owners []uuid.UUID
	var idempotencyKeys []string
	askers := map[uuid.UUID][]*question{}
	for _, q := range questions {
		if q.ctx.Err() != nil {
			q.done <- q.ctx.Err()
			continue
		}
		owner := q.call.owner()
		if askers[owner] == nil && q.call.LearnerID != nil {
			learnerIDs = append(learnerIDs, owner)
		}
		askers[owner] = append(askers[owner], q)
		if q.call.IdempotencyKey != "" {
			owners, idempotencyKeys = append(owners, owner), append(idempotencyKeys, q.call.IdempotencyKey)
		}
	}
	if len(askers) == 0 {
		return
	}

	accounts := map[uuid.UUID]*learner.Account{}
	own := map[uuid.UUID][]key.Key{}
	var fallback []key.Key
	var budgets Budgets
	before := map[idempotencyID]*earlier{}
	var version, prices int64
	var complete bool
	var batch pgx.Batch
	// First of all: what is read after it is at least as new.
	batch.Queue(`select version, prices, complete from ops.facts_version`).QueryRow(func(row pgx.Row) error { return row.Scan(&version, &prices, &complete) })
	learner.QueueAccounts(&batch, learnerIDs, func(a learner.Account) { accounts[a.ID] = &a })
	key.QueueCandidates(&batch, learnerIDs, func(owner *uuid.UUID, k key.Key) {
		if owner != nil {
			own[*owner] = append(own[*owner], k)
		} else {
			fallback = append(fallback, k)
		}
	})
	queueBudgets(&batch, &budgets)
	if len(owners) > 0 {
		queueEarlier(&batch, owners, idempotencyKeys, before)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	err := s.pool.SendBatch(ctx, &batch).Close()
	if err == nil && complete {
		s.memory.keep(version, prices, budgets, fallback, accounts, own)
	}
	for owner, all := range askers {
		for _, q := range all {
			if err == nil {
				q.facts = facts{account: accounts[owner], budgets: budgets, earlier: before[q.call.idempotencyID()], version: version, prices: prices}
				q.facts.keys = candidates(q.providers, own[owner], fallback)
			}
			q.done <- postgres.Fault(err)
		}
	}
}

// candidates sorts keys by the providers that a run asks for.
func candidates(providers []string, groups ...[]key.Key) map[string][]key.Key {
	found := make(map[string][]key.Key, len(providers))
	for _, id := range providers {
		found[id] = nil
	}
	for _, keys := range groups {
		for _, k := range keys {
			if _, asked := found[k.Provider]; asked {
				found[k.Provider] = append(found[k.Provider], k)
			}
		}
	}
	return found
}

func queueBudgets(batch *pgx.Batch, into *Budgets) {
	batch.Queue(`
		select daily_usd, learner_daily_usd, runs_per_minute, concurrent_runs, fallback_max_tokens
		from ops.budgets`).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&into.DailyUSD, &into.LearnerDailyUSD, &into.RunsPerMinute, &into.ConcurrentRuns, &into.FallbackMaxTokens)
		if errors.Is(err, pgx.ErrNoRows) { // nobody has set any
			return nil
		}
		return err
	})
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
