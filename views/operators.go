package views

import (
	"strings"

	"github.com/a-h/templ"
)

// OperatorsPage is everybody who may sign in, and a form for one more.
type OperatorsPage struct {
	Page
	Operators []OperatorRow
	Form      OperatorForm
	Problem   string // why nothing was added; "" on the first look
}

// OperatorRow is one operator in the list.
type OperatorRow struct {
	ID         string
	Name       string // may be empty
	Email      string
	Role       string  // "Admin", "Team lead"
	You        bool    // who is looking
	Learner    string  // address of their account among the learners; "" without one
	Leads      string  // "Design, Engineering and 3 more"; "" for none
	Warning    string  // why a team lead sees nothing; "" when they do
	LastSignIn *Moment // nil: never yet
	Sessions   string  // open ones: "2"; "" for none
	Disabled   bool
	Invited    bool // has an open link and never signed in
}

// OperatorPage is one operator.
type OperatorPage struct {
	Page
	OperatorRow
	Created     Moment
	DisabledAt  Moment
	LinkUntil   *Moment // until when the one-time link is good; nil: there is none
	HasPassword bool
	Form        OperatorForm
	Version     string // of what the form was made from; goes back with it
	Problem     string // why nothing was changed; "" when all is well
}

// OperatorForm is what can be said about an operator.
type OperatorForm struct {
	New      bool // the address can be chosen
	Email    string
	Name     string
	Role     string // "admin" or "team_lead"
	Learner  string // address of a learner
	Timezone string
	Zone     string            // where times are shown if no zone is chosen
	Problems map[string]string // by field: what is wrong with it
}

// OneTimeLinkPage shows a link that nobody will see again.
type OneTimeLinkPage struct {
	Page
	ID      string
	Email   string
	Role    string
	Created bool // the operator is new
	Link    string
	Until   Moment
	Hours   string // how long it is good: "24"
	Warning string // why a team lead will see nothing yet; "" when they will
}

// SessionsPage is where an operator is signed in.
type SessionsPage struct {
	Page
	Sessions []SessionRow
	Others   bool // there is one beside this one
}

// SessionRow is one browser.
type SessionRow struct {
	ID      string
	Browser string // "Firefox on Linux"
	Agent   string // all that the browser says of itself
	IP      string
	Since   Moment
	Seen    Moment
	Current bool
}

// NamesShort lists names as long as there are few: "Design, Engineering and 3
// more".
func NamesShort(names []string) string {
	const few = 3
	switch {
	case len(names) <= 1:
		return strings.Join(names, "")
	case len(names) <= few:
		return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
	default:
		return strings.Join(names[:few-1], ", ") + " and " + Count(int64(len(names)-few+1)) + " more"
	}
}

// BrowserOf says in a few words which browser a User-Agent header is of. It knows
// the usual ones only.
func BrowserOf(agent string) string {
	first := func(pairs ...string) string {
		for i := 0; i < len(pairs); i += 2 {
			if strings.Contains(agent, pairs[i]) {
				return pairs[i+1]
			}
		}
		return ""
	}
	browser := first("Edg/", "Edge", "OPR/", "Opera", "Firefox/", "Firefox", "FxiOS/", "Firefox", "CriOS/", "Chrome", "Chrome/", "Chrome", "Safari/", "Safari", "curl/", "curl")
	system := first("iPhone", "iPhone", "iPad", "iPad", "Android", "Android", "Windows", "Windows", "Mac OS X", "macOS", "CrOS", "ChromeOS", "Linux", "Linux")
	switch {
	case browser == "" && system == "":
		return "Unknown browser"
	case browser == "":
		return "Browser on " + system
	case system == "":
		return browser
	}
	return browser + " on " + system
}

// fieldAttributes tie a field to its hint and to what is wrong with it.
func fieldAttributes(name, problem string) templ.Attributes {
	about := name + "-hint"
	attributes := templ.Attributes{}
	if problem != "" {
		about = name + "-problem " + about
		attributes["aria-invalid"] = "true"
	}
	attributes["aria-describedby"] = about
	return attributes
}

// roles are those that an operator can have.
var roles = []Option{{Value: "admin", Label: "Admin: everything"}, {Value: "team_lead", Label: "Team lead: the teams that their learner account leads"}}

// title is the operator's name, or the address of one who gave none.
func (o OperatorRow) title() string {
	if o.Name != "" {
		return o.Name
	}
	return o.Email
}
