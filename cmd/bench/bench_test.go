package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/load"
	"github.com/promptcademy/promptops/internal/provider/sandbox"
)

// The pieces of a benchmark fit together: what is sent to the sandbox, directly
// and through the proxy, is answered as expected.
func TestBaselines(t *testing.T) {
	box, err := sandbox.Start(t.Context(), "", sandbox.NoDelay, sandbox.Remember)
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := url.Parse(box.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(newProxy(upstream))
	defer proxy.Close()
	var people []person
	for i := range learners {
		people = append(people, person{"token", "team", promptOf(i)})
	}
	var w world
	if err := w.prepareRequests(t.Context(), box.URL, proxy.URL, box.URL, proxy.URL, proxy.URL, people); err != nil {
		t.Fatal(err)
	}
	times := load.Times{Duration: 300 * time.Millisecond}
	for name, requests := range map[string][]load.Request{"direct": w.direct, "slow": w.directSlow, "proxied": w.proxied} {
		s, err := w.saturate(t.Context(), times, requests, map[figure]usage{figureCPU: cpuOf(os.Getpid())})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, measured := s.cpu[figureCPU]; measured != (runtime.GOOS == "linux") {
			t.Errorf("%s: processor time was measured: %v", name, measured)
		}
	}
	// Nobody but promptops answers runs.
	if _, err := w.saturate(t.Context(), times, w.oneModel, nil); err == nil || !strings.Contains(err.Error(), "status 4") {
		t.Errorf("runs that the sandbox refuses: %v", err)
	}
}

func TestMallocs(t *testing.T) {
	metrics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# TYPE go_memstats_mallocs_total counter\ngo_memstats_mallocs_total 1.25e+06\nup 1\n")
	}))
	w := world{metrics: strings.TrimPrefix(metrics.URL, "http://")}
	if n, ok := w.mallocs(t.Context()); !ok || n != 1.25e6 {
		t.Errorf("%v, %v", n, ok)
	}
	metrics.Close()
	if n, ok := w.mallocs(t.Context()); ok {
		t.Errorf("nobody there, but %v", n)
	}
}

func TestPromptsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for i := range learners {
		seen[promptOf(i)] = true
	}
	if len(seen) != learners {
		t.Errorf("%d prompts for %d learners", len(seen), learners)
	}
}

func TestProcesses(t *testing.T) {
	p, line, err := startPrinting(exec.Command("sh", "-c", "trap 'exit 0' TERM; echo http://here; while :; do sleep 0.01; done"))
	if err != nil || line != "http://here" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if _, _, err := startPrinting(exec.Command("sh", "-c", "echo why >&2; exit 3")); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("a program that does not start: %v", err)
	}
	if _, _, err := startPrinting(exec.Command(filepath.Join(t.TempDir(), "missing"))); err == nil {
		t.Error("a program that does not exist was started")
	}
}

func TestWhatTheKernelSays(t *testing.T) {
	if runtime.GOOS != "linux" {
		if _, ok := memory(os.Getpid(), "VmRSS"); ok {
			t.Error("there is no /proc")
		}
		return
	}
	alone, _ := cpu(os.Getpid())
	if together, ok := cpuWithChildren(os.Getpid()); !ok || together < alone {
		t.Errorf("%v s with children, %v s alone before, %v", together, alone, ok)
	}
	now, _ := memory(os.Getpid(), "VmRSS")
	most, _ := memory(os.Getpid(), "VmHWM")
	if now < 1 || now > most+1 {
		t.Errorf("%v MB, at most %v MB", now, most)
	}
	if _, ok := cpu(-1); ok {
		t.Error("a process that does not exist has used time")
	}
}

func TestReport(t *testing.T) {
	var r report
	for _, value := range []float64{0.7, 0.4, 0.6} {
		r.add(figureRatio, value)
	}
	r.add(figureOurs, 4321.6)
	r.add(figureCPU, 3.2)
	var table, list bytes.Buffer
	if err := r.print(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"1 model, of the proxy's rate 0.60 × ≥ 0.5 met 0.70 0.40 0.60",
		"through promptops, 1 model 4322 runs/s",
		"promptops, 1 model 3.20 s ≤ 3 missed",
		"p99 at 1000/s, added n/a ms ≤ 15",
	} {
		if !strings.Contains(strings.Join(strings.Fields(table.String()), " "), want) {
			t.Errorf("no %q in\n%s", want, &table)
		}
	}
	if err := r.printJSON(&list); err != nil {
		t.Fatal(err)
	}
	var printed []printedFigure
	if err := json.Unmarshal(list.Bytes(), &printed); err != nil {
		t.Fatal(err)
	}
	names := map[[2]string]bool{}
	for _, f := range printed {
		names[[2]string{f.Section, f.Name}] = true
		if f.Name == figureRatio.name && (*f.Median != 0.6 || len(f.Rounds) != 3 || *f.AtLeast != 0.5 || f.AtMost != nil || f.Verdict != "met") {
			t.Errorf("%+v", f)
		}
		if f.Name == figureAllocs.name && (f.Median != nil || f.Verdict != "") {
			t.Errorf("%+v", f)
		}
	}
	if len(names) != len(printed) || len(printed) != len(figures()) {
		t.Errorf("%d lines with %d names", len(printed), len(names))
	}
}

func figures() map[figure]bool {
	all := map[figure]bool{}
	for _, s := range sections() {
		for _, f := range s.figures {
			all[f] = true
		}
	}
	return all
}

func TestMedian(t *testing.T) {
	for want, values := range map[float64][]float64{0: nil, 3: {3}, 2: {3, 1, 2}, 2.5: {4, 1, 3, 2}} {
		if got := median(values); got != want {
			t.Errorf("median of %v is %v", values, got)
		}
	}
	for want, value := range map[string]float64{"0.04": 0.042, "9.99": 9.99, "10.0": 9.996, "100": 99.96, "-12.3": -12.34, "26239": 26239.4} {
		if got := number(value); got != want {
			t.Errorf("%v is written %s", value, got)
		}
	}
}
