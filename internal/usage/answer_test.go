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

// Only so much is remembered, and rather what was asked for last.
func TestMemoryForgets(t *testing.T) {
	m := newMemory()
	name := func(n int) question { return question{byte(n), byte(n >> 8)} }
	half := make([]byte, mostOfOne/2)
	for n := range 100 {
		m.keep(name(n), answerOf([]Cell{{Grp: string(half)}}))
		if _, known := m.recall(name(0)); !known {
			t.Fatalf("what is asked for again and again is forgotten after %d others", n)
		}
	}
	if _, known := m.recall(name(1)); known {
		t.Error("everything is remembered")
	}
	if m.bytes > mostRemembered || m.bytes < mostRemembered/2 {
		t.Errorf("%d bytes are remembered of at most %d", m.bytes, mostRemembered)
	}
	kept := m.kept.Len()
	m.keep(name(1000), answerOf([]Cell{{Grp: string(half) + string(half) + string(half)}}))
	if _, known := m.recall(name(1000)); known || m.kept.Len() != kept {
		t.Error("what is too large is remembered")
	}
	m.keep(name(0), "")
	if found, known := m.recall(name(0)); !known || found != "" {
		t.Error("that there is nothing is not remembered")
	}
}
