// Draws every [data-chart] from the JSON block of the same id. Options come from
// the server as data only: "fmt:name" stands for a formatter of the table below,
// "css:--name" for a colour of the theme. What is not ECharts' own:
//   links  where a click leads: { to, columns, series }, see ChartLinks in views
//   mark   a line across all columns: { name, text, value }
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
import { columnHref, span } from "./chartlinks.js"
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
const forced = matchMedia("(forced-colors: active)")
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

// ink is the colour of text and lines; where the system forces its colours, it is
// the system's, which the page's text has already.
function ink(name) {
  return forced.matches ? getComputedStyle(document.body).color : css(name)
}

// theme is what all charts have in common.
function theme() {
  const text = { color: ink("--muted"), fontFamily: css("--font-sans"), fontSize: 11 }
  const axis = {
    axisLine: { show: false, lineStyle: { color: ink("--color-base-300") } },
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

// From the fifth colour on a pattern says the same; where more contrast is asked
// for, from the second on. The swatches of parts.css have the same ones.
const plain = { color: "transparent", symbol: "rect", symbolSize: 1, rotation: 0, dashArrayX: [1, 0], dashArrayY: [1, 0] }
const patterns = {
  2: { dashArrayX: [1, 0], dashArrayY: [2, 4], rotation: Math.PI / 4 },
  3: { symbol: "circle", dashArrayX: [[4, 4], [0, 4, 4, 0]], dashArrayY: [4, 0], symbolSize: 0.7 },
  4: { dashArrayX: [1, 0], dashArrayY: [2, 4] },
  5: { dashArrayX: [1, 0], dashArrayY: [1.5, 3.5], rotation: -Math.PI / 4 },
  6: { dashArrayX: [1, 0], dashArrayY: [1.5, 3.5], rotation: Math.PI / 2 },
  7: { symbol: "circle", dashArrayX: [[3, 3], [0, 3, 3, 0]], dashArrayY: [3, 0], symbolSize: 0.7 },
  8: { dashArrayX: [1, 0], dashArrayY: [1.5, 3.5] },
}

function decal(swatch) {
  const strong = contrast.matches || forced.matches
  if (!patterns[swatch] || (swatch < 5 && !strong)) return plain
  return { ...plain, ...patterns[swatch], color: strong ? "rgba(0, 0, 0, 0.8)" : "rgba(0, 0, 0, 0.3)" }
}

function draw(element) {
  const source = document.getElementById(element.dataset.chart)
  if (!source) return
  const { links, mark, ...raw } = JSON.parse(source.textContent)
  const options = lookUp(raw)
  options.series = options.series?.map((s, i) => {
    const swatch = Number(raw.series[i].itemStyle?.color?.match(/^css:--chart-(\d)$/)?.[1] ?? 0)
    return { ...s, swatch, ...(s.type === "bar" && { itemStyle: { ...s.itemStyle, decal: decal(swatch) } }) }
  })
  const hidden = drawn.get(element)?.hidden ?? new Set()
  drawn.get(element)?.chart.dispose()
  for (const old of element.querySelectorAll(".chart-tip, .chart-brush")) old.remove()

  const chart = echarts.init(element, theme())
  drawn.set(element, { chart, hidden })
  chart.setOption({
    animation: !calm.matches,
    animationDuration: 250,
    barMaxWidth: 28,
    barCategoryGap: options.xAxis?.[0]?.data?.length > 60 ? "0%" : "22%", // many thin bars would shimmer
    ...options,
    series: mark ? [...options.series, markSeries(mark, options)] : options.series,
    aria: { enabled: true, label: { description: element.getAttribute("aria-label") }, decal: { show: true, decals: [plain] } },
    axisPointer: {
      show: options.tooltip?.trigger === "none",
      type: "shadow",
      triggerTooltip: false,
      shadowStyle: { color: ink("--color-base-content"), opacity: 0.06 },
      label: { show: false },
    },
  })
  for (const name of hidden) chart.dispatchAction({ type: "legendUnSelect", name })
  if (options.tooltip?.trigger === "none") tip(element, chart, options, mark)
  if (links) follow(element, chart, options, links)
}

// markSeries is a line that is drawn only where it would not squeeze the bars. It
// is a series as well, which makes the axis reach up to it.
function markSeries(mark, options) {
  const value = (s, at) => Number(s.data[at]?.value) || 0
  const columns = options.xAxis[0].data.map((_, at) =>
    Math.max(
      options.series.filter((s) => s.stack).reduce((sum, s) => sum + value(s, at), 0),
      ...options.series.filter((s) => !s.stack).map((s) => value(s, at)),
    ))
  const drawn = mark.value <= 4 * Math.max(...columns)
  const colour = ink("--color-base-content")
  return {
    name: mark.name, type: "line", silent: true, symbol: "none", lineStyle: { width: 0 }, animation: false,
    data: drawn ? columns.map(() => mark.value) : [],
    markLine: drawn && {
      silent: true, symbol: "none", animation: false, data: [{ yAxis: mark.value }],
      lineStyle: { color: colour, type: "dashed", width: 1.5 },
      label: {
        position: "insideStartTop", formatter: `${mark.name} ${mark.text}`, color: colour, fontSize: 11,
        backgroundColor: css("--color-base-100"), padding: [1, 3], distance: 3,
      },
    },
  }
}

// tip shows the values under the pointer in an element of the page: that is
// selectable type in the page's own style, and needs no style attribute.
function tip(element, chart, options, mark) {
  const box = document.createElement("div")
  box.className = "chart-tip"
  box.hidden = true
  element.append(box)
  const format = options.tooltip.valueFormatter
  const head = options.tooltip.headFormatter ?? dayLong

  chart.on("updateAxisPointer", (event) => {
    const at = event.axesInfo?.[0]?.value
    if (at === undefined) {
      box.hidden = true
      return
    }
    const { hidden } = drawn.get(element)
    const rows = options.series
      .filter((s) => !hidden.has(s.name))
      .map((s) => ({ name: s.name, series: s, value: s.data[at]?.value ?? 0 }))
    const shown = rows.filter((row) => row.value !== 0).sort((a, b) => b.value - a.value)
    // Sums of prices are exact on the server; here they are only drawn.
    const total = Number(rows.reduce((sum, row) => sum + row.value, 0).toPrecision(12))
    box.replaceChildren(
      line([text(head(options.xAxis[0].data[at])), text(options.tooltip.total === false ? "" : format(total, total), "number")], "chart-tip-head"),
      ...shown.map((row) => line([swatch(row.series), text(row.name, "legend-name"), text(format(row.value, total), "number")])),
      ...(mark ? [line([text("", "swatch swatch-mark"), text(mark.name, "legend-name"), text(mark.text, "number")])] : []),
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

function swatch(series) {
  const span = document.createElement("span")
  span.className = `swatch swatch-${series.swatch}`
  return span
}

// follow makes columns lead to their runs: a click on a bar to those of the day and
// group, elsewhere in a column to those of the day. Where a drag over several
// columns can choose days in a form, it does. Fingers scroll and look instead;
// what they, and the keyboard, use is in the table below.
function follow(element, chart, options, links) {
  const band = document.createElement("div")
  band.className = "chart-brush"
  band.hidden = true
  element.append(band)
  const form = document.getElementById(element.dataset.rangeForm)
  const columns = links.columns.length
  let picked = -1 // the series under the click
  let from = null // where the button went down
  let dragged = false

  const columnAt = (x) => {
    const at = chart.convertFromPixel({ xAxisIndex: 0 }, x)
    return Number.isFinite(at) ? Math.max(0, Math.min(Math.round(at), columns - 1)) : -1
  }
  const inside = (event) => chart.containPixel({ gridIndex: 0 }, [event.offsetX, event.offsetY])
  const byMouse = (event) => (event.event?.pointerType ?? "mouse") === "mouse" && !event.event?.zrByTouch
  const stop = () => {
    from = null
    band.hidden = true
  }
  const paint = (a, b) => {
    const [first, last] = [Math.min(a, b), Math.max(a, b)]
    const half = columns > 1 ? Math.abs(chart.convertToPixel({ xAxisIndex: 0 }, 1) - chart.convertToPixel({ xAxisIndex: 0 }, 0)) / 2 : element.clientWidth / 2
    const left = chart.convertToPixel({ xAxisIndex: 0 }, first) - half
    const right = chart.convertToPixel({ xAxisIndex: 0 }, last) + half
    band.style.transform = `translateX(${Math.round(left)}px)`
    band.style.width = `${Math.round(right - left)}px`
    band.hidden = false
  }

  chart.on("click", (event) => (picked = event.seriesIndex ?? -1))
  const zr = chart.getZr()
  zr.on("mousedown", (event) => {
    dragged = false
    from = byMouse(event) && event.event.button === 0 && inside(event) ? event.offsetX : null
  })
  zr.on("mousemove", (event) => {
    zr.setCursorStyle(inside(event) ? "pointer" : "default")
    if (from === null || !form) return
    if (Math.abs(event.offsetX - from) > 6) dragged = true
    if (dragged) paint(columnAt(from), columnAt(event.offsetX))
  })
  zr.on("mouseup", (event) => {
    if (from !== null && dragged && form) chooseDays(form, span(links, columnAt(from), columnAt(event.offsetX)))
    stop()
  })
  zr.on("globalout", stop)
  zr.on("click", (event) => {
    const series = picked
    picked = -1
    if (dragged || !byMouse(event) || !inside(event)) return
    const href = columnHref(links, columnAt(event.offsetX), series)
    if (href === null) return
    const { ctrlKey, metaKey, shiftKey } = event.event
    if (ctrlKey || metaKey || shiftKey) window.open(href, "_blank", "noopener")
    else location.assign(href)
  })
}

// chooseDays fills in the days of a form of filters and sends it.
function chooseDays(form, days) {
  const { range, from, to } = form.elements
  if (!days || !from || !to) return
  from.value = days.from
  to.value = days.to
  if (range) range.value = "custom"
  form.requestSubmit()
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
forced.addEventListener("change", redrawAll)
document.addEventListener("htmx:afterSettle", drawAll)

// Text that is drawn before its font has come would keep the wrong one.
document.fonts.load("11px Inter").then(drawAll, drawAll)
