import assert from "node:assert/strict"
import { test } from "node:test"
import { columnHref, span } from "./chartlinks.js"

const links = {
  to: "/runs?team=7",
  columns: ["from=2026-11-21&to=2026-11-21", "from=2026-11-22&to=2026-11-22", ""],
  series: ["model=openai%2Fgpt-5-mini", ""],
}

test("a column leads to its days", () => assert.equal(columnHref(links, 1), "/runs?team=7&from=2026-11-22&to=2026-11-22"))
test("a bar leads to its days and group", () =>
  assert.equal(columnHref(links, 0, 0), "/runs?team=7&from=2026-11-21&to=2026-11-21&model=openai%2Fgpt-5-mini"))
test("a series without a filter leads to the days", () => assert.equal(columnHref(links, 0, 1), columnHref(links, 0)))
test("the first parameter follows a question mark", () => assert.equal(columnHref({ ...links, to: "/runs" }, 0), "/runs?from=2026-11-21&to=2026-11-21"))
test("no days, no address", () => assert.equal(columnHref(links, 2), null))
test("no column, no address", () => assert.equal(columnHref(links, -1), null))
for (const to of ["https://example.org/", "//example.org/", "/\\example.org", "javascript:alert(1)", ""]) {
  test(`${JSON.stringify(to)} is not followed`, () => assert.equal(columnHref({ ...links, to }, 0), null))
}
test("days from right to left are the same days", () => assert.deepEqual(span(links, 1, 0), { from: "2026-11-21", to: "2026-11-22" }))
test("days that are not known are not chosen", () => assert.equal(span(links, 0, 2), null))
