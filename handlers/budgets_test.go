package handlers_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/net/html"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/run"
)

const budgetsPath = "/settings/budgets"

// limitsForm is the form of a page as it would be sent, with changes "name",
// "value", …
func limitsForm(t *testing.T, page reply, changes ...string) string {
	t.Helper()
	values := url.Values{}
	document, err := html.Parse(strings.NewReader(page.Text))
	must(t, err)
	for node := range document.Descendants() {
		if node.Data != "input" {
			continue
		}
		attributes := map[string]string{}
		for _, a := range node.Attr {
			attributes[a.Key] = a.Val
		}
		values.Set(attributes["name"], attributes["value"])
	}
	if len(values) != 7 { // five limits, and two that say what the form was made from
		t.Fatalf("the form has %v", values)
	}
	for i := 0; i < len(changes); i += 2 {
		values.Set(changes[i], changes[i+1])
	}
	return values.Encode()
}

// inForce are the limits as the database has them.
func (s *site) inForce(t *testing.T) url.Values {
	t.Helper()
	limits, err := s.Budgets.InForce(t.Context())
	must(t, err)
	return limits.Values()
}

func limitsOf(values ...string) url.Values {
	limits := url.Values{"dailyUsd": {""}, "learnerDailyUsd": {""}, "runsPerMinute": {""}, "concurrentRuns": {""}, "fallbackMaxTokens": {"4096"}}
	for i := 0; i < len(values); i += 2 {
		limits.Set(values[i], values[i+1])
	}
	return limits
}

func TestLimitsAreSaved(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	lena, err := s.Accounts.Create(t.Context(), audit.CommandLine, account.NewOperator{Email: "lena@example.org", Name: "Lena Berg", Role: account.RoleAdmin, Timezone: "Asia/Kathmandu"}, s.Clock.Now())
	must(t, err)
	admin := s.visitor(s.session(lena))
	if got := admin.get("/settings").wants(t, http.StatusSeeOther).Header.Get("Location"); got != budgetsPath {
		t.Errorf("/settings leads to %s", got)
	}
	empty := admin.get(budgetsPath).wants(t, http.StatusOK).shows(t, "Nobody has set limits yet", "There are no fallback keys", "No learner has used a fallback key today",
		"There is no daily budget", "24 Nov 2026, a day in UTC", `value="4096"`, `placeholder="No limit"`, `href="/settings" aria-current="page"`,
		"reserves the most it can cost before it is sent")

	saved := admin.post(budgetsPath, limitsForm(t, empty, "dailyUsd", "25.50", "learnerDailyUsd", " $0.5 ", "concurrentRuns", "3")).wants(t, http.StatusSeeOther)
	if got := saved.Header.Get("Location"); got != budgetsPath {
		t.Errorf("saving leads to %s", got)
	}
	if diff := cmp.Diff(limitsOf("dailyUsd", "25.5", "learnerDailyUsd", "0.5", "concurrentRuns", "3"), s.inForce(t)); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	page := admin.get(budgetsPath).wants(t, http.StatusOK).shows(t,
		"Saved, for every run that starts from now on. Daily budget: $25.50, was no limit. Learner’s daily allowance: $0.50, was no limit. Concurrent runs per learner: 3 runs, was no limit.",
		"Last changed by Lena Berg (lena@example.org)", "24 Nov 2026, 17:45 +0545", `title="24 Nov 2026, 12:00:`, `value="25.5"`, "of $25.50")
	again := admin.get(budgetsPath)
	if strings.Contains(again.Text, "Saved, for") {
		t.Error("it is said twice")
	}
	if !strings.Contains(s.Events.Text(), `"msg":"budgets_changed"`) || !strings.Contains(s.Events.Text(), lena.ID.String()) {
		t.Error("the log does not say who changed the limits")
	}

	// The same once more changes nothing, however it is written.
	admin.post(budgetsPath, limitsForm(t, page, "dailyUsd", "25.500")).wants(t, http.StatusSeeOther)
	admin.get(budgetsPath).shows(t, "Nothing was changed: these limits hold already")
	if n := strings.Count(s.Events.Text(), `"msg":"budgets_changed"`); n != 1 {
		t.Errorf("%d changes are logged, want 1", n)
	}

	// And back, from the same form.
	admin.post(budgetsPath, limitsForm(t, again, "dailyUsd", "", "learnerDailyUsd", "", "concurrentRuns", "")).wants(t, http.StatusSeeOther)
	admin.get(budgetsPath).shows(t, "Daily budget: no limit, was $25.50.")
	if diff := cmp.Diff(limitsOf(), s.inForce(t)); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}

func TestLimitsAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	page := admin.get(budgetsPath)
	for name, tt := range map[string]struct {
		typed []string
		says  []string
	}{
		"every field": {
			[]string{"dailyUsd", "25,00", "learnerDailyUsd", "-1", "runsPerMinute", "0", "concurrentRuns", "many", "fallbackMaxTokens", ""},
			[]string{"not an amount of dollars", "must not be negative", "between 1 and 600", "not a whole number", "is needed", `value="25,00"`, `value="-1"`, `value="0"`, `value="many"`},
		},
		"one":    {[]string{"dailyUsd", "25", "concurrentRuns", "1001"}, []string{"between 1 and 1000", `value="25"`, `value="1001"`}},
		"markup": {[]string{"dailyUsd", `"><b>25`}, []string{"not an amount of dollars", `value="&#34;&gt;&lt;b&gt;25"`}},
	} {
		answer := admin.post(budgetsPath, limitsForm(t, page, tt.typed...)).wants(t, http.StatusUnprocessableEntity).shows(t, append(tt.says, "Nothing was saved")...)
		want := strings.Count(answer.Text, `class="problem"`)
		if invalid := strings.Count(answer.Text, `aria-invalid="true"`); invalid != want || strings.Count(answer.Text, "autofocus") != 1 {
			t.Errorf("%s: %d problems, %d fields are marked", name, want, invalid)
		}
	}
	admin.post(budgetsPath, `%`).wants(t, http.StatusBadRequest)
	admin.post(budgetsPath, "dailyUsd="+strings.Repeat("1", 100_000)).wants(t, http.StatusRequestEntityTooLarge)
	if diff := cmp.Diff(limitsOf(), s.inForce(t)); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}

// Whoever saves second is told, and neither loses anything.
func TestLimitsOfTwoAdmins(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	marta, lena := s.visitor(s.session(named(s, "marta@example.org", "Marta"))), s.as(account.RoleAdmin)
	marta.post(budgetsPath, limitsForm(t, marta.get(budgetsPath), "dailyUsd", "25", "runsPerMinute", "10", "concurrentRuns", "2")).wants(t, http.StatusSeeOther)
	old := lena.get(budgetsPath)
	marta.post(budgetsPath, limitsForm(t, marta.get(budgetsPath), "dailyUsd", "30", "runsPerMinute", "")).wants(t, http.StatusSeeOther)

	late := lena.post(budgetsPath, limitsForm(t, old, "dailyUsd", "40", "concurrentRuns", "3")).wants(t, http.StatusConflict).shows(t,
		"Nothing was saved yet: Marta (marta@example.org) changed the limits",
		"Changed meanwhile from $25.00 to $30.00. What you typed is still here.", "Changed meanwhile from 10 runs to no limit.")
	if n := strings.Count(late.Text, "Changed meanwhile"); n != 2 {
		t.Errorf("%d fields are marked, want 2", n)
	}
	if diff := cmp.Diff(limitsOf("dailyUsd", "30", "concurrentRuns", "2"), s.inForce(t)); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	// What is refused meanwhile is still late.
	refused := lena.post(budgetsPath, limitsForm(t, old, "dailyUsd", "forty")).wants(t, http.StatusUnprocessableEntity)
	lena.post(budgetsPath, limitsForm(t, refused, "dailyUsd", "40")).wants(t, http.StatusConflict)

	lena.post(budgetsPath, limitsForm(t, late)).wants(t, http.StatusSeeOther)
	if diff := cmp.Diff(limitsOf("dailyUsd", "40", "concurrentRuns", "3"), s.inForce(t)); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	// A form that nobody was shown.
	lena.post(budgetsPath, "fallbackMaxTokens=1&seen=yesterday").wants(t, http.StatusConflict)
	lena.post(budgetsPath, "fallbackMaxTokens=1").wants(t, http.StatusConflict)
}

func TestLimitsAreForAdmins(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	lead := s.as(account.RoleTeamLead)
	for _, path := range []string{"/settings", budgetsPath} {
		if page := lead.get(path).wants(t, http.StatusForbidden); strings.Contains(page.Text, `href="/settings`) {
			t.Errorf("a team lead is shown the way to %s", path)
		}
	}
	admin := s.as(account.RoleAdmin)
	admin.post(budgetsPath, limitsForm(t, admin.get(budgetsPath), "dailyUsd", "1"), "Sec-Fetch-Site", "cross-site").wants(t, http.StatusForbidden)
	if diff := cmp.Diff(limitsOf(), s.inForce(t)); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}

// What the page says is used is what the runs cost, to the last digit.
func TestBudgetsShowWhatIsUsed(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai", "anthropic")
	ada, grace := s.learner("ada@example.org"), s.learner("grace@example.org")
	s.ownKey(grace, "openai")
	must(t, s.Budgets.Seed(t.Context(), run.Budgets{DailyUSD: dollars(t, "1"), LearnerDailyUSD: dollars(t, "0.5"), FallbackMaxTokens: 200}))
	_, err := s.DB.Exec(t.Context(), `update ops.fallback_keys set monthly_cap_usd = 0.75 where provider = 'openai'`)
	must(t, err)
	for _, id := range []uuid.UUID{ada, grace, ada} {
		s.visitor().run(s.token(id), `{"prompt":"Explain RAG to a chef","models":["openai/gpt-5-mini","anthropic/claude-haiku-5-5"]}`).wants(t, http.StatusOK)
	}
	cost := func(where string, args ...any) string {
		t.Helper()
		var usd price.USD
		must(t, s.DB.QueryRow(t.Context(), `select sum(cost_usd) from public.prompt_attempts where key_source = 'fallback' and `+where, args...).Scan(&usd))
		return "$" + usd.String()
	}
	admin := s.as(account.RoleAdmin)
	page := admin.get(budgetsPath).wants(t, http.StatusOK).shows(t, "<strong>"+cost("true")+"</strong>", "of $1.00", "Set by the configuration at the first start")
	keys := byFirst(tableOf(t, page.Text, "Fallback keys this month as a table"))
	for label, want := range map[string][2]string{"openai OpenAI": {cost("provider = 'openai'"), "$0.75"}, "anthropic Anthropic": {cost("provider = 'anthropic'"), "No cap"}} {
		if got := [2]string{keys[label]["Used"], keys[label]["Cap"]}; got != want {
			t.Errorf("%s: %v, want %v in %v", label, got, want, keys)
		}
	}
	learners := byFirst(tableOf(t, page.Text, "Learners on fallback keys today as a table"))
	for email, id := range map[string]uuid.UUID{"ada@example.org": ada, "grace@example.org": grace} {
		if got, want := learners[email]["Used"], cost("user_id = $1", id); got != want {
			t.Errorf("%s used %s, want %s in %v", email, got, want, learners)
		}
	}

	// Nearly used up, used up, and more.
	for limit, says := range map[string]string{"1": "", "0.9": "Over 80%", "0.8": "Used up", "0.5": "Over 100%"} {
		_, err = s.DB.Exec(t.Context(), `
			update ops.budgets b set daily_usd = trim_scale(c.used_usd * $1::text::numeric / 0.8) from ops.budget_counters c where c.scope = 'platform'`, limit)
		must(t, err)
		page := admin.get(budgetsPath).wants(t, http.StatusOK).Text
		today := regexp.MustCompile(`(?s)aria-labelledby="today".*?</section>`).FindString(page)
		if says != "" && !strings.Contains(today, says) || says == "" && strings.Contains(today, "tag-") {
			t.Errorf("limit %s: it does not say %q in\n%s", limit, says, today)
		}
	}

	// Tomorrow it is another day, next month another month.
	s.Clock.Advance(24 * time.Hour)
	admin = s.as(account.RoleAdmin)
	admin.get(budgetsPath).wants(t, http.StatusOK).shows(t, "<strong>$0.00</strong>", "No learner has used a fallback key today", cost("provider = 'openai'"))
	s.Clock.Advance(10 * 24 * time.Hour)
	if late := s.as(account.RoleAdmin).get(budgetsPath).wants(t, http.StatusOK).shows(t, "December 2026"); strings.Contains(late.Text, cost("provider = 'openai'")) {
		t.Error("last month counts in this one")
	}
}

// The demo comes and goes while learners run: what counts is what the rows say.
func TestDemoKeepsBudgetsRight(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai", "anthropic")
	must(t, s.Budgets.Seed(t.Context(), run.Budgets{DailyUSD: dollars(t, "1000"), RunsPerMinute: new(600), FallbackMaxTokens: 200}))
	token := s.token(s.learner("ada@example.org"))
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 6 {
				s.visitor().run(token, `{"prompt":"Explain RAG to a chef","models":["openai/gpt-5-mini","anthropic/claude-haiku-5-5"]}`).wants(t, http.StatusOK)
			}
		})
	}
	s.withDemo()
	wait.Wait()
	s.countersAreRight(t, 20)
	s.as(account.RoleAdmin).post("/demo/clear", "").wants(t, http.StatusSeeOther)
	s.countersAreRight(t, 3)
}

// countersAreRight checks that counters equal rows, and that there are some.
func (s *site) countersAreRight(t *testing.T, atLeast int) {
	t.Helper()
	counters := func() map[string]string {
		t.Helper()
		found := map[string]string{}
		rows, err := s.DB.Query(t.Context(), `select scope || ' ' || subject || ' ' || period, trim_scale(used_usd)::text from ops.budget_counters where used_usd <> 0`)
		must(t, err)
		defer rows.Close()
		for rows.Next() {
			var name, usd string
			must(t, rows.Scan(&name, &usd))
			found[name] = usd
		}
		must(t, rows.Err())
		return found
	}
	before := counters()
	must(t, s.Budgets.Recount(t.Context(), s.Clock.Now()))
	if diff := cmp.Diff(counters(), before); diff != "" || len(before) < atLeast {
		t.Errorf("%d counters (-rows +counters):\n%s", len(before), diff)
	}
}

func dollars(t *testing.T, amount string) *price.USD {
	t.Helper()
	usd, err := price.ParseUSD(amount)
	must(t, err)
	return &usd
}
