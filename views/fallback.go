package views

import (
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"
)

// FallbackPage is every fallback key, by provider in the order of use.
type FallbackPage struct {
	Page
	Fragment  bool   // only what is in the page: htmx has asked
	Problem   string // why nothing was moved; "" when nothing went wrong
	Forsaken  []Forsaken
	Providers []FallbackProvider
	Day       string // today, "24 Nov 2026"
	Month     string // "November 2026"
	Zone      string // where they begin
}

// Forsaken is a provider that has no usable fallback key although there ought to
// be one.
type Forsaken struct {
	ID, Name string
	Keys     int    // that it has, all of them unusable
	Attempts string // that found no key in the last days, "1,234"; "" for none
}

// says is what that means.
func (f Forsaken) says() string {
	text := f.Name + " has no fallback key"
	switch f.Keys {
	case 0:
		text += "."
	case 1:
		text += " that can be used: its only one is out of use."
	default:
		text += " that can be used: all " + strconv.Itoa(f.Keys) + " are out of use."
	}
	text += " Learners without a key of their own get no answer from its models."
	switch f.Attempts {
	case "":
	case "1":
		text += " That happened once in the last seven days."
	default:
		text += " That happened " + f.Attempts + " times in the last seven days."
	}
	return text
}

// FallbackProvider is a provider with its fallback keys.
type FallbackProvider struct {
	ID, Name string
	Gone     bool   // an added endpoint that was removed
	Usable   string // "1 of 2 usable"
	Seen     string // the order shown, ids separated by commas; goes back with the form
	Keys     []FallbackKey
}

// FallbackKey is one fallback key in the list.
type FallbackKey struct {
	ID       string
	Label    string
	LastFour string
	Provider string // "OpenAI"
	Place    string // "1"
	First    bool
	Last     bool
	InTurn   bool // shares its place with others, and takes turns with them
	Sandbox  bool
	Models   string // "gpt-5, gpt-5-mini"; "" for every model
	State    KeyState
	Notes    []KeyNote
	Today    string // all digits
	Month    LimitUse
	Runway   string // "12 days", "No cap", "Not used"
	Endless  bool   // the runway ends after the month does
	Used     *Moment
	Worked   *Moment
	Error    *KeyError
}

// digits are the end of the key, with dots for the rest.
func (k FallbackKey) digits() string { return "…" + k.LastFour }

func (k FallbackKey) href() string { return "/keys/fallback/" + k.ID }

func (k FallbackKey) action(verb string) string { return k.href() + "/" + verb }

// KeyState is what has become of a key, in words.
type KeyState struct {
	State  string // healthy, cooling, checking, trial, over_cap, billing, invalid, expired, retired or disabled
	Before string // a sentence, as far as a moment that ends it
	At     *Moment
	After  string // what follows
}

// KeyNote is something else to know about a key.
type KeyNote struct {
	Kind string // warning or info
	Text string
	At   *Moment
}

// KeyError is the last thing that went wrong with a key.
type KeyError struct {
	At        Moment
	Class     string
	HTTP      string // "401"; "" when not known
	Message   string
	RunID     string
	RequestID string // the provider's
}

// keyStates are the marks of what can become of a key.
var keyStates = map[string]runMark{
	"healthy":  {"Healthy", "success", "check"},
	"cooling":  {"Cooling", "warning", "clock"},
	"checking": {"Being checked", "warning", "clock"},
	"trial":    {"On trial", "info", "clock"},
	"over_cap": {"Over cap", "error", "alert"},
	"billing":  {"Out of credit", "error", "alert"},
	"invalid":  {"Invalid", "error", "alert"},
	"expired":  {"Expired", "error", "alert"},
	"retired":  {"Retired", "", "stop"},
	"disabled": {"Disabled", "", "stop"},
}

func (s KeyState) mark() runMark { return keyStates[s.State] }

// KeyStateWords are what a state means and what to do about it, where that needs
// to be said.
func KeyStateWords(state string) string {
	switch state {
	case "cooling":
		return "The provider limits it. It rests until"
	case "checking":
		return "The provider refused it once. It is not used until a free check has told whether it is bad."
	case "trial":
		return "Its rest is over. It is used behind the others until it has worked once."
	case "over_cap":
		return "It has spent what it may spend this month. Raise its cap to use it before the next one."
	case "billing":
		return "The provider says that its account is out of credit. Pay there, then test it."
	case "invalid":
		return "The provider does not know it any more. Rotate it, or delete it."
	case "expired":
		return "Its last day of use is over. Rotate it, or change the day."
	case "retired":
		return "Another key took its place, and the overlap is over."
	default:
		return ""
	}
}

// Runway writes how many days a cap lasts.
func Runway(days float64) string {
	switch {
	case days <= 0:
		return "At its cap"
	case days < 1:
		return "Less than a day"
	case days < 1.5:
		return "1 day"
	case days < 1000:
		return strconv.Itoa(int(math.Floor(days+0.5))) + " days"
	default:
		return "Over 1,000 days"
	}
}

// KeyPage is one fallback key: what is known of it, and all that can be done.
type KeyPage struct {
	Page
	Key        FallbackKey
	Facts      []Fact
	Zone       string
	Problem    string // why nothing was done; "" when nothing went wrong
	Twin       string // address of the key that is the same; "" when there is none
	Settings   []KeyField
	Revision   string
	Was        string     // the settings that the form was made from, as a query; goes back with it
	Rotate     []KeyField // without the overlap
	Overlaps   []Option
	Reason     KeyField
	Confirm    KeyField
	Retires    *Moment // the end of a rotation's overlap; nil: it is not about to retire
	Successor  *KeyLink
	LastHope   bool // without it the provider has no usable key
	Replaced   bool
	History    []KeyEvent
	MoreEvents bool // there is more than is shown
}

// KeyLink leads to another key.
type KeyLink struct{ Href, Label string }

// enabled says whether the key can be disabled.
func (p KeyPage) enabled() bool {
	return p.Key.State.State != "disabled" && p.Key.State.State != "retired"
}

// KeyEvent is one thing that happened to a key.
type KeyEvent struct {
	At        Moment
	Who       string // "An attempt", "marta@example.org"
	Reason    string
	From, To  string // states of the row, where they differ
	Class     string
	HTTP      string
	Message   string
	RunID     string
	RequestID string
	Took      string
}

func (e KeyEvent) changed() bool { return e.From != e.To }

// NewKeyPage is the form that adds a key.
type NewKeyPage struct {
	Page
	Problem   string
	Twin      string // address of the key that is stored already; "" for none
	TwinLabel string
	Providers []Option
	Provider  string // problem with the choice; "" for none
	Fields    []KeyField
	Zone      string
}

// KeyField is one field of a form about a key.
type KeyField struct {
	Name      string
	Label     string
	Hint      string
	Kind      string // text, area, money, date or secret
	Value     string // never of a secret
	Problem   string
	Meanwhile string // what somebody else made of it; "" when nobody did
	Needed    bool
	Prefix    string // of the id, where a page has several forms
	focus     bool
}

func (f KeyField) id() string { return f.Prefix + f.Name }

// describedBy names all that is said about the field.
func (f KeyField) describedBy() string {
	var about []string
	if f.Problem != "" {
		about = append(about, f.id()+"-problem")
	}
	if f.Meanwhile != "" {
		about = append(about, f.id()+"-meanwhile")
	}
	if f.Hint != "" {
		about = append(about, f.id()+"-hint")
	}
	return strings.Join(about, " ")
}

// attributes are those that not every field has.
func (f KeyField) attributes() templ.Attributes {
	attributes := templ.Attributes{"required": f.Needed, "autofocus": f.focus}
	if about := f.describedBy(); about != "" {
		attributes["aria-describedby"] = about
	}
	if f.Problem != "" {
		attributes["aria-invalid"] = "true"
	}
	switch f.Kind {
	case "secret": // what is typed stays with nobody: not with the browser either
		attributes["autocomplete"], attributes["maxlength"], attributes["spellcheck"] = "off", "2000", "false"
	case "money":
		attributes["autocomplete"], attributes["maxlength"], attributes["inputmode"] = "off", "40", "decimal"
	case "text":
		attributes["autocomplete"], attributes["maxlength"] = "off", "300"
	}
	return attributes
}

func (f KeyField) inputType() string {
	switch f.Kind {
	case "secret":
		return "password"
	case "date":
		return "date"
	default:
		return "text"
	}
}

// SecretField is where a key is typed.
func SecretField(prefix, problem string) KeyField {
	return KeyField{
		Name: "secret", Label: "Key", Kind: "secret", Needed: true, Prefix: prefix, Problem: problem,
		Hint: "Typed once: it is sealed, and never shown again.",
	}
}

// ReasonField asks why a key is disabled.
func ReasonField(value, problem string) KeyField {
	return KeyField{
		Name: "reason", Label: "Reason", Kind: "text", Needed: true, Value: value, Problem: problem,
		Hint: "Shown to everybody who finds the key disabled.",
	}
}

// ConfirmField asks for the label before a key is deleted.
func ConfirmField(label, problem string) KeyField {
	return KeyField{Name: "confirm", Label: "Type “" + label + "” to confirm", Kind: "text", Needed: true, Problem: problem}
}

// settingFields are the fields of a key's settings, in their order.
var settingFields = []KeyField{
	{Name: "label", Label: "Label", Kind: "text", Needed: true, Hint: "By which you will know the key."},
	{Name: "models", Label: "Only for these models", Kind: "area", Hint: "The provider’s own names, separated by commas. Empty: every model."},
	{Name: "monthlyCapUsd", Label: "Monthly cap in US dollars", Kind: "money", Hint: "At its cap the key is passed over until the month is over. Empty: no cap."},
	{Name: "expires", Label: "Last day of use", Kind: "date", Hint: "As the provider says, or as you want it. Empty: none."},
}

// KeyFields is the form of a key's settings with these values. problems says of
// each field what is wrong with it; meanwhile what it was made by somebody else
// from was to now.
func KeyFields(prefix string, values url.Values, problems map[string]string, was, now url.Values) []KeyField {
	fields := make([]KeyField, len(settingFields))
	focused := false
	for i, f := range settingFields {
		f.Prefix, f.Value, f.Problem = prefix, values.Get(f.Name), problems[f.Name]
		if was.Get(f.Name) != now.Get(f.Name) {
			f.Meanwhile = "Changed meanwhile from " + orNothing(was.Get(f.Name)) + " to " + orNothing(now.Get(f.Name)) + "."
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

func orNothing(value string) string {
	if value == "" {
		return "nothing"
	}
	return value
}

// overlaps are how long an old key may go on beside the one that replaces it.
var overlaps = []Option{{Value: "0", Label: "Not at all: disable it now"}, {Value: "1h", Label: "1 hour"}, {Value: "24h", Label: "1 day"}, {Value: "168h", Label: "7 days"}, {Value: "720h", Label: "30 days"}}

// Overlaps is the choice with one chosen.
func Overlaps(chosen string) []Option {
	choice := make([]Option, len(overlaps))
	for i, o := range overlaps {
		o.Selected = o.Value == chosen
		choice[i] = o
	}
	return choice
}

// eventKinds are who sees what happens to a key.
var eventKinds = map[string]string{
	"attempt": "A run", "probe": "A free check", "operator": "An operator", "learner": "The learner", "clock": "The clock",
}

// EventActor is who saw or did something to a key.
func EventActor(kind, operator string) string {
	if operator != "" {
		return operator
	}
	if kind == "operator" {
		return "Command line"
	}
	return eventKinds[kind]
}

// Latency is how long a test took.
func Latency(d time.Duration) string { return Milliseconds(max(d.Milliseconds(), 1)) }
