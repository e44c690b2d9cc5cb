// Runs `meridian dev`: a mesh of one process per region with emulated delays between them.
import { spawn } from 'node:child_process'
import { createWriteStream, existsSync, mkdirSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export const results = fileURLToPath(new URL('../test-results/', import.meta.url))
const binary = process.env.MERIDIAN_BIN ?? fileURLToPath(new URL('../../bin/meridian', import.meta.url))

export const delays = 'us-east:eu-west=40ms,eu-west:ap-south=65ms,us-east:ap-south=100ms'
const readyTimeoutMs = 60_000
const stopTimeoutMs = 15_000

/**
 * Starts a mesh and waits for its ready line. Logs go to test-results/<name>.log.
 * regions: [{ name, url, http, metrics, pid }] in the order us-east, eu-west, ap-south.
 */
export async function startMesh(name) {
  if (!existsSync(binary)) throw new Error(`${binary} does not exist: run make build, or set MERIDIAN_BIN`)
  mkdirSync(results, { recursive: true })
  const log = createWriteStream(`${results}${name}.log`)
  const args = ['dev', '--delay', delays, ...(process.env.MERIDIAN_DEV_ARGS?.split(' ').filter(Boolean) ?? [])]
  const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const exited = new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })))
  let tail = ''
  child.stderr.on('data', (chunk) => {
    log.write(chunk)
    tail = (tail + chunk).slice(-2000)
  })

  const lines = createInterface({ input: child.stdout })
  const ready = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ready line after ${readyTimeoutMs} ms\n${tail}`)), readyTimeoutMs)
    const fail = (why) => {
      clearTimeout(timer)
      reject(new Error(`${why}\n${tail}`))
    }
    child.once('error', (err) => fail(`${binary}: ${err.message}`))
    void exited.then(({ code, signal }) => fail(`meridian dev ended early (${signal ?? code})`))
    lines.once('line', (line) => {
      clearTimeout(timer)
      try {
        const event = JSON.parse(line)
        if (event.event !== 'ready' || !Array.isArray(event.regions)) throw new Error('not a ready line')
        resolve(event.regions)
      } catch (err) {
        reject(new Error(`first line of stdout is not the ready line (${err.message}): ${line.slice(0, 200)}`))
      }
    })
  })
  lines.on('line', (line) => log.write(line + '\n'))

  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGINT')
    const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs)
    const how = await exited
    clearTimeout(timer)
    log.end()
    return how
  }

  let regions
  try {
    regions = await ready
  } catch (err) {
    await stop()
    throw err
  }
  const region = (wanted) => {
    const r = regions.find((x) => x.name === wanted || x.region === wanted)
    if (!r) throw new Error(`no region ${wanted} in this mesh`)
    return r
  }
  return { regions, region, stop, status: (r = regions[0]) => getJSON(`${r.http}/v1/status`), metrics: (r) => getMetrics(r.metrics) }
}

async function getJSON(url) {
  const res = await fetch(url, { signal: AbortSignal.timeout(5000) })
  if (!res.ok) throw new Error(`${url}: ${res.status} ${await res.text()}`)
  return res.json()
}

/** Prometheus text as [{ name, labels, value }]. */
async function getMetrics(url) {
  const res = await fetch(url, { signal: AbortSignal.timeout(5000) })
  if (!res.ok) throw new Error(`${url}: ${res.status}`)
  return parseMetrics(await res.text())
}

export function parseMetrics(text) {
  const out = []
  for (const line of text.split('\n')) {
    const m = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line)
    if (!m) continue
    const labels = {}
    for (const [, key, value] of (m[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[key] = value
    out.push({ name: m[1], labels, value: Number(m[3]) })
  }
  return out
}
