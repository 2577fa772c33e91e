package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/key"
)

// rewrapBatch is small: nodes look up anew what they remember after each.
const rewrapBatch = 100

func rewrap(ctx context.Context, p *program, args []string) error {
	set := p.flags("rewrap", "[--dry-run] [--json]", `Seals stored provider keys anew under the first master key of PROMPTOPS_MASTER_KEYS, learners' own and
fallback keys, so that the other master keys can be dropped. Nodes may go on running, and it may be
interrupted and repeated. A key that does not open is named and left as it is.
Exit code 0: all stored keys open with the first master key alone.`)
	dryRun := set.Bool("dry-run", false, "change nothing; say how many would be sealed anew, with exit code 1 if there are any")
	asJSON := set.Bool("json", false, "print the result as JSON")
	if _, err := parse(set, args); err != nil {
		return err
	}
	f, err := p.openMigrated(ctx, p.quiet())
	if err != nil {
		return err
	}
	defer f.close()
	store := key.NewStore(f.pool, f.ring)
	var result key.Rewrapped
	if *dryRun {
		result, err = store.Survey(ctx)
	} else {
		result, err = store.Rewrap(ctx, rewrapBatch, p.everySecond("Sealed anew: %d, to go: %d\n"))
	}
	if err != nil {
		if result.Resealed > 0 {
			fmt.Fprintf(p.stderr, "Sealed anew until then: %d. Run it again for the rest.\n", result.Resealed)
		}
		return err
	}
	return p.rewrapped(result, f.ring.First(), *dryRun, *asJSON)
}

// everySecond returns a progress function that is silent for the first second,
// and prints at most one line in each that follows.
func (p *program) everySecond(format string) func(done, left int) {
	last := time.Now()
	return func(done, left int) {
		if time.Since(last) >= time.Second {
			last = time.Now()
			fmt.Fprintf(p.stderr, format, done, left)
		}
	}
}

// rewrapResult is what "rewrap --json" prints.
type rewrapResult struct {
	MasterKey uint32      `json:"masterKey"` // the id of the first
	DryRun    bool        `json:"dryRun"`
	Stored    int         `json:"stored"`
	Resealed  int         `json:"resealed"`
	Left      int         `json:"left"`   // under another master key
	Broken    []brokenKey `json:"broken"` // does not open
}

type brokenKey struct {
	Table   string    `json:"table"`
	ID      uuid.UUID `json:"id"`
	Problem string    `json:"problem"`
}

// rewrapped tells the result, and is an error unless nothing is left to do.
func (p *program) rewrapped(r key.Rewrapped, masterKey uint32, dryRun, asJSON bool) error {
	result := rewrapResult{masterKey, dryRun, r.Stored, r.Resealed, r.Left, []brokenKey{}}
	for _, b := range r.Broken {
		fmt.Fprintf(p.stderr, "%s %s does not open: %v.\n", b.Table, b.ID, b.Problem)
		result.Broken = append(result.Broken, brokenKey{b.Table, b.ID, b.Problem.Error()})
	}
	if asJSON {
		if err := json.NewEncoder(p.stdout).Encode(result); err != nil {
			return err
		}
	} else if !dryRun {
		fmt.Fprintf(p.stderr, "Sealed anew under master key %d: %d of %d stored keys.\n", masterKey, r.Resealed, r.Stored)
	}
	switch {
	case len(r.Broken) > 0:
		return fmt.Errorf("%d stored keys do not open, and %d are still under another master key than %d", len(r.Broken), r.Left, masterKey)
	case r.Left > 0 && dryRun:
		return fmt.Errorf("%d of %d stored keys would be sealed anew under master key %d", r.Left, r.Stored, masterKey)
	case r.Left > 0:
		return fmt.Errorf("%d stored keys are still under another master key than %d: somebody else holds their rows; run it again", r.Left, masterKey)
	}
	fmt.Fprintf(p.stderr, "All %d stored keys open with master key %d alone.\n", r.Stored, masterKey)
	return nil
}
