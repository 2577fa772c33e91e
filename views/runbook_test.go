package views

import (
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/google/go-cmp/cmp"
)

// runbookStates are the pages of the runbook, for the goldens.
func runbookStates() map[string]templ.Component {
	at := MomentOf(time.Date(2026, 11, 24, 12, 0, 5, 0, time.UTC), time.FixedZone("CET", 3600))
	card := func(id, verdict string) CheckCard {
		return CheckCard{
			ID: id, Anchor: "check-" + id, Title: "Usable <keys>", Verdict: verdict, Value: "1 of 3 & more", Detail: "Mistral: none of 1.",
			FixText: "Add a key.", FixHref: "/keys/fallback", FixLabel: "Fallback Keys", At: at, Clock: "13:00:05 CET", Took: "3 ms", Page: "/runbook/slow-runs",
		}
	}
	bad, fine, odd := card("fallback-keys", "critical"), card("database", "ok"), card("clock", "unknown")
	odd.FixHref, odd.Detail = "", ""
	text := ProcedureText{Slug: "slow-runs", Title: "Slow <runs>", Number: 3, Author: "marta@example.org", At: at, Checks: 2, Parts: []RunbookPart{
		{HTML: "<ol><li><p>Look.</p>"}, {Check: &bad}, {HTML: "</li></ol>"}, {Title: "Cost", Why: "only administrators see it."},
	}}
	builtIn := text
	builtIn.Number, builtIn.Checks = 0, 0
	lead := page("Slow runs", "/runbook/slow-runs")
	lead.Operator, lead.Teams = leadOperator(), &TeamSwitch{Now: "Design"}
	list := RunbookPage{
		Page: page("Runbook", "/runbook"), Checks: []CheckCard{bad, card("budget-today", "warning"), odd, fine}, Tally: "2 checks need somebody, 1 could not look",
		Procedures: []ProcedureRow{{Slug: "a", Title: "A & B", Summary: "First.", Edited: "Version 3", Failing: "2 checks need somebody", Verdict: "critical"}, {Slug: "b", Title: "B"}},
		Removed:    []ProcedureRow{{Slug: "gone", Title: "Gone"}},
	}
	away := RunbookPage{Page: page("Runbook", "/runbook"), Away: true}
	found := RunbookPage{Page: page("Runbook", "/runbook"), Query: "key <x>", Hits: []ProcedureHit{
		{Slug: "leaked-key", Title: Highlight("Leaked key", []string{"key"}), Passages: [][]Piece{Highlight("A Key <x>.", []string{"key", "<x>"})}},
	}}
	none := RunbookPage{Page: page("Runbook", "/runbook"), Query: "zebra"}
	diff := []DiffLine{{"same", "# T"}, {"old", "<one>"}, {"new", "two"}}
	edit := EditPage{Page: page("Edit T", "/runbook/t/edit"), Slug: "t", Title: "T", Markdown: "# T\n\n</textarea><b>", From: "2", Built: "abc", Checks: []CheckName{{"database", "The database"}}}
	seen := edit
	seen.Previewed, seen.Preview, seen.Warnings = true, text.Parts[2:], []string{"There is no check “x”."}
	late := edit
	late.Problem = "Nothing was saved yet."
	late.Theirs = &TheirText{Author: "bob@example.org", At: at, Number: "3", Markdown: "# T\n\n<i>", Diff: diff}
	wrong := EditPage{Page: page("New procedure", "/runbook/new"), New: true, Slug: "A b", Problem: "Nothing was saved.", Problems: map[string]string{"slug": "This is no address.", "markdown": "This is missing."}}
	history := HistoryPage{Page: page("History of T", "/runbook/t/history"), Slug: "t", Title: "T", Seen: "3", Versions: []VersionRow{
		{Number: "3", Author: "bob@example.org", At: at, Note: "Why <x>", Newest: true, Before: "2"}, {Number: "2", Author: "ann@example.org", At: at, Removed: true, Before: "1"}, {Number: "1", At: at, Note: "The built-in text"},
	}}
	gone := history
	gone.Removed = true
	return map[string]templ.Component{
		"runbook":              Runbook(list),
		"runbook-away":         Runbook(away),
		"runbook-found":        Runbook(found),
		"runbook-none":         Runbook(none),
		"runbook-check":        Check(bad),
		"runbook-page":         Procedure(ProcedurePage{Page: page("Slow runs", "/runbook/slow-runs"), Procedure: text, Newer: &NewerText{Merges: true, Seen: "3"}}),
		"runbook-page-lead":    Procedure(ProcedurePage{Page: lead, Procedure: builtIn}),
		"runbook-page-away":    Procedure(ProcedurePage{Page: page("Slow runs", "/runbook/slow-runs"), Procedure: builtIn, Away: true}),
		"runbook-print":        PrintRunbook(RunbookPrint{Page: page("Runbook", "/runbook/print"), Procedures: []ProcedureText{text, builtIn}, At: at}),
		"runbook-edit":         EditProcedure(seen),
		"runbook-conflict":     EditProcedure(late),
		"runbook-new-refused":  EditProcedure(wrong),
		"runbook-history":      ProcedureHistory(history),
		"runbook-history-gone": ProcedureHistory(gone),
		"runbook-history-one":  ProcedureHistory(HistoryPage{Page: page("History of T", "/runbook/t/history"), Slug: "t", Title: "T", Seen: "0", Versions: []VersionRow{{Number: "0", Newest: true}}}),
		"runbook-diff":         ProcedureDiff(DiffPage{Page: page("Comparison", "/runbook/t/diff"), Slug: "t", Title: "T", From: "version 2", To: "version 3", Lines: diff}),
		"runbook-diff-same":    ProcedureDiff(DiffPage{Page: page("Comparison", "/runbook/t/diff"), Slug: "t", Title: "T", From: "version 2", To: "version 2", Lines: diff[:1], Same: true}),
	}
}

func TestHighlight(t *testing.T) {
	for text, want := range map[string][]Piece{
		"A key, a KEYRING": {{"A ", false}, {"key", true}, {", a ", false}, {"KEYRING", true}},
		"key":              {{"key", true}},
		"none":             {{"none", false}},
		"":                 nil,
		"İ key":            {{"İ key", false}},
	} {
		if diff := cmp.Diff(want, Highlight(text, []string{"key", "keyring"})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func TestTally(t *testing.T) {
	all := func(verdicts ...string) (cards []CheckCard) {
		for _, v := range verdicts {
			cards = append(cards, CheckCard{Verdict: v})
		}
		return cards
	}
	for want, cards := range map[string][]CheckCard{
		"": all("ok", "ok"), "1 check needs somebody": all("ok", "warning"), "2 checks need somebody, 1 could not look": all("critical", "warning", "unknown"), "2 could not look": all("unknown", ""),
	} {
		if got := TallyOf(cards); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
