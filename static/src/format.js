// How numbers look; the same rules as views/format.go.

// digits writes a number without an exponent, with all its digits.
function digits(value) {
  const text = String(value)
  if (!text.includes("e")) return text
  return value.toFixed(20).replace(/0+$/, "")
}

function group(whole) {
  return whole.replace(/\B(?=(\d{3})+$)/g, ",")
}

// moneyExact has every digit there is and at least two decimals.
export function moneyExact(value) {
  const [whole, fraction = ""] = digits(Math.abs(value)).split(".")
  return `${value < 0 ? "−" : ""}$${group(whole)}.${fraction.padEnd(2, "0")}`
}

// money has two decimals from one dollar on, up to six significant digits below.
export function money(value) {
  const size = Math.abs(value)
  return moneyExact(Number(size >= 1 ? value.toFixed(2) : value.toPrecision(6)))
}

export function count(value) {
  return group(String(Math.round(value)))
}

// countShort has three significant digits from ten thousand on: 12.3K.
export function countShort(value) {
  if (value < 10_000) return count(value)
  let unit = ""
  for (unit of ["K", "M", "B", "T"]) {
    value /= 1000
    if (value < 999.5) break
  }
  return value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2) + unit
}

export function milliseconds(value) {
  if (value < 1000) return `${Math.round(value)} ms`
  if (value < 60_000) return `${(value / 1000).toFixed(2)} s`
  return `${Math.floor(value / 60_000)} min ${Math.floor((value % 60_000) / 1000)} s`
}

// axisMoney and axisCount label an axis, where round numbers stand.
export function axisMoney(value) {
  if (value >= 1000) return `$${trim(value / 1000)}K`
  return `$${trim(value)}`
}

export function axisCount(value) {
  if (value >= 1e9) return `${trim(value / 1e9)}B`
  if (value >= 1e6) return `${trim(value / 1e6)}M`
  if (value >= 1e3) return `${trim(value / 1e3)}K`
  return trim(value)
}

function trim(value) {
  return digits(Number(value.toPrecision(6)))
}

const shortDay = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" })
const longDay = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC" })

// day takes "2026-11-23", which is a day already and has no zone.
export function day(iso) {
  return shortDay.format(new Date(iso))
}

export function dayLong(iso) {
  return longDay.format(new Date(iso))
}
