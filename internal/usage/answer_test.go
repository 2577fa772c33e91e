package usage

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
)

// What is written down is read again, to the last digit.
func TestAnswer(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	usd := func() price.USD {
		texts := []string{"0", "0.000000000001", "123456.789012345678", "-3.5", "99999999999999999999999999.999999999999", "1e6"}
		amount, err := price.ParseUSD(texts[r.IntN(len(texts))])
		if err != nil {
			t.Fatal(err)
		}
		return amount
	}
	number := func() int64 {
		return []int64{0, 0, 1, -1, 127, 128, 300, math.MaxInt64, math.MinInt64}[r.IntN(9)]
	}
	for range 50 {
		cells := make([]Cell, r.IntN(20))
		for i := range cells {
			c := &cells[i]
			c.Bucket, c.Grp, c.Sub = int32(r.IntN(400)), []string{"", "openai/a", "ünïcödé"}[r.IntN(3)], []string{"", "x"}[r.IntN(2)]
			for _, m := range measures() {
				if m.count != nil {
					*m.count(c) = number()
				} else {
					*m.money(c) = usd()
				}
			}
			if r.IntN(2) == 0 {
				c.Latency = rollup.Pack([]int32{1, 5, 5, int32(r.IntN(100000))})
			}
		}
		if diff := cmp.Diff(cells, slices.Collect(answerOf(cells).all()), cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	}
}
