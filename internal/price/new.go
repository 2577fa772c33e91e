package price

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/fault"
)

// Rates are the fields of a price that are amounts, as forms and the command line
// call them.
var Rates = []string{
	"input", "output", "cacheRead", "cacheWrite5m", "cacheWrite1h",
	"tierInput", "tierOutput", "tierCacheRead", "tierCacheWrite5m", "tierCacheWrite1h",
}

const (
	maxName      = 200 // bytes of a model's name
	maxSource    = 500
	maxNote      = 1000
	rateDecimals = 12
	whenLayout   = "2006-01-02T15:04"
)

var (
	plainNumber = regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]+)?$`)
	maxRate     = decimal.New(1, 6)
)

// rate is where the amount of a field stands; nil for the two that every price has.
func (p *Price) rate(field string) **USD {
	switch field {
	case "cacheRead":
		return &p.CacheRead
	case "cacheWrite5m":
		return &p.CacheWrite5m
	case "cacheWrite1h":
		return &p.CacheWrite1h
	case "tierInput":
		return &p.TierInput
	case "tierOutput":
		return &p.TierOutput
	case "tierCacheRead":
		return &p.TierCacheRead
	case "tierCacheWrite5m":
		return &p.TierCacheWrite5m
	case "tierCacheWrite1h":
		return &p.TierCacheWrite1h
	}
	return nil
}

// Parse reads a price as it was typed, in US dollars per million tokens:
//
//	provider, model     the provider's id, and its own name of the model
//	input, output       needed; 0 is free
//	cacheRead, …        see Rates; empty: not known, see Price
//	tierAbove           input tokens above which the rates of the tier count
//	from, until         when it holds, like 2026-10-31 or 2026-10-31T14:00 in zone; empty: ever since, for good
//	dailyFrom, dailyTo  hours of the day in UTC, like 22:30
//	source              needed: where the figures are from
//	sourceDate, note
//
// What cannot be one is fault.Invalid, with every bad field.
func Parse(values url.Values, zone *time.Location) (Price, error) {
	r := reader{values: values, zone: zone}
	p := Price{
		Provider: r.text("provider", maxName), Model: r.text("model", maxName), Source: r.text("source", maxSource), Note: r.text("note", maxNote),
		TierAboveInputTokens: r.tokens("tierAbove"), ContextWindow: r.tokens("contextWindow"),
		EffectiveFrom: r.when("from"), EffectiveTo: r.when("until"), DailyFrom: r.timeOfDay("dailyFrom"), DailyTo: r.timeOfDay("dailyTo"),
		SourceDate: r.day("sourceDate"),
	}
	for _, field := range Rates {
		amount := r.amount(field)
		switch {
		case field == "input" && amount != nil:
			p.Input = *amount
		case field == "output" && amount != nil:
			p.Output = *amount
		case amount != nil:
			*p.rate(field) = amount
		}
	}
	for field, why := range map[string]string{
		"provider": "is needed: the id of the provider, like openai", "model": "is needed: the provider’s own name, like gpt-5-mini",
		"input": "is needed: US dollars per million tokens, like 0.25; write 0 for a model that is free", "output": "is needed: US dollars per million tokens, like 2; write 0 for a model that is free",
		"source": "is needed, so that others can check the figures: the address of the price page, or the contract",
	} {
		if r.typed(field) == "" {
			r.refuse(field, why)
		}
	}
	r.together(&p)
	if len(r.problems) > 0 {
		return Price{}, fault.InvalidFields(r.problems)
	}
	return p, nil
}

// Values are what Parse reads as p.
func (p Price) Values(zone *time.Location) url.Values {
	values := url.Values{}
	set := func(field, value string) {
		if value != "" {
			values.Set(field, value)
		}
	}
	set("provider", p.Provider)
	set("model", p.Model)
	set("input", p.Input.String())
	set("output", p.Output.String())
	for _, field := range Rates[2:] {
		if amount := *p.rate(field); amount != nil {
			set(field, amount.String())
		}
	}
	for field, n := range map[string]*int64{"tierAbove": p.TierAboveInputTokens, "contextWindow": p.ContextWindow} {
		if n != nil {
			set(field, strconv.FormatInt(*n, 10))
		}
	}
	for field, at := range map[string]*time.Time{"from": p.EffectiveFrom, "until": p.EffectiveTo} {
		if at != nil {
			set(field, whenTyped(*at, zone))
		}
	}
	for field, d := range map[string]*time.Duration{"dailyFrom": p.DailyFrom, "dailyTo": p.DailyTo} {
		if d != nil {
			set(field, time.Time{}.Add(*d).Format("15:04"))
		}
	}
	if p.SourceDate != nil {
		set("sourceDate", p.SourceDate.UTC().Format(time.DateOnly))
	}
	set("source", p.Source)
	set("note", p.Note)
	return values
}

// whenTyped is an instant as people type it, exactly.
func whenTyped(at time.Time, zone *time.Location) string {
	local := at.In(zone)
	if again, err := time.ParseInLocation(whenLayout, local.Format(whenLayout), zone); err == nil && again.Equal(at) {
		return local.Format(whenLayout)
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// ParseWhen reads an instant: a day, a day and a time in zone, or RFC 3339. An empty
// one is nil.
func ParseWhen(text string, zone *time.Location) (*time.Time, bool) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, true
	}
	for _, layout := range []string{time.DateOnly, whenLayout, "2006-01-02 15:04", "2006-01-02T15:04:05"} {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			return reasonable(at)
		}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return nil, false
	}
	return reasonable(at)
}

// reasonable keeps to years that all that reads them can write.
func reasonable(at time.Time) (*time.Time, bool) {
	if at.Year() < 2000 || at.Year() > 2200 {
		return nil, false
	}
	at = at.Truncate(time.Microsecond)
	return &at, true
}

// reader reads fields and collects what is wrong with them.
type reader struct {
	values   url.Values
	zone     *time.Location
	problems []fault.Field
}

func (r *reader) refuse(field, message string) {
	r.problems = append(r.problems, fault.Field{Field: field, Message: message})
}

func (r *reader) typed(field string) string { return strings.TrimSpace(r.values.Get(field)) }

func (r *reader) text(field string, most int) string {
	value := r.typed(field)
	switch {
	case len(value) > most:
		r.refuse(field, "must have at most "+strconv.Itoa(most)+" characters")
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		r.refuse(field, "holds characters that cannot be shown; write it on one line")
	case field == "provider" && strings.Contains(value, "/"):
		r.refuse(field, "must be the id of a provider, without a slash")
	}
	return value
}

func (r *reader) amount(field string) *USD {
	text := strings.TrimSpace(strings.TrimPrefix(r.typed(field), "$"))
	if text == "" {
		return nil
	}
	amount, err := ParseUSD(text)
	switch {
	case err != nil || !plainNumber.MatchString(text):
		r.refuse(field, "is not an amount of dollars; write it like 0.25, with a point and without an exponent")
		return nil
	case amount.Decimal().GreaterThan(maxRate):
		r.refuse(field, "must be at most 1000000 per million tokens")
	case !amount.Decimal().Equal(amount.Decimal().Truncate(rateDecimals)):
		r.refuse(field, "must have at most "+strconv.Itoa(rateDecimals)+" digits after the point")
	}
	return &amount
}

func (r *reader) tokens(field string) *int64 {
	if r.typed(field) == "" {
		return nil
	}
	n, err := strconv.ParseInt(r.typed(field), 10, 64)
	if err != nil || n < 1 || n > 1e12 {
		r.refuse(field, "is not a number of tokens; write it like 200000")
		return nil
	}
	return &n
}

func (r *reader) when(field string) *time.Time {
	at, ok := ParseWhen(r.values.Get(field), r.zone)
	if !ok {
		r.refuse(field, "is not a time; write it like 2026-10-31 or 2026-10-31T14:00")
	}
	return at
}

func (r *reader) day(field string) *time.Time {
	if r.typed(field) == "" {
		return nil
	}
	day, err := time.Parse(time.DateOnly, r.typed(field))
	if err != nil {
		r.refuse(field, "is not a day; write it like 2026-10-31")
		return nil
	}
	return &day
}

func (r *reader) timeOfDay(field string) *time.Duration {
	if r.typed(field) == "" {
		return nil
	}
	at, err := time.Parse("15:04", r.typed(field))
	if err != nil {
		r.refuse(field, "is not a time of day; write it like 22:30")
		return nil
	}
	since := time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute
	return &since
}

// together refuses what fits no other field.
func (r *reader) together(p *Price) {
	if p.EffectiveFrom != nil && p.EffectiveTo != nil && !p.EffectiveFrom.Before(*p.EffectiveTo) {
		r.refuse("until", "must be later than the beginning")
	}
	if (r.typed("dailyFrom") == "") != (r.typed("dailyTo") == "") {
		r.refuse("dailyTo", "and the beginning belong together: set both, or none")
	}
	if r.typed("tierAbove") != "" && r.typed("tierInput") == "" {
		r.refuse("tierInput", "is needed where there is a tier")
	}
	for _, field := range Rates[5:] {
		if r.typed("tierAbove") == "" && r.typed(field) != "" {
			r.refuse("tierAbove", "is needed where there are rates of a tier: the input tokens above which they count")
			break
		}
	}
}
