package run

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

// Budgets are the limits in force, a row of ops.budgets. A nil limit is none.
// Money limits are on fallback keys only: what learners' own keys spend is
// counted and not limited.
type Budgets struct {
	DailyUSD          *price.USD // of all fallback keys together, a day in the configured zone
	LearnerDailyUSD   *price.USD // of one learner
	RunsPerMinute     *int       // of one learner, in any 60 seconds
	ConcurrentRuns    *int       // of one learner
	FallbackMaxTokens int        // asked for where the caller set no maxTokens and a limit has to be kept
}

// limitsFallback says whether a call with this fallback key has a limit to keep.
func (b Budgets) limitsFallback(k key.Key) bool {
	return b.DailyUSD != nil || b.LearnerDailyUSD != nil || k.MonthlyCap != nil
}

// maxTokens is the limit that a call with this key is sent: the caller's own, or,
// where money has to be kept together, ours. nil: none.
func (b Budgets) maxTokens(c Config, k key.Key) *int {
	if c.MaxTokens == nil && k.Source == key.Fallback && b.limitsFallback(k) {
		return &b.FallbackMaxTokens
	}
	return c.MaxTokens
}

// worst is the most that one call of the attempt with a fallback key can cost;
// nil where nobody knows, and where no limit asks.
func (b Budgets) worst(book *price.Book, a *attempt, c Config, messages []provider.Message, now time.Time) *price.USD {
	limited := slices.ContainsFunc(a.wish.keys, func(k key.Key) bool { return k.Source == key.Fallback && b.limitsFallback(k) })
	listed, known := book.Find(a.provider, a.model, now)
	if !limited || !known {
		return nil
	}
	output := b.FallbackMaxTokens
	if c.MaxTokens != nil {
		output = *c.MaxTokens
	}
	cost := price.WorstCost(listed, price.MaxInputTokens(messages), int64(output))
	return &cost
}

func (b Budgets) limitsPace() bool { return b.RunsPerMinute != nil || b.ConcurrentRuns != nil }

// scope is what a counter counts.
type scope string

const (
	ofPlatform scope = "platform" // a day of all fallback keys
	ofKey      scope = "key"      // a month of one
	ofLearner  scope = "learner"  // a day of one learner's fallback

	notAsked scope = "not asked" // no counter: the database is away, and nobody knows what they say
)

// counterID names a row of ops.budget_counters.
type counterID struct {
	Scope   scope
	Subject uuid.UUID
	Period  string // YYYY-MM-DD; of a month its first day
}

// countersOf are the counters that a call with a fallback key on that day counts
// for, in the order of counterID.
func countersOf(day string, keyID uuid.UUID, learnerID *uuid.UUID) []counterID {
	ids := []counterID{{ofPlatform, uuid.Nil, day}, {ofKey, keyID, day[:len("2006-01-")] + "01"}}
	if learnerID != nil {
		ids = append(ids, counterID{ofLearner, *learnerID, day})
	}
	return ids
}

// counter is one sum of money as a decision sees it.
type counter struct {
	used  price.USD // before the decision
	added price.USD // by the decision
}

// counters are those that a decision is about.
type counters map[counterID]*counter

// wish is money to be set aside for one attempt before its provider is called.
type wish struct {
	keys      []key.Key  // in the order in which they are to be used, a learner's own ones included
	amount    *price.USD // the most that the call can cost; nil: the model has no price, so nobody knows
	day       string
	learnerID *uuid.UUID
	budgets   Budgets
	release   held // what this attempt has set aside so far, and gives back
}

// held is money that is set aside for an attempt.
type held struct {
	keyID  uuid.UUID // a fallback key; uuid.Nil: nothing is held
	amount price.USD
}

// grant decides which key an attempt may use: the first whose limits have room
// for what the call can cost at most. A learner's own key has no limit. It
// returns the index in wish.keys, and what is held from now on; or -1 and the
// scope of the limit that stands in the way.
//
// Where nobody knows what the call can cost, it may be made for as long as every
// limit has room at all.
func (c counters) grant(w wish) (index int, holds held, full scope) {
	for i, k := range w.keys {
		if k.Source == key.User {
			c.give(w, w.release.keyID, w.release.amount.Neg())
			return i, held{}, ""
		}
		if full = c.fits(w, k); full == "" {
			amount := price.USD{}
			if w.amount != nil {
				amount = *w.amount
			}
			c.give(w, w.release.keyID, w.release.amount.Neg())
			c.give(w, k.ID, amount)
			return i, held{k.ID, amount}, ""
		}
		if full != ofKey { // no other key would help
			return -1, w.release, full
		}
	}
	return -1, w.release, full
}

// fits returns the scope of the first limit that has no room, "" if all have.
func (c counters) fits(w wish, k key.Key) scope {
	for _, id := range countersOf(w.day, k.ID, w.learnerID) {
		limit := w.budgets.limitOf(id.Scope, k)
		if limit == nil {
			continue
		}
		now := c.at(id)
		used := now.used.Add(now.added)
		if w.release.keyID != uuid.Nil && (id.Scope != ofKey || w.release.keyID == k.ID) {
			used = used.Sub(w.release.amount)
		}
		switch {
		case w.amount == nil && used.Cmp(*limit) >= 0,
			w.amount != nil && used.Add(*w.amount).Cmp(*limit) > 0:
			return id.Scope
		}
	}
	return ""
}

func (b Budgets) limitOf(s scope, k key.Key) *price.USD {
	switch s {
	case ofPlatform:
		return b.DailyUSD
	case ofKey:
		return k.MonthlyCap
	default:
		return b.LearnerDailyUSD
	}
}

// give adds to the counters of a fallback key; none is uuid.Nil.
func (c counters) give(w wish, keyID uuid.UUID, amount price.USD) {
	if keyID == uuid.Nil || amount.IsZero() {
		return
	}
	for _, id := range countersOf(w.day, keyID, w.learnerID) {
		c.at(id).added = c.at(id).added.Add(amount)
	}
}

func (c counters) at(id counterID) *counter {
	if c[id] == nil {
		c[id] = &counter{}
	}
	return c[id]
}

// exceeded words for the learner why an attempt was not made.
func exceeded(full scope) string {
	switch full {
	case ofKey:
		return "Every fallback key for this model has reached its monthly cap. Add a key of your own under Settings → API Keys."
	case notAsked:
		return "Whether there is money for a fallback key cannot be found out right now. Try again in a moment."
	case ofLearner:
		return "Your daily allowance on fallback keys is used up. Add a key of your own under Settings → API Keys, or come back tomorrow."
	default:
		return "The platform's daily budget for fallback keys is used up. Add a key of your own under Settings → API Keys, or come back tomorrow."
	}
}

// pace is how fast one learner runs, a row of ops.learner_pace.
type pace struct {
	running int
	starts  []time.Time // of the last minute, in order
	changed bool        // since it was read
}

const paceWindow = time.Minute

// admit decides whether a run may start now. If so it is counted; if not, it
// returns what is too much and when to try again.
func (p *pace) admit(b Budgets, now time.Time) (refusal string, retryAfter time.Duration) {
	p.starts = slices.DeleteFunc(p.starts, func(at time.Time) bool { return !at.After(now.Add(-paceWindow)) })
	switch {
	case b.ConcurrentRuns != nil && p.running >= *b.ConcurrentRuns:
		return "Too many of your runs are going on at once. Try again when one has ended.", time.Second
	case b.RunsPerMinute != nil && len(p.starts) >= *b.RunsPerMinute:
		oldest := p.starts[len(p.starts)-*b.RunsPerMinute]
		return "You have started too many runs within a minute. Try again a little later.", oldest.Add(paceWindow).Sub(now)
	}
	p.running, p.changed = p.running+1, true
	if b.RunsPerMinute != nil {
		p.starts = append(p.starts, now)
	}
	return "", 0
}
