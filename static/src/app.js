// On every page: htmx, the theme switch and copy buttons. Everything here has a
// plain form or plain text under it that works without.
import htmx from "htmx.org"

htmx.config.includeIndicatorStyles = false // would need an inline style, which the CSP refuses
htmx.config.allowEval = false
htmx.config.historyCacheSize = 0 // pages hold figures that do not belong into local storage
htmx.config.refreshOnHistoryMiss = true
htmx.config.responseHandling = [
  { code: "204", swap: false },
  { code: "[23]..", swap: true },
  { code: "[45]..", swap: true, error: true }, // the server answers with a fragment that says what to do
]

// An answer that is a whole page does not fit into a part of one: go there.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (!/^\s*<!doctype/i.test(event.detail.serverResponse)) return
  event.detail.shouldSwap = false
  location.assign(event.detail.pathInfo.finalRequestPath)
})

document.addEventListener("submit", (event) => {
  const form = event.target
  if (!form.matches("[data-theme-form]") || !event.submitter) return
  event.preventDefault()
  chooseTheme(form, event.submitter)
})

// chooseTheme switches at once and tells the server for the next page.
function chooseTheme(form, button) {
  const root = document.documentElement
  if (button.value === "system") root.removeAttribute("data-theme")
  else root.dataset.theme = button.value
  for (const other of form.querySelectorAll("button")) {
    other.setAttribute("aria-pressed", String(other === button))
  }
  const body = new URLSearchParams(new FormData(form, button))
  fetch(form.action, { method: "POST", body, redirect: "manual" }).catch(() => {})
}

// Filters that were chosen since the page came stay when a lead goes on to another
// of their teams.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-team]")
  if (!link || link.pathname !== location.pathname) return
  const query = new URLSearchParams(location.search)
  query.delete("team")
  if (link.dataset.team) query.set("team", link.dataset.team)
  link.search = query
})

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]")
  if (!button) return
  const source = document.querySelector(button.dataset.copy)
  if (!source) return
  const label = button.getAttribute("aria-label")
  button.setAttribute("aria-label", (await copy(source)) ? "Copied" : "Could not copy: select the text instead")
  button.dataset.copied = ""
  setTimeout(() => {
    button.setAttribute("aria-label", label)
    delete button.dataset.copied
  }, 1500)
})

// copy falls back to selecting where the clipboard is closed to the page, as it
// is over plain HTTP on another machine.
async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.textContent)
    return true
  } catch {
    getSelection().selectAllChildren(source)
    return document.execCommand("copy")
  }
}
