package views

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"
)

var pricesAt = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func priceRows() []PriceRow {
	return []PriceRow{
		{Name: "openai/gpt-5-mini", Provider: "OpenAI", Input: Rate{"$0.25", false}, Cached: Rate{"$0.025", false}, Write5m: Rate{"$0.25", true}, Write1h: Rate{"$0.25", true},
			Output: Rate{"$2.00", false}, Since: "The beginning", Source: "openai.com", Link: "https://openai.com/api/pricing", Dated: "31 Oct 2026"},
		{When: "Above 200,000 input tokens", Input: Rate{"$0.50", false}, Cached: Rate{"$0.50", true}, Write5m: Rate{"$0.50", true}, Write1h: Rate{"$0.50", true}, Output: Rate{"$2.00", true}},
		{Name: "deepseek/deepseek-chat", Provider: "DeepSeek", When: "16:30–00:30 UTC", Input: Rate{"$0.135", false}, Cached: Rate{"$0.0175", false}, Write5m: Rate{"$0.135", true},
			Write1h: Rate{"$0.135", true}, Output: Rate{"$0.55", false}, Since: "1 Oct 2026, 00:00 CEST", Until: "1 Dec 2026, 00:00 CET", Source: "our contract", Own: true},
	}
}

func unpricedLine() UnpricedLine {
	return UnpricedLine{Name: "openrouter/acme/new-1", Provider: "OpenRouter", Attempts: "1,204", Tokens: "2,345,678", First: MomentOf(pricesAt.AddDate(0, -1, 0), time.UTC), Last: MomentOf(pricesAt, time.UTC)}
}

func jobLines() []PriceJobLine {
	return []PriceJobLine{
		{ID: "2", Model: "openai/gpt-5-mini", What: "Recomputing", By: "marta@example.org", At: MomentOf(pricesAt, time.UTC), Mark: PriceMark{"Going on", "info"}, Changed: "500 of 500 attempts", Amount: "+$0.0123"},
		{ID: "1", Model: "openai/gpt-5-mini", What: "Recomputed", By: "command line", At: MomentOf(pricesAt.AddDate(0, 0, -1), time.UTC), Mark: PriceMark{"Taken back", "neutral"}, Changed: "1 of 2 attempts", Amount: "−$1.00"},
	}
}

func pricesPage() PricesPage {
	return PricesPage{
		Page: page("Prices", "/settings/prices"), Providers: []Option{{Label: "All providers", Selected: true}, {Value: "openai", Label: "OpenAI"}}, Count: "2 models",
		Unpriced: []UnpricedLine{unpricedLine(), {Name: "openai/gpt-9", Attempts: "1", Tokens: "3", First: MomentOf(pricesAt, time.UTC), Last: MomentOf(pricesAt, time.UTC), Priced: true}},
		Rows:     priceRows(), Jobs: jobLines(), CSV: "/settings/prices.csv",
	}
}

func priceModelPage() PriceModelPage {
	unpriced := unpricedLine()
	unpriced.Priced = true
	return PriceModelPage{
		Page: page("openai/gpt-5-mini", "/settings/prices"), Name: "openai/gpt-5-mini", Provider: "OpenAI", Zone: "Europe/Berlin", Unpriced: &unpriced, Now: priceRows()[:2], Jobs: jobLines(),
		Entries: []PriceEntry{
			{ID: "12", Mark: PriceMark{"In force", "success"}, Span: "From 31 Oct 2026, 14:00 CET", Rows: priceRows()[2:], Note: "As agreed in October.", By: "marta@example.org", At: MomentOf(pricesAt, time.UTC)},
			{ID: "3", Mark: PriceMark{"Behind another", "neutral"}, Span: "From the beginning", Rows: priceRows()[:2]},
		},
		Gone: []PriceEntry{{
			ID: "11", Mark: PriceMark{"Corrected", "neutral"}, Span: "From the beginning", Rows: priceRows()[:1], By: "marta@example.org", At: MomentOf(pricesAt, time.UTC),
			Gone: &PriceGone{By: "olga@example.org", At: MomentOf(pricesAt, time.UTC), Replaced: "12"},
		}},
	}
}

func setPricePage() SetPricePage {
	values := url.Values{"provider": {"openai"}, "model": {"gpt-5-mini"}, "input": {"1,5"}, "output": {"2"}, "tierAbove": {"200000"}, "from": {"2026-11-24T13:00"}, "source": {"our contract"}}
	return SetPricePage{
		Page: page("Correct a price of openai/gpt-5-mini", "/settings/prices"), Name: "openai/gpt-5-mini", Corrects: "12", Seen: "3.12.0", Zone: "Europe/Berlin",
		Problem: "Nothing was saved: see what is marked below.", Now: priceRows()[:2],
		Fields: NewPriceFields(values, map[string]string{"input": "This is not an amount of dollars.", "tierInput": "This is needed where there is a tier."}, "Europe/Berlin"),
	}
}

func recomputePage() RecomputePage {
	return RecomputePage{
		Page: page("Recompute openai/gpt-5-mini", "/settings/prices"), Name: "openai/gpt-5-mini", Zone: "Europe/Berlin",
		Preview: &RecomputePreview{
			Span:   "from the beginning until 24 Nov 2026, 13:00 CET",
			Sums:   PriceSums{Seen: "1,300", Changed: "1,204", Priced: "4", Unpriced: "1", Kept: "2", Old: "$12.34", New: "$13.34", Difference: "+$1.00", More: true},
			Values: url.Values{"name": {"openai/gpt-5-mini"}, "seen": {"3.12.0"}},
		},
	}
}

func priceJobPage() PriceJobPage {
	job := PriceJobPage{
		Page: page("Recomputed openai/gpt-5-mini", "/settings/prices"), Job: jobLines()[0], Span: "from the beginning until 24 Nov 2026, 13:00 CET", Running: true,
		Sums: recomputePage().Preview.Sums, Percent: "38.5%", Bar: 0.385, CameTo: new(MomentOf(pricesAt.AddDate(0, 0, -9), time.UTC)),
	}
	return job
}

// pricesPages are the goldens of prices.
func pricesPages() map[string]templ.Component {
	none := PricesPage{Page: page("Prices", "/settings/prices"), Search: "nobody", Narrowed: true, Providers: pricesPage().Providers, Count: "0 models", CSV: "/settings/prices.csv"}
	unknown := PriceModelPage{Page: page("openai/gpt-9", "/settings/prices"), Name: "openai/gpt-9", Provider: "OpenAI", Zone: "UTC", Unpriced: new(unpricedLine())}
	anew := SetPricePage{Page: page("Set a price", "/settings/prices"), Zone: "UTC", Fields: NewPriceFields(nil, nil, "UTC")}
	refused := RecomputePage{Page: recomputePage().Page, Name: "openai/gpt-5-mini", Zone: "UTC", Problem: "The span could not be used: see what is marked below.",
		Form: RecomputeForm{From: "soon", Reported: true, Problems: map[string]string{"from": "This is not a time."}}}
	done := priceJobPage()
	done.Running, done.Job.Mark, done.CanUndo = false, PriceMark{"Done", "success"}, true
	undone := done
	undone.CanUndo, undone.UndoneBy = false, "3"
	done.Promised = "1,200 attempts, +$0.98"
	many := recomputePage()
	many.Preview, many.Many = nil, &RecomputeMany{Span: "from the beginning until 24 Nov 2026, 13:00 CET", Attempts: "812,345 attempts", Values: url.Values{"name": {"openai/gpt-5-mini"}}}
	uncounted := many
	uncounted.Many = &RecomputeMany{Span: many.Many.Span, Values: many.Many.Values}
	previewing := priceJobPage()
	previewing.Title, previewing.Preview, previewing.Job.What, previewing.Job.Mark = "Preview of openai/gpt-5-mini", true, "Preview of", PriceMark{"Reckoning", "info"}
	previewed := previewing
	previewed.Running, previewed.Job.Mark, previewed.Start = false, PriceMark{"Done", "success"}, recomputePage().Preview
	outdated := previewed
	outdated.Outdated = true
	return map[string]templ.Component{
		"prices": Prices(pricesPage()), "prices-none": Prices(none), "price-model": PriceModel(priceModelPage()), "price-model-unknown": PriceModel(unknown),
		"price-set": SetPrice(anew), "price-correct": SetPrice(setPricePage()), "price-recompute": Recompute(recomputePage()), "price-recompute-refused": Recompute(refused),
		"price-job": PriceJob(priceJobPage()), "price-job-done": PriceJob(done), "price-job-undone": PriceJob(undone),
		"price-recompute-many": Recompute(many), "price-recompute-uncounted": Recompute(uncounted), "price-previewing": PriceJob(previewing), "price-previewed": PriceJob(previewed), "price-preview-outdated": PriceJob(outdated),
		"saved-views": Usage(savedPage()),
	}
}

func savedPage() UsagePage {
	saved := UsagePage{Page: page("AI Usage", "/usage"), Period: "25 Oct – 23 Nov 2026", Empty: true, Filters: UsageFilters{Clear: "/usage?view=all"}}
	saved.Saved = &SavedViews{
		Page: "/usage", Query: "provider=openai&range=7d", All: "/usage?view=all", Now: "OpenAI this week", MayShare: true, HasDefault: true,
		Views: []SavedView{
			{ID: "v1", Name: "OpenAI this week", Href: "/usage?provider=openai&range=7d", Own: true, Shared: true, Default: true, Current: true},
			{ID: "v2", Name: "Fallback", Href: "/usage?key=fallback", Owner: "Ben Okri"},
		},
		Deleted: []SavedView{{ID: "v3", Name: "Old one"}},
	}
	return saved
}

func TestPricesTakeNamesAsText(t *testing.T) {
	evil := `</script><script>alert("x")</script><img src=x onerror=alert(1)>`
	list, model, set, recompute, job, saved := pricesPage(), priceModelPage(), setPricePage(), recomputePage(), priceJobPage(), savedPage()
	list.Search, list.Unpriced[0].Name, list.Rows[0].Name, list.Rows[0].Source, list.Rows[0].Link, list.Rows[1].When, list.Jobs[0].Model, list.Jobs[0].By = evil, evil, evil, evil, "javascript:alert(1)", evil, evil, evil
	model.Name, model.Entries[0].Note, model.Entries[0].By, model.Entries[0].Problem, model.Gone[0].Gone.By, model.Unpriced.Name = evil, evil, evil, evil, evil, evil
	set.Name, set.Fields, set.Problem, set.Corrects, set.Seen = evil, NewPriceFields(url.Values{"source": {evil}, "note": {evil}, "from": {evil}}, map[string]string{"note": evil}, evil), evil, evil, evil
	recompute.Name, recompute.Form.From, recompute.Preview.Values = evil, evil, url.Values{evil: {evil}}
	job.Job.Model, job.Job.By, job.UndoneBy, job.Job.ID, job.Promised, job.Start = evil, evil, evil, evil, evil, recompute.Preview
	recompute.Many = &RecomputeMany{Span: evil, Attempts: evil, Values: url.Values{evil: {evil}}}
	saved.Saved.Now, saved.Saved.Query, saved.Saved.Views[0].Name, saved.Saved.Views[1].Owner, saved.Saved.Deleted[0].Name = evil, evil, evil, evil, evil
	saved.Saved.Views[0].Href = "javascript:alert(1)"
	for name, page := range map[string]templ.Component{
		"prices": Prices(list), "model": PriceModel(model), "set": SetPrice(set), "recompute": Recompute(recompute), "job": PriceJob(job), "saved": Usage(saved),
	} {
		got := render(t, page)
		if strings.Contains(got, "<script>alert") || strings.Contains(got, "<img src=x") || strings.Contains(got, `href="javascript:`) {
			t.Errorf("%s takes a name as markup", name)
		}
	}
}
