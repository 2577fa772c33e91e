package main

import (
	"context"
	"fmt"
	"time"

	"github.com/promptcademy/promptops/internal/demo"
	"github.com/promptcademy/promptops/internal/price"
)

func demoData(ctx context.Context, p *program, args []string) error {
	set := p.flags("demo", "load|clear", "load fills in learners, teams, lessons and half a year of runs that never happened;\nclear removes exactly that.")
	word, err := parse(set, args, "load", "clear")
	if err != nil {
		return err
	}
	if word == "" {
		return fmt.Errorf("%w: say load or clear", errUsage)
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
	if err := store.Load(ctx, book, time.Now()); err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "Done. A learner to try the run endpoint with: promptops token --learner %s\n", demo.Learner)
	return nil
}
