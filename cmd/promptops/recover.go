package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/promptcademy/promptops/internal/run"
)

func recoverRuns(ctx context.Context, p *program, args []string) error {
	set := p.flags("recover", "[--json]", "Closes runs that no living node runs, as interrupted: gives back what was set aside for them and frees their idempotency keys.\n"+
		"Nodes do that for each other; this is for a database whose nodes are all unknown, such as one that was restored.")
	asJSON := set.Bool("json", false, "print how many as JSON")
	if _, err := parse(set, args); err != nil {
		return err
	}
	log := p.quiet()
	f, err := p.openMigrated(ctx, log)
	if err != nil {
		return err
	}
	defer f.close()
	closed, err := run.Recover(ctx, f.pool, f.alone(), log)
	if err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(p.stdout).Encode(map[string]int{"closed": closed})
	}
	fmt.Fprintf(p.stderr, "Runs closed as interrupted: %d.\n", closed)
	return nil
}
