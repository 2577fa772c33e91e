import assert from "node:assert/strict"
import { test } from "node:test"
import { axisCount, axisMoney, axisSeconds, count, day, dayLong, milliseconds, moneyExact, moneyPart, percent } from "./format.js"

const cases = [
  [moneyExact, [0], "$0.00"],
  [moneyExact, [0.001934], "$0.001934"],
  [moneyExact, [7.9e-7], "$0.00000079"],
  [moneyExact, [1234.5], "$1,234.50"],
  [moneyExact, [-0.25], "−$0.25"],
  [moneyPart, [0.004, 27], "<$0.01"],
  [moneyPart, [0.8095, 27], "$0.81"],
  [moneyPart, [0.5, 0.75], "$0.500000"],
  [count, [1234567], "1,234,567"],
  [milliseconds, [412.4], "412 ms"],
  [milliseconds, [1834], "1.83 s"],
  [milliseconds, [125000], "2 min 5 s"],
  [axisMoney, [0], "$0"],
  [axisMoney, [1.5], "$1.50"],
  [axisMoney, [9], "$9"],
  [axisMoney, [0.0002], "$0.0002"],
  [axisMoney, [250], "$250"],
  [axisMoney, [2500], "$2.5K"],
  [axisCount, [500], "500"],
  [axisCount, [1_200_000], "1.2M"],
  [axisSeconds, [500], "500 ms"],
  [axisSeconds, [15000], "15 s"],
  [axisSeconds, [120000], "2 min"],
  [percent, [12.345], "12.3%"],
  [percent, [0], "0%"],
  [day, ["2026-11-03"], "3 Nov"],
  [day, ["3 Nov, 14:00"], "3 Nov, 14:00"],
  [dayLong, ["3 Nov, 14:00"], "3 Nov, 14:00"],
  [dayLong, ["2026-11-03"], "Tue 3 Nov 2026"],
]

for (const [format, values, want] of cases) {
  test(`${format.name}(${values}) is ${want}`, () => assert.equal(format(...values), want))
}
