package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// runbookPages are the pages of the runbook in every state.
func runbookPages(t *testing.T) []shown {
	t.Helper()
	s := newSite(t).withDemo()
	rosa := s.session(named(s, "rosa@example.org", "Rosa Keller"))
	v := s.visitor(rosa)
	text := "# DNS\n\nNames are not found. It is always DNS.\n\n1. **Ask for a name.** See <b>what</b> comes back, [here](/nowhere):\n\n   ```\n   dig +short api.openai.com @1.1.1.1 # a rather long line which does not fit on the screen of a phone, and so has to scroll\n   ```\n\n   {{check \"database\"}}\n\n2. Then *wait*.\n"
	save := func(from, markdown, note string) {
		v.post("/runbook/dns/edit", url.Values{"do": {"save"}, "from": {from}, "markdown": {markdown}, "note": {note}}.Encode()).wants(t, http.StatusSeeOther)
	}
	v.post("/runbook/new", url.Values{"do": {"save"}, "slug": {"dns"}, "markdown": {text}}.Encode()).wants(t, http.StatusSeeOther)
	save("1", strings.Replace(text, "Then *wait*.", "Then *wait* for an hour.", 1), "How long")
	save("2", strings.Replace(text, "Then *wait*.", "Then *wait* for a day.", 1), "")
	v.get("/runbook/dns") // takes the flash
	old := newSite(t)
	olaf := old.session(named(old, "olaf@example.org", "Olaf"))
	o := old.visitor(olaf)
	o.post("/runbook/cost-spike/edit", url.Values{"do": {"save"}, "from": {"0"}, "built": {o.builtHash("/runbook/cost-spike/edit")}, "markdown": {"# Cost spike\n\nOurs.\n\n{{check \"budget-today\"}}\n"}}.Encode()).wants(t, http.StatusSeeOther)
	_, err := old.DB.Exec(t.Context(), `update ops.runbook_versions set base = 'older'`)
	must(t, err)
	o.get("/runbook/cost-spike")

	away := newSite(t)
	abby := away.session(named(away, "abby@example.org", "Abby"))
	away.visitor(abby).get("/runbook").wants(t, http.StatusOK)
	away.loseDatabase()
	leads := newSite(t)
	lead, _ := leads.leadOf("lia@example.org", "Design")
	lia := leads.session(lead)
	return []shown{
		{name: "runbook", site: s, who: rosa, path: "/runbook", main: ".check-again", says: "Live checks"},
		{name: "runbook-search", site: s, who: rosa, path: "/runbook?q=key+provider", main: "main .procedures a", says: "Leaked key"},
		{name: "runbook-search-none", site: s, who: rosa, path: "/runbook?q=zebra", main: "main a.btn-primary", says: "No procedure holds"},
		{name: "runbook-page", site: s, who: rosa, path: "/runbook/missing-api-key", do: askAgain, main: "main pre", says: "Usable fallback keys"},
		{name: "runbook-own", site: s, who: rosa, path: "/runbook/dns", main: "main pre", says: "Version 3"},
		{name: "runbook-newer", site: old, who: olaf, path: "/runbook/cost-spike", main: "form[action$=take-over] button", says: "brings a newer text"},
		{name: "runbook-away", site: away, who: abby, path: "/runbook/slow-runs", main: ".check-again", says: "the database does not answer, edits are not shown"},
		{name: "runbook-lead", site: leads, who: lia, path: "/runbook/missing-api-key", main: "main pre", says: "only administrators see it"},
		{name: "runbook-print", site: s, who: rosa, path: "/runbook/print", main: "main pre", says: "All procedures, as they were at"},
		{name: "runbook-edit", site: s, who: rosa, path: "/runbook/dns/edit", do: preview, main: "#markdown", says: "Nothing is saved yet"},
		{name: "runbook-conflict", site: s, who: rosa, path: "/runbook/dns/edit", do: lateEdit, main: "#markdown", says: "somebody else changed the same lines", errs: "409"},
		{name: "runbook-new", site: s, who: rosa, path: "/runbook/new", do: refusedProcedure, main: "#slug", says: "Nothing was saved", errs: "422"},
		{name: "runbook-history", site: s, who: rosa, path: "/runbook/dns/history", main: "form[action$=restore] button", says: "In force"},
		{name: "runbook-diff", site: s, who: rosa, path: "/runbook/dns/diff?from=1&to=3", main: ".text-diff", says: "for a day"},
	}
}

// builtHash is the hash of the built-in text that a form carries.
func (v *visitor) builtHash(path string) string {
	v.t.Helper()
	_, rest, _ := strings.Cut(v.get(path).Text, `name="built" value="`)
	hash, _, _ := strings.Cut(rest, `"`)
	return hash
}

// askAgain asks one check again, without leaving the page.
func askAgain(b *tab) {
	js[any](b, `document.querySelector("#check-fallback-keys-again").focus(), document.querySelector("#check-fallback-keys").dataset.old = "", document.querySelector("#check-fallback-keys-again").click(), 0`)
	b.until(`!("old" in document.querySelector("#check-fallback-keys").dataset)`)
	if !js[bool](b, `document.activeElement.id === "check-fallback-keys-again"`) {
		b.t.Error("the keyboard is not where it was")
	}
	b.settle()
}

func preview(b *tab) {
	js[any](b, `document.querySelector("button[value=preview]").click(), 0`)
	b.shows("main", "Nothing is saved yet")
	b.settle()
}

// lateEdit saves a text that began from an older version than the one in force.
func lateEdit(b *tab) {
	js[any](b, `document.querySelector("[name=from]").value = "1", document.querySelector("#markdown").value = document.querySelector("#markdown").value.replace("a day", "a week"), 0`)
	js[any](b, `document.querySelector("button[value=save]").click(), 0`)
	b.shows("main", "somebody else changed the same lines")
	b.settle()
}

func refusedProcedure(b *tab) {
	js[any](b, `document.querySelector("#slug").value = "Not an address", document.querySelector("button[value=save]").click(), 0`)
	b.shows("main", "Nothing was saved")
	b.settle()
}
