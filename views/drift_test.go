package views

import (
	"time"

	"github.com/a-h/templ"
)

func driftPage() DriftPage {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	return DriftPage{
		Page: page("Row-level security", "/rls"), CheckedAt: MomentOf(at, time.UTC), Compared: "184", Critical: "1",
		Differences: []Difference{
			{
				ID: "difference-1", Title: "policy teams_select on public.teams", Kind: "different", Critical: true, Why: "It may show more rows than it should.",
				Lines: []DriftLine{{" ", "for: select"}, {"-", "using: (id = 1)"}, {"+", "using: true"}}, SQL: "drop policy teams_select on public.teams;\ncreate policy …;",
			},
			{ID: "difference-2", Title: "grant select on table public.teams to authenticated", Kind: "missing", Why: "Statements fail.", Lines: []DriftLine{{"-", "may grant it to others: no"}}, SQL: "grant …;"},
			{ID: "difference-3", Title: "table public.notes", Kind: "unexpected", Critical: true, Foreign: true, Why: "Open.", Lines: []DriftLine{{"+", "row-level security: off"}}, SQL: "alter table …;"},
		},
		Script: "grant …;",
		Errors: []RLSError{{
			Message: "permission denied for table user_api_keys", Reason: "The role lacks a grant.", Policy: "own", Role: "authenticated", Route: "GET /keys/health", Hint: "Grant it.",
			N: "12", Recent: "3", First: MomentOf(at.Add(-time.Hour), time.UTC), Last: MomentOf(at, time.UTC),
		}},
		Tried: &TriedRLS{
			Actors: []string{"owner", "anon"}, Tries: "2", Wrong: "1", Closed: "30",
			Rows: []TriedRow{{"public.teams", "select", []TriedCell{{Got: "allowed"}, {Got: "allowed", Expected: "denied"}}}},
		},
	}
}

// driftPages are the goldens of the page.
func driftPages() map[string]templ.Component {
	healthy := DriftPage{
		Page: page("Row-level security", "/rls"), CheckedAt: driftPage().CheckedAt, Compared: "184", Critical: "0",
		Tried: &TriedRLS{Actors: []string{"owner"}, Tries: "2", Closed: "30"},
	}
	warning := healthy
	warning.Differences, warning.Tried, warning.TryProblem = driftPage().Differences[1:2], nil, "It could not be tried."
	unknown := healthy
	unknown.Problem, unknown.Tried = "Migration 14 is missing in the database, so it cannot be compared. Run promptops migrate.", nil
	return map[string]templ.Component{
		"drift": Drift(driftPage()), "drift-healthy": Drift(healthy), "drift-warning": Drift(warning), "drift-unknown": Drift(unknown),
	}
}
