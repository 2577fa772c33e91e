package views

import (
	"net/url"
	"strconv"

	"github.com/a-h/templ"
)

// TeamsPage is a page of the teams.
type TeamsPage struct {
	Page
	Teams   []TeamRow
	Total   string // teams that match: "512"
	Search  string
	At      int // this page, from 1
	Pages   int
	Name    string // what was typed for a new team
	Problem string // what is wrong with it; "" when nothing is
}

// TeamRow is one team in the list.
type TeamRow struct {
	ID      string
	Name    string
	Members string
	Leads   string // addresses: "ada@example.org and bob@example.org"; "" for none
	Shares  bool   // leads may read prompts
}

// TeamPage is one team.
type TeamPage struct {
	Page
	TeamRow
	Created   Moment
	People    []TeamPerson
	Shown     string // "200 of 1,024" where not all are; "" when they are
	Search    string
	Templates string // shared with it: "3 templates"
	Runs      string // made for it: "1,024 runs", "more than 10,000 runs"
	Rename    string // what was typed
	Email     string // what was typed
	AsLead    bool   // what was chosen
	Problems  map[string]string
	Problem   string // why nothing was changed; "" when all is well
}

// TeamPerson is a member.
type TeamPerson struct {
	ID       string
	Email    string // "" for an account without one
	Lead     bool
	Closed   bool // the account is deleted or suspended
	Operator bool // signs in here as a team lead
	Joined   Moment
}

func (p TeamPerson) name() string {
	if p.Email == "" {
		return "Account " + p.ID
	}
	return p.Email
}

// pageHref is the address of a page of the list.
func (p TeamsPage) pageHref(at int) string {
	href := "/settings/teams?page=" + strconv.Itoa(at)
	if p.Search != "" {
		href += "&q=" + url.QueryEscape(p.Search)
	}
	return href
}

// action is the address of what can be done to the team.
func (p TeamPage) action(what string) templ.SafeURL {
	if what != "" {
		what = "/" + what
	}
	return templ.SafeURL("/settings/teams/" + p.ID + what)
}
