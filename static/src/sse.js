// events reads a text/event-stream body as { event, data } objects.
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let buffer = ""
  let event = ""
  let data = []
  for (;;) {
    const { value, done } = await reader.read()
    if (done) return
    buffer += value
    // A carriage return at the very end may be half of a line ending.
    const lines = buffer.split(/\r\n|\n|\r(?!$)/)
    buffer = lines.pop()
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield { event: event || "message", data: data.join("\n") }
        event = ""
        data = []
      } else if (!line.startsWith(":")) {
        const colon = line.indexOf(":")
        const field = colon < 0 ? line : line.slice(0, colon)
        const rest = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "")
        if (field === "event") event = rest
        else if (field === "data") data.push(rest)
      }
    }
  }
}
