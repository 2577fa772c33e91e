// Streams a run into the page. Without this module the form is posted and the
// server renders the same cards.
import { count, milliseconds, moneyExact } from "./format.js"
import { events } from "./sse.js"

const form = document.getElementById("playground")
const answers = document.getElementById("answers")
const chosen = document.getElementById("chosen")
const cancel = document.getElementById("cancel")
const run = document.getElementById("run")
const hints = JSON.parse(document.getElementById("error-hints").textContent)
const maxModels = Number(form.dataset.maxModels)

let running = null // the AbortController of the run in progress

// request is the body of POST /api/ai/run for what is filled in.
function request() {
  const fields = new FormData(form)
  const models = [...fields.getAll("models"), fields.get("other").trim()].filter(Boolean)
  const body = { prompt: fields.get("prompt") }
  if (fields.get("system").trim()) body.system = fields.get("system")
  body.models = [...new Set(models)]
  const config = {}
  if (fields.get("temperature")) config.temperature = Number(fields.get("temperature"))
  if (fields.get("maxTokens")) config.maxTokens = Number(fields.get("maxTokens"))
  if (Object.keys(config).length > 0) body.config = config
  return body
}

form.addEventListener("submit", async (event) => {
  event.preventDefault()
  if (running) return
  running = new AbortController()
  showRunning(true)
  const body = { ...request(), stream: true }
  const view = newRun(body.models)
  try {
    await stream(body, view, running.signal)
  } catch (error) {
    if (error.name === "AbortError") view.stop("cancelled", "You stopped this run.")
    else view.stop("network", "The connection to the server was lost. The run is recorded; find it on AI Usage.")
  } finally {
    running = null
    showRunning(false)
  }
})

cancel.addEventListener("click", () => running?.abort())

form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault()
    form.requestSubmit()
  }
})

function showRunning(on) {
  const focused = document.activeElement
  run.disabled = on
  cancel.hidden = !on
  if (on && focused === run) cancel.focus()
  if (!on && (focused === cancel || focused === document.body)) run.focus()
}

async function stream(body, view, signal) {
  const response = await fetch("/api/ai/run", {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify(body),
    signal,
  })
  if (!response.ok) {
    view.refuse(await problemsOf(response))
    return
  }
  for await (const { event, data } of events(response.body)) {
    const message = JSON.parse(data)
    if (event === "start") view.start(message)
    else if (event === "delta") view.delta(message)
    else if (event === "result") view.result(message)
    else if (event === "done") return view.done(message)
  }
  throw new TypeError("the stream ended before the run did")
}

// problemsOf reads a rejection; every bad field is listed.
async function problemsOf(response) {
  if (response.status === 401) return [{ message: "You have been signed out. Reload the page and sign in again." }]
  try {
    const { error } = await response.json()
    return error.details?.length ? error.details : [{ message: error.message }]
  } catch {
    return [{ message: `The server answered with status ${response.status}. Try again in a moment.` }]
  }
}

function fromTemplate(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true)
}

function slot(element, name) {
  return element.querySelector(`[data-slot="${name}"]`)
}

function fill(element, values) {
  for (const [name, value] of Object.entries(values)) slot(element, name).textContent = value
}

function tag(element, label, kind) {
  element.className = `tag tag-${kind}`
  element.textContent = label
}

// newRun clears the page for a run and returns what the stream may do to it.
function newRun(models) {
  const grid = document.createElement("div")
  grid.className = "answers"
  const cards = new Map(models.map((model, i) => [model, newCard(model, i)]))
  grid.append(...[...cards.values()].map((card) => card.element))

  const totals = fromTemplate("totals-template")
  const status = slot(totals, "status")
  fill(totals, { cost: "–", tokens: "–", duration: "–", requestId: "" })
  tag(status, models.length === 1 ? "Running" : `Running ${models.length} models`, "info")

  const problems = document.createElement("div")
  problems.id = "problems"
  answers.replaceChildren(problems, totals, grid)
  if (answers.getBoundingClientRect().top > innerHeight * 0.8) answers.scrollIntoView({ behavior: "smooth" })
  const began = performance.now()
  const clock = setInterval(() => fill(totals, { duration: milliseconds(performance.now() - began) }), 100)

  return {
    start({ requestId }) {
      fill(totals, { requestId })
      const open = slot(totals, "open")
      open.href = `/runs/${requestId}`
      open.hidden = false
    },
    delta({ model, text }) {
      cards.get(model)?.append(text)
    },
    result(result) {
      cards.get(result.model)?.finish(result)
    },
    done(envelope) {
      clearInterval(clock)
      for (const result of envelope.results ?? []) cards.get(result.model)?.finish(result)
      fill(totals, {
        cost: moneyExact(envelope.totalCost),
        tokens: count(envelope.totalTokens),
        duration: milliseconds(envelope.durationMs),
        unpriced: `${envelope.unpriced} unpriced`,
      })
      slot(totals, "unpriced").hidden = !envelope.unpriced
      tag(status, ...{ success: ["All answered", "success"], partial: ["Some answered", "warning"] }[envelope.status] ?? ["None answered", "error"])
    },
    // stop ends a run of which nothing more will be heard.
    stop(errorClass, message) {
      clearInterval(clock)
      for (const card of cards.values()) card.fail(errorClass, message)
      tag(status, hints[errorClass].label, "error")
    },
    // refuse shows why nothing was run.
    refuse(list) {
      clearInterval(clock)
      const notice = fromTemplate("problems-template")
      notice.querySelector("ul").append(...list.map(problemItem))
      problems.append(notice)
      answers.replaceChildren(problems)
    },
  }
}

function problemItem({ field, message }) {
  const item = document.createElement("li")
  if (field) {
    const name = document.createElement("span")
    name.className = "mono"
    name.textContent = field
    item.append(name, " ")
  }
  item.append(message)
  return item
}

// newCard is one model's answer while it comes in.
function newCard(model, index) {
  const element = fromTemplate("answer-template")
  const output = slot(element, "output")
  const state = slot(element, "state")
  output.id = `answer-${index}`
  output.setAttribute("aria-label", `Answer of ${model}`)
  element.querySelector("[data-copy]").dataset.copy = `#answer-${index}`
  fill(element, { model })
  let over = false

  function showError(errorClass, message) {
    over = true
    element.dataset.state = "error"
    const hint = hints[errorClass] ?? { label: errorClass, advice: "" }
    tag(state, hint.label, "error")
    fill(element, { message, advice: hint.advice })
    slot(element, "error").hidden = false
    output.hidden = output.textContent === ""
  }

  return {
    element,
    append(text) {
      if (element.dataset.state !== "streaming") {
        element.dataset.state = "streaming"
        tag(state, "Answering", "info")
      }
      // Follow the text unless the reader has scrolled up.
      const atEnd = output.scrollHeight - output.scrollTop - output.clientHeight < 24
      output.append(text)
      if (atEnd) output.scrollTop = output.scrollHeight
    },
    finish(result) {
      over = true
      if (result.output) output.textContent = result.output
      fill(element, facts(result))
      if (result.error) {
        showError(result.error.class, result.error.message)
        return
      }
      element.dataset.state = "ok"
      if (result.finishReason === "length") tag(state, "Cut off", "warning")
      else tag(state, "Done", "success")
    },
    fail(errorClass, message) {
      if (!over) showError(errorClass, message)
    },
  }
}

// facts are the figures under an answer, as views.PlaygroundResult has them.
function facts({ usage, cost, costSource, durationMs, firstTokenMs, keySource }) {
  const used = (all, part, what) => (part ? `${count(all)} (${count(part)} ${what})` : count(all))
  return {
    cost: !usage ? "–" : costSource === "unpriced" ? "Unpriced" : moneyExact(cost),
    costNote: costSource === "estimated" || costSource === "reported" ? costSource : "",
    input: usage ? used(usage.inputTokens, usage.cachedInputTokens, "cached") : "–",
    outputUsed: usage ? used(usage.outputTokens, usage.reasoningTokens, "reasoning") : "–",
    duration: milliseconds(durationMs),
    firstToken: firstTokenMs == null ? "–" : milliseconds(firstTokenMs),
    key: { user: "Own key", fallback: "Fallback key" }[keySource] ?? "–",
  }
}

// What is filled in, as a number of models and as a command line.
function describe() {
  const body = request()
  const n = body.models.length
  chosen.textContent =
    n === 0 ? "No model chosen" : n === 1 ? "1 model" : n > maxModels ? `${n} models: ${n - maxModels} too many` : `${n} models`
  for (const box of form.querySelectorAll("[name=models]:not(:checked)")) box.disabled = n >= maxModels
  document.getElementById("curl").textContent =
    `curl ${form.dataset.origin}/api/ai/run \\\n` +
    `  -H "Authorization: Bearer $TOKEN" \\\n` +
    `  -H 'Content-Type: application/json' \\\n` +
    `  -d '${JSON.stringify(body, null, 2).replaceAll("'", `'\\''`)}'`
}

form.addEventListener("input", describe)
describe()

const search = document.getElementById("model-search")
search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/)
  for (const group of form.querySelectorAll(".model-list fieldset")) {
    let found = false
    for (const choice of group.querySelectorAll(".model-choice")) {
      const box = choice.querySelector("input")
      const text = box.value.toLowerCase()
      choice.hidden = !box.checked && !words.every((word) => text.includes(word))
      found ||= !choice.hidden
    }
    group.hidden = !found
  }
})
// Enter in the search field looks for a model; it does not run the prompt.
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) event.preventDefault()
})
