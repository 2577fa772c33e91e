package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/migrations"
)

func migrate(ctx context.Context, p *program, args []string) error {
	set := p.flags("migrate", "[status|down]", "Without a word: applies what is missing and adds list prices that are new.\nstatus lists every migration and when it was applied; down takes the newest one back, and with it the data of its tables.")
	word, err := parse(set, args, "status", "down")
	if err != nil {
		return err
	}
	f, err := p.open(ctx, p.quiet())
	if err != nil {
		return err
	}
	defer f.close()
	switch word {
	case "status":
		steps, err := postgres.Status(ctx, f.pool, migrations.FS)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
		for _, step := range steps {
			state := "missing"
			if !step.AppliedAt.IsZero() {
				state = "applied " + step.AppliedAt.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%s\t%s\n", step.Name, state)
		}
		return w.Flush()
	case "down":
		name, err := postgres.Down(ctx, f.pool, migrations.FS)
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stderr, "Took back %s.\n", name)
		return nil
	}
	if err := postgres.Migrate(ctx, f.pool, migrations.FS); err != nil {
		return err
	}
	added, err := price.NewStore(f.pool).Seed(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "The database is up to date. List prices added: %d.\n", added)
	return nil
}
