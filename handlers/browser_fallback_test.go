package handlers_test

import (
	"net/http"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp/kb"

	"github.com/google/uuid"

	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/key"
)

// withKeysInEveryState stores fallback keys in every state there is, and returns
// the id of one with a long history.
func (s *site) withKeysInEveryState() *site {
	s.t.Helper()
	now := s.Clock.Now()
	add := func(provider, label, change string) {
		s.t.Helper()
		added, err := s.Fallbacks.Add(s.t.Context(), key.NewKey{Provider: provider, Secret: key.Secret("sandbox-" + uuid.NewString()), Settings: key.Settings{Label: label}}, audit.CommandLine, now.AddDate(0, -1, 0))
		must(s.t, err)
		_, err = s.DB.Exec(s.t.Context(), `
			update ops.fallback_keys set sandbox = true, last_used_at = $2::timestamptz - interval '3 min', last_success_at = $2::timestamptz - interval '3 min'`+change+` where id = $1`, added.Key.ID, now)
		must(s.t, err)
	}
	const refused = `, last_error_at = $2::timestamptz - interval '2 hours', last_error_request_id = 'req_011CVzKqwerty', last_error_run_id = gen_random_uuid(), last_error_class = `
	add("openai", "Main account", `, monthly_cap_usd = 50, expires_at = $2::timestamptz + interval '9 days'`)
	add("openai", "Research team’s account with a label that is rather long", refused+`'rate_limited', last_error_message = 'Rate limit reached for gpt-5-mini in organization org-1 on tokens per min (TPM): Limit 200000.',
		status = 'cooling', suspect = 'rate_limited', cooling_until = $2::timestamptz + interval '4 min', models = '{gpt-5-mini,gpt-6-sol}'`)
	add("openai", "Old account", `, retire_at = $2::timestamptz + interval '20 hours', replaced_by = (select id from ops.fallback_keys where label = 'Main account')`)
	add("openai", "Was lent", `, status = 'disabled', status_at = $2::timestamptz - interval '3 days', status_reason = 'Leaked in a screenshot of the onboarding slides',
		status_by = (select id from ops.operators limit 1)`)
	add("anthropic", "Capped", `, monthly_cap_usd = 10`)
	add("anthropic", "Refused once", refused+`'invalid_key', last_error_message = 'invalid x-api-key', status = 'cooling', suspect = 'invalid_key', cooling_until = $2::timestamptz + interval '50 s'`)
	add("anthropic", "Rested", `, status = 'cooling', cooling_until = $2::timestamptz - interval '1 s'`)
	add("google", "Revoked", refused+`'invalid_key', last_error_message = 'API key not valid. Please pass a valid API key.', status = 'invalid', status_reason = 'A free check agreed: the provider does not know the key.'`)
	add("google", "Unpaid", refused+`'billing', last_error_message = 'Billing is not active.', status = 'billing', status_reason = 'The provider wants payment.'`)
	add("google", "Ended", `, expires_at = $2::timestamptz - interval '1 day'`)
	_, err := s.DB.Exec(s.t.Context(), `
		insert into ops.budget_counters (scope, subject, period, used_usd)
		select 'key', id, '2026-11-01', case label when 'Capped' then 10.004 else 41.123456 end from ops.fallback_keys where label in ('Capped', 'Main account')`)
	must(s.t, err)
	_, err = s.DB.Exec(s.t.Context(), `
		insert into public.prompt_attempts (run_id, ordinal, created_at, user_id, provider, model, status, key_source, fallback_key_id, cost_usd)
		select gen_random_uuid(), 0, $1::timestamptz - d * interval '1 day', gen_random_uuid(), 'openai', 'openai/m', 'ok', 'fallback', k.id, 1.234567
		from ops.fallback_keys k, generate_series(0, 7) d where k.label = 'Main account'`, now)
	must(s.t, err)
	_, err = s.DB.Exec(s.t.Context(), `
		insert into ops.key_events (at, key_source, key_id, provider, kind, class, http_status, message, run_id, provider_request_id, latency_ms, from_status, to_status, reason)
		select $1::timestamptz - interval '2 hours', 'fallback', id, provider, 'attempt', last_error_class, 401, last_error_message, last_error_run_id, last_error_request_id, 312, 'healthy', 'cooling', 'The provider refused it: a free check will tell whether it is bad.'
		from ops.fallback_keys where last_error_class is not null`, now)
	must(s.t, err)
	_, err = s.DB.Exec(s.t.Context(), `
		insert into ops.key_events (at, key_source, key_id, provider, kind, class, http_status, message, latency_ms, from_status, to_status, reason)
		select $1::timestamptz - interval '119 min', 'fallback', id, provider, 'probe', last_error_class, 401, last_error_message, 96, 'cooling', status, 'The free check agreed.'
		from ops.fallback_keys where status in ('invalid', 'billing')`, now)
	must(s.t, err)
	return s
}

func (s *site) withEndpoints() *site {
	s.t.Helper()
	_, err := s.DB.Exec(s.t.Context(), `
		insert into ops.providers (id, name, base_url) values ('vllm', 'vLLM in the lab', 'https://llm.lab.example.com:8443/openai/v1'), ('box', 'Sandbox', $1)`, s.Sandbox.URL+"/openai/v1")
	must(s.t, err)
	s.Providers.AllowPrivate(true)
	must(s.t, s.Endpoints.RunOnce(s.t.Context(), s.Clock.Now()))
	_, err = s.Fallbacks.Add(s.t.Context(), key.NewKey{Provider: "box", Secret: "sandbox-box", Settings: key.Settings{Label: "Box"}}, audit.CommandLine, s.Clock.Now())
	must(s.t, err)
	return s
}

// refusedKey sends the form that adds a key with something wrong in it.
func refusedKey(b *tab) {
	js[any](b, `document.querySelector("#monthlyCapUsd").value = "25,00", document.querySelector("#label").value = "Main", document.querySelector("form[action='/keys/fallback']").submit(), 0`)
	b.shows("main", "Nothing was saved: ")
	b.settle()
}

// lateSettings saves settings after somebody else has.
func lateSettings(b *tab) {
	js[any](b, `document.querySelector("#monthlyCapUsd").value = "40", document.querySelector("[name=revision]").value = "0", document.querySelector("[name=was]").value = "label=Main&monthlyCapUsd=20", document.querySelector("form[aria-labelledby=settings]").submit(), 0`)
	b.shows("main", "Nothing was saved yet: ")
	b.settle()
}

func testedEndpoint(b *tab) {
	js[any](b, `document.querySelector("form[action='/settings/providers/box/test'] button").click(), 0`)
	b.shows("main", "box/sandbox-model")
	b.settle()
}

// keyPages are the pages of keys and providers in every state that looks
// different.
func keyPages(t *testing.T, empty *site, newcomer *http.Cookie) []shown {
	t.Helper()
	s := newSite(t)
	marta := s.session(named(s, "marta@example.org", "Marta Lindqvist"))
	s.withKeysInEveryState().withEndpoints()
	path := func(label string) string { return fallbackPath + "/" + s.keyed(t, label).String() }
	return []shown{
		{name: "fallback", site: s, who: marta, path: fallbackPath, main: ".key [name=move]:enabled", says: "Main account"},
		{name: "fallback-empty", site: empty, who: newcomer, path: fallbackPath, main: "main a.btn", says: "There are no fallback keys yet"},
		{name: "fallback-new", site: s, who: marta, path: fallbackPath + "/new", main: "main button[type=submit]", says: "Add a fallback key"},
		{name: "fallback-new-refused", site: s, who: marta, path: fallbackPath + "/new", do: refusedKey, main: "main button[type=submit]", says: "This is empty; give the key", errs: "422"},
		{name: "fallback-key", site: s, who: marta, path: path("Main account"), main: ".btn-error", says: "of $50.00"},
		{name: "fallback-key-late", site: s, who: marta, path: path("Main account"), do: lateSettings, main: ".btn-error", says: "Changed meanwhile", errs: "409"},
		{name: "fallback-key-invalid", site: s, who: marta, path: path("Revoked"), main: ".btn-error", says: "The free check agreed."},
		{name: "fallback-key-disabled", site: s, who: marta, path: path("Was lent"), main: ".btn-error", says: "Leaked in a screenshot"},
		{name: "providers", site: s, who: marta, path: providersAt, do: testedEndpoint, main: "form[action='/settings/providers'] button", says: "Add an endpoint"},
		{name: "providers-empty", site: empty, who: newcomer, path: providersAt, main: "form[action='/settings/providers'] button", says: "None yet."},
		{name: "provider", site: s, who: marta, path: providersAt + "/vllm", main: ".btn-error", says: "vLLM in the lab"},
	}
}

const providersAt = "/settings/providers"

// Keys are put into another order by dragging, by touch too, and from the
// keyboard.
func TestKeysAreDragged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, label := range []string{"a", "b", "c"} {
		_, err := s.Fallbacks.Add(t.Context(), key.NewKey{Provider: "openai", Secret: key.Secret("sk-" + label), Settings: key.Settings{Label: label}}, audit.CommandLine, s.Clock.Now())
		must(t, err)
	}
	order := func() string {
		t.Helper()
		var labels string
		must(t, s.DB.QueryRow(t.Context(), `select string_agg(label, '' order by priority) from ops.fallback_keys`).Scan(&labels))
		return labels
	}
	b := s.adminTab(t)
	b.open(fallbackPath)
	const shownOrder = `[...document.querySelectorAll(".key-name > a")].map((a) => a.textContent).join("")`
	at := func(expression string) float64 {
		t.Helper()
		return js[float64](b, expression)
	}
	mouse := func(kind input.DispatchMouseEventType, x, y float64) {
		t.Helper()
		do(b, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: x, Y: y, Button: input.MouseButtonLeft, Buttons: 1, ClickCount: 1})
	}
	x, y := at(`document.querySelectorAll("[data-grip]")[2].getBoundingClientRect().x + 8`), at(`document.querySelectorAll("[data-grip]")[2].getBoundingClientRect().y + 8`)
	top := at(`document.querySelector(".key").getBoundingClientRect().top + 4`)
	mouse("mousePressed", x, y)
	mouse("mouseMoved", x, (y+top)/2)
	mouse("mouseMoved", x, top)
	b.until(shownOrder + ` === "cab"`)
	mouse("mouseReleased", x, top)
	b.shows("[role=status]", "The order is saved")
	if got := order(); got != "cab" {
		t.Errorf("after dragging the order is %s", got)
	}

	// What is let go with Escape stays where it was.
	y = at(`document.querySelectorAll("[data-grip]")[0].getBoundingClientRect().y + 8`)
	mouse("mousePressed", x, y)
	mouse("mouseMoved", x, y+400)
	b.until(shownOrder + ` === "abc"`)
	b.press(kb.Escape)
	b.until(shownOrder + ` === "cab"`)
	mouse("mouseReleased", x, y)

	down := "#down-" + s.keyed(t, "c").String()
	b.tabTo(down)
	b.press(kb.Enter)
	b.until(shownOrder + ` === "acb"`)
	b.until(`document.activeElement.id === ` + quoted(down[1:]))
	eventually(t, "the order in the database", func() bool { return order() == "acb" })
}
