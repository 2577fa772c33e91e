package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestHistogramKeepsItsError(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		d := time.Duration(random.Uint64N(1 << random.UintN(maxBits+1)))
		said := middle(bucket(d))
		if off := max(said-d, d-said); off > d/256 {
			t.Fatalf("%d ns is taken for %d ns", d, said)
		}
	}
}

func TestBucketsAreInOrder(t *testing.T) {
	last := -1
	for i := range len(Histogram{}.counts) {
		m := middle(i)
		if bucket(m) != i || int(m) <= last {
			t.Fatalf("the middle of bucket %d is %d ns, which is in bucket %d, after %d ns", i, m, bucket(m), last)
		}
		last = int(m)
	}
}

func TestQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var h, odd, even Histogram
	var all []time.Duration
	for i := range 10_001 {
		d := time.Duration(random.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		h.Record(d)
		if i%2 == 0 {
			even.Record(d)
		} else {
			odd.Record(d)
		}
	}
	slices.Sort(all)
	odd.Merge(&even)
	if odd != h {
		t.Error("two halves do not make the whole")
	}
	for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		exact := all[max(int(math.Ceil(q*10_001)), 1)-1]
		if got := h.Quantile(q); max(got-exact, exact-got) > exact/256 {
			t.Errorf("quantile %v is %v, want %v", q, got, exact)
		}
	}
	if h.Count() != 10_001 || h.Max() != all[10_000] {
		t.Errorf("counted %d, longest %v", h.Count(), h.Max())
	}
}

func TestExtremes(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 || h.Mean() != 0 || h.Max() != 0 {
		t.Error("an empty histogram says something")
	}
	h.Record(-time.Second)
	if h.Quantile(1) != 0 || h.Count() != 1 {
		t.Error("a negative duration is not 0")
	}
	h.Record(24 * time.Hour)
	if h.Max() != 24*time.Hour || h.Quantile(1) < time.Hour || h.Mean() != 12*time.Hour {
		t.Errorf("a day: longest %v, quantile %v, mean %v", h.Max(), h.Quantile(1), h.Mean())
	}
}
