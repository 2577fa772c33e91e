package handlers_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/run"
)

// fellBack makes a run of a learner that a fallback key paid, in a team or none.
func (s *site) fellBack(learner uuid.UUID, team *uuid.UUID, cost string) {
	s.t.Helper()
	id := run.NewID(s.Clock.Now().Add(-time.Hour))
	_, err := s.DB.Exec(s.t.Context(), `
		with run as (insert into public.prompt_runs (id, created_at, user_id, team_id, models) values ($1, $2, $3, $4, '{}') returning id, created_at)
		insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, team_id, provider, model, status, key_source, fallback_key_id, cost_usd)
		select id, 0, created_at, $3, $4, 'openai', 'openai/m', 'ok', 'fallback', id, $5::text::numeric from run`, id, run.CreatedAt(id), learner, team, cost)
	must(s.t, err)
}

// chosen is a form about learners: "name", "value", … and the learners.
func chosen(ids []uuid.UUID, fields ...string) string {
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	for _, id := range ids {
		form.Add("learner", id.String()+".0")
	}
	return form.Encode()
}

// worked is everything that was done about learners.
func (s *site) worked(t *testing.T) (all string) {
	t.Helper()
	must(t, s.DB.QueryRow(t.Context(), `
		select concat_ws(' ', (select jsonb_agg(o order by learner_id) from ops.outreach o), (select count(*) from ops.outreach_events), (select count(*) from ops.nudges),
		  (select count(*) from ops.deliveries), (select count(*) from ops.audit_log), (select count(*) from ops.outreach_settings))`).Scan(&all))
	return all
}

func TestKeyHealthOfAnAdmin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ann, bob := s.learner("ann@example.org"), s.learner("bob@example.org")
	s.ownKey(bob, "openai")
	s.fellBack(ann, nil, "0.7")
	admin := s.as(account.RoleAdmin)
	admin.get("/keys/health").wants(t, http.StatusOK).shows(t, "ann@example.org", "$1.50", "50.0% of all", "On fallback: OpenAI")
	if page := admin.get("/keys/health?show=with"); strings.Contains(page.Text, "learners/"+ann.String()) && !strings.Contains(page.Text, "learners/"+bob.String()) {
		t.Error("the list is of others")
	}
	csv := admin.get("/keys/health.csv?show=without").wants(t, http.StatusOK)
	if lines := strings.Count(csv.Text, "\r\n"); lines != 2 || !strings.Contains(csv.Text, ",0.7,1.5,0\r\n") || csv.Header.Get("Content-Type") != "text/csv; charset=utf-8" {
		t.Errorf("%s", csv.Text)
	}
	admin.get("/keys/health.csv?show=x").wants(t, http.StatusUnprocessableEntity)
	admin.get("/keys/health?after=x").wants(t, http.StatusUnprocessableEntity).shows(t, "The filters could not be used")
	admin.get("/keys/health?team="+uuid.NewString()).wants(t, http.StatusNotFound)

	// Work on the queue, without scripts.
	answer := admin.post("/keys/health/actions", chosen([]uuid.UUID{ann}, "action", "contacted", "note", "called <b>", "back", "show=without")).wants(t, http.StatusSeeOther)
	if at := answer.Header.Get("Location"); at != "/keys/health?show=without#learners" {
		t.Error(at)
	}
	admin.get("/keys/health?show=without").shows(t, "1 learner marked as contacted.", "Contacted")
	admin.get("/keys/health/learners/"+ann.String()).wants(t, http.StatusOK).shows(t, "Marked as contacted", "called &lt;b&gt;", "Undo it")
	admin.post("/keys/health/actions", chosen([]uuid.UUID{ann}, "action", "snooze", "until", "2026-12-01")).wants(t, http.StatusSeeOther)
	admin.get("/keys/health").shows(t, "Nothing was changed. 1 learner was changed by somebody else meanwhile")
	admin.post("/keys/health/actions", "action=snooze&until=2026-12-01&learner="+ann.String()+".1").wants(t, http.StatusSeeOther)
	admin.get("/keys/health?show=snoozed").shows(t, "until 1 Dec 2026")
	admin.post("/keys/health/actions", "action=snooze&until=soon&learner="+ann.String()+".1").wants(t, http.StatusUnprocessableEntity).shows(t, "is not a day")
	admin.post("/keys/health/actions", "action=snooze&learner="+ann.String()+".1").wants(t, http.StatusUnprocessableEntity).shows(t, "choose the day")
	admin.post("/keys/health/actions", "action=contacted&back=https://evil.example.org").wants(t, http.StatusSeeOther)
	admin.get("/keys/health").shows(t, "Nobody was chosen")
	admin.post("/keys/health/actions", chosen([]uuid.UUID{bob}, "action", "contacted")).wants(t, http.StatusSeeOther)
	admin.get("/keys/health").shows(t, "has a usable key by now")
	admin.post("/keys/health/actions", chosen([]uuid.UUID{uuid.New()}, "action", "contacted")).wants(t, http.StatusNotFound)

	// A key resolves, and one that breaks opens again, without anything in between.
	s.ownKey(ann, "anthropic")
	admin.get("/keys/health?show=resolved").shows(t, "learners/"+ann.String(), "Resolved")
	_, err := s.DB.Exec(t.Context(), `update public.user_api_keys set status = 'invalid' where user_id = $1`, ann)
	must(t, err)
	admin.get("/keys/health?show=snoozed").shows(t, "learners/"+ann.String(), "Broken: Anthropic")
}

func TestNudgeFromTheQueue(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ann, bob, cy := s.learner("ann@example.org"), s.learner("bob@example.org"), s.learner("cy@example.org")
	s.ownKey(bob, "openai")
	admin := s.as(account.RoleAdmin)
	form := chosen([]uuid.UUID{ann, bob, cy}, "channel", "email", "back", "show=without")
	admin.get("/keys/health/nudge?"+form).wants(t, http.StatusOK).
		shows(t, "2 learners will get it, 1 will not", "has a usable key", "Hello there,", frontend+"/settings/api-keys", "E-mail is not set up")
	admin.post("/keys/health/nudge", form+"&step=preview&subject=Hi+{{name}}&text=Key+for+{{providers}}").wants(t, http.StatusOK).shows(t, "Key for a provider of your choice")
	for _, step := range []string{"preview", "send"} {
		admin.post("/keys/health/nudge", form+"&step="+step+"&subject=Hi&text={{key}}").wants(t, http.StatusUnprocessableEntity).shows(t, "{{key}}, which nobody knows")
	}
	if n := s.count(t, `select count(*) from ops.nudges`); n != 0 {
		t.Errorf("%d nudges before anybody confirmed", n)
	}
	answer := admin.post("/keys/health/nudge", form+"&step=send&subject=Hi&text=A+key,+please").wants(t, http.StatusSeeOther)
	if at := answer.Header.Get("Location"); at != "/keys/health?show=without" {
		t.Error(at)
	}
	admin.get("/keys/health").shows(t, "2 learners nudged by e-mail. 1 learner gets no message", "Waiting to be sent", "The learner has a usable key.")
	admin.post("/keys/health/nudge", form+"&step=send&subject=Hi&text=A+key,+please").wants(t, http.StatusSeeOther)
	admin.get("/keys/health").shows(t, "Nothing was changed. 3 learners get no message")
	if n := s.count(t, `select count(*) from ops.deliveries where purpose = 'nudge'`); n != 2 {
		t.Errorf("%d messages", n)
	}
	admin.get("/keys/health/nudge?channel=email").wants(t, http.StatusSeeOther)
	admin.get("/keys/health/nudge?channel=pigeon&learner="+ann.String()).wants(t, http.StatusUnprocessableEntity)
}

func TestNudgeSettings(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	admin.get("/keys/health/settings").wants(t, http.StatusOK).shows(t, "Your own key for Promptcademy")
	form := func(seen, days string) string {
		return url.Values{"seen": {seen}, "nudgeDays": {days}, "emailSubject": {"S <b>"}, "emailText": {"T {{name}}"}, "slackText": {"{{learners}}"}}.Encode()
	}
	never := time.Time{}.Format(time.RFC3339Nano)
	admin.post("/keys/health/settings", form(never, "x")).wants(t, http.StatusUnprocessableEntity).shows(t, "This must be a whole number of days", "S &lt;b&gt;")
	admin.post("/keys/health/settings", form(never, "3")).wants(t, http.StatusSeeOther)
	admin.post("/keys/health/settings", form(never, "5")).wants(t, http.StatusConflict).shows(t, "somebody else changed these settings")
	admin.get("/keys/health/settings").shows(t, `value="3"`, "S &lt;b&gt;", "Last changed")
	ann := s.learner("ann@example.org")
	admin.get("/keys/health/nudge?channel=email&learner="+ann.String()).shows(t, "within 3 days", "T there")
	if n := s.count(t, `select count(*) from ops.audit_log where action = 'outreach_settings.change' and details -> 'nudgeDays' ->> 'to' = '3'`); n != 1 {
		t.Errorf("%d entries in the audit log", n)
	}
}

// A lead of red tries every way to see, or to do something with, blue.
func TestLeadsTryToSeeOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	lead, teams := s.leadOf("lead@example.org", "Red")
	blue := s.team("Blue secrets")
	mine, theirs, nobodys, boss := s.learner("mine@example.org"), s.learner("theirs@example.org"), s.learner("nobodys@example.org"), s.learner("boss@example.org")
	s.join(teams[0], mine, "member")
	s.join(blue, theirs, "member")
	s.join(blue, boss, "lead")
	s.join(blue, mine, "member") // who is in both
	for _, id := range []uuid.UUID{theirs, nobodys, mine} {
		s.fellBack(id, &blue, "77707")
	}
	s.fellBack(mine, nil, "88808")
	s.fellBack(mine, &teams[0], "0.7")
	s.ownKey(theirs, "xai")
	admin := s.as(account.RoleAdmin)
	admin.post("/keys/health/actions", chosen([]uuid.UUID{nobodys}, "action", "contacted", "note", "a secret note")).wants(t, http.StatusSeeOther)
	form := chosen([]uuid.UUID{nobodys, boss}, "channel", "email", "step", "send", "subject", "Hi", "text", "Hi")
	admin.post("/keys/health/nudge", form).wants(t, http.StatusSeeOther)
	before := s.worked(t)

	visitor := s.visitor(s.session(lead))
	own := visitor.get("/keys/health?show=all").wants(t, http.StatusOK).shows(t, "mine@example.org", "Red", "$1.50")
	secrets := []string{"theirs@", "nobodys@", "boss@", "Blue secrets", blue.String(), theirs.String(), nobodys.String(), boss.String(), "77,707", "88,808", "77707", "88808", "190,0", "166,5", "secret note", "All learners</option>", "/keys/health/settings"}
	hides := func(r reply) {
		t.Helper()
		asked := r.Request.URL.RequestURI()
		for _, secret := range secrets {
			if strings.Contains(r.Text, secret) && !strings.Contains(asked, secret) {
				t.Errorf("%s %s shows %q", r.Request.Method, asked, secret)
			}
		}
	}
	hides(own)
	var queries []string
	for _, show := range []string{"open", "contacted", "snoozed", "resolved", "without", "active", "with", "broken", "fallback", "all"} {
		queries = append(queries, "show="+show, "show="+show+"&q=example", "show="+show+"&teams=all&select=all")
	}
	for _, provider := range []string{"openai", "xai"} {
		queries = append(queries, "show=with&provider="+provider, "show=fallback&provider="+provider)
	}
	queries = append(queries, "q=theirs", "show=all&q=%25", "show=all&q=_", "show=all&team=&team="+blue.String(), "show=all&team="+teams[0].String()+"&team="+blue.String(), "learner="+theirs.String())
	for _, query := range queries {
		for _, path := range []string{"/keys/health", "/keys/health.csv"} {
			hides(visitor.get(path+"?"+query).wants(t, http.StatusOK))
		}
	}
	for _, query := range []string{"team=" + blue.String(), "show=all&team=" + strings.ToUpper(blue.String()), "team=" + uuid.NewString(), "team=" + blue.String() + "&teams=all"} {
		for _, path := range []string{"/keys/health", "/keys/health.csv"} {
			hides(visitor.get(path+"?"+query).wants(t, http.StatusNotFound))
		}
	}
	for _, stranger := range []uuid.UUID{theirs, nobodys, boss, uuid.New()} {
		hides(visitor.get("/keys/health/learners/"+stranger.String()).wants(t, http.StatusNotFound))
		for _, ids := range [][]uuid.UUID{{stranger}, {mine, stranger}, {stranger, mine}} {
			for _, action := range []string{"contacted", "reopen", "undo"} {
				hides(visitor.post("/keys/health/actions", chosen(ids, "action", action, "team", blue.String())).wants(t, http.StatusNotFound))
			}
			hides(visitor.post("/keys/health/actions", chosen(ids, "action", "snooze", "until", "2026-12-01")).wants(t, http.StatusNotFound))
			for _, channel := range []string{"email", "slack"} {
				hides(visitor.get("/keys/health/nudge?"+chosen(ids, "channel", channel, "team", blue.String())).wants(t, http.StatusNotFound))
				for _, step := range []string{"preview", "send"} {
					hides(visitor.post("/keys/health/nudge", chosen(ids, "channel", channel, "step", step, "subject", "Hi", "text", "Hi")).wants(t, http.StatusNotFound))
				}
			}
		}
	}
	visitor.get("/keys/health/settings").wants(t, http.StatusForbidden)
	visitor.post("/keys/health/settings", "nudgeDays=1").wants(t, http.StatusForbidden)
	if after := s.worked(t); after != before {
		t.Errorf("something has changed: %s, was %s", after, before)
	}

	// Their own members they may nudge, and see nothing of keys but their status.
	_, err := s.DB.Exec(t.Context(), `
		insert into public.user_api_keys (user_id, provider, label, ciphertext, fingerprint, last_four, status, last_error_message)
		values ($1, 'openai', 'Key of mine', 'sealed', 'printed', '9F9Q', 'invalid', 'the provider said so')`, mine)
	must(t, err)
	secrets = append(secrets, "Key of mine", "sealed", "printed", "9F9Q", "the provider said so")
	visitor.post("/keys/health/nudge", chosen([]uuid.UUID{mine}, "channel", "slack", "step", "send", "text", "{{learners}}")).wants(t, http.StatusSeeOther)
	hides(visitor.get("/keys/health?show=all").wants(t, http.StatusOK).shows(t, "1 learner named in Slack.", "Broken: OpenAI"))
	hides(visitor.get("/keys/health/learners/"+mine.String()).wants(t, http.StatusOK).shows(t, "Nudged", "Red"))
	if text := s.count(t, `select count(*) from ops.deliveries where channel = 'slack' and body = $1`, "• mine@example.org (Red): OpenAI"); text != 1 {
		t.Error("the message is another one")
	}

	// The role is lost: so is the page, with the next request.
	s.join(teams[0], *lead.LearnerID, "member")
	for _, path := range []string{"/keys/health", "/keys/health.csv", "/keys/health/learners/" + mine.String(), fmt.Sprintf("/keys/health/nudge?channel=email&learner=%s", mine)} {
		hides(visitor.get(path).wants(t, http.StatusForbidden))
	}
}

func TestLeadOfTwoTeams(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	lead, teams := s.leadOf("lead@example.org", "Red", "Blue")
	ann, bob := s.learner("ann@example.org"), s.learner("bob@example.org")
	s.join(teams[0], ann, "member")
	s.join(teams[1], bob, "member")
	visitor := s.visitor(s.session(lead))
	visitor.get("/keys/health?show=all").wants(t, http.StatusOK).shows(t, "ann@example.org", "bob@example.org", "Choose one of your teams")
	red := visitor.get("/keys/health?show=all&team="+teams[0].String()).wants(t, http.StatusOK).shows(t, "ann@example.org")
	if strings.Contains(red.Text, "bob@example.org") {
		t.Error("the other team is not left out")
	}
}
