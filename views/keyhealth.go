package views

import (
	"cmp"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/shopspring/decimal"
)

// KeyHealthPage is who has a provider key of their own that works, and the queue
// of those to talk to.
type KeyHealthPage struct {
	Page
	Lead      bool   // of a team lead: only their teams
	Whose     string // "All learners", or the team's name
	Empty     bool   // there are no learners
	CSV       string // address of the listed learners as CSV
	Filters   KeyHealthFilters
	Problem   string // why the filters could not be used as given
	Figures   []HealthFigure
	Trend     *Chart
	NoTrend   string // why there is none
	Next      []HealthNext
	NextNote  string // sum of all projections
	Providers []HealthProvider
	Teams     []HealthTeam
	MoreTeams string // "492 more"; "" when all are shown
	AllTeams  string // address that shows them all
	Nudges    []HealthNudge
	Tabs      []HealthTab
	List      HealthList
}

// KeyHealthFilters is the form above the page.
type KeyHealthFilters struct {
	Teams  []Option // of an admin; the first is "All learners"
	Search string
	Keep   []Option // hidden fields: Value of Label
	Clear  string   // address without team and search; "" when there is neither
}

// HealthFigure is one figure, with the learners behind it.
type HealthFigure struct {
	Label string
	Value string
	Note  string
	Tone  string // "warning", "error" or ""
	Href  string
}

// HealthNext is a learner who is about to cost something.
type HealthNext struct {
	Name, Href string
	Needs      string // providers
	Projected  Amount
	Bar        float64 // of the highest, 0 to 1
	Unpriced   string  // attempts without a price, "" if none
}

// HealthProvider is a line of the table by provider.
type HealthProvider struct {
	Name                               string
	With, Share, Broken, Fallback      string
	Bar                                float64
	WithHref, BrokenHref, FallbackHref string // "" where nobody is behind it
	Projected                          Amount
	Unpriced                           string
}

// HealthTeam is a line of the table by team.
type HealthTeam struct {
	Name, Href                    string
	Members, With, Share, Without string
	Bar                           float64
	Active, ActiveHref            string // active without a key
	Projected                     Amount
	Unpriced                      string
}

// HealthNudge is a message that was asked for.
type HealthNudge struct {
	At          Moment
	Who, Href   string
	By, Channel string
	State       string // "Sent", "Waiting to be sent", "Failed", "Not sent"
	Tone        string
	Why         string
}

// HealthTab is a choice of learners to list.
type HealthTab struct {
	Label, Count, Href string
	Current            bool
}

// HealthList is one page of learners.
type HealthList struct {
	Title     string // "To do", "With a usable key for OpenAI"
	Count     string // "1,204 learners"
	None      string // why the list is empty
	Learners  []HealthLearner
	Back      string // query of this page: where the forms lead back to
	NextHref  string // "" on the last page
	FirstHref string // "" on the first
	SelectAll string // address on which all are chosen; "" when they are
	All       bool   // all are chosen
	Tomorrow  string // the first day to snooze until
	NextWeek  string
}

// HealthLearner is a line of the list.
type HealthLearner struct {
	ID, Choice  string // Choice: value of the checkbox
	Name, Email string
	Href        string
	Teams       string
	Usable      string // providers
	Broken      string
	Needs       string
	Since       *Moment // Broken
	Active      bool
	Cost        Amount
	Projected   Amount
	Unpriced    string
	State, Tone string
	StateAt     *Moment
	Until       string // "until 1 Dec 2026"
	Nudged      *Moment
	Closed      bool // nothing is to be done
}

// HealthDay is a day of the trend.
type HealthDay struct {
	Day                              time.Time
	Learners, Usable, Active, Broken int // Active: and without a usable key
}

// HealthTrend is the chart of learners by day. The days are as they were counted:
// one that nobody counted is left out.
func HealthTrend(days []HealthDay) Chart {
	count := func(d decimal.Decimal) string { return Count(d.IntPart()) }
	d := daily{
		id: "key-trend", title: "Learners with a key of their own", unit: "Learners per day, today as of now", format: "count",
		text: count, short: count, part: func(d, _ decimal.Decimal) string { return count(d) },
	}
	stack := []series{{name: "With a usable key", swatch: 3}, {name: "Active without one", swatch: 2}, {name: "Quiet without one"}}
	table := ChartTable{Head: []string{"Day", "Learners", "With a usable key", "Active without one", "Quiet without one", "With a broken key"}}
	for _, day := range days {
		d.days = append(d.days, day.Day)
		for i, n := range []int{day.Usable, day.Active, day.Learners - day.Usable - day.Active} {
			stack[i].values = append(stack[i].values, decimal.NewFromInt(int64(n)))
		}
	}
	for i := len(days) - 1; i >= 0; i-- {
		day := days[i]
		table.Rows = append(table.Rows, []string{day.Day.Format("Mon 2 Jan 2006"), countInt(day.Learners), countInt(day.Usable), countInt(day.Active),
			countInt(day.Learners - day.Usable - day.Active), countInt(day.Broken)})
	}
	last := days[len(days)-1]
	chart := Chart{
		ID: d.id, Title: d.title, Unit: d.unit, Total: Percent(int64(last.Usable), int64(last.Learners)), Options: dailyOptions(d, stack), Table: table,
		Summary: "Learners with a usable key of their own, " + DayRange(days[0].Day, last.Day) + ": " + countInt(days[0].Usable) + " of " + countInt(days[0].Learners) +
			" at first, " + countInt(last.Usable) + " of " + countInt(last.Learners) + " at last. The numbers are in the table below.",
	}
	for _, s := range stack {
		chart.Legend = append(chart.Legend, LegendItem{Name: s.name, Value: count(s.values[len(days)-1]), Swatch: s.swatch})
	}
	return chart
}

func countInt(n int) string { return Count(int64(n)) }

// barWidth is a bar in its 48 units.
func barWidth(part float64) string {
	return strconv.FormatFloat(min(max(part, 0), 1)*48, 'f', 1, 64)
}

// LearnerKeysPage is one learner, what was done about their keys, and what can be.
type LearnerKeysPage struct {
	Page
	Learner HealthLearner
	Facts   []Fact
	Back    string // query of the list that it was opened from
	Undo    bool   // the last thing done can be undone
	History []HealthEvent
	Nudges  []HealthNudge
	List    HealthList // for the days to choose
}

// HealthEvent is an entry of a learner's history.
type HealthEvent struct {
	At   Moment
	What string
	By   string
	Note string
}

// NudgePage is where a message is written, looked at and confirmed.
type NudgePage struct {
	Page
	Lead         bool
	Channel      string // "email" or "slack"
	Learners     []string
	Back         string
	Subject      string
	Text         string
	Problems     map[string]string // by field: subject, text
	Placeholders []Placeholder
	Preview      *NudgePreview // nil where the text cannot be sent, or nobody gets it
	Gets         []NudgeRecipient
	Not          []NudgeRecipient
	Days         string // "14 days"
	NotSetUp     string // why messages will not go out; "" when they will
}

// Placeholder is one that a template may have.
type Placeholder struct{ Name, About string }

// NudgePreview is a message as it will go out.
type NudgePreview struct {
	To, Subject, Text string
	Of                []Option // whose is shown
}

// NudgeRecipient is a learner who was chosen.
type NudgeRecipient struct{ Name, Email, Why string }

// byEmail says whether each learner gets a message of their own.
func (p NudgePage) byEmail() bool { return p.Channel == "email" }

// other is the address of the same on the other channel.
func (p NudgePage) other(channel string) templ.SafeURL {
	values := url.Values{"learner": p.Learners, "channel": {channel}, "back": {p.Back}}
	return templ.SafeURL("/keys/health/nudge?" + values.Encode())
}

// NudgeSettingsPage is how nudges are written and how often.
type NudgeSettingsPage struct {
	Page
	Seen                                 string
	NudgeDays, KeysURL                   string
	EmailSubject, EmailText              string
	SlackText                            string
	Problem                              string
	Problems                             map[string]string // by field
	EmailPlaceholders, SlackPlaceholders []Placeholder
	Changed                              *Moment
}

// healthAddress is the page with a query.
func healthAddress(query string) templ.SafeURL {
	return templ.SafeURL(strings.TrimSuffix("/keys/health?"+query, "?"))
}

// OutreachDone says what came of an action: what was done with how many, and with
// how many nothing, and why. What is no number is left out.
func OutreachDone(counts url.Values) string {
	number := func(name string) int {
		n, err := strconv.Atoi(counts.Get(name))
		if err != nil || n < 0 || n > 1000 {
			return 0
		}
		return n
	}
	verb := map[string]string{
		"contacted": "marked as contacted", "snooze": "snoozed", "reopen": "opened again", "undo": "put back to where it was before",
		"email": "nudged by e-mail", "slack": "named in Slack",
	}[counts.Get("verb")]
	text := "Nothing was changed."
	if done := number("done"); done > 0 && verb != "" {
		text = learnersCount(done) + " " + verb + "."
	}
	for _, why := range []struct{ name, one, many string }{
		{"key", "has a usable key by now", "have a usable key by now"},
		{"meanwhile", "was changed by somebody else meanwhile: look again", "were changed by somebody else meanwhile: look again"},
		{"nothing", "has nothing to undo", "have nothing to undo"},
		{"open", "is open already", "are open already"},
		{"skipped", "gets no message; the reason is on their page", "get no message; the reasons are on their pages"},
	} {
		if n := number(why.name); n > 0 {
			text += " " + learnersCount(n) + " " + cmp.Or(map[bool]string{true: why.one}[n == 1], why.many) + "."
		}
	}
	return text
}

// healthAttributes tie a field to what is said about it.
func healthAttributes(name, hint, problem string) templ.Attributes {
	var about []string
	attributes := templ.Attributes{}
	if problem != "" {
		about = append(about, name+"-problem")
		attributes["aria-invalid"] = "true"
	}
	if hint != "" {
		about = append(about, name+"-hint")
	}
	if len(about) > 0 {
		attributes["aria-describedby"] = strings.Join(about, " ")
	}
	return attributes
}

// mailbox is the part of an address before its @.
func mailbox(address string) string { return strings.TrimSuffix(address, mailHost(address)) }

// mailHost is the rest, which may stand on a line of its own.
func mailHost(address string) string { return address[max(strings.LastIndexByte(address, '@'), 0):] }

func learnersCount(n int) string {
	if n == 1 {
		return "1 learner"
	}
	return countInt(n) + " learners"
}

// summary says how many get the message and how many do not.
func (p NudgePage) summary() string {
	text := learnersCount(len(p.Gets)) + " will be named"
	if p.byEmail() {
		text = learnersCount(len(p.Gets)) + " will get it"
	}
	if len(p.Not) > 0 {
		text += ", " + countInt(len(p.Not)) + " will not"
	}
	return text
}
