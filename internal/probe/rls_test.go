package probe

import (
	"strings"
	"testing"

	"github.com/promptcademy/promptops/internal/runbook"
)

func TestJudgeRefused(t *testing.T) {
	for _, test := range []struct {
		recent int64
		want   runbook.Verdict
	}{{0, runbook.OK}, {1, runbook.Warning}, {5, runbook.Warning}, {6, runbook.Critical}} {
		got := JudgeRefused(test.recent, "table x")
		if got.Verdict != test.want || test.recent > 0 && !strings.Contains(got.Detail, "table x") {
			t.Errorf("%d: %+v", test.recent, got)
		}
	}
}

func TestJudgeDrift(t *testing.T) {
	for _, test := range []struct {
		looser, other int
		want          runbook.Verdict
	}{{0, 0, runbook.OK}, {0, 1, runbook.Warning}, {1, 0, runbook.Critical}, {2, 3, runbook.Critical}} {
		if got := JudgeDrift(test.looser, test.other); got.Verdict != test.want || got.Value == "" || got.Detail == "" {
			t.Errorf("%+v: %+v", test, got)
		}
	}
}
