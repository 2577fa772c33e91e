package handlers_test

import (
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// A lead of two teams goes from one to the other with the keyboard; the filters
// stay, also those that htmx has put into the address since.
func TestALeadSwitchesTeams(t *testing.T) {
	t.Parallel()
	s := newSite(t).withDemo()
	_, cookie, _ := s.staff()
	b := s.newTab(t, newBrowser(t), cookie)
	b.set(look{"light", 1440})
	b.open("/usage?range=90d")
	b.shows(".team-switch", "All my teams")
	js[any](b, `document.querySelector("#filter-key").value = "user", document.querySelector("#filter-key").dispatchEvent(new Event("change", { bubbles: true })), 0`)
	b.until(`location.search.includes("key=user")`)

	b.tabTo("details.team-switch > summary")
	b.press(kb.Enter)
	b.until(`document.querySelector("details.team-switch").open`)
	b.tabTo("[data-team]:not([data-team=''])")
	name := js[string](b, `document.activeElement.innerText`)
	id := js[string](b, `document.activeElement.dataset.team`)
	b.press(kb.Enter)
	b.until(`location.search.includes("team=")`)
	b.settle()
	b.shows(".team-now", name)
	b.shows(".page-head", name)
	b.until(`new URLSearchParams(location.search).get("team") === ` + quoted(id) + ` && new URLSearchParams(location.search).get("key") === "user"`)
	b.until(`new URLSearchParams(location.search).get("range") === "90d"`)
	b.check()

	// On a phone the switch is in the navigation.
	b.set(look{"light", 390})
	b.open("/usage?team=" + id)
	b.tabTo("[aria-label='Open the navigation']")
	b.press(kb.Enter)
	b.until(`document.querySelector("#sidebar").matches(":popover-open")`)
	b.tabTo("details.team-switch > summary")
	b.press(kb.Enter)
	b.tabTo("[data-team='']")
	b.press(kb.Enter)
	b.until(`!location.search.includes("team=")`)
	b.settle()
	b.shows(".page-head", "All my teams")
}
