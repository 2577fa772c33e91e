// Package probe is what the live checks of the runbook look at. Each probe is a
// query, or something handed in, and a pure function that makes a reading of what
// was seen; cmd/promptops/checks.go puts them into the table.
package probe

import (
	"fmt"
	"strings"
	"time"

	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/runbook"
)

// Probes ask the database.
type Probes struct {
	db  postgres.DB
	now func() time.Time
}

// New returns Probes on db, which should be a pool of their own: they are most
// wanted when the pool of the pages is used up.
func New(db postgres.DB, now func() time.Time) *Probes { return &Probes{db, now} }

func reading(verdict runbook.Verdict, value string, detail ...string) runbook.Reading {
	return runbook.Reading{Verdict: verdict, Value: value, Detail: strings.Join(detail, " ")}
}

// count is a number with its noun: "1 run", "2 runs".
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func inSeconds(d time.Duration) string {
	if d < time.Millisecond {
		return "under 1 ms"
	}
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
