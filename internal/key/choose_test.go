package key

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/provider"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) *time.Time {
	instant := noon.Add(d)
	return &instant
}

// named makes a healthy key whose label is its name.
func named(source Source, label string, change func(*Key)) Key {
	k := Key{
		ID: uuid.NewSHA1(uuid.Nil, []byte(label)), Source: source, Provider: "openai", Label: label, LastFour: "9999",
		Status: Healthy, CreatedAt: noon.Add(-time.Hour),
	}
	if source == Fallback {
		k.Priority = defaultPriority
	}
	if change != nil {
		change(&k)
	}
	return k
}

func status(s Status) func(*Key)        { return func(k *Key) { k.Status = s } }
func priority(n int) func(*Key)         { return func(k *Key) { k.Priority = n } }
func used(d time.Duration) func(*Key)   { return func(k *Key) { k.LastUsedAt = at(d) } }
func models(names ...string) func(*Key) { return func(k *Key) { k.Models = names } }
func cooling(until *time.Time) func(k *Key) {
	return func(k *Key) { k.Status, k.CoolingUntil = Cooling, until }
}
func suspect(class provider.Class) func(k *Key) {
	return func(k *Key) { k.Status, k.CoolingUntil, k.Suspect = Cooling, at(time.Minute), class }
}
func broke(d time.Duration) func(k *Key) {
	return func(k *Key) { k.Status, k.CoolingUntil = Billing, at(d) }
}
func createdAt(d time.Duration) func(k *Key) { return func(k *Key) { k.CreatedAt = *at(d) } }

func TestChoose(t *testing.T) {
	own := func(change func(*Key)) Key { return named(User, "own", change) }
	fallback := func(label string, change func(*Key)) Key { return named(Fallback, label, change) }
	for _, test := range []struct {
		name    string
		keys    []Key
		chosen  string // "": none
		skipped string // label: reason, in order
	}{
		{"no key at all", nil, "", ""},
		{"only an own key", []Key{own(nil)}, "own", ""},
		{"only a fallback key", []Key{fallback("a", nil)}, "a", ""},
		{"own key before fallback keys", []Key{fallback("a", priority(1)), own(used(-time.Second)), fallback("b", priority(-5))}, "own", ""},
		{"the older own key", []Key{named(User, "new", nil), named(User, "old", createdAt(-2*time.Hour))}, "old", ""},

		{"by priority", []Key{fallback("a", priority(20)), fallback("b", priority(10)), fallback("c", priority(30))}, "b", ""},
		{"priority before use", []Key{fallback("a", priority(20)), fallback("b", func(k *Key) { k.Priority, k.LastUsedAt = 10, at(0) })}, "b", ""},
		{"least recently used", []Key{fallback("a", used(-time.Minute)), fallback("b", used(-time.Hour)), fallback("c", used(-time.Second))}, "b", ""},
		{"never used", []Key{fallback("a", used(-time.Hour)), fallback("b", nil)}, "b", ""},
		{"never used, the older", []Key{fallback("a", nil), fallback("b", createdAt(-2*time.Hour))}, "b", ""},

		{"disabled", []Key{own(status(Disabled)), fallback("a", nil)}, "a", "own: disabled"},
		{"invalid", []Key{own(status(Invalid)), fallback("a", nil)}, "a", "own: refused by the provider"},
		{"billing", []Key{own(status(Billing)), fallback("a", nil)}, "a", "own: out of credit"},
		{"all are out", []Key{own(status(Billing)), fallback("a", status(Invalid)), fallback("b", status(Disabled))}, "",
			"own: out of credit, a: refused by the provider, b: disabled"},
		{"who would be next", []Key{fallback("a", priority(1)), fallback("b", status(Disabled))}, "a", "b: disabled"},

		{"cooling", []Key{own(cooling(at(time.Nanosecond))), fallback("a", nil)}, "a", "own: rate limited for now"},
		{"cooled down this instant", []Key{own(cooling(at(0)))}, "own", ""},
		{"cooled down before", []Key{own(cooling(at(-time.Hour)))}, "own", ""},
		{"cooling until nobody knows", []Key{own(cooling(nil))}, "own", ""},
		{"disabled while cooling", []Key{own(func(k *Key) { k.Status, k.CoolingUntil = Disabled, at(-time.Hour) })}, "", "own: disabled"},
		{"healthy with an old end of cooling", []Key{own(func(k *Key) { k.CoolingUntil = at(time.Hour) })}, "own", ""},

		{"on trial after the healthy", []Key{fallback("a", func(k *Key) { k.Status, k.CoolingUntil, k.Priority = Cooling, at(-time.Second), 1 }), fallback("b", nil)}, "b", ""},
		{"own on trial before a fallback key", []Key{own(cooling(at(-time.Second))), fallback("a", nil)}, "own", ""},
		{"expired", []Key{fallback("a", func(k *Key) { k.ExpiresAt = at(0) })}, "", "a: expired"},
		{"not yet expired", []Key{fallback("a", func(k *Key) { k.ExpiresAt = at(1) })}, "a", ""},
		{"replaced", []Key{fallback("a", func(k *Key) { k.RetireAt = at(0) }), fallback("b", nil)}, "b", "a: replaced by another key"},
		{"looked into", []Key{fallback("a", suspect(provider.ClassInvalidKey))}, "", "a: being checked after the provider refused it"},
		{"an outage, and there is another", []Key{own(suspect(provider.ClassOverloaded)), fallback("a", nil)}, "a", "own: resting after faults of the provider"},
		{"an outage of all", []Key{own(suspect(provider.ClassNetwork)), fallback("a", suspect(provider.ClassTimeout)), fallback("b", status(Invalid))}, "own", "b: refused by the provider"},
		{"an outage, and a rate limit", []Key{own(cooling(at(time.Minute))), fallback("a", suspect(provider.ClassProviderError))}, "a", "own: rate limited for now"},
		{"an outage, but not for this model", []Key{fallback("a", func(k *Key) { suspect(provider.ClassNetwork)(k); k.Models = []string{"x"} })}, "", "a: resting after faults of the provider"},
		{"out of credit long ago, and there is no other", []Key{own(broke(-time.Second)), fallback("a", status(Invalid))}, "own", "a: refused by the provider"},
		{"out of credit long ago, and there is another", []Key{own(broke(-time.Second)), fallback("a", nil)}, "a", "own: out of credit"},
		{"out of credit just now", []Key{own(broke(time.Second))}, "", "own: out of credit"},
		{"out of credit long ago, but not for this model", []Key{fallback("a", func(k *Key) { broke(-1)(k); k.Models = []string{"x"} })}, "", "a: out of credit"},

		{"model allowed", []Key{fallback("a", models("gpt-5", "gpt-5-mini"))}, "a", ""},
		{"model not allowed", []Key{fallback("a", func(k *Key) { k.Models, k.Priority = []string{"gpt-5"}, 1 }), fallback("b", nil)}, "b", "a: not allowed for this model"},
		{"model names are exact", []Key{fallback("a", models("gpt-5", "GPT-5-mini", "openai/gpt-5-mini", "gpt-5-mini "))}, "", "a: not allowed for this model"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := append([]Key(nil), test.keys...)
			choice := Choose(test.keys, "gpt-5-mini", noon)
			chosen := ""
			if len(choice.Keys) > 0 {
				chosen = choice.Keys[0].Label
			}
			var skipped []string
			for _, skip := range choice.Skipped {
				skipped = append(skipped, skip.Key.Label+": "+string(skip.Reason))
			}
			if chosen != test.chosen || strings.Join(skipped, ", ") != test.skipped {
				t.Errorf("chose %q, skipped %q; want %q, %q", chosen, strings.Join(skipped, ", "), test.chosen, test.skipped)
			}
			if diff := cmp.Diff(before, test.keys, cmp.AllowUnexported(Key{})); diff != "" {
				t.Errorf("the candidates were changed: %s", diff)
			}
		})
	}
}

// The order in which the database returns keys must not matter.
func TestChooseWhateverTheOrder(t *testing.T) {
	keys := []Key{
		named(User, "own", status(Invalid)), named(Fallback, "first", func(k *Key) { k.Priority, k.LastUsedAt = 1, at(-time.Hour) }),
		named(Fallback, "second", func(k *Key) { k.Priority, k.LastUsedAt = 1, at(-time.Minute) }), named(Fallback, "third", nil),
	}
	for range len(keys) {
		keys = append(keys[1:], keys[0])
		if got := Choose(keys, "gpt-5", noon).Keys; len(got) == 0 || got[0].Label != "first" {
			t.Errorf("chose %v", got)
		}
	}
}

// A learner learns about their own key, and nothing about the platform's.
func TestMessage(t *testing.T) {
	secretive := func(k *Key) {
		k.Label, k.LastFour, k.Status, k.Models = "platform-main", "7777", Billing, []string{"secret-model"}
	}
	for _, test := range []struct {
		name string
		keys []Key
		want string
	}{
		{"none", nil, "There is no key for OpenAI. Add one under Settings → API Keys."},
		{"own invalid", []Key{named(User, "mine", status(Invalid))},
			"Your OpenAI key cannot be used (refused by the provider), and there is no fallback key for it. Check it under Settings → API Keys."},
		{"own cooling", []Key{named(User, "mine", cooling(at(time.Minute))), named(Fallback, "", secretive)},
			"Your OpenAI key cannot be used (rate limited for now), and there is no fallback key for it. Check it under Settings → API Keys."},
		{"fallback out", []Key{named(Fallback, "", secretive)},
			"No fallback key for OpenAI can be used at the moment. Add a key of your own under Settings → API Keys."},
		{"fallback not for this model", []Key{named(Fallback, "", models("secret-model"))},
			"No fallback key for OpenAI can be used at the moment. Add a key of your own under Settings → API Keys."},
	} {
		t.Run(test.name, func(t *testing.T) {
			choice := Choose(test.keys, "gpt-5", noon)
			if choice.Keys != nil {
				t.Fatalf("chose %+v", choice.Keys)
			}
			if got := choice.Message("OpenAI"); got != test.want {
				t.Errorf("says %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestAvailability(t *testing.T) {
	candidates := map[string][]Key{
		"openai":    {named(Fallback, "a", nil), named(User, "own", nil)},
		"anthropic": {named(User, "own", status(Invalid)), named(Fallback, "a", models("claude-haiku-5-5"))},
		"google":    {named(User, "own", status(Disabled)), named(Fallback, "a", cooling(at(time.Second)))},
		"groq":      {named(User, "own", cooling(at(0)))},
		"xai":       {named(Fallback, "a", suspect(provider.ClassNetwork)), named(User, "own", broke(-1))},
		"deepseek":  {named(Fallback, "a", suspect(provider.ClassBilling)), named(User, "own", broke(-1))},
	}
	got := Availability([]string{"openai", "anthropic", "google", "mistral", "groq", "openai", "xai", "deepseek"}, candidates, noon)
	want := map[string]string{
		"openai": "user", "anthropic": "fallback", "google": "none", "mistral": "none", "groq": "user", "xai": "fallback", "deepseek": "user",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
