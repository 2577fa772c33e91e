package views

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func auditPage() AuditPage {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	return AuditPage{
		Page: page("Audit log", "/settings/audit"),
		Filters: AuditFilters{
			Who:      []Option{{Label: "Everybody"}, {Value: "9b2e", Label: "marta@example.org", Selected: true}},
			Subjects: []Option{{Label: "All subjects", Selected: true}, {Value: "fallback_key", Label: "fallback key"}},
			Action:   "fallback_key.", Actions: []string{"fallback_key.add", "fallback_key.disable"}, From: "2026-11-01", Today: "2026-11-24", Narrowed: true,
		},
		Entries: []AuditEntry{
			{
				ID: "17", At: MomentOf(at, time.UTC), Who: "marta@example.org", Action: "fallback_key.disable", Subject: "main", Kind: "fallback key",
				Href: "/keys/fallback", History: "/settings/audit?id=k1&subject=fallback_key",
				Details: AuditDetails(map[string]any{
					"reason": "leaked", "status": map[string]any{"from": "healthy", "to": "disabled"}, "monthlyCapUsd": map[string]any{"from": nil, "to": "25.00"},
				}),
			},
			{ID: "16", At: MomentOf(at.Add(-time.Hour), time.UTC), Who: "command line", Action: "backup.run"},
		},
		Verified: &AuditVerified{At: MomentOf(at, time.UTC), By: "marta@example.org", Entries: "12", Head: strings.Repeat("ab", 32)},
		Added:    "5", CSV: "/settings/audit.csv?action=fallback_key.", Newest: "/settings/audit?action=fallback_key.", Older: "/settings/audit?before=16",
	}
}

func brokenAudit() AuditPage {
	p := auditPage()
	p.Verified.Broken, p.Added, p.Theme = "3", "", "dark"
	p.Filters.SubjectID, p.Filters.Problem = "k1", "The filters could not be used: from is not a day like 2026-11-24."
	p.Entries, p.Newest, p.Older = nil, "", ""
	return p
}

func TestAuditDetails(t *testing.T) {
	change := func(from, to any) map[string]any { return map[string]any{"from": from, "to": to} }
	got := AuditDetails(map[string]any{
		"reason": "leaked", "priority": change(json.Number("1"), 2.5), "models": change([]any{}, []any{"a", "b"}), "label": change("", "x"),
		"ends_sessions": true, "nothing": nil, "nested": map[string]any{"from": "a", "to": "b", "by": "c"}, "long": strings.Repeat("ä", 500),
	})
	want := []AuditDetail{
		{Label: "label", From: "empty", To: "x", Changed: true},
		{Label: "models", From: "none", To: "a, b", Changed: true},
		{Label: "priority", From: "1", To: "2.5", Changed: true},
		{Label: "ends sessions", To: "yes"},
		{Label: "long", To: strings.Repeat("ä", 399) + "…"},
		{Label: "nested", To: `{"by":"c","from":"a","to":"b"}`},
		{Label: "nothing", To: "none"},
		{Label: "reason", To: "leaked"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWords(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "fallback_key": "fallback key", "monthlyCapUsd": "monthly cap USD", "baseURL": "base URL", "operator-id": "operator ID", "A": "a",
	} {
		if got := Words(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}
