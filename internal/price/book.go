// Package price knows what models cost: effective-dated list prices per million
// tokens, and from them the cost of an attempt, exact to the last digit.
package price

import (
	"cmp"
	"slices"
	"time"
)

// Price is a row of ops.model_prices: what one model costs from one instant to
// another, in dollars per million tokens.
type Price struct {
	ID           int64
	Provider     string // our id of the provider: "xai"
	Model        string // the provider's own name of the model
	Input        USD
	Output       USD
	CacheRead    *USD // nil: as Input
	CacheWrite5m *USD // nil: as Input
	CacheWrite1h *USD // nil: as CacheWrite5m

	// Above this many input tokens the whole request is priced at the rates
	// below. nil: there is no tier.
	TierAboveInputTokens *int64
	TierInput            *USD
	TierOutput           *USD // nil: as Output
	TierCacheRead        *USD // nil: as TierInput
	TierCacheWrite5m     *USD // nil: as TierInput
	TierCacheWrite1h     *USD // nil: as TierCacheWrite5m

	ContextWindow *int64         // tokens; nil: unknown
	EffectiveFrom *time.Time     // from this instant on; nil: since ever
	EffectiveTo   *time.Time     // before this instant; nil: for good
	DailyFrom     *time.Duration // since midnight UTC; with DailyTo: only from then …
	DailyTo       *time.Duration // … until before then, over midnight where it is not later than DailyFrom
	Source        string         // where the figures are from
	SourceDate    *time.Time     // and of which day
	Note          string

	Seeded bool // came with the program: prices that operators set go before it
}

// holdsAt reports whether p is in force at that instant or at another hour of its
// day.
func (p Price) holdsAt(at time.Time) bool {
	return (p.EffectiveFrom == nil || !at.Before(*p.EffectiveFrom)) && (p.EffectiveTo == nil || at.Before(*p.EffectiveTo))
}

// appliesAt reports whether p is in force at that instant.
func (p Price) appliesAt(at time.Time) bool {
	if !p.holdsAt(at) {
		return false
	}
	if p.DailyFrom == nil || p.DailyTo == nil {
		return true
	}
	at = at.UTC()
	timeOfDay := at.Sub(at.Truncate(24 * time.Hour))
	if *p.DailyFrom < *p.DailyTo {
		return *p.DailyFrom <= timeOfDay && timeOfDay < *p.DailyTo
	}
	return *p.DailyFrom <= timeOfDay || timeOfDay < *p.DailyTo
}

// beforeInBook orders the prices of one model: the first that applies is the
// one to use.
func beforeInBook(a, b Price) int {
	if a.Seeded != b.Seeded {
		if b.Seeded {
			return -1
		}
		return 1
	}
	if (a.DailyFrom != nil) != (b.DailyFrom != nil) {
		if a.DailyFrom != nil {
			return -1
		}
		return 1
	}
	return effectiveFrom(b).Compare(effectiveFrom(a))
}

func effectiveFrom(p Price) time.Time {
	if p.EffectiveFrom == nil {
		return time.Time{}
	}
	return *p.EffectiveFrom
}

// Book is a price list as it was at one moment. It never changes and is safe
// for concurrent use.
type Book struct {
	prices map[modelName][]Price // in the order of beforeInBook
}

type modelName struct{ provider, model string }

// NewBook makes a Book of the prices, in any order.
func NewBook(prices []Price) *Book {
	b := &Book{prices: map[modelName][]Price{}}
	for _, p := range prices {
		name := modelName{p.Provider, p.Model}
		b.prices[name] = append(b.prices[name], p)
	}
	for _, of := range b.prices {
		slices.SortStableFunc(of, beforeInBook)
	}
	return b
}

// Find returns the price of a model at an instant, false if it has none. What an
// operator set comes before what the program came with, so that a newer version of
// it changes no price that was agreed upon. Then prices of certain
// hours of the day come before those of the whole day, then the one with the newest
// EffectiveFrom wins.
//
// A dated snapshot (gpt-5-mini-2025-08-07, claude-haiku-4-5-20251001) without a
// price of its own costs what the name without the date does. Nothing else is
// guessed: "-latest" and made-up suffixes are unknown models.
func (b *Book) Find(provider, model string, at time.Time) (Price, bool) {
	if p, ok := b.find(provider, model, at); ok {
		return p, true
	}
	if undated, ok := withoutDate(model); ok {
		return b.find(provider, undated, at)
	}
	return Price{}, false
}

func (b *Book) find(provider, model string, at time.Time) (Price, bool) {
	for _, p := range b.prices[modelName{provider, model}] {
		if p.appliesAt(at) {
			return p, true
		}
	}
	return Price{}, false
}

// Holding returns the prices that a model has on the day of an instant: first
// those of certain hours, at last the one of the whole day, if there is one.
func (b *Book) Holding(provider, model string, at time.Time) []Price {
	var holding []Price
	for _, p := range b.prices[modelName{provider, model}] {
		if !p.holdsAt(at) {
			continue
		}
		holding = append(holding, p)
		if p.DailyFrom == nil {
			break
		}
	}
	return holding
}

// Current returns the price in force at an instant of every model that has one,
// by provider and model.
func (b *Book) Current(at time.Time) []Price {
	var current []Price
	for name := range b.prices {
		if p, ok := b.find(name.provider, name.model, at); ok {
			current = append(current, p)
		}
	}
	slices.SortFunc(current, func(a, b Price) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model))
	})
	return current
}

// withoutDate cuts a trailing -YYYY-MM-DD or -YYYYMMDD off a model's name.
func withoutDate(model string) (string, bool) {
	for _, layout := range []string{"-2006-01-02", "-20060102"} {
		cut := len(model) - len(layout)
		if cut <= 0 {
			continue
		}
		if _, err := time.Parse(layout, model[cut:]); err == nil {
			return model[:cut], true
		}
	}
	return "", false
}
