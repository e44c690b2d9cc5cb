// People in a call: each is a browser context with a fake camera and microphone, driven through
// the page itself, observed through window.__meridian.
import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { chromium } from 'playwright-core'
import { results } from './mesh.mjs'

const chromiumPath = process.env.CHROMIUM ?? '/usr/bin/chromium'
const flags = [
  '--no-sandbox', '--use-fake-device-for-media-stream=fps=15', '--use-fake-ui-for-media-stream', '--autoplay-policy=no-user-gesture-required',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding',
  '--disable-background-timer-throttling', '--disable-features=WebRtcHideLocalIpsWithMdns',
]

/** A freeze longer than this, in seconds, fails a test. */
export const maxFreeze = 0.5

/**
 * A page whose own timers came this late, in milliseconds, had no processor to show frames with: then only a freeze
 * over starvedFreeze seconds is held against the mesh. MERIDIAN_STRICT=1 judges by maxFreeze all the same.
 */
const starvedStall = 250
const starvedFreeze = 3

/** Seconds between two looks after which a run is no evidence of anything. */
const maxUnobserved = 4

export const sleep = (ms) => new Promise((r) => setTimeout(r, ms))

/** Calls probe every interval until it gives something truthy, and returns that. */
export async function until(what, probe, { timeout = 20_000, interval = 150 } = {}) {
  const deadline = Date.now() + timeout
  let last
  for (;;) {
    try {
      const got = await probe()
      if (got) return got
      last = undefined
    } catch (err) {
      last = err
    }
    if (Date.now() > deadline) throw new Error(`${what}: not within ${timeout} ms${last ? ` (${last.message})` : ''}`)
    await sleep(interval)
  }
}

export async function openBrowser() {
  const browser = await chromium.launch({ executablePath: chromiumPath, headless: true, args: flags })
  const people = new Set()
  return {
    browser,
    people,
    /** Opens the page of a node and joins. options: room, name, region, pc, more (extra query parameters), viewport. */
    async join(node, options) {
      const person = await Person.open(browser, node, options)
      people.add(person)
      return person
    },
    /** Leaves for everyone; on failure keeps what they saw in test-results. */
    async clear(failedTest) {
      if (failedTest) for (const p of people) await p.keep(failedTest)
      for (const p of people) await p.close()
      people.clear()
    },
    close: () => browser.close(),
  }
}

export class Person {
  static async open(browser, node, { room, name, region = node.name, pc, more = {}, viewport = { width: 640, height: 480 }, colorScheme = 'light' }) {
    const context = await browser.newContext({ viewport, colorScheme })
    await context.grantPermissions(['camera', 'microphone', 'clipboard-read', 'clipboard-write'], { origin: new URL(node.http).origin })
    const page = await context.newPage()
    const person = new Person(context, page, name, region)
    const query = new URLSearchParams({ autojoin: '1', video: '360', room, name, region, ...(pc ? { pc } : {}), ...more })
    await page.goto(`${node.http}/?${query}`)
    await person.connected()
    await person.watchStalls()
    return person
  }

  constructor(context, page, name, region) {
    Object.assign(this, { context, page, name, region, log: [] })
    page.on('console', (m) => this.log.push(`${new Date().toISOString()} ${m.type()} ${m.text()}`))
    page.on('pageerror', (e) => this.log.push(`${new Date().toISOString()} pageerror ${e.stack ?? e}`))
  }

  stats() {
    return this.page.evaluate(() => window.__meridian?.stats())
  }

  /** Measures how late a timer of the page is at worst: a machine without a free core starves the browser itself. */
  watchStalls() {
    return this.page.evaluate(() => {
      let last = performance.now()
      window.stall = 0
      setInterval(() => {
        const now = performance.now()
        window.stall = Math.max(window.stall, now - last - 50)
        last = now
      }, 50)
    })
  }

  /** The worst lateness since the last call, in milliseconds. */
  stall() {
    return this.page.evaluate(() => {
      const worst = window.stall ?? 0
      window.stall = 0
      return worst
    })
  }

  connected(timeout = 20_000) {
    return until(`${this.name} is connected`, async () => {
      const problem = await this.page.locator('.ended-card h1').textContent({ timeout: 1 }).catch(() => undefined)
      if (problem) throw new Error(`the page says: ${problem}`)
      return (await this.page.locator('[data-testid=call]').getAttribute('data-phase', { timeout: 1000 })) === 'connected'
    }, { timeout })
  }

  /** What this person receives from another, or undefined. */
  async from(other) {
    const stats = await this.stats()
    return stats?.remotes.find((r) => r.name === other.name)
  }

  /** Waits until this person both sees and hears the other: decoded frames and audio energy grow. */
  async seesAndHears(other, { timeout = 20_000, video = true, audio = true } = {}) {
    let base
    return until(`${this.name} ${video ? 'sees' : ''}${video && audio ? ' and ' : ''}${audio ? 'hears' : ''} ${other.name}`, async () => {
      const now = await this.from(other)
      if ((video && !now?.video) || (audio && !now?.audio)) return false
      // a source that was published again starts its counters again
      if (!base || (video && now.video.framesDecoded < base.video.framesDecoded) || (audio && now.audio.totalAudioEnergy < base.audio.totalAudioEnergy)) {
        base = now
        return false
      }
      const frames = video ? now.video.framesDecoded - base.video.framesDecoded : 0
      const energy = audio ? now.audio.totalAudioEnergy - base.audio.totalAudioEnergy : 0
      return (!video || frames >= 5) && (!audio || energy > 1e-5) ? now : false
    }, { timeout })
  }

  tile(other) {
    return this.page.locator(`.tile[aria-label="${other.name}"]`)
  }

  control(id) {
    return this.page.getByTestId(id)
  }

  async keep(test) {
    const base = `${results}${slug(test)}-${slug(this.name)}`
    mkdirSync(results, { recursive: true })
    await this.page.screenshot({ path: `${base}.png`, timeout: 5000 }).catch(() => undefined)
    const stats = await Promise.race([this.stats().catch((e) => String(e)), sleep(3000)])
    writeFileSync(`${base}.log`, this.log.join('\n') + `\n\n${JSON.stringify(stats, null, 2)}\n`)
  }

  async leave() {
    await this.control('leave').click()
    await this.page.getByTestId('rejoin').waitFor()
  }

  async close() {
    await this.context.close().catch(() => undefined)
  }
}

/** Each of the people sees and hears each of the others. */
export function allMeet(people, options) {
  return Promise.all(people.flatMap((a) => people.filter((b) => b !== a).map((b) => a.seesAndHears(b, options))))
}

/**
 * Watches who receives whom for some seconds and fails on a freeze over limit seconds, by the decoder's
 * count, by what was on screen and by the number of frames, on three seconds without sound, and when it
 * could not look. Returns one row per direction.
 */
export async function watch(people, seconds, { limit = maxFreeze } = {}) {
  const others = (p) => people.filter((o) => o !== p)
  const rows = new Map()
  const problems = []
  const end = Date.now() + seconds * 1000
  for (let second = 0; Date.now() < end || second === 0; second++) {
    await Promise.all(
      people.map(async (p) => {
        const [stats, stall] = await Promise.all([p.stats(), p.stall()])
        for (const o of others(p)) {
          const key = `${p.name} ← ${o.name}`
          const now = stats?.remotes.find((r) => r.name === o.name)
          const row = rows.get(key)
          if (!now?.video || !now?.audio) {
            problems.push(`${key}: gone after ${second} s`)
            continue
          }
          if (!row) {
            rows.set(key, { first: now, last: now, at: stats.at, longest: 0, gap: 0, quiet: 0, stall: 0, frozeAt: [], at0: stats.at })
            continue
          }
          const freezes = now.video.freezeCount - row.last.video.freezeCount
          const frozen = now.video.totalFreezesDuration - row.last.video.totalFreezesDuration
          // One freeze in the interval is measured exactly. Of several only the sum is known: the longest
          // is between their mean and what the screen saw, and no longer than the sum.
          if (freezes > 0) row.longest = Math.max(row.longest, frozen / freezes, freezes > 1 ? Math.min(frozen, now.video.maxGapMs / 1000) : 0)
          if (freezes > 0) row.frozeAt.push(second)
          row.stall = Math.max(row.stall, stall)
          row.gap = Math.max(row.gap, now.video.maxGapMs)
          // The freeze counter forgets a stream that was silent for some seconds, and counts nothing while
          // the browser itself stands still. Arithmetic does not: without a gap over maxFreeze there are
          // at least this many frames in an interval.
          const seconds = (stats.at - row.at) / 1000
          const frames = now.video.framesDecoded - row.last.video.framesDecoded
          const allowed = freezeAllowed(row.stall, limit)
          if (frames < Math.floor(seconds / allowed) - 1 || (frames < 1 && seconds > allowed)) problems.push(`${key}: ${frames} frames in ${round(seconds, 1)} s at second ${second}`)
          if (seconds > maxUnobserved) problems.push(`${key}: not observed for ${round(seconds, 1)} s at second ${second}: the machine is overloaded, this run shows nothing`)
          row.quiet = now.audio.totalAudioEnergy > row.last.audio.totalAudioEnergy ? 0 : row.quiet + 1
          if (row.quiet === 3) problems.push(`${key}: no sound for 3 s`)
          Object.assign(row, { last: now, at: stats.at })
        }
      }),
    )
    await sleep(1000)
  }
  const report = [...rows].map(([key, r]) => ({
    who: key,
    'frames/s': round((r.last.video.framesDecoded - r.first.video.framesDecoded) / ((r.at - r.at0) / 1000), 1),
    width: r.last.video.frameWidth,
    freezes: r.last.video.freezeCount - r.first.video.freezeCount,
    'longest freeze ms': Math.round(r.longest * 1000),
    'longest gap on screen ms': Math.round(r.gap),
    'froze at s': r.frozeAt.join(' '),
    'page stalled ms': Math.round(r.stall),
    energy: round(r.last.audio.totalAudioEnergy - r.first.audio.totalAudioEnergy, 4),
    lost: r.last.video.packetsLost - r.first.video.packetsLost,
    nack: r.last.video.nackCount - r.first.video.nackCount,
    pli: r.last.video.pliCount - r.first.video.pliCount,
  }))
  for (const r of report) {
    const longest = Math.max(r['longest freeze ms'], r['longest gap on screen ms'])
    if (longest > limit * 1000 && longest <= freezeAllowed(r['page stalled ms'], limit) * 1000) console.log(`${r.who}: froze for ${longest} ms on a starved machine, not judged`)
    if (longest > freezeAllowed(r['page stalled ms'], limit) * 1000) problems.push(`${r.who}: froze for ${longest} ms (the page itself stalled for up to ${r['page stalled ms']} ms)`)
  }
  console.table(report)
  assert.deepEqual(problems, [], 'media did not flow without interruption')
  return report
}

/** The longest freeze, in seconds, that is not a failure, given how late the page's own timers were in milliseconds. */
function freezeAllowed(stall, limit) {
  return stall > starvedStall && !process.env.MERIDIAN_STRICT ? Math.max(starvedFreeze, limit) : limit
}

export function round(x, digits) {
  return Number(x.toFixed(digits))
}

function slug(text) {
  return text.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '').slice(0, 60)
}
