// The owner of a room sequences it but is not on the media path: its death must not be seen.
import assert from 'node:assert/strict'
import { describe } from 'node:test'
import { allMeet, sleep, until, watch } from './people.mjs'
import { useMesh } from './scene.mjs'

describe('the owner of a running call dies', () => {
  const scene = useMesh('owner-mesh')

  scene('participants on other nodes keep their media, and somebody new can join', async ({ mesh, us, eu, ap, room, join }) => {
    const people = await Promise.all([join(us, 'Ada'), join(eu, 'Grace'), join(ap, 'Raman')])
    await allMeet(people)

    const owner = await until('the room has an owner', async () => {
      const r = (await mesh.status(us)).rooms.find((x) => x.name === room)
      return r && !r.provisional && r.owner
    })
    const ids = await Promise.all(mesh.regions.map(async (r) => (await mesh.status(r)).node))
    const dead = mesh.regions[ids.indexOf(owner)]
    assert.ok(dead, `owner ${owner} is none of ${ids}`)
    const alive = mesh.regions.filter((r) => r !== dead)
    const survivors = people.filter((p) => p.region !== dead.name)
    const orphan = people.find((p) => p.region === dead.name)
    await sleep(2000)

    const watching = watch(survivors, 12)
    watching.catch(() => undefined) // awaited below
    await sleep(2000)
    console.log(`killing ${owner} in ${dead.name} (process ${dead.pid})`)
    process.kill(dead.pid, 'SIGKILL')
    const killedAt = Date.now()

    const fresh = await join(alive[0], 'Fresh')
    console.log(`a new participant was in after ${Date.now() - killedAt} ms`)
    await allMeet([...survivors, fresh])
    console.log(`… and saw and heard everybody after ${Date.now() - killedAt} ms`)
    await watching

    const heir = await until('the room has another owner', async () => {
      const r = (await mesh.status(alive[0])).rooms.find((x) => x.name === room)
      return r && !r.provisional && r.owner !== owner && r.owner
    }, { timeout: 30_000 })
    console.log(`${heir} owns the room now`)

    // who sat on the dead node is brought to another by the page
    await orphan.connected(40_000)
    await allMeet([...survivors, orphan], { timeout: 30_000 })
  }, 180_000)
})
