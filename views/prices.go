package views

import (
	"net/url"
	"strings"

	"github.com/a-h/templ"
)

// PricesPage is the price list: what models cost, and those of which nobody knows.
type PricesPage struct {
	Page
	Search    string
	Providers []Option
	Narrowed  bool
	Count     string // "132 models"
	Unpriced  []UnpricedLine
	Rows      []PriceRow
	Jobs      []PriceJobLine
	CSV       string
}

// UnpricedLine is a model of which attempts have no price.
type UnpricedLine struct {
	Name     string // full name
	Provider string
	Attempts string
	Tokens   string
	First    Moment
	Last     Moment
	Priced   bool // it has a price by now, so that they can be recomputed
}

func (u UnpricedLine) setHref() templ.SafeURL       { return PriceHref("/set", u.Name) }
func (u UnpricedLine) recomputeHref() templ.SafeURL { return PriceHref("/recompute", u.Name) }
func (u UnpricedLine) href() templ.SafeURL          { return PriceHref("/model", u.Name) }

// PriceHref is an address under Settings, Prices about a model.
func PriceHref(path, name string) templ.SafeURL {
	return templ.SafeURL("/settings/prices" + path + "?" + url.Values{"name": {name}}.Encode())
}

// PriceRow is one line of rates, in dollars per million tokens.
type PriceRow struct {
	Name     string // full name of the model; "" in a line that belongs to the one above
	Provider string
	When     string // what the rates are limited to: "22:30–06:00 UTC", "above 200,000 input tokens"; may be empty
	Input    Rate
	Cached   Rate
	Write5m  Rate
	Write1h  Rate
	Output   Rate
	Source   string
	Link     string // address of the source; "" if it is none
	Dated    string // the day of the source, "31 Oct 2026"; may be empty
	Since    string // when it began, "1 Oct 2026, 00:00 CEST", "The beginning"; "" for a tier
	Until    string // when it ends; "" for good
	Own      bool   // an operator set it
}

func (r PriceRow) href() templ.SafeURL { return PriceHref("/model", r.Name) }

// Rate is an amount per million tokens.
type Rate struct {
	Text  string // "$0.25"
	Other bool   // it is not listed, and that of the input is used
}

// PriceJobLine is a recomputation in a list.
type PriceJobLine struct {
	ID      string
	Model   string
	What    string // "Recomputed", "Taken back"
	By      string
	At      Moment
	Mark    PriceMark
	Changed string // "1,204 of 1,300 attempts"
	Amount  string // "+$1.20"
}

// PriceMark is a word in a coloured box with a sign.
type PriceMark struct{ Text, Kind string }

func (m PriceMark) icon() string {
	switch m.Kind {
	case "success":
		return "check"
	case "info":
		return "clock"
	case "neutral":
		return "info"
	default:
		return "alert"
	}
}

func (l PriceJobLine) href() templ.SafeURL {
	return templ.SafeURL("/settings/prices/jobs/" + url.PathEscape(l.ID))
}

// PriceModelPage is the prices of one model through time.
type PriceModelPage struct {
	Page
	Name      string
	Provider  string
	Zone      string
	Problem   string
	Unpriced  *UnpricedLine // nil: every attempt has a price
	Now       []PriceRow    // that are in force today; empty: none is
	Entries   []PriceEntry
	Gone      []PriceEntry // that were corrected or removed
	Jobs      []PriceJobLine
	Recompute RecomputeForm
	Confirm   string // the entry whose removal was not confirmed; "" for none
}

func (p PriceModelPage) setHref() templ.SafeURL { return PriceHref("/set", p.Name) }

// PriceEntry is one price of a model.
type PriceEntry struct {
	ID      string
	Mark    PriceMark
	Span    string // "From 31 Oct 2026, 14:00 CET", "From the beginning"
	Rows    []PriceRow
	Note    string
	By      string // who set it; "" for the program
	At      Moment
	Gone    *PriceGone
	Problem string // of its removal
}

// label tells entries apart that hold for the same time.
func (e PriceEntry) label() string { return "Price " + e.ID + ": " + e.Span }

// PriceGone is when and how an entry was taken off the list.
type PriceGone struct {
	By       string
	At       Moment
	Replaced string // the id of the entry that corrects it; "" when it was removed
}

func (e PriceEntry) correctHref(name string) templ.SafeURL {
	return templ.SafeURL("/settings/prices/set?" + url.Values{"name": {name}, "corrects": {e.ID}}.Encode())
}

func (e PriceEntry) removeAction() templ.SafeURL {
	return templ.SafeURL("/settings/prices/" + url.PathEscape(e.ID) + "/remove")
}

// RecomputeForm is which attempts to recompute.
type RecomputeForm struct {
	From, Until string // as typed
	Reported    bool
	Problems    map[string]string
}

// SetPricePage is the form that sets or corrects a price.
type SetPricePage struct {
	Page
	Name     string // full name; "" while it is to be typed
	Corrects string // id of the entry; "" for a new one
	Seen     string // the state that the form was made from; goes back with it
	Zone     string
	Problem  string
	Now      []PriceRow
	Fields   PriceFields
}

// PriceFields are the fields of the form.
type PriceFields struct {
	Provider, Model                         PriceField
	Input, Output                           PriceField
	CacheRead, CacheWrite5m, CacheWrite1h   PriceField
	TierAbove                               PriceField
	TierInput, TierOutput, TierCacheRead    PriceField
	TierCacheWrite5m, TierCacheWrite1h      PriceField
	From, Until, DailyFrom, DailyTo         PriceField
	Source, SourceDate, Note, ContextWindow PriceField
	More                                    bool // something stands in the rarer fields
}

// PriceField is one of them.
type PriceField struct {
	Name, Label, Hint, Value, Problem string
	Kind                              string // text, decimal, numeric, datetime-local, date or time
	Needed                            bool
}

// inputType is text for what the browser's own field could not show.
func (f PriceField) inputType() string {
	switch f.Kind {
	case "datetime-local":
		if f.Value != "" && len(f.Value) != len("2006-01-02T15:04") {
			return "text"
		}
		return f.Kind
	case "date", "time":
		if f.Problem != "" {
			return "text"
		}
		return f.Kind
	}
	return "text"
}

// attributes are those that not every field has.
func (f PriceField) attributes() templ.Attributes {
	attributes := fieldAttributes(f.Name, f.Problem)
	if f.Kind == "decimal" || f.Kind == "numeric" {
		attributes["inputmode"] = f.Kind
	}
	if f.Needed {
		attributes["required"] = true
	}
	return attributes
}

// NewPriceFields is the form with these values, and what is wrong with each.
func NewPriceFields(values url.Values, problems map[string]string, zone string) PriceFields {
	f := func(name, label, kind, hint string) PriceField {
		return PriceField{Name: name, Label: label, Kind: kind, Hint: hint, Value: values.Get(name), Problem: problems[name]}
	}
	needed := func(p PriceField) PriceField {
		p.Needed = true
		return p
	}
	fields := PriceFields{
		Provider:     needed(f("provider", "Provider", "text", "Its id, like openai.")),
		Model:        needed(f("model", "Model", "text", "The provider’s own name, like gpt-5-mini. Dated names without a price of their own cost the same.")),
		Input:        needed(f("input", "Input", "decimal", "US dollars per million tokens.")),
		Output:       needed(f("output", "Output", "decimal", "Reasoning counts as output.")),
		CacheRead:    f("cacheRead", "Input from cache", "decimal", "Empty: as input."),
		CacheWrite5m: f("cacheWrite5m", "Into cache, 5 minutes", "decimal", "Empty: as input."),
		CacheWrite1h: f("cacheWrite1h", "Into cache, an hour", "decimal", "Empty: as for 5 minutes."),

		From:       f("from", "In force from", "datetime-local", "In "+zone+". Empty: from the beginning."),
		Until:      f("until", "Until", "datetime-local", "Empty: until a newer price begins."),
		Source:     needed(f("source", "Source", "text", "Where others can check it: the address of the price page, or the contract.")),
		SourceDate: f("sourceDate", "As of", "date", "The day on which the source said so."),
		Note:       f("note", "Note", "text", "Anything that whoever reads this later should know."),

		TierAbove:        f("tierAbove", "Tier above", "numeric", "Input tokens. A request with more costs the tier’s rates as a whole."),
		TierInput:        f("tierInput", "Input in the tier", "decimal", "Needed where there is a tier."),
		TierOutput:       f("tierOutput", "Output in the tier", "decimal", "Empty: as below the tier."),
		TierCacheRead:    f("tierCacheRead", "From cache in the tier", "decimal", "Empty: as input in the tier."),
		TierCacheWrite5m: f("tierCacheWrite5m", "Into cache in the tier, 5 minutes", "decimal", "Empty: as input in the tier."),
		TierCacheWrite1h: f("tierCacheWrite1h", "Into cache in the tier, an hour", "decimal", "Empty: as for 5 minutes."),
		DailyFrom:        f("dailyFrom", "Only from", "time", "An hour of the day in UTC, for night rates and the like."),
		DailyTo:          f("dailyTo", "Only until", "time", "In UTC, over midnight if it is earlier."),
		ContextWindow:    f("contextWindow", "Context window", "numeric", "Tokens. Empty: not known."),
	}
	for _, rare := range fields.rare() {
		fields.More = fields.More || rare.Value != "" || rare.Problem != ""
	}
	return fields
}

// rare are the fields that few prices need.
func (f PriceFields) rare() []PriceField {
	return []PriceField{
		f.TierAbove, f.TierInput, f.TierOutput, f.TierCacheRead, f.TierCacheWrite5m, f.TierCacheWrite1h, f.DailyFrom, f.DailyTo, f.ContextWindow,
	}
}

// RecomputePage says what a recomputation would come to.
type RecomputePage struct {
	Page
	Name    string
	Zone    string
	Problem string
	Form    RecomputeForm
	Preview *RecomputePreview // nil: the span could not be read, or has too many attempts
	Many    *RecomputeMany    // nil: it has not
}

// RecomputeMany is a span with more attempts than can be reckoned while somebody waits.
type RecomputeMany struct {
	Span     string
	Attempts string     // "812,345 attempts"; "" when nobody has counted them
	Values   url.Values // that start a preview
}

// RecomputePreview is what it would come to, and what goes back to start it.
type RecomputePreview struct {
	Span    string // "from the beginning until 24 Nov 2026, 13:00 CET"
	Sums    PriceSums
	Nothing bool // it would change nothing
	Values  url.Values
}

// PriceSums are the figures of a recomputation.
type PriceSums struct {
	Seen, Changed          string
	Priced, Unpriced, Kept string // "" for none
	Old, New, Difference   string
	More                   bool // it costs more than before
}

// PriceJobPage is a recomputation, going on or done.
type PriceJobPage struct {
	Page
	Job      PriceJobLine
	Span     string
	Running  bool
	Undoes   string // id of the job that it takes back; "" if it recomputes
	UndoneBy string // id of the job that takes it back; "" for none
	Sums     PriceSums
	Percent  string  // "40%"; "" when it is not known
	Bar      float64 // the same from 0 to 1
	CameTo   *Moment // when the run began that it came to; nil: it has not begun
	CanUndo  bool
	Problem  string
	Promised string // what its preview said, where that was something else; "" else

	Preview  bool              // it changes nothing
	Start    *RecomputePreview // what starts it in earnest; nil until it is done
	Outdated bool              // the prices have changed since
}

func (p PriceJobPage) href() string { return string(p.Job.href()) }

// hidden are values that go back with a form, in a fixed order.
func hiddenValues(values url.Values) [][2]string {
	var all [][2]string
	for _, pair := range strings.Split(values.Encode(), "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, _ = url.QueryUnescape(name)
		value, _ = url.QueryUnescape(value)
		if name != "" {
			all = append(all, [2]string{name, value})
		}
	}
	return all
}
