package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// figure is one line of the report: a number that was measured once, or once in
// every round.
type figure struct {
	name    string
	unit    string
	atLeast float64 // target; 0: none
	atMost  float64
}

// The lines of the report, in order. Targets are those of the product.
var (
	figureDirect        = figure{name: "sandbox, called directly", unit: "calls/s"}
	figureProxy         = figure{name: "through httputil.ReverseProxy", unit: "calls/s"}
	figureOurs          = figure{name: "through promptops, 1 model", unit: "runs/s"}
	figureUnrecorded    = figure{name: "through promptops that does not record", unit: "runs/s"}
	figureOfDirect      = figure{name: "1 model, of the sandbox's own rate", unit: "×"}
	figureOfUnrecorded  = figure{name: "1 model, of the rate without recording", unit: "×"}
	figureCPUUnrecorded = figure{name: "promptops that does not record, 1 model", unit: "s"}
	figureThree         = figure{name: "through promptops, 3 models", unit: "runs/s"}
	figureRatio         = figure{name: "1 model, of the proxy's rate", unit: "×", atLeast: 0.5}
	figureThreeRatio    = figure{name: "3 models, of the proxy's rate, in runs", unit: "×", atLeast: 0.3}
	figureThreeCalls    = figure{name: "3 models, of the proxy's rate, in upstream calls", unit: "×", atLeast: 0.9}
	figureCPU           = figure{name: "promptops, 1 model", unit: "s", atMost: 3}
	figureCPUThree      = figure{name: "promptops, 3 models", unit: "s"}
	figureCPUProxy      = figure{name: "httputil.ReverseProxy", unit: "s"}
	figureCPUPostgres   = figure{name: "Postgres, under 1 model", unit: "s"}
	figureCPUThreePG    = figure{name: "Postgres, under 3 models", unit: "s"}
	figureAllocs        = figure{name: "allocations per run, 1 model", unit: ""}
	figureMemoryIdle    = figure{name: "memory, idle", unit: "MB", atMost: 60}
	figureMemoryPeak    = figure{name: "memory, most under all load", unit: "MB", atMost: 200}
	figureStart         = figure{name: "start to /readyz, existing database", unit: "ms", atMost: 500}
	figureStartEmpty    = figure{name: "start to /readyz, embedded and empty", unit: "ms", atMost: 3000}
)

// pace is a rate of the open loop, with its lines.
type pace struct {
	rate        float64
	connections int
	direct      [2]figure // p50 and p99
	ours        [2]figure
	added       [2]figure
}

func newPace(rate float64, connections int, addedP50, addedP99 float64) pace {
	p := pace{rate: rate, connections: connections}
	for i, quantile := range []string{"p50", "p99"} {
		p.direct[i] = figure{name: fmt.Sprintf("%s at %g/s, sandbox directly", quantile, rate), unit: "ms"}
		p.ours[i] = figure{name: fmt.Sprintf("%s at %g/s, through promptops", quantile, rate), unit: "ms"}
		p.added[i] = figure{name: fmt.Sprintf("%s at %g/s, added", quantile, rate), unit: "ms", atMost: []float64{addedP50, addedP99}[i]}
	}
	return p
}

// paces of the open loop. More connections than calls that are under way at a
// time, which at 60 ms upstream are a sixteenth of the rate.
var paces = []pace{newPace(200, 64, 2, 6), newPace(1000, 256, 3, 15)}

// section is lines under a heading.
type section struct {
	title   string
	figures []figure
}

func sections() []section {
	open := section{title: "Open loop, 60 ms upstream, 1 model, timed from when a call was due"}
	for _, p := range paces {
		open.figures = slices.Concat(open.figures, p.direct[:], p.ours[:], p.added[:])
	}
	return []section{
		{fmt.Sprintf("Closed loop, %d connections, 0 ms upstream", closedConnections),
			[]figure{figureDirect, figureProxy, figureUnrecorded, figureOurs, figureThree, figureRatio, figureOfDirect, figureOfUnrecorded, figureThreeRatio, figureThreeCalls}},
		{"Processor time per 10,000 runs at that load", []figure{figureCPU, figureCPUThree, figureCPUUnrecorded, figureCPUProxy, figureCPUPostgres, figureCPUThreePG}},
		open,
		{"The promptops process", []figure{figureAllocs, figureMemoryIdle, figureMemoryPeak, figureStart, figureStartEmpty}},
	}
}

// report is what was measured.
type report struct {
	figures map[figure][]float64
}

// add notes one more value of a figure.
func (r *report) add(f figure, value float64) {
	if r.figures == nil {
		r.figures = map[figure][]float64{}
	}
	r.figures[f] = append(r.figures[f], value)
}

// verdict is "met", "missed", or "" for a figure without a target or a value.
func (f figure) verdict(values []float64) string {
	switch value := median(values); {
	case len(values) == 0 || f.atLeast == 0 && f.atMost == 0:
		return ""
	case f.atLeast > 0 && value < f.atLeast, f.atMost > 0 && value > f.atMost:
		return "missed"
	default:
		return "met"
	}
}

func (f figure) target() string {
	switch {
	case f.atLeast > 0:
		return fmt.Sprintf("≥ %g", f.atLeast)
	case f.atMost > 0:
		return fmt.Sprintf("≤ %g", f.atMost)
	default:
		return ""
	}
}

// print writes the report as a table. What could not be measured is n/a.
func (r *report) print(out io.Writer) error {
	const columns = "%-52s %10s %-8s %-8s %-7s %s\n"
	var text strings.Builder
	for _, s := range sections() {
		fmt.Fprintf(&text, "\n%s\n"+columns, s.title, "", "median", "", "target", "", "rounds")
		for _, f := range s.figures {
			values := r.figures[f]
			middle, rounds := "n/a", ""
			if len(values) > 0 {
				middle = number(median(values))
			}
			if len(values) > 1 {
				for _, value := range values {
					rounds += number(value) + " "
				}
			}
			fmt.Fprintf(&text, columns, "  "+f.name, middle, f.unit, f.target(), f.verdict(values), rounds)
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// printedFigure is a figure as JSON.
type printedFigure struct {
	Section string    `json:"section"`
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`
	Median  *float64  `json:"median"` // null: not measured
	Rounds  []float64 `json:"rounds"`
	AtLeast *float64  `json:"atLeast,omitempty"`
	AtMost  *float64  `json:"atMost,omitempty"`
	Verdict string    `json:"verdict,omitempty"`
}

func (r *report) printJSON(out io.Writer) error {
	printed := []printedFigure{}
	for _, s := range sections() {
		for _, f := range s.figures {
			values := r.figures[f]
			p := printedFigure{Section: s.title, Name: f.name, Unit: f.unit, Rounds: values, Verdict: f.verdict(values)}
			if len(values) > 0 {
				p.Median = new(median(values))
			}
			if f.atLeast > 0 {
				p.AtLeast = &f.atLeast
			}
			if f.atMost > 0 {
				p.AtMost = &f.atMost
			}
			printed = append(printed, p)
		}
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(printed)
}

// median of values; of an even number the mean of the two in the middle; 0 of
// none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// number writes three digits, or the whole part if that has more.
func number(value float64) string {
	switch size := math.Abs(value); {
	case size >= 99.95:
		return fmt.Sprintf("%.0f", value)
	case size >= 9.995:
		return fmt.Sprintf("%.1f", value)
	default:
		return fmt.Sprintf("%.2f", value)
	}
}
