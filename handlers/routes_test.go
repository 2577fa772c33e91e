package handlers_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
)

// outcome is what became of a request, as far as permission goes.
type outcome string

const (
	open      outcome = "open"       // let in: 200, 204, a redirect to somewhere else, or a complaint about what was sent
	toSignIn  outcome = "to sign-in" // sent to sign in
	unknown   outcome = "401"
	forbidden outcome = "403"
	absent    outcome = "404"
)

// permissions says of every route what becomes of whom: somebody unknown, a
// learner with an access token, a team lead who leads no team, an admin; and then,
// where it is something else than without a team, a team lead who leads one.
var permissions = map[string][5]outcome{
	"GET /healthz":     {open, open, open, open},
	"GET /readyz":      {open, open, open, open},
	"GET /static/*":    {absent, absent, absent, absent}, // there is no file "*"
	"GET /favicon.ico": {open, open, open, open},
	"GET /metrics":     {absent, absent, absent, absent}, // no token is set; see TestMetricsWithToken

	"GET /sign-in":              {open, open, open, open},
	"POST /sign-in":             {open, open, open, open},
	"GET /sign-in/link/:token":  {absent, absent, absent, absent}, // nor such a link
	"POST /sign-in/link/:token": {absent, absent, absent, absent},
	"POST /sign-out":            {open, open, open, open},
	"GET /account/password":     {toSignIn, toSignIn, open, open},
	"POST /account/password":    {toSignIn, toSignIn, open, open},
	"GET /account/sessions":     {toSignIn, toSignIn, open, open},
	"POST /account/sessions":    {toSignIn, toSignIn, open, open},
	"POST /preferences/theme":   {open, open, open, open},

	"POST /api/ai/run":      {unknown, open, forbidden, open},
	"GET /api/openapi.yaml": {open, open, open, open},

	"GET /api/keys":             {unknown, open, unknown, unknown},
	"POST /api/keys":            {unknown, open, unknown, unknown},
	"DELETE /api/keys/:id":      {unknown, absent, unknown, unknown}, // ":id" is no key's
	"POST /api/keys/:id/verify": {unknown, absent, unknown, unknown},

	"GET /":                   {toSignIn, toSignIn, forbidden, open, open},
	"GET /usage":              {toSignIn, toSignIn, forbidden, open, open},
	"GET /usage.csv":          {toSignIn, toSignIn, forbidden, open, open},
	"GET /usage.json":         {toSignIn, toSignIn, forbidden, open, open},
	"GET /runs":               {toSignIn, toSignIn, forbidden, open, open},
	"GET /runs.csv":           {toSignIn, toSignIn, forbidden, open, open},
	"GET /runs/:id":           {toSignIn, toSignIn, forbidden, absent, absent}, // ":id" is no run's
	"GET /activity":           {toSignIn, toSignIn, forbidden, open, open},
	"GET /activity.csv":       {toSignIn, toSignIn, forbidden, open, open},
	"GET /learners/:id":       {toSignIn, toSignIn, forbidden, absent, absent}, // ":id" is no learner's
	"POST /views":             {toSignIn, toSignIn, forbidden, open, open},
	"POST /views/:id":         {toSignIn, toSignIn, forbidden, absent, absent}, // ":id" is no view's
	"POST /views/:id/default": {toSignIn, toSignIn, forbidden, absent, absent},
	"POST /views/:id/delete":  {toSignIn, toSignIn, forbidden, absent, absent},
	"POST /views/:id/restore": {toSignIn, toSignIn, forbidden, absent, absent},

	"GET /playground":  {toSignIn, toSignIn, forbidden, open},
	"POST /playground": {toSignIn, toSignIn, forbidden, open},
	"POST /demo/clear": {toSignIn, toSignIn, forbidden, open},

	// ":id" is no key's and no endpoint's.
	"GET /keys/fallback":              {toSignIn, toSignIn, forbidden, open},
	"POST /keys/fallback":             {toSignIn, toSignIn, forbidden, open},
	"GET /keys/fallback/new":          {toSignIn, toSignIn, forbidden, open},
	"POST /keys/fallback/order":       {toSignIn, toSignIn, forbidden, open},
	"GET /keys/fallback/:id":          {toSignIn, toSignIn, forbidden, absent},
	"POST /keys/fallback/:id":         {toSignIn, toSignIn, forbidden, absent},
	"POST /keys/fallback/:id/test":    {toSignIn, toSignIn, forbidden, absent},
	"POST /keys/fallback/:id/rotate":  {toSignIn, toSignIn, forbidden, absent},
	"POST /keys/fallback/:id/keep":    {toSignIn, toSignIn, forbidden, absent},
	"POST /keys/fallback/:id/disable": {toSignIn, toSignIn, forbidden, absent},
	"POST /keys/fallback/:id/enable":  {toSignIn, toSignIn, forbidden, absent},
	"POST /keys/fallback/:id/delete":  {toSignIn, toSignIn, forbidden, absent},

	"GET /settings/providers":             {toSignIn, toSignIn, forbidden, open},
	"POST /settings/providers":            {toSignIn, toSignIn, forbidden, open},
	"GET /settings/providers/:id":         {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/providers/:id":        {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/providers/:id/test":   {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/providers/:id/delete": {toSignIn, toSignIn, forbidden, absent},

	"GET /keys/health":              {toSignIn, toSignIn, forbidden, open, open},
	"GET /keys/health.csv":          {toSignIn, toSignIn, forbidden, open, open},
	"POST /keys/health/actions":     {toSignIn, toSignIn, forbidden, open, open},
	"GET /keys/health/learners/:id": {toSignIn, toSignIn, forbidden, absent, absent}, // ":id" is nobody's
	"GET /keys/health/nudge":        {toSignIn, toSignIn, forbidden, open, open},
	"POST /keys/health/nudge":       {toSignIn, toSignIn, forbidden, open, open},
	"GET /keys/health/settings":     {toSignIn, toSignIn, forbidden, open},
	"POST /keys/health/settings":    {toSignIn, toSignIn, forbidden, open},

	"GET /incidents":                         {toSignIn, toSignIn, forbidden, open, open},
	"GET /incidents.csv":                     {toSignIn, toSignIn, forbidden, open},
	"GET /incidents/new":                     {toSignIn, toSignIn, forbidden, open},
	"POST /incidents":                        {toSignIn, toSignIn, forbidden, open},
	"GET /incidents/:id":                     {toSignIn, toSignIn, forbidden, absent}, // ":id" is no incident's
	"GET /incidents/:id/post-mortem.md":      {toSignIn, toSignIn, forbidden, absent},
	"POST /incidents/:id":                    {toSignIn, toSignIn, forbidden, absent},
	"POST /incidents/:id/status":             {toSignIn, toSignIn, forbidden, absent},
	"POST /incidents/:id/notes":              {toSignIn, toSignIn, forbidden, absent},
	"POST /incidents/:id/notes/:note":        {toSignIn, toSignIn, forbidden, absent},
	"POST /incidents/:id/reading":            {toSignIn, toSignIn, forbidden, absent},
	"POST /incidents/:id/post-mortem":        {toSignIn, toSignIn, forbidden, absent},
	"POST /incidents/:id/follow-ups":         {toSignIn, toSignIn, forbidden, absent},
	"POST /incidents/:id/follow-ups/:follow": {toSignIn, toSignIn, forbidden, absent},

	"GET /runbook":                  {toSignIn, toSignIn, forbidden, open, open},
	"GET /runbook/print":            {toSignIn, toSignIn, forbidden, open, open},
	"GET /runbook/checks/:id":       {toSignIn, toSignIn, forbidden, absent, absent}, // ":id" is no check
	"GET /runbook/:slug":            {toSignIn, toSignIn, forbidden, absent, absent}, // nor is ":slug" a procedure
	"GET /runbook/new":              {toSignIn, toSignIn, forbidden, open},
	"POST /runbook/new":             {toSignIn, toSignIn, forbidden, open},
	"GET /runbook/:slug/edit":       {toSignIn, toSignIn, forbidden, absent},
	"POST /runbook/:slug/edit":      {toSignIn, toSignIn, forbidden, open}, // the form lacks the version
	"GET /runbook/:slug/history":    {toSignIn, toSignIn, forbidden, absent},
	"GET /runbook/:slug/diff":       {toSignIn, toSignIn, forbidden, absent},
	"POST /runbook/:slug/restore":   {toSignIn, toSignIn, forbidden, absent},
	"POST /runbook/:slug/take-over": {toSignIn, toSignIn, forbidden, absent},
	"POST /runbook/:slug/remove":    {toSignIn, toSignIn, forbidden, absent},

	"GET /settings":          {toSignIn, toSignIn, forbidden, open},
	"GET /settings/budgets":  {toSignIn, toSignIn, forbidden, open},
	"POST /settings/budgets": {toSignIn, toSignIn, forbidden, open},

	// Without a name there is no model; ":id" is no price's and no job's.
	"GET /settings/prices":                {toSignIn, toSignIn, forbidden, open},
	"GET /settings/prices.csv":            {toSignIn, toSignIn, forbidden, open},
	"GET /settings/prices/model":          {toSignIn, toSignIn, forbidden, absent},
	"GET /settings/prices/set":            {toSignIn, toSignIn, forbidden, open},
	"POST /settings/prices/set":           {toSignIn, toSignIn, forbidden, open},
	"POST /settings/prices/:id/remove":    {toSignIn, toSignIn, forbidden, absent},
	"GET /settings/prices/recompute":      {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/prices/recompute":     {toSignIn, toSignIn, forbidden, open},
	"GET /settings/prices/jobs/:id":       {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/prices/jobs/:id/undo": {toSignIn, toSignIn, forbidden, absent},

	"POST /settings/prices/recompute/preview": {toSignIn, toSignIn, forbidden, open},

	"GET /settings/channels":                       {toSignIn, toSignIn, forbidden, open},
	"POST /settings/channels/:channel":             {toSignIn, toSignIn, forbidden, absent}, // ":channel" is none
	"POST /settings/channels/:channel/test":        {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/channels/deliveries/:id/again": {toSignIn, toSignIn, forbidden, absent}, // nor is ":id" a delivery
	"GET /settings/audit":                          {toSignIn, toSignIn, forbidden, open},
	"GET /settings/audit.csv":                      {toSignIn, toSignIn, forbidden, open},
	"POST /settings/audit/verify":                  {toSignIn, toSignIn, forbidden, open},
	"GET /settings/operators":                      {toSignIn, toSignIn, forbidden, open},
	"POST /settings/operators":                     {toSignIn, toSignIn, forbidden, open},
	"GET /settings/operators/:id":                  {toSignIn, toSignIn, forbidden, absent}, // ":id" is nobody's
	"POST /settings/operators/:id":                 {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/operators/:id/link":            {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/operators/:id/disable":         {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/operators/:id/enable":          {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/operators/:id/end-sessions":    {toSignIn, toSignIn, forbidden, absent},
	"GET /settings/teams":                          {toSignIn, toSignIn, forbidden, open},
	"POST /settings/teams":                         {toSignIn, toSignIn, forbidden, open},
	"GET /settings/teams/:id":                      {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/teams/:id/name":                {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/teams/:id/sharing":             {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/teams/:id/members":             {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/teams/:id/members/:learner":    {toSignIn, toSignIn, forbidden, absent},
	"POST /settings/teams/:id/delete":              {toSignIn, toSignIn, forbidden, absent},

	"GET /logs":        {toSignIn, toSignIn, forbidden, open},
	"GET /logs.csv":    {toSignIn, toSignIn, forbidden, open},
	"GET /logs.ndjson": {toSignIn, toSignIn, forbidden, open},
	"GET /logs/tail":   {toSignIn, toSignIn, forbidden, open}, // only as a stream

	"GET /rls":       {toSignIn, toSignIn, forbidden, open},
	"POST /rls/test": {toSignIn, toSignIn, forbidden, open},
}

func TestEveryRouteForEveryRole(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	roles := []string{"nobody", "learner", "team lead of no team", "admin", "team lead"}
	token := s.token(s.learner("ada@example.org"))
	idle, admin := s.operator("idle@example.org", account.RoleTeamLead, ""), s.operator("admin@example.org", account.RoleAdmin, "")
	lead, _ := s.leadOf("lead@example.org", "Design")

	registered := map[string]bool{}
	for _, route := range s.Handler().(*echo.Echo).Routes() {
		name := route.Method + " " + route.Path
		registered[name] = true
		want, classified := permissions[name]
		if route.Method == http.MethodHead {
			want, classified = permissions["GET "+route.Path]
		}
		if !classified {
			t.Errorf("%s is new: say in permissions who may use it", name)
			continue
		}
		for i, role := range roles {
			var who *visitor
			var header []string
			switch role {
			case "learner":
				header = []string{"Authorization", "Bearer " + token}
				fallthrough
			case "nobody":
				who = s.visitor()
			case "team lead of no team":
				who = s.visitor(s.session(idle))
			case "team lead":
				who = s.visitor(s.session(lead))
				if want[i] == "" {
					want[i] = want[i-2]
				}
			case "admin":
				who = s.visitor(s.session(admin))
			}
			answer := who.send(route.Method, route.Path, strings.NewReader(`{}`), append(header, "Content-Type", "application/json")...)
			if got := outcomeOf(answer); got != want[i] {
				t.Errorf("%s by %s: %s (status %d), want %s", name, role, got, answer.StatusCode, want[i])
			}
		}
	}
	for name := range permissions {
		if !registered[name] {
			t.Errorf("there is no route %s any more: remove it from permissions", name)
		}
	}
}

func outcomeOf(r reply) outcome {
	location := r.Header.Get("Location")
	switch r.StatusCode {
	case http.StatusUnauthorized:
		return unknown
	case http.StatusForbidden:
		return forbidden
	case http.StatusNotFound:
		return absent
	case http.StatusSeeOther:
		if strings.HasPrefix(location, "/sign-in") && r.Request.URL.Path != "/sign-out" {
			return toSignIn
		}
		return open
	case http.StatusOK, http.StatusNoContent, http.StatusMovedPermanently, http.StatusBadRequest, http.StatusUnprocessableEntity:
		return open
	default:
		return outcome(r.Status)
	}
}

// Reading changes nothing: not for a mail scanner, not for a browser that
// fetches ahead.
func TestNoGETChangesAnything(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	past := s.visitor().run(s.token(s.learner("ada@example.org")), `{"prompt":"Hello","models":["openai/gpt-5-mini"]}`).wants(t, http.StatusOK).run(t)
	admin := s.operator("admin@example.org", account.RoleAdmin, "")
	link, err := s.Accounts.CreateLink(t.Context(), audit.CommandLine, admin.ID, 1<<40, s.Clock.Now())
	must(t, err)
	session := s.session(admin)

	before := s.rows(t)
	if before["ops.sign_in_links"].Rows != 1 {
		t.Errorf("there are %d sign-in links, want one", before["ops.sign_in_links"].Rows)
	}
	for _, route := range s.Handler().(*echo.Echo).Routes() {
		if route.Method != http.MethodGet && route.Method != http.MethodHead {
			continue
		}
		path := strings.NewReplacer(":token", link, ":id", past.RequestID).Replace(route.Path)
		s.visitor().send(route.Method, path, nil)
		s.visitor(session).send(route.Method, path+"?range=7d&theme=dark&prompt=x&models=openai/gpt-5-mini", nil)
	}
	if diff := cmp.Diff(before, s.rows(t)); diff != "" {
		t.Errorf("rows, by table (-before +after):\n%s", diff)
	}
}

// table is how many rows there are, and the sum of their contents where there
// are not too many to look.
type table struct {
	Rows    int64
	Content int64
}

func (s *site) rows(t *testing.T) map[string]table {
	t.Helper()
	rows, err := s.DB.Query(t.Context(), `
		select format('%I.%I', schemaname, tablename)
		from pg_tables
		where schemaname in ('public', 'ops', 'auth')`)
	must(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	found := map[string]table{}
	for _, name := range names {
		var all table
		must(t, s.DB.QueryRow(t.Context(), `select count(*) from `+name).Scan(&all.Rows))
		if all.Rows < 1000 {
			must(t, s.DB.QueryRow(t.Context(), `select coalesce(sum(hashtext(t::text)), 0) from `+name+` t`).Scan(&all.Content))
		}
		found[name] = all
	}
	if len(found) < 20 {
		t.Fatalf("these are not all the tables: %v", slices.Sorted(maps.Keys(found)))
	}
	return found
}

func TestUnknownAddressesAndVerbs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	admin.get("/nothing").wants(t, http.StatusNotFound).shows(t, "Promptcademy Ops", "Go to the start", "Sign out")
	s.visitor().get("/nothing").wants(t, http.StatusNotFound).shows(t, "Promptcademy Ops", "Go to sign-in")
	for _, path := range []string{"/usage", "/usage.csv", "/", "/healthz"} {
		answer := admin.send(http.MethodDelete, path, nil).wants(t, http.StatusMethodNotAllowed)
		if answer.Header.Get("Allow") == "" {
			t.Errorf("DELETE %s: Allow is missing", path)
		}
	}
}

func TestHEADIsGETWithoutTheBody(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	for _, path := range []string{"/healthz", "/readyz", "/account/password", "/usage", "/usage.csv"} {
		get, head := admin.get(path).wants(t, http.StatusOK), admin.send(http.MethodHead, path, nil).wants(t, http.StatusOK)
		if head.Text != "" || head.Header.Get("Content-Type") != get.Header.Get("Content-Type") {
			t.Errorf("HEAD %s: %q with %d bytes, GET says %q", path, head.Header.Get("Content-Type"), len(head.Text), get.Header.Get("Content-Type"))
		}
	}
}

func TestPagesAreCompressed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	for path, want := range map[string]string{
		"/usage": "gzip", "/playground": "gzip", "/nothing": "", "/healthz": "", "/api/nothing": "",
		s.Assets.URL("style.css"): "gzip", // by static
	} {
		if got := admin.get(path, "Accept-Encoding", "gzip").Header.Get("Content-Encoding"); got != want {
			t.Errorf("%s has the Content-Encoding %q, want %q", path, got, want)
		}
	}
}
