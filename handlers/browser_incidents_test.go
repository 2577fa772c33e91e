package handlers_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/incident"
	"github.com/promptcademy/promptops/internal/postgres"
)

// incidentsShown are the pages of incidents; those of nothing are of the site empty.
func incidentsShown(t *testing.T, empty *site, newcomer *http.Cookie) []shown {
	t.Helper()
	s := newSite(t, readings(false)).withDemo()
	marta := named(s, "marta@example.org", "Marta Lindqvist")
	lead, _ := s.leadOf("linus@example.org", "Design")
	admin, linus := s.session(marta), s.session(lead)
	going, over := s.incidents(marta, named(s, "lena@example.org", "Lena Berg"))
	return []shown{
		{name: "incidents", site: s, who: admin, path: "/incidents", main: "main a.btn-primary", says: "Left to do"},
		{name: "incidents-none", site: empty, who: newcomer, path: "/incidents", main: "main a.btn-primary", says: "There has been no incident"},
		{name: "incidents-lead", site: s, who: linus, path: "/incidents", main: ".banner a", says: "The administrators are looking after it"},
		{name: "incident", site: s, who: admin, path: going, main: "#body", says: "Errors cross the threshold"},
		{name: "incident-resolved", site: s, who: admin, path: over, main: "#markdown", says: "Reopen"},
		{name: "incident-refused", site: s, who: admin, path: going, do: refusedIncident, main: "#title", says: "This must not be empty.", errs: "422"},
		{name: "incident-new", site: s, who: admin, path: "/incidents/new?check=fallback-keys&step=missing-key", main: "form[action='/incidents'] button", says: "Measured"},
	}
}

// incidents makes one incident that goes on and one that is over, and returns their
// addresses.
func (s *site) incidents(marta, lena account.Operator) (going, over string) {
	s.t.Helper()
	ctx, now := s.t.Context(), s.Clock.Now()
	at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	by, other := audit.Operator(marta.ID, marta.Email), audit.Operator(lena.ID, lena.Email)
	do := func(err error) {
		s.t.Helper()
		must(s.t, err)
	}
	_, err := s.DB.Exec(ctx, `
		update public.prompt_attempts set status = 'error', error_class = 'invalid_key'
		where provider = 'openai' and created_at >= $1`, at(-600))
	must(s.t, err)
	_, err = s.DB.Exec(ctx, `
		update public.prompt_runs set status = 'error' where id in (
		  select run_id from public.prompt_attempts where created_at >= $1 group by run_id having bool_and(status = 'error'))`, at(-600))
	must(s.t, err)
	_, err = s.DB.Exec(ctx, `
		insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, provider, model, status, key_source, error_class, user_key_id, cost_usd)
		select gen_random_uuid(), 0, $1::timestamptz + n * interval '3 seconds', gen_random_uuid(), 'openai', 'openai/gpt-5-mini', 'error', 'user', case when n % 4 = 0 then 'rate_limited' else 'invalid_key' end, gen_random_uuid(), 0
		from generate_series(1, 60) n`, at(-35))
	must(s.t, err)
	key := s.first(`select id::text from ops.fallback_keys where provider = 'openai' limit 1`)
	_, err = s.DB.Exec(ctx, `
		insert into ops.key_events (at, key_source, key_id, provider, kind, from_status, to_status, reason)
		values ($1, 'fallback', $2, 'openai', 'attempt', 'healthy', 'cooling', 'The provider refused it: a free check will tell whether it is bad.'),
		       ($1::timestamptz + interval '1 minute', 'fallback', $2, 'openai', 'probe', 'cooling', 'invalid', 'The free check agreed.')`, at(-30), key)
	must(s.t, err)
	do(postgres.InTx(ctx, s.DB, func(tx pgx.Tx) error {
		return audit.Add(ctx, tx, audit.Entry{At: at(-20), Actor: by, Action: "budgets.set", SubjectType: "budgets", Details: map[string]any{"dailyUsd": audit.Change{From: "25", To: "40"}}})
	}))
	_, err = s.DB.Exec(ctx, `insert into ops.deploys (at, host, version, previous) values ($1, 'web-1.internal.example.org', '1.5.0', '1.4.2')`, at(-15))
	must(s.t, err)

	first, err := s.Incidents.Start(ctx, other, incident.Draft{Title: "Runs take more than a minute", Severity: 2, LeadID: &lena.ID, DetectedAt: at(-600)}, incident.Origin{}, at(-590))
	must(s.t, err)
	do(s.Incidents.Take(ctx, by, first, incident.Acknowledge, at(-588)))
	do(s.Incidents.AddFollowUp(ctx, by, first, incident.Task{Body: "Alert on the 95th percentile, per provider", OwnerID: &lena.ID, DueOn: "2026-11-20"}, at(-540)))
	do(s.Incidents.AddFollowUp(ctx, by, first, incident.Task{Body: "Tell the learners what happened"}, at(-540)))
	do(s.Incidents.Take(ctx, other, first, incident.Resolve, at(-520)))
	do(s.Incidents.Write(ctx, other, first, 3, incident.Texts{
		Summary:  "OpenAI answered slowly for an hour. Every run with a model of theirs waited for its timeout.",
		WentWell: "- noticed within ten minutes\n- nobody was billed twice", WentBadly: "- nobody was told who leads",
	}, at(-400)))

	reading := incident.Reading{Title: "Usable fallback keys", Verdict: "failing", Value: "0 at OpenAI", Detail: "“Main account” is invalid since 11:31; there is no other.", At: at(-29)}
	second, err := s.Incidents.Start(ctx, by, incident.Draft{Title: "OpenAI refuses our fallback keys", Severity: 1, LeadID: &marta.ID, DetectedAt: at(-40)}, incident.Origin{CheckID: "fallback-keys", Step: "missing-key", Reading: &reading}, at(-29))
	must(s.t, err)
	do(s.Incidents.Take(ctx, other, second, incident.Acknowledge, at(-26)))
	do(s.Incidents.AddNote(ctx, by, second, "Asked OpenAI’s support. The key was revoked because it was seen in a public repository:\nhttps://example.org/learners/prompt-collection/blob/main/a-very-long-name-of-a-file-that-does-not-break.ipynb", at(-22)))
	do(s.Incidents.AddNote(ctx, other, second, "New key ordered", at(-21)))
	do(s.Incidents.Take(ctx, by, second, incident.Mitigate, at(-10)))
	do(s.Incidents.AddFollowUp(ctx, by, second, incident.Task{Body: "Scan public repositories for our keys every night", OwnerID: &marta.ID, DueOn: "2026-12-01"}, at(-5)))
	third, err := s.Incidents.Start(ctx, by, incident.Draft{Title: "Gemini answers with empty text now and then", Severity: 3, DetectedAt: at(-3)}, incident.Origin{}, at(-3))
	must(s.t, err)
	do(s.Incidents.AddNote(ctx, by, third, "Seen twice", at(-2)))
	address := func(id int64) string { return fmt.Sprintf("/incidents/%d", id) }
	return address(second), address(first)
}

func refusedIncident(b *tab) {
	js[any](b, `document.querySelector("details.incident-change").open = true, document.querySelector("#title").value = "", 0`)
	js[any](b, `document.querySelector("details.incident-change form").submit(), 0`)
	b.shows("main", "This must not be empty.")
	b.settle()
}
