package handlers_test

import (
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/view"
)

// pricesShown are the pages of prices and of saved views.
func pricesShown(t *testing.T, empty *site, newcomer *http.Cookie) []shown {
	t.Helper()
	s := newSite(t).withDemo()
	marta := named(s, "marta@example.org", "Marta Lindqvist")
	admin := s.session(marta)
	done, going := s.pricesSet(marta)
	previewed, previewing := s.previewed(marta, "gpt-6-luna", true), s.previewed(marta, "gpt-5-mini", false)
	ben := named(s, "ben@example.org", "Ben Okri")
	s.viewSaved(marta, view.New{Page: "/usage", Name: "Fallback keys this week", Query: "key=fallback&range=7d", Shared: true, Default: true})
	s.viewSaved(marta, view.New{Page: "/usage", Name: "Half a year", Query: "range=180d"})
	s.viewSaved(ben, view.New{Page: "/usage", Name: "OpenAI, by whoever pays for it in the end", Query: "provider=openai&range=30d", Shared: true})
	return []shown{
		{name: "prices", site: s, who: admin, path: "/settings/prices", main: "tbody a.btn", says: "Models of which nobody knows"},
		{name: "prices-none", site: empty, who: newcomer, path: "/settings/prices?q=nobody", main: "main a.btn-primary", says: "No price matches"},
		{name: "price-model", site: s, who: admin, path: "/settings/prices/model?name=openai/gpt-5-mini", do: unfold, main: "#recompute button", says: "Recompute what attempts cost"},
		{name: "price-model-unknown", site: empty, who: newcomer, path: "/settings/prices/model?name=openai/gpt-9", main: "#recompute button", says: "No price is known"},
		{name: "price-set", site: s, who: admin, path: "/settings/prices/set?name=google/gemini-2.5-pro", do: unfold, main: "form[action='/settings/prices/set'] button", says: "In force today"},
		{name: "price-new", site: empty, who: newcomer, path: "/settings/prices/set", main: "form[action='/settings/prices/set'] button", says: "Its id, like openai."},
		{name: "price-refused", site: s, who: admin, path: "/settings/prices/set?name=openai/gpt-5-nano", do: refusedPrice, main: "form[action='/settings/prices/set'] button", says: "Nothing was saved: ", errs: "422"},
		{name: "price-recompute", site: s, who: admin, path: "/settings/prices/recompute?name=openai/gpt-6-luna&from=2026-11-23", main: "form[action='/settings/prices/recompute'] button", says: "What it would come to"},
		{name: "price-recompute-many", site: s, who: admin, path: "/settings/prices/recompute?name=openai/gpt-5-mini", main: "form[action$=preview] button", says: "Too many to work out while you wait"},
		{name: "price-previewing", site: s, who: admin, path: previewing, main: "main .crumb a", says: "Reckoning"},
		{name: "price-previewed", site: s, who: admin, path: previewed, main: "form[action='/settings/prices/recompute'] button", says: "Nothing is changed yet"},
		{name: "price-job", site: s, who: admin, path: done, main: "form[action$=undo] button", says: "Undo"},
		{name: "price-job-going", site: s, who: admin, path: going, main: "main .crumb a", says: "Going on"},
		{name: "usage-views", site: s, who: admin, path: "/usage?key=fallback&range=7d", do: openViews, main: ".saved form[action='/views'] button", says: "Save the present filters"},
	}
}

// pricesSet sets prices and recomputes some: a job that is done, and one that goes
// on.
func (s *site) pricesSet(who account.Operator) (done, going string) {
	s.t.Helper()
	ctx, now := s.t.Context(), s.Clock.Now()
	by := audit.Operator(who.ID, who.Email)
	set := func(name string, corrects int64, fields url.Values) int64 {
		s.t.Helper()
		for field, value := range map[string]string{"provider": "openai", "model": name, "source": "https://openai.com/api/pricing", "output": "2"} {
			fields.Set(field, value)
		}
		p, err := price.Parse(fields, time.UTC)
		must(s.t, err)
		entries, err := s.PriceStore.History(ctx, "openai", name)
		must(s.t, err)
		id, _, err := s.PriceStore.Set(ctx, price.Change{Price: p, Corrects: corrects, Seen: price.Seen(entries)}, by, now)
		must(s.t, err)
		return id
	}
	first := set("gpt-5-mini", 0, url.Values{"input": {"2.4"}, "from": {"2026-10-01"}, "note": {"A mistake: ten times as much."}})
	set("gpt-5-mini", first, url.Values{"input": {"0.24"}, "cacheRead": {"0.024"}, "from": {"2026-10-01"}, "note": {"As agreed with the vendor in September."}})
	set("gpt-6-luna", 0, url.Values{"input": {"0.321"}, "tierAbove": {"200000"}, "tierInput": {"0.642"}})
	start := func(name string) string {
		s.t.Helper()
		span, err := price.ParseSpan(url.Values{"name": {"openai/" + name}}, now, time.UTC)
		must(s.t, err)
		entries, err := s.PriceStore.History(ctx, "openai", name)
		must(s.t, err)
		sums, err := s.PriceJobs.Preview(ctx, span)
		must(s.t, err)
		id, err := s.PriceJobs.Start(ctx, span, price.Seen(entries), &sums, by, now)
		must(s.t, err)
		return "/settings/prices/jobs/" + strconv.FormatInt(id, 10)
	}
	done = start("gpt-5-mini")
	s.recomputed()
	going = start("gpt-5.6-luna")
	if _, err := price.NewRecomputer(s.PriceJobs, s.Log).Step(ctx, now); err != nil {
		s.t.Fatal(err)
	}
	return done, going
}

// previewed starts a preview, and has it done.
func (s *site) previewed(who account.Operator, model string, done bool) (address string) {
	s.t.Helper()
	span, err := price.ParseSpan(url.Values{"name": {"openai/" + model}}, s.Clock.Now(), time.UTC)
	must(s.t, err)
	size, err := s.PriceJobs.Size(s.t.Context(), span)
	must(s.t, err)
	id, err := s.PriceJobs.StartPreview(s.t.Context(), span, size, audit.Operator(who.ID, who.Email), s.Clock.Now())
	must(s.t, err)
	for done { // previews come before what is going on
		_, err := price.NewRecomputer(s.PriceJobs, s.Log).Step(s.t.Context(), s.Clock.Now())
		must(s.t, err)
		job, err := s.PriceJobs.Find(s.t.Context(), id)
		must(s.t, err)
		done = !job.Done()
	}
	return "/settings/prices/jobs/" + strconv.FormatInt(id, 10)
}

func (s *site) viewSaved(who account.Operator, n view.New) {
	s.t.Helper()
	_, err := s.Views.Save(s.t.Context(), view.Viewer{OperatorID: who.ID, Admin: true}, n, audit.Operator(who.ID, who.Email), s.Clock.Now())
	must(s.t, err)
}

func refusedPrice(b *tab) {
	js[any](b, `document.querySelector("#input").value = "1,5", document.querySelector("#tierAbove").value = "200000", 0`)
	js[any](b, `document.querySelector("form[action='/settings/prices/set']").submit(), 0`)
	b.shows("main", "Nothing was saved")
	b.settle()
}

func openViews(b *tab) {
	js[any](b, `document.querySelector(".saved").open = true, document.querySelector(".saved-edit").open = true, 0`)
}
