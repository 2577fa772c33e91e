package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/promptcademy/promptops/internal/drift"
)

// errUnchecked marks an error that says nothing about what was to be checked. Its
// exit code is not that of bad news.
var errUnchecked = errors.New("could not check")

func rls(ctx context.Context, p *program, args []string) error {
	set := p.flags("rls", "check|test [--json]", `Says whether row-level security is what it should be. Nothing is changed.
  check  compares roles, grants, row-level security, policies, triggers and functions with what the migrations make,
         and prints what differs with the SQL that would mend it
  test   acts as two learners, their lead, a stranger and nobody on every table, inside a transaction that is rolled
         back, and prints what they were expected to be allowed and what they were
Exit code: 0 all is well, 1 it is not, 2 it could not be checked.`)
	asJSON := set.Bool("json", false, "print JSON")
	word, err := parse(set, args, "check", "test")
	if err != nil {
		return err
	}
	if word == "" {
		return fmt.Errorf("%w: say check or test", errUsage)
	}
	f, err := p.open(ctx, p.quiet())
	if err != nil {
		return errors.Join(errUnchecked, err)
	}
	defer f.close()
	store := drift.NewStore(f.pool)
	if word == "test" {
		return p.testRLS(ctx, store, *asJSON)
	}
	return p.checkRLS(ctx, store, *asJSON)
}

func (p *program) checkRLS(ctx context.Context, store *drift.Store, asJSON bool) error {
	found, err := store.Check(ctx, time.Now())
	if err != nil {
		return errors.Join(errUnchecked, err)
	}
	if asJSON {
		if err := json.NewEncoder(p.stdout).Encode(found); err != nil {
			return err
		}
	} else {
		for _, d := range found.Differences {
			fmt.Fprintf(p.stdout, "%s: %s is %s\n  %s\n", strings.ToUpper(string(d.Severity)), printable(d.Object), d.Kind, d.Why)
			for _, line := range d.Lines() {
				fmt.Fprintf(p.stdout, "  %s %s\n", line.Sign, printable(line.Text))
			}
			fmt.Fprintln(p.stdout, "  SQL that would mend it:")
			for line := range strings.SplitSeq(d.SQL, "\n") {
				fmt.Fprintf(p.stdout, "    %s\n", printable(line))
			}
			fmt.Fprintln(p.stdout)
		}
	}
	if n := len(found.Differences); n > 0 {
		return fmt.Errorf("the database is not as the migrations make it. Differences: %d, critical: %d", n, found.Critical())
	}
	if !asJSON {
		fmt.Fprintf(p.stderr, "The database is as the migrations make it. Compared: %d.\n", found.Facts)
	}
	return nil
}

func (p *program) testRLS(ctx context.Context, store *drift.Store, asJSON bool) error {
	tried, err := store.Try(ctx, time.Now())
	if err != nil {
		return errors.Join(errUnchecked, err)
	}
	wrong := tried.Wrong()
	if asJSON {
		if err := json.NewEncoder(p.stdout).Encode(tried); err != nil {
			return err
		}
	} else if err := p.printMatrix(tried); err != nil {
		return err
	}
	if len(wrong) > 0 {
		return fmt.Errorf("not everybody may do what they should. Tries: %d, not as expected: %d", len(tried.Cells), len(wrong))
	}
	if !asJSON {
		fmt.Fprintf(p.stderr, "Everybody may do what they should, and no more. Tries: %d.\n", len(tried.Cells))
	}
	return nil
}

func (p *program) printMatrix(m drift.Matrix) error {
	actors := drift.Actors()
	w := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "TABLE\tVERB\t%s\n", strings.ToUpper(strings.Join(actors, "\t")))
	for i := 0; i < len(m.Cells); {
		first, got := m.Cells[i], map[string]string{}
		for ; i < len(m.Cells) && m.Cells[i].Table == first.Table && m.Cells[i].Verb == first.Verb; i++ {
			cell := m.Cells[i]
			got[cell.Actor] = cell.Got
			if cell.Wrong() {
				got[cell.Actor] = fmt.Sprintf("%s (expected %s)", strings.ToUpper(printable(cell.Got)), cell.Expected)
			}
		}
		fmt.Fprintf(w, "%s\t%s", printable(first.Table), first.Verb)
		for _, actor := range actors {
			if got[actor] == "" {
				got[actor] = "-"
			}
			fmt.Fprintf(w, "\t%s", got[actor])
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// printable is a text that does nothing to a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}
