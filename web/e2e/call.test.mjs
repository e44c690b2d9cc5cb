// Calls over a mesh of three regions with emulated delays of 40, 65 and 100 ms one way.
// What counts is decoded frames and audible sound at the far end, never a connection state.
import assert from 'node:assert/strict'
import { after, describe } from 'node:test'
import { noteFirstFrame, reportFirstFrames } from './first-frame.mjs'
import { allMeet, sleep, until, watch } from './people.mjs'
import { useMesh } from './scene.mjs'

const callSeconds = Number(process.env.MERIDIAN_CALL_SECONDS ?? 15)

describe('a call across regions', () => {
  const scene = useMesh('call-mesh')
  after(reportFirstFrames)

  scene('two people in different regions see and hear each other', async ({ us, eu, join }) => {
    const [ada, grace] = await Promise.all([join(us, 'Ada'), join(eu, 'Grace')])
    await allMeet([ada, grace])
    await noteFirstFrame(ada, grace, 'together')
    await noteFirstFrame(grace, ada, 'together')
    const seen = await ada.from(grace)
    assert.ok(seen.video.frameWidth > 0 && seen.video.frameWidth <= 640, `frame width ${seen.video.frameWidth}`)
    assert.equal(seen.region ?? 'eu-west', 'eu-west')
  })

  scene('two people in one region see and hear each other', async ({ us, join }) => {
    const [ada, alan] = await Promise.all([join(us, 'Ada'), join(us, 'Alan')])
    await allMeet([ada, alan])
    await noteFirstFrame(ada, alan, 'together')
    await noteFirstFrame(alan, ada, 'together')
  })

  scene(`three people, one per region, for ${callSeconds} s without a freeze`, async ({ us, eu, ap, join }) => {
    const people = await Promise.all([join(us, 'Ada'), join(eu, 'Grace'), join(ap, 'Raman')])
    await allMeet(people)
    await sleep(2000) // the bandwidth estimate climbs to its first plateau
    await watch(people, callSeconds)
  }, 120_000 + callSeconds * 1000)

  scene('a late joiner gets everybody at once', async ({ us, eu, ap, join }) => {
    const early = await Promise.all([join(us, 'Ada'), join(eu, 'Grace')])
    await allMeet(early)
    await sleep(2000)
    const late = await join(ap, 'Raman')
    await allMeet([...early, late])
    for (const p of early) await noteFirstFrame(late, p, 'late joiner')
  })

  scene('a late joiner in the same region too', async ({ us, join }) => {
    const ada = await join(us, 'Ada')
    await sleep(1500)
    const alan = await join(us, 'Alan')
    await allMeet([ada, alan])
    await noteFirstFrame(alan, ada, 'late joiner')
  })

  scene('mute is seen and silent, unmute is heard', async ({ us, eu, join }) => {
    const [ada, grace] = await Promise.all([join(us, 'Ada'), join(eu, 'Grace')])
    await allMeet([ada, grace])

    await ada.control('mic').click()
    await until('Grace sees that Ada is muted', async () => (await grace.tile(ada).getAttribute('data-muted')) === 'true' && (await grace.from(ada)).audio.muted)
    await sleep(1000) // what was under way plays out
    const before = await grace.from(ada)
    await sleep(2500)
    const quiet = await grace.from(ada)
    const energy = quiet.audio.totalAudioEnergy - before.audio.totalAudioEnergy
    assert.ok(energy < 1e-5, `energy of a muted microphone grew by ${energy}`)
    assert.ok(quiet.video.framesDecoded > before.video.framesDecoded, 'the picture stopped with the sound')

    await ada.page.keyboard.press('m')
    await until('Grace sees that Ada is no longer muted', async () => (await grace.tile(ada).getAttribute('data-muted')) === 'false')
    await grace.seesAndHears(ada)
  })

  scene('camera off and on again', async ({ us, eu, join }) => {
    const [ada, grace] = await Promise.all([join(us, 'Ada'), join(eu, 'Grace')])
    await allMeet([ada, grace])

    await ada.control('camera').click()
    await until('Grace sees initials', async () => (await grace.tile(ada).getAttribute('data-video')) === 'false')
    await grace.seesAndHears(ada, { video: false })
    await sleep(500)
    const off = await grace.from(ada)
    await sleep(1500)
    const still = await grace.from(ada)
    assert.ok((still.video?.framesDecoded ?? 0) - (off.video?.framesDecoded ?? 0) <= 1, 'frames of a camera that is off')

    await ada.control('camera').click()
    await until('Grace sees video', async () => (await grace.tile(ada).getAttribute('data-video')) === 'true')
    await grace.seesAndHears(ada)
  })

  scene('leave and rejoin', async ({ us, eu, join }) => {
    const [ada, grace] = await Promise.all([join(us, 'Ada'), join(eu, 'Grace')])
    await allMeet([ada, grace])

    await ada.leave()
    await until('Ada is gone for Grace', async () => (await grace.tile(ada).count()) === 0 && !(await grace.from(ada)))
    await ada.page.getByTestId('rejoin').click()
    await ada.connected()
    await allMeet([ada, grace])
    await noteFirstFrame(ada, grace, 'rejoin')
  })

  scene('chat both ways', async ({ us, ap, join }) => {
    const [ada, raman] = await Promise.all([join(us, 'Ada'), join(ap, 'Raman')])
    await allMeet([ada, raman])
    const say = async (who, text) => {
      await who.page.getByTestId('chat-input').fill(text)
      await who.page.keyboard.press('Enter')
    }
    await ada.control('chat').click()
    await say(ada, 'Is it late in Chennai?')
    await until('Raman is told of a message', async () => /1 new/.test((await raman.control('chat').getAttribute('aria-label')) ?? ''))
    await raman.control('chat').click()
    await raman.page.getByText('Is it late in Chennai?').waitFor({ timeout: 5000 })
    await say(raman, 'Half past midnight <b>here</b>.')
    await ada.page.getByText('Half past midnight <b>here</b>.').waitFor({ timeout: 10_000 })
  })

  scene('data packets: reliable and lossy, to all and to one', async ({ us, eu, ap, join }) => {
    const [ada, grace, raman] = await Promise.all([join(us, 'Ada'), join(eu, 'Grace'), join(ap, 'Raman')])
    await allMeet([ada, grace, raman])
    for (const p of [grace, raman]) {
      await p.page.evaluate(() => {
        window.received = []
        window.__meridian.room.on('dataReceived', (payload, from, kind, topic) => window.received.push(`${topic}:${new TextDecoder().decode(payload)}:${from?.name}`))
      })
    }
    const identity = (await ada.stats()).remotes.find((r) => r.name === 'Grace').identity
    await ada.page.evaluate(async (to) => {
      const me = window.__meridian.room.localParticipant
      const bytes = (s) => new TextEncoder().encode(s)
      await me.publishData(bytes('one'), { reliable: true, topic: 'private', destinationIdentities: [to] })
      for (let i = 0; i < 20; i++) await me.publishData(bytes(`${i}`), { reliable: false, topic: 'lossy' })
      await me.publishData(bytes('all'), { reliable: true, topic: 'public' })
    }, identity)
    const got = (p) => p.page.evaluate(() => window.received)
    await until('both got what was for all', async () => (await Promise.all([grace, raman].map(got))).every((r) => r.includes('public:all:Ada')))
    assert.ok((await got(grace)).includes('private:one:Ada'), 'the addressed packet did not arrive')
    assert.ok(!(await got(raman)).some((m) => m.startsWith('private')), 'a packet addressed to Grace reached Raman')
    for (const p of [grace, raman]) await until(`${p.name} got most lossy packets`, async () => (await got(p)).filter((m) => m.startsWith('lossy')).length >= 15)
  })

  for (const pc of ['single', 'dual']) {
    scene(`signal reconnect is not seen in the picture: ${pc}`, async ({ us, eu, join }) => {
      const [ada, grace] = await Promise.all([join(us, 'Ada', { pc }), join(eu, 'Grace', { pc })])
      await allMeet([ada, grace])
      // The client restarts ICE when it resumes; its old path stays in use until the new one is found.
      const watching = watch([ada, grace], 6)
      await sleep(1500)
      const took = await reconnect(ada, 'signal-reconnect')
      console.log(`signal reconnect: ${took} ms`)
      await watching
      await ada.connected()
    })
  }

  scene('full reconnect brings the media back', async ({ us, eu, join }) => {
    const [ada, grace] = await Promise.all([join(us, 'Ada'), join(eu, 'Grace')])
    await allMeet([ada, grace])
    const took = await reconnect(ada, 'full-reconnect')
    console.log(`full reconnect: ${took} ms`)
    await ada.connected()
    await allMeet([ada, grace])
  })

  for (const [a, b] of [['single', 'single'], ['dual', 'dual'], ['single', 'dual']]) {
    scene(`peer connections: ${a} with ${b}`, async ({ us, eu, join }) => {
      const [ada, grace] = await Promise.all([join(us, 'Ada', { pc: a }), join(eu, 'Grace', { pc: b })])
      await allMeet([ada, grace])
      // in both modes a source that comes later needs a negotiation of its own
      await grace.control('camera').click()
      await until('the camera is off', async () => (await ada.tile(grace).getAttribute('data-video')) === 'false')
      await grace.control('camera').click()
      await allMeet([ada, grace])
      const late = await join(eu, 'Late', { pc: b })
      await allMeet([ada, grace, late])
    })
  }

  scene('only what is watched crosses, and once per region', async ({ mesh, us, ap, room, join }) => {
    const ada = await join(us, 'Ada')
    const [raman, sarah] = await Promise.all([join(ap, 'Raman'), join(ap, 'Sarah')])
    await allMeet([ada, raman, sarah])

    const far = (await mesh.status(ap)).node
    const identity = (await raman.stats()).remotes.find((r) => r.name === 'Ada').identity
    const sources = (await mesh.status(us)).rooms.find((r) => r.name === room).participants.find((p) => p.identity === identity).sources
    const camera = sources.find((x) => x.kind === 'video').id
    const link = async () => (await mesh.status(us)).links.find((l) => l.peer === far)
    // how often the link from Ada's node carries her camera, and the bytes of all video it has sent: nobody else publishes there
    const copies = async () => ((await link()).flows ?? []).filter((f) => f.direction === 'send' && f.source === camera).length
    const bytes = async () => (await link()).video_bytes_sent
    const received = async (p) => (await p.from(ada)).video.bytesReceived
    const watchAda = (p, on) => p.page.evaluate((want) => {
      for (const r of window.__meridian.room.remoteParticipants.values()) {
        if (r.name === 'Ada') for (const pub of r.videoTrackPublications.values()) pub.setSubscribed(want)
      }
    }, on)

    assert.equal(await copies(), 1, 'two watchers in a region must share one flow')
    await sleep(2000)
    const start = { sent: await bytes(), raman: await received(raman), sarah: await received(sarah) }
    await sleep(4000)
    const end = { sent: await bytes(), raman: await received(raman), sarah: await received(sarah) }
    const sent = end.sent - start.sent
    const most = Math.max(end.raman - start.raman, end.sarah - start.sarah)
    console.log(`two watchers: ${sent} bytes crossed, ${end.raman - start.raman} and ${end.sarah - start.sarah} arrived`)
    assert.ok(sent > 0 && most > 0, 'nothing crossed')
    assert.ok(sent < 1.5 * most, 'more than one copy crossed')

    await watchAda(raman, false)
    await sleep(4000)
    assert.equal(await copies(), 1, 'one of two watchers left: the flow stays')
    await sarah.seesAndHears(ada)

    await watchAda(sarah, false)
    const unwatched = Date.now()
    const still = async () => {
      const was = await bytes()
      await sleep(1500)
      return (await bytes()) === was
    }
    await until('video stops crossing when nobody watches', still, { timeout: 15_000 })
    console.log(`nobody watches: no video crossed from ${Date.now() - unwatched - 1500} ms on, or earlier`)
    const quiet = await bytes()
    await sleep(2000)
    assert.equal(await bytes(), quiet, 'video crosses though nobody watches')
    await raman.seesAndHears(ada, { video: false }) // sound is still wanted

    await watchAda(raman, true)
    await raman.seesAndHears(ada)
    assert.equal(await copies(), 1)

    await Promise.all([raman.leave(), sarah.leave()])
    await until('nothing crosses into an empty region', async () => (await copies()) === 0 && (await still()), { timeout: 20_000 })
  })
})

/** Breaks the connection in the given way; milliseconds until the library says it is back. */
function reconnect(person, scenario) {
  return person.page.evaluate(
    (how) =>
      new Promise((resolve, reject) => {
        const { room } = window.__meridian
        const start = performance.now()
        const timer = setTimeout(() => reject(new Error(`${how}: not back within 20 s`)), 20_000)
        room.once('reconnected', () => {
          clearTimeout(timer)
          resolve(Math.round(performance.now() - start))
        })
        void room.simulateScenario(how)
      }),
    scenario,
  )
}
