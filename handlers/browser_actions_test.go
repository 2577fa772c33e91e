package handlers_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
)

// click clicks on an element, which has to be visible.
func (b *tab) click(selector string) {
	b.t.Helper()
	if err := b.try(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible)); err != nil {
		b.t.Fatalf("click on %s: %v", selector, err)
	}
}

// text is what an element says.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return js[string](b, `document.querySelector(`+quoted(selector)+`).innerText`)
}

// adminTab is a window in which an admin is signed in.
func (s *site) adminTab(t *testing.T) *tab {
	t.Helper()
	b := s.newTab(t, newBrowser(t), s.session(s.operator("marta@example.org", account.RoleAdmin, "")))
	b.set(look{"light", 1440})
	return b
}

func TestKeyboardSignsIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	operator := s.operator("marta@example.org", account.RoleAdmin, "")
	link, err := s.Accounts.CreateLink(t.Context(), audit.CommandLine, operator.ID, time.Hour, s.Clock.Now())
	must(t, err)
	b := s.newTab(t, newBrowser(t))
	b.set(look{"light", 1440})

	b.open("/sign-in/link/" + link)
	b.press(kb.Enter)
	b.arrives("Choose a password")
	b.press(another + kb.Enter)
	b.shows("[role=status]", "Your password is saved")
	b.tabTo("[aria-label='Sign out']")
	b.press(kb.Enter)
	b.arrives("Sign in")

	b.open("/usage?range=7d")
	b.press("marta@example.org" + kb.Tab + another + kb.Enter)
	b.arrives("AI Usage")
	if got := b.path(); got != "/usage?range=7d" {
		t.Errorf("signing in leads to %s, want where one wanted to go", got)
	}
}

func TestPlaygroundStreams(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai", "anthropic", "google")
	b := s.adminTab(t)
	b.open("/playground")
	b.press("Explain RAG to a chef") // the prompt has the focus
	b.click("#other")
	b.press("openai/gpt-5-mini-fault-hang-stream")
	b.shows("#chosen", "4 models")
	b.press(kb.Enter, chromedp.ModifierCtrl)

	const hanging = `document.querySelectorAll("[data-answer]")[3]`
	b.until(`document.querySelectorAll("[data-answer][data-state=ok]").length === 3`)
	b.until(hanging + `.dataset.state === "streaming" && ` + hanging + `.querySelector("[data-slot=output]").textContent !== ""`)
	if got := b.text("[data-totals] [data-slot=status]"); got != "Running 4 models" {
		t.Errorf("the run says %q while one model hangs", got)
	}
	b.until(`document.querySelector("#run").disabled && !document.querySelector("#cancel").hidden`)
	b.click("#cancel")
	b.shows("[data-totals]", "Cancelled")
	b.until(`document.activeElement.id === "run" || document.activeElement.id === "other"`)
	if state := js[string](b, hanging+`.innerText`); !strings.Contains(state, "Cancelled") || !strings.Contains(state, "You stopped this run") {
		t.Errorf("the model that was stopped says %q", state)
	}
	id := b.text("[data-totals] [data-slot=requestId]")
	eventually(t, "the run is recorded as cancelled", func() bool {
		return s.count(t, `select count(*) from public.prompt_runs where id = $1 and status = 'cancelled'`, id) == 1
	})

	// Once more, without the model that hangs.
	js[any](b, `document.querySelector("#other").value = "", 0`)
	b.click("#run")
	b.shows("[data-totals] [data-slot=status]", "All answered")
	id = b.text("[data-totals] [data-slot=requestId]")
	var cost, tokens string
	must(t, s.DB.QueryRow(t.Context(), `select '$' || trim_scale(total_cost_usd), total_tokens::text from public.prompt_runs where id = $1`, id).Scan(&cost, &tokens))
	if got := b.text("[data-totals] [data-slot=cost]"); got != cost {
		t.Errorf("the run costs %s, its row says %s", got, cost)
	}
	if got := b.text("[data-totals] [data-slot=tokens]"); got != tokens {
		t.Errorf("the run has %s tokens, its row says %s", got, tokens)
	}
	for _, slot := range []string{"cost", "input", "outputUsed", "duration", "firstToken"} {
		if n := js[int](b, `[...document.querySelectorAll("[data-answer] [data-slot=`+slot+`]")].filter((e) => e.innerText.match(/\d/)).length`); n != 3 {
			t.Errorf("%d answers have a value for %s, want 3", n, slot)
		}
	}
	b.shows("[data-answer] [data-slot=key]", "Fallback key")
}

func TestPlaygroundRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	b := s.adminTab(t)
	b.expect("the server responded with a status of 422")
	b.open("/playground")
	b.press("Hello")
	for _, box := range []string{"anthropic/claude-haiku-5-5", "google/gemini-3.8-flash", "openai/gpt-5-mini"} {
		b.click("[value='" + box + "']")
	}
	b.shows("#chosen", "No model chosen")
	b.click("#other")
	b.press("nobody/has-this")
	b.click("#run")
	b.shows("#problems", "models[0]")
	b.shows("#problems", "names no provider that is set up here")
	b.check()
}

func TestFiltersChangeThePage(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai", "anthropic")
	s.visitor().run(s.token(s.learner("ada@example.org")),
		`{"prompt":"Hello","models":["openai/gpt-5-mini","anthropic/claude-haiku-5-5"]}`).wants(t, http.StatusOK)
	b := s.adminTab(t)
	b.open("/usage")
	const chartData = `[...document.querySelectorAll("[data-chart]")].map((e) => document.getElementById(e.dataset.chart).textContent).join()`
	before := js[string](b, chartData)
	js[any](b, `window.still = true, 0`) // no page is loaded anew

	b.tabTo("#filter-provider")
	for range 10 { // a browser that pauses between two letters begins anew
		if b.press("Anth"); js[string](b, `document.querySelector("#filter-provider").value`) == "anthropic" {
			break
		}
	}
	b.until(`location.search.includes("provider=anthropic")`)
	b.until(`document.querySelectorAll("[aria-labelledby=by-group] tbody tr").length === 1`)
	b.settle()
	after := js[string](b, chartData)
	if after == before || strings.Contains(after, "gpt-5-mini") || !strings.Contains(after, "claude-haiku-5-5") {
		t.Error("the charts do not follow the filter")
	}
	if !js[bool](b, `window.still === true && document.activeElement.id === "filter-provider"`) {
		t.Error("the page was loaded anew, or the focus is lost")
	}
	b.until(`document.querySelector("[download]").href.includes("provider=anthropic")`)

	b.click("label:has(#range-today)")
	b.until(`location.search.includes("range=today") && location.search.includes("provider=anthropic")`)
	b.click("label:has(#range-custom)")
	b.until(`document.querySelector("#from").checkVisibility()`)

	// What a filter leaves nothing of.
	b.open("/usage?provider=anthropic&range=7d&key=user")
	b.shows("h2", "No runs in this period")
	b.click("section a.btn-primary")
	b.shows("h2", "By model")
	b.check()
}

func TestChartsAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai", "anthropic")
	s.visitor().run(s.token(s.learner("ada@example.org")),
		`{"prompt":"Hello","models":["openai/gpt-5-mini","anthropic/claude-haiku-5-5"]}`).wants(t, http.StatusOK)
	b := s.adminTab(t)
	b.open("/usage?range=7d")

	b.tabTo("[data-chart-legend] button")
	b.press(kb.Enter)
	b.until(`document.querySelector("[data-chart-legend] button").getAttribute("aria-pressed") === "false"`)
	b.tabTo("figure summary")
	b.press(kb.Enter)
	b.shows("figure details[open] table", "openai/gpt-5-mini")

	box := js[[]float64](b, `(() => { const r = document.querySelector("[data-chart]").getBoundingClientRect(); return [r.right - 20, r.bottom - 60] })()`)
	eventually(t, "the chart tells the day", func() bool { // a chart that is just being drawn anew hides it again
		must(t, b.try(chromedp.MouseEvent(chromedp.MouseMoved, box[0]-5, box[1]), chromedp.MouseEvent(chromedp.MouseMoved, box[0], box[1])))
		return js[bool](b, `[...document.querySelectorAll(".chart-tip")].some((e) => e.innerText.includes("24 Nov 2026"))`)
	})
	b.check()
}

// Everything can be read, and every form sent, without scripts.
func TestWithoutScripts(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai", "anthropic", "google")
	b := s.adminTab(t)
	do(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	load := func(path string) {
		t.Helper()
		must(t, b.try(chromedp.Navigate(s.URL+path)))
	}
	load("/playground")
	if js[bool](b, `document.querySelector("#cancel").checkVisibility()`) {
		t.Error("a button that needs scripts is shown")
	}
	b.press("Explain RAG to a chef")
	b.click("#run")
	b.shows("[data-totals]", "All answered")
	b.shows("[data-answer]", "Fallback key")
	if n := js[int](b, `document.querySelectorAll("[data-answer]").length`); n != 3 {
		t.Errorf("%d answers, want 3", n)
	}

	load("/usage")
	b.shows("[aria-labelledby=by-group]", "gpt-5-mini")
	b.click("figure summary")
	b.shows("figure details[open] table", "openai/gpt-5-mini")
	js[any](b, `document.querySelector("#filter-provider").value = "openai", 0`)
	b.click("#filters button[type=submit]")
	b.until(`location.search.includes("provider=openai") && document.querySelectorAll("[aria-labelledby=by-group] tbody tr").length === 1`)

	load("/settings/budgets")
	b.click("#runsPerMinute")
	b.press("30")
	b.click("form[action='/settings/budgets'] button")
	b.shows("[role=status]", "Runs per minute and learner: 30 runs, was no limit.")
	b.shows("[aria-labelledby=keys]", "google")

	load("/usage")
	b.click("[aria-label='Dark theme']")
	b.until(`document.documentElement.dataset.theme === "dark" && location.pathname === "/usage"`)
	b.click("[aria-label='Sign out']")
	b.shows("h1", "Sign in")
}

func TestThemeSwitch(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.adminTab(t)
	b.open("/usage")
	background := js[string](b, `getComputedStyle(document.documentElement).backgroundColor`)
	b.click("[aria-label='Dark theme']")
	b.until(`document.documentElement.dataset.theme === "dark" && getComputedStyle(document.documentElement).backgroundColor !== ` + quoted(background))
	b.until(`document.querySelector("[aria-label='Dark theme']").getAttribute("aria-pressed") === "true"`)
	eventually(t, "the server is told", func() bool {
		b.open("/playground")
		return js[bool](b, `document.documentElement.dataset.theme === "dark"`)
	})
	b.click("[aria-label='Theme of the system']")
	b.until(`!document.documentElement.hasAttribute("data-theme")`)
}

func TestNavigationOnAPhone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.adminTab(t)
	b.set(look{"light", 390})
	b.open("/usage")
	b.tabTo("[aria-label='Open the navigation']")
	b.press(kb.Enter)
	b.until(`document.querySelector("#sidebar").matches(":popover-open")`)
	b.check()
	b.press(kb.Escape)
	b.until(`!document.querySelector("#sidebar").matches(":popover-open")`)
	b.press(kb.Enter)
	b.tabTo("#sidebar a[href='/playground']")
	b.press(kb.Enter)
	b.arrives("Playground")
}

func TestDemoDataIsRemovedWithAClick(t *testing.T) {
	t.Parallel()
	s := newSite(t).withDemo()
	b := s.adminTab(t)
	b.open("/playground")
	b.click(".banner summary")
	b.click(".banner button")
	b.shows("[role=status]", "The demo data is gone")
	b.shows("h2", "No runs in this period")
	b.until(`document.querySelector(".banner") === null`)
	if n := s.count(t, `select count(*) from public.prompt_attempts`); n != 0 {
		t.Errorf("%d attempts are left", n)
	}
}

// A session that has ended leads to the form, also from the middle of a page.
func TestFilterAfterTheSessionEnded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.adminTab(t)
	b.expect("the server responded with a status of 401")
	b.expect("Response Status Error Code 401") // htmx's
	b.open("/usage")
	_, err := s.DB.Exec(t.Context(), `delete from ops.sessions`)
	must(t, err)
	b.click("label:has(#range-7d)")
	b.shows("h1", "Sign in")
	if got := b.path(); !strings.HasPrefix(got, "/sign-in?next=%2Fusage%3Frange%3D7d") {
		t.Errorf("the address is %s", got)
	}
}

func TestCopyButton(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.adminTab(t)
	b.open("/playground")
	b.click(".playground-curl summary")
	b.until(fmt.Sprintf(`document.querySelector("#curl").textContent.includes(%s)`, quoted(s.URL+runPath)))
	b.click("[data-copy='#curl']")
	b.until(`document.querySelector("[data-copy='#curl']").getAttribute("aria-label").startsWith("Cop")`)
}

// From the keyboard: a limit is set, a wrong one refused and put right, and all
// of it undone.
func TestKeyboardSetsLimits(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.adminTab(t)
	b.expect("the server responded with a status of 422")
	b.open("/usage")
	b.tabTo("#sidebar a[href='/settings']")
	b.press(kb.Enter)
	b.arrives("Budgets")
	b.tabTo("#dailyUsd")
	b.press("12,50")
	b.tabTo("#concurrentRuns")
	b.press("2" + kb.Enter)
	b.shows("#dailyUsd-problem", "not an amount of dollars")
	b.until(`document.activeElement.id === "dailyUsd" && document.querySelector("#concurrentRuns").value === "2"`)
	b.check()

	js[any](b, `document.activeElement.select(), 0`)
	b.press("12.50")
	b.tabTo("form[action='/settings/budgets'] button")
	b.press(kb.Enter)
	b.shows("[role=status]", "Daily budget: $12.50, was no limit. Concurrent runs per learner: 2 runs, was no limit.")
	b.shows("[aria-labelledby=today]", "of $12.50")
	b.check()

	b.tabTo("#dailyUsd")
	js[any](b, `document.activeElement.select(), 0`)
	b.press(kb.Backspace + kb.Enter)
	b.shows("[role=status]", "Daily budget: no limit, was $12.50.")
	b.until(`document.querySelector("#dailyUsd").value === "" && document.querySelector("#concurrentRuns").value === "2"`)
}
