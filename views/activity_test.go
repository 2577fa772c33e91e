package views

import (
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 40 * time.Second: "40 s", 125 * time.Minute: "2 h 5 min", 3 * time.Minute: "3 min", 76 * time.Hour: "3 d 4 h", 61 * time.Second: "1 min 1 s",
	} {
		if got := Span(d); got != want {
			t.Errorf("Span(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestCohortCell(t *testing.T) {
	for want, got := range map[CohortCell]CohortCell{
		{"–", "0 of 0", 0, false}:             CohortCellOf(0, 0, false),
		{"45%", "9 of 20", 4, false}:          CohortCellOf(9, 20, false),
		{"100%", "20 of 20, so far", 9, true}: CohortCellOf(20, 20, true),
	} {
		if got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

func periodOf(selected string) PeriodChoice {
	return PeriodChoice{Ranges: UsageRanges(selected), From: "2026-11-21", To: "2026-11-23", Today: "2026-11-23"}
}

func runsPage() RunsPage {
	at := ShortMomentOf(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), time.UTC)
	return RunsPage{
		Page: page("Runs", "/runs"), Period: "21 – 23 Nov 2026", Count: "1,000+ runs", CSV: "/runs.csv?range=7d", CSVMost: "10,000", Cut: true,
		Filters: RunsFilters{
			Period: periodOf("7d"), Statuses: StatusOptions([]string{"running", "success"}), Classes: ClassOptions([]string{"timeout"}),
			Models: []string{"openai/gpt-5-mini"}, Teams: []Option{{Label: "All teams"}}, Learner: "ada@example.org", Narrowed: true, More: true,
		},
		Runs: []RunLine{
			{Href: "/runs/1?range=7d", Started: at, Who: "ada@example.org", WhoHref: "/learners/1", Team: "Kitchen", Models: []string{"gpt-5-mini", "grok-4"}, Status: "partial", Errors: "Rate limited", Tokens: "412", Cost: &Amount{Main: "$0.00", Rest: "1934"}, Unpriced: "1", Duration: "1.83 s", Keys: "Both"},
			{Href: "/runs/2?range=7d", Started: at, Who: "marta@example.org", WhoNote: "operator", Status: "running", Tokens: "–", Duration: "–", Keys: "–"},
			{Href: "/runs/3?range=7d", Started: at, Who: "Deleted account", Models: []string{"llama"}, Status: "success", Tokens: "12", Cost: &Amount{}, Unpriced: "1", Duration: "90 ms", Keys: "Own"},
		},
		Newest: "/runs?range=7d", Newer: "/runs?after=1&range=7d", Older: "/runs?before=3&range=7d",
	}
}

func activityPage() ActivityPage {
	days := threeDays()
	return ActivityPage{
		Page: page("User Activity", "/activity"), Choice: periodOf("7d"), Teams: []Option{{Label: "Everybody"}, {Value: "1", Label: "Kitchen", Selected: true}},
		Narrowed: true, Limited: true, Period: "21 – 23 Nov 2026", Before: "18 – 20 Nov 2026", Going: true, Figures: []KeyFigure{{Label: "Active learners", Value: "12", Note: "9 in the last 7 days", Change: Change{"+12%, up from 11", "up"}}, {Label: "Stickiness", Value: "–"}},
		Active:   DailyCounts("active-learners", "Active learners", "By day", "12", false, days, []Counts{{"On the day", []int64{3, 4, 5}}, {"In 7 days", []int64{9, 9, 12}}}),
		Learning: DailyCounts("lessons-by-day", "Lessons", "By day", "7", true, days, []Counts{{"Started", []int64{3, 4, 5}}}),
		Weeks:    []string{"0", "1"}, Cohorts: []CohortLine{{Week: "16 Nov 2026", Size: "20", Cells: []CohortCell{CohortCellOf(20, 20, false), CohortCellOf(9, 20, true)}}, {Week: "23 Nov 2026", Size: "0", Cells: []CohortCell{CohortCellOf(0, 0, true)}}},
		Funnel:  []FunnelLine{{Name: "Signed up", Reached: "20", OfStart: "100%", Bar: 1}, {Name: "First key", Reached: "9", OfStart: "45.0%", OfLast: "45.0%", SinceStart: "3 d", SinceLast: "3 d", Bar: 0.45}},
		Lessons: []LessonLine{{"What a prompt is", "5", "4", "80.0%", "4 of 5", "87.5"}},
		Events:  []EventLine{{"Used", "9"}}, Templates: []TemplateLine{{"Recipe", "/runs?template=1", "9", "2", "1", "0", "3"}},
		ByTeam:    []TeamLine{{Name: "Kitchen", Href: "/activity?team=1", Members: "3", Active: "2", Lessons: "4", LastRun: ShortMomentOf(time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC), time.UTC), Runs: "9", Cost: "Unknown", Each: "–", Unpriced: "9"}},
		MoreTeams: "450", MoreQuiet: "3",
		Quiet: []QuietLine{{"ada@example.org", "/learners/1", "/runs/1", ShortMomentOf(time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC), time.UTC), "Rate limited", "20 days"}},
		CSV:   map[string]string{"cohorts": "/activity.csv?table=cohorts", "quiet": "/activity.csv?table=quiet"},
	}
}

func learnerPage() LearnerPage {
	at := MomentOf(time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC), time.UTC)
	return LearnerPage{
		Page: page("ada@example.org", "/learners/1"), ID: "1", Email: "ada@example.org", Closed: "banned", SignedUp: at, Figures: []KeyFigure{{Label: "Runs", Value: "9"}},
		Teams: []LearnerTeam{{"Kitchen", "lead", "/activity?team=1"}}, Runs: "/runs?learner=ada", Newest: "/learners/1", Older: "/learners/1?before=x",
		Keys: []LearnerKey{{"OpenAI", "mine …9f2a", "healthy", at}, {"xAI", "", "invalid", at}, {"Groq", "", "odd", at}},
		Entries: []TimelineEntry{
			RunEntry(at, "/runs/1", "openai/gpt-5-mini", "error"), KeyEntry(at, "xAI", "billing"),
			{At: at, Icon: "smoke", Text: "Completed a lesson", Note: "What a prompt is, score 90"},
		},
	}
}
