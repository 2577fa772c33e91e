// Builds dist/: every file named by its content, each with a .br and a .gz
// beside it, and manifest.json, which maps the names that pages use to them.
import { execFileSync } from "node:child_process"
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { brotliCompressSync, constants, gzipSync } from "node:zlib"
import { build } from "esbuild"

const root = dirname(fileURLToPath(import.meta.url))
const dist = join(root, "dist")
const work = join(root, "node_modules", ".cache", "promptops")

mkdirSync(dist, { recursive: true })
mkdirSync(work, { recursive: true })
for (const name of readdirSync(dist)) {
  if (name !== ".gitkeep") rmSync(join(dist, name), { recursive: true })
}

// Tailwind writes the classes that views/ uses; esbuild then minifies the
// result and gives the font that lies beside it a hashed name.
copyFileSync(join(root, "node_modules/@fontsource-variable/inter/files/inter-latin-wght-normal.woff2"), join(work, "inter.woff2"))
const css = join(work, "app.css")
execFileSync(
  process.execPath,
  [join(root, "node_modules/@tailwindcss/cli/dist/index.mjs"), "--input", join(root, "src/app.css"), "--output", css],
  { cwd: root, stdio: ["ignore", "ignore", "inherit"] },
)

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: {
    app: join(root, "src/app.js"),
    charts: join(root, "src/charts.js"),
    playground: join(root, "src/playground.js"),
    fallback: join(root, "src/fallback.js"),
    logs: join(root, "src/logs.js"),
    style: css,
    icon: join(root, "src/icon.svg"),
  },
  outdir: dist,
  entryNames: "[name].[hash]",
  assetNames: "[name].[hash]",
  loader: { ".woff2": "file", ".svg": "copy" },
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022", "chrome111", "firefox128", "safari16.4"],
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
})

const manifest = {}
for (const path of Object.keys(metafile.outputs)) {
  const file = basename(path)
  const [name, , extension] = file.split(".")
  manifest[`${name}.${extension}`] = file
}
writeFileSync(join(dist, "manifest.json"), JSON.stringify(manifest, null, 2) + "\n")

for (const file of Object.values(manifest)) {
  if (file.endsWith(".woff2")) continue // is brotli already
  const path = join(dist, file)
  const bytes = readFileSync(path)
  const brotli = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } })
  writeFileSync(`${path}.br`, brotli)
  writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }))
  console.log(`${file.padEnd(32)} ${kib(bytes.length)}  br ${kib(brotli.length)}`)
}

function kib(n) {
  return `${(n / 1024).toFixed(1)} KiB`.padStart(10)
}
