// Time from connect() to the first remote frame on screen: reported, never asserted.
import { mkdirSync, writeFileSync } from 'node:fs'
import { results } from './mesh.mjs'
import { round } from './people.mjs'

const rows = []

/** Notes how long `person` waited for the first frame of `other`. situation: "together", "late joiner", "rejoin". */
export async function noteFirstFrame(person, other, situation) {
  const { marks, remotes } = await person.stats()
  const identity = remotes.find((r) => r.name === other.name)?.identity
  const seen = marks.firstRemoteFrame[identity]
  if (seen === undefined || marks.connectStarted === undefined) return
  rows.push({
    situation,
    from: other.region,
    to: person.region,
    'same region': person.region === other.region,
    'connected ms': round(marks.connected - marks.connectStarted, 0),
    'first frame ms': round(seen - marks.connectStarted, 0),
  })
}

/** Prints the table and writes test-results/first-frame.json. */
export function reportFirstFrames() {
  if (rows.length === 0) return
  console.log('\nfrom connect() to the first remote frame')
  console.table(rows)
  mkdirSync(results, { recursive: true })
  const fields = rows.map((r) => ({
    situation: r.situation, from: r.from, to: r.to, same_region: r['same region'], connected_ms: r['connected ms'], first_frame_ms: r['first frame ms'],
  }))
  writeFileSync(`${results}first-frame.json`, JSON.stringify({ measured_at: new Date().toISOString(), rows: fields }, null, 2) + '\n')
}
