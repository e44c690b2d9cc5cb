// Pictures of the lobby and of a call of three, on a phone and on a desktop, light and dark:
// web/screenshots/*.png. For people to look at; asserts nothing.
import { mkdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { startMesh } from './mesh.mjs'
import { allMeet, openBrowser, sleep } from './people.mjs'

const folder = fileURLToPath(new URL('../screenshots/', import.meta.url))
const sizes = { phone: { width: 390, height: 844 }, desktop: { width: 1440, height: 900 } }

mkdirSync(folder, { recursive: true })
const mesh = await startMesh('screenshots')
const browser = await openBrowser()
try {
  const [a, b, c] = mesh.regions
  for (const [size, viewport] of Object.entries(sizes)) {
    for (const colorScheme of ['light', 'dark']) {
      const context = await browser.browser.newContext({ viewport, colorScheme })
      const page = await context.newPage()
      await page.goto(`${a.http}/?room=sunny-harbor-412&name=Ada`)
      await page.locator('.region-text strong').waitFor()
      await sleep(1500)
      await page.screenshot({ path: `${folder}lobby-${size}-${colorScheme}.png` })
      if (colorScheme === 'light') {
        await page.getByRole('button', { name: 'Change' }).click()
        await page.screenshot({ path: `${folder}lobby-${size}-regions.png`, fullPage: true })
      }
      await context.close()
    }
  }
  for (const [size, viewport] of Object.entries(sizes)) {
    const room = `sunny-harbor-${size}`
    const me = await browser.join(a, { room, name: 'Ada Lovelace', viewport, colorScheme: 'dark' })
    await sleep(500)
    await me.page.screenshot({ path: `${folder}call-${size}-alone.png` })
    const grace = await browser.join(b, { room, name: 'Grace Hopper' })
    const raman = await browser.join(c, { room, name: 'C. V. Raman' })
    await allMeet([me, grace, raman])
    await sleep(2000)
    await me.page.screenshot({ path: `${folder}call-${size}-dark.png` })
    await me.page.emulateMedia({ colorScheme: 'light' })
    await me.page.screenshot({ path: `${folder}call-${size}-light.png` })
    await grace.control('camera').click()
    await raman.control('mic').click()
    await grace.control('chat').click()
    await grace.page.getByTestId('chat-input').fill('Hello from Europe! Can everybody hear me?')
    await grace.page.keyboard.press('Enter')
    await sleep(800)
    await me.page.screenshot({ path: `${folder}call-${size}-unread.png` })
    await me.control('chat').click()
    await me.page.getByTestId('chat-input').fill('Loud and clear.')
    await me.page.keyboard.press('Enter')
    await sleep(800)
    await me.page.screenshot({ path: `${folder}call-${size}-chat.png` })
    await me.control('info').click()
    await sleep(1500)
    await me.page.screenshot({ path: `${folder}call-${size}-info.png` })
    await me.leave()
    await me.page.screenshot({ path: `${folder}ended-${size}.png` })
    await browser.clear()
  }
} finally {
  await browser.close()
  await mesh.stop()
}
console.log(`pictures are in ${folder}`)
