// Follows the log live: the server sends each event as the line of the list that it
// would be on the page. Where the stream breaks, the browser asks for it again from
// the last event on; what comes twice is known by its id.
const most = 500 // lines that are kept on the page

let source = null
let button = null
let wanted = false
let came = 0
let skipped = ""

function status(text) {
  const line = document.querySelector("[data-live-status]")
  if (!line) return
  line.hidden = text === ""
  line.textContent = text
}

function start() {
  button = document.querySelector("[data-live]")
  if (!button || !wanted || document.hidden || source) return
  button.setAttribute("aria-pressed", "true")
  const url = new URL(button.dataset.live, location.href)
  const newest = document.querySelector("#events > li")
  if (newest) url.searchParams.set("after", newest.dataset.place)
  source = new EventSource(url)
  status("Connecting …")
  source.addEventListener("open", say)
  source.addEventListener("message", (event) => add(event.data))
  source.addEventListener("skipped", (event) => {
    skipped = ` ${JSON.parse(event.data)}`
    say()
  })
  source.addEventListener("away", (event) => status(JSON.parse(event.data)))
  source.addEventListener("error", () => {
    if (source?.readyState !== EventSource.CLOSED) {
      status("The connection broke; connecting again …")
      return
    }
    pause()
    wanted = false
    status("This cannot be followed any more. Load the page again.")
  })
}

// pause closes the stream: a browser has few connections to a server.
function pause() {
  source?.close()
  source = null
  button?.setAttribute("aria-pressed", "false")
}

function say() {
  status(came === 0 ? "Following: new events appear above." : `Following: ${came.toLocaleString("en")} new ${came === 1 ? "event" : "events"}.${skipped}`)
}

// add puts a line where it belongs: events of several nodes do not come in order.
function add(html) {
  const list = document.querySelector("#events")
  if (!list || !button?.isConnected) return
  const holder = document.createElement("template")
  holder.innerHTML = html
  const line = holder.content.firstElementChild
  if (!line || document.getElementById(line.id)) return
  line.classList.add("log-new")
  let next = list.firstElementChild
  while (next && next.dataset.place > line.dataset.place) next = next.nextElementSibling
  list.insertBefore(line, next)
  while (list.children.length > most) list.lastElementChild.remove()
  document.querySelector("[data-live-list]").hidden = false
  document.querySelector("[data-live-empty]")?.remove()
  came++
  say()
}

document.addEventListener("click", (event) => {
  const clicked = event.target.closest("[data-live]")
  if (!clicked) return
  wanted = !wanted
  if (wanted) {
    came = 0
    skipped = ""
    start()
  } else {
    pause()
    status(`Paused after ${came.toLocaleString("en")} new ${came === 1 ? "event" : "events"}.`)
  }
})

// Other filters are another stream.
document.addEventListener("htmx:afterSettle", () => {
  if (button?.isConnected) return
  pause()
  start()
})

document.addEventListener("visibilitychange", () => {
  if (document.hidden) pause()
  else start()
})
