package views

import (
	"strings"
	"testing"

	"github.com/a-h/templ"
)

// incidentPages are the goldens of incidents.
func incidentPages() map[string]templ.Component {
	empty := IncidentsPage{Page: page("Incidents", "/incidents"), Filters: incidentsPage().Filters}
	empty.Filters.Narrowed = false
	narrowed := incidentsPage()
	narrowed.Incidents, narrowed.Figures, narrowed.FollowUps, narrowed.Older = nil, nil, nil, ""
	narrowed.Filters.Problem = "The filters could not be used: from is not a day like 2026-11-24."

	refused := incidentPage()
	refused.Problem, refused.Editing = "Nothing was saved yet: somebody else has changed this incident meanwhile.", true
	refused.Form.Problems = map[string]string{"title": "This must not be empty.", "severity": "This is none.", "leadId": "This is nobody.", "detectedAt": "This is in the future."}
	refused.Task.Problems = map[string]string{"task": "This must not be empty.", "ownerId": "This is nobody.", "dueOn": "This is no day."}
	refused.Texts[0].Text, refused.Texts[0].Saved, refused.Texts[1].Problem = "mine", "theirs", "This is too long."
	refused.Entries[2].Editing, refused.Entries[2].Typed = true, "typed"
	refused.Impact, refused.Failures, refused.RunsNote, refused.FollowUps, refused.CheckProblem = nil, nil, "", nil, "This is no check that there is."
	refused.Note = "a <note>"

	resolved := incidentPage()
	resolved.Status, resolved.Resolved, resolved.ToResolve, resolved.Checks = "resolved", new(someMoment()), "1 h 5 min", nil
	resolved.Steps = []IncidentStep{{Do: "reopen", Label: "Reopen"}}

	lead := LeadIncidentsPage{Page: page("Incidents", "/incidents"), Open: openIncidents()}
	lead.Page.Operator, lead.Page.Incidents = leadOperator(), openIncidents()
	calm := LeadIncidentsPage{Page: page("Incidents", "/incidents")}
	calm.Page.Operator = leadOperator()
	byHand := newIncidentPage()
	byHand.Reading, byHand.CheckID, byHand.Problem, byHand.Form.Problems = nil, "", "Nothing was saved.", map[string]string{"title": "This must not be empty."}
	return map[string]templ.Component{
		"incidents":            Incidents(incidentsPage()),
		"incidents-none":       Incidents(empty),
		"incidents-narrowed":   Incidents(narrowed),
		"incidents-lead":       LeadIncidents(lead),
		"incidents-lead-none":  LeadIncidents(calm),
		"incident":             Incident(incidentPage()),
		"incident-refused":     Incident(refused),
		"incident-resolved":    Incident(resolved),
		"incident-new":         NewIncident(newIncidentPage()),
		"incident-new-by-hand": NewIncident(byHand),
	}
}

func openIncidents() []OpenIncident {
	return []OpenIncident{
		{Title: "OpenAI refuses <our> keys", Severity: "SEV1", Status: "open", Since: someMoment(), Href: "/incidents/7"},
		{Title: "Runs are slow", Severity: "SEV2", Status: "mitigated", Since: someMoment(), Href: "/incidents/6"},
	}
}

func incidentsPage() IncidentsPage {
	p := IncidentsPage{
		Page: page("Incidents", "/incidents"),
		Filters: IncidentFilters{
			Statuses: []Option{{Label: "Every status"}, {Value: "open", Label: "Open", Selected: true}}, Severities: []Option{{Label: "Every severity", Selected: true}},
			From: "2026-11-01", Today: "2026-11-24", Narrowed: true,
		},
		Figures: []KeyFigure{{Label: "Incidents", Value: "2", Note: "1 not resolved"}, {Label: "Mean to resolve", Value: "1 h 5 min", Note: "of 1 incident"}},
		Incidents: []IncidentRow{
			{ID: "7", Title: "OpenAI refuses <our> keys", Severity: "SEV1", Words: "learners cannot work", Status: "open", Detected: someMoment()},
			{ID: "6", Title: "Runs are slow", Severity: "SEV2", Words: "…", Status: "resolved", Lead: "Marta", Detected: someMoment(), ToAcknowledge: "4 min", ToResolve: "1 h 5 min", FollowUps: "2"},
		},
		FollowUps: []FollowUpRow{
			{ID: "1", IncidentID: "6", Incident: "Runs are slow", Body: "Watch P95", Owner: "Marta", Due: "20 Nov 2026", Late: true, Revision: "1"},
			{ID: "2", IncidentID: "6", Incident: "Runs are slow", Body: "Tell learners", Revision: "3"},
		},
		MoreToDo: "12", CSV: "/incidents.csv?status=open", Older: "/incidents?before=6&status=open", Newest: "/incidents",
	}
	p.Page.Incidents = openIncidents()
	return p
}

func incidentFormOf() IncidentForm {
	return IncidentForm{
		Title: "OpenAI refuses <our> keys", Severities: []Option{{Value: "1", Label: "SEV1: learners cannot work", Selected: true}, {Value: "2", Label: "SEV2: …"}},
		Leads: []Option{{Label: "Nobody yet", Selected: true}, {Value: "a", Label: "Marta"}}, DetectedAt: "2026-11-24T13:00", Zone: "Europe/Berlin",
	}
}

func newIncidentPage() NewIncidentPage {
	return NewIncidentPage{
		Page: page("Start an incident", "/incidents/new"), Form: incidentFormOf(), CheckID: "fallback-keys", Step: "missing-key",
		Reading: &IncidentReading{Title: "Usable fallback keys", Verdict: "failing", Value: "0 at OpenAI", Detail: "both are invalid", At: someMoment()},
	}
}

func incidentPage() IncidentPage {
	figure := func(label, value, note, href string) IncidentFigure {
		return IncidentFigure{KeyFigure{Label: label, Value: value, Note: note}, href}
	}
	p := IncidentPage{
		Page:        page("Incident 7", "/incidents/7"),
		IncidentRow: IncidentRow{ID: "7", Title: "OpenAI refuses <our> keys", Severity: "SEV1", Words: "learners cannot work", Status: "open", Detected: someMoment(), ToAcknowledge: "4 min"},
		By:          "marta@example.org", Acknowledged: new(someMoment()), Step: "missing-key", Revision: "3", Form: incidentFormOf(),
		Steps:  []IncidentStep{{"mitigate", "Mark as mitigated", true}, {"resolve", "Resolve", false}},
		Impact: []IncidentFigure{figure("Duration", "1 h", "since it was detected", ""), figure("Runs failed", "12", "of 20 runs", "/runs?status=error"), figure("Fallback cost", "$1.23", "while it went on", "/runs?key=fallback")},
		Failures: []IncidentFailure{
			{"OpenAI", "12", "20", "60.0%", "/runs?provider=openai", []IncidentClass{{"invalid key", "11", "/runs?class=invalid_key"}, {"not known", "1", ""}}},
			{Provider: "Mistral", Failed: "1", Attempts: "9", Rate: "11.1%"},
		},
		RunsNote: "Numbers that are links lead to the runs of these days.",
		Entries: []IncidentEntry{
			{At: someMoment(), Kind: "Check failing", Icon: "alert", Tone: "error", Title: "Usable fallback keys: 0", Body: "none at OpenAI", Who: "marta@example.org"},
			{At: someMoment(), Kind: "Key", Icon: "key", Tone: "warning", Title: "OpenAI: Fallback key “Main”", Changes: []AuditDetail{{"status", "healthy", "invalid", true}}},
			{ID: "3", At: someMoment(), Kind: "Note", Icon: "runbook", Body: "Asked <support>\nand wait", Who: "marta@example.org", Own: true, Version: "1", Typed: "Asked <support>", Earlier: []IncidentEarlier{{"Asked", someMoment()}}},
			{ID: "4", At: someMoment(), Kind: "Note", Icon: "runbook", Who: "ada@example.org", Deleted: new(someMoment()), Earlier: []IncidentEarlier{{"nonsense", someMoment()}}},
		},
		Checks:    []Option{{Value: "fallback-keys", Label: "Usable fallback keys", Selected: true}},
		FollowUps: []FollowUpRow{{ID: "1", IncidentID: "7", Body: "Watch <keys>", Owner: "Marta", Due: "20 Nov 2026", Late: true, Revision: "1", Form: TaskForm{Task: "Watch <keys>", DueOn: "2026-11-20", Owners: []Option{{Label: "Nobody yet"}}}}, {ID: "2", IncidentID: "7", Body: "Tell learners", Done: true, Revision: "2"}},
		Task:      TaskForm{Owners: []Option{{Label: "Nobody yet"}}},
		Texts:     []IncidentText{{Field: "summary", Label: "Summary", Hint: "What happened.", Text: "The key was <b>revoked</b>."}, {Field: "lessons", Label: "What we learned", Hint: "…"}},
		Markdown:  "# Incident 7: OpenAI refuses &lt;our&gt; keys\n",
	}
	p.Page.Incidents = openIncidents()[:1]
	return p
}

func TestIncidentsAreOnlyText(t *testing.T) {
	evil := `</textarea></pre><script>alert("x")</script><img src=x onerror=alert(1)>`
	p := incidentPage()
	p.IncidentRow.Title, p.Words, p.Lead, p.By, p.Step, p.Problem, p.Note, p.Markdown, p.CheckProblem = evil, evil, evil, evil, evil, evil, evil, evil, evil
	p.Form.Title, p.Form.DetectedAt, p.Form.Leads[1].Label, p.Form.Problems = evil, evil, evil, map[string]string{"title": evil}
	for i := range p.Entries {
		e := &p.Entries[i]
		e.Kind, e.Title, e.Body, e.Who, e.Typed = evil, evil, evil, evil, evil
		e.Changes, e.Earlier = []AuditDetail{{evil, evil, evil, true}}, []IncidentEarlier{{evil, someMoment()}}
	}
	p.Failures[0].Provider, p.Failures[0].Classes[0].Name = evil, evil
	p.FollowUps[0].Body, p.FollowUps[0].Owner, p.Task.Task = evil, evil, evil
	p.Texts[0].Text, p.Texts[0].Saved, p.Checks[0].Label = evil, evil, evil
	p.Page.Incidents = []OpenIncident{{Title: evil, Severity: evil, Status: evil}}
	list, fresh := incidentsPage(), newIncidentPage()
	list.Incidents[0].Title, list.Incidents[0].Lead, list.FollowUps[0].Body, list.FollowUps[0].Incident, list.Filters.Problem = evil, evil, evil, evil, evil
	fresh.Reading, fresh.CheckID, fresh.Step, fresh.Problem = &IncidentReading{Title: evil, Verdict: evil, Value: evil, Detail: evil}, evil, evil, evil
	for name, page := range map[string]templ.Component{"incident": Incident(p), "incidents": Incidents(list), "new": NewIncident(fresh), "lead": LeadIncidents(LeadIncidentsPage{Page: p.Page, Open: p.Page.Incidents})} {
		html := render(t, page)
		if strings.Contains(html, "<img") || strings.Contains(html, "<script>") {
			t.Errorf("%s lets markup through", name)
		}
		if !strings.Contains(html, "alert") {
			t.Errorf("%s does not show it at all", name)
		}
	}
}

func TestVerdictsAreNeverGreenByMistake(t *testing.T) {
	for verdict, want := range map[string]string{"ok": "success", "failing": "error", "critical": "error", "warning": "warning", "unknown": "warning", "": "warning", "okay?": "warning"} {
		if got := VerdictTone(verdict); got != want {
			t.Errorf("%q is %s, want %s", verdict, got, want)
		}
	}
}
