// The page itself: the way through the lobby, and what it says when something is wrong.
import assert from 'node:assert/strict'
import { describe } from 'node:test'
import { allMeet, Person, until } from './people.mjs'
import { useMesh } from './scene.mjs'

describe('the page', () => {
  const scene = useMesh('page-mesh')

  scene('the lobby leads into the call, through a region of choice', async ({ us, ap, room, browser, join }) => {
    const raman = await join(ap, 'Raman')
    const { context, page } = await lobby(browser, us, `?room=${room}&video=360`)
    await page.locator('.preview video').waitFor()
    await until('the nearest edge is named', async () => /Nearest/.test(await page.getByTestId('region').innerText()))
    await page.getByTestId('name').fill('Ada')
    await page.getByRole('button', { name: 'Change' }).click()
    await page.getByRole('radio', { name: /^Europe West/ }).click()
    assert.match(await page.getByTestId('region').innerText(), /Europe West\s+Your choice/)
    await page.getByTestId('join').click()

    const ada = new Person(context, page, 'Ada', 'eu-west')
    browser.people.add(ada)
    await ada.connected()
    await allMeet([ada, raman])
    assert.equal((await ada.stats()).region, 'eu-west')

    await ada.control('info').click()
    await page.getByTestId('info-panel').getByText('Raman').waitFor()
    await ada.control('invite').click()
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${us.http}/?room=${room}`)
  })

  scene('remembers the name', async ({ us, room, browser }) => {
    const { context, page } = await lobby(browser, us, `?room=${room}`)
    await page.getByTestId('name').fill('Ada Lovelace')
    await page.getByTestId('join').click()
    await page.getByTestId('leave').click()
    await page.goto(us.http)
    assert.equal(await page.getByTestId('name').inputValue(), 'Ada Lovelace')
    await context.close()
  })

  scene('a blocked camera does not keep anyone out', async ({ us, eu, room, browser, join }) => {
    const grace = await join(eu, 'Grace')
    const { context, page } = await lobby(browser, us, `?room=${room}&name=Ada`, () => {
      const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices)
      navigator.mediaDevices.getUserMedia = (wanted) => (wanted.video ? Promise.reject(new DOMException('denied', 'NotAllowedError')) : real(wanted))
    })
    await page.getByText('Camera is blocked').waitFor()
    await page.getByTestId('join').click()
    const ada = new Person(context, page, 'Ada', 'us-east')
    browser.people.add(ada)
    await ada.connected()
    await grace.seesAndHears(ada, { video: false })
    await ada.seesAndHears(grace)
  })

  scene('says so when no node answers, and recovers', async ({ us, room, browser }) => {
    const { context, page } = await lobby(browser, us, `?room=${room}&name=Ada`)
    await until('the list is there', async () => /Nearest/.test(await page.getByTestId('region').innerText()))
    await page.route('**/v1/edge*', (route) => route.abort())
    await page.getByTestId('join').click()
    await page.getByText('The server cannot be reached').waitFor()
    await page.unroute('**/v1/edge*')
    await page.getByTestId('rejoin').click()
    await page.locator('[data-testid=call][data-phase=connected]').waitFor({ timeout: 15_000 })
    await context.close()
  })

  scene('goes to the next edge when the nearest is silent', async ({ us, room, browser }) => {
    const { context, page } = await lobby(browser, us, `?room=${room}&name=Ada`)
    await until('the list is there', async () => /Nearest/.test(await page.getByTestId('region').innerText()))
    await page.route('**/v1/edge', async (route) => {
      const response = await route.fetch()
      // nobody listens on the discard port
      await route.fulfill({ response, json: { ...(await response.json()), server_url: 'ws://127.0.0.1:9' } })
    })
    await page.getByTestId('join').click()
    await page.locator('[data-testid=call][data-phase=connected]').waitFor({ timeout: 20_000 })
    await context.close()
  })

  scene('says what is wrong with a refused pass', async ({ us, room, browser }) => {
    const { context, page } = await lobby(browser, us, `?room=${room}&name=Ada`)
    await page.route('**/v1/edge', async (route) => {
      const response = await route.fetch()
      const grant = await response.json()
      await route.fulfill({ response, json: { ...grant, participant_token: grant.participant_token.replace(/.{8}$/, 'AAAAAAAA') } })
    })
    await page.getByTestId('join').click()
    await page.getByText('Your pass was refused').waitFor({ timeout: 15_000 })
    await context.close()
  })
})

async function lobby(browser, node, query, init) {
  const context = await browser.browser.newContext({ viewport: { width: 390, height: 844 }, colorScheme: 'light' })
  await context.grantPermissions(['camera', 'microphone', 'clipboard-read', 'clipboard-write'], { origin: new URL(node.http).origin })
  const page = await context.newPage()
  if (init) await page.addInitScript(init)
  await page.goto(`${node.http}/${query}`)
  return { context, page }
}
