package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/audit"
)

func auditLog(ctx context.Context, p *program, args []string) error {
	set := p.flags("audit", "verify|list", `Reads the log of what operators did.
  verify  reads all of it and says whether an entry is missing or not as it was written; exit code 1 if one is.
          The hash that it prints stands for the whole log: kept elsewhere, it shows later whether entries were cut off
  list    prints entries, the newest first`)
	asJSON := set.Bool("json", false, "print JSON")
	limit := set.Int("limit", 100, "list: how many at most")
	action := set.String("action", "", "list: only actions that begin with this, like fallback_key.")
	subject := set.String("subject", "", "list: only what was done to subjects of this type, like fallback_key")
	word, err := parse(set, args, "verify", "list")
	if err != nil {
		return err
	}
	if word == "" {
		return fmt.Errorf("%w: say verify or list", errUsage)
	}
	if *limit < 1 || *limit > 100_000 {
		return fmt.Errorf("%w: --limit must be between 1 and 100000", errUsage)
	}
	f, err := p.openMigrated(ctx, p.quiet())
	if err != nil {
		return err
	}
	defer f.close()
	store := audit.NewStore(f.pool)
	if word == "list" {
		return p.listAudit(ctx, store, audit.Filter{Action: *action, SubjectType: *subject}, *limit, *asJSON)
	}
	return p.verifyAudit(ctx, store, *asJSON)
}

// verifiedLog is what "audit verify --json" prints.
type verifiedLog struct {
	Whole   bool   `json:"whole"`
	Entries int    `json:"entries"`
	Broken  *int64 `json:"broken"` // null: none
	Head    string `json:"head"`
}

func (p *program) verifyAudit(ctx context.Context, store *audit.Store, asJSON bool) error {
	v, err := store.VerifyAs(ctx, audit.CommandLine, time.Now())
	if err != nil {
		return err
	}
	if asJSON {
		result := verifiedLog{v.Broken == 0, v.Entries, nil, v.Head}
		if v.Broken != 0 {
			result.Broken = &v.Broken
		}
		if err := json.NewEncoder(p.stdout).Encode(result); err != nil {
			return err
		}
	}
	if v.Broken != 0 {
		return fmt.Errorf("entry %d is missing or not as it was written; what stands before it is", v.Broken)
	}
	if !asJSON {
		fmt.Fprintf(p.stderr, "The log is whole. Entries: %d.\n", v.Entries)
		fmt.Fprintln(p.stdout, v.Head)
	}
	return nil
}

// listedEntry is an entry as "audit list --json" prints it.
type listedEntry struct {
	ID           int64          `json:"id"`
	At           time.Time      `json:"at"`
	Actor        string         `json:"actor"`
	OperatorID   *uuid.UUID     `json:"operatorId"`
	Action       string         `json:"action"`
	SubjectType  string         `json:"subjectType"`
	SubjectID    string         `json:"subjectId"`
	SubjectLabel string         `json:"subjectLabel"`
	Details      map[string]any `json:"details"`
	Hash         string         `json:"hash"`
}

func (p *program) listAudit(ctx context.Context, store *audit.Store, filter audit.Filter, limit int, asJSON bool) error {
	entries, err := store.List(ctx, filter, limit)
	if err != nil {
		return err
	}
	if asJSON {
		listed := make([]listedEntry, len(entries))
		for i, e := range entries {
			listed[i] = listedEntry{e.ID, e.At, e.Actor.Name, e.Actor.OperatorID, e.Action, e.SubjectType, e.SubjectID, e.SubjectLabel, e.Details, hex.EncodeToString(e.Hash)}
		}
		return json.NewEncoder(p.stdout).Encode(listed)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NUMBER\tTIME\tWHO\tACTION\tSUBJECT\tDETAILS")
	for _, e := range entries {
		label := e.SubjectLabel
		if label == "" {
			label = e.SubjectID
		}
		details, err := json.Marshal(e.Details)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%d\t%s\t%q\t%s\t%q\t%s\n", e.ID, e.At.Format(time.RFC3339), e.Actor.Name, e.Action, label, details)
	}
	return w.Flush()
}
