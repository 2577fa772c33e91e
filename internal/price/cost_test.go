package price_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
)

// Every figure is worked out by hand from the price list. The sums are in the
// comments, in millionths of a dollar.
func TestCostOfKnownModels(t *testing.T) {
	book := seededBook(t)
	const today = "2026-11-01T12:00:00Z"
	for _, c := range []struct {
		name, provider, model, at string
		usage                     provider.Usage
		want                      string
	}{
		{"reasoning is part of the output", "openai", "gpt-5-mini", today,
			provider.Usage{Input: 20, Output: 392, Reasoning: 128},
			"0.000789"}, // 20×0.25 + 392×2
		{"cached input", "openai", "gpt-5-mini", today,
			provider.Usage{Input: 10_000, CachedInput: 8_192, Output: 100},
			"0.0008568"}, // 1808×0.25 + 8192×0.025 + 100×2
		{"dated snapshot", "openai", "gpt-5-mini-2025-08-07", today,
			provider.Usage{Input: 20, Output: 392},
			"0.000789"},
		{"cache write of OpenAI", "openai", "gpt-6.1-terra", today,
			provider.Usage{Input: 5_000, CachedInput: 1_000, CacheWrite: 2_000, Output: 10},
			"0.0046"}, // 2000×1 + 1000×0.05 + 2000×1.25 + 10×5
		{"cache write of OpenAI above the tier", "openai", "gpt-6.1-terra", today,
			provider.Usage{Input: 272_001, CacheWrite: 272_001, Output: 1},
			"0.68001"}, // 272001×2.5 + 1×7.5
		{"at the tier's limit", "openai", "gpt-5.4", today,
			provider.Usage{Input: 272_000, Output: 1},
			"0.680015"}, // 272000×2.5 + 15
		{"one above the tier's limit", "openai", "gpt-5.4", today,
			provider.Usage{Input: 272_001, CachedInput: 1, Output: 1},
			"1.360023"}, // 272000×5 + 1×0.5 + 22.5
		{"tier without cache prices", "openai", "gpt-5.5-pro", today,
			provider.Usage{Input: 272_001, CachedInput: 272_000, CacheWrite: 1},
			"16.32006"}, // 272001×60
		{"just before the price fell", "openai", "gpt-5.6-luna", "2026-07-29T23:59:59.999Z",
			provider.Usage{Input: 1_000, Output: 100},
			"0.0016"}, // 1000×1 + 100×6
		{"at the instant it fell", "openai", "gpt-5.6-luna", "2026-07-30T00:00:00Z",
			provider.Usage{Input: 1_000, Output: 100},
			"0.00032"}, // 1000×0.2 + 100×1.2

		{"cache writes of 5 minutes and an hour", "anthropic", "claude-haiku-4-5", today,
			provider.Usage{Input: 3_000, CachedInput: 1_000, CacheWrite: 1_500, CacheWrite1h: 600, Output: 77},
			"0.00331"}, // 500×1 + 1000×0.1 + 900×1.25 + 600×2 + 77×5
		{"everything at the tier's limit", "anthropic", "claude-haiku-5-5", today,
			provider.Usage{Input: 100_000, CachedInput: 10_000, CacheWrite: 20_000, CacheWrite1h: 5_000, Output: 1_000},
			"0.010475"}, // 70000×0.1 + 10000×0.01 + 15000×0.125 + 5000×0.2 + 1000×0.5
		{"everything one above the tier's limit", "anthropic", "claude-haiku-5-5", today,
			provider.Usage{Input: 100_001, CachedInput: 10_000, CacheWrite: 20_000, CacheWrite1h: 5_000, Output: 1_000},
			"0.0523755"}, // 70001×0.5 + 10000×0.05 + 15000×0.625 + 5000×1 + 1000×2.5
		{"the last day of a tier", "anthropic", "claude-opus-4-6", "2026-03-12T23:59:59Z",
			provider.Usage{Input: 200_001, CacheWrite: 200_001, CacheWrite1h: 1, Output: 2},
			"2.500095"}, // 200000×12.5 + 1×20 + 2×37.5
		{"the tier is gone", "anthropic", "claude-opus-4-6", "2026-03-13T00:00:00Z",
			provider.Usage{Input: 200_001, CacheWrite: 200_001, CacheWrite1h: 1, Output: 2},
			"1.25006"}, // 200000×6.25 + 1×10 + 2×25

		{"thoughts are output", "google", "gemini-2.5-pro", today,
			provider.Usage{Input: 1_000, CachedInput: 600, Output: 300, Reasoning: 250},
			"0.003575"}, // 400×1.25 + 600×0.125 + 300×10
		{"the promotion's last moment", "google", "gemini-3.8-flash", "2026-12-31T23:59:59.999Z",
			provider.Usage{Input: 1_001, CachedInput: 1, Output: 3},
			"0.000761325"}, // 1000×0.75 + 0.075 + 3×3.75
		{"the promotion is over", "google", "gemini-3.8-flash", "2027-01-01T00:00:00Z",
			provider.Usage{Input: 1_001, CachedInput: 1, Output: 3},
			"0.00152265"},

		{"before peak hours existed", "deepseek", "deepseek-v4-flash", "2026-08-16T02:00:00Z", flashUsage,
			"0.00001932"}, // 100×0.14 + 900×0.0028 + 10×0.28
		{"new price, not a peak hour", "deepseek", "deepseek-v4-flash", "2026-08-17T00:00:00Z", flashUsage,
			"0.0000349"}, // 100×0.22 + 900×0.007 + 10×0.66
		{"first peak hour ever", "deepseek", "deepseek-v4-flash", "2026-08-17T01:00:00Z", flashUsage,
			"0.0000698"},
		{"just before the night's peak", "deepseek", "deepseek-v4-flash", "2026-11-01T00:59:59.999Z", flashUsage, "0.0000349"},
		{"the night's peak", "deepseek", "deepseek-v4-flash", "2026-11-01T01:00:00Z", flashUsage, "0.0000698"},
		{"end of the night's peak", "deepseek", "deepseek-v4-flash", "2026-11-01T03:59:59.999Z", flashUsage, "0.0000698"},
		{"after the night's peak", "deepseek", "deepseek-v4-flash", "2026-11-01T04:00:00Z", flashUsage, "0.0000349"},
		{"the morning's peak", "deepseek", "deepseek-v4-flash", "2026-11-01T06:00:00Z", flashUsage, "0.0000698"},
		{"after the morning's peak", "deepseek", "deepseek-v4-flash", "2026-11-01T10:00:00Z", flashUsage, "0.0000349"},
		{"hours are UTC", "deepseek", "deepseek-v4-flash", "2026-11-01T09:30:00+08:00", flashUsage, "0.0000698"},
		{"alias of v4-flash", "deepseek", "deepseek-chat", "2026-11-01T01:00:00Z", flashUsage, "0.0000698"},

		{"xAI above the tier", "xai", "grok-4.6", today,
			provider.Usage{Input: 200_001, CachedInput: 200_000, Output: 5, Reasoning: 4},
			"0.200064"}, // 1×4 + 200000×1 + 5×12
		{"ten digits behind the point", "groq", "openai/gpt-oss-20b", today,
			provider.Usage{Input: 3, CachedInput: 1, Output: 1},
			"0.0000004875"}, // 2×0.075 + 0.0375 + 0.3
		{"cached input without a price of its own", "groq", "llama-3.1-8b-instant", today,
			provider.Usage{Input: 10, CachedInput: 4, Output: 1},
			"0.00000058"}, // 10×0.05 + 0.08
		{"one-hour writes without a price of their own", "openrouter", "google/gemini-2.5-flash", today,
			provider.Usage{Input: 10, CacheWrite: 10, CacheWrite1h: 4, Output: 1},
			"0.000006333"}, // 10×0.3833 + 2.5
		{"Mistral", "mistral", "mistral-small-2603", today,
			provider.Usage{Input: 7, CachedInput: 2, Output: 9},
			"0.00000618"}, // 5×0.15 + 2×0.015 + 9×0.6

		{"nothing used", "openai", "gpt-5-mini", today, provider.Usage{}, "0"},
		{"more cached than input", "openai", "gpt-5-mini", today,
			provider.Usage{Input: 10, CachedInput: 100, CacheWrite: 5, CacheWrite1h: 7},
			"0.00000025"}, // 10×0.025
		{"more written than input", "anthropic", "claude-haiku-4-5", today,
			provider.Usage{Input: 10, CachedInput: 4, CacheWrite: 100, CacheWrite1h: 1_000},
			"0.0000124"}, // 4×0.1 + 6×2
		{"negative numbers", "anthropic", "claude-haiku-4-5", today,
			provider.Usage{Input: -1, CachedInput: -2, CacheWrite: -3, CacheWrite1h: -4, Output: -5},
			"0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, ok := book.Find(c.provider, c.model, instant(t, c.at))
			if !ok {
				t.Fatalf("%s/%s has no price", c.provider, c.model)
			}
			if got := price.Cost(p, c.usage); got.String() != c.want {
				t.Errorf("cost %s, want %s", got, c.want)
			}
		})
	}
}

var flashUsage = provider.Usage{Input: 1_000, CachedInput: 900, Output: 10}

func TestUnpricedModels(t *testing.T) {
	book := seededBook(t)
	for _, name := range [][2]string{
		{"openai", "gpt-99"},
		{"openrouter", "moonshotai/kimi-k2.6:free"}, // in no price list
		{"x-ai", "grok-4.6"},                        // our id is xai
		{"nobody", "gpt-5-mini"},
		{"anthropic", "claude-haiku-4-5-latest"},
	} {
		if p, ok := book.Find(name[0], name[1], instant(t, "2026-11-01T12:00:00Z")); ok {
			t.Errorf("%v has price %+v", name, p)
		}
	}
}

// randomPrice has no tier, and each optional rate half of the time.
func randomPrice(r *rand.Rand) price.Price {
	rate := func() price.USD { return usdOf(r.Int64N(1_000_000), -4) }
	maybe := func() *price.USD {
		if r.IntN(2) == 0 {
			return nil
		}
		v := rate()
		return &v
	}
	return price.Price{
		Input: rate(), Output: rate(),
		CacheRead: maybe(), CacheWrite5m: maybe(), CacheWrite1h: maybe(),
	}
}

// randomUsage is what an honest provider may say.
func randomUsage(r *rand.Rand) provider.Usage {
	var u provider.Usage
	u.CacheWrite1h = r.Int64N(1_000)
	u.CacheWrite = u.CacheWrite1h + r.Int64N(1_000)
	u.CachedInput = r.Int64N(100_000)
	u.Input = u.CachedInput + u.CacheWrite + r.Int64N(100_000)
	u.Reasoning = r.Int64N(1_000)
	u.Output = u.Reasoning + r.Int64N(1_000)
	return u
}

func TestCostIsAdditive(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2_000 {
		p, u, v := randomPrice(r), randomUsage(r), randomUsage(r)
		both := provider.Usage{
			Input: u.Input + v.Input, CachedInput: u.CachedInput + v.CachedInput,
			CacheWrite: u.CacheWrite + v.CacheWrite, CacheWrite1h: u.CacheWrite1h + v.CacheWrite1h,
			Output: u.Output + v.Output, Reasoning: u.Reasoning + v.Reasoning,
		}
		sum := price.Cost(p, u).Add(price.Cost(p, v))
		if got := price.Cost(p, both); !got.Equal(sum) {
			t.Fatalf("price %+v: %+v and %+v cost %s together, %s apart", p, u, v, got, sum)
		}
	}
}

func TestCostGrowsWithTokens(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2_000 {
		p, u := randomPrice(r), randomUsage(r)
		limit := r.Int64N(200_000)
		double := func(rate price.USD) *price.USD { twice := rate.Add(rate); return &twice }
		p.TierAboveInputTokens, p.TierInput, p.TierOutput = &limit, double(p.Input), double(p.Output)
		p.CacheRead, p.CacheWrite5m, p.CacheWrite1h = nil, nil, nil

		moreInput, moreOutput := u, u
		moreInput.Input += r.Int64N(100_000)
		moreOutput.Output += r.Int64N(1_000)
		cost := price.Cost(p, u)
		if price.Cost(p, moreInput).Cmp(cost) < 0 || price.Cost(p, moreOutput).Cmp(cost) < 0 {
			t.Fatalf("price %+v: more than %+v costs less", p, u)
		}
	}
}

func TestCostIsNeverNegative(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	extremes := []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, 1_000, math.MaxInt64 - 1, math.MaxInt64}
	extreme := func() int64 { return extremes[r.IntN(len(extremes))] }
	for range 5_000 {
		p := randomPrice(r)
		u := provider.Usage{Input: extreme(), CachedInput: extreme(), CacheWrite: extreme(), CacheWrite1h: extreme(), Output: extreme(), Reasoning: extreme()}
		if got := price.Cost(p, u); got.Cmp(price.USD{}) < 0 {
			t.Fatalf("price %+v: %+v costs %s", p, u, got)
		}
	}
}
