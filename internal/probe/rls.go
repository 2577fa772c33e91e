package probe

import (
	"fmt"

	"github.com/promptcademy/promptops/internal/runbook"
)

// manyRefused is how many refused statements in five minutes are an alarm.
const manyRefused = 5

// JudgeRefused says how bad refused statements are (SQLSTATE 42501): recent of them
// in the last minutes, the latest about object.
func JudgeRefused(recent int64, object string) runbook.Reading {
	r := runbook.Reading{Verdict: runbook.OK, Value: "None refused", Detail: "In the last five minutes no statement of this program’s was refused. What the platform’s own connections are refused stands in Supabase’s Postgres log."}
	if recent == 0 {
		return r
	}
	r.Verdict, r.Value = runbook.Warning, fmt.Sprintf("%d refused", recent)
	if recent > manyRefused {
		r.Verdict = runbook.Critical
	}
	r.Detail = "In the last five minutes, the latest on " + object + "."
	if object == "" {
		r.Detail = "In the last five minutes."
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
