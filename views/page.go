// Package views is what pages look like. It is pure: the same struct gives the
// same HTML. It knows no request, no database and no clock, and numbers and
// times reach the markup as strings.
package views

import (
	"slices"
	"strings"

	"github.com/a-h/templ"
)

// Page is what every page needs besides its own content.
type Page struct {
	Title    string                   // heading of the browser's tab, without the product's name
	Path     string                   // address whose navigation entry is highlighted: "/usage"
	Operator *Operator                // who is signed in; nil: nobody
	Theme    string                   // "light", "dark" or "system"
	Demo     bool                     // the database holds demo data: say so on every page
	Flash    *Flash                   // what came of the last form; nil: nothing to say
	Teams    *TeamSwitch              // whose figures a team lead sees; nil: not only some teams'
	Assets   func(name string) string // address of a built asset: static.Assets.URL

	Saved *SavedViews // the views of this page; nil: it has none
	Copy  *CopyNotice // how old the figures are; nil: of now

	Incidents []OpenIncident // what is broken at the moment, the worst first: say so on every page
}

// CopyNotice says that figures come from where they usually do not, or are old.
type CopyNotice struct {
	Tag  string // "Replica not used"
	Text string
}

// Operator is the person who is signed in.
type Operator struct {
	Name  string // may be empty: then the address is shown
	Email string
	Role  string // "admin" or "team_lead"
	Zone  string // IANA name of the zone in which times are shown
	Leads bool   // a team lead who leads a team now
}

// TeamSwitch is the teams that a lead leads, and which of them is looked at.
type TeamSwitch struct {
	Now     string       // name of the chosen team, or "All my teams"
	Chosen  string       // its id; "" for all of them
	Choices []TeamChoice // empty for a lead of one team
}

// TeamChoice is this page, of another team or of all.
type TeamChoice struct {
	ID      string // "" for all
	Label   string
	Href    string
	Current bool
}

// Flash is one sentence about the form that was just sent.
type Flash struct {
	Kind string // "success", "warning", "error" or "info"
	Text string
}

// navGroup is a heading of the navigation; an empty one has none.
type navGroup struct {
	Heading string
	Links   []navLink
}

// navLink is a page. Links that are not built yet keep their place
// here and are not shown.
type navLink struct {
	Label string
	Href  string
	Icon  string
	Built bool
}

var navigation = []navGroup{
	{"", []navLink{
		{"Overview", "/", "overview", true},
	}},
	{"Usage", []navLink{
		{"AI Usage", "/usage", "usage", true},
		{"Runs", "/runs", "runs", true},
		{"User Activity", "/activity", "activity", true},
	}},
	{"Keys", []navLink{
		{"Key Health", "/keys/health", "key", true},
		{"Fallback Keys", "/keys/fallback", "fallback", true},
	}},
	{"Operations", []navLink{
		{"Alerts", "/alerts", "alert", false},
		{"Incidents", "/incidents", "incident", true},
		{"Logs", "/logs", "logs", true},
		{"Runbook", "/runbook", "runbook", true},
		{"Row-level security", "/rls", "lock", true},
		{"Backups", "/backups", "backup", false},
		{"Smoke", "/smoke", "smoke", false},
	}},
	{"", []navLink{
		{"Playground", "/playground", "playground", true},
		{"Settings", "/settings", "settings", true},
	}},
}

// leadPages are the pages that team leads may see, too; the first one that is
// built is where they begin.
var leadPages = []string{"/keys/health", "/usage", "/activity", "/runs", "/runbook", "/incidents"}

// LeadStart is the page on which a team lead begins.
func LeadStart() string {
	built := map[string]bool{}
	for _, g := range navigation {
		for _, l := range g.Links {
			built[l.Href] = l.Built
		}
	}
	for _, href := range leadPages {
		if built[href] {
			return href
		}
	}
	return "/account/sessions"
}

// links returns the groups that have a page for who is signed in.
func (p Page) links() []navGroup {
	var groups []navGroup
	for _, g := range navigation {
		var links []navLink
		for _, l := range g.Links {
			if l.Built && p.maySee(l) {
				links = append(links, l)
			}
		}
		if len(links) > 0 {
			groups = append(groups, navGroup{g.Heading, links})
		}
	}
	return groups
}

// maySee says whether a link leads to a page of whoever is signed in.
func (p Page) maySee(l navLink) bool {
	return p.admin() || p.Operator != nil && p.Operator.Leads && slices.Contains(leadPages, l.Href)
}

// href is where a link leads: a lead stays with the team that was chosen.
func (p Page) href(l navLink) templ.SafeURL {
	return templ.SafeURL(p.InTeam(l.Href))
}

// InTeam is an address of a page for leads that keeps the team that was chosen.
func (p Page) InTeam(href string) string {
	if p.Teams == nil || p.Teams.Chosen == "" {
		return href
	}
	separator := "?"
	if strings.Contains(href, "?") {
		separator = "&"
	}
	return href + separator + "team=" + p.Teams.Chosen
}

// admin says whether an admin is signed in.
func (p Page) admin() bool { return p.Operator != nil && p.Operator.Role == "admin" }

// current says whether a link leads to the page being shown or to a page above
// it.
func (p Page) current(l navLink) bool {
	return p.Path == l.Href || l.Href != "/" && strings.HasPrefix(p.Path, l.Href+"/")
}

// displayName is the operator's name, or the address of one who gave none.
func (o Operator) displayName() string {
	if o.Name != "" {
		return o.Name
	}
	return o.Email
}

// initial is the letter in the operator's round mark.
func (o Operator) initial() string {
	for _, r := range o.displayName() {
		return strings.ToUpper(string(r))
	}
	return "?"
}

// roleLabel is the role as people say it.
func (o Operator) roleLabel() string {
	switch o.Role {
	case "admin":
		return "Admin"
	case "team_lead":
		return "Team lead"
	default:
		return o.Role
	}
}

// themeChoice is one button of the theme switch.
type themeChoice struct{ Value, Label, Icon string }

var themeChoices = []themeChoice{
	{"light", "Light theme", "sun"},
	{"dark", "Dark theme", "moon"},
	{"system", "Theme of the system", "system"},
}

// theme is the page's theme, "system" when none was chosen.
func (p Page) theme() string {
	if p.Theme == "light" || p.Theme == "dark" {
		return p.Theme
	}
	return "system"
}

// themeAttributes pins a chosen theme; without one the system decides.
func (p Page) themeAttributes() templ.Attributes {
	if theme := p.theme(); theme != "system" {
		return templ.Attributes{"data-theme": theme}
	}
	return nil
}

// noticeRole makes bad news be read out at once and other news in its turn.
func noticeRole(kind string) string {
	if kind == "error" || kind == "warning" {
		return "alert"
	}
	return "status"
}

// padAttributes carries the zeros that keep a column of money in line.
func padAttributes(pad string) templ.Attributes {
	if pad == "" {
		return nil
	}
	return templ.Attributes{"data-pad": pad}
}

// pressed is the value of aria-pressed.
func pressed(on bool) string {
	if on {
		return "true"
	}
	return "false"
}
