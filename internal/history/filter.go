package history

import (
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/params"
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
	p := params.From(values)
	days, problems := period.Parse(values, now, zone)
	p.RefuseAll(problems)
	f := Filter{
		Period: days,
		Status: params.OneOf(p, "status", Statuses...), Learner: p.Text("learner"), TeamID: p.ID("team"), TemplateID: p.ID("template"),
		Stream: params.OneOf(p, "stream", "yes", "no"), MinCost: amount(p, "cost"), MinDuration: seconds(p, "seconds"), RequestID: p.Text("request"),
		Provider: p.Text("provider"), Model: p.Text("model"), KeySource: params.OneOf(p, "key", "user", "fallback"), ErrorClass: params.OneOf(p, "class", Classes...),
	}
	if err := p.Err(); err != nil {
		return Filter{}, err
	}
	return f, nil
}

// Values is the inverse of ParseFilter: the shortest parameters that ask for the
// same.
func (f Filter) Values() url.Values {
	values := url.Values{}
	f.AddTo(values)
	params.Set(values, "status", f.Status)
	params.Set(values, "learner", f.Learner)
	params.Set(values, "stream", f.Stream)
	params.Set(values, "request", f.RequestID)
	params.Set(values, "provider", f.Provider)
	params.Set(values, "model", f.Model)
	params.Set(values, "key", f.KeySource)
	params.Set(values, "class", f.ErrorClass)
	params.SetID(values, "team", f.TeamID)
	params.SetID(values, "template", f.TemplateID)
	if f.MinCost != nil {
		values.Set("cost", f.MinCost.String())
	}
	if f.MinDuration > 0 {
		values.Set("seconds", f.Seconds())
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

func amount(p *params.Reader, field string) *price.USD {
	value := p.Text(field)
	if value == "" {
		return nil
	}
	amount, err := price.ParseUSD(value)
	if err != nil || amount.Decimal().IsNegative() {
		p.Refuse(field, "is no amount of dollars; write it like 0.05")
		return nil
	}
	return &amount
}

func seconds(p *params.Reader, field string) time.Duration {
	value := p.Text(field)
	if value == "" {
		return 0
	}
	seconds, err := decimal.NewFromString(value)
	if err != nil || len(value) > 20 || seconds.IsNegative() || seconds.GreaterThan(decimal.NewFromInt(1_000_000)) {
		p.Refuse(field, "is no number of seconds; write it like 15 or 0.5")
		return 0
	}
	return time.Duration(seconds.Shift(3).IntPart()) * time.Millisecond
}
