import assert from "node:assert/strict"
import { test } from "node:test"
import { events } from "./sse.js"

// read feeds the bytes of text in pieces of the given size.
async function read(text, size) {
  const bytes = new TextEncoder().encode(text)
  const body = new ReadableStream({
    start(controller) {
      for (let i = 0; i < bytes.length; i += size) controller.enqueue(bytes.subarray(i, i + size))
      controller.close()
    },
  })
  const found = []
  for await (const event of events(body)) found.push(event)
  return found
}

const stream =
  "event: start\ndata: {\"requestId\":\"1\"}\n\n" +
  ": heartbeat\r\n\r\n" +
  "event: delta\r\ndata: Grüße, 料理人\r\n\r\n" +
  "event:delta\rdata:a\rdata: b\r\r" +
  "data: unnamed\n\n" +
  "event: empty\n\n" +
  "data: never ended"

const want = [
  { event: "start", data: '{"requestId":"1"}' },
  { event: "delta", data: "Grüße, 料理人" },
  { event: "delta", data: "a\nb" },
  { event: "message", data: "unnamed" },
]

test("events come out the same however the bytes are cut", async () => {
  for (let size = 1; size <= stream.length; size++) assert.deepEqual(await read(stream, size), want, `pieces of ${size}`)
})
