// Command bench measures the run endpoint against baselines in the same run, all
// on this machine: a Postgres of its own that syncs, the sandbox in place of the
// providers, a plain reverse proxy in front of the sandbox, and the promptops
// binary as it is shipped. It prints ratios, and fails when any answer was not
// the one expected or a run that was acknowledged is not in the database.
//
//	make bench                          about five minutes
//	make bench BENCH_FLAGS=-short       about one
//
// With "pages" it measures every page of the dashboard instead, with more and more
// attempts, and runs beside heavy pages:
//
//	make bench-pages                            100,000, a million and ten million attempts
//	make bench-pages BENCH_PAGES_FLAGS=-short   20,000 and 100,000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/promptcademy/promptops/internal/load"
)

// settings of a benchmark.
type settings struct {
	promptops  string // paths of binaries
	unrecorded string
	sandbox    string
	log        string // what the server's log is written to
	rounds     int
	times      load.Times
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == proxyCommand {
		fail(serveProxy(os.Args[2]))
		return
	}
	if len(os.Args) > 1 && os.Args[1] == pagesCommand {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		fail(pagesMain(ctx, os.Args[2:]))
		return
	}
	var s settings
	flag.StringVar(&s.promptops, "promptops", "bin/promptops", "the binary to measure")
	flag.StringVar(&s.unrecorded, "unrecorded", "bin/promptops-unrecorded", "the same, built with -tags unrecorded: what recording costs")
	flag.StringVar(&s.sandbox, "sandbox", "bin/sandbox", "the binary of internal/provider/sandbox/run")
	flag.StringVar(&s.log, "log", os.DevNull, "file for the server's log lines")
	flag.IntVar(&s.rounds, "rounds", 3, "rounds, of which medians are taken")
	flag.DurationVar(&s.times.Duration, "duration", 8*time.Second, "time of each of the nine measurements of a round")
	short := flag.Bool("short", false, "about one minute in all: -duration 1500ms")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Parse()
	if flag.NArg() > 0 || s.rounds < 1 || s.times.Duration <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	if *short {
		s.times.Duration = 1500 * time.Millisecond
	}
	s.times.Warmup = s.times.Duration / 4

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := bench(ctx, s)
	if len(r.figures) > 0 {
		if *asJSON {
			err = errors.Join(err, r.printJSON(os.Stdout))
		} else {
			err = errors.Join(err, r.print(os.Stdout))
		}
	}
	fail(err)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench sets everything up, measures and takes everything down. The report holds
// what was measured before an error.
func bench(ctx context.Context, s settings) (r *report, err error) {
	r = &report{}
	w, err := newWorld(ctx, s, r)
	defer func() { err = errors.Join(err, w.close()) }()
	if err != nil {
		return r, err
	}
	for n := range s.rounds {
		progress("round %d of %d", n+1, s.rounds)
		err := w.round(ctx, s.times, r)
		if ctx.Err() != nil {
			return r, errors.New("interrupted")
		}
		if err != nil {
			return r, err
		}
	}
	if peak, ok := memory(w.server.pid(), "VmHWM"); ok {
		r.add(figureMemoryPeak, peak)
	}
	return r, w.checkRows(ctx)
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
