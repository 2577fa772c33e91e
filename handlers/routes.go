package handlers

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/drift"
	"github.com/promptcademy/promptops/internal/fault"
)

// access says who may use a route.
type access int

const (
	public      access = iota + 1 // anybody
	signedIn                      // every operator
	lead                          // admins, and team leads who lead a team: see scope
	reader                        // as lead; without the database whoever was signed in lately: see admitReader
	admin                         // operators of role admin
	runner                        // a learner's access token, or an admin's session
	learnerOnly                   // a learner's access token, and no session; the account is looked at
	scraper                       // whoever has the metrics token
)

// route is one line of the table.
type route struct {
	method string
	path   string
	access access
	handle func(*Server, echo.Context) error
}

// routes is every address there is.
var routes = []route{
	{http.MethodGet, "/healthz", public, (*Server).healthz},
	{http.MethodGet, "/readyz", public, (*Server).readyz},
	{http.MethodGet, "/static/*", public, (*Server).asset},
	{http.MethodGet, "/favicon.ico", public, (*Server).favicon},
	{http.MethodGet, metricsPath, scraper, (*Server).metrics},

	{http.MethodGet, "/sign-in", public, (*Server).signInForm},
	{http.MethodPost, "/sign-in", public, (*Server).signIn},
	{http.MethodGet, "/sign-in/link/:token", public, (*Server).signInLinkForm},
	{http.MethodPost, "/sign-in/link/:token", public, (*Server).signInLink},
	{http.MethodPost, "/sign-out", public, (*Server).signOut},
	{http.MethodGet, "/account/password", signedIn, (*Server).passwordForm},
	{http.MethodPost, "/account/password", signedIn, (*Server).setPassword},
	{http.MethodGet, sessionsPath, signedIn, (*Server).sessionsPage},
	{http.MethodPost, sessionsPath, signedIn, (*Server).endSessions},
	{http.MethodPost, "/preferences/theme", public, (*Server).setTheme},

	{http.MethodPost, runPath, runner, (*Server).runAPI},
	{http.MethodGet, keysPath, learnerOnly, (*Server).ownKeysAPI},
	{http.MethodPost, keysPath, learnerOnly, (*Server).addOwnKeyAPI},
	{http.MethodDelete, keysPath + "/:id", learnerOnly, (*Server).removeOwnKeyAPI},
	{http.MethodPost, keysPath + "/:id/verify", learnerOnly, (*Server).testOwnKeyAPI},
	{http.MethodGet, "/api/openapi.yaml", public, (*Server).openAPI},

	{http.MethodGet, "/", lead, (*Server).home},
	{http.MethodGet, "/usage", lead, (*Server).usagePage},
	{http.MethodGet, "/usage.csv", lead, (*Server).usageCSV},
	{http.MethodGet, "/usage.json", lead, (*Server).usageJSON},
	{http.MethodGet, fallbackPath, admin, (*Server).fallbackPage},
	{http.MethodPost, fallbackPath, admin, (*Server).addFallback},
	{http.MethodGet, fallbackPath + "/new", admin, (*Server).newFallback},
	{http.MethodPost, fallbackPath + "/order", admin, (*Server).orderFallback},
	{http.MethodGet, fallbackPath + "/:id", admin, (*Server).fallbackKeyPage},
	{http.MethodPost, fallbackPath + "/:id", admin, (*Server).changeFallback},
	{http.MethodPost, fallbackPath + "/:id/test", admin, (*Server).testFallback},
	{http.MethodPost, fallbackPath + "/:id/rotate", admin, (*Server).rotateFallback},
	{http.MethodPost, fallbackPath + "/:id/keep", admin, (*Server).keepFallback},
	{http.MethodPost, fallbackPath + "/:id/disable", admin, (*Server).disableFallback},
	{http.MethodPost, fallbackPath + "/:id/enable", admin, (*Server).enableFallback},
	{http.MethodPost, fallbackPath + "/:id/delete", admin, (*Server).deleteFallback},
	{http.MethodGet, keyHealthPath, lead, (*Server).keyHealthPage},
	{http.MethodGet, keyHealthPath + ".csv", lead, (*Server).keyHealthCSV},
	{http.MethodPost, keyHealthPath + "/actions", lead, (*Server).workOn},
	{http.MethodGet, keyHealthPath + "/learners/:id", lead, (*Server).learnerKeysPage},
	{http.MethodGet, nudgePath, lead, (*Server).nudgePage},
	{http.MethodPost, nudgePath, lead, (*Server).nudge},
	{http.MethodGet, nudgeSettingsPath, admin, (*Server).nudgeSettingsPage},
	{http.MethodPost, nudgeSettingsPath, admin, (*Server).setNudgeSettings},
	{http.MethodGet, incidentsPath, lead, (*Server).incidentsPage},
	{http.MethodGet, incidentsPath + ".csv", admin, (*Server).incidentsCSV},
	{http.MethodGet, incidentsPath + "/new", admin, (*Server).newIncident},
	{http.MethodPost, incidentsPath, admin, (*Server).startIncident},
	{http.MethodGet, incidentsPath + "/:id", admin, (*Server).incidentPage},
	{http.MethodGet, incidentsPath + "/:id/post-mortem.md", admin, (*Server).postMortem},
	{http.MethodPost, incidentsPath + "/:id", admin, (*Server).editIncident},
	{http.MethodPost, incidentsPath + "/:id/status", admin, (*Server).moveIncident},
	{http.MethodPost, incidentsPath + "/:id/notes", admin, (*Server).addNote},
	{http.MethodPost, incidentsPath + "/:id/notes/:note", admin, (*Server).changeNote},
	{http.MethodPost, incidentsPath + "/:id/reading", admin, (*Server).recordReading},
	{http.MethodPost, incidentsPath + "/:id/post-mortem", admin, (*Server).writePostMortem},
	{http.MethodPost, incidentsPath + "/:id/follow-ups", admin, (*Server).addFollowUp},
	{http.MethodPost, incidentsPath + "/:id/follow-ups/:follow", admin, (*Server).doFollowUp},
	{http.MethodGet, rlsPath, admin, (*Server).rlsPage},
	{http.MethodPost, rlsPath + "/test", admin, (*Server).tryRLS},
	{http.MethodGet, logsPath, admin, (*Server).logsPage},
	{http.MethodGet, logsPath + ".csv", admin, (*Server).logsCSV},
	{http.MethodGet, logsPath + ".ndjson", admin, (*Server).logsNDJSON},
	{http.MethodGet, logsTailPath, admin, (*Server).tailLogs},
	{http.MethodGet, "/runs", lead, (*Server).runsPage},
	{http.MethodGet, "/runs.csv", lead, (*Server).runsCSV},
	{http.MethodGet, "/runs/:id", lead, (*Server).runPage},
	{http.MethodGet, "/activity", lead, (*Server).activityPage},
	{http.MethodGet, "/activity.csv", lead, (*Server).activityCSV},
	{http.MethodGet, "/learners/:id", lead, (*Server).learnerPage},
	{http.MethodPost, "/views", lead, (*Server).saveView},
	{http.MethodPost, "/views/:id", lead, (*Server).changeView},
	{http.MethodPost, "/views/:id/default", lead, (*Server).setDefaultView},
	{http.MethodPost, "/views/:id/delete", lead, (*Server).deleteView},
	{http.MethodPost, "/views/:id/restore", lead, (*Server).restoreView},
	{http.MethodGet, playgroundPath, admin, (*Server).playgroundPage},
	{http.MethodPost, playgroundPath, admin, (*Server).playgroundRun},
	{http.MethodGet, runbookPath, reader, (*Server).runbookPage},
	{http.MethodGet, runbookPath + "/print", reader, (*Server).printRunbook},
	{http.MethodGet, runbookPath + "/checks/:id", reader, (*Server).checkFragment},
	{http.MethodGet, runbookPath + "/:slug", reader, (*Server).procedurePage},
	{http.MethodGet, runbookPath + "/new", admin, (*Server).newProcedure},
	{http.MethodPost, runbookPath + "/new", admin, (*Server).addProcedure},
	{http.MethodGet, runbookPath + "/:slug/edit", admin, (*Server).editProcedure},
	{http.MethodPost, runbookPath + "/:slug/edit", admin, (*Server).saveProcedure},
	{http.MethodGet, runbookPath + "/:slug/history", admin, (*Server).procedureHistory},
	{http.MethodGet, runbookPath + "/:slug/diff", admin, (*Server).procedureDiff},
	{http.MethodPost, runbookPath + "/:slug/restore", admin, (*Server).restoreProcedure},
	{http.MethodPost, runbookPath + "/:slug/take-over", admin, (*Server).takeOverProcedure},
	{http.MethodPost, runbookPath + "/:slug/remove", admin, (*Server).removeProcedure},
	{http.MethodGet, "/settings", admin, (*Server).settings},
	{http.MethodGet, budgetsPath, admin, (*Server).budgetsPage},
	{http.MethodPost, budgetsPath, admin, (*Server).setBudgets},
	{http.MethodGet, pricesPath, admin, (*Server).pricesPage},
	{http.MethodGet, pricesPath + ".csv", admin, (*Server).pricesCSV},
	{http.MethodGet, pricesPath + "/model", admin, (*Server).priceModelPage},
	{http.MethodGet, pricesPath + "/set", admin, (*Server).setPriceForm},
	{http.MethodPost, pricesPath + "/set", admin, (*Server).setPrice},
	{http.MethodPost, pricesPath + "/:id/remove", admin, (*Server).removePrice},
	{http.MethodGet, pricesPath + "/recompute", admin, (*Server).recomputePage},
	{http.MethodPost, pricesPath + "/recompute", admin, (*Server).recompute},
	{http.MethodPost, pricesPath + "/recompute/preview", admin, (*Server).previewRecompute},
	{http.MethodGet, pricesPath + "/jobs/:id", admin, (*Server).priceJobPage},
	{http.MethodPost, pricesPath + "/jobs/:id/undo", admin, (*Server).undoRecompute},
	{http.MethodGet, channelsPath, admin, (*Server).channelsPage},
	{http.MethodPost, channelsPath + "/:channel", admin, (*Server).setChannel},
	{http.MethodPost, channelsPath + "/:channel/test", admin, (*Server).testChannel},
	{http.MethodPost, channelsPath + "/deliveries/:id/again", admin, (*Server).sendAgain},
	{http.MethodGet, auditPath, admin, (*Server).auditPage},
	{http.MethodGet, auditPath + ".csv", admin, (*Server).auditCSV},
	{http.MethodPost, auditPath + "/verify", admin, (*Server).verifyAudit},
	{http.MethodGet, operatorsPath, admin, (*Server).operatorsPage},
	{http.MethodPost, operatorsPath, admin, (*Server).addOperator},
	{http.MethodGet, operatorsPath + "/:id", admin, (*Server).operatorPage},
	{http.MethodPost, operatorsPath + "/:id", admin, (*Server).editOperator},
	{http.MethodPost, operatorsPath + "/:id/link", admin, (*Server).linkOperator},
	{http.MethodPost, operatorsPath + "/:id/disable", admin, (*Server).disableOperator},
	{http.MethodPost, operatorsPath + "/:id/enable", admin, (*Server).enableOperator},
	{http.MethodPost, operatorsPath + "/:id/end-sessions", admin, (*Server).endOperatorSessions},
	{http.MethodGet, teamsPath, admin, (*Server).teamsPage},
	{http.MethodPost, teamsPath, admin, (*Server).addTeam},
	{http.MethodGet, teamsPath + "/:id", admin, (*Server).teamPage},
	{http.MethodPost, teamsPath + "/:id/name", admin, (*Server).renameTeam},
	{http.MethodPost, teamsPath + "/:id/sharing", admin, (*Server).shareTeam},
	{http.MethodPost, teamsPath + "/:id/members", admin, (*Server).addMember},
	{http.MethodPost, teamsPath + "/:id/members/:learner", admin, (*Server).changeMember},
	{http.MethodPost, teamsPath + "/:id/delete", admin, (*Server).deleteTeam},
	{http.MethodGet, providersPath, admin, (*Server).providersPage},
	{http.MethodPost, providersPath, admin, (*Server).addEndpoint},
	{http.MethodGet, providersPath + "/:id", admin, (*Server).endpointPage},
	{http.MethodPost, providersPath + "/:id", admin, (*Server).changeEndpoint},
	{http.MethodPost, providersPath + "/:id/test", admin, (*Server).testEndpoint},
	{http.MethodPost, providersPath + "/:id/delete", admin, (*Server).removeEndpoint},
	{http.MethodPost, "/demo/clear", admin, (*Server).clearDemo},
}

// register hands the table to Echo. What can be read can also be asked for with
// HEAD: net/http leaves the body out.
func (s *Server) register(e *echo.Echo) {
	for _, r := range routes {
		methods := []string{r.method}
		if r.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
		e.Match(methods, r.path, func(c echo.Context) error {
			exchangeOf(c).route = r.path
			if r.path != runPath { // whose statements are sent together with those of other runs
				c.SetRequest(c.Request().WithContext(drift.OnRoute(c.Request().Context(), r.method+" "+r.path)))
			}
			if r.method == http.MethodPost && (r.path == runPath || r.path == playgroundPath) {
				defer s.courtesy.run()()
			}
			if r.method == http.MethodGet && !takesLong(r.path) {
				if r.isPage() {
					defer s.courtesy.page(c.Request().Context())()
				}
				return s.patiently(c, func() error { return s.serve(c, r) })
			}
			return s.serve(c, r)
		})
	}
}

// isPage says that this is for operators to look at.
func (r route) isPage() bool {
	return r.access == signedIn || r.access == lead || r.access == reader || r.access == admin
}

// takesLong says that a long file may take its time, and what is followed live has no
// end.
func takesLong(path string) bool {
	return strings.HasSuffix(path, ".csv") || strings.HasSuffix(path, ".ndjson") || path == logsTailPath
}

func (s *Server) serve(c echo.Context, r route) error {
	if err := s.admit(c, r.access); err != nil {
		return err
	}
	s.chooseCopy(c)
	return r.handle(s, c)
}

// pagePatience is how long a page waits in all. Statements are ended by the
// database, but a database that hangs ends nothing.
const pagePatience = 15 * time.Second

// patiently gives up a page that takes too long, and says so without asking the
// database again.
func (s *Server) patiently(c echo.Context, page func() error) error {
	whole := c.Request()
	ctx, cancel := context.WithTimeout(whole.Context(), cmp.Or(s.Patience, pagePatience))
	defer cancel()
	err := func() error {
		c.SetRequest(whole.WithContext(ctx))
		defer c.SetRequest(whole) // after a panic too: the page that tells of it needs a live context
		return page()
	}()
	if err == nil || ctx.Err() == nil || whole.Context().Err() != nil {
		return err
	}
	exchangeOf(c).away = true
	return fault.New(fault.Unavailable, "The database does not answer right now. Try again in a moment.").After(2 * time.Second).Because(err)
}
