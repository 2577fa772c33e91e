package handlers_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/usage"
)

// rivals are two teams. Ann leads Alpha; she also learns in Beta, which is led by
// Bea, and has runs of her own for Beta and for no team.
type rivals struct {
	*site
	ann, bea           *visitor
	annLearner         uuid.UUID
	alpha, beta        uuid.UUID
	runs               map[string]string // ids by whose they are: "alpha", "beta", "own in beta", "own"
	beaOperator, admin account.Operator
}

func newRivals(t *testing.T) rivals {
	t.Helper()
	s := newSite(t).withKeys("openai", "anthropic", "google")
	lead, teams := s.leadOf("ann@example.org", "Alpha Avengers")
	other, others := s.leadOf("bea@example.org", "Beta Buccaneers")
	r := rivals{site: s, annLearner: *lead.LearnerID, alpha: teams[0], beta: others[0], runs: map[string]string{}, beaOperator: other}
	r.ann, r.bea = s.visitor(s.session(lead)), s.visitor(s.session(other))
	r.admin = s.operator("root@example.org", account.RoleAdmin, "")
	anton, bertha := s.learner("anton@alpha.example.org"), s.learner("bertha@beta.example.org")
	s.join(r.alpha, anton, "member")
	s.join(r.beta, bertha, "member")
	s.join(r.beta, r.annLearner, "member")
	for who, what := range map[string]struct {
		learner uuid.UUID
		team    string
		model   string
	}{
		"alpha":       {anton, r.alpha.String(), "openai/gpt-5-mini"},
		"beta":        {bertha, r.beta.String(), "anthropic/claude-haiku-5-5"},
		"own in beta": {r.annLearner, r.beta.String(), "google/gemini-3.8-flash"},
		"own":         {r.annLearner, "", "google/gemini-3.8-flash"},
	} {
		body := map[string]any{"prompt": "Secret of " + who, "models": []string{what.model}}
		if what.team != "" {
			body["teamId"] = what.team
		}
		text, err := json.Marshal(body)
		must(t, err)
		r.runs[who] = s.visitor().run(s.token(what.learner), string(text)).wants(t, http.StatusOK).run(t).RequestID
	}
	return r
}

// intrusion is one way to try to see another team: what is sent by a lead of
// Alpha, and what the answer must not hold beside what never may. A page that
// leads may see adds its rows to intrusions.
type intrusion struct {
	name   string
	method string // GET if empty
	path   string
	body   string   // a form
	header []string // "Name", "value", …
	also   []string // what must not be in the answer, beside forbiddenWords
	own    bool     // the answer may be 200: with the lead's own data only
}

// forbiddenWords are in no answer to a lead of Alpha, be it in its body or in its
// header: who and what is of Beta, and models that only Beta and Ann herself used.
func (r rivals) forbiddenWords() []string {
	return []string{
		"Beta Buccaneers", "bertha", "bea@example.org", "learner-bea", "claude-haiku", "gemini-3.8", "Secret of",
		r.beta.String(), r.runs["beta"], r.runs["own in beta"], r.runs["own"],
	}
}

func (r rivals) intrusions() []intrusion {
	beta, alpha := r.beta.String(), r.alpha.String()
	betaUpper, betaBare := strings.ToUpper(beta), strings.ReplaceAll(beta, "-", "")
	list := []intrusion{
		// The filter of the page, in every spelling.
		{name: "the team's id", path: "/usage?team=" + beta},
		{name: "in capitals", path: "/usage?team=" + betaUpper},
		{name: "without hyphens", path: "/usage?team=" + betaBare},
		{name: "in braces", path: "/usage?team=%7B" + beta + "%7D"},
		{name: "as a URN", path: "/usage?team=urn:uuid:" + beta},
		{name: "percent-encoded", path: "/usage?team=" + strings.ReplaceAll(beta, "-", "%2D")},
		{name: "encoded twice", path: "/usage?team=" + strings.ReplaceAll(beta, "-", "%252D"), own: true},
		{name: "twice, theirs first", path: "/usage?team=" + beta + "&team=" + alpha},
		{name: "twice, ours first", path: "/usage?team=" + alpha + "&team=" + beta, own: true},
		{name: "both in one", path: "/usage?team=" + alpha + "," + beta, own: true},
		{name: "as a list", path: "/usage?team[]=" + beta, own: true},
		{name: "as team ids", path: "/usage?teamIDs=" + beta + "&TeamIDs=" + beta + "&team_ids=" + beta, own: true},
		{name: "as a team id", path: "/usage?team_id=" + beta + "&teamId=" + beta, own: true},
		{name: "in another case", path: "/usage?TEAM=" + beta + "&Team=" + beta, own: true},
		{name: "behind a semicolon", path: "/usage?range=7d;team=" + beta, own: true},
		{name: "with a NUL", path: "/usage?team=" + beta + "%00", own: true},
		{name: "with a space", path: "/usage?team=%20" + beta, own: true},
		{name: "by name", path: "/usage?team=Beta+Buccaneers", own: true, also: nil},
		{name: "nil", path: "/usage?team=00000000-0000-0000-0000-000000000000"},
		{name: "empty", path: "/usage?team=", own: true},
		{name: "null", path: "/usage?team=null", own: true},
		{name: "a wildcard", path: "/usage?team=*", own: true},
		{name: "SQL", path: "/usage?team=" + url.QueryEscape("' or team_id = '"+beta), own: true},
		{name: "SQL in another filter", path: "/usage?range=7d&key=user&provider=" + url.QueryEscape("x' or '1'='1"), own: true},
		{name: "no filter", path: "/usage", own: true},
		{name: "all days", path: "/usage?range=180d", own: true},
		{name: "today", path: "/usage?range=today", own: true},
		{name: "their learner", path: "/usage?learner=" + r.annLearner.String() + "&user=" + r.annLearner.String(), own: true},

		// The file and the fragment.
		{name: "the file", path: "/usage.csv", own: true},
		{name: "their learner's address", path: "/usage?group=learner&sub=team&learner=learner-bea@example.org", own: true},
		{name: "by learner", path: "/usage?group=learner&sub=model&compare=previous", own: true},
		{name: "by team", path: "/usage?group=team&sub=learner&metric=runs", own: true},
		{name: "by template", path: "/usage?group=template&sub=learner&metric=latency&bucket=week", own: true},
		{name: "the JSON", path: "/usage.json?group=learner&sub=team", own: true},
		{name: "the JSON of their team", path: "/usage.json?team=" + beta},
		{name: "the file by learner", path: "/usage.csv?group=learner&sub=team", own: true},
		{name: "the file of their team", path: "/usage.csv?team=" + beta},
		{name: "the file, ours first", path: "/usage.csv?team=" + alpha + "&team=" + beta, own: true},
		{name: "the fragment", path: "/usage?team=" + beta, header: []string{"HX-Request", "true"}},
		{name: "the fragment of all", path: "/usage?range=7d", header: []string{"HX-Request", "true"}, own: true},
		{name: "with a current URL", path: "/usage", header: []string{"HX-Request", "true", "HX-Current-URL", r.URL + "/usage?team=" + beta}, own: true},

		// Other methods, paths and headers.
		{name: "HEAD", method: http.MethodHead, path: "/usage?team=" + beta},
		{name: "HEAD of the file", method: http.MethodHead, path: "/usage.csv?team=" + beta},
		{name: "POST", method: http.MethodPost, path: "/usage", body: "team=" + beta},
		{name: "POST that wants to be GET", method: http.MethodPost, path: "/usage?team=" + beta, header: []string{"X-HTTP-Method-Override", "GET"}},
		{name: "PUT", method: http.MethodPut, path: "/usage?team=" + beta},
		{name: "OPTIONS", method: http.MethodOptions, path: "/usage?team=" + beta, own: true},
		{name: "PROPFIND", method: "PROPFIND", path: "/usage"},
		{name: "a GET with a body", method: http.MethodGet, path: "/usage", body: "team=" + beta, own: true},
		{name: "a slash more", path: "/usage/?team=" + beta},
		{name: "two slashes", path: "//usage?team=" + beta},
		{name: "in capitals, the path", path: "/USAGE?team=" + beta},
		{name: "dots", path: "/settings/../usage?team=" + beta},
		{name: "encoded dots", path: "/usage%2f..%2fsettings%2fteams"},
		{name: "encoded slash", path: "/settings%2Fteams%2F" + beta},
		{name: "a suffix", path: "/usage.json?team=" + beta},
		{name: "a path parameter", path: "/usage;team=" + beta},
		{name: "X-Original-URL", path: "/usage", header: []string{"X-Original-URL", "/settings/teams/" + beta, "X-Rewrite-URL", "/usage?team=" + beta}, own: true},
		{name: "forwarded as admin", path: "/settings/teams", header: []string{"X-Forwarded-User", "root@example.org", "X-Forwarded-For", "127.0.0.1", "X-Role", "admin"}},
		{name: "JSON, please", path: "/usage?team=" + beta, header: []string{"Accept", "application/json"}},
		{name: "text, please", path: "/usage.csv", header: []string{"Accept", "*/*;q=0.1, text/csv", "Range", "bytes=0-100000"}, own: true},
		{name: "a learner's token", path: "/usage?team=" + beta, header: []string{"Authorization", "Bearer " + r.token(r.annLearner)}},
		{name: "the token of their lead", path: "/usage?team=" + beta, header: []string{"Authorization", "Bearer " + r.token(*r.beaOperator.LearnerID)}},
		{name: "another Host", path: "/usage?team=" + beta, header: []string{"X-Forwarded-Host", "beta.example.org"}},
		{name: "a theme that leads back", method: http.MethodPost, path: "/preferences/theme", body: "theme=dark", header: []string{"Referer", r.URL + "/settings/teams/" + beta}, own: true},

		// What is not a lead's.
		{name: "the start", path: "/", own: true},
		{name: "the start with their team", path: "/?team=" + beta, own: true},
		{name: "the teams", path: "/settings/teams"},
		{name: "the teams, searched", path: "/settings/teams?q=Beta"},
		{name: "their team", path: "/settings/teams/" + beta},
		{name: "my own team's settings", path: "/settings/teams/" + alpha},
		{name: "joining their team", method: http.MethodPost, path: "/settings/teams/" + beta + "/members", body: "role=lead&email=learner-ann%40example.org"},
		{name: "leading their team", method: http.MethodPost, path: "/settings/teams/" + beta + "/members/" + r.annLearner.String(), body: "do=lead"},
		{name: "renaming their team", method: http.MethodPost, path: "/settings/teams/" + beta + "/name", body: "was=Beta+Buccaneers&name=Mine"},
		{name: "sharing their prompts", method: http.MethodPost, path: "/settings/teams/" + beta + "/sharing", body: "share=yes"},
		{name: "deleting their team", method: http.MethodPost, path: "/settings/teams/" + beta + "/delete", body: "confirm=Beta+Buccaneers"},
		{name: "a new team", method: http.MethodPost, path: "/settings/teams", body: "name=Mine"},
		{name: "the operators", path: "/settings/operators"},
		{name: "their lead", path: "/settings/operators/" + r.beaOperator.ID.String()},
		{name: "becoming an admin", method: http.MethodPost, path: "/settings/operators/" + r.beaOperator.ID.String(), body: "role=admin"},
		{name: "a link for their lead", method: http.MethodPost, path: "/settings/operators/" + r.beaOperator.ID.String() + "/link"},
		{name: "a link for an admin", method: http.MethodPost, path: "/settings/operators/" + r.admin.ID.String() + "/link"},
		{name: "shutting their lead out", method: http.MethodPost, path: "/settings/operators/" + r.beaOperator.ID.String() + "/disable"},
		{name: "signing their lead out", method: http.MethodPost, path: "/settings/operators/" + r.beaOperator.ID.String() + "/end-sessions"},
		{name: "a new operator", method: http.MethodPost, path: "/settings/operators", body: "email=me%40example.org&role=admin"},
		{name: "my sessions", path: "/account/sessions", own: true},
		{name: "ending others' sessions", method: http.MethodPost, path: "/account/sessions", body: "end=%25", own: true},
		{name: "the budgets", path: "/settings/budgets"},
		{name: "the playground", path: "/playground"},
		{name: "the API with the session", method: http.MethodPost, path: "/api/ai/run", body: "{}", header: []string{"Content-Type", "application/json"}},
		{name: "the incidents", path: "/incidents", own: true},
		{name: "the incidents with their team", path: "/incidents?team=" + beta + "&status=resolved&before=9", own: true},
		{name: "the file of incidents", path: "/incidents.csv"},
		{name: "an incident", path: "/incidents/1"},
		{name: "its post-mortem", path: "/incidents/1/post-mortem.md"},
		{name: "a new incident", method: http.MethodPost, path: "/incidents", body: "title=Mine&severity=1"},
		{name: "a note on an incident", method: http.MethodPost, path: "/incidents/1/notes", body: "body=Mine"},
		{name: "resolving an incident", method: http.MethodPost, path: "/incidents/1/status", body: "do=resolve"},
		{name: "a run of theirs", path: "/runs/" + r.runs["beta"], also: []string{"bertha", "anthropic"}},
		{name: "a run of mine for them", path: "/runs/" + r.runs["own in beta"]},
		{name: "a run of theirs in capitals", path: "/runs/" + strings.ToUpper(r.runs["beta"])},
		{name: "a run of theirs with my team", path: "/runs/" + r.runs["beta"] + "?team=" + alpha},
	}
	return list
}

func TestALeadTriesToSeeAnotherTeam(t *testing.T) {
	t.Parallel()
	r := newRivals(t)
	// Each of the markers can be seen by somebody who may: or it would prove nothing.
	admin := r.visitor(r.session(r.admin))
	admin.get("/usage").wants(t, http.StatusOK).shows(t, "claude-haiku", "gemini-3.8", "Beta Buccaneers")
	admin.get("/settings/teams/"+r.beta.String()).wants(t, http.StatusOK).shows(t, "Beta Buccaneers", "bertha", "learner-bea", "learner-ann")
	r.bea.get("/usage").wants(t, http.StatusOK).shows(t, "claude-haiku", "gemini-3.8", "Beta Buccaneers")
	trouble := admin.started("title", "Runs are slow", "severity", "1")
	admin.post(trouble+"/notes", "body=Beta+Buccaneers+suffer+most,+says+bertha").wants(t, http.StatusSeeOther)
	before := r.rows(t)

	list := r.intrusions()
	if len(list) < 40 {
		t.Fatalf("only %d ways", len(list))
	}
	for _, way := range list {
		t.Run(way.name, func(t *testing.T) {
			method := way.method
			if method == "" {
				method = http.MethodGet
			}
			header := append([]string{"Content-Type", "application/x-www-form-urlencoded"}, way.header...)
			answer := r.ann.send(method, way.path, strings.NewReader(way.body), header...)
			switch answer.StatusCode {
			case http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUnauthorized:
			case http.StatusOK, http.StatusSeeOther, http.StatusUnprocessableEntity, http.StatusNoContent:
				if !way.own {
					t.Errorf("status %d", answer.StatusCode)
				}
			default:
				t.Errorf("status %d; body:\n%.500s", answer.StatusCode, answer.Text)
			}
			var headers strings.Builder
			must(t, answer.Header.Write(&headers))
			// What was asked for may be repeated: the address of this page in a link.
			text := answer.Text + headers.String()
			sent := strings.ToLower(way.path + " " + way.body + " " + strings.Join(way.header, " "))
			for _, word := range append(r.forbiddenWords(), way.also...) {
				if strings.Contains(strings.ToLower(text), strings.ToLower(word)) && !strings.Contains(sent, strings.ToLower(word)) {
					t.Errorf("the answer holds %q:\n%.3000s", word, text)
				}
			}
		})
	}

	// Nothing was changed by any of it, but for when sessions were last used.
	after := r.rows(t)
	for _, name := range []string{"ops.sessions"} {
		before[name], after[name] = table{}, table{}
	}
	for name, was := range before {
		if after[name] != was {
			t.Errorf("%s was %v and is %v", name, was, after[name])
		}
	}
}

// What a lead sees is what other SQL than ours counts for their teams, and nothing
// of their own runs elsewhere.
func TestALeadSeesTheirTeams(t *testing.T) {
	t.Parallel()
	s := newSite(t).withDemo()
	rows, err := s.DB.Query(t.Context(), `select team_id from public.prompt_attempts where team_id is not null group by 1 order by count(*) desc limit 3`)
	must(t, err)
	teams, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	must(t, err)
	operator := s.operator("lead@example.org", account.RoleTeamLead, "")
	// They learn, too: for a team that they do not lead, and for none.
	_, err = s.DB.Exec(t.Context(), `update public.prompt_runs set user_id = $1 where team_id = $2 or team_id is null and user_id is not null`, operator.LearnerID, teams[2])
	must(t, err)
	_, err = s.DB.Exec(t.Context(), `update public.prompt_attempts a set user_id = r.user_id from public.prompt_runs r where r.id = a.run_id and r.user_id = $1`, operator.LearnerID)
	must(t, err)
	s.join(teams[0], *operator.LearnerID, "lead")
	s.join(teams[1], *operator.LearnerID, "lead")
	s.join(teams[2], *operator.LearnerID, "member")
	lead := s.visitor(s.session(operator))
	since := s.Clock.Now().UTC().AddDate(0, 0, -179).Format(time.DateOnly)
	for query, in := range map[string]string{
		"range=180d":                           fmt.Sprintf("'%s', '%s'", teams[0], teams[1]),
		"range=180d&team=" + teams[0].String(): fmt.Sprintf("'%s'", teams[0]),
		"range=180d&team=" + strings.ToUpper(teams[1].String()): fmt.Sprintf("'%s'", teams[1]),
	} {
		var attempts, errors, cost string
		must(t, s.DB.QueryRow(t.Context(), `
			select to_char(count(*), 'FM999,999,990'), to_char(sum((status in ('error', 'interrupted'))::int), 'FM999,999,990'),
			       to_char(sum(cost_usd), 'FM$999,999,990.00999999999999')
			from public.prompt_attempts
			where team_id in (`+in+`) and created_at >= '`+since+`'`).Scan(&attempts, &errors, &cost))
		page := lead.get("/usage?"+query).wants(t, http.StatusOK)
		total := byFirst(tableOf(t, page.Text, "Usage by model as a table"))["Total"]
		if total["Attempts"] != attempts || total["Errors"] != errors || total["Cost, USD"] != cost {
			t.Errorf("%s: %v, want %s attempts, %s errors, %s", query, total, attempts, errors, cost)
		}
		if sum := s.sum(t, column(readCSV(t, lead.get("/usage.csv?"+query).wants(t, http.StatusOK).Text), "cost_usd")); !strings.HasPrefix(strings.ReplaceAll(cost, ",", ""), "$"+sum) {
			t.Errorf("%s: the file's costs add up to %s, want %s", query, sum, cost)
		}
	}
	page := lead.get("/usage?range=180d&provider=openai&team="+teams[0].String()).wants(t, http.StatusOK)
	page.shows(t, `<input type="hidden" name="team" value="`+teams[0].String()+`"`, "/usage?provider=openai&amp;range=180d&amp;team="+teams[1].String(),
		`href="/usage?provider=openai&amp;range=180d"`, `href="/usage.csv?provider=openai&amp;range=180d&amp;team=`+teams[0].String())
	for _, hidden := range []string{"/playground", "/settings", "All teams", "Remove it"} {
		if strings.Contains(page.Text, hidden) {
			t.Errorf("a lead is shown %q", hidden)
		}
	}
	lead.get("/").wants(t, http.StatusSeeOther)
	lead.get("/settings/budgets").wants(t, http.StatusForbidden).shows(t, "Only administrators", "Go to the start", `href="/usage"`)
}

// Row-level security is a wall of its own: a handler that forgets the limit, or
// asks for another team, gets nothing of it.
func TestRowLevelSecurityIsBehindTheFilter(t *testing.T) {
	t.Parallel()
	r := newRivals(t)
	query, err := usage.ParseQuery(url.Values{}, r.Clock.Now(), r.Zone)
	must(t, err)
	for name, limit := range map[string][]uuid.UUID{"of the other team": {r.beta}, "none": nil} {
		query.TeamIDs = limit
		report, err := r.Usage.As(r.annLearner).Report(t.Context(), query)
		must(t, err)
		for _, m := range report.Groups {
			if strings.HasPrefix(m.ID, "anthropic/") {
				t.Errorf("limit %s: %s of the other team is seen", name, m.ID)
			}
		}
		options, err := r.Usage.As(r.annLearner).Options(t.Context(), query)
		must(t, err)
		if strings.Contains(fmt.Sprint(options), "anthropic") {
			t.Errorf("limit %s: options %+v", name, options)
		}
	}
	// Of the other team only what she did there herself, as the platform shows her.
	query.TeamIDs = []uuid.UUID{r.beta}
	report, err := r.Usage.As(r.annLearner).Report(t.Context(), query)
	must(t, err)
	if report.Totals.Runs != 1 || len(report.Groups) != 1 || report.Groups[0].ID != "google/gemini-3.8-flash" {
		t.Errorf("of the other team she sees %+v", report.Groups)
	}
}

// Whoever loses the role, the account or the team sees nothing from the next
// request on.
func TestALeadLosesSight(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	operator, teams := s.leadOf("lead@example.org", "Alpha", "Beta")
	lead := s.visitor(s.session(operator))
	set := func(sql string, args ...any) {
		t.Helper()
		_, err := s.DB.Exec(t.Context(), sql, args...)
		must(t, err)
	}
	refused := func(words ...string) {
		t.Helper()
		for _, path := range []string{"/usage", "/usage.csv", "/", "/usage?team=" + teams[0].String()} {
			if answer := lead.get(path).wants(t, http.StatusForbidden).shows(t, words...); strings.Contains(answer.Text, `href="/usage"`) || strings.Contains(answer.Text, "Alpha") {
				t.Errorf("%s still leads to what is not theirs:\n%.2000s", path, answer.Text)
			}
		}
	}
	lead.get("/usage?team="+teams[0].String()).wants(t, http.StatusOK).shows(t, "Alpha", "Beta", "All my teams")
	s.join(teams[0], *operator.LearnerID, "member")
	lead.get("/usage?team="+teams[0].String()).wants(t, http.StatusNotFound)
	if page := lead.get("/usage").wants(t, http.StatusOK).shows(t, "Beta"); strings.Contains(page.Text, "Alpha") || strings.Contains(page.Text, "All my teams") {
		t.Error("the team that is lost is still shown")
	}
	s.join(teams[1], *operator.LearnerID, "member")
	refused("You do not lead a team at the moment")
	s.join(teams[1], *operator.LearnerID, "lead")
	lead.get("/usage").wants(t, http.StatusOK)

	set(`update auth.users set banned_until = 'infinity' where id = $1`, operator.LearnerID)
	refused("You do not lead a team at the moment")
	set(`update auth.users set banned_until = null, deleted_at = now() where id = $1`, operator.LearnerID)
	refused("You do not lead a team at the moment")
	set(`update auth.users set deleted_at = null where id = $1`, operator.LearnerID)
	lead.get("/usage").wants(t, http.StatusOK)

	admin := s.as(account.RoleAdmin)
	admin.post("/settings/operators/"+operator.ID.String()+"/disable", "").wants(t, http.StatusSeeOther)
	if got := lead.get("/usage").wants(t, http.StatusSeeOther).Header.Get("Location"); !strings.HasPrefix(got, "/sign-in") {
		t.Errorf("a disabled lead is sent to %s", got)
	}
	if s.count(t, `select count(*) from ops.sessions where operator_id = $1`, operator.ID) != 0 {
		t.Error("the session is not over")
	}
}

// Every refusal of somebody who is known is in the log (ASVS 16.3.2).
func TestRefusalsAreLogged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	operator, _ := s.leadOf("lead@example.org", "Alpha")
	answer := s.visitor(s.session(operator)).get("/settings/teams").wants(t, http.StatusForbidden)
	events := s.Events.Of(t, answer.Header.Get("X-Request-ID"))
	if len(events) != 1 || events[0]["msg"] != "access_refused" || events[0]["operatorId"] != operator.ID.String() || events[0]["route"] != "/settings/teams" {
		t.Errorf("logged %v", events)
	}
}
