package history

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/period"
	"github.com/promptcademy/promptops/internal/price"
)

// Filter is which runs to list. The zero value of a field lets all pass.
type Filter struct {
	period.Period
	Status      string // running, success, partial, error, cancelled or interrupted
	Learner     string // e-mail address
	TeamID      *uuid.UUID
	TemplateID  *uuid.UUID
	Stream      string // "yes" or "no"
	MinCost     *price.USD
	MinDuration time.Duration
	RequestID   string // ours, whatever the days, or the caller's own

	// One attempt of the run has to be all of these.
	Provider   string // "openai"
	Model      string // as requested: "openai/gpt-5-mini"
	KeySource  string // "user" or "fallback"
	ErrorClass string

	// TeamIDs are the teams whose runs may be seen at all: it is not part of the URL.
	// TeamID is looked at only through it.
	TeamIDs []uuid.UUID
}

// Statuses are those a run can have.
var Statuses = []string{"running", "success", "partial", "error", "cancelled", "interrupted"}

// Classes are those an error can have.
var Classes = []string{
	"missing_key", "invalid_key", "permission", "billing", "rate_limited", "overloaded", "context_length", "content_filter",
	"bad_request", "not_found", "timeout", "network", "provider_error", "budget_exceeded", "cancelled", "interrupted",
}

const maxText = 255 // bytes of a name, an address or an id

// ParseFilter reads a Filter from the parameters of a URL: range, from and to as
// package period has them, and
//
//	provider, model, team, key   as on AI Usage
//	status, class, template, stream (yes or no), learner (an e-mail address)
//	cost, seconds                at least so many dollars, and seconds
//	request                      a run's id, or the id that the caller gave it
//
// Bad values come back as one fault.Invalid that names them all.
func ParseFilter(values url.Values, now time.Time, zone *time.Location) (Filter, error) {
	p := parser{values: values}
	days, problems := period.Parse(values, now, zone)
	f := Filter{
		Period: days,
		Status: p.oneOf("status", Statuses...), Learner: p.text("learner"), TeamID: p.id("team"), TemplateID: p.id("template"),
		Stream: p.oneOf("stream", "yes", "no"), MinCost: p.amount("cost"), MinDuration: p.seconds("seconds"), RequestID: p.text("request"),
		Provider: p.text("provider"), Model: p.text("model"), KeySource: p.oneOf("key", "user", "fallback"), ErrorClass: p.oneOf("class", Classes...),
	}
	if problems = append(problems, p.problems...); len(problems) > 0 {
		return Filter{}, fault.InvalidFields(problems)
	}
	return f, nil
}

// Values is the inverse of ParseFilter: the shortest parameters that ask for the
// same.
func (f Filter) Values() url.Values {
	values := url.Values{}
	set := func(name, value string) {
		if value != "" {
			values.Set(name, value)
		}
	}
	f.AddTo(values)
	set("status", f.Status)
	set("learner", f.Learner)
	set("stream", f.Stream)
	set("request", f.RequestID)
	set("provider", f.Provider)
	set("model", f.Model)
	set("key", f.KeySource)
	set("class", f.ErrorClass)
	if f.TeamID != nil {
		set("team", f.TeamID.String())
	}
	if f.TemplateID != nil {
		set("template", f.TemplateID.String())
	}
	if f.MinCost != nil {
		set("cost", f.MinCost.String())
	}
	if f.MinDuration > 0 {
		set("seconds", f.Seconds())
	}
	return values
}

// Seconds is MinDuration as it is written in the URL; "" when there is none.
func (f Filter) Seconds() string {
	if f.MinDuration == 0 {
		return ""
	}
	return strconv.FormatFloat(f.MinDuration.Seconds(), 'f', -1, 64)
}

// Narrowed says whether anything but the days is chosen.
func (f Filter) Narrowed() bool {
	values := f.Values()
	for _, name := range []string{"range", "from", "to"} {
		values.Del(name)
	}
	return len(values) > 0
}

// parser reads parameters and collects what is wrong with them.
type parser struct {
	values   url.Values
	problems []fault.Field
}

func (p *parser) refuse(field, message string) {
	p.problems = append(p.problems, fault.Field{Field: field, Message: message})
}

func (p *parser) text(field string) string {
	value := strings.TrimSpace(p.values.Get(field))
	switch {
	case len(value) > maxText:
		p.refuse(field, "is too long")
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		p.refuse(field, "holds characters that cannot be searched for")
	}
	return value
}

func (p *parser) oneOf(field string, allowed ...string) string {
	value := p.values.Get(field)
	if value != "" && !slices.Contains(allowed, value) {
		p.refuse(field, "must be one of "+strings.Join(allowed, ", "))
	}
	return value
}

func (p *parser) id(field string) *uuid.UUID {
	value := p.values.Get(field)
	if value == "" {
		return nil
	}
	id, err := uuid.Parse(value)
	if err != nil {
		p.refuse(field, "is not an id")
		return nil
	}
	return &id
}

func (p *parser) amount(field string) *price.USD {
	value := strings.TrimSpace(p.values.Get(field))
	if value == "" {
		return nil
	}
	amount, err := price.ParseUSD(value)
	if err != nil || amount.Decimal().IsNegative() {
		p.refuse(field, "is no amount of dollars; write it like 0.05")
		return nil
	}
	return &amount
}

func (p *parser) seconds(field string) time.Duration {
	value := strings.TrimSpace(p.values.Get(field))
	if value == "" {
		return 0
	}
	seconds, err := decimal.NewFromString(value)
	if err != nil || len(value) > 20 || seconds.IsNegative() || seconds.GreaterThan(decimal.NewFromInt(1_000_000)) {
		p.refuse(field, "is no number of seconds; write it like 15 or 0.5")
		return 0
	}
	return time.Duration(seconds.Shift(3).IntPart()) * time.Millisecond
}
