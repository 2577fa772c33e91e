// Package handlers is everything that answers HTTP. routes.go is the one table
// of addresses, fail.go the one place where errors become answers; then one file
// per page or API. A handler parses, makes one call, builds the view and renders.
package handlers

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops"
	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/activity"
	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/demo"
	"github.com/promptcademy/promptops/internal/drift"
	"github.com/promptcademy/promptops/internal/eventlog"
	"github.com/promptcademy/promptops/internal/history"
	"github.com/promptcademy/promptops/internal/incident"
	"github.com/promptcademy/promptops/internal/key"
	"github.com/promptcademy/promptops/internal/learner"
	"github.com/promptcademy/promptops/internal/notify"
	"github.com/promptcademy/promptops/internal/outreach"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/provider"
	"github.com/promptcademy/promptops/internal/run"
	"github.com/promptcademy/promptops/internal/runbook"
	"github.com/promptcademy/promptops/internal/team"
	"github.com/promptcademy/promptops/internal/telemetry"
	"github.com/promptcademy/promptops/internal/usage"
	"github.com/promptcademy/promptops/internal/view"
	"github.com/promptcademy/promptops/static"
	"github.com/promptcademy/promptops/views"
)

// Server is what the handlers need. Every field is required unless it says so.
type Server struct {
	// Who asks, and what operators do.
	Accounts *account.Store
	Sessions *account.Sessions
	Learners *learner.Store
	Verifier *learner.Verifier
	Teams    *team.Store
	Audit    *audit.Store

	// Runs, and what they need.
	Runner     *run.Runner
	Providers  *provider.Registry
	Endpoints  *provider.Endpoints
	Prices     *price.Prices
	PriceStore *price.Store
	PriceJobs  *price.Jobs
	Budgets    *run.BudgetStore
	Fallbacks  *key.Fallbacks
	OwnKeys    *key.OwnKeys
	// TestKey makes a free call with a key and draws its conclusions; operatorID is
	// who asked for it.
	TestKey func(ctx context.Context, source key.Source, id uuid.UUID, operatorID *uuid.UUID, now time.Time) (key.Tested, error)

	// What pages show, and who is told.
	Usage         *usage.Store
	History       *history.Store
	Activity      *activity.Store
	Views         *view.Store
	Outreach      *outreach.Store
	Runbook       *runbook.Store
	Checks        *runbook.Board
	Incidents     *incident.Store
	Logs          *eventlog.Store
	Drift         *drift.Store
	Reading       func(ctx context.Context, checkID string) (incident.Reading, error) // of a live check; nil: there are none
	Readable      func() []incident.Check                                             // the checks to choose from; may be nil
	Demo          *demo.Store
	Channels      *notify.Store
	Notifications *notify.Dispatcher

	Metrics *telemetry.Metrics
	Assets  *static.Assets
	Replica *Replica                        // nil: pages read from the database itself
	Ready   func(ctx context.Context) error // nil: the database answers and is migrated
	Log     *slog.Logger
	Now     func() time.Time
	Zone    *time.Location // of operators who chose none

	Patience time.Duration   // with a page; 0: 15 seconds
	Closing  context.Context // done when the program is told to stop: pages that are followed live end; nil: never

	BaseURL        string         // how browsers reach us
	CORSOrigins    []string       // the frontend's; may be empty
	TrustedProxies []netip.Prefix // whose X-Forwarded-For counts; may be empty
	MetricsToken   string         // whoever sends it may read /metrics; empty: nobody

	courtesy courtesy // of pages towards runs
}

// Handler returns the whole of HTTP.
func (s *Server) Handler() http.Handler {
	e := echo.New()
	e.HTTPErrorHandler = s.fail
	e.IPExtractor = ClientIP(s.TrustedProxies)
	e.Use(s.identify, s.measure, compressPages(), s.recoverPanics, s.secureHeaders(), s.cors(), refuseForgery())
	s.register(e)
	return e
}

// ClientIP says whose request it is. X-Forwarded-For counts only if it comes from
// the proxies named; from anybody else it would let them choose the address that
// sign-in throttling sees.
func ClientIP(trusted []netip.Prefix) func(*http.Request) string {
	if len(trusted) == 0 {
		return echo.ExtractIPDirect()
	}
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, prefix := range trusted {
		options = append(options, echo.TrustIPRange(ipNet(prefix)))
	}
	return echo.ExtractIPFromXFFHeader(options...)
}

// page is what the layout of every page shows.
func (s *Server) page(c echo.Context, title string) views.Page {
	page := views.Page{
		Title:  title,
		Path:   c.Request().URL.Path,
		Theme:  themeOf(c),
		Assets: s.Assets.URL,
		Flash:  takeFlash(c),
	}
	if operator := callerOf(c).operator; operator != nil {
		page.Operator = &views.Operator{Name: operator.Name, Email: operator.Email, Role: string(operator.Role), Zone: s.zone(c).String()}
		if exchangeOf(c).away {
			page.Operator.Leads = operator.Role == account.RoleTeamLead
			return page // the rest is in the database
		}
		if operator.Role == account.RoleTeamLead {
			page.Teams = s.teamSwitch(c)
			page.Operator.Leads = page.Teams != nil
		}
		page.Copy = s.copyNotice(c)
		page.Demo = s.Demo.Shown(c.Request().Context())
		if operator.Role == account.RoleAdmin || page.Operator.Leads {
			page.Incidents = s.openIncidents(c, operator.Role == account.RoleAdmin)
		}
	}
	return page
}

// zone is where the operator's days begin.
func (s *Server) zone(c echo.Context) *time.Location {
	if operator := callerOf(c).operator; operator != nil && operator.Timezone != "" {
		if zone, err := time.LoadLocation(operator.Timezone); err == nil {
			return zone
		}
	}
	return s.Zone
}

func (s *Server) render(c echo.Context, status int, component templ.Component) error {
	return promptops.Render(c.Request().Context(), c.Response(), status, component)
}

func (s *Server) renderFragment(c echo.Context, status int, component templ.Component) error {
	return promptops.RenderFragment(c.Request().Context(), c.Response(), status, component)
}
