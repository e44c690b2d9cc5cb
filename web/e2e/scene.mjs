// A test file's mesh and browser, and scenes on them: each scene is one test with its own room.
import { randomBytes } from 'node:crypto'
import { after, before, it } from 'node:test'
import { startMesh } from './mesh.mjs'
import { openBrowser } from './people.mjs'

const sceneTimeoutMs = 120_000

/** Starts a mesh and a browser for all scenes of a file; name also names the mesh's log. */
export function useMesh(name) {
  const stage = {}
  before(async () => {
    stage.mesh = await startMesh(name)
    try {
      stage.browser = await openBrowser()
    } catch (err) {
      await stage.mesh.stop()
      throw err
    }
  })
  after(async () => {
    await stage.browser?.close()
    await stage.mesh?.stop()
  })

  /** f gets { mesh, us, eu, ap, room, join(node, name, options) }. What people saw is kept when it fails. */
  return function scene(title, f, timeout = sceneTimeoutMs) {
    it(title, { timeout }, async () => {
      const { mesh, browser } = stage
      const [us, eu, ap] = mesh.regions
      const room = `e2e-${randomBytes(4).toString('hex')}`
      let failed
      try {
        await f({ mesh, us, eu, ap, room, browser, join: (node, name, options = {}) => browser.join(node, { room, name, ...options }) })
      } catch (err) {
        failed = err
      }
      await browser.clear(failed && title)
      if (failed) throw failed
    })
  }
}
