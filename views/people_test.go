package views

import (
	"testing"
	"time"
)

func someMoment() Moment {
	return MomentOf(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), time.FixedZone("CET", 3600))
}

func leadOperator() *Operator {
	return &Operator{Email: "linus@example.org", Role: "team_lead", Zone: "UTC", Leads: true}
}

func operatorsPage() OperatorsPage {
	return OperatorsPage{
		Page: page("Operators", "/settings/operators"), Form: OperatorForm{New: true, Role: "team_lead", Zone: "UTC"},
		Operators: []OperatorRow{
			{ID: "o1", Name: "Marta Lindqvist", Email: "marta@example.org", Role: "Admin", You: true, LastSignIn: new(someMoment()), Sessions: "2"},
			{ID: "o2", Email: "linus@example.org", Role: "Team lead", Learner: "linus@learn.example.org", Leads: "Design and Sales", LastSignIn: new(someMoment())},
			{ID: "o3", Email: "fay@example.org", Role: "Team lead", Learner: "fay@learn.example.org", Warning: "Leads no team", Invited: true},
			{ID: "o4", Email: "gone@example.org", Role: "Admin", Disabled: true},
		},
	}
}

func operatorPage(i int) OperatorPage {
	row := operatorsPage().Operators[i]
	return OperatorPage{
		Page: page("Operator", "/settings/operators"), OperatorRow: row, Created: someMoment(), LinkUntil: new(someMoment()), HasPassword: true, Version: "0123456789abcdef",
		Form: OperatorForm{Name: row.Name, Role: "team_lead", Learner: row.Learner, Zone: "UTC"},
	}
}

func teamsPage() TeamsPage {
	return TeamsPage{
		Page: page("Teams", "/settings/teams"), Total: "120", Search: "d&", At: 2, Pages: 3,
		Teams: []TeamRow{{ID: "t1", Name: "Design", Members: "1,024", Leads: "ada@example.org and bob@example.org", Shares: true}, {ID: "t2", Name: "Drafts", Members: "0"}},
	}
}

func teamPage() TeamPage {
	return TeamPage{
		Page: page("Team", "/settings/teams"), TeamRow: TeamRow{ID: "t1", Name: "Design", Members: "3 members", Leads: "ada@example.org"},
		Created: someMoment(), Memberships: "3 memberships", Templates: "1 template", Runs: "10,000 runs or more", Rename: "Design", Shown: "3 of 1,024",
		People: []TeamPerson{
			{ID: "l1", Email: "ada@example.org", Lead: true, Operator: true, Joined: someMoment()},
			{ID: "l2", Email: "bob@example.org", Lead: true, Closed: true, Joined: someMoment()},
			{ID: "l3", Joined: someMoment()},
		},
	}
}

func sessionsPage() SessionsPage {
	return SessionsPage{
		Page: page("Your account", "/account/sessions"), Others: true,
		Sessions: []SessionRow{
			{ID: "s1", Browser: "Firefox on Linux", Agent: "Mozilla/5.0", IP: "192.0.2.7", Since: someMoment(), Seen: someMoment(), Current: true},
			{ID: "s2", Browser: "Unknown browser", IP: "2001:db8::1", Since: someMoment(), Seen: someMoment()},
		},
	}
}

func TestNamesShort(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  string
	}{
		{nil, ""}, {[]string{"a"}, "a"}, {[]string{"a", "b"}, "a and b"}, {[]string{"a", "b", "c"}, "a, b and c"},
		{[]string{"a", "b", "c", "d"}, "a, b and 2 more"}, {make([]string, 1500), ",  and 1,498 more"},
	} {
		if got := NamesShort(tt.names); got != tt.want {
			t.Errorf("%d names: %q, want %q", len(tt.names), got, tt.want)
		}
	}
}

func TestBrowserOf(t *testing.T) {
	for agent, want := range map[string]string{
		"": "Unknown browser",
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                                 "Firefox on Linux",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15":                  "Safari on macOS",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0":          "Edge on Windows",
		"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36":                        "Chrome on Android",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
		"curl/8.0": "curl", "something (Linux)": "Browser on Linux",
	} {
		if got := BrowserOf(agent); got != want {
			t.Errorf("%s: %q, want %q", agent, got, want)
		}
	}
}

// A lead is led only to pages of leads, and stays with the team that was chosen.
func TestLinksOfALead(t *testing.T) {
	p := page("AI Usage", "/usage")
	p.Operator = leadOperator()
	p.Teams = &TeamSwitch{Now: "Design", Chosen: "a"}
	seen := 0
	for _, group := range p.links() {
		for _, link := range group.Links {
			seen++
			if p.href(link) != "/usage?team=a" && link.Href == "/usage" {
				t.Errorf("%s leads to %s", link.Label, p.href(link))
			}
			if link.Href == "/playground" || link.Href == "/settings" || link.Href == "/keys/fallback" {
				t.Errorf("a lead is led to %s", link.Href)
			}
		}
	}
	if seen == 0 || LeadStart() == "" {
		t.Errorf("%d links, starting at %q", seen, LeadStart())
	}
	p.Operator.Leads = false
	if links := p.links(); links != nil {
		t.Errorf("a lead of no team is led to %v", links)
	}
	if got := p.InTeam("/usage?range=7d"); got != "/usage?range=7d&team=a" {
		t.Error(got)
	}
}
