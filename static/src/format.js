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

// moneyPart is an amount beside the sum it is a part of, with as many decimals.
export function moneyPart(value, whole) {
  if (whole < 1) return `$${value.toFixed(6)}`
  return value > 0 && value < 0.01 ? "<$0.01" : moneyExact(Number(value.toFixed(2)))
}

export function count(value) {
  return group(String(Math.round(value)))
}

export function milliseconds(value) {
  if (value < 1000) return `${Math.round(value)} ms`
  if (value < 60_000) return `${(value / 1000).toFixed(2)} s`
  return `${Math.floor(value / 60_000)} min ${Math.floor((value % 60_000) / 1000)} s`
}

// axisMoney and axisCount label an axis, where round numbers stand.
export function axisMoney(value) {
  if (value === 0) return "$0"
  if (value >= 1000) return `$${trim(value / 1000)}K`
  if (value >= 10 || Number.isInteger(value)) return `$${trim(value)}`
  return moneyExact(Number(value.toPrecision(6)))
}

export function axisCount(value) {
  if (value >= 1e9) return `${trim(value / 1e9)}B`
  if (value >= 1e6) return `${trim(value / 1e6)}M`
  if (value >= 1e3) return `${trim(value / 1e3)}K`
  return trim(value)
}

// axisSeconds labels an axis of milliseconds.
export function axisSeconds(value) {
  if (value < 1000) return `${trim(value)} ms`
  return value < 60_000 ? `${trim(value / 1000)} s` : `${trim(value / 60_000)} min`
}

// percent takes a share from 0 to 100.
export function percent(value) {
  return `${trim(Number(value.toFixed(1)))}%`
}

function trim(value) {
  return digits(Number(value.toPrecision(6)))
}

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
const weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]

// day takes "2026-11-23", which is a day already and has no zone. Anything else, such
// as an hour, is written out already.
export function day(iso) {
  if (!isDay(iso)) return iso
  const date = new Date(iso)
  return `${date.getUTCDate()} ${months[date.getUTCMonth()]}`
}

function isDay(text) {
  return /^\d{4}-\d{2}-\d{2}$/.test(text)
}

export function dayLong(iso) {
  if (!isDay(iso)) return iso
  const date = new Date(iso)
  return `${weekdays[date.getUTCDay()]} ${day(iso)} ${date.getUTCFullYear()}`
}
