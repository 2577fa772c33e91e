package price

import (
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/provider"
)

// Cost returns what the usage costs at a price, exactly: fresh input, cache
// reads, cache writes that live 5 minutes or an hour, and output (which
// includes reasoning), each at its own rate. Above the price's tier the whole
// request costs the tier's rates.
//
// A provider's numbers can contradict each other. Negative ones count as 0, and
// parts never exceed their whole: cache reads are believed up to the input,
// cache writes up to what is left of it, one-hour writes up to all writes. So a
// cost is never negative, and never less than that of the same usage without
// output.
func Cost(p Price, u provider.Usage) USD {
	input := max(u.Input, 0)
	cacheRead := clamp(u.CachedInput, input)
	cacheWrite := clamp(u.CacheWrite, input-cacheRead)
	cacheWrite1h := clamp(u.CacheWrite1h, cacheWrite)
	output := max(u.Output, 0)

	r := ratesFor(p, input)
	total := decimal.Sum(
		tokens(input-cacheRead-cacheWrite, r.input),
		tokens(cacheRead, r.cacheRead),
		tokens(cacheWrite-cacheWrite1h, r.cacheWrite5m),
		tokens(cacheWrite1h, r.cacheWrite1h),
		tokens(output, r.output),
	)
	return USD{total.Shift(-6)} // rates are per million; moving the point loses nothing
}

// rates are what each kind of token of one request costs, per million.
type rates struct {
	input, output, cacheRead, cacheWrite5m, cacheWrite1h USD
}

func ratesFor(p Price, input int64) rates {
	r := rates{input: p.Input, output: p.Output}
	cacheRead, cacheWrite5m, cacheWrite1h := p.CacheRead, p.CacheWrite5m, p.CacheWrite1h
	if p.TierAboveInputTokens != nil && input > *p.TierAboveInputTokens {
		r.input = or(p.TierInput, p.Input)
		r.output = or(p.TierOutput, p.Output)
		cacheRead, cacheWrite5m, cacheWrite1h = p.TierCacheRead, p.TierCacheWrite5m, p.TierCacheWrite1h
	}
	r.cacheRead = or(cacheRead, r.input)
	r.cacheWrite5m = or(cacheWrite5m, r.input)
	r.cacheWrite1h = or(cacheWrite1h, r.cacheWrite5m)
	return r
}

func or(rate *USD, otherwise USD) USD {
	if rate == nil {
		return otherwise
	}
	return *rate
}

func tokens(n int64, rate USD) decimal.Decimal {
	return rate.amount.Mul(decimal.NewFromInt(n))
}

func clamp(n, most int64) int64 { return min(max(n, 0), most) }
