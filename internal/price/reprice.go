package price

import (
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/provider"
)

// attempt is what is stored of an attempt that used tokens.
type attempt struct {
	CreatedAt     time.Time
	RunID         uuid.UUID
	Ordinal       int16
	Provider      string
	Model         string // full name
	Tries         int
	Input         int64
	CachedInput   int64
	CacheWrite    int64
	Output        int64
	Estimated     bool // its tokens
	Cost          *USD
	CostSource    string
	PriceID       *int64
	UserID        *uuid.UUID
	FallbackKeyID *uuid.UUID // nil: no fallback key paid
}

// attemptColumns are those of an attempt.
const attemptColumns = `
	created_at, run_id, ordinal, provider, model, tries, input_tokens as input, coalesce(cached_input_tokens, 0) as cached_input,
	coalesce(cache_write_tokens, 0) as cache_write, output_tokens as output, coalesce(usage_source = 'estimated', false) as estimated,
	cost_usd as cost, cost_source, price_id, user_id, case when key_source = 'fallback' then fallback_key_id end as fallback_key_id`

// paid is what an attempt costs, and where that comes from.
type paid struct {
	Cost    *USD   // nil: unknown
	Source  string // computed, estimated, reported or unpriced
	PriceID *int64
}

func (a attempt) paid() paid { return paid{a.Cost, a.CostSource, a.PriceID} }

// name is the provider's own name of the model.
func (a attempt) name() string { return strings.TrimPrefix(a.Model, a.Provider+"/") }

// reprice returns what the attempt costs by the book, as the run path reckons it:
// Find at the instant of the run, Cost of the tokens. known is false where that
// cannot be told: the calls of one attempt are stored as one sum, and a tier counts
// for each call by itself.
//
// One-hour cache writes are not told apart in what is stored; nothing of ours asks
// for them.
func (a attempt) reprice(book *Book) (now paid, known bool) {
	listed, ok := book.Find(a.Provider, a.name(), a.CreatedAt)
	if !ok {
		return paid{Source: "unpriced"}, true
	}
	if a.Tries > 1 && listed.TierAboveInputTokens != nil && a.Input > *listed.TierAboveInputTokens {
		return a.paid(), false
	}
	cost := Cost(listed, provider.Usage{Input: a.Input, CachedInput: a.CachedInput, CacheWrite: a.CacheWrite, Output: a.Output})
	now = paid{&cost, "computed", &listed.ID}
	if a.Estimated {
		now.Source = "estimated"
	}
	return now, true
}

// same says whether both cost the same for the same reason. By which entry of the
// list does not matter: an attempt keeps the one that it was priced by.
func (p paid) same(q paid) bool {
	if (p.Cost == nil) != (q.Cost == nil) || p.Source != q.Source {
		return false
	}
	return p.Cost == nil || p.Cost.Equal(*q.Cost)
}

// Sums are what a recomputation comes to.
type Sums struct {
	Seen     int64 // attempts that it looked at
	Changed  int64 // of them, those that cost something else
	Priced   int64 // of those, they had no price before
	Unpriced int64 // of those, they have none now
	Kept     int64 // that cannot be told, or that were changed since
	OldUSD   USD   // what all that were seen cost before …
	NewUSD   USD   // … and after
}

// Difference is how much more it is.
func (s Sums) Difference() USD { return s.NewUSD.Sub(s.OldUSD) }

func (s *Sums) add(before, after paid, known bool) (changed bool) {
	s.Seen++
	if before.Cost != nil {
		s.OldUSD = s.OldUSD.Add(*before.Cost)
	}
	if after.Cost != nil {
		s.NewUSD = s.NewUSD.Add(*after.Cost)
	}
	switch {
	case !known:
		s.Kept++
		return false
	case before.same(after):
		return false
	}
	s.Changed++
	if before.Cost == nil && after.Cost != nil {
		s.Priced++
	}
	if before.Cost != nil && after.Cost == nil {
		s.Unpriced++
	}
	return true
}
