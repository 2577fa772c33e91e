package rollup

import (
	"encoding/binary"
	"math"
	"time"
)

const (
	// Growth is how much wider each bucket of a Histogram is than the one before.
	Growth  = 1.04
	buckets = 600 // the last one begins beyond a hundred days
)

// Histogram is how many durations fell into which bucket. Histograms of parts add
// up to that of the whole, which percentiles do not.
type Histogram struct {
	counts [buckets]int64
	total  int64
}

// Add adds what ops.pack_durations made: pairs of a bucket (2 bytes) and a count
// (4 bytes).
func (h *Histogram) Add(packed []byte) {
	for ; len(packed) >= 6; packed = packed[6:] {
		n := int64(binary.BigEndian.Uint32(packed[2:]))
		h.counts[min(int(binary.BigEndian.Uint16(packed)), buckets-1)] += n
		h.total += n
	}
}

// AddDurations adds durations in milliseconds, as ops.pack_durations does it.
func (h *Histogram) AddDurations(durations []int32) {
	for _, ms := range durations {
		h.counts[min(int(math.Log(float64(max(ms, 1)))/math.Log(Growth)), buckets-1)]++
	}
	h.total += int64(len(durations))
}

// Pack is what Add reads of durations in milliseconds.
func Pack(durations []int32) []byte {
	if len(durations) == 0 {
		return nil
	}
	var h Histogram
	h.AddDurations(durations)
	return h.pack()
}

// Repack is the shortest of what says the same as what ops.pack_durations made.
func Repack(packed []byte) []byte {
	if len(packed) <= 6 {
		return packed
	}
	var h Histogram
	h.Add(packed)
	return h.pack()
}

func (h *Histogram) pack() (packed []byte) {
	for bucket, n := range h.counts {
		if n > 0 {
			packed = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(packed, uint16(bucket)), uint32(n))
		}
	}
	return packed
}

// Merge adds another histogram.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
}

// Total is how many durations there are.
func (h *Histogram) Total() int64 { return h.total }

// Percentile returns the shortest duration that at least so many of a hundred did
// not exceed, at most 2 % off. There has to be one.
func (h *Histogram) Percentile(percent int) time.Duration {
	rank := (h.total*int64(percent) + 99) / 100
	for bucket, n := range h.counts {
		if rank -= n; rank <= 0 && n > 0 {
			return middle(bucket)
		}
	}
	return 0
}

// middle is what stands for the whole milliseconds of a bucket: the only one, or the
// geometric mean of the first and the last.
func middle(bucket int) time.Duration {
	first := math.Ceil(math.Pow(Growth, float64(bucket)) - 1e-9)
	last := math.Ceil(math.Pow(Growth, float64(bucket+1))-1e-9) - 1
	return time.Duration(math.Round(math.Sqrt(first*max(first, last)))) * time.Millisecond
}
