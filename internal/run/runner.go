package run

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/learner"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

// Runner runs prompts. It is safe for concurrent use.
type Runner struct {
	Providers *provider.Registry
	Keys      *key.Store
	Uses      *key.Uses   // learns which keys were used
	Health    *key.Health // learns how that went
	Prices    *price.Prices
	Store     *Store
	Log       *slog.Logger
	Now       func() time.Time
	Observe   func(Finished)  // told of every recorded run, for metrics and traces; nil: nobody is
	Stopping  context.Context // done when runs that still go on have to end; nil: never
	Backoff   time.Duration   // before the first retry after a fault of the provider; 0: 400 ms
}

// Run runs one call and returns its answer, committed. listener may be nil.
//
// Whatever a provider does is part of the answer. An error means that nothing was
// run: fault.Unauthenticated or Forbidden (the account is gone or closed), Invalid
// (team, template or idempotency key do not fit), Conflict (the first run with
// this idempotency key goes on), RateLimited, Unavailable (the database is away).
// Or, also fault.Unavailable, that the outcome could not be recorded yet: it is
// kept, and the same idempotency key leads to it when the database is back.
func (r *Runner) Run(ctx context.Context, call Call, listener Listener) (Envelope, error) {
	started := r.Now()
	heard := serialise(listener)
	ready, err := r.start(ctx, call, started, false)
	if err != nil {
		return Envelope{}, err
	}
	if ready.again != nil {
		return r.replay(ctx, call, *ready.again, heard), nil
	}
	facts, messages, attempts := ready.facts, ready.messages, ready.attempts
	ended := false
	defer func() {
		if !ended { // something panicked; nobody else would close the run while we live
			go r.Store.undo([]uuid.UUID{call.ID})
		}
	}()
	r.logStart(ctx, call, key.Availability(providersOf(attempts), facts.keys, started))
	heard.Start(call.ID, false)
	r.callAll(ctx, call, facts, messages, attempts, heard)

	envelope := summarise(call.ID, attempts, r.Now().Sub(started))
	envelope.Upstream = upstream(attempts)
	abandoned := ctx.Err() != nil
	outcome := newFinishing(call, facts, r.Store.day(CreatedAt(call.ID)), messages, attempts, envelope)
	// The provider's work is done and may have been paid for: it is recorded
	// even when the one who asked has left.
	ended = true
	if err := r.Store.record(&entry{finish: outcome}, r.Store.outcomePatience); err != nil {
		return Envelope{}, err
	}
	r.logOutcome(ctx, call, envelope, outcome.status, abandoned)
	if r.Observe != nil {
		r.Observe(Finished{call, started, r.Now(), abandoned, envelope, triesOf(attempts)})
	}
	return envelope, nil
}

// begun is a run that is committed as started; or the answer of an earlier one.
type begun struct {
	facts    facts
	messages []provider.Message
	attempts []attempt
	again    *Envelope
}

// start finds out whether a run may start, with what, and has it committed. What
// is remembered may be out of date: then, and before anybody is refused because of
// it, it looks afresh.
func (r *Runner) start(ctx context.Context, call Call, now time.Time, fresh bool) (begun, error) {
	attempts := attemptsAt(call.Request.Models)
	providers := providersOf(attempts)
	f, err := r.Store.facts(ctx, &call, providers, fresh)
	if err != nil {
		return begun{}, err
	}
	if f.earlier != nil {
		again, err := f.earlier.replay(call.RequestHash)
		return begun{again: &again}, err
	}
	r.Prices.AtLeast(ctx, f.prices)
	err = f.admit(call, now)
	var messages []provider.Message
	if err == nil {
		messages, err = r.prepare(ctx, call, f)
	}
	if err != nil {
		if f.remembered {
			return r.start(ctx, call, now, true)
		}
		return begun{}, err
	}
	r.chooseKeys(call, attempts, f, messages, now)

	s := newStarting(call, f, attempts)
	if err := r.Store.record(&entry{start: s}, r.Store.startPatience); err != nil {
		return begun{}, err
	}
	switch {
	case s.stale:
		r.Store.memory.forget(f.version)
		return r.start(ctx, call, now, true)
	case errors.Is(s.refusal, errClaimed) && !fresh: // somebody has claimed the idempotency key since we looked
		return r.start(ctx, call, now, true)
	case s.refusal != nil:
		return begun{}, s.refusal
	}
	for i := range attempts {
		attempts[i].settle(s.decided[i])
	}
	return begun{facts: f, messages: messages, attempts: attempts}, nil
}

// admit refuses whoever may not run: an account that is gone, banned or deleted.
func (f facts) admit(call Call, now time.Time) error {
	switch {
	case call.LearnerID == nil:
		return nil
	case f.account == nil:
		return learner.ErrGone
	}
	return f.account.Usable(now)
}

// replay tells the answer of an earlier run with the same idempotency key.
func (r *Runner) replay(ctx context.Context, call Call, again Envelope, heard Listener) Envelope {
	r.logReplay(ctx, call, again)
	heard.Start(again.RequestID, true)
	for _, result := range again.Results {
		heard.Result(result)
	}
	return again
}

// prepare checks what only the database knows, and returns what the models are
// sent.
func (r *Runner) prepare(ctx context.Context, call Call, f facts) ([]provider.Message, error) {
	req := call.Request
	var problems []fault.Field
	if req.TeamID != nil && (f.account == nil || !slices.Contains(f.account.TeamIDs, *req.TeamID)) {
		problems = append(problems, fault.Field{Field: "teamId", Message: "is not one of your teams"})
	}
	body := ""
	if req.TemplateID != nil {
		found, err := r.Store.template(ctx, *req.TemplateID, call.LearnerID)
		switch {
		case fault.KindOf(err) == fault.NotFound:
			problems = append(problems, fault.Field{Field: "templateId", Message: "is not a template that you can use"})
		case err != nil:
			return nil, err
		}
		body = found
	}
	if len(problems) > 0 {
		return nil, fault.InvalidFields(problems)
	}
	return conversation(req, body)
}

// attemptsAt makes an attempt of every model.
func attemptsAt(models []string) []attempt {
	attempts := make([]attempt, len(models))
	for i, model := range models {
		id, name, _ := provider.Split(model)
		attempts[i] = attempt{ordinal: i, provider: id, model: name, result: Result{Model: model, Provider: id}}
	}
	return attempts
}

func providersOf(attempts []attempt) []string {
	ids := make([]string, len(attempts))
	for i, a := range attempts {
		ids[i] = a.provider
	}
	return ids
}

// chooseKeys gives every attempt the keys that it may use and the most that it
// can cost, or the reason why there is no key.
func (r *Runner) chooseKeys(call Call, attempts []attempt, f facts, messages []provider.Message, now time.Time) {
	for _, keys := range f.keys {
		for i, k := range keys {
			keys[i] = r.Health.Apply(r.Uses.Apply(k))
		}
	}
	day := r.Store.day(CreatedAt(call.ID))
	for i := range attempts {
		a := &attempts[i]
		choice := key.Choose(f.keys[a.provider], a.model, now)
		if len(choice.Keys) == 0 {
			a.fail(&provider.Failure{Class: provider.ClassMissingKey, Message: choice.Message(r.providerName(a.provider)), RetryAfter: choice.Wait(now)})
		}
		a.wish = wish{keys: choice.Keys, day: day, learnerID: call.LearnerID, budgets: f.budgets}
		a.wish.amount = f.budgets.worst(r.Prices.Book(), a, call.Request.Config, messages, now)
	}
}

func (r *Runner) providerName(id string) string {
	if spec, ok := r.Providers.Lookup(id); ok {
		return spec.Name
	}
	return id
}

// settle takes the key that was granted, or ends the attempt where money is out.
func (a *attempt) settle(g granted) {
	switch {
	case g.index >= 0:
		a.use(g)
	case g.full != "":
		a.fail(&provider.Failure{Class: provider.ClassBudgetExceeded, Message: exceeded(g.full)})
	}
}

// callAll calls every model at once and waits for all.
func (r *Runner) callAll(ctx context.Context, call Call, f facts, messages []provider.Message, attempts []attempt, heard Listener) {
	if r.Stopping != nil {
		stoppable, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(r.Stopping, func() { cancel(errStopping) })()
		ctx = stoppable
	}
	one := func(a *attempt) {
		if a.hasKey {
			r.attempt(ctx, a, call, f, messages, heard)
		}
		heard.Result(a.result)
	}
	var all sync.WaitGroup
	for i := 1; i < len(attempts); i++ {
		all.Go(func() { one(&attempts[i]) })
	}
	one(&attempts[0])
	all.Wait()
}

func triesOf(attempts []attempt) [][]Try {
	tries := make([][]Try, len(attempts))
	for i, a := range attempts {
		tries[i] = a.tries
	}
	return tries
}

// upstream is the time from the first call to a provider to the last answer.
func upstream(attempts []attempt) time.Duration {
	var first, last time.Time
	for _, a := range attempts {
		for _, t := range a.tries {
			if first.IsZero() || t.StartedAt.Before(first) {
				first = t.StartedAt
			}
			if end := t.StartedAt.Add(t.Duration); end.After(last) {
				last = end
			}
		}
	}
	return last.Sub(first)
}

// serialise makes a listener of one that may be nil and need not be safe for
// concurrent use.
func serialise(listener Listener) Listener {
	if listener == nil {
		return silent{}
	}
	return &oneAtATime{to: listener}
}

type silent struct{}

func (silent) Start(uuid.UUID, bool) {}
func (silent) Delta(string, string)  {}
func (silent) Result(Result)         {}

type oneAtATime struct {
	mu sync.Mutex
	to Listener
}

func (l *oneAtATime) Start(id uuid.UUID, replayed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to.Start(id, replayed)
}

func (l *oneAtATime) Delta(model, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to.Delta(model, text)
}

func (l *oneAtATime) Result(result Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to.Result(result)
}
