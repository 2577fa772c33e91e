package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

// Runner runs prompts. It is safe for concurrent use.
type Runner struct {
	Providers *provider.Registry
	Keys      *key.Store
	Uses      *key.Uses // learns which keys were used
	Prices    *price.Prices
	Store     *Store
	Log       *slog.Logger
	Now       func() time.Time
	Observe   func(Finished) // told of every recorded run, for metrics and traces; nil: nobody is
}

// Run runs one call and returns its answer, committed. listener may be nil.
//
// Whatever a provider does is part of the answer. An error means that nothing
// was run (fault.Invalid: team or template do not fit; fault.Unavailable: the
// database is away) or, also fault.Unavailable, that what was run could not be
// recorded.
func (r *Runner) Run(ctx context.Context, call Call, listener Listener) (Envelope, error) {
	started := r.Now()
	messages, err := r.prepare(ctx, call)
	if err != nil {
		return Envelope{}, err
	}
	attempts := r.plan(call.Request.Models)
	candidates, err := r.Keys.Candidates(ctx, call.LearnerID, providersOf(attempts))
	if err != nil {
		return Envelope{}, err
	}
	r.logStart(ctx, call, key.Availability(providersOf(attempts), candidates, started))
	for i := range attempts {
		r.chooseKey(&attempts[i], candidates, started)
	}
	if err := r.Store.start(ctx, call, attempts); err != nil {
		return Envelope{}, err
	}

	heard := serialise(listener)
	heard.Start(call.ID)
	r.callAll(ctx, call, messages, attempts, heard)

	envelope := summarise(call.ID, attempts, r.Now().Sub(started))
	abandoned := ctx.Err() != nil
	// The provider's work is done and may have been paid for: it is recorded
	// even when the one who asked has left.
	if err := r.Store.finish(ctx, call, messages, attempts, envelope, abandoned); err != nil {
		return Envelope{}, err
	}
	r.logOutcome(ctx, call, envelope, abandoned)
	return envelope, nil
}

// prepare checks what only the database knows, and returns what the models are
// sent.
func (r *Runner) prepare(ctx context.Context, call Call) ([]provider.Message, error) {
	req := call.Request
	var problems []fault.Field
	if req.TeamID != nil && !slices.Contains(call.TeamIDs, *req.TeamID) {
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

// plan makes an attempt of every model.
func (r *Runner) plan(models []string) []attempt {
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

// chooseKey gives the attempt its key, or the reason why there is none.
func (r *Runner) chooseKey(a *attempt, candidates map[string][]key.Key, now time.Time) {
	choice := key.Choose(candidates[a.provider], a.model, now)
	if choice.Key == nil {
		a.fail(&provider.Failure{Class: provider.ClassMissingKey, Message: choice.Message(r.providerName(a.provider))})
		return
	}
	a.key, a.hasKey = *choice.Key, true
	a.result.KeySource = &a.key.Source
}

func (r *Runner) providerName(id string) string {
	if spec, ok := r.Providers.Lookup(id); ok {
		return spec.Name
	}
	return id
}

// callAll calls every model at once and waits for all. One that fails, hangs or
// panics costs no other anything beyond its own timeout.
func (r *Runner) callAll(ctx context.Context, call Call, messages []provider.Message, attempts []attempt, heard Listener) {
	var all sync.WaitGroup
	for i := range attempts {
		a := &attempts[i]
		all.Go(func() {
			if a.hasKey {
				r.call(ctx, a, call.Request, messages, heard)
			}
			heard.Result(a.result)
		})
	}
	all.Wait()
}

// call makes one attempt.
func (r *Runner) call(ctx context.Context, a *attempt, req Request, messages []provider.Message, heard Listener) {
	started := r.Now()
	defer func() {
		if p := recover(); p != nil {
			r.Log.ErrorContext(ctx, "ai_run_panic", "model", a.result.Model, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			a.fail(&provider.Failure{Class: provider.ClassProviderError, Message: "The answer could not be processed."})
		}
		a.result.DurationMs = r.Now().Sub(started).Milliseconds()
	}()

	client, ok := r.Providers.Client(a.provider, a.key.Sandbox)
	if !ok {
		a.fail(&provider.Failure{Class: provider.ClassNotFound, Message: "This provider is no longer set up."})
		return
	}
	secret, err := r.Keys.Open(a.key)
	if err != nil {
		r.Log.ErrorContext(ctx, "key_unreadable", "keyId", a.key.ID, "keySource", a.key.Source, "error", err)
		a.fail(&provider.Failure{Class: provider.ClassMissingKey, Message: "The stored key could not be opened. An administrator has to add it again."})
		return
	}
	ctx, cancel := context.WithTimeout(ctx, req.Config.Timeout())
	defer cancel()
	providerCall := provider.Call{
		Secret: secret.Reveal(), Model: a.model, Messages: messages,
		Temperature: req.Config.Temperature, MaxTokens: req.Config.MaxTokens, TopP: req.Config.TopP, Stop: req.Config.Stop,
	}
	var onText func(string)
	if req.Stream {
		onText = func(text string) { heard.Delta(a.result.Model, text) }
	}
	a.result.Attempts++
	r.Uses.Touch(a.key, started)
	reply, err := client.Complete(ctx, providerCall, onText)
	a.settle(providerCall, reply, err, r.Prices.Book(), started)
}

// fail ends an attempt with an error. What a provider refused costs nothing.
func (a *attempt) fail(f *provider.Failure) {
	a.result.Status = AttemptError
	a.result.Error = &Error{Class: f.Class, Message: f.Message, HTTPStatus: f.HTTPStatus, RetryAfterMs: f.RetryAfter.Milliseconds()}
	if a.result.Cost == nil && a.result.CostSource == nil {
		a.result.Cost = &price.USD{}
	}
}

// settle turns what a provider answered into a result: tokens, cost, error.
func (a *attempt) settle(call provider.Call, reply provider.Reply, err error, book *price.Book, at time.Time) {
	a.providerCall = reply.RequestID
	if reply.Text != "" || err == nil {
		a.result.Output = &reply.Text
	}
	if reply.FinishReason != "" {
		a.result.FinishReason = &reply.FinishReason
	}
	if reply.FirstToken > 0 {
		ms := reply.FirstToken.Milliseconds()
		a.result.FirstTokenMs = &ms
	}
	failure, failed := errors.AsType[*provider.Failure](err)
	if err != nil && !failed { // adapters promise a Failure
		failure = &provider.Failure{Class: provider.ClassProviderError, Message: "The provider's answer could not be processed."}
	}
	usage, source := reply.Usage, "reported"
	if usage == nil && (err == nil || mayHaveBeenBilled(failure, reply)) {
		estimate := provider.Estimate(call, reply.Text)
		usage, source = &estimate, "estimated"
	}
	if usage != nil {
		a.result.Usage = &Usage{
			InputTokens: usage.Input, CachedInputTokens: usage.CachedInput, CacheWriteTokens: usage.CacheWrite,
			OutputTokens: usage.Output, ReasoningTokens: usage.Reasoning, TotalTokens: usage.Total(), Source: source,
		}
		a.cost(*usage, reply, source, book, at)
	}
	if err != nil {
		if failure.RequestID != "" {
			a.providerCall = failure.RequestID
		}
		a.fail(failure)
		return
	}
	a.result.Status = AttemptOK
}

// mayHaveBeenBilled says whether a call that ended without an answer or a word
// on usage can still have cost something: the model had begun to answer, or we
// stopped waiting while it was at work.
func mayHaveBeenBilled(f *provider.Failure, reply provider.Reply) bool {
	if reply.Text != "" {
		return true
	}
	return f.HTTPStatus == 0 && (f.Class == provider.ClassTimeout || f.Class == provider.ClassCancelled)
}

// cost prices an attempt: by what the provider says it billed, else by the list
// price of the moment the call was made. Without a price it stays unknown.
func (a *attempt) cost(usage provider.Usage, reply provider.Reply, usageSource string, book *price.Book, at time.Time) {
	var source CostSource
	listed, known := book.Find(a.provider, a.model, at)
	switch {
	case reply.Cost != nil:
		cost := price.NewUSD(*reply.Cost)
		a.result.Cost, source = &cost, Reported
	case !known:
		source = Unpriced
	default:
		cost := price.Cost(listed, usage)
		a.result.Cost, source, a.priceID = &cost, Computed, &listed.ID
		if usageSource == "estimated" {
			source = Estimated
		}
	}
	a.result.CostSource = &source
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

func (silent) Start(uuid.UUID)      {}
func (silent) Delta(string, string) {}
func (silent) Result(Result)        {}

type oneAtATime struct {
	mu sync.Mutex
	to Listener
}

func (l *oneAtATime) Start(id uuid.UUID) { l.mu.Lock(); defer l.mu.Unlock(); l.to.Start(id) }
func (l *oneAtATime) Delta(model, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to.Delta(model, text)
}
func (l *oneAtATime) Result(result Result) { l.mu.Lock(); defer l.mu.Unlock(); l.to.Result(result) }
