package views

import (
	"flag"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata anew from what is rendered now")

// TestPages compares every page with its golden file. Look at the difference,
// then run with -update when it is meant.
func TestPages(t *testing.T) {
	for name, page := range pages() {
		t.Run(name, func(t *testing.T) {
			got := render(t, page)
			golden := filepath.Join("testdata", name+".html")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s differs (-want +got):\n%s", golden, diff)
			}
		})
	}
}

func TestEveryGoldenHasItsPage(t *testing.T) {
	files, err := filepath.Glob("testdata/*.html")
	if err != nil {
		t.Fatal(err)
	}
	all := pages()
	for _, file := range files {
		if all[strings.TrimSuffix(filepath.Base(file), ".html")] == nil {
			t.Errorf("%s belongs to no page", file)
		}
	}
}

// The content security policy refuses what is inline, so nothing may be.
var inline = regexp.MustCompile(`<style|\sstyle=|\son[a-z]+=|javascript:|<script>|<script [^>]*type="(text/javascript|module)"[^s>]*>`)

func TestNothingIsInline(t *testing.T) {
	for name, page := range pages() {
		if found := inline.FindString(render(t, page)); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
}

func TestNamesFromOutsideAreOnlyText(t *testing.T) {
	evil := `</script><script>alert("x")</script><img src=x onerror=alert(1)>`
	models := []ModelDays{modelDays(evil, [3]string{"1", "2", "3"}, [3]int64{1, 2, 3})}
	usage := usagePage(models)
	usage.Table.Rows[0].Name, usage.Table.Rows[0].Title, usage.Table.Rows[0].Href, usage.Filters.Learner = evil, evil, evil, evil
	usage.Filters.Template = &Option{Value: evil, Label: evil}
	usage.Filters.Models = []Option{{Value: evil, Label: evil}}
	playground := playgroundPage()
	playground.Prompt, playground.Other = evil, evil
	budgets := budgetsPage()
	budgets.Keys[0].Label, budgets.Learners[0].Email, budgets.Changed.By, budgets.Seen, budgets.Was = evil, evil, evil, evil, evil
	budgets.Limits = LimitFields(url.Values{"dailyUsd": {evil}}, map[string]string{"dailyUsd": evil}, nil, nil)
	channels := channelsPage()
	channels.Channels[0].Failure, channels.Channels[0].Changed.By, channels.Deliveries[0].Subject, channels.Deliveries[0].To, channels.Deliveries[0].Reason = evil, evil, evil, evil, evil
	channels.Channels[0].Fields = ChannelFields("email", url.Values{"host": {evil}, "from": {evil}}, map[string]string{"host": evil})
	run := runPage()
	run.Facts[0].Value, run.Models[0].Name, run.Models[1].Message, run.Models[2].ErrorClass = evil, evil, evil, evil
	run.Models[0].Tries[0].Key.Label, run.Models[0].Tries[0].Class, run.Models[0].Tries[0].Reason = evil, evil, evil
	run.Said = &RunSaid{Messages: []SaidText{{evil, evil}}, Outputs: []SaidText{{evil, evil}}}
	run.Curl = RunBody{Prompt: evil, Models: []string{evil}}.Curl("https://ops.example.org")
	runs := runsPage()
	runs.Filters.Learner, runs.Filters.Model, runs.Runs[0].Who, runs.Runs[0].Team, runs.Runs[0].Models = evil, evil, evil, evil, []string{evil}
	runs.Newer, runs.Runs[1].Href = "javascript:alert(1)", "javascript:alert(1)"
	active := activityPage()
	active.Lessons[0].Title, active.Templates[0].Title, active.ByTeam[0].Name, active.Quiet[0].Email, active.Teams[1].Label = evil, evil, evil, evil, evil
	someone := learnerPage()
	someone.Email, someone.Teams[0].Name, someone.Entries[0].Note, someone.Keys[0].Name = evil, evil, evil, evil
	playground.Run = &PlaygroundRun{Results: []PlaygroundResult{{Model: evil, State: "error", Output: evil, Message: evil, ErrorClass: evil}}}

	audit := auditPage()
	audit.Entries[0].Who, audit.Entries[0].Action, audit.Entries[0].Subject, audit.Entries[0].Kind = evil, evil, evil, evil
	audit.Entries[0].Details = AuditDetails(map[string]any{evil: evil, "a": map[string]any{"from": evil, "to": evil}})
	audit.Filters.Action, audit.Filters.Actions, audit.Filters.SubjectID, audit.Verified.By, audit.Verified.Head = evil, []string{evil}, evil, evil, evil

	drift := driftPage()
	drift.Differences[0].Title, drift.Differences[0].SQL, drift.Differences[0].Lines[0].Text, drift.Script, drift.Problem = evil, evil, evil, evil, evil
	drift.Errors[0].Message, drift.Errors[0].Policy, drift.Errors[0].Role, drift.Errors[0].Route, drift.Errors[0].Hint = evil, evil, evil, evil, evil
	drift.Tried.Rows[0].Table, drift.Tried.Rows[0].Cells[0].Got, drift.TryProblem = evil, evil, evil

	operators, operator, team, teams, sessions := operatorsPage(), operatorPage(1), teamPage(), teamsPage(), sessionsPage()
	operators.Operators[0].Name, operators.Operators[1].Leads, operators.Operators[1].Learner, operators.Form.Email = evil, evil, evil, evil
	operators.Form.Problems = map[string]string{"email": evil}
	operator.Name, operator.Form.Learner, operator.Problem, operator.Version = evil, evil, evil, evil
	team.Name, team.People[0].Email, team.Rename, team.Search, team.Email = evil, evil, evil, evil, evil
	teams.Teams[0].Name, teams.Teams[0].Leads, teams.Search = evil, evil, evil
	sessions.Sessions[0].Agent, sessions.Sessions[0].IP, sessions.Sessions[1].Browser = evil, evil, evil
	led := usagePage(models)
	led.Operator, led.Teams = leadOperator(), &TeamSwitch{Now: evil, Chosen: evil, Choices: []TeamChoice{{evil, evil, "/usage?team=" + url.QueryEscape(evil), true}}}
	health := keyHealthPage()
	health.Next[0].Name, health.Teams[0].Name, health.Providers[0].Name, health.Filters.Search, health.List.Learners[0].Name, health.List.Learners[0].Email = evil, evil, evil, evil, evil, evil
	nudge := nudgePage()
	nudge.Text, nudge.Subject, nudge.Preview.Text, nudge.Gets[0].Name, nudge.Back = evil, evil, evil, evil, evil
	keys := learnerKeysPage()
	keys.History[0].Note, keys.Learner.Name = evil, evil
	for name, page := range map[string]templ.Component{
		"key-health":      KeyHealth(health),
		"nudge":           Nudge(nudge),
		"learner's keys":  LearnerKeys(keys),
		"audit":           Audit(audit),
		"drift":           Drift(drift),
		"budgets":         Budgets(budgets),
		"channels":        Channels(channels),
		"operator":        OperatorDetails(operator),
		"operators":       Operators(operators),
		"playground":      Playground(playground),
		"run":             Run(run),
		"sessions":        Sessions(sessions),
		"team":            TeamDetails(team),
		"teams":           Teams(teams),
		"usage":           Usage(usage),
		"usage of a lead": Usage(led),
		"runs":            Runs(runs),
		"activity":        Activity(active),
		"learner":         Learner(someone),
	} {
		html := render(t, page)
		if strings.Contains(html, "<img") || strings.Contains(html, "<script>") {
			t.Errorf("%s lets markup through", name)
		}
		if !strings.Contains(html, "alert") {
			t.Errorf("%s does not show the name at all", name)
		}
	}
}

func TestCurlKeepsQuotesAndNumbers(t *testing.T) {
	p := PlaygroundPage{Prompt: "Don't <b>", Other: "a/b", Temperature: "0.7", MaxTokens: "x", Origin: "https://ops.example.org"}
	want := `curl https://ops.example.org/api/ai/run \
  -H "Authorization: Bearer $TOKEN" \
  -H 'Content-Type: application/json' \
  -d '{
  "prompt": "Don'\''t <b>",
  "models": [
    "a/b"
  ],
  "config": {
    "temperature": 0.7
  }
}'`
	if diff := cmp.Diff(want, p.curl()); diff != "" {
		t.Errorf("curl (-want +got):\n%s", diff)
	}
}

func TestOnlyBuiltPagesAreLinked(t *testing.T) {
	for _, group := range page("AI Usage", "/usage").links() {
		for _, link := range group.Links {
			if !link.Built {
				t.Errorf("%s is linked and not built", link.Href)
			}
		}
		if len(group.Links) == 0 {
			t.Errorf("group %q is empty", group.Heading)
		}
	}
}

// render returns a page with one tag per line, so that goldens can be compared.
func render(t *testing.T, page templ.Component) string {
	t.Helper()
	var html strings.Builder
	if err := page.Render(t.Context(), &html); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(html.String(), "><", ">\n<") + "\n"
}

func pages() map[string]templ.Component {
	models := []ModelDays{
		modelDays("openai/gpt-5-mini", [3]string{"0.00079", "1.25", "0"}, [3]int64{412, 90_000, 0}),
		modelDays("ollama/llama-4", [3]string{"0", "0", "0"}, [3]int64{12, 0, 4_000}),
	}
	empty := usagePage(models)
	empty.Empty, empty.Filters.Narrowed, empty.Demo = true, true, false
	refused := usagePage(models)
	refused.Empty, refused.Theme = true, "dark"
	refused.Filters.Ranges = UsageRanges("custom")
	refused.Filters.Problem = "The first day is after the last. Choose an earlier one."

	asked := playgroundPage()
	asked.Problems = []FieldProblem{{"models", "choose 1 to 8 models"}, {"config.temperature", "must be between 0 and 2"}}
	asked.Temperature = "7"
	answered := playgroundPage()
	answered.System = "Be brief."
	answered.Run = partialRun()

	nobody := page("Sign in", "/sign-in")
	nobody.Operator, nobody.Demo = nil, false
	saved := page("Not found", "/nothing")
	saved.Flash = &Flash{Kind: "success", Text: "The demo data has been deleted."}

	lead := page("Forbidden", "/")
	lead.Operator = &Operator{Email: "lead@example.org", Role: "team_lead"}

	noBudgets := budgetsPage()
	noBudgets.Today, noBudgets.Keys, noBudgets.Learners, noBudgets.Changed, noBudgets.Shared = LimitUseOf(usd("0"), nil), nil, nil, nil, false
	noBudgets.Limits = LimitFields(url.Values{"fallbackMaxTokens": {"4096"}}, nil, nil, nil)
	badBudgets := budgetsPage()
	badBudgets.Problem, badBudgets.Changed = "Nothing was saved.", &Changed{At: MomentOf(time.Unix(0, 0), time.UTC)}
	badBudgets.Today = LimitUseOf(usd("20.5"), ptr(usd("25")))
	badBudgets.Shared = false
	badBudgets.Limits = LimitFields(url.Values{"dailyUsd": {"a <lot>"}, "runsPerMinute": {"0"}, "fallbackMaxTokens": {"4096"}},
		map[string]string{"dailyUsd": "This is no amount.", "runsPerMinute": "This is too little."}, nil, nil)
	lateBudgets := budgetsPage()
	lateBudgets.Problem = "Nothing was saved yet."
	lateBudgets.Today = LimitUseOf(usd("25.01"), ptr(usd("25")))
	was, now := url.Values{"dailyUsd": {"25"}, "runsPerMinute": {"5"}, "concurrentRuns": {"2"}}, url.Values{"dailyUsd": {"30"}, "runsPerMinute": {""}, "concurrentRuns": {"2"}}
	lateBudgets.Limits = LimitFields(url.Values{"dailyUsd": {"40"}, "concurrentRuns": {"3"}}, nil, was, now)

	noChannels := channelsPage()
	noChannels.Deliveries, noChannels.Older = nil, ""
	for i := range noChannels.Channels {
		c := &noChannels.Channels[i]
		*c = ChannelCard{ID: c.ID, Name: c.Name, About: c.About, State: "Not set up", Revision: "0", Fields: ChannelFields(c.ID, nil, nil)}
	}
	noChannels.Channels[2].Problem = "Nothing was saved: what is marked below cannot be used."
	noChannels.Channels[2].Fields = ChannelFields("webhook", url.Values{"url": {"http://<b>"}}, map[string]string{"url": "This must begin with https://.", "key": "This is too short."})

	oneTeam, twoTeams := usagePage(models), usagePage(models)
	oneTeam.Operator, oneTeam.Teams, oneTeam.Filters.Teams = leadOperator(), &TeamSwitch{Now: "Design"}, nil
	twoTeams.Operator, twoTeams.Filters.Teams, twoTeams.Filters.TeamID, twoTeams.Empty = leadOperator(), nil, "b", true
	twoTeams.Filters.Clear = "/usage?team=b"
	twoTeams.Teams = &TeamSwitch{Now: "Data & <analysts>", Chosen: "b", Choices: []TeamChoice{
		{"", "All my teams", "/usage", false}, {"a", "Design", "/usage?team=a", false}, {"b", "Data & <analysts>", "/usage?team=b", true},
	}}
	refusedOperators := operatorsPage()
	refusedOperators.Problem = "Nothing was saved."
	refusedOperators.Form.Problems = map[string]string{"email": "This is no address.", "learner": "This is nobody.", "role": "This is no role.", "timezone": "This is no zone."}
	newLink := OneTimeLinkPage{
		Page: page("Sign-in link", "/settings/operators"), ID: "o2", Email: "linus@example.org", Role: "a team lead", Created: true,
		Link: "https://ops.example.org/sign-in/link/abc", Until: someMoment(), Hours: "72", Warning: "Leads no team",
	}
	disabled := operatorPage(1)
	disabled.Disabled, disabled.DisabledAt, disabled.LinkUntil, disabled.Sessions = true, someMoment(), nil, ""
	noTeams := teamsPage()
	noTeams.Teams, noTeams.Pages, noTeams.Search, noTeams.Problem = nil, 0, "<b>", "This is missing."
	emptyTeam := teamPage()
	emptyTeam.People, emptyTeam.Leads, emptyTeam.Shares, emptyTeam.Shown = nil, "", true, ""
	emptyTeam.Problem, emptyTeam.Problems = "Nothing was saved.", map[string]string{"email": "This is nobody.", "name": "This is missing.", "confirm": "This is not it."}

	noRuns, endOfRuns, badRuns, freshRuns := runsPage(), runsPage(), runsPage(), runsPage()
	noRuns.Runs, noRuns.Newest, noRuns.Newer, noRuns.Older = nil, "", "", ""
	endOfRuns.Runs, endOfRuns.Older = nil, ""
	badRuns.Filters.Problem = "The filters could not be used: range is not a range of days."
	freshRuns.Runs, freshRuns.Newest, freshRuns.Newer, freshRuns.Older, freshRuns.Filters.Narrowed = nil, "", "", "", false
	quietPage, nobodyActive, fewActive := activityPage(), activityPage(), activityPage()
	quietPage.Quiet, quietPage.Lessons, quietPage.Templates, quietPage.Events, quietPage.ByTeam, quietPage.Problem = nil, nil, nil, nil, nil, "The filters could not be used."
	nobodyActive.Empty = true
	fewActive.Limited, fewActive.Narrowed, fewActive.MoreQuiet, fewActive.MoreTeams = false, false, "", ""
	newLearner := learnerPage()
	newLearner.Closed, newLearner.Teams, newLearner.Keys, newLearner.Entries, newLearner.Newest, newLearner.Older = "", nil, nil, nil, "", ""

	all := map[string]templ.Component{
		"channels":           Channels(channelsPage()),
		"channels-refused":   Channels(noChannels),
		"drift":              driftPages()["drift"],
		"drift-healthy":      driftPages()["drift-healthy"],
		"drift-warning":      driftPages()["drift-warning"],
		"drift-unknown":      driftPages()["drift-unknown"],
		"audit":              Audit(auditPage()),
		"audit-broken":       Audit(brokenAudit()),
		"audit-empty":        Audit(AuditPage{Page: page("Audit log", "/settings/audit"), CSV: "/settings/audit.csv"}),
		"usage-lead":         Usage(oneTeam),
		"usage-lead-two":     Usage(twoTeams),
		"operators":          Operators(operatorsPage()),
		"operators-refused":  Operators(refusedOperators),
		"operator":           OperatorDetails(operatorPage(1)),
		"operator-you":       OperatorDetails(operatorPage(0)),
		"operator-disabled":  OperatorDetails(disabled),
		"operator-link":      OneTimeLink(newLink),
		"teams":              Teams(teamsPage()),
		"teams-none":         Teams(noTeams),
		"team":               TeamDetails(teamPage()),
		"team-refused":       TeamDetails(emptyTeam),
		"sessions":           Sessions(sessionsPage()),
		"runs":               Runs(runsPage()),
		"runs-fragment":      RunsContent(runsPage()),
		"runs-none":          Runs(noRuns),
		"runs-end":           Runs(endOfRuns),
		"runs-empty":         Runs(freshRuns),
		"runs-refused":       Runs(badRuns),
		"run-withheld":       Run(withheldPage()),
		"activity":           Activity(activityPage()),
		"activity-all":       ActivityContent(fewActive),
		"activity-quiet":     Activity(quietPage),
		"activity-empty":     Activity(nobodyActive),
		"learner":            Learner(learnerPage()),
		"learner-new":        Learner(newLearner),
		"budgets":            Budgets(budgetsPage()),
		"budgets-none":       Budgets(noBudgets),
		"budgets-refused":    Budgets(badBudgets),
		"budgets-conflict":   Budgets(lateBudgets),
		"run":                Run(runPage()),
		"run-running":        Run(runningPage()),
		"run-interrupted":    Run(interruptedPage()),
		"usage":              Usage(usagePage(models)),
		"usage-fragment":     UsageContent(usagePage(models)),
		"usage-many":         Usage(usagePage(tenModels())),
		"usage-divided":      Usage(dividedUsagePage()),
		"usage-empty":        Usage(empty),
		"usage-refused":      Usage(refused),
		"playground":         Playground(playgroundPage()),
		"playground-refused": Playground(asked),
		"playground-partial": Playground(answered),
		"sign-in":            SignIn(SignInPage{Page: nobody, Next: "/playground"}),
		"sign-in-refused":    SignIn(SignInPage{Page: nobody, Email: "marta@example.org", Problem: "The address or the password is wrong."}),
		"link":               SignInLink(SignInLinkPage{Page: nobody, Action: "/sign-in/link/abc", Email: "marta@example.org"}),
		"link-used":          SignInLink(SignInLinkPage{Page: nobody, Problem: "It has been used already."}),
		"password-first":     Password(PasswordPage{Page: nobody, Email: "marta@example.org", MinLength: "8", First: true}),
		"password-refused":   Password(PasswordPage{Page: nobody, Email: "marta@example.org", MinLength: "8", Problem: "Use at least 8 characters."}),
		"fallback":           Fallback(fallbackPage()),
		"fallback-empty":     Fallback(FallbackPage{Page: page("Fallback Keys", "/keys/fallback")}),
		"fallback-fragment":  FallbackContent(FallbackPage{Page: saved, Fragment: true, Problem: "The order was changed meanwhile."}),
		"fallback-key":       Key(keyPage("healthy")),
		"fallback-key-off":   Key(keyPage("disabled")),
		"fallback-new":       NewKey(newKeyPage()),
		"providers":          Providers(providersPage()),
		"providers-empty":    Providers(ProvidersPage{Page: page("Providers", "/settings/providers"), Form: EndpointFields("", "", "", nil), Private: true}),
		"provider":           Endpoint(EndpointPage{Page: page("vLLM", "/settings/providers/vllm"), ID: "vllm", Keys: "1 fallback key", Problem: "Somebody else.", Form: EndpointFields("vllm", "vLLM", "https://llm.example.com/v1", nil)}),
		"not-found":          Error(NotFoundPage(saved, "019a7b3c-52b1-7cc0-a2b4-0d3f8a1c9e55")),
		"error-team-lead":    Error(ErrorPage{Page: lead, Status: 403, Heading: "This is not yours to see", Message: "It is for admins."}),
		"error-signed-out": Error(ErrorPage{
			Page: nobody, Status: 503, Heading: "The database does not answer", Message: "Nothing was lost.",
			Next: "Try again in a minute.", RetryHref: "/usage", RequestID: "019a7b3c-52b1-7cc0-a2b4-0d3f8a1c9e55",
		}),
	}
	maps.Copy(all, patternPages())
	maps.Copy(all, keyHealthPages())
	maps.Copy(all, searchedPages())
	maps.Copy(all, overviewPages())
	maps.Copy(all, incidentPages())
	maps.Copy(all, logPages())
	maps.Copy(all, runbookStates())
	maps.Copy(all, pricesPages())
	return all
}

func page(title, path string) Page {
	return Page{
		Title: title, Path: path, Theme: "system", Demo: true,
		Operator: &Operator{Name: "Marta Lindqvist", Email: "marta@example.org", Role: "admin", Zone: "Europe/Berlin"},
		Assets:   func(name string) string { return "/static/" + name },
	}
}

func budgetsPage() BudgetsPage {
	return BudgetsPage{
		Page: page("Budgets", "/settings/budgets"), Day: "24 Nov 2026", Month: "November 2026", Zone: "Europe/Berlin",
		Today: LimitUseOf(usd("12.345678"), ptr(usd("25"))), Seen: "2026-11-23T10:00:00.123456Z", Was: "dailyUsd=25",
		Limits:  LimitFields(url.Values{"dailyUsd": {"25"}, "fallbackMaxTokens": {"4096"}}, nil, nil, nil),
		Changed: &Changed{By: "Marta Lindqvist (marta@example.org)", At: MomentOf(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), time.FixedZone("CET", 3600))},
		Keys: []KeyUse{
			{"Main", "OpenAI", LimitUseOf(usd("41"), ptr(usd("50")))},
			{"Spare", "OpenAI", LimitUseOf(usd("0"), nil)},
			{"", "", LimitUseOf(usd("0.0001"), nil)},
		},
		Learners: []LearnerUse{{"ada@example.org", LimitUseOf(usd("0.50"), ptr(usd("0.5")))}, {"", LimitUseOf(usd("0.000001"), ptr(usd("0.5")))}},
		Shared:   true,
	}
}

func playgroundPage() PlaygroundPage {
	return PlaygroundPage{
		Page: page("Playground", "/playground"), Prompt: "Explain RAG to a chef", MaxModels: 8,
		Origin: "https://ops.example.org", Classes: ErrorHints(),
		Groups: []ModelGroup{
			{Heading: "Suggested", Models: []ModelChoice{{Value: "openai/gpt-5-mini", Label: "openai/gpt-5-mini", Note: "$0.25 in, $2.00 out per million tokens", Selected: true}}},
			{Heading: "Anthropic", Models: []ModelChoice{{Value: "anthropic/claude-haiku-5-5", Label: "claude-haiku-5-5"}}},
		},
	}
}

func partialRun() *PlaygroundRun {
	return &PlaygroundRun{
		RequestID: "019a7b3c-52b1-7cc0-a2b4-0d3f8a1c9e55", Status: "partial", Duration: "1.83 s", Tokens: "812", Cost: "$0.001934", Unpriced: "1",
		Results: []PlaygroundResult{
			{Model: "openai/gpt-5-mini", State: "ok", Output: "Like a cook\nwho looks it up.", KeySource: "user", Cost: "$0.001934", CostNote: "estimated", Input: "20 (12 cached)", OutputUsed: "392", Duration: "1.83 s", FirstToken: "412 ms", Finish: "length"},
			{Model: "anthropic/claude-haiku-5-5", State: "error", KeySource: "fallback", Duration: "90 ms", ErrorClass: "rate_limited", Message: "Too many requests."},
		},
	}
}
