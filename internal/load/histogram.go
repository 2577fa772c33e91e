package load

import (
	"math"
	"math/bits"
	"time"
)

const (
	stepBits = 7  // buckets per power of two: 2^7
	maxBits  = 42 // longest duration that is told apart: 2^42 ns, 73 minutes
)

// Histogram counts durations. What its quantiles say of one is off by at most
// 1/256 (0.4 %) of it, and of one that is longer than 73 minutes at least that it
// is. The zero value is empty. It takes 37 KB however many it counts, and is not
// safe for concurrent use.
type Histogram struct {
	counts [(maxBits - stepBits + 1) << stepBits]int64
	n      int64
	sum    time.Duration
	max    time.Duration
}

// bucket of a duration. Every power of two is cut into equal steps.
func bucket(d time.Duration) int {
	v := uint64(min(max(d, 0), 1<<maxBits-1))
	shift := max(bits.Len64(v)-stepBits-1, 0)
	return shift<<stepBits + int(v>>shift)
}

// middle of a bucket.
func middle(bucket int) time.Duration {
	shift := max(bucket>>stepBits-1, 0)
	low := (bucket - shift<<stepBits) << shift
	return time.Duration(low + 1<<shift>>1)
}

// Record counts a duration; a negative one counts as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(d)]++
	h.n++
	h.sum += d
	h.max = max(h.max, d)
}

// Merge adds what another histogram has counted.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.n += other.n
	h.sum += other.sum
	h.max = max(h.max, other.max)
}

// Count is how many durations were recorded.
func (h *Histogram) Count() int64 { return h.n }

// Max is the longest one, exactly; 0 if there is none.
func (h *Histogram) Max() time.Duration { return h.max }

// Mean is the average, exactly; 0 if there is none.
func (h *Histogram) Mean() time.Duration { return h.sum / time.Duration(max(h.n, 1)) }

// Quantile is the shortest duration that at least a share q (0 to 1) of all do
// not exceed; 0 if there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	left := max(int64(math.Ceil(q*float64(h.n))), 1)
	for i, n := range h.counts {
		if left -= n; left <= 0 {
			return min(middle(i), h.max)
		}
	}
	return h.max
}
