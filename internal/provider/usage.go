package provider

import (
	"math"
	"strconv"

	"github.com/shopspring/decimal"
)

// maxTokens is the most that is believed of one category of one call.
const maxTokens = 1_000_000_000

// count is a number of tokens as a provider reports it. Whatever is no such
// number, below zero or beyond belief does not spoil the answer: it makes the
// usage a usage that was not reported.
type count struct {
	n   int64
	set bool
	bad bool
}

// UnmarshalJSON never fails.
func (c *count) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		var f float64
		if f, err = strconv.ParseFloat(string(b), 64); err == nil && f == math.Trunc(f) && math.Abs(f) <= maxTokens {
			n = int64(f)
		} else {
			n = -1
		}
	}
	*c = count{n: n, set: true, bad: n < 0 || n > maxTokens}
	return nil
}

// believable returns u, or nil if it cannot be: no input at all, a part larger
// than its whole, or a number among from that is none.
func believable(u Usage, from ...count) *Usage {
	for _, c := range from {
		if c.bad {
			return nil
		}
	}
	if u.Input == 0 || u.CachedInput+u.CacheWrite > u.Input || u.CacheWrite1h > u.CacheWrite || u.Reasoning > u.Output {
		return nil
	}
	return &u
}

// dollars is an amount of USD as a provider reports it; nil if it is none.
type dollars struct{ amount *decimal.Decimal }

// UnmarshalJSON never fails.
func (d *dollars) UnmarshalJSON(b []byte) error {
	// By way of a float: the exponent of a decimal may be too large to handle.
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || !(f >= 0 && f < 100_000) {
		return nil
	}
	amount := decimal.NewFromFloat(f).Round(12)
	d.amount = &amount
	return nil
}

// Estimate is the usage of a call whose provider did not report it: one token
// for every four bytes of text, rounded up, and four for every message around
// them. That is about right for English and on the high side for code; it knows
// nothing of caching and reasoning. It is never 0 for text that is not empty.
func Estimate(call Call, text string) Usage {
	var u Usage
	for _, m := range call.Messages {
		u.Input += estimateTokens(m.Content) + 4
	}
	u.Output = estimateTokens(text)
	return u
}

func estimateTokens(text string) int64 { return int64(len(text)+3) / 4 }
