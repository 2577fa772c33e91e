package key

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/price"
)

// Settings are what an admin may change about a fallback key.
type Settings struct {
	Label      string
	Models     []string   // the provider's own names; nil: every model
	MonthlyCap *price.USD // nil: none
	ExpiresAt  *time.Time // from then on it is not used; nil: never
}

// capDecimals are the digits after the point that a cap may have.
const capDecimals = 9

var maxCap = price.NewUSD(decimal.New(1, 9))

// ParseSettings reads settings as they were typed: label, models (separated by
// commas, spaces or lines), monthlyCapUsd, and expires, the last day of use in
// zone, like 2027-01-31. An empty one is none. What cannot be used is
// fault.Invalid, with every bad field.
func ParseSettings(typed url.Values, zone *time.Location) (Settings, error) {
	var p problems
	s := p.settings(typed, zone)
	return s, p.err()
}

// NewKey is a fallback key to be added.
type NewKey struct {
	Provider string
	Secret   Secret
	Priority int // lowest first; 0: behind the others
	Settings
}

// ParseNew reads provider and secret beside what ParseSettings reads.
func ParseNew(typed url.Values, zone *time.Location) (NewKey, error) {
	var p problems
	n := NewKey{Provider: p.provider(typed.Get("provider")), Secret: p.secret(Secret(typed.Get("secret")))}
	n.Settings = p.settings(typed, zone)
	return n, p.err()
}

// Rotation is a key that takes the place of another.
type Rotation struct {
	Secret    Secret
	Label     string        // empty: the old one's
	Overlap   time.Duration // how long the old key goes on; 0: it is disabled at once
	ExpiresAt *time.Time    // nil: never
}

// MaxOverlap is how long an old key may go on beside the one that replaces it.
const MaxOverlap = 90 * 24 * time.Hour

// ParseRotation reads secret, label, overlap (like 24h) and expires.
func ParseRotation(typed url.Values, zone *time.Location) (Rotation, error) {
	var p problems
	r := Rotation{Secret: p.secret(Secret(typed.Get("secret"))), Label: p.label(typed.Get("label")), ExpiresAt: p.lastDay(typed.Get("expires"), zone)}
	var err error
	if r.Overlap, err = time.ParseDuration(strings.TrimSpace(typed.Get("overlap"))); err != nil {
		p.add("overlap", "is not a time; write it like 24h, or 0 for none")
	}
	p.overlap(r.Overlap)
	return r, p.err()
}

func (p *problems) overlap(overlap time.Duration) {
	if overlap < 0 || overlap > MaxOverlap {
		p.add("overlap", fmt.Sprintf("must be between nothing and %d days", int(MaxOverlap.Hours())/24))
	}
}

func (p *problems) settings(typed url.Values, zone *time.Location) Settings {
	var s Settings
	s.Label = p.label(typed.Get("label"))
	if s.Label == "" {
		p.add("label", "is empty; give a name by which you will know the key")
	}
	names := strings.FieldsFunc(typed.Get("models"), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' })
	var found problems
	if s.Models = found.models(names); len(found) > 0 {
		p.add("models", found[0].Message)
	}
	slices.Sort(s.Models)
	s.Models = slices.Compact(s.Models)
	s.MonthlyCap = p.cap(typed.Get("monthlyCapUsd"))
	s.ExpiresAt = p.lastDay(typed.Get("expires"), zone)
	return s
}

// cap reads a monthly cap.
func (p *problems) cap(typed string) *price.USD {
	typed = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(typed), "$"))
	if typed == "" {
		return nil
	}
	usd, err := price.ParseUSD(typed)
	switch {
	case err != nil:
		p.add("monthlyCapUsd", "is not an amount of dollars; write it like 25 or 0.50")
	case usd.Cmp(price.USD{}) < 0:
		p.add("monthlyCapUsd", "must not be negative; leave it empty for no cap")
	case usd.Cmp(maxCap) > 0:
		p.add("monthlyCapUsd", fmt.Sprintf("must be at most %s; leave it empty for no cap", maxCap))
	case !usd.Decimal().Equal(usd.Decimal().Truncate(capDecimals)):
		p.add("monthlyCapUsd", fmt.Sprintf("must have at most %d digits after the point", capDecimals))
	default:
		return &usd
	}
	return nil
}

// lastDay reads the last day of use and returns the end of it.
func (p *problems) lastDay(typed string, zone *time.Location) *time.Time {
	typed = strings.TrimSpace(typed)
	if typed == "" {
		return nil
	}
	day, err := time.Parse(time.DateOnly, typed)
	if err != nil || day.Year() < 2000 || day.Year() > 2200 {
		p.add("expires", "is not a day; write it like 2027-01-31, or leave it empty")
		return nil
	}
	end := dayBegin(zone, day.Year(), day.Month(), day.Day()+1)
	return &end
}

// Values are the settings as ParseSettings reads them.
func (s Settings) Values(zone *time.Location) url.Values {
	values := url.Values{"label": {s.Label}, "models": {strings.Join(s.Models, ", ")}, "monthlyCapUsd": {""}, "expires": {""}}
	if s.MonthlyCap != nil {
		values.Set("monthlyCapUsd", s.MonthlyCap.String())
	}
	if s.ExpiresAt != nil {
		values.Set("expires", s.ExpiresAt.Add(-time.Nanosecond).In(zone).Format(time.DateOnly))
	}
	return values
}

// Settings are the key's own.
func (k FallbackKey) Settings() Settings {
	return Settings{k.Label, k.Models, k.MonthlyCap, k.ExpiresAt}
}

// settingNames are what a person calls the fields of a form of settings.
var settingNames = []struct{ field, name string }{
	{"label", "label"}, {"models", "models"}, {"monthlyCapUsd", "monthly cap"}, {"expires", "last day of use"},
}

// changes has what differs between two settings, by field, and says it.
func changes(before, after url.Values) (details map[string]any, said string) {
	details = map[string]any{}
	var parts []string
	for _, s := range settingNames {
		was, is := before.Get(s.field), after.Get(s.field)
		if was == is {
			continue
		}
		details[s.field] = audit.Change{From: was, To: is}
		parts = append(parts, fmt.Sprintf("%s from %s to %s", s.name, orNone(was), orNone(is)))
	}
	return details, "Changed: " + strings.Join(parts, "; ") + "."
}

func orNone(value string) string {
	if value == "" {
		return "none"
	}
	return value
}

// aheadOf refuses an end of use that has passed.
func (s Settings) aheadOf(now time.Time) error {
	if s.ExpiresAt != nil && !now.Before(*s.ExpiresAt) {
		return fault.InvalidFields([]fault.Field{{Field: "expires", Message: "has passed; the key could not be used"}})
	}
	return nil
}
