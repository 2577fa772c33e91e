package handlers

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/learner"
	"github.com/promptcademy/promptops/views"
)

// scope is whose data a page shows. An admin sees everything. A team lead sees
// what row-level security lets their learner account see, of the teams that it
// leads at this moment: pages for leads read with the stores' As(*learner), and
// ask for teamIDs only, since a learner also sees what is their own.
type scope struct {
	learner *uuid.UUID     // as whom to read; nil: an admin, everything
	teams   []learner.Team // that a lead leads, by name; never empty
}

func scopeOf(c echo.Context) scope { return exchangeOf(c).scope }

// teamIDs are the teams that a page is limited to, of which chosen (nil: all) is
// one; nil is no limit. It is fault.NotFound for a team of somebody else.
func (s scope) teamIDs(chosen *uuid.UUID) ([]uuid.UUID, error) {
	if chosen != nil {
		if s.learner != nil && !slices.ContainsFunc(s.teams, func(t learner.Team) bool { return t.ID == *chosen }) {
			return nil, fault.New(fault.NotFound, "There is no such team among those that you lead.")
		}
		return []uuid.UUID{*chosen}, nil
	}
	if s.learner == nil {
		return nil, nil
	}
	ids := make([]uuid.UUID, len(s.teams))
	for i, team := range s.teams {
		ids[i] = team.ID
	}
	return ids, nil
}

// scopeFor asks the database which teams a lead leads now: whoever lost the role
// is refused from the next request on.
func (s *Server) scopeFor(ctx context.Context, operator account.Operator) (scope, error) {
	if operator.Role == account.RoleAdmin {
		return scope{}, nil
	}
	if operator.LearnerID == nil {
		return scope{}, fault.New(fault.Forbidden, "Your account is not tied to a learner, so it is not known which teams are yours. An administrator can change that.")
	}
	teams, err := s.Learners.Led(ctx, *operator.LearnerID, s.Now())
	if err != nil {
		return scope{}, err
	}
	if len(teams) == 0 {
		return scope{}, fault.New(fault.Forbidden, "You do not lead a team at the moment. An administrator can tell you more.")
	}
	return scope{operator.LearnerID, teams}, nil
}

// chosenTeam is the team of the address, one of the scope's; nil: all of them.
func (s scope) chosenTeam(c echo.Context) *learner.Team {
	for _, team := range s.teams {
		if team.ID.String() == strings.ToLower(c.QueryParam("team")) {
			return &team
		}
	}
	return nil
}

// teamSwitch is the switch between the teams of a lead; nil when they lead none.
// Pages that are not limited to teams show it, too, and lead back with it.
func (s *Server) teamSwitch(c echo.Context) *views.TeamSwitch {
	scope := scopeOf(c)
	if len(scope.teams) == 0 {
		var err error
		if scope, err = s.scopeFor(c.Request().Context(), *callerOf(c).operator); err != nil {
			return nil
		}
	}
	teams := &views.TeamSwitch{Now: scope.teams[0].Name}
	if len(scope.teams) == 1 {
		return teams
	}
	at, query := views.LeadStart(), url.Values{}
	if scopeOf(c).learner != nil && c.Request().Method == http.MethodGet {
		at, query = localPath(c.Request().URL.Path), c.QueryParams()
	}
	teams.Now = "All my teams"
	chosen := scope.chosenTeam(c)
	choice := func(label string, id string) views.TeamChoice {
		href := url.Values{}
		for name, values := range query {
			href[name] = values
		}
		href.Del("team")
		if id != "" {
			href.Set("team", id)
		}
		return views.TeamChoice{Label: label, Href: strings.TrimSuffix(at+"?"+href.Encode(), "?"), Current: id == teams.Chosen}
	}
	if chosen != nil {
		teams.Now, teams.Chosen = chosen.Name, chosen.ID.String()
	}
	teams.Choices = []views.TeamChoice{choice("All my teams", "")}
	for _, team := range scope.teams {
		teams.Choices = append(teams.Choices, choice(team.Name, team.ID.String()))
	}
	return teams
}
