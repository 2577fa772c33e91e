package handlers_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/promptcademy/promptops/internal/account"
)

// steady spends a dollar at eleven on each of the last 20 days, and half a dollar today.
func (s *site) steady() {
	s.t.Helper()
	_, err := s.DB.Exec(s.t.Context(), `select ops.ensure_partitions($1::date, $2::date)`, s.Clock.Now().AddDate(0, 0, -40), s.Clock.Now())
	must(s.t, err)
	for day := range 20 {
		s.spent(time.Duration(day+1)*24*time.Hour+time.Hour, "ok", "1")
	}
	s.spent(time.Hour, "ok", "0.5")
}

// It is noon of 24 November: twenty and a half dollars are spent, and the rest of
// today and six days are to come.
func TestForecastOnThePages(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	admin := s.as(account.RoleAdmin)
	s.spent(time.Hour, "ok", "0.5")
	admin.get("/usage").wants(t, http.StatusOK).shows(t, "Forecast for November 2026", "Not enough days yet", "a forecast needs 14 complete days, and there are 0")

	s = newSite(t).withKeys("openai")
	admin = s.as(account.RoleAdmin)
	s.steady()
	for _, path := range []string{"/", "/usage", "/usage?range=today", "/usage?provider=openai"} {
		page := admin.get(path).wants(t, http.StatusOK).shows(t, "Forecast for November 2026", "<strong>$27.00</strong>", "between $27.00 and $27.00", "$20.50")
		if strings.Contains(page.Text, "The daily budget of") {
			t.Errorf("%s makes up a budget", path)
		}
	}
	_, err := s.DB.Exec(t.Context(), `insert into ops.budgets (daily_usd) values (0.80)`)
	must(t, err)
	for _, path := range []string{"/", "/usage", "/usage?key=fallback"} {
		admin.get(path).wants(t, http.StatusOK).shows(t, "The daily budget of $0.80 comes to $24.00 in the 30 days of the month; the forecast is 112.5% of that.", "Over budget")
	}
	admin.get("/usage?key=fallback").shows(t, `"mark":{"name":"Daily budget","text":"$0.80","value":0.8}`)
	for _, path := range []string{"/usage?key=user", "/usage?provider=openai", "/usage?key=fallback&model=openai%2Fgpt-5-mini"} {
		if page := admin.get(path).wants(t, http.StatusOK); strings.Contains(page.Text, "The daily budget of") || strings.Contains(page.Text, `"mark"`) {
			t.Errorf("%s is compared with a budget that is about more or something else", path)
		}
	}

	lead, teams := s.leadOf("lead@example.org", "Team")
	_, err = s.DB.Exec(t.Context(), `update public.prompt_attempts set team_id = $1 where cost_usd = 1`, teams[0])
	must(t, err)
	page := s.visitor(s.session(lead)).get("/usage").wants(t, http.StatusOK).shows(t, "Forecast for November 2026", "$20.00")
	if strings.Contains(page.Text, "The daily budget of") || strings.Contains(page.Text, "$20.50") {
		t.Error("a lead is shown a budget, or what others spent")
	}
}

func TestPatternsOnAIUsage(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	s.steady()
	admin := s.as(account.RoleAdmin)
	// Of the seven days before, the last one counts until noon, too.
	page := admin.get("/usage?range=7d&key=fallback").wants(t, http.StatusOK).shows(t,
		"What changed most", "compared with 11 – 17 Nov 2026", "Today is not over", "$7.00 → $6.50", "−$0.50", "−7.1%", "Nothing cost more than before.",
		"Cost by hour of the week", "Most on Mondays from 11 to 12 h: $1.00 an hour.", "Tuesday, 11 to 12 h: $0.50 an hour, $0.50 in all, of 1 h",
		`href="/runs?from=2026-11-24&amp;key=fallback&amp;to=2026-11-24"`, `href="/usage?key=fallback&amp;metric=runs&amp;range=7d#hours"`)
	admin.get("/usage?range=7d&metric=runs").wants(t, http.StatusOK).shows(t, "Runs by hour of the week", "Most on Mondays from 11 to 12 h: 1 run an hour.")
	for _, link := range []string{
		"/runs?from=2026-11-24&key=fallback&to=2026-11-24",
		"/runs?key=fallback&from=2026-11-23&to=2026-11-23&model=openai%2Fgpt-5-mini",
	} {
		if !strings.Contains(page.Text, `href="`+strings.ReplaceAll(link, "&", "&amp;")+`"`) {
			t.Errorf("the page does not lead to %s", link)
		}
		admin.get(link).wants(t, http.StatusOK).shows(t, "Nov 2026 · UTC")
	}
}

// A click on a column leads to its runs, a drag over several chooses their days.
func TestChartsLeadAndChoose(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	s.steady()
	b := s.adminTab(t)
	b.open("/usage?range=7d")
	at := func(column float64) (x, y float64) { // of seven, beside an axis
		box := js[[]float64](b, `(() => { const r = document.querySelector("[data-chart]").getBoundingClientRect(); return [r.left, r.right, r.top + r.height / 2] })()`)
		left := box[0] + 50
		return left + (box[1]-left)*(column+0.5)/7, box[2]
	}
	mouse := func(kind input.DispatchMouseEventType, column float64) {
		t.Helper()
		x, y := at(column)
		must(t, b.try(chromedp.MouseEvent(kind, x, y, chromedp.Button("left"))))
	}
	mouse(chromedp.MousePressed, 2)
	for _, column := range []float64{2.4, 3, 3.5, 4} {
		mouse(chromedp.MouseMoved, column)
	}
	b.until(`!document.querySelector(".chart-brush").hidden`)
	mouse(chromedp.MouseReleased, 4)
	b.until(`location.pathname === "/usage" && location.search.includes("from=2026-11-20") && location.search.includes("to=2026-11-22")`)
	b.settle()
	b.open("/usage?range=7d")
	x, y := at(6)
	must(t, b.try(chromedp.MouseClickXY(x, y)))
	b.until(`location.pathname === "/runs" && location.search.includes("from=2026-11-24") && location.search.includes("to=2026-11-24")`)
	b.shows("main", "24 Nov 2026 · UTC")
	b.check()
}
