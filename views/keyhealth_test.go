package views

import (
	"net/url"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/shopspring/decimal"
)

func keyHealthPages() map[string]templ.Component {
	lead := keyHealthPage()
	lead.Lead, lead.Trend, lead.NoTrend, lead.Filters.Teams, lead.MoreTeams = true, nil, "Choose one of your teams.", nil, ""
	lead.Operator.Role, lead.Next, lead.Nudges, lead.NextNote = "team_lead", nil, nil, ""
	lead.List.Learners, lead.List.None, lead.List.NextHref = nil, "Nothing to do.", ""
	empty := KeyHealthPage{Page: page("Key Health", "/keys/health"), Whose: "All learners", Empty: true, CSV: "/keys/health.csv"}
	noMembers := empty
	noMembers.Filters.Clear, noMembers.Whose = "/keys/health", "Spring cohort"
	refused := nudgePage()
	refused.Problems, refused.Preview, refused.NotSetUp = map[string]string{"text": "This has {{x}}.", "subject": "This is missing."}, nil, "E-mail is not set up."
	slack := nudgePage()
	slack.Channel, slack.Preview.To, slack.Gets = "slack", "Your company’s channel", slack.Gets[:1]
	nobody := nudgePage()
	nobody.Gets, nobody.Preview = nil, nil
	resolved := learnerKeysPage()
	resolved.Learner.Closed, resolved.Undo, resolved.History, resolved.Nudges, resolved.Learner.Email = true, false, nil, nil, ""
	settings := nudgeSettingsPage()
	bad := settings
	bad.Problem, bad.Problems, bad.Changed = "Nothing was saved.", map[string]string{"nudgeDays": "This must be a number.", "slackText": "This is missing."}, nil
	return map[string]templ.Component{
		"key-health":                  KeyHealth(keyHealthPage()),
		"key-health-lead":             KeyHealth(lead),
		"key-health-empty":            KeyHealth(empty),
		"key-health-no-members":       KeyHealth(noMembers),
		"key-health-learner":          LearnerKeys(learnerKeysPage()),
		"key-health-learner-resolved": LearnerKeys(resolved),
		"nudge":                       Nudge(nudgePage()),
		"nudge-slack":                 Nudge(slack),
		"nudge-refused":               Nudge(refused),
		"nudge-nobody":                Nudge(nobody),
		"nudge-settings":              NudgeSettings(settings),
		"nudge-settings-refused":      NudgeSettings(bad),
	}
}

func healthMoment() Moment { return MomentOf(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), time.UTC) }

func keyHealthPage() KeyHealthPage {
	amounts := Amounts([]*decimal.Decimal{ptr(usd("1.25")), ptr(usd("0.1234567")), nil})
	trend := HealthTrend([]HealthDay{
		{Day: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC), Learners: 100, Usable: 50, Active: 30, Broken: 2},
		{Day: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), Learners: 120, Usable: 66, Active: 43, Broken: 8},
	})
	return KeyHealthPage{
		Page: page("Key Health", "/keys/health"), Whose: "All learners", CSV: "/keys/health.csv?show=all",
		Filters: KeyHealthFilters{Teams: []Option{{"", "All learners", true}, {"t1", "Spring cohort", false}}, Search: "ann", Keep: []Option{{Label: "show", Value: "all"}}, Clear: "/keys/health"},
		Figures: []HealthFigure{{"Learners", "120", "93 active in 14 days", "", "/keys/health?show=all#learners"}, {"Of them active", "43", "they hit fallbacks now", "warning", "/keys/health?show=active#learners"}},
		Trend:   &trend,
		Next:    []HealthNext{{Name: "Ann Abara", Href: "/keys/health/learners/a", Needs: "OpenAI, xAI", Projected: amounts[0], Bar: 1, Unpriced: "2"}, {Name: "Bo", Href: "/keys/health/learners/b", Needs: "xAI", Projected: amounts[2], Unpriced: "1"}}, NextNote: "$1.37 in all",
		Providers: []HealthProvider{{Name: "OpenAI", With: "59", Share: "49.2%", Broken: "0", Fallback: "49", Bar: 0.49, WithHref: "/keys/health?show=with&provider=openai#learners", Projected: amounts[1]}},
		Teams:     []HealthTeam{{Name: "Spring cohort", Href: "/keys/health?team=t1", Members: "21", With: "13", Share: "61.9%", Without: "8", Bar: 0.62, Active: "7", ActiveHref: "/keys/health?team=t1&show=active#learners", Projected: amounts[0], Unpriced: "3"}},
		MoreTeams: "492 more", AllTeams: "/keys/health?teams=all#by-team",
		Nudges: []HealthNudge{{At: healthMoment(), Who: "Ann Abara", Href: "/keys/health/learners/a", By: "marta@example.org", Channel: "E-mail", State: "Failed", Tone: "error", Why: "No such mailbox."}},
		Tabs:   []HealthTab{{"To do", "37", "/keys/health#learners", true}, {"Contacted", "10", "/keys/health?show=contacted#learners", false}},
		List: HealthList{
			Title: "to do", Count: "2 learners", Back: "show=all", NextHref: "/keys/health?after=x#learners", SelectAll: "/keys/health?select=all#learners", Tomorrow: "2026-11-25", NextWeek: "2026-12-01",
			Learners: []HealthLearner{healthLearner(amounts[0]), {ID: "b", Choice: "b.0", Name: "bo@example.org", Email: "bo@example.org", Href: "/keys/health/learners/b", Cost: amounts[1], Projected: amounts[1], State: "Snoozed", Until: "until 1 Dec 2026"}},
		},
	}
}

func healthLearner(a Amount) HealthLearner {
	at := healthMoment()
	return HealthLearner{
		ID: "a", Choice: "a.3", Name: "Ann Abara", Email: "ann@example.org", Href: "/keys/health/learners/a?back=show", Teams: "Red, Blue", Usable: "Google", Broken: "OpenAI", Needs: "xAI",
		Since: &at, Active: true, Cost: a, Projected: a, Unpriced: "2", State: "New", Tone: "info", Nudged: &at,
	}
}

func learnerKeysPage() LearnerKeysPage {
	at := healthMoment()
	return LearnerKeysPage{
		Page: page("Ann Abara", "/keys/health/learners/a"), Learner: healthLearner(Amount{}), Back: "show=all", Undo: true,
		Facts:   []Fact{{Label: "Broken keys", Value: "OpenAI", Since: &at}, {Label: "Fallbacks, next 30 days", Value: "$1.25", Note: "by the last 14"}},
		History: []HealthEvent{{At: at, What: "Marked as contacted", By: "marta@example.org", Note: "Called."}, {At: at, What: "Reopened", By: "By itself"}},
		Nudges:  []HealthNudge{{At: at, By: "marta@example.org", Channel: "Slack", State: "Sent", Tone: "success"}},
		List:    HealthList{Tomorrow: "2026-11-25", NextWeek: "2026-12-01"},
	}
}

func nudgePage() NudgePage {
	return NudgePage{
		Page: page("Nudge", "/keys/health/nudge"), Channel: "email", Learners: []string{"a", "b", "c"}, Back: "show=all", Subject: "Your key", Text: "Hello {{name}}", Days: "14 days",
		Placeholders: []Placeholder{{"name", "the learner’s name"}},
		Preview:      &NudgePreview{To: "ann@example.org", Subject: "Your key", Text: "Hello Ann\nbye", Of: []Option{{"a", "Ann", true}, {"b", "Bo", false}}},
		Gets:         []NudgeRecipient{{"Ann", "ann@example.org", ""}, {"Bo", "bo@example.org", ""}}, Not: []NudgeRecipient{{"Cy", "", "has no e-mail address"}},
	}
}

func nudgeSettingsPage() NudgeSettingsPage {
	at := healthMoment()
	return NudgeSettingsPage{
		Page: page("Messages to learners", "/keys/health/settings"), Seen: "2026-11-23T10:00:00Z", NudgeDays: "14", KeysURL: "https://learn.example.org/keys", EmailSubject: "S", EmailText: "T", SlackText: "U",
		EmailPlaceholders: []Placeholder{{"name", "the learner’s name"}}, SlackPlaceholders: []Placeholder{{"count", "how many"}}, Changed: &at,
	}
}

func TestOutreachDone(t *testing.T) {
	for query, want := range map[string]string{
		"":                                     "Nothing was changed.",
		"verb=contacted&done=1":                "1 learner marked as contacted.",
		"verb=snooze&done=3&key=1&meanwhile=2": "3 learners snoozed. 1 learner has a usable key by now. 2 learners were changed by somebody else meanwhile: look again.",
		"verb=email&done=0&skipped=2":          "Nothing was changed. 2 learners get no message; the reasons are on their pages.",
		"verb=<b>&done=4&key=x&open=-1":        "Nothing was changed.",
	} {
		counts, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := OutreachDone(counts); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}
