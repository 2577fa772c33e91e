package handlers_test

import (
	"bytes"
	"flag"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/notify"
	"github.com/promptcademy/promptops/internal/postgres"
	"github.com/promptcademy/promptops/internal/price"
	"github.com/promptcademy/promptops/internal/run"
)

var readmePicture = flag.String("picture", "", "a file, absolute or as seen from handlers/, to put the picture of the README into")

var screenshots = flag.String("screenshots", "", "a folder, absolute or as seen from handlers/, to put pictures of every page into")

// shown is one page in one state.
type shown struct {
	name string
	site *site
	who  *http.Cookie // nil: nobody
	path string
	do   func(*tab) // after it was opened; may be nil
	main string     // what the keyboard has to reach
	says string     // what makes sure that it is this page
	errs string     // what the browser says about its status
}

// everyPage lists every page in every state that looks different.
func everyPage(t *testing.T) []shown {
	t.Helper()
	full := newSite(t).withDemo()
	admin := named(full, "marta@example.org", "Marta Lindqvist")
	marta := full.session(admin)
	empty := newSite(t)
	fresh := empty.operator("new@example.org", account.RoleAdmin, "")
	link, err := empty.Accounts.CreateLink(t.Context(), audit.CommandLine, fresh.ID, time.Hour, empty.Clock.Now())
	must(t, err)
	newcomer := empty.session(fresh)
	empty.unaudited()
	lead := full.session(full.operator("lead@example.org", account.RoleTeamLead, ""))
	broken := newSite(t, func(h *handlers.Server) { h.Usage = nil })
	unlucky := broken.session(broken.operator("unlucky@example.org", account.RoleAdmin, ""))
	limited := newSite(t).withDemo()
	lena := limited.session(named(limited, "lena@example.org", "Lena Berg"))
	limited.limits(0.86)
	over := newSite(t).withDemo()
	olga := over.session(named(over, "olga@example.org", ""))
	over.limits(1.2)

	past := newSite(t).withSpare().withKeys("anthropic", "google", "mistral")
	rita := past.session(named(past, "rita@example.org", "Rita Oliveira"))
	failedOver, goingOn := past.pastRuns()

	told := newSite(t)
	tess := told.session(named(told, "tess@example.org", "Tess Okafor"))
	told.notifications()
	busy := newSite(t)
	nora := busy.session(busy.auditedBy("nora@example.org"))
	drifted := newSite(t)
	dora := drifted.session(drifted.drift("dora@example.org"))
	staff := newSite(t).withDemo()
	boss, linus, fay := staff.staff()

	ada := full.leadWhoIs("ada@demo.promptcademy.test")
	var said, quiet string
	must(t, full.DB.QueryRow(t.Context(), `select run_id::text from public.prompt_contents order by created_at desc, run_id limit 1`).Scan(&said))
	must(t, full.DB.QueryRow(t.Context(), `select user_id::text from public.user_api_keys where status = 'invalid' order by user_id limit 1`).Scan(&quiet))

	return append(slices.Concat(keyPages(t, empty, newcomer), keyHealthPages(full, admin, empty, newcomer), incidentsShown(t, empty, newcomer), runbookPages(t)), []shown{
		{name: "overview", site: full, who: marta, path: "/", main: ".figures a", says: "Needs attention"},
		{name: "overview-new", site: empty, who: newcomer, path: "/", main: "a.btn-primary", says: "No runs in the last two weeks"},
		{name: "runs", site: full, who: marta, path: "/runs", main: "tbody a", says: "1,000+ runs"},
		{name: "runs-filtered", site: full, who: marta, path: "/runs?range=180d&status=partial&seconds=1&key=fallback", main: "tbody a", says: "Some answered"},
		{name: "runs-none", site: full, who: marta, path: "/runs?model=nobody/has-this", main: "a.btn-primary", says: "No runs match"},
		{name: "runs-empty", site: empty, who: newcomer, path: "/runs", main: "a.btn-primary", says: "No runs in this period"},
		{name: "runs-refused", site: empty, who: newcomer, path: "/runs?range=soon&cost=much", main: "#filter-model", says: "could not be used", errs: "422"},
		{name: "runs-lead", site: full, who: ada, path: "/runs?range=180d", main: "tbody a", says: "Spring cohort"},
		{name: "run-said", site: full, who: marta, path: "/runs/" + said + "?range=30d", do: unfold, main: "main [data-copy]", says: "The same run with curl"},
		{name: "activity", site: full, who: marta, path: "/activity", main: "[download]", says: "Who comes back"},
		{name: "activity-long", site: full, who: marta, path: "/activity?range=180d", main: "[download]", says: "Who comes back"},
		{name: "activity-empty", site: empty, who: newcomer, path: "/activity?from=2026-01-01&to=2026-01-31", main: "a.btn-primary", says: "Nobody was active"},
		{name: "activity-lead", site: full, who: ada, path: "/activity", main: "[download]", says: "its present members"},
		{name: "learner", site: full, who: marta, path: "/learners/" + quiet, main: "main ol a", says: "Timeline"},
		{name: "learner-lead", site: full, who: ada, path: "/learners/" + full.led("ada@demo.promptcademy.test"), main: "main ol a", says: "Timeline"},
		{name: "sign-in", site: empty, path: "/sign-in", main: "button[type=submit]", says: "For admins and team leads."},
		{name: "sign-in-refused", site: empty, path: "/sign-in", do: refusedSignIn, main: "button[type=submit]", says: "is not right", errs: "422"},
		{name: "link", site: empty, path: "/sign-in/link/" + link, main: "main button", says: "The link works once."},
		{name: "link-dead", site: empty, path: "/sign-in/link/gone", main: "main a", says: "This link does not work", errs: "404"},
		{name: "password", site: empty, who: newcomer, path: "/account/password", main: "button[type=submit]", says: "Choose a password"},
		{name: "usage", site: full, who: marta, path: "/usage", main: "[download]", says: "By model"},
		{name: "usage-divided", site: full, who: marta, path: "/usage?group=team&sub=model&compare=previous&bucket=week&range=90d", main: "[download]", says: "By team"},
		{name: "usage-tokens", site: full, who: marta, path: "/usage?group=learner&metric=tokens&range=90d", main: "[download]", says: "Tokens by category"},
		{name: "usage-latency", site: full, who: marta, path: "/usage?metric=latency&bucket=hour&range=7d&compare=previous", main: "[download]", says: "P99"},
		{name: "usage-errors", site: full, who: marta, path: "/usage?metric=errors&group=provider&sub=key", main: "[download]", says: "By provider"},
		{name: "usage-empty", site: empty, who: newcomer, path: "/usage", main: "a.btn-primary", says: "No runs in this period"},
		{name: "usage-refused", site: empty, who: newcomer, path: "/usage?range=soon", main: "#filter-model", says: "could not be used", errs: "422"},
		{name: "playground", site: full, who: marta, path: "/playground", main: "#run", says: "No answers yet"},
		{name: "playground-run", site: full, who: marta, path: "/playground", do: threeAnswers, main: "#answers a", says: "Some answered"},
		{name: "run", site: past, who: rita, path: "/runs/" + failedOver, main: "main [data-copy]", says: "Went on to the next key"},
		{name: "run-running", site: past, who: rita, path: "/runs/" + goingOn, main: "main [data-copy]", says: "written down when the run ends"},
		{name: "run-gone", site: empty, who: newcomer, path: "/runs/0", main: "main a", says: "There is no such page", errs: "404"},
		{name: "budgets", site: limited, who: lena, path: "/settings/budgets", main: "form[action='/settings/budgets'] button", says: "Over 80%"},
		{name: "budgets-over", site: over, who: olga, path: "/settings/budgets", main: "form[action='/settings/budgets'] button", says: "more than the budget"},
		{name: "budgets-empty", site: empty, who: newcomer, path: "/settings/budgets", main: "form[action='/settings/budgets'] button", says: "There are no fallback keys."},
		{name: "budgets-refused", site: limited, who: lena, path: "/settings/budgets", do: refusedLimits, main: "form[action='/settings/budgets'] button", says: "Nothing was saved: ", errs: "422"},
		{name: "budgets-conflict", site: limited, who: lena, path: "/settings/budgets", do: lateLimits, main: "form[action='/settings/budgets'] button", says: "Nothing was saved yet: ", errs: "409"},
		{name: "channels", site: told, who: tess, path: "/settings/channels", main: "#deliveries button", says: "the webhook is revoked"},
		{name: "channels-empty", site: empty, who: newcomer, path: "/settings/channels", main: "#slack summary", says: "Nothing has been sent yet."},
		{name: "channels-refused", site: told, who: tess, path: "/settings/channels", do: refusedChannel, main: "#email form button", says: "Nothing was saved: ", errs: "422"},
		{name: "audit", site: busy, who: nora, path: "/settings/audit", main: "form[action='/settings/audit/verify'] button", says: "The log is whole"},
		{name: "audit-refused", site: busy, who: nora, path: "/settings/audit?from=soon&id=main", main: "#from", says: "could not be used", errs: "422"},
		{name: "audit-none", site: empty, who: newcomer, path: "/settings/audit", main: "form[action='/settings/audit/verify'] button", says: "Nothing has been done yet"},
		{name: "rls", site: drifted, who: dora, path: "/rls", do: tryRLS, main: "form[action^='/rls/test'] button", says: "Not as expected"},
		{name: "rls-none", site: empty, who: newcomer, path: "/rls", main: "form[action^='/rls/test'] button", says: "Nothing has drifted"},
		{name: "operators", site: staff, who: boss, path: "/settings/operators", main: "form[action='/settings/operators'] button", says: "Leads no team"},
		{name: "operators-refused", site: staff, who: boss, path: "/settings/operators", do: refusedOperator, main: "form[action='/settings/operators'] button", says: "is the address of no learner", errs: "422"},
		{name: "operator", site: staff, who: boss, path: "/settings/operators/" + fay, main: "form[action$=disable] button", says: "Keep them out"},
		{name: "operator-link", site: staff, who: boss, path: "/settings/operators/" + fay, do: newLink, main: "[data-copy]", says: "It signs in once"},
		{name: "teams", site: staff, who: boss, path: "/settings/teams", main: "form[action='/settings/teams'] button", says: "Make a team"},
		{name: "teams-none", site: empty, who: newcomer, path: "/settings/teams", main: "form[action='/settings/teams'] button", says: "There are no teams"},
		{name: "team", site: staff, who: boss, path: "/settings/teams/" + staff.first("select id::text from public.teams order by name limit 1"), main: "form[action$=name] button", says: "Prompts are private"},
		{name: "team-empty", site: staff, who: boss, path: "/settings/teams/" + staff.first("select id::text from public.teams where name = 'Nobody’s'"), do: deleteUnconfirmed, main: "form[action$=delete] button", says: "must be the team’s name", errs: "422"},
		{name: "sessions", site: staff, who: boss, path: "/account/sessions", main: "main form button", says: "End all others"},
		{name: "lead-usage", site: staff, who: linus, path: "/usage", do: openTeams, main: "[data-team]", says: "All my teams"},
		{name: "not-found", site: full, who: marta, path: "/nothing", main: "main a", says: "There is no such page", errs: "404"},
		{name: "not-found-outside", site: empty, path: "/nothing", main: "main a", says: "There is no such page", errs: "404"},
		{name: "forbidden", site: full, who: lead, path: "/", main: "[popovertarget=sidebar], [aria-label='Sign out']", says: "You do not lead a team at the moment", errs: "403"},
		{name: "error", site: broken, who: unlucky, path: "/usage", main: "main a", says: "Something went wrong on our side", errs: "500"},
	}...)
}

func named(s *site, email, name string) account.Operator {
	operator, err := s.Accounts.Create(s.t.Context(), audit.CommandLine, account.NewOperator{Email: email, Name: name, Role: account.RoleAdmin}, s.Clock.Now())
	must(s.t, err)
	return operator
}

// staff makes operators of every kind, and returns the sessions of an admin and of
// a lead of two teams, and the id of a lead of none.
func (s *site) staff() (admin, lead *http.Cookie, idle string) {
	s.t.Helper()
	marta := named(s, "marta@example.org", "Marta Lindqvist")
	s.operator("new@example.org", account.RoleAdmin, "")
	rows, err := s.DB.Query(s.t.Context(), `select team_id from public.prompt_attempts where team_id is not null group by 1 order by count(*) desc limit 2`)
	must(s.t, err)
	teams, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	must(s.t, err)
	linus := s.operator("linus@example.org", account.RoleTeamLead, "")
	for _, id := range teams {
		s.join(id, *linus.LearnerID, "lead")
	}
	s.join(s.team("Nobody’s"), s.learner("member@example.org"), "member")
	fay := s.operator("fay@example.org", account.RoleTeamLead, "")
	gone := s.operator("gone@example.org", account.RoleAdmin, "")
	must(s.t, s.Accounts.Disable(s.t.Context(), audit.CommandLine, gone.ID, s.Clock.Now()))
	_, err = s.Accounts.CreateLink(s.t.Context(), audit.CommandLine, fay.ID, time.Hour, s.Clock.Now())
	must(s.t, err)
	s.session(marta)
	return s.session(marta), s.session(linus), fay.ID.String()
}

func (s *site) first(sql string) (value string) {
	s.t.Helper()
	must(s.t, s.DB.QueryRow(s.t.Context(), sql).Scan(&value))
	return value
}

func refusedOperator(b *tab) {
	js[any](b, `document.querySelector("#email").value = "ada@", document.querySelector("#learner").value = "nobody@example.org", 0`)
	js[any](b, `document.querySelector("form[action='/settings/operators']").submit(), 0`)
	b.shows("main", "is the address of no learner")
	b.settle()
}

func newLink(b *tab) {
	js[any](b, `document.querySelector("form[action$=link]").submit(), 0`)
	b.shows("main", "It signs in once")
	b.settle()
}

func deleteUnconfirmed(b *tab) {
	js[any](b, `document.querySelector("form[action$=delete]").submit(), 0`)
	b.shows("main", "must be the team’s name")
	b.settle()
}

// openTeams opens the switch between teams, which on a phone is in the sidebar.
func openTeams(b *tab) {
	js[any](b, `document.querySelector("details.team-switch").open = true, 0`)
	js[any](b, `innerWidth < 1024 && document.querySelector("#sidebar").showPopover(), 0`)
}

// leadWhoIs is the session of a team lead who is this learner.
func (s *site) leadWhoIs(email string) *http.Cookie {
	s.t.Helper()
	var id uuid.UUID
	must(s.t, s.DB.QueryRow(s.t.Context(), `select id from auth.users where email = $1`, email).Scan(&id))
	operator, err := s.Accounts.Create(s.t.Context(), audit.CommandLine, account.NewOperator{Email: "lead-" + email, Role: account.RoleTeamLead, LearnerID: &id}, s.Clock.Now())
	must(s.t, err)
	return s.session(operator)
}

// led is a learner who has run something for a team that this one leads.
func (s *site) led(email string) string {
	s.t.Helper()
	var id string
	must(s.t, s.DB.QueryRow(s.t.Context(), `
		select r.user_id::text from auth.users u
		join public.team_members l on l.user_id = u.id and l.role = 'lead'
		join public.team_members m on m.team_id = l.team_id and m.user_id <> u.id
		join public.prompt_runs r on r.team_id = l.team_id and r.user_id = m.user_id
		where u.email = $1
		group by r.user_id order by count(*) desc limit 1`, email).Scan(&id))
	return id
}

// unfold opens everything that is folded up.
func unfold(b *tab) {
	js[any](b, `document.querySelectorAll("main details").forEach((e) => { e.open = true }), 0`)
}

func refusedSignIn(b *tab) {
	js[any](b, `document.querySelector("#email").value = "marta@example.org", document.querySelector("#password").value = "wrong", 0`)
	js[any](b, `document.querySelector("form").submit(), 0`)
	b.shows("main", "is not right")
	b.settle()
}

// limits sets limits of which so much is used today.
func (s *site) limits(share float64) {
	s.t.Helper()
	used, err := s.Budgets.Used(s.t.Context(), s.Clock.Now())
	must(s.t, err)
	part := func(of price.USD, share float64) *price.USD {
		return new(price.NewUSD(of.Decimal().Div(decimal.NewFromFloat(share)).Round(2)))
	}
	operator := named(s, "marta@example.org", "Marta Lindqvist")
	_, err = s.Budgets.Set(s.t.Context(), run.Budgets{
		DailyUSD: part(used.Day, share), LearnerDailyUSD: part(used.Learners[0].USD, 1.01), RunsPerMinute: new(20), FallbackMaxTokens: 4096,
	}, time.Time{}, operator.ID, s.Clock.Now())
	must(s.t, err)
	for i, share := range []float64{0.2, 0.85, 1.1} {
		_, err = s.DB.Exec(s.t.Context(), `update ops.fallback_keys set monthly_cap_usd = $2 where id = $1`, used.Keys[i].KeyID, part(used.Keys[i].USD, share))
		must(s.t, err)
	}
}

// auditedBy fills the audit log with what an operator did, verified on the way.
func (s *site) auditedBy(email string) account.Operator {
	s.t.Helper()
	nora := named(s, email, "Nora")
	s.unaudited()
	by, keyID := audit.Operator(nora.ID, nora.Email), "0192f1c8-7b1c-7000-8000-0000000000c1"
	entry := func(who audit.Actor, action, subject, id, label string, details map[string]any) audit.Entry {
		return audit.Entry{Actor: who, Action: action, SubjectType: subject, SubjectID: id, SubjectLabel: label, Details: details}
	}
	for range 40 {
		s.did(entry(audit.CommandLine, "fallback_key.test", "fallback_key", keyID, "Main account", map[string]any{"ok": true, "latencyMs": 212}))
	}
	_, err := s.Audit.VerifyAs(s.t.Context(), by, s.Clock.Now())
	must(s.t, err)
	for range 3 {
		s.did(entry(audit.Actor{Name: "key health"}, "fallback_key.state", "fallback_key", keyID, "Main account", map[string]any{"status": audit.Change{From: "healthy", To: "billing"}}))
	}
	s.did(
		entry(audit.CommandLine, "operator.add", "operator", "o1", "a-very-long-address-of-somebody-from-far-away@department.of.learning.example.org", map[string]any{"role": "team_lead"}),
		entry(by, "budgets.set", "budgets", "", "", map[string]any{"dailyUsd": audit.Change{From: nil, To: "25.00"}, "runsPerMinute": audit.Change{From: 10, To: nil}}),
		entry(by, "fallback_key.edit", "fallback_key", keyID, "Main account", map[string]any{
			"models": audit.Change{From: []string{}, To: []string{"gpt-5-mini", "gpt-5-nano", "gpt-6-sol", "gpt-6-luna"}}, "label": audit.Change{From: "Main", To: "Main account"}}),
		entry(by, "fallback_key.disable", "fallback_key", keyID, "Main account", map[string]any{
			"reason": "Seen in a public repository on 23 November; the provider was told, a new one is on its way.", "status": audit.Change{From: "healthy", To: "disabled"}}),
		entry(by, "team.delete", "team", "t1", "Night school", nil),
	)
	return nora
}

// pastRuns makes two runs: of one every model ended in another way, the other
// goes on.
func (s *site) pastRuns() (failedOver, goingOn string) {
	s.t.Helper()
	ada := s.learner("ada@example.org")
	s.ownKey(ada, "google")
	models := []string{"openai/gpt-5-mini", "anthropic/claude-haiku-5-5-fault-500", "google/gemini-3.8-flash-fault-slow", "mistral/nobody-has-a-price", "xai/grok-4.5"}
	answer := s.visitor().run(s.token(ada), `{"prompt":"Hello","models":["`+strings.Join(models, `","`)+`"],"config":{"temperature":0.7,"maxTokens":512}}`,
		"X-Request-ID", "lesson-4-exercise-2").wants(s.t, http.StatusOK).run(s.t)
	id := run.NewID(s.Clock.Now())
	_, err := s.DB.Exec(s.t.Context(), `
		insert into public.prompt_runs (id, created_at, user_id, models, plan)
		select $1, $2, $3, '{openai/gpt-5-mini}', jsonb_build_object('attempts', jsonb_build_array(jsonb_build_object(
		  'provider', 'openai', 'model', 'openai/gpt-5-mini', 'keySource', 'fallback', 'keyId', id)))
		from ops.fallback_keys where label = 'Spare account'`, id, run.CreatedAt(id), ada)
	must(s.t, err)
	return answer.RequestID, id.String()
}

func refusedLimits(b *tab) {
	js[any](b, `document.querySelector("#dailyUsd").value = "25,00", document.querySelector("#runsPerMinute").value = "0", 0`)
	js[any](b, `document.querySelector("form[action='/settings/budgets']").submit(), 0`)
	b.shows("main", "Nothing was saved: ")
	b.settle()
}

// lateLimits saves after somebody else has.
func lateLimits(b *tab) {
	js[any](b, `document.querySelector("#concurrentRuns").value = "3", document.querySelector("#runsPerMinute").value = "5", document.querySelector("[name=seen]").value = "2026-11-24T08:00:00Z", 0`)
	js[any](b, `document.querySelector("[name=was]").value = document.querySelector("[name=was]").value.replace("runsPerMinute=20", "runsPerMinute=10").replace("fallbackMaxTokens=4096", "fallbackMaxTokens=1024"), 0`)
	js[any](b, `document.querySelector("form[action='/settings/budgets']").submit(), 0`)
	b.shows("main", "Nothing was saved yet: ")
	b.settle()
}

// notifications sets channels up and sends through them, with every outcome.
func (s *site) notifications() {
	s.t.Helper()
	ctx, now := s.t.Context(), s.Clock.Now()
	lena := named(s, "lena@example.org", "Lena Berg")
	by := audit.Operator(lena.ID, lena.Email)
	var calls atomic.Int64
	slack := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) > 2 {
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprint(w, "no_service")
			return
		}
		_, _ = fmt.Fprint(w, "ok")
	}))
	s.t.Cleanup(slack.Close)
	for _, setup := range []notify.Setup{
		{Channel: notify.Email, Enabled: true, Host: "127.0.0.1", Port: 1, Security: notify.NoTLS, Username: "ops", Secret: "of the server", From: "Promptcademy Ops <ops@example.org>", To: []string{"team@example.org", "oncall@example.org"}},
		{Channel: notify.Slack, Enabled: true, Address: notify.Secret(slack.URL + "/services/T024BE7LD/B0/x")},
		{Channel: notify.Webhook, Address: "https://hooks.example.org/ops", Secret: "a key that signs, of the tests"},
	} {
		_, err := s.Channels.Set(ctx, setup, 0, by, now)
		must(s.t, err)
	}
	for _, m := range []notify.Message{
		{Channel: notify.Slack, Subject: "OpenAI: the key “Main account” is not accepted any more", Purpose: "key_alert"},
		{Channel: notify.Slack, Subject: "Anthropic: no usable fallback key is left", Purpose: "key_alert"},
		{Channel: notify.Slack, Subject: "OpenAI: the key “Spare account” has no credit left", Purpose: "key_alert"},
		{Channel: notify.Webhook, Subject: "OpenAI: the key “Spare account” has no credit left", Purpose: "key_alert"},
		{Channel: notify.Email, To: "ada.of-the-long-address.lovelace@students.example.org", Subject: "Add your own OpenAI key to Promptcademy", Purpose: "nudge"},
		{Channel: notify.Email, To: "not an address", Subject: "Add your own OpenAI key to Promptcademy", Purpose: "nudge"},
	} {
		must(s.t, postgres.InTx(ctx, s.DB, func(tx pgx.Tx) error {
			_, _, err := notify.Add(ctx, tx, m, now)
			return err
		}))
		must(s.t, s.Notifications.RunOnce(ctx, s.Clock.Now().Add(time.Minute)))
	}
}

func refusedChannel(b *tab) {
	js[any](b, `document.querySelector("#email-port").value = "many", document.querySelector("#email-from").value = "nobody", 0`)
	js[any](b, `document.querySelector("#email form[action='/settings/channels/email']").submit(), 0`)
	b.shows("main", "Nothing was saved: ")
	b.settle()
}

// threeAnswers runs a prompt on three models, one of which fails.
func threeAnswers(b *tab) {
	js[any](b, `document.querySelector("#prompt").value = "Explain retrieval-augmented generation to a chef", 0`)
	js[any](b, `document.querySelector("#other").value = "mistral/mistral-small-2603-fault-429", 0`)
	js[any](b, `document.querySelector("#other").dispatchEvent(new Event("input", { bubbles: true })), document.querySelector("#run").click(), 0`)
	b.shows("[data-totals]", "Some answered")
	if !js[bool](b, `document.querySelector("[data-slot=open]").getAttribute("href") === "/runs/" + document.querySelector("#request-id").textContent`) {
		b.t.Error("the totals do not lead to the run")
	}
}

// visit shows every page in every look to see. The tests that look at pages run
// side by side.
func visit(t *testing.T, see func(b *tab, p shown, l look)) {
	browser := newBrowser(t)
	for _, p := range everyPage(t) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			var cookies []*http.Cookie
			if p.who != nil {
				cookies = append(cookies, p.who)
			}
			for _, l := range looks {
				t.Run(l.String(), func(t *testing.T) {
					b := p.site.newTab(t, browser, cookies...)
					if p.errs != "" {
						b.expect("the server responded with a status of " + p.errs)
					}
					b.set(l)
					b.open(p.path)
					if p.do != nil {
						p.do(b)
					}
					b.shows("body", p.says)
					see(b, p, l)
				})
			}
		})
	}
}

func TestPagesInABrowser(t *testing.T) {
	t.Parallel()
	visit(t, func(b *tab, p shown, l look) {
		b.check()
		if l.Theme == "light" { // the keyboard knows no colours
			b.tabTo(p.main)
		}
		for _, problem := range b.complaints() {
			b.t.Error(problem)
		}
	})
}

// TestScreenshots makes the picture of the README, which -picture keeps. With
// -screenshots it makes pictures of everything instead:
//
//	go test ./handlers -run TestScreenshots -screenshots pages
func TestScreenshots(t *testing.T) {
	t.Parallel()
	if *screenshots != "" {
		must(t, os.MkdirAll(*screenshots, 0o755))
		visit(t, func(b *tab, p shown, l look) {
			must(t, os.WriteFile(filepath.Join(*screenshots, p.name+"-"+l.String()+".png"), b.picture(true), 0o644))
		})
		return
	}
	s := newSite(t).withDemo()
	b := s.newTab(t, newBrowser(t), s.session(named(s, "marta@example.org", "Marta Lindqvist")))
	b.set(look{"light", 1440})
	b.open("/usage")
	picture := b.picture(false)
	size, err := png.DecodeConfig(bytes.NewReader(picture))
	must(t, err)
	if *readmePicture != "" {
		must(t, os.WriteFile(*readmePicture, picture, 0o644))
	}
	if size.Width != 1440 || size.Height != 900 {
		t.Errorf("the picture is %d by %d pixels, want 1440 by 900", size.Width, size.Height)
	}
}

// picture is what the window shows, or the page as a whole, as PNG.
func (b *tab) picture(all bool) []byte {
	b.t.Helper()
	if !all {
		picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		must(b.t, err)
		return picture
	}
	return do(b, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: new(true)}).Data
}
