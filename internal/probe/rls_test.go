package probe

import (
	"strings"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/runbook"
)

func TestJudgeRefused(t *testing.T) {
	for _, test := range []struct {
		recent int64
		want   runbook.Verdict
	}{{0, runbook.OK}, {1, runbook.Warning}, {5, runbook.Warning}, {6, runbook.Critical}} {
		at := time.Date(2026, 11, 25, 12, 0, 3, 0, time.UTC)
		got := JudgeRefused([]Refused{{"table x, as anon", test.recent, at, at.Add(time.Minute)}})
		if got.Verdict != test.want || !strings.Contains(got.Detail, "table x, as anon: first at 12:00:03, last at 12:01:03 UTC.") {
			t.Errorf("%d: %+v", test.recent, got)
		}
	}
	if got := JudgeRefused(nil); got.Verdict != runbook.OK || strings.Contains(got.Detail, "hour") {
		t.Errorf("none: %+v", got)
	}
	if got := JudgeRefused(make([]Refused, 8)); !strings.HasSuffix(got.Detail, "And 3 more.") {
		t.Errorf("many: %+v", got)
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
