// The order of fallback keys by dragging. The buttons beside each key do the same
// without it; htmx puts in the list as the server then has it.
const draggable = "[data-sortable] > [data-id]"

document.addEventListener("pointerdown", (event) => {
  const grip = event.target.closest("[data-grip]")
  if (!grip || event.button !== 0) return
  const item = grip.closest(draggable)
  const list = item.parentElement
  const before = orderOf(list)
  event.preventDefault()
  grip.setPointerCapture(event.pointerId)
  item.dataset.dragged = ""

  const move = (e) => place(list, item, e.clientY)
  const end = (e) => {
    grip.removeEventListener("pointermove", move)
    for (const type of ["pointerup", "pointercancel"]) grip.removeEventListener(type, end)
    document.removeEventListener("keydown", escape)
    delete item.dataset.dragged
    if (e.type !== "pointerup") return restore(list, before)
    if (orderOf(list) !== before) send(list)
  }
  const escape = (e) => {
    if (e.key === "Escape") end(e)
  }
  grip.addEventListener("pointermove", move)
  for (const type of ["pointerup", "pointercancel"]) grip.addEventListener(type, end)
  document.addEventListener("keydown", escape)
})

// place puts the item before the first one whose middle is below the pointer. It is
// the others that move: an item that is taken out of the page loses the pointer.
function place(list, item, y) {
  const items = [...list.children]
  const from = items.indexOf(item)
  const others = items.filter((other) => other !== item)
  let to = others.findIndex((other) => {
    const box = other.getBoundingClientRect()
    return y < box.top + box.height / 2
  })
  if (to < 0) to = others.length
  if (to < from) item.after(...items.slice(to, from))
  if (to > from) item.before(...items.slice(from + 1, to + 1))
}

function orderOf(list) {
  return [...list.children].map((item) => item.dataset.id).join(",")
}

function restore(list, order) {
  for (const id of order.split(",")) list.append(list.querySelector(`[data-id="${id}"]`))
}

function send(list) {
  const form = document.querySelector(list.dataset.sortable)
  form.elements.order.value = orderOf(list)
  form.requestSubmit()
}
