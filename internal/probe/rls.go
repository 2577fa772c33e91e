package probe

import (
	"fmt"
	"strings"
	"time"

	"github.com/promptcademy/promptops/internal/runbook"
)

// manyRefused is how many refused statements in five minutes are an alarm.
const manyRefused = 5

// shownGroups is how many kinds of them are told apart.
const shownGroups = 5

// Refused are statements that were refused alike (SQLSTATE 42501).
type Refused struct {
	What    string // "table teams, as authenticated on /usage"
	Recent  int64  // of them in the last five minutes
	FirstAt time.Time
	LastAt  time.Time
}

// JudgeRefused says how bad it is that statements were refused; the groups come the
// latest first, of the last hour.
func JudgeRefused(groups []Refused) runbook.Reading {
	recent := int64(0)
	var lines []string
	for i, g := range groups {
		recent += g.Recent
		if i < shownGroups {
			lines = append(lines, fmt.Sprintf("%s: first at %s, last at %s.", g.What, g.FirstAt.UTC().Format("15:04:05"), g.LastAt.UTC().Format("15:04:05 MST")))
		}
	}
	if more := len(groups) - shownGroups; more > 0 {
		lines = append(lines, fmt.Sprintf("And %d more.", more))
	}
	r := runbook.Reading{Verdict: runbook.OK, Value: "None refused", Detail: "In the last five minutes no statement of this program’s was refused. What the platform’s own connections are refused stands in Supabase’s Postgres log."}
	if recent > 0 {
		r.Verdict, r.Value, r.Detail = runbook.Warning, fmt.Sprintf("%d refused", recent), "In the last five minutes."
	}
	if recent > manyRefused {
		r.Verdict = runbook.Critical
	}
	if len(lines) > 0 {
		r.Detail += " In the last hour: " + strings.Join(lines, " ")
	}
	return r
}

// JudgeDrift says what it means that so many things in the database are looser than
// the migrations make them, and so many otherwise different.
func JudgeDrift(looser, other int) runbook.Reading {
	switch {
	case looser > 0:
		return runbook.Reading{Verdict: runbook.Critical, Value: fmt.Sprintf("%d looser, %d otherwise different", looser, other), Detail: "Somebody may be able to see or change what is not theirs."}
	case other > 0:
		return runbook.Reading{Verdict: runbook.Warning, Value: fmt.Sprintf("%d different", other), Detail: "Nothing is looser than it should be, but something is missing or not as the migrations make it."}
	}
	return runbook.Reading{Verdict: runbook.OK, Value: "As expected", Detail: "Policies, grants, triggers and functions are as the migrations make them."}
}
