package handlers_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
)

var linkOnPage = regexp.MustCompile(`id="link">([^<]+)<`)

// link is the one-time link that a page shows.
func (r reply) link(t *testing.T) string {
	t.Helper()
	found := linkOnPage.FindStringSubmatch(r.Text)
	if found == nil {
		t.Fatalf("there is no link on\n%.3000s", r.Text)
	}
	return strings.TrimPrefix(found[1], "http://"+r.Request.Host)
}

var versionOnPage = regexp.MustCompile(`name="version" value="([0-9a-f]+)"`)

func (v *visitor) version(path string) string {
	v.t.Helper()
	page := v.get(path).wants(v.t, http.StatusOK)
	found := versionOnPage.FindStringSubmatch(page.Text)
	if found == nil {
		v.t.Fatal("there is no version on the page")
	}
	return found[1]
}

// From an invitation to the first page, and out again.
func TestATeamLeadIsInvited(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	ann := s.learner("ann@learn.example.org")
	s.join(s.team("Alpha"), ann, "lead")

	answer := admin.post("/settings/operators", form("email", "Ann@example.org", "name", "Ann <3", "role", "team_lead", "learner", "ANN@learn.example.org")).
		wants(t, http.StatusOK).shows(t, "ann@example.org can sign in", "who is a team lead now", "within 72 hours", "Copy the link")
	if strings.Contains(answer.Text, "Leads no team") {
		t.Error("a lead of a team is said to lead none")
	}
	link := answer.link(t)
	if page := admin.get("/settings/operators").wants(t, http.StatusOK).shows(t, "Ann &lt;3", "Invited", "Alpha"); strings.Contains(page.Text, link) {
		t.Error("the link is shown again")
	}
	if strings.Contains(s.Events.Text(), link) || strings.Contains(s.first(`select coalesce(string_agg(details::text, ''), '') from ops.audit_log`), link[len("/sign-in/link/"):]) {
		t.Error("the link is in the log")
	}

	lead := s.visitor()
	lead.post(link, "").wants(t, http.StatusSeeOther)
	lead.post("/account/password", form("password", another)).wants(t, http.StatusSeeOther)
	if got := lead.get("/").wants(t, http.StatusSeeOther).Header.Get("Location"); got != "/keys/health" {
		t.Errorf("a lead begins at %s", got)
	}
	lead.get("/usage").wants(t, http.StatusOK).shows(t, "Your team", "Alpha", "No runs in this period", "as soon as a member runs")
	var id string
	must(t, s.DB.QueryRow(t.Context(), `select id::text from ops.operators where email = 'ann@example.org'`).Scan(&id))
	admin.get("/settings/operators/"+id).wants(t, http.StatusOK).shows(t, "Keep them out", "End all sessions", "ann@learn.example.org", "Chosen")

	admin.post("/settings/operators/"+id+"/end-sessions", "").wants(t, http.StatusSeeOther)
	lead.get("/usage").wants(t, http.StatusSeeOther)
	lead.post("/sign-in", credentials("ann@example.org", another)).wants(t, http.StatusSeeOther)
	lead.get("/usage").wants(t, http.StatusOK)
	admin.post("/settings/operators/"+id+"/disable", "").wants(t, http.StatusSeeOther)
	lead.get("/usage").wants(t, http.StatusSeeOther)
	lead.post("/sign-in", credentials("ann@example.org", another)).wants(t, http.StatusUnprocessableEntity)
	admin.post("/settings/operators/"+id+"/link", "").wants(t, http.StatusConflict).shows(t, "Enable them first")
	admin.get("/settings/operators/"+id).shows(t, "They cannot sign in", "Let them in again")
	admin.post("/settings/operators/"+id+"/enable", "").wants(t, http.StatusSeeOther)
	again := admin.post("/settings/operators/"+id+"/link", "").wants(t, http.StatusOK).shows(t, "A new sign-in link").link(t)
	s.visitor().post(again, "").wants(t, http.StatusSeeOther)

	entries, err := audit.NewStore(s.DB).List(t.Context(), audit.Filter{SubjectType: "operator", SubjectID: id}, 100)
	must(t, err)
	var actions []string
	for _, e := range entries {
		actions = append(actions, strings.TrimPrefix(e.Action, "operator."))
	}
	if got := strings.Join(actions, " "); got != "sign_in create_link enable disable sign_in end_sessions set_password sign_in create_link create" {
		t.Errorf("audit log: %s", got)
	}
}

func TestOperatorsAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	root := s.operator("root@example.org", account.RoleAdmin, "")
	admin := s.visitor(s.session(root))
	banned := s.learner("banned@learn.example.org")
	_, err := s.DB.Exec(t.Context(), `update auth.users set banned_until = 'infinity' where id = $1`, banned)
	must(t, err)
	s.learner("idle@learn.example.org")
	for sent, words := range map[string][]string{
		form(): {"address such as", "must be admin or team_lead"},
		form("email", "x", "role", "team_lead", "learner", "nobody@example.org", "timezone", "Mars"):                            {"address such as", "is the address of no learner", "time zone such as"},
		form("email", "lead@example.org", "role", "team_lead"):                                                                  {"is required for a team lead"},
		form("email", "lead@example.org", "role", "team_lead", "learner", "banned@learn.example.org"):                           {"deleted or suspended"},
		form("email", "lead@example.org", "role", "team_lead", "learner", "a\x00@b"):                                            {"address such as"},
		form("email", "lead@example.org", "role", "owner", "name", strings.Repeat("x", 101)):                                    {"must be admin or team_lead", "at most 100"},
		form("email", "lead@example.org", "role", "admin", "timezone", "../../etc/passwd", "name", "<script>alert(1)</script>"): {"time zone such as", "&lt;script&gt;"},
	} {
		page := admin.post("/settings/operators", sent).wants(t, http.StatusUnprocessableEntity).shows(t, append(words, "Nothing was saved", `aria-invalid="true"`)...)
		if strings.Contains(page.Text, "<script>alert") {
			t.Error("what was typed reaches the page as markup")
		}
	}
	admin.post("/settings/operators", form("email", "ROOT@example.org", "role", "admin")).wants(t, http.StatusConflict).shows(t, "Another operator has this e-mail address")
	admin.post("/settings/operators", "email="+strings.Repeat("x", 100_000)).wants(t, http.StatusRequestEntityTooLarge)
	admin.post("/settings/operators", "email=%zz").wants(t, http.StatusBadRequest)
	if n := s.count(t, `select count(*) from ops.operators`); n != 1 {
		t.Errorf("there are %d operators", n)
	}
	// One who leads nothing is added, with a word about it.
	admin.post("/settings/operators", form("email", "idle@example.org", "role", "team_lead", "learner", "idle@learn.example.org")).
		wants(t, http.StatusOK).shows(t, "Leads no team")

	// The last admin, and oneself.
	self := "/settings/operators/" + root.ID.String()
	version := admin.version(self)
	admin.post(self, form("version", version, "role", "team_lead", "learner", "idle@learn.example.org")).wants(t, http.StatusConflict).shows(t, "only admin left")
	admin.post(self+"/disable", "").wants(t, http.StatusConflict).shows(t, "cannot disable yourself")
	if page := admin.get(self).wants(t, http.StatusOK).shows(t, "this is you"); strings.Contains(page.Text, "/disable") {
		t.Error("one is offered to disable oneself")
	}
	for _, id := range []string{uuid.NewString(), "x", "%00", strings.Repeat("a", 300)} {
		admin.get("/settings/operators/"+id).wants(t, http.StatusNotFound)
		for _, do := range []string{"", "/link", "/disable", "/enable", "/end-sessions"} {
			admin.post("/settings/operators/"+id+do, "role=admin").wants(t, http.StatusNotFound)
		}
	}
}

// Two tabs edit one operator: the later one is shown what the earlier did.
func TestTwoTabsEditAnOperator(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	other := s.operator("other@example.org", account.RoleAdmin, "")
	path := "/settings/operators/" + other.ID.String()
	version := admin.version(path)
	admin.post(path, form("version", version, "role", "admin", "name", "Olga")).wants(t, http.StatusSeeOther)
	admin.get(path).shows(t, "Saved. It takes effect", "Olga")
	admin.post(path, form("version", version, "role", "admin", "name", "Otto")).wants(t, http.StatusConflict).shows(t, "somebody else changed this operator", `value="Olga"`)
	admin.post(path, form("version", admin.version(path), "role", "team_lead", "learner", "nobody@example.org", "name", "Otto")).
		wants(t, http.StatusUnprocessableEntity).shows(t, "is the address of no learner", `value="Otto"`)

	// Whoever makes themselves a lead goes on where leads begin.
	ann := s.learner("ann@learn.example.org")
	s.join(s.team("Alpha"), ann, "lead")
	me := s.visitor(s.session(other))
	if got := me.post(path, form("version", me.version(path), "role", "team_lead", "learner", "ann@learn.example.org")).wants(t, http.StatusSeeOther).Header.Get("Location"); got != "/" {
		t.Errorf("Location is %s", got)
	}
	me.get("/settings/operators").wants(t, http.StatusForbidden)
	me.get("/usage").wants(t, http.StatusOK)
}

func TestOwnSessionsPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	operator, _ := s.leadOf("lead@example.org", "Alpha")
	here, there, third := s.visitor(s.session(operator)), s.visitor(s.session(operator)), s.visitor(s.session(operator))
	stranger := s.as(account.RoleAdmin)
	page := here.get("/account/sessions").wants(t, http.StatusOK).shows(t, "This one", "End all others", "Change your password")
	ids := regexp.MustCompile(`name="end" value="([0-9a-f]+)"`).FindAllStringSubmatch(page.Text, -1)
	if len(ids) != 2 {
		t.Fatalf("sessions to end: %v", ids)
	}
	stranger.post("/account/sessions", form("end", ids[0][1])).wants(t, http.StatusSeeOther) // not theirs: nothing happens
	here.post("/account/sessions", form("end", ids[0][1])).wants(t, http.StatusSeeOther)
	if n := s.count(t, `select count(*) from ops.sessions where operator_id = $1`, operator.ID); n != 2 {
		t.Errorf("%d sessions are open, want 2", n)
	}
	here.post("/account/sessions", form("end", "others")).wants(t, http.StatusSeeOther)
	here.get("/account/sessions").wants(t, http.StatusOK).shows(t, "Signed out there")
	for _, v := range []*visitor{there, third} {
		v.get("/usage").wants(t, http.StatusSeeOther)
	}
	stranger.get("/account/sessions").wants(t, http.StatusOK)
}

func TestTeamsPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	s.learner("ann@learn.example.org")
	bob := s.learner("bob@learn.example.org")
	path := admin.post("/settings/teams", form("name", " Alpha  & <b> ")).wants(t, http.StatusSeeOther).Header.Get("Location")
	admin.get(path).wants(t, http.StatusOK).shows(t, "Alpha &amp; &lt;b&gt;", "Nobody is in this team yet", "Nobody leads this team", "The team is made")
	admin.post(path+"/members", form("email", "ann@learn.example.org", "role", "lead")).wants(t, http.StatusSeeOther)
	admin.post(path+"/members", form("email", "bob@learn.example.org", "role", "member")).wants(t, http.StatusSeeOther)
	admin.post(path+"/members", form("email", "bob@learn.example.org", "role", "lead")).wants(t, http.StatusUnprocessableEntity).
		shows(t, "in this team already", `value="bob@learn.example.org"`, `value="lead" checked`)
	admin.post(path+"/members", form("email", "nobody@example.org", "role", "member")).wants(t, http.StatusUnprocessableEntity).shows(t, "belongs to no learner")
	admin.post(path+"/members/"+bob.String(), form("do", "lead")).wants(t, http.StatusSeeOther)
	admin.get(path).shows(t, "Leads the team from now on", "Cannot sign in here", "ann@learn.example.org")
	admin.post(path+"/members/"+bob.String(), form("do", "remove")).wants(t, http.StatusSeeOther)
	admin.post(path+"/members/"+bob.String(), form("do", "remove")).wants(t, http.StatusNotFound)
	admin.post(path+"/members/"+bob.String(), form("do", "burn")).wants(t, http.StatusBadRequest)
	admin.post(path+"/members/x", form("do", "remove")).wants(t, http.StatusNotFound)

	admin.post(path+"/sharing", form("share", "maybe")).wants(t, http.StatusBadRequest)
	admin.post(path+"/sharing", form("share", "yes")).wants(t, http.StatusSeeOther)
	admin.get(path).shows(t, "Leads may read", "Make prompts private")

	admin.post(path+"/name", form("was", "Alpha & <b>", "name", "Gamma")).wants(t, http.StatusSeeOther)
	admin.post(path+"/name", form("was", "Alpha & <b>", "name", "Delta")).wants(t, http.StatusConflict).shows(t, "renamed this team to “Gamma”")
	admin.post(path+"/name", form("was", "Gamma", "name", "")).wants(t, http.StatusUnprocessableEntity).shows(t, "This is missing")
	admin.post("/settings/teams", form("name", "\x00")).wants(t, http.StatusUnprocessableEntity).shows(t, "cannot be seen")

	admin.post(path+"/delete", form("confirm", "gamma")).wants(t, http.StatusUnprocessableEntity).shows(t, "must be the team’s name", "<details class=\"card-plain danger\" open")
	admin.post(path+"/delete", form("confirm", "Gamma")).wants(t, http.StatusSeeOther)
	admin.get("/settings/teams").wants(t, http.StatusOK).shows(t, "The team is deleted", "There are no teams")
	admin.get(path).wants(t, http.StatusNotFound)
	if n := s.count(t, `select count(*) from ops.audit_log where subject_type = 'team'`); n != 8 {
		t.Errorf("%d entries in the audit log, want 8", n)
	}
}

func TestFiveHundredTeams(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	_, err := s.DB.Exec(t.Context(), `insert into public.teams (name) select 'Team ' || lpad(i::text, 3, '0') from generate_series(1, 500) i`)
	must(t, err)
	admin.get("/settings/teams").wants(t, http.StatusOK).shows(t, "Page 1 of 10, 500 teams", "Team 050", "page=2")
	admin.get("/settings/teams?page=10").wants(t, http.StatusOK).shows(t, "Team 500", "page=9")
	if got := admin.get("/settings/teams?page=11&q=Team").wants(t, http.StatusSeeOther).Header.Get("Location"); got != "/settings/teams?page=10&q=Team" {
		t.Errorf("after the last page one is led to %s", got)
	}
	admin.get("/settings/teams?q=team+49&page=1").wants(t, http.StatusOK).shows(t, "Team 490", "Team 499")
	for _, page := range []string{"0", "-1", "x", "99999999999999999999", "1e3"} {
		admin.get("/settings/teams?page="+page).wants(t, http.StatusOK).shows(t, "Page 1 of 10")
	}
	admin.get("/settings/teams?q=%00%ff%25"+strings.Repeat("x", 5000)).wants(t, http.StatusOK).shows(t, "No team matches")

	// A team of thousands shows the first of them, and finds the others.
	id := s.team("Everybody")
	_, err = s.DB.Exec(t.Context(), `
		with made as (insert into auth.users (id, email) select gen_random_uuid(), 'm' || lpad(i::text, 4, '0') || '@example.org' from generate_series(1, 3000) i returning id)
		insert into public.team_members (team_id, user_id) select $1, id from made`, id)
	must(t, err)
	admin.get("/settings/teams/"+id.String()).wants(t, http.StatusOK).shows(t, "200 of 3,000", "m0001", "3,000 members")
	admin.get("/settings/teams/"+id.String()+"?q=m2999").wants(t, http.StatusOK).shows(t, "m2999")
	admin.get("/settings/teams/"+id.String()+"?q=nobody").wants(t, http.StatusOK).shows(t, "No member’s address holds")
}

func TestSettingsWithoutADatabase(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	operator, _ := s.leadOf("lead@example.org", "Alpha", "Beta")
	lead, admin := s.visitor(s.session(operator)), s.as(account.RoleAdmin)
	s.loseDatabase()
	for _, path := range []string{"/settings/operators", "/settings/teams", "/settings/teams/" + uuid.NewString(), "/account/sessions", "/usage"} {
		admin.get(path).wants(t, http.StatusServiceUnavailable).shows(t, "Try again")
	}
	admin.post("/settings/teams", form("name", "x")).wants(t, http.StatusServiceUnavailable)
	for _, path := range []string{"/usage", "/usage.csv", "/"} {
		lead.get(path).wants(t, http.StatusServiceUnavailable)
	}
}
