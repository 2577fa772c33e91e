package handlers

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/views"
)

// bookOf is the entries that are on the list.
func bookOf(entries []price.Entry) *price.Book {
	var prices []price.Price
	for _, e := range entries {
		if e.WithdrawnAt == nil {
			prices = append(prices, e.Price)
		}
	}
	return price.NewBook(prices)
}

// pricesView writes out the list.
func (s *Server) pricesView(book *price.Book, unpriced []price.Unpriced, jobs []price.Job, providerID, search string, zone *time.Location, now time.Time) views.PricesPage {
	page := views.PricesPage{
		Search: search, Narrowed: providerID != "" || search != "", Providers: []views.Option{{Label: "All providers"}},
		CSV: pricesPath + ".csv", Jobs: jobLines(jobs, zone),
	}
	for _, u := range unpriced {
		page.Unpriced = append(page.Unpriced, s.unpricedLine(u, book, zone))
	}
	count, wanted := 0, strings.ToLower(strings.TrimSpace(search))
	for _, m := range book.Models(now) {
		if last := page.Providers[len(page.Providers)-1]; last.Value != m.Provider {
			page.Providers = append(page.Providers, views.Option{Value: m.Provider, Label: s.providerName(m.Provider)})
		}
		if providerID != "" && m.Provider != providerID || !strings.Contains(strings.ToLower(m.FullName()), wanted) {
			continue
		}
		count++
		page.Rows = append(page.Rows, s.modelRows(m, zone)...)
	}
	choose(page.Providers, providerID)
	page.Count = plural(int64(count), "model", "models")
	return page
}

// modelRows are the lines of a model: the first one has its name.
func (s *Server) modelRows(m price.Listed, zone *time.Location) []views.PriceRow {
	var rows []views.PriceRow
	for i, p := range m.Now {
		of := s.priceRows(p)
		of[0].Since = "The beginning"
		if p.EffectiveFrom != nil {
			of[0].Since = dayOrMoment(*p.EffectiveFrom, zone)
		}
		if p.EffectiveTo != nil {
			of[0].Until = dayOrMoment(*p.EffectiveTo, zone)
		}
		if i > 0 && of[0].When == "" {
			of[0].When = "At other times"
		}
		rows = append(rows, of...)
	}
	if len(rows) == 0 {
		rows = []views.PriceRow{{When: "None in force today"}}
	}
	rows[0].Name = m.FullName()
	return rows
}

// priceRows are the rates of a price, and those of its tier.
func (s *Server) priceRows(p price.Price) []views.PriceRow {
	row := views.PriceRow{
		Provider: s.providerName(p.Provider), Input: rate(&p.Input, p.Input), Output: rate(&p.Output, p.Output), Cached: rate(p.CacheRead, p.Input),
		Source: p.Source, Own: !p.Seeded,
	}
	row.Write5m = rate(p.CacheWrite5m, p.Input)
	row.Write1h = rate(p.CacheWrite1h, orElse(p.CacheWrite5m, p.Input))
	if at, err := url.Parse(p.Source); err == nil && (at.Scheme == "https" || at.Scheme == "http") && at.Host != "" {
		row.Link, row.Source = p.Source, at.Host
	}
	if p.SourceDate != nil {
		row.Dated = p.SourceDate.UTC().Format("2 Jan 2006")
	}
	if p.DailyFrom != nil && p.DailyTo != nil {
		row.When = clockOf(*p.DailyFrom) + "–" + clockOf(*p.DailyTo) + " UTC"
	}
	rows := []views.PriceRow{row}
	if p.TierAboveInputTokens != nil {
		input := orElse(p.TierInput, p.Input)
		tier := views.PriceRow{
			When: "Above " + views.Count(*p.TierAboveInputTokens) + " input tokens", Input: rate(p.TierInput, p.Input), Output: rate(p.TierOutput, p.Output),
			Cached: rate(p.TierCacheRead, input), Write5m: rate(p.TierCacheWrite5m, input), Write1h: rate(p.TierCacheWrite1h, orElse(p.TierCacheWrite5m, input)),
		}
		if row.When != "" {
			tier.When = row.When + ", " + strings.ToLower(tier.When[:1]) + tier.When[1:]
		}
		rows = append(rows, tier)
	}
	return rows
}

// dayOrMoment is an instant, in short where it is the beginning of a day.
func dayOrMoment(at time.Time, zone *time.Location) string {
	if local := at.In(zone); local.Format("15:04:05") == "00:00:00" {
		return local.Format("2 Jan 2006")
	}
	return views.MomentOf(at, zone).Local
}

func clockOf(d time.Duration) string { return time.Time{}.Add(d).Format("15:04") }

func orElse(listed *price.USD, otherwise price.USD) price.USD {
	if listed == nil {
		return otherwise
	}
	return *listed
}

func rate(listed *price.USD, otherwise price.USD) views.Rate {
	return views.Rate{Text: priceOf(orElse(listed, otherwise)), Other: listed == nil}
}

func (s *Server) unpricedLine(u price.Unpriced, book *price.Book, zone *time.Location) views.UnpricedLine {
	line := views.UnpricedLine{
		Name: u.FullName(), Provider: s.providerName(u.Provider), Attempts: views.Count(u.Attempts), Tokens: views.Count(u.Tokens),
		First: views.MomentOf(u.First, zone), Last: views.MomentOf(u.Last, zone),
	}
	_, line.Priced = book.Find(u.Provider, u.Model, u.Last)
	return line
}

// priceModelView writes out the prices of a model through time.
func (s *Server) priceModelView(name string, entries []price.Entry, unpriced []price.Unpriced, jobs []price.Job, zone *time.Location, now time.Time) views.PriceModelPage {
	book := bookOf(entries)
	page := views.PriceModelPage{Name: name, Zone: zone.String(), Jobs: jobLines(jobs, zone)}
	id, model, _ := strings.Cut(name, "/")
	page.Provider = s.providerName(id)
	for _, u := range unpriced {
		if u.Provider == id && u.Model == model {
			page.Unpriced = new(s.unpricedLine(u, book, zone))
		}
	}
	holding := map[int64]bool{}
	for _, p := range book.Holding(id, model, now) {
		holding[p.ID] = true
		page.Now = append(page.Now, s.priceRows(p)...)
	}
	for _, e := range entries {
		line := views.PriceEntry{
			ID: strconv.FormatInt(e.ID, 10), Span: spanOfPrice(e.Price, zone), Rows: s.priceRows(e.Price), Note: e.Note, By: e.CreatedBy,
			At: views.MomentOf(e.CreatedAt, zone), Mark: priceMark(e.Price, holding[e.ID], now),
		}
		if !e.Seeded && line.By == "" {
			line.By = "somebody, in the database itself"
		}
		if e.WithdrawnAt == nil {
			page.Entries = append(page.Entries, line)
			continue
		}
		line.Mark = views.PriceMark{Text: "Removed", Kind: "neutral"}
		line.Gone = &views.PriceGone{By: e.WithdrawnBy, At: views.MomentOf(*e.WithdrawnAt, zone)}
		if e.ReplacedBy != nil {
			line.Mark.Text, line.Gone.Replaced = "Corrected", strconv.FormatInt(*e.ReplacedBy, 10)
		}
		page.Gone = append(page.Gone, line)
	}
	return page
}

// spanOfPrice says when a price holds.
func spanOfPrice(p price.Price, zone *time.Location) string {
	text := "From the beginning"
	if p.EffectiveFrom != nil {
		text = "From " + views.MomentOf(*p.EffectiveFrom, zone).Local
	}
	if p.EffectiveTo != nil {
		text += " until " + views.MomentOf(*p.EffectiveTo, zone).Local
	}
	return text
}

func priceMark(p price.Price, holds bool, now time.Time) views.PriceMark {
	switch {
	case holds:
		return views.PriceMark{Text: "In force", Kind: "success"}
	case p.EffectiveFrom != nil && now.Before(*p.EffectiveFrom):
		return views.PriceMark{Text: "Not yet", Kind: "info"}
	case p.EffectiveTo != nil && !now.Before(*p.EffectiveTo):
		return views.PriceMark{Text: "Over", Kind: "neutral"}
	default:
		return views.PriceMark{Text: "Behind another", Kind: "neutral"}
	}
}

// recomputePreview writes out what a recomputation would come to.
func recomputePreview(span price.Span, sums price.Sums, seen string, zone *time.Location) *views.RecomputePreview {
	values := span.Values()
	values.Set("seen", seen)
	values.Set("expected", strconv.FormatInt(sums.Seen, 10))
	values.Set("changed", strconv.FormatInt(sums.Changed, 10))
	values.Set("before", sums.OldUSD.String())
	values.Set("after", sums.NewUSD.String())
	return &views.RecomputePreview{Span: spanOfRuns(span, zone), Sums: priceSums(sums), Nothing: sums.Changed == 0, Values: values}
}

// promisedIn is what a preview said, as its form brings it back; nil when that is not
// all there. It decides nothing: whether it came to that is told afterwards.
func promisedIn(form url.Values) *price.Sums {
	var sums price.Sums
	var errs [4]error
	sums.Seen, errs[0] = strconv.ParseInt(form.Get("expected"), 10, 64)
	sums.Changed, errs[1] = strconv.ParseInt(form.Get("changed"), 10, 64)
	sums.OldUSD, errs[2] = price.ParseUSD(form.Get("before"))
	sums.NewUSD, errs[3] = price.ParseUSD(form.Get("after"))
	if errors.Join(errs[:]...) != nil {
		return nil
	}
	return &sums
}

// recomputeMany writes out a span with more attempts than can be reckoned at once.
func recomputeMany(span price.Span, size price.Size, zone *time.Location) *views.RecomputeMany {
	many := views.RecomputeMany{Span: spanOfRuns(span, zone), Values: span.Values()}
	if !size.Uncounted {
		many.Attempts = plural(size.Attempts, "attempt", "attempts")
	}
	return &many
}

func spanOfRuns(span price.Span, zone *time.Location) string {
	text := "from the beginning"
	if span.From != nil {
		text = "from " + views.MomentOf(*span.From, zone).Local
	}
	text += " until " + views.MomentOf(span.To, zone).Local
	if span.Reported {
		text += ", with costs that the provider named"
	}
	return text
}

func priceSums(s price.Sums) views.PriceSums {
	some := func(n int64) string {
		if n == 0 {
			return ""
		}
		return views.Count(n)
	}
	return views.PriceSums{
		Seen: views.Count(s.Seen), Changed: views.Count(s.Changed), Priced: some(s.Priced), Unpriced: some(s.Unpriced), Kept: some(s.Kept),
		Old: priceOf(s.OldUSD), New: priceOf(s.NewUSD), Difference: signed(s.Difference()), More: s.Difference().Cmp(price.USD{}) > 0,
	}
}

// signed is an amount that something changes by.
func signed(usd price.USD) string {
	if usd.Cmp(price.USD{}) > 0 {
		return "+" + priceOf(usd)
	}
	return priceOf(usd)
}

func jobLines(jobs []price.Job, zone *time.Location) []views.PriceJobLine {
	lines := make([]views.PriceJobLine, len(jobs))
	for i, j := range jobs {
		lines[i] = jobLine(j, zone)
	}
	return lines
}

func jobLine(j price.Job, zone *time.Location) views.PriceJobLine {
	line := views.PriceJobLine{
		ID: strconv.FormatInt(j.ID, 10), Model: j.FullName(), What: "Recomputed", By: j.Actor, At: views.MomentOf(j.CreatedAt, zone),
		Mark: views.PriceMark{Text: "Done", Kind: "success"}, Amount: signed(j.Difference()),
		Changed: views.Count(j.Changed) + " of " + plural(j.Seen, "attempt", "attempts"),
	}
	if j.Undoes != nil {
		line.What = "Put back"
	}
	switch {
	case j.Preview:
		line.What = "Preview of"
		if !j.Done() {
			line.Mark = views.PriceMark{Text: "Reckoning", Kind: "info"}
		}
	case !j.Done():
		line.What = map[bool]string{false: "Recomputing", true: "Putting back"}[j.Undoes != nil]
		line.Mark = views.PriceMark{Text: "Going on", Kind: "info"}
	case j.UndoneBy != nil:
		line.Mark = views.PriceMark{Text: "Taken back", Kind: "neutral"}
	}
	return line
}

// jobView writes out a job.
func jobView(j price.Job, zone *time.Location) views.PriceJobPage {
	page := views.PriceJobPage{
		Job: jobLine(j, zone), Span: spanOfRuns(j.Span, zone), Running: !j.Done(), Sums: priceSums(j.Sums),
		CanUndo: j.Done() && !j.Preview && j.Undoes == nil && j.UndoneBy == nil && j.Changed > 0,
	}
	if j.Undoes != nil {
		page.Undoes = strconv.FormatInt(*j.Undoes, 10)
	}
	if j.UndoneBy != nil {
		page.UndoneBy = strconv.FormatInt(*j.UndoneBy, 10)
	}
	if j.Expected > 0 {
		page.Percent, page.Bar = views.Percent(min(j.Seen, j.Expected), j.Expected), min(float64(j.Seen)/float64(j.Expected), 1)
	}
	page.Preview = j.Preview
	if j.Done() && !j.AsPromised() {
		page.Promised = plural(*j.PromisedChanged, "attempt", "attempts") + ", " + signed(j.PromisedNew.Sub(*j.PromisedOld))
	}
	if j.LastAt != nil {
		page.CameTo = new(views.MomentOf(*j.LastAt, zone))
	}
	return page
}
