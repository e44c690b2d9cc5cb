// Codecs other than VP8 over the mesh. VP9 comes as one stream with three spatial layers (L3T3_KEY): who shows
// little gets the lower ones, and more when the picture grows.
import assert from 'node:assert/strict'
import { describe } from 'node:test'
import { allMeet, until } from './people.mjs'
import { useMesh } from './scene.mjs'

/** What the person's browser receives of the other's camera: { codec, width, frames, lost, keyframes }. */
async function received(person, other) {
  const { remotes } = await person.stats()
  const identity = remotes.find((r) => r.name === other.name)?.identity
  return person.page.evaluate(async (who) => {
    const camera = window.__meridian.room.remoteParticipants.get(who)?.getTrackPublication('camera')
    const report = await camera?.track?.getRTCStatsReport?.()
    if (!report) return undefined
    const inbound = [...report.values()].find((s) => s.type === 'inbound-rtp' && s.kind === 'video')
    if (!inbound) return undefined
    return {
      codec: report.get(inbound.codecId)?.mimeType, width: inbound.frameWidth, frames: inbound.framesDecoded, dropped: inbound.framesDropped,
      lost: inbound.packetsLost, keyframes: inbound.keyFramesDecoded, freezes: inbound.freezeCount, bytes: inbound.bytesReceived,
    }
  }, identity)
}

/** What the person's browser sends of its camera: the mode of each stream. */
function sent(person) {
  return person.page.evaluate(async () => {
    const track = window.__meridian.room.localParticipant.getTrackPublication('camera')?.track
    return track.sender.getParameters().encodings.map((e) => e.scalabilityMode)
  })
}

describe('codecs', () => {
  const scene = useMesh('codecs-mesh')

  for (const codec of ['vp9']) {
    scene(`${codec} in spatial layers, by what is shown`, async ({ us, eu, join }) => {
      const [ada, grace] = await Promise.all([
        join(us, 'Ada', { more: { codec } }),
        join(eu, 'Grace', { more: { codec }, viewport: { width: 280, height: 420 } }),
      ])
      await allMeet([ada, grace], { timeout: 40_000 })
      assert.deepEqual(await sent(ada), ['L3T3_KEY'])
      const small = await until('a small picture', async () => {
        const now = await received(grace, ada)
        return now?.width > 0 && now.width < 640 && now
      })
      assert.equal(small.codec.toLowerCase(), `video/${codec}`)
      await grace.page.setViewportSize({ width: 1280, height: 900 })
      const large = await until('a large picture', async () => {
        const now = await received(grace, ada)
        return now?.width === 640 && now
      })
      await grace.page.setViewportSize({ width: 280, height: 420 })
      await until('a small picture again', async () => (await received(grace, ada)).width < 640)
      const end = await received(grace, ada)
      assert.ok(end.frames > large.frames)
      console.log(codec, { small, large, end })
    })
  }

  scene('h264', async ({ us, eu, join }) => {
    const people = await Promise.all([join(us, 'Ada', { more: { codec: 'h264' } }), join(eu, 'Grace', { more: { codec: 'h264' } })])
    await allMeet(people, { timeout: 40_000 })
    assert.equal((await received(people[1], people[0])).codec.toLowerCase(), 'video/h264')
  })
})
