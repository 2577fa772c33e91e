package handlers_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/rollup"
)

const pricesPath = "/settings/prices"

// priceForm is the form of a page as it would be sent, with changes "name",
// "value", …
func priceForm(t *testing.T, page reply, changes ...string) string {
	t.Helper()
	values := url.Values{}
	for _, m := range regexp.MustCompile(`<input[^>]*>`).FindAllString(page.Text, -1) {
		name, value := attributeOf(m, "name"), attributeOf(m, "value")
		if name != "" && !strings.Contains(m, `type="checkbox"`) {
			values.Set(name, value)
		}
	}
	for i := 0; i < len(changes); i += 2 {
		values.Set(changes[i], changes[i+1])
	}
	return values.Encode()
}

func attributeOf(tag, name string) string {
	m := regexp.MustCompile(` ` + name + `="([^"]*)"`).FindStringSubmatch(tag)
	if m == nil {
		return ""
	}
	return strings.NewReplacer("&amp;", "&", "&#34;", `"`, "&lt;", "<", "&gt;", ">").Replace(m[1])
}

// recomputed waits for all that was started, as the loop of a node does.
func (s *site) recomputed() {
	s.t.Helper()
	must(s.t, price.NewRecomputer(s.PriceJobs, s.Log).RunOnce(s.t.Context(), s.Clock.Now()))
}

func TestPricesAreListed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	admin.get(pricesPath).wants(t, http.StatusOK).shows(t, "openai/gpt-5-mini", "$0.25", "In force today", "Above 200,000 input tokens", "UTC</span>")
	one := admin.get(pricesPath+"?provider=openai&q=GPT-5-MINI").wants(t, http.StatusOK).shows(t, "openai/gpt-5-mini", "1 model.")
	if strings.Contains(one.Text, "anthropic/claude") {
		t.Error("the filter lets all pass")
	}
	admin.get(pricesPath+"?q="+url.QueryEscape(`"><script>`)).wants(t, http.StatusOK).shows(t, "No price matches", "&lt;script&gt;")
	admin.get(pricesPath+"/model?name=openai/gpt-5-mini").wants(t, http.StatusOK).shows(t, "Came with the program", "From the beginning", "In force")
	admin.get(pricesPath+"/model?name=openai/unheard-of").wants(t, http.StatusOK).shows(t, "No price is known")
	for _, bad := range []string{"/model?name=openai", "/model", "/set?name=openai&corrects=1", "/jobs/1", "/jobs/x", "/recompute?name=x"} {
		admin.get(pricesPath+bad).wants(t, http.StatusNotFound)
	}
	seeded := s.first(`select id::text from ops.model_prices where model = 'gpt-5-mini'`)
	admin.get(pricesPath+"/set?name=openai/gpt-5-mini&corrects="+seeded).wants(t, http.StatusNotFound)
	admin.post(pricesPath+"/"+seeded+"/remove", "confirm=openai%2Fgpt-5-mini").wants(t, http.StatusUnprocessableEntity).shows(t, "came with the program and stays")
}

// A model without a price gets one from its page; the next run costs that, the one
// before when it is recomputed, and all of it can be taken back.
func TestAPriceFromNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	admin := s.as(account.RoleAdmin)
	ada := s.learner("ada@example.org")
	_, err := s.DB.Exec(t.Context(), `delete from ops.model_prices where provider = 'openai' and model = 'gpt-5-mini'`)
	must(t, err)
	must(t, s.Prices.RunOnce(t.Context(), s.Clock.Now()))
	run := func() reply {
		return s.visitor().send(http.MethodPost, "/api/ai/run", strings.NewReader(`{"prompt": "Explain RAG", "models": ["openai/gpt-5-mini"]}`),
			"Authorization", "Bearer "+s.token(ada), "Content-Type", "application/json").wants(t, http.StatusOK)
	}
	run().shows(t, `"costSource":"unpriced"`)
	list := admin.get(pricesPath).wants(t, http.StatusOK).shows(t, "Models of which nobody knows what they cost", "Set price")
	if !strings.Contains(list.Text, "/settings/prices/set?name=openai%2Fgpt-5-mini") {
		t.Error("nothing leads to its form")
	}
	form := admin.get(pricesPath+"/set?name=openai/gpt-5-mini").wants(t, http.StatusOK)
	refused := admin.post(pricesPath+"/set", priceForm(t, form, "input", "1,5", "output", "1e3", "source", "")).wants(t, http.StatusUnprocessableEntity).
		shows(t, "Nothing was saved: see what is marked below.", `value="1,5"`, "write it like 0.25", "so that others can check")
	evil := `<script>alert(1)</script>`
	set := admin.post(pricesPath+"/set", priceForm(t, refused, "input", "2", "output", "10", "source", "=HYPERLINK(1)", "note", evil)).wants(t, http.StatusSeeOther)
	page := admin.get(set.Header.Get("Location")).wants(t, http.StatusOK).shows(t, "Saved: it prices every run", "Set by", "=HYPERLINK(1)", "&lt;script&gt;alert(1)", "recompute what they cost")
	if strings.Contains(page.Text, evil) {
		t.Error("a note is markup")
	}
	csv := admin.get(pricesPath+".csv").wants(t, http.StatusOK)
	if !strings.Contains(csv.Text, "'=HYPERLINK(1)") || strings.Contains(csv.Text, ",=HYPERLINK") {
		t.Error("a source is a formula")
	}
	admin.get("/settings/audit").shows(t, "price.set", "openai/gpt-5-mini")
	run().shows(t, `"costSource":"computed"`)

	preview := admin.get(pricesPath+"/recompute?name=openai/gpt-5-mini").wants(t, http.StatusOK).shows(t, "What it would come to", "Get a price", "Recompute 1 attempts")
	started := admin.post(pricesPath+"/recompute", priceForm(t, preview)).wants(t, http.StatusSeeOther)
	job := started.Header.Get("Location")
	admin.get(job).wants(t, http.StatusOK).shows(t, "Going on", `hx-trigger="every 2s"`, "Look again")
	admin.post(job+"/undo", "").wants(t, http.StatusConflict).shows(t, "is going on")
	admin.post(pricesPath+"/set", priceForm(t, form, "input", "3", "output", "3", "source", "x")).wants(t, http.StatusConflict).shows(t, "being recomputed")
	s.recomputed()
	admin.get(job, "HX-Request", "true").wants(t, http.StatusOK).shows(t, "Done", "Undo")
	if n := s.first(`select count(*)::text from public.prompt_attempts where cost_source = 'unpriced'`); n != "0" {
		t.Errorf("%s attempts are unpriced", n)
	}
	if same := s.first(`select (count(distinct (cost_usd, price_id)) = 1)::text from public.prompt_attempts`); same != "true" {
		t.Error("both runs used the same tokens, and cost something else")
	}
	id := s.first(`select id::text from public.prompt_runs order by id limit 1`)
	admin.get("/runs/"+id).wants(t, http.StatusOK).shows(t, "/settings/prices/model?name=openai%2Fgpt-5-mini#price-")
	back := admin.post(job+"/undo", "").wants(t, http.StatusSeeOther).Header.Get("Location")
	s.recomputed()
	admin.get(back).wants(t, http.StatusOK).shows(t, "It puts back what")
	admin.get(job).wants(t, http.StatusOK).shows(t, "taken back")
	admin.post(job+"/undo", "").wants(t, http.StatusConflict)
	if n := s.first(`select count(*)::text from public.prompt_attempts where cost_source = 'unpriced'`); n != "1" {
		t.Errorf("%s attempts are unpriced again", n)
	}
}

func TestAPriceIsCorrectedAndRemoved(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	form := admin.get(pricesPath+"/set?name=openai/gpt-5-mini").wants(t, http.StatusOK).shows(t, `value="0.25"`, `value="2026-11-24T12:0`)
	admin.post(pricesPath+"/set", priceForm(t, form, "source", "our contract", "input", "0.2")).wants(t, http.StatusSeeOther)
	id := s.first(`select id::text from ops.model_prices where not seeded`)
	edit := admin.get(pricesPath+"/set?name=openai/gpt-5-mini&corrects="+id).wants(t, http.StatusOK).shows(t, "Correct a price", `value="0.2"`, `value="our contract"`)
	admin.post(pricesPath+"/set", priceForm(t, edit)).wants(t, http.StatusSeeOther)
	admin.get(pricesPath+"/model?name=openai/gpt-5-mini").shows(t, "Nothing was changed")
	admin.post(pricesPath+"/set", priceForm(t, edit, "input", "0.21")).wants(t, http.StatusSeeOther)
	fixed := s.first(`select id::text from ops.model_prices where not seeded and withdrawn_at is null`)
	model := admin.get(pricesPath+"/model?name=openai/gpt-5-mini").wants(t, http.StatusOK).shows(t, "Corrected by", "$0.21", "Behind another")
	if p, _ := s.Prices.Book().Find("openai", "gpt-5-mini", s.Clock.Now()); p.Input.String() != "0.21" {
		t.Errorf("this node uses %s", p.Input)
	}
	// What is corrected a second time from the old page is a conflict; what was typed stays.
	admin.post(pricesPath+"/set", priceForm(t, edit, "input", "0.22")).wants(t, http.StatusConflict).shows(t, "Somebody else has changed the prices", `value="0.22"`)
	admin.post(pricesPath+"/"+fixed+"/remove", "confirm=gpt").wants(t, http.StatusUnprocessableEntity).shows(t, "must be the model’s name")
	admin.post(pricesPath+"/"+fixed+"/remove", "confirm=openai%2Fgpt-5-mini").wants(t, http.StatusSeeOther)
	admin.get(pricesPath+"/model?name=openai/gpt-5-mini").wants(t, http.StatusOK).shows(t, "Removed by", "2 prices that were corrected or removed")
	if strings.Contains(model.Text, "Removed by") {
		t.Error("it was gone before")
	}
	lead, _ := s.leadOf("lead@example.org", "Design")
	visitor := s.visitor(s.session(lead))
	visitor.get(pricesPath).wants(t, http.StatusForbidden)
	visitor.post(pricesPath+"/set", priceForm(t, form, "source", "x")).wants(t, http.StatusForbidden)
}

// Of two operators who set a price from the same page at once, one is told.
func TestTwoSetAPriceAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	operators := []*visitor{s.as(account.RoleAdmin), s.as(account.RoleAdmin)}
	form := operators[0].get(pricesPath + "/set?name=openai/gpt-5-mini")
	statuses := make([]int, 2)
	var both sync.WaitGroup
	for i, v := range operators {
		both.Go(func() {
			statuses[i] = v.post(pricesPath+"/set", priceForm(t, form, "source", "x", "input", []string{"1", "2"}[i])).StatusCode
		})
	}
	both.Wait()
	if statuses[0]+statuses[1] != http.StatusSeeOther+http.StatusConflict {
		t.Errorf("they were told %v", statuses)
	}
	if n := s.first(`select count(*)::text from ops.model_prices where not seeded`); n != "1" {
		t.Errorf("%s prices were set", n)
	}
}

// A preview of prices that changed since is shown anew instead of being done.
func TestAPreviewThatIsOutOfDate(t *testing.T) {
	t.Parallel()
	s := newSite(t).withDemo()
	admin := s.as(account.RoleAdmin)
	name := s.first(`select model from public.prompt_attempts where cost_source = 'computed' and model <> 'openai/gpt-5-mini' group by 1 order by count(*) desc limit 1`)
	form := admin.get(pricesPath + "/set?name=" + url.QueryEscape(name))
	admin.post(pricesPath+"/set", priceForm(t, form, "source", "x", "input", "9", "from", "")).wants(t, http.StatusSeeOther)
	preview := admin.get(pricesPath+"/recompute?from=2026-11-23&name="+url.QueryEscape(name)).wants(t, http.StatusOK)
	admin.post(pricesPath+"/set", priceForm(t, admin.get(pricesPath+"/set?name="+url.QueryEscape(name)), "source", "x", "input", "8", "from", "2026-11-01")).wants(t, http.StatusSeeOther)
	admin.post(pricesPath+"/recompute", priceForm(t, preview)).wants(t, http.StatusConflict).shows(t, "Somebody else has changed the prices", "What it would come to now")
	if n := s.first(`select count(*)::text from ops.price_jobs`); n != "0" {
		t.Errorf("%s were started", n)
	}
	admin.get(pricesPath+"/recompute?name="+url.QueryEscape(name)+"&from=soon").wants(t, http.StatusUnprocessableEntity).shows(t, "is not a time")
}

// What pages show after a recomputation is the sum of the attempts, though sums of
// them had been made before.
func TestUsageFollowsRecomputation(t *testing.T) {
	t.Parallel()
	s := newSite(t).withDemo()
	admin := s.as(account.RoleAdmin)
	roller := rollup.NewRoller(s.DB, time.UTC, s.Log)
	roll := func() {
		t.Helper()
		eventually(t, "the sums are made", func() bool {
			done, err := roller.RunOnce(t.Context())
			must(t, err)
			return done
		})
	}
	roll()
	name := s.first(`select model from public.prompt_attempts where cost_source = 'computed' group by 1 order by count(*) desc limit 1`)
	total := func() string {
		return s.first(`select trim_scale(sum(cost_usd))::text from public.prompt_attempts where created_at >= '2026-10-26' and created_at < '2026-11-25'`)
	}
	check := func(when string) {
		t.Helper()
		want := total()
		file := admin.get("/usage.csv?from=2026-10-26&to=2026-11-24").wants(t, http.StatusOK)
		var sum price.USD
		lines := strings.Split(strings.TrimSpace(file.Text), "\r\n")
		column := -1
		for i, head := range strings.Split(lines[0], ",") {
			if head == "cost_usd" {
				column = i
			}
		}
		for _, line := range lines[1:] {
			if cell := strings.Split(line, ",")[column]; cell != "" {
				usd, err := price.ParseUSD(cell)
				must(t, err)
				sum = sum.Add(usd)
			}
		}
		if sum.String() != want {
			t.Errorf("%s: AI Usage says %s, the attempts %s", when, sum, want)
		}
	}
	before := total()
	check("before")
	form := admin.get(pricesPath + "/set?name=" + url.QueryEscape(name))
	admin.post(pricesPath+"/set", priceForm(t, form, "source", "x", "input", "123.456", "from", "")).wants(t, http.StatusSeeOther)
	many := admin.get(pricesPath+"/recompute?name="+url.QueryEscape(name)).wants(t, http.StatusOK)
	previewing := admin.post(pricesPath+"/recompute/preview", priceForm(t, many)).wants(t, http.StatusSeeOther).Header.Get("Location")
	s.recomputed()
	admin.post(pricesPath+"/recompute", priceForm(t, admin.get(previewing))).wants(t, http.StatusSeeOther)
	s.recomputed()
	if total() == before {
		t.Fatal("nothing costs anything else")
	}
	check("at once")
	roll()
	check("after the sums were made anew")
	counters := `select md5(string_agg(scope || subject || period || trim_scale(used_usd), ',' order by scope, subject, period)) from ops.budget_counters where used_usd <> 0 and period >= '2026-11-01'`
	kept := s.first(counters)
	must(t, s.Budgets.Recount(t.Context(), s.Clock.Now()))
	if again := s.first(counters); again != kept {
		t.Error("what fallback keys have spent was not the sum of the attempts")
	}
}

// Of very many attempts a page says how many there are; what it would come to is
// reckoned in the background, and starts from there.
func TestAPreviewOfVeryMany(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	_, err := s.DB.Exec(t.Context(), `
		with runs as (
		  insert into public.prompt_runs (id, created_at, user_id, models, status, finished_at, total_cost_usd, unpriced)
		  select gen_random_uuid(), $1::timestamptz - n * interval '1 second', gen_random_uuid(), '{openai/gpt-5-mini}', 'success', $1, 1, 0 from generate_series(1, 2500) n
		  returning id, created_at
		)
		insert into public.prompt_attempts (run_id, ordinal, created_at, provider, model, status, tries, input_tokens, output_tokens, usage_source, cost_usd, cost_source)
		select id, 0, created_at, 'openai', 'openai/gpt-5-mini', 'ok', 1, 1000, 10, 'reported', 1, 'computed' from runs`, s.Clock.Now().Add(-time.Hour))
	must(t, err)
	address := pricesPath + "/recompute?name=openai/gpt-5-mini"
	many := admin.get(address).wants(t, http.StatusOK).shows(t, "2,500 attempts", "Too many to work out while you wait", "Preview 2,500 attempts")
	if strings.Contains(many.Text, "What it would come to") {
		t.Error("it was reckoned at once")
	}
	admin.post(pricesPath+"/recompute/preview", "name=nothing").wants(t, http.StatusUnprocessableEntity)
	preview := func(page reply) string {
		t.Helper()
		return admin.post(pricesPath+"/recompute/preview", priceForm(t, page)).wants(t, http.StatusSeeOther).Header.Get("Location")
	}
	first := preview(many)
	admin.get(first).wants(t, http.StatusOK).shows(t, "Preview of openai/gpt-5-mini", "Reckoning", `hx-trigger="every 2s"`, "Look again", "Nothing is changed yet")
	s.recomputed()
	admin.get(first, "HX-Request", "true").wants(t, http.StatusOK).shows(t, "Done", "Recompute 2,500 attempts", "−$2,499.")
	admin.get(pricesPath).wants(t, http.StatusOK)

	// Prices that change make it worthless: it says so, and its form does nothing.
	stale := admin.get(first)
	form := admin.get(pricesPath + "/set?name=openai/gpt-5-mini")
	admin.post(pricesPath+"/set", priceForm(t, form, "source", "x", "input", "9", "from", "")).wants(t, http.StatusSeeOther)
	admin.post(pricesPath+"/recompute", priceForm(t, stale)).wants(t, http.StatusConflict).shows(t, "Somebody else has changed the prices", "Have it previewed anew", "Preview 2,500 attempts")
	outdated := admin.get(first).wants(t, http.StatusOK).shows(t, "not what it would come to any more", "Preview anew")
	second := preview(outdated)
	s.recomputed()
	done := admin.get(second).wants(t, http.StatusOK).shows(t, "Recompute 2,500 attempts")

	// One is changed by somebody else before it starts: it is told that it came to something else.
	_, err = s.DB.Exec(t.Context(), `update public.prompt_attempts set cost_usd = 3 where run_id = (select run_id from public.prompt_attempts limit 1)`)
	must(t, err)
	job := admin.post(pricesPath+"/recompute", priceForm(t, done)).wants(t, http.StatusSeeOther).Header.Get("Location")
	admin.post(pricesPath+"/recompute/preview", priceForm(t, many)).wants(t, http.StatusConflict).shows(t, "being recomputed")
	s.recomputed()
	admin.get(job).wants(t, http.StatusOK).shows(t, "Undo", "The preview said something else: 2,500 attempts, ")
	admin.post(second+"/undo", "").wants(t, http.StatusUnprocessableEntity).shows(t, "A preview changes nothing")
	again := admin.post(pricesPath+"/recompute", priceForm(t, done)).wants(t, http.StatusSeeOther).Header.Get("Location")
	s.recomputed()
	admin.get(again).shows(t, "Done", "The preview said something else")
}
