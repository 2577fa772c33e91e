// Package team is the teams of learners as admins look after them: who is a
// member, who leads, and whether leads read what members asked. The tables are
// the platform's own, shared with the frontend; whatever is changed here is in
// the audit log.
package team

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/fault"
)

// Role is what somebody is in a team.
type Role string

const (
	Lead   Role = "lead"   // sees the members' key status, usage and activity
	Member Role = "member" // sees their own
)

// Summary is a team in a list.
type Summary struct {
	ID           uuid.UUID
	Name         string
	SharePrompts bool // leads may read what members asked and got
	CreatedAt    time.Time
	Members      int      // leads included
	Leads        []string // their addresses, in alphabetical order; of accounts without one "no address"
}

// Team is a team with some of its members.
type Team struct {
	Summary
	People    []Person // at most MemberLimit, leads first, then by address
	Templates int      // shared with the team
	Runs      int64    // that were made for it, ever; not more than RunLimit are counted
}

// Person is a member of a team.
type Person struct {
	ID       uuid.UUID
	Email    string // empty: an account without one
	Role     Role
	Closed   bool // the account is deleted or suspended: they lead nothing for now
	JoinedAt time.Time
	Operator bool // signs in to the dashboard as a team lead
}

// Listing is a page of teams.
type Listing struct {
	Teams []Summary
	Total int // teams that match, on all pages
}

// PageSize is how many teams a Listing has at most, MemberLimit how many members
// a Team shows: longer ones are searched.
const (
	PageSize    = 50
	MemberLimit = 200
	RunLimit    = 10_000
	maxName     = 100 // characters
)

// checkName returns the name as it is stored, or fault.Invalid on the field name.
func checkName(name string) (string, error) {
	name = strings.Join(strings.Fields(name), " ")
	problem := ""
	switch {
	case name == "":
		problem = "is missing; give the team one that its members know"
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unseen):
		problem = "holds characters that cannot be seen; type it anew"
	case utf8.RuneCountInString(name) > maxName:
		problem = fmt.Sprintf("is longer than %d characters; shorten it", maxName)
	}
	if problem != "" {
		return "", fault.InvalidFields([]fault.Field{{Field: "name", Message: problem}})
	}
	return name, nil
}

// unseen is what would make a name look like another one: controls, and what
// turns the direction of text. What joins emoji is left alone.
func unseen(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
}

// Matches says whether typed is the team's name, as somebody sees it who has to
// type it: a browser shows many spaces as one.
func (t Summary) Matches(typed string) bool {
	return strings.Join(strings.Fields(typed), " ") == strings.Join(strings.Fields(t.Name), " ")
}

func checkRole(role Role) error {
	if !slices.Contains([]Role{Lead, Member}, role) {
		return fault.InvalidFields([]fault.Field{{Field: "role", Message: "must be lead or member"}})
	}
	return nil
}

func noTeam() *fault.Error {
	return fault.New(fault.NotFound, "There is no such team. It may have been deleted.")
}
