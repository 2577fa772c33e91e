package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/promptcademy/promptops/internal/demo"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
)

func demoData(ctx context.Context, p *program, args []string) error {
	set := p.flags("demo", "load|clear [--attempts N]", "load fills in learners, teams, lessons and half a year of runs that never happened;\nclear removes exactly that. With --attempts it is as much as you say, in a database that has to be empty:\nto see how pages do when there is very much.")
	var size demo.Size
	set.Int64Var(&size.Attempts, "attempts", 0, "how many `attempts` to make up; 0: the usual demo of some 20,000")
	set.IntVar(&size.Learners, "learners", 20_000, "with --attempts: of how many learners")
	set.IntVar(&size.Teams, "teams", 500, "with --attempts: in how many teams")
	set.IntVar(&size.Days, "days", 180, "with --attempts: within how many days before today")
	word, err := parse(set, args, "load", "clear")
	if err != nil {
		return err
	}
	sized := false
	set.Visit(func(*flag.Flag) { sized = true })
	switch {
	case word == "":
		return fmt.Errorf("%w: say load or clear", errUsage)
	case sized && (word == "clear" || size.Attempts == 0):
		return fmt.Errorf("%w: a size goes with load --attempts only", errUsage)
	}
	f, err := p.openMigrated(ctx, p.quiet())
	if err != nil {
		return err
	}
	defer f.close()
	store := demo.NewStore(f.pool, f.ring, f.config.Zone())
	if word == "clear" {
		counts, err := store.Clear(ctx, time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stderr, "Removed %d learners, %d teams, %d runs with %d attempts, %d fallback keys, %d templates and %d lessons.\n",
			counts.Learners, counts.Teams, counts.Runs, counts.Attempts, counts.FallbackKeys, counts.Templates, counts.Lessons)
		return nil
	}
	prices := price.NewStore(f.pool)
	if _, err := prices.Seed(ctx); err != nil {
		return err
	}
	book, err := prices.Load(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(p.stderr, "Filling in demo data …")
	if size.Attempts > 0 {
		err = p.loadMany(ctx, f, store, book, size)
	} else {
		err = store.Load(ctx, book, time.Now())
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "Done. A learner to try the run endpoint with: promptops token --learner %s\n", demo.Learner)
	return nil
}

// loadMany says how far it is every few seconds, and then makes the sums that pages
// read in place of so many attempts.
func (p *program) loadMany(ctx context.Context, f *foundation, store *demo.Store, book *price.Book, size demo.Size) error {
	begin := time.Now()
	last := begin
	err := store.LoadMany(ctx, book, size, begin, func(attempts int64) {
		if now := time.Now(); now.Sub(last) >= 2*time.Second || attempts == size.Attempts {
			last = now
			fmt.Fprintf(p.stderr, "%d of %d attempts, %.0f a second\n", attempts, size.Attempts, float64(attempts)/now.Sub(begin).Seconds())
		}
	})
	if err != nil {
		if begun, _ := store.Present(context.WithoutCancel(ctx)); begun && fault.KindOf(err) != fault.Conflict {
			fmt.Fprintln(p.stderr, "It was not finished. What is there of it is removed by: promptops demo clear")
		}
		return err
	}
	fmt.Fprintf(p.stderr, "Stored after %s. Adding up …\n", time.Since(begin).Round(time.Second))
	days, err := rollup.NewRoller(f.pool, f.config.Zone(), p.quiet()).Rebuild(ctx)
	if fault.KindOf(err) == fault.Unavailable {
		fmt.Fprintln(p.stderr, "A transaction of somebody else's is in the way of adding up: serve does it later, and until then pages take longer.")
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "Days summed: %d. All in all %s.\n", days, time.Since(begin).Round(time.Second))
	return nil
}
