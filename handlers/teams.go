package handlers

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/team"
	"github.com/promptcademy/promptops/views"
)

const teamsPath = "/settings/teams"

// teamsPage is GET /settings/teams.
func (s *Server) teamsPage(c echo.Context) error {
	return s.renderTeams(c, "", nil)
}

// addTeam is POST /settings/teams.
func (s *Server) addTeam(c echo.Context) error {
	form, err := formOf(c)
	if err != nil {
		return err
	}
	id, err := s.Teams.Create(c.Request().Context(), actorOf(c), form.Get("name"), s.Now())
	if err != nil {
		return s.renderTeams(c, form.Get("name"), err)
	}
	setFlash(c, flashTeamMade)
	return c.Redirect(http.StatusSeeOther, teamsPath+"/"+id.String())
}

// teamPage is GET /settings/teams/:id.
func (s *Server) teamPage(c echo.Context) error {
	id, err := idParam(c, "id")
	if err != nil {
		return err
	}
	return s.renderTeam(c, id, nil, nil)
}

// renameTeam is POST /settings/teams/:id/name.
func (s *Server) renameTeam(c echo.Context) error {
	return s.changeTeam(c, func(id uuid.UUID, form url.Values) (string, error) {
		return flashTeamRenamed, s.Teams.Rename(c.Request().Context(), actorOf(c), id, form.Get("was"), form.Get("name"), s.Now())
	})
}

// shareTeam is POST /settings/teams/:id/sharing.
func (s *Server) shareTeam(c echo.Context) error {
	return s.changeTeam(c, func(id uuid.UUID, form url.Values) (string, error) {
		done := map[string]string{"yes": flashTeamShares, "no": flashTeamPrivate}[form.Get("share")]
		if done == "" {
			return "", fault.New(fault.Malformed, "The form does not say whether prompts are shared.")
		}
		return done, s.Teams.SharePrompts(c.Request().Context(), actorOf(c), id, form.Get("share") == "yes", s.Now())
	})
}

// addMember is POST /settings/teams/:id/members.
func (s *Server) addMember(c echo.Context) error {
	return s.changeTeam(c, func(id uuid.UUID, form url.Values) (string, error) {
		_, err := s.Teams.Add(c.Request().Context(), actorOf(c), id, form.Get("email"), team.Role(form.Get("role")), s.Now())
		return flashMemberAdded, err
	})
}

// changeMember is POST /settings/teams/:id/members/:learner.
func (s *Server) changeMember(c echo.Context) error {
	learnerID, err := idParam(c, "learner")
	if err != nil {
		return err
	}
	return s.changeTeam(c, func(id uuid.UUID, form url.Values) (string, error) {
		ctx := c.Request().Context()
		switch do := form.Get("do"); do {
		case "remove":
			_, err := s.Teams.Remove(ctx, actorOf(c), id, learnerID, s.Now())
			return flashMemberRemoved, err
		case "lead", "member":
			_, err := s.Teams.SetRole(ctx, actorOf(c), id, learnerID, team.Role(do), s.Now())
			return map[string]string{"lead": flashMemberLeads, "member": flashMemberLeadsNot}[do], err
		}
		return "", fault.New(fault.Malformed, "The form does not say what to do with this member.")
	})
}

// deleteTeam is POST /settings/teams/:id/delete.
func (s *Server) deleteTeam(c echo.Context) error {
	id, err := idParam(c, "id")
	if err != nil {
		return err
	}
	form, err := formOf(c)
	if err != nil {
		return err
	}
	if _, err := s.Teams.Delete(c.Request().Context(), actorOf(c), id, form.Get("confirm"), s.Now()); err != nil {
		return s.renderTeam(c, id, form, err)
	}
	setFlash(c, flashTeamDeleted)
	return c.Redirect(http.StatusSeeOther, teamsPath)
}

// changeTeam does something to a team, says so and shows what it is now.
func (s *Server) changeTeam(c echo.Context, change func(id uuid.UUID, form url.Values) (done string, err error)) error {
	id, err := idParam(c, "id")
	if err != nil {
		return err
	}
	form, err := formOf(c)
	if err != nil {
		return err
	}
	done, err := change(id, form)
	if err != nil {
		return s.renderTeam(c, id, form, err)
	}
	setFlash(c, done)
	return c.Redirect(http.StatusSeeOther, teamsPath+"/"+id.String())
}

// searchOf is what is looked for.
func searchOf(c echo.Context) string {
	search := strings.ToValidUTF8(strings.ReplaceAll(strings.TrimSpace(c.QueryParam("q")), "\x00", ""), "")
	runes := []rune(search)
	return string(runes[:min(len(runes), 200)]) // as long as the field
}

// renderTeams shows a page of the list; refused is why name was not made a team.
func (s *Server) renderTeams(c echo.Context, name string, refused error) error {
	status, _, problems, err := s.refusal(refused)
	if err != nil {
		return err
	}
	at, err := strconv.Atoi(c.QueryParam("page"))
	if err != nil || at < 1 || at > 1_000_000 {
		at = 1
	}
	search := searchOf(c)
	listing, err := s.Teams.List(c.Request().Context(), search, at)
	if err != nil {
		return err
	}
	page := views.TeamsPage{
		Page: s.page(c, "Teams"), Total: views.Count(int64(listing.Total)), Search: search,
		At: at, Pages: (listing.Total + team.PageSize - 1) / team.PageSize, Name: name, Problem: problems["name"],
	}
	if at > 1 && at > page.Pages {
		return c.Redirect(http.StatusSeeOther, teamsPath+"?"+url.Values{"q": {search}, "page": {strconv.Itoa(max(page.Pages, 1))}}.Encode())
	}
	for _, t := range listing.Teams {
		page.Teams = append(page.Teams, teamRow(t))
	}
	return s.render(c, status, views.Teams(page))
}

// renderTeam shows one team; form, if any, was refused.
func (s *Server) renderTeam(c echo.Context, id uuid.UUID, form url.Values, refused error) error {
	status, problem, problems, err := s.refusal(refused)
	if err != nil {
		return err
	}
	search := searchOf(c)
	t, err := s.Teams.Find(c.Request().Context(), id, search, s.Now())
	if err != nil {
		return err
	}
	zone := s.zone(c)
	page := views.TeamPage{
		TeamRow: teamRow(t.Summary), Created: views.MomentOf(t.CreatedAt, zone), Search: search,
		Templates: plural(int64(t.Templates), "template", "templates"), Runs: plural(t.Runs, "run", "runs"),
		Rename: t.Name, Email: form.Get("email"), AsLead: form.Get("role") == string(team.Lead), Problems: problems, Problem: problem,
	}
	page.Page = s.page(c, "Team "+t.Name)
	page.Path = teamsPath
	page.Members = plural(int64(t.Members), "member", "members")
	if form.Has("name") && problems["name"] != "" {
		page.Rename = form.Get("name")
	}
	if t.Runs == team.RunLimit {
		page.Runs = views.Count(t.Runs) + " runs or more"
	}
	if search == "" && t.Members > len(t.People) {
		page.Shown = views.Count(int64(len(t.People))) + " of " + views.Count(int64(t.Members))
	}
	for _, p := range t.People {
		page.People = append(page.People, views.TeamPerson{
			ID: p.ID.String(), Email: p.Email, Lead: p.Role == team.Lead, Closed: p.Closed, Operator: p.Operator, Joined: views.MomentOf(p.JoinedAt, zone),
		})
	}
	return s.render(c, status, views.TeamDetails(page))
}

func teamRow(t team.Summary) views.TeamRow {
	return views.TeamRow{ID: t.ID.String(), Name: t.Name, Members: views.Count(int64(t.Members)), Leads: views.NamesShort(t.Leads), Shares: t.SharePrompts}
}
