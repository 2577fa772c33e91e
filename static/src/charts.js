// Draws every [data-chart] from the JSON block of the same id. Options come from
// the server as data only: "fmt:name" stands for a formatter of the table below,
// "css:--name" for a colour of the theme.
import { BarChart, HeatmapChart, LineChart } from "echarts/charts"
import {
  AriaComponent,
  DatasetComponent,
  DataZoomComponent,
  GridComponent,
  LegendComponent,
  MarkLineComponent,
  TitleComponent,
  TooltipComponent,
  VisualMapComponent,
} from "echarts/components"
import * as echarts from "echarts/core"
import { CanvasRenderer } from "echarts/renderers"
import { axisCount, axisMoney, axisSeconds, count, day, dayLong, milliseconds, moneyPart, percent } from "./format.js"

echarts.use([
  BarChart, HeatmapChart, LineChart,
  AriaComponent, DatasetComponent, DataZoomComponent, GridComponent, LegendComponent,
  MarkLineComponent, TitleComponent, TooltipComponent, VisualMapComponent,
  CanvasRenderer,
])

const formatters = {
  usd: moneyPart, usdShort: axisMoney, count, countShort: axisCount, day, dayLong, ms: milliseconds, msShort: axisSeconds, percent, percentShort: percent,
}

const calm = matchMedia("(prefers-reduced-motion: reduce)")
const contrast = matchMedia("(prefers-contrast: more)")
const dark = matchMedia("(prefers-color-scheme: dark)")

const drawn = new Map() // element to { chart, hidden }

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim()
}

// lookUp replaces the names in options by what they stand for.
function lookUp(value) {
  if (typeof value === "string") {
    if (value.startsWith("fmt:")) return formatters[value.slice(4)]
    if (value.startsWith("css:")) return css(value.slice(4))
    return value
  }
  if (Array.isArray(value)) return value.map(lookUp)
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, lookUp(v)]))
  }
  return value
}

// theme is what all charts have in common.
function theme() {
  const text = { color: css("--muted"), fontFamily: css("--font-sans"), fontSize: 11 }
  const axis = {
    axisLine: { show: false, lineStyle: { color: css("--color-base-300") } },
    axisTick: { show: false },
    axisLabel: { ...text, hideOverlap: true },
    splitLine: { lineStyle: { color: css("--chart-grid") } },
  }
  return {
    textStyle: text,
    categoryAxis: { ...axis, axisLine: { ...axis.axisLine, show: true }, splitLine: { show: false } },
    valueAxis: { ...axis, splitNumber: 4 },
    grid: { left: 0, right: 0, top: 8, bottom: 6, outerBoundsMode: "same" },
  }
}

function draw(element) {
  const source = document.getElementById(element.dataset.chart)
  if (!source) return
  const options = lookUp(JSON.parse(source.textContent))
  const hidden = drawn.get(element)?.hidden ?? new Set()
  drawn.get(element)?.chart.dispose()

  const chart = echarts.init(element, theme())
  drawn.set(element, { chart, hidden })
  chart.setOption({
    animation: !calm.matches,
    animationDuration: 250,
    barMaxWidth: 28,
    barCategoryGap: options.xAxis?.[0]?.data?.length > 60 ? "0%" : "22%", // many thin bars would shimmer
    ...options,
    aria: { enabled: true, label: { description: element.getAttribute("aria-label") }, decal: { show: contrast.matches } },
    axisPointer: {
      show: options.tooltip?.trigger === "none",
      type: "shadow",
      triggerTooltip: false,
      shadowStyle: { color: css("--color-base-content"), opacity: 0.06 },
      label: { show: false },
    },
  })
  for (const name of hidden) chart.dispatchAction({ type: "legendUnSelect", name })
  if (options.tooltip?.trigger === "none") tip(element, chart, options)
}

// tip shows the values under the pointer in an element of the page: that is
// selectable type in the page's own style, and needs no style attribute.
function tip(element, chart, options) {
  const box = document.createElement("div")
  box.className = "chart-tip"
  box.hidden = true
  element.append(box)
  const format = options.tooltip.valueFormatter

  chart.on("updateAxisPointer", (event) => {
    const at = event.axesInfo?.[0]?.value
    if (at === undefined) {
      box.hidden = true
      return
    }
    const { hidden } = drawn.get(element)
    const rows = options.series
      .filter((s) => !hidden.has(s.name))
      .map((s) => ({ name: s.name, colour: s.itemStyle?.color, value: s.data[at]?.value ?? 0 }))
    const shown = rows.filter((row) => row.value !== 0).sort((a, b) => b.value - a.value)
    // Sums of prices are exact on the server; here they are only drawn.
    const total = Number(rows.reduce((sum, row) => sum + row.value, 0).toPrecision(12))
    box.replaceChildren(
      line([text(dayLong(options.xAxis[0].data[at])), text(options.tooltip.total === false ? "" : format(total, total), "number")], "chart-tip-head"),
      ...shown.map((row) => line([swatch(row.colour), text(row.name, "legend-name"), text(format(row.value, total), "number")])),
    )
    box.hidden = false
    place(box, element, chart.convertToPixel({ xAxisIndex: 0 }, at))
  })
  chart.on("globalout", () => (box.hidden = true))
}

// place puts the box beside the column, on the side where there is room.
function place(box, element, x) {
  const width = element.clientWidth
  const left = x + 16 + box.offsetWidth <= width ? x + 16 : Math.max(x - 16 - box.offsetWidth, 0)
  box.style.transform = `translate(${Math.round(left)}px, 4px)`
}

function line(children, className = "") {
  const div = document.createElement("div")
  div.className = className
  div.append(...children)
  return div
}

function text(content, className = "") {
  const span = document.createElement("span")
  span.className = className
  span.textContent = content
  return span
}

function swatch(colour) {
  const span = document.createElement("span")
  span.className = "swatch"
  span.style.background = colour
  return span
}

// Legends are buttons of the page: they work from the keyboard.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-chart-legend] [data-series]")
  if (!button) return
  const id = button.closest("[data-chart-legend]").dataset.chartLegend
  const { chart, hidden } = drawn.get(document.querySelector(`[data-chart="${id}"]`)) ?? {}
  if (!chart) return
  const name = button.dataset.series
  const hide = !hidden.has(name)
  if (hide) hidden.add(name)
  else hidden.delete(name)
  button.setAttribute("aria-pressed", String(!hide))
  chart.dispatchAction({ type: hide ? "legendUnSelect" : "legendSelect", name })
})

const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) drawn.get(target)?.chart.resize()
})

// drawAll draws what is new on the page and lets go of what has left it.
function drawAll() {
  for (const [element, { chart }] of drawn) {
    if (element.isConnected) continue
    resized.unobserve(element)
    chart.dispose()
    drawn.delete(element)
  }
  for (const element of document.querySelectorAll("[data-chart]")) {
    if (drawn.has(element)) continue
    draw(element)
    resized.observe(element)
  }
}

function redrawAll() {
  for (const element of drawn.keys()) draw(element)
}

new MutationObserver(redrawAll).observe(document.documentElement, { attributeFilter: ["data-theme"] })
dark.addEventListener("change", redrawAll)
contrast.addEventListener("change", redrawAll)
document.addEventListener("htmx:afterSettle", drawAll)

// Text that is drawn before its font has come would keep the wrong one.
document.fonts.load("11px Inter").then(drawAll, drawAll)
