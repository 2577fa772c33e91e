package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/promptcademy/promptops/internal/account"
)

func viewForm(fields ...string) string {
	values := url.Values{"page": {"/usage"}, "query": {"range=7d&key=fallback"}}
	for i := 0; i < len(fields); i += 2 {
		values.Set(fields[i], fields[i+1])
	}
	return values.Encode()
}

func TestViewsAreSaved(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin, other := s.as(account.RoleAdmin), s.as(account.RoleAdmin)
	const mine = "/usage?key=fallback&range=7d"
	saved := admin.post("/views", viewForm("name", "<b>Mine</b>", "default", "yes", "shared", "yes")).wants(t, http.StatusSeeOther)
	if got := saved.Header.Get("Location"); got != mine {
		t.Errorf("saving leads to %s", got)
	}
	admin.get(mine).wants(t, http.StatusOK).shows(t, "Saved. It stands in the menu", "View: &lt;b&gt;Mine", "Opens first", `href="/usage?view=all"`)
	if got := admin.get("/usage").wants(t, http.StatusSeeOther).Header.Get("Location"); got != mine {
		t.Errorf("the page opens with %s", got)
	}
	for _, past := range []string{"/usage?view=all", "/usage?range=30d"} {
		admin.get(past).wants(t, http.StatusOK)
	}
	admin.get("/usage", "HX-Request", "true").wants(t, http.StatusOK)
	other.get("/usage").wants(t, http.StatusOK).shows(t, "Shared by")
	admin.get("/runs").wants(t, http.StatusOK)

	id := s.first(`select id::text from ops.saved_views`)
	other.post("/views/"+id, viewForm("name", "Theirs")).wants(t, http.StatusNotFound)
	other.post("/views/"+id+"/delete", viewForm()).wants(t, http.StatusNotFound)
	admin.post("/views/"+id, viewForm("name", "Renamed", "shared", "yes")).wants(t, http.StatusSeeOther)
	admin.get(mine).shows(t, "View: Renamed")
	admin.post("/views", viewForm("name", "renamed")).wants(t, http.StatusSeeOther)
	admin.get(mine).shows(t, "you have a view of that name already")
	admin.post("/views", viewForm("name", " ")).wants(t, http.StatusSeeOther)
	admin.get(mine).shows(t, "a view needs a name")
	admin.post("/views/"+id+"/delete", viewForm()).wants(t, http.StatusSeeOther)
	admin.get("/usage").wants(t, http.StatusOK).shows(t, "The view is deleted", "Deleted: Renamed", "Undo")
	admin.post("/views/"+id+"/restore", viewForm()).wants(t, http.StatusSeeOther)
	admin.get("/usage").wants(t, http.StatusSeeOther)
	admin.post("/views/"+id+"/default", viewForm("default", "no")).wants(t, http.StatusSeeOther)
	admin.get("/usage").wants(t, http.StatusOK).shows(t, "opens without a view again")
}

// Whatever is sent, it leads to one of the pages, with filters that it knows.
func TestViewsLeadNowhereElse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	for _, bad := range [][]string{
		{"page", "https://evil.example"}, {"page", "//evil.example"}, {"page", "/settings/audit"}, {"page", "/usage?x"}, {"page", ""},
		{"query", "range=soon"}, {"query", "%zz"}, {"query", "team=x"},
	} {
		answer := admin.post("/views", viewForm(append([]string{"name", "x"}, bad...)...)).wants(t, http.StatusSeeOther)
		if to := answer.Header.Get("Location"); to != "/usage?view=all" {
			t.Errorf("%v leads to %s", bad, to)
		}
	}
	if n := s.first(`select count(*)::text from ops.saved_views`); n != "0" {
		t.Errorf("%s were saved", n)
	}
	admin.post("/views", viewForm("name", "x", "query", "range=7d&next=https://evil.example&before=0&page=9")).wants(t, http.StatusSeeOther)
	if query := s.first(`select query from ops.saved_views`); query != "range=7d" {
		t.Errorf("saved %s", query)
	}
	for page, query := range map[string]string{"/runs": "status=error&range=7d&seconds=15&after=x", "/activity": "range=90d"} {
		admin.post("/views", viewForm("name", "y", "page", page, "query", query)).wants(t, http.StatusSeeOther)
		admin.get(page).wants(t, http.StatusOK).shows(t, ">y</a>")
	}
}

// Leads have views of their own, and no others. One that names a team they no longer
// lead does not lock them out.
func TestViewsOfLeads(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	admin.post("/views", viewForm("name", "Of admins", "shared", "yes")).wants(t, http.StatusSeeOther)
	lead, teams := s.leadOf("lead@example.org", "Design", "Marketing")
	visitor := s.visitor(s.session(lead))
	page := visitor.get("/usage").wants(t, http.StatusOK).shows(t, "Save view")
	if strings.Contains(page.Text, "Of admins") || strings.Contains(page.Text, "Share with all admins") {
		t.Error("a lead sees what is for admins")
	}
	visitor.post("/views", viewForm("name", "x", "shared", "yes")).wants(t, http.StatusForbidden)
	stranger := s.team("Strangers")
	visitor.post("/views", viewForm("name", "theirs", "query", "range=7d&team="+stranger.String())).wants(t, http.StatusSeeOther)
	if query := s.first(`select query from ops.saved_views where name = 'theirs'`); query != "range=7d" {
		t.Errorf("saved %s", query)
	}
	visitor.post("/views", viewForm("name", "one team", "query", "team="+teams[0].String(), "default", "yes")).wants(t, http.StatusSeeOther)
	if to := visitor.get("/usage").wants(t, http.StatusSeeOther).Header.Get("Location"); !strings.Contains(to, teams[0].String()) {
		t.Errorf("it opens with %s", to)
	}
	s.join(teams[0], *lead.LearnerID, "member")
	if to := visitor.get("/usage").wants(t, http.StatusSeeOther).Header.Get("Location"); strings.Contains(to, "team=") {
		t.Errorf("it opens with %s", to)
	}
}
