package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/notify"
)

// rewrapBatch is small: nodes look up anew what they remember after each.
const rewrapBatch = 100

func rewrap(ctx context.Context, p *program, args []string) error {
	set := p.flags("rewrap", "[--dry-run] [--json]", `Seals stored provider keys anew under the first master key of PROMPTOPS_MASTER_KEYS, learners' own and
fallback keys, and what is sealed of notification channels, so that the other master keys can be dropped. Nodes may go on running, and it may be
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
	store, channels := key.NewStore(f.pool, f.ring), notify.NewStore(f.pool, f.ring, f.notifyOptions())
	var result key.Rewrapped
	var sealed notify.Rewrapped
	if *dryRun {
		if result, err = store.Survey(ctx); err == nil {
			sealed, err = channels.Survey(ctx)
		}
	} else if result, err = store.Rewrap(ctx, rewrapBatch, p.everySecond("Sealed anew: %d, to go: %d\n")); err == nil {
		sealed, err = channels.Rewrap(ctx)
	}
	if err != nil {
		if result.Resealed > 0 {
			fmt.Fprintf(p.stderr, "Sealed anew until then: %d. Run it again for the rest.\n", result.Resealed)
		}
		return err
	}
	return p.rewrapped(rewrapResultOf(result, sealed, f.ring.First(), *dryRun), *asJSON)
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
	Table   string `json:"table"`
	ID      string `json:"id"`
	Problem string `json:"problem"`
}

// rewrapResultOf counts provider keys and what is sealed of channels together.
func rewrapResultOf(keys key.Rewrapped, channels notify.Rewrapped, masterKey uint32, dryRun bool) rewrapResult {
	r := rewrapResult{
		masterKey, dryRun, keys.Stored + channels.Stored, keys.Resealed + channels.Resealed, keys.Left + channels.Left, []brokenKey{},
	}
	for _, b := range keys.Broken {
		r.Broken = append(r.Broken, brokenKey{b.Table, b.ID.String(), b.Problem.Error()})
	}
	for _, b := range channels.Broken {
		r.Broken = append(r.Broken, brokenKey{b.Place.Table, b.Place.Row + "." + b.Place.Column, b.Problem.Error()})
	}
	return r
}

// rewrapped tells the result, and is an error unless nothing is left to do.
func (p *program) rewrapped(r rewrapResult, asJSON bool) error {
	masterKey, dryRun := r.MasterKey, r.DryRun
	for _, b := range r.Broken {
		fmt.Fprintf(p.stderr, "%s %s does not open: %s.\n", b.Table, b.ID, b.Problem)
	}
	if asJSON {
		if err := json.NewEncoder(p.stdout).Encode(r); err != nil {
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
