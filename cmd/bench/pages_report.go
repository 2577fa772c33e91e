package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// What pages have to reach, with the most attempts there are.
const (
	pageTarget   = 50 * time.Millisecond // p95
	growthTarget = 1.3                   // p50 beside that with the fewest attempts
	besideTarget = 1.1                   // runs beside pages, against runs alone
)

// pageReport is what was measured of pages.
type pageReport struct {
	sizes  []int
	views  []view // in the order in which they were measured
	times  map[string]map[int]pageTime
	beside []besideTime
}

type pageTime struct {
	p50, p95 time.Duration
	refused  int // status of an answer that was no page; 0: there was none
}

func (r *pageReport) add(v view, size int, t pageTime) {
	if r.times == nil {
		r.times = map[string]map[int]pageTime{}
	}
	if r.times[v.name()] == nil {
		r.views = append(r.views, v)
		r.times[v.name()] = map[int]pageTime{}
	}
	r.times[v.name()][size] = t
}

// growth is how much longer a page takes with the most attempts than with the
// fewest; 0 when it was not measured with both. What takes less than a millisecond
// more has not grown: that is noise.
func (r *pageReport) growth(v view) float64 {
	times := r.times[v.name()]
	first, last := times[r.sizes[0]].p50, times[r.sizes[len(r.sizes)-1]].p50
	switch {
	case first == 0 || last == 0:
		return 0
	case last-first < time.Millisecond:
		return min(1, float64(last)/float64(first))
	default:
		return float64(last) / float64(first)
	}
}

// verdict says whether a page is quick enough with the most attempts, and did not
// grow.
func (r *pageReport) verdict(v view) string {
	last, measured := r.times[v.name()][r.sizes[len(r.sizes)-1]]
	var missed []string
	if last.refused != 0 {
		missed = append(missed, fmt.Sprint("status ", last.refused))
	}
	if last.p95 > pageTarget {
		missed = append(missed, "p95")
	}
	if len(r.sizes) > 1 && r.growth(v) > growthTarget {
		missed = append(missed, "growth")
	}
	switch {
	case !measured:
		return ""
	case len(missed) > 0:
		return "missed: " + strings.Join(missed, ", ")
	default:
		return "met"
	}
}

// print writes a table of pages, and one of runs beside them.
func (r *pageReport) print(out io.Writer) error {
	var text strings.Builder
	if len(r.views) > 0 {
		fmt.Fprintf(&text, "\nServer time of pages in ms, p50 and p95; at most %d ms (p95) and %g times the first\n%-62s", pageTarget.Milliseconds(), growthTarget, "")
		for _, size := range r.sizes {
			fmt.Fprintf(&text, " %17s", sizeName(size))
		}
		fmt.Fprintf(&text, " %7s\n", "growth")
	}
	met, all := 0, 0
	for _, v := range r.views {
		fmt.Fprintf(&text, "  %-60s", v.name())
		for _, size := range r.sizes {
			if t, measured := r.times[v.name()][size]; measured {
				fmt.Fprintf(&text, " %8s %8s", number(milliseconds(t.p50)), number(milliseconds(t.p95)))
			} else {
				fmt.Fprintf(&text, " %8s %8s", "n/a", "")
			}
		}
		grown := "n/a"
		if g := r.growth(v); g > 0 && len(r.sizes) > 1 {
			grown = number(g) + " ×"
		}
		verdict := r.verdict(v)
		if verdict != "" {
			all++
		}
		if verdict == "met" {
			met++
		}
		fmt.Fprintf(&text, " %7s  %s\n", grown, verdict)
	}
	if all > 0 {
		fmt.Fprintf(&text, "  %d of %d met\n", met, all)
	}
	if len(r.beside) > 0 {
		fmt.Fprintf(&text, "\nRuns while somebody asks for heavy pages without a pause, against runs alone; at most %g times\n%-62s %10s %10s %8s\n", besideTarget, "", "alone", "beside", "ratio")
	}
	for _, b := range r.beside {
		fmt.Fprintf(&text, "  %-60s %10s %10s %6s ×  %s\n", b.name, number(median(b.alone))+" "+b.unit, number(median(b.with))+" "+b.unit, number(b.ratio()), b.verdict())
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func sizeName(n int) string {
	switch {
	case n%1_000_000 == 0:
		return fmt.Sprintf("%d M", n/1_000_000)
	case n%1_000 == 0:
		return fmt.Sprintf("%d k", n/1_000)
	default:
		return fmt.Sprint(n)
	}
}

// besideTime is a figure of runs alone and beside pages, round by round.
type besideTime struct {
	name, unit  string
	more        bool // is better
	judged      bool
	alone, with []float64
}

// ratio is how many times worse it is beside pages: the median over the rounds, as a
// machine is busier at one time than at another.
func (b besideTime) ratio() float64 {
	ratios := make([]float64, len(b.alone))
	for i := range b.alone {
		worse, better := b.with[i], b.alone[i]
		if b.more {
			worse, better = better, worse
		}
		ratios[i] = worse / max(better, 1e-9)
	}
	return median(ratios)
}

func (b besideTime) verdict() string {
	switch {
	case !b.judged || len(b.alone) == 0:
		return ""
	case b.ratio() > besideTarget:
		return "missed"
	default:
		return "met"
	}
}
