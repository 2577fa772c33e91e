// Where a click on a chart leads. links come from the server: to is the address
// without days, columns the parameters of each column's days, series those of each
// series; "" where there are none.

// columnHref is the address of a column and of a series of it (-1 for all), null
// where there is none. Nothing but paths of this site is ever followed.
export function columnHref(links, column, series = -1) {
  const days = links.columns[column]
  if (!days || !/^\/(?![/\\])/.test(links.to)) return null
  const parameters = [days, links.series?.[series]].filter(Boolean).join("&")
  return `${links.to}${links.to.includes("?") ? "&" : "?"}${parameters}`
}

// span is the first and the last day of some columns that follow each other, in
// whichever order they were chosen.
export function span(links, a, b) {
  const days = (column) => new URLSearchParams(links.columns[column] ?? "")
  const from = days(Math.min(a, b)).get("from")
  const to = days(Math.max(a, b)).get("to")
  return from && to ? { from, to } : null
}
