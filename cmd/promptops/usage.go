package main

import (
	"context"
	"fmt"

	"github.com/promptcademy/promptops/internal/activity"
	"github.com/promptcademy/promptops/internal/rollup"
)

func usageSums(ctx context.Context, p *program, args []string) error {
	set := p.flags("usage", "rebuild", "Drops the sums that AI Usage and User Activity read in place of millions of rows, and makes them anew from the rows.\n"+
		"That is never needed for right figures: changes are noticed. Pages show the same figures meanwhile, but take longer.")
	word, err := parse(set, args, "rebuild")
	if err != nil {
		return err
	}
	if word == "" {
		return fmt.Errorf("%w: say rebuild", errUsage)
	}
	log := p.quiet()
	f, err := p.openMigrated(ctx, log)
	if err != nil {
		return err
	}
	defer f.close()
	days, err := rollup.NewRoller(f.pool, f.config.Zone(), log).Rebuild(ctx)
	if err != nil {
		return err
	}
	active, err := activity.NewKeeper(f.pool, f.config.Zone(), log).Rebuild(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "Days summed: %d. Days of activity counted: %d.\n", days, active)
	return nil
}
