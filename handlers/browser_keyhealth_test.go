package handlers_test

import (
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/outreach"
)

// keyHealthPages are the pages of Key Health: for an admin with the demo, for a
// lead of two teams, and without any learner.
func keyHealthPages(full *site, admin account.Operator, empty *site, newcomer *http.Cookie) []shown {
	full.t.Helper()
	marta := full.session(admin)
	var lead uuid.UUID
	must(full.t, full.DB.QueryRow(full.t.Context(), `
		select user_id from public.team_members group by user_id having count(*) > 1 and bool_or(role = 'lead') order by user_id limit 1`).Scan(&lead))
	_, err := full.DB.Exec(full.t.Context(), `update public.team_members set role = 'lead' where user_id = $1`, lead)
	must(full.t, err)
	operator, err := full.Accounts.Create(full.t.Context(), audit.CommandLine,
		account.NewOperator{Email: "lou@example.org", Name: "Lou Fontaine", Role: account.RoleTeamLead, LearnerID: &lead}, full.Clock.Now())
	must(full.t, err)
	lou := full.session(operator)

	open, err := full.Outreach.List(full.t.Context(), outreach.Scope{}, outreach.Query{Show: outreach.ShowOpen}, full.Clock.Now())
	must(full.t, err)
	settings, err := full.Outreach.Settings(full.t.Context())
	must(full.t, err)
	_, err = full.Outreach.Nudge(full.t.Context(), outreach.Scope{}, outreach.Nudge{
		Channel: outreach.Email, Learners: []uuid.UUID{open[0].ID, open[1].ID}, Template: settings.Email,
		Provider: func(id string) string { return id }, By: audit.Operator(admin.ID, admin.Email),
	}, full.Clock.Now())
	must(full.t, err)
	var chosen []string
	for _, l := range open[:5] {
		chosen = append(chosen, "learner="+l.ID.String())
	}
	address := "/keys/health/nudge?" + strings.Join(chosen, "&") + "&channel="
	return []shown{
		{name: "key-health", site: full, who: marta, path: "/keys/health", main: "#learners button[value=contacted]", says: "Who will hit fallback keys next"},
		{name: "key-health-active", site: full, who: marta, path: "/keys/health?show=active&teams=all&select=all", main: "#learners button[value=contacted]", says: "active without a usable key"},
		{name: "key-health-refused", site: full, who: marta, path: "/keys/health?show=nobody", main: "#q", says: "could not be used", errs: "422"},
		{name: "key-health-lead", site: full, who: lou, path: "/keys/health", main: "#learners button[value=contacted]", says: "Choose one of your teams"},
		{name: "key-health-learner", site: full, who: marta, path: "/keys/health/learners/" + open[0].ID.String(), main: "button[value=contacted]", says: "Nudged"},
		{name: "key-health-nudge", site: full, who: marta, path: address + "email", main: "button[value=send]", says: "will get it"},
		{name: "key-health-nudge-refused", site: full, who: marta, path: address + "email", do: refusedNudge, main: "button[value=preview]", says: "This text cannot be sent", errs: "422"},
		{name: "key-health-slack", site: full, who: lou, path: strings.Replace(address, chosen[0], "learner="+lead.String(), 1)[:len("/keys/health/nudge?learner=")+36] + "&channel=slack", main: "main a", says: "Nudge in Slack"},
		{name: "key-health-settings", site: full, who: marta, path: "/keys/health/settings", main: "form[action='/keys/health/settings'] button", says: "Messages to learners"},
		{name: "key-health-empty", site: empty, who: newcomer, path: "/keys/health", main: "main a.btn-primary", says: "No learners here"},
	}
}

func refusedNudge(b *tab) {
	js[any](b, `document.querySelector("#text").value = "Dear {{nickname}}", document.querySelector("button[value=preview]").click(), 0`)
	b.shows("main", "This text cannot be sent")
	b.settle()
}
