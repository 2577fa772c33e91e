package price

import "github.com/promptcademy/promptops/internal/provider"

// WorstCost is the most that a call can cost: all of its input at the dearest
// rate for input, and all the output that was allowed. With maxInput and
// maxOutput that hold, no Cost of the same price exceeds it. Cache writes count
// at their rate for five minutes; nothing of ours asks for longer ones.
func WorstCost(p Price, maxInput, maxOutput int64) USD {
	worst := worstAt(ratesFor(p, 0), maxInput, maxOutput)
	if p.TierAboveInputTokens != nil && maxInput > *p.TierAboveInputTokens {
		if tier := worstAt(ratesFor(p, maxInput), maxInput, maxOutput); tier.Cmp(worst) > 0 {
			worst = tier
		}
	}
	return worst
}

func worstAt(r rates, input, output int64) USD {
	dearest := r.input
	for _, rate := range []USD{r.cacheRead, r.cacheWrite5m} {
		if rate.Cmp(dearest) > 0 {
			dearest = rate
		}
	}
	return USD{tokens(input, dearest).Add(tokens(output, r.output)).Shift(-6)}
}

// MaxInputTokens is more than any provider counts for these messages: a token
// is never less than a byte, and every message has a frame around it.
func MaxInputTokens(messages []provider.Message) int64 {
	total := int64(32)
	for _, m := range messages {
		total += int64(len(m.Content)) + 32
	}
	return total
}
