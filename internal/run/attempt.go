package run

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

// attempt is one model of a run, from its place in the request to its end.
type attempt struct {
	ordinal  int
	provider string // id
	model    string // the provider's own name

	keys     []key.Key // that may be used, in order; the rest of them while one is in use
	key      key.Key   // in use
	hasKey   bool
	wish     wish
	holds    held // money that is set aside
	holdings int  // how often that changed
	unsure   bool // whether the last change was written: the run's plan says
	tries    []Try

	priceID      *int64
	providerCall string // the provider's id of the last call
	result       Result
}

func (a attempt) rowStatus() AttemptStatus {
	if a.result.Error != nil {
		switch a.result.Error.Class {
		case provider.ClassCancelled:
			return AttemptCancelled
		case provider.ClassInterrupted:
			return AttemptInterrupted
		}
	}
	return a.result.Status
}

// use takes the key that was granted.
func (a *attempt) use(g granted) {
	a.key, a.hasKey = a.wish.keys[g.index], true
	a.keys = a.wish.keys[g.index+1:]
	a.holds = g.holds
	a.result.KeySource = &a.key.Source
}

// errStopping is why a run's context ends when the process has to.
var errStopping = errors.New("the server is stopping")

// attempt makes one attempt: as many tries as decide allows. One that fails,
// hangs or panics costs no other anything.
func (r *Runner) attempt(ctx context.Context, a *attempt, call Call, facts facts, messages []provider.Message, heard Listener) {
	started := r.Now()
	defer func() {
		if p := recover(); p != nil {
			r.Log.ErrorContext(ctx, "ai_run_panic", "model", a.result.Model, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			a.fail(&provider.Failure{Class: provider.ClassProviderError, Message: "The answer could not be processed."})
		}
		a.result.DurationMs = r.Now().Sub(started).Milliseconds()
	}()
	ctx, cancel := context.WithTimeout(ctx, call.Request.Config.Timeout())
	defer cancel()
	deadline, _ := ctx.Deadline()
	backoff := cmp.Or(r.Backoff, defaultBackoff)
	s := situation{}
	for {
		if r.Health.Suspended(a.key, r.Now()) && r.nextKey(a) && r.switchKey(call, a) == "" {
			s = situation{waited: s.waited}
		}
		failure, streamed := r.try(ctx, a, call, facts, messages, heard)
		if failure == nil {
			a.result.Status = AttemptOK
			return
		}
		s.failure, s.streamed = failure, streamed
		s.moreKeys = r.nextKey(a)
		s.left, s.backoff, s.jitter = time.Until(deadline), backoff, rand.Float64()
		d := decide(s)
		a.note(d)
		switch {
		case d.action == NextKey:
			s = situation{waited: s.waited}
			if full := r.switchKey(call, a); full != "" {
				a.note(decision{GiveUp, 0, "there is another key, but no budget for it"})
				a.fail(failure)
				a.result.Error.Message += " " + exceeded(full)
				return
			}
		case d.action == Again && sleep(ctx, d.wait) && r.holdAgain(call, a):
			if failure.Class == provider.ClassRateLimited {
				s.waited = true
			} else {
				s.retries++
			}
		default:
			a.fail(a.ended(ctx, failure))
			return
		}
	}
}

// ended is the failure of an attempt whose context may have ended while it waited
// to try again.
func (a *attempt) ended(ctx context.Context, failure *provider.Failure) *provider.Failure {
	switch {
	case errors.Is(context.Cause(ctx), errStopping):
		return &provider.Failure{Class: provider.ClassInterrupted, Message: "The server was stopped before the model was done."}
	case errors.Is(ctx.Err(), context.Canceled):
		return &provider.Failure{Class: provider.ClassCancelled, Message: "Cancelled before the model was done."}
	}
	return failure
}

// nextKey drops keys that are out meanwhile, and says whether one is left.
func (r *Runner) nextKey(a *attempt) bool {
	now := make([]key.Key, len(a.keys))
	for i, k := range a.keys {
		now[i] = r.Health.Apply(k)
	}
	a.keys = key.Choose(now, a.model, r.Now()).Keys
	return len(a.keys) > 0
}

// switchKey goes on to the next key that there is money for. What was set aside
// for the old one is set aside for the new one.
func (r *Runner) switchKey(call Call, a *attempt) (full scope) {
	w := a.wish
	w.keys, w.release = a.keys, a.holds
	if a.keys[0].Source == key.User {
		a.wish = w
		a.use(granted{index: 0, holds: a.holds})
		return ""
	}
	if spent := a.result.Cost; spent != nil && w.amount != nil { // by earlier tries; it counts for the last key
		amount := w.amount.Add(*spent)
		w.amount = &amount
	}
	g := r.hold(call, a, w)
	if g.index < 0 {
		return g.full
	}
	a.wish.keys = w.keys
	a.use(g)
	return ""
}

// holdAgain sets money aside for one more try after one that may have to be paid
// for.
func (r *Runner) holdAgain(call Call, a *attempt) bool {
	spent := a.result.Cost
	if a.holds.keyID == uuid.Nil || spent == nil || spent.IsZero() || a.wish.amount == nil {
		return true
	}
	w := a.wish
	amount := w.amount.Add(*spent)
	w.keys, w.amount, w.release = []key.Key{a.key}, &amount, a.holds
	g := r.hold(call, a, w)
	a.holds = g.holds
	return g.index >= 0
}

// hold has the change written. When that cannot be done, the answer is no.
func (r *Runner) hold(call Call, a *attempt, w wish) granted {
	a.holdings++
	h := &holding{runID: call.ID, ordinal: a.ordinal, number: a.holdings, wish: w}
	e := &entry{hold: h}
	if err := r.Store.record(e, r.Store.startPatience); err != nil {
		a.unsure = e.tries > 0
		r.Log.Warn("budget_not_asked", "requestId", call.ID, "error", err)
		return granted{index: -1, holds: w.release, full: notAsked}
	}
	return h.decided
}

// try makes one call to the provider and adds what it used to the attempt.
func (r *Runner) try(ctx context.Context, a *attempt, call Call, facts facts, messages []provider.Message, heard Listener) (failure *provider.Failure, streamed bool) {
	req := call.Request
	if ctx.Err() != nil {
		return a.ended(ctx, &provider.Failure{Class: provider.ClassTimeout, Message: "There was no time left to ask the model."}), false
	}
	client, ok := r.Providers.Client(a.provider, a.key.Sandbox)
	if !ok {
		return &provider.Failure{Class: provider.ClassNotFound, Message: "This provider is no longer set up."}, false
	}
	secret, err := r.Keys.Open(a.key)
	if err != nil {
		r.Log.ErrorContext(ctx, "key_unreadable", "keyId", a.key.ID, "keySource", a.key.Source, "error", err)
		return &provider.Failure{Class: provider.ClassMissingKey, Message: "The stored key could not be opened. An administrator has to add it again."}, false
	}
	providerCall := provider.Call{
		Secret: secret.Reveal(), Model: a.model, Messages: messages,
		Temperature: req.Config.Temperature, MaxTokens: facts.budgets.maxTokens(req.Config, a.key), TopP: req.Config.TopP, Stop: req.Config.Stop,
	}
	var onText func(string)
	if req.Stream {
		onText = func(text string) {
			streamed = true
			heard.Delta(a.result.Model, text)
		}
	}
	startedAt := r.Now()
	a.result.Attempts++
	r.Uses.Touch(a.key, startedAt)
	clock := time.Now()
	reply, err := client.Complete(ctx, providerCall, onText)
	took := time.Since(clock)
	failure = a.take(providerCall, reply, err, r.Prices.Book(), startedAt)
	if failure != nil && failure.Class == provider.ClassCancelled {
		failure = a.ended(ctx, failure)
	}
	t := Try{
		StartedAt: startedAt, Duration: took, KeyID: a.key.ID, KeySource: a.key.Source,
		FirstToken: reply.FirstToken, ProviderCall: a.providerCall, Action: Done,
	}
	if failure != nil {
		t.Class, t.HTTPStatus = failure.Class, failure.HTTPStatus
	}
	a.tries = append(a.tries, t)
	r.tell(ctx, a.key, call.ID, t, failure)
	return failure, streamed
}

// tell has it known what a call saw of its key.
func (r *Runner) tell(ctx context.Context, k key.Key, runID uuid.UUID, t Try, failure *provider.Failure) {
	now := r.Now()
	o := key.Observation{
		Kind: key.ByAttempt, At: now, StartedAt: t.StartedAt, Class: t.Class, HTTPStatus: t.HTTPStatus, Latency: t.Duration, ProviderCall: t.ProviderCall,
	}
	if failure == nil {
		r.Uses.Worked(k, now)
	} else {
		o.RetryAfter, o.Message, o.RunID = failure.RetryAfter, failure.Message, &runID
	}
	r.Health.Saw(ctx, k, o)
}

// note adds to the last try what was decided after it.
func (a *attempt) note(d decision) {
	if len(a.tries) > 0 {
		last := &a.tries[len(a.tries)-1]
		last.Action, last.Reason = d.action, d.reason
	}
}

// fail ends an attempt with an error. What a provider refused costs nothing.
func (a *attempt) fail(f *provider.Failure) {
	a.result.Status = AttemptError
	a.result.Error = &Error{Class: f.Class, Message: f.Message, HTTPStatus: f.HTTPStatus, RetryAfterMs: f.RetryAfter.Milliseconds()}
	if a.result.Cost == nil && a.result.CostSource == nil {
		a.result.Cost = &price.USD{}
	}
}

// take adds what one call brought to the result: text, tokens, cost. It returns
// the call's failure, if it failed.
func (a *attempt) take(call provider.Call, reply provider.Reply, err error, book *price.Book, at time.Time) *provider.Failure {
	a.providerCall = reply.RequestID
	a.result.Output, a.result.FinishReason, a.result.FirstTokenMs = nil, nil, nil
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
		a.addUsage(*usage, source)
		a.addCost(*usage, reply, source, book, at)
	}
	if failure != nil && failure.RequestID != "" {
		a.providerCall = failure.RequestID
	}
	return failure
}

// mayHaveBeenBilled says whether a call that ended without an answer or a word
// on usage can still have cost something: the model had begun to answer, or we
// stopped waiting while it was at work.
func mayHaveBeenBilled(f *provider.Failure, reply provider.Reply) bool {
	if reply.Text != "" {
		return true
	}
	if f.HTTPStatus != 0 {
		return false
	}
	return f.Class == provider.ClassTimeout || f.Class == provider.ClassCancelled || reply.Accepted && f.Class == provider.ClassNetwork
}

// addUsage adds the tokens of one more try.
func (a *attempt) addUsage(u provider.Usage, source string) {
	if a.result.Usage == nil {
		a.result.Usage = &Usage{Source: source}
	}
	sum := a.result.Usage
	sum.InputTokens += u.Input
	sum.CachedInputTokens += u.CachedInput
	sum.CacheWriteTokens += u.CacheWrite
	sum.OutputTokens += u.Output
	sum.ReasoningTokens += u.Reasoning
	sum.TotalTokens += u.Total()
	if source == "estimated" {
		sum.Source = source
	}
}

// addCost adds what one more try costs: what the provider says it billed, else
// the list price of the moment the call was made. Where one has no price, the
// whole is unknown.
func (a *attempt) addCost(usage provider.Usage, reply provider.Reply, usageSource string, book *price.Book, at time.Time) {
	var cost price.USD
	source := Computed
	listed, known := book.Find(a.provider, a.model, at)
	switch {
	case reply.Cost != nil:
		cost, source = price.NewUSD(*reply.Cost), Reported
	case !known:
		source = Unpriced
	default:
		cost, a.priceID = price.Cost(listed, usage), &listed.ID
		if usageSource == "estimated" {
			source = Estimated
		}
	}
	if a.result.CostSource != nil {
		source = lessCertain(source, *a.result.CostSource)
		if a.result.Cost != nil {
			cost = cost.Add(*a.result.Cost)
		}
	}
	a.result.CostSource, a.result.Cost = &source, &cost
	if source == Unpriced {
		a.result.Cost = nil
	}
}

// lessCertain is the source of a sum: that of its least certain part.
func lessCertain(a, b CostSource) CostSource {
	for _, source := range []CostSource{Unpriced, Estimated, Computed} {
		if a == source || b == source {
			return source
		}
	}
	return Reported
}

// loggedTry is a Try in prompt_attempts.try_log.
type loggedTry struct {
	At         time.Time      `json:"at"`
	DurationMs float64        `json:"durationMs"`
	KeyID      uuid.UUID      `json:"keyId"`
	KeySource  key.Source     `json:"keySource"`
	Class      provider.Class `json:"class,omitempty"`
	HTTPStatus int            `json:"httpStatus,omitempty"`
	Action     Action         `json:"action"`
	Reason     string         `json:"reason,omitempty"`
}

// tryLog is what the run page shows as a waterfall; nil where the attempt's own
// columns say all of it.
func (a attempt) tryLog() *string {
	if len(a.tries) == 0 || len(a.tries) == 1 && a.tries[0].Action == Done {
		return nil
	}
	all := make([]loggedTry, len(a.tries))
	for i, t := range a.tries {
		all[i] = loggedTry{t.StartedAt, float64(t.Duration.Microseconds()) / 1000, t.KeyID, t.KeySource, t.Class, t.HTTPStatus, t.Action, t.Reason}
	}
	text := jsonText(all)
	return &text
}

// jsonText is for our own types, which always marshal.
func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}
