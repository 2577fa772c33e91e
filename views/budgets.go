package views

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/a-h/templ"
	"github.com/shopspring/decimal"
)

// BudgetsPage is the limits on runs: how much of them is used, and the form that
// changes them.
type BudgetsPage struct {
	Page
	Day      string // the budget day, "24 Nov 2026"
	Month    string // the budget month, "November 2026"
	Zone     string // where they begin: IANA name
	Today    LimitUse
	Limits   []LimitField
	Seen     string   // the state that the form was made from; goes back with it
	Was      string   // the limits of that state, as a query; goes back too
	Problem  string   // why nothing was saved; "" on the first
	Changed  *Changed // who changed the limits last; nil: nobody ever has
	Keys     []KeyUse
	Learners []LearnerUse
	Shared   bool // learners have an allowance, so their shares of it are shown
}

// Changed says who changed something last, and when.
type Changed struct {
	By string // name and address; "" for the configuration
	At Moment
}

// LimitUse is how much of a limit is used.
type LimitUse struct {
	Used    string  // all digits: "$12.345678"
	Limit   string  // "$25.00"; "" where there is none
	Left    string  // "$12.654322"; "" where there is no limit or nothing is left
	Over    string  // "$1.20" more than the limit; "" where it is not
	Percent string  // "49.4%"
	Bar     float64 // the same from 0 to 1, and no more
	Says    string  // "Over 80%", "Used up", "Over 100%"; "" where there is enough left
	Kind    string  // how bad that is: "warning" or "error"
}

// KeyUse is a fallback key's month.
type KeyUse struct {
	Label    string // "" for a key that is gone
	Provider string
	LimitUse
}

// LearnerUse is a learner's day on fallback keys.
type LearnerUse struct {
	Email string // "" for an account that is gone
	LimitUse
}

// account is the part of the address before its @.
func (l LearnerUse) account() string { return strings.TrimSuffix(l.Email, l.host()) }

// host is the rest, which may stand on a line of its own.
func (l LearnerUse) host() string { return l.Email[max(strings.LastIndexByte(l.Email, '@'), 0):] }

// LimitField is one field of the form.
type LimitField struct {
	Name      string
	Label     string
	Unit      string
	Hint      string // what the limit does
	Value     string // what was typed, or holds
	Problem   string // why it cannot be used; "" when it can
	Meanwhile string // what somebody else made of it; "" when nobody did
	Needed    bool   // empty is not "no limit"
	focus     bool
}

// LimitUseOf says how much of a limit is used. A nil limit is none.
func LimitUseOf(used decimal.Decimal, limit *decimal.Decimal) LimitUse {
	use := LimitUse{Used: MoneyExact(used)}
	if limit == nil {
		return use
	}
	use.Limit, use.Percent = MoneyExact(*limit), PercentOf(used, *limit)
	left := limit.Sub(used)
	if left.IsPositive() {
		use.Left = MoneyExact(left)
		use.Bar = min(max(used.Div(*limit).InexactFloat64(), 0), 1)
		if used.GreaterThan(limit.Mul(decimal.New(8, -1))) {
			use.Says, use.Kind = "Over 80%", "warning"
		}
		return use
	}
	use.Bar, use.Says, use.Kind = 1, "Used up", "error"
	switch {
	case left.IsNegative():
		use.Over, use.Says = MoneyExact(left.Neg()), "Over 100%"
	case limit.IsZero():
		use.Says = "Nothing may be spent"
	}
	return use
}

// width is the bar in its 100 units.
func (u LimitUse) width() string { return strconv.FormatFloat(u.Bar*100, 'f', 2, 64) }

// barClass colours a bar that says something bad.
func (u LimitUse) barClass() string {
	if u.Kind == "" {
		return "limit-bar"
	}
	return "limit-bar limit-bar-" + u.Kind
}

// limitFields are the fields of the form, in their order.
var limitFields = []LimitField{
	{
		Name: "dailyUsd", Label: "Daily budget", Unit: "USD",
		Hint: "What all fallback keys together may spend in a day. A run reserves the most it can cost before it is sent, so that runs at the same time cannot overshoot; what it did not need is free again when it ends. What a model without a price costs is not known, and not counted.",
	},
	{
		Name: "learnerDailyUsd", Label: "Learner’s daily allowance", Unit: "USD",
		Hint: "What one learner may spend on fallback keys in a day. What learners spend with keys of their own is never limited.",
	},
	{
		Name: "runsPerMinute", Label: "Runs per minute and learner", Unit: "runs",
		Hint: "How many runs a learner may start within 60 seconds. One more is turned away and told how long to wait.",
	},
	{
		Name: "concurrentRuns", Label: "Concurrent runs per learner", Unit: "runs",
		Hint: "How many runs of a learner may go on at the same time. One more is turned away until one of them has ended.",
	},
	{
		Name: "fallbackMaxTokens", Label: "Longest answer on a fallback key", Unit: "tokens", Needed: true,
		Hint: "What a model is asked to stop at where the caller set no maxTokens and a budget, allowance or cap has to be kept: otherwise nobody would know what an answer can cost at most.",
	},
}

// LimitFields is the form with these values. problems says of each field what
// is wrong with it; meanwhile what it was made by somebody else from was to now.
func LimitFields(values url.Values, problems map[string]string, was, now url.Values) []LimitField {
	fields := make([]LimitField, len(limitFields))
	focused := false
	for i, f := range limitFields {
		f.Value, f.Problem = values.Get(f.Name), problems[f.Name]
		if was.Get(f.Name) != now.Get(f.Name) {
			f.Meanwhile = "Changed meanwhile from " + f.written(was.Get(f.Name)) + " to " + f.written(now.Get(f.Name)) + "."
			if f.Value != now.Get(f.Name) {
				f.Meanwhile += " What you typed is still here."
			}
		}
		f.focus = f.Problem != "" && !focused
		focused = focused || f.focus
		fields[i] = f
	}
	return fields
}

// LimitChanges says in a sentence for each limit what it is now and was before;
// changes has both, the earlier one first. What is no number is left out.
func LimitChanges(changes url.Values) string {
	var text strings.Builder
	for _, f := range limitFields {
		if values := changes[f.Name]; len(values) == 2 {
			if was, is := f.written(values[0]), f.written(values[1]); was != "" && is != "" {
				text.WriteString(" " + f.Label + ": " + is + ", was " + was + ".")
			}
		}
	}
	return text.String()
}

// written is a value of the field as a sentence has it, "" for what is none.
func (f LimitField) written(value string) string {
	if value == "" {
		return "no limit"
	}
	if f.Unit == "USD" {
		usd, err := decimal.NewFromString(value)
		if err != nil || len(value) > 40 || usd.Exponent() > 40 || usd.Exponent() < -40 {
			return ""
		}
		return MoneyExact(usd)
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return ""
	}
	if n == 1 {
		return "1 " + strings.TrimSuffix(f.Unit, "s")
	}
	return Count(n) + " " + f.Unit
}

func (f LimitField) placeholder() string {
	if f.Needed {
		return ""
	}
	return "No limit"
}

// inputMode is the keyboard that a phone shows.
func (f LimitField) inputMode() string {
	if f.Unit == "USD" {
		return "decimal"
	}
	return "numeric"
}

// attributes tie the field to all that is said about it.
func (f LimitField) attributes() templ.Attributes {
	about := f.Name + "-hint " + f.Name + "-unit"
	attributes := templ.Attributes{}
	if f.Meanwhile != "" {
		about = f.Name + "-meanwhile " + about
	}
	if f.Problem != "" {
		about = f.Name + "-problem " + about
		attributes["aria-invalid"] = "true"
	}
	attributes["aria-describedby"] = about
	return attributes
}
