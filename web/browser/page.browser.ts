// The page and the console in a real Chromium, against a real tally.

import type { BrowserContext, Page } from 'puppeteer-core'
import { afterAll, expect, test } from 'vitest'
import type { CountersAnswer } from '../src/client'
import { scene, send, textOf, unnamed } from './scene'
import { until } from './tally'

const here = scene()
const { visitor, watch, contexts } = here
const measured: string[] = []

// What deploy/test.sh prints of this stage.
afterAll(() => void process.stdout.write(`browser: ${measured.join('; ')}\n`))

async function open(page: Page, subject: string) {
  await page.goto(`${here.tally.base}/subjects/${subject}`)
  await page.waitForFunction(() => /\d/.test(document.querySelector('[data-metric=likes]')?.textContent ?? ''))
}

const likesShown = (page: Page) =>
  page.$eval('[data-like]', (button) => ({
    count: button.querySelector('[data-metric=likes]')?.textContent,
    on: button.getAttribute('aria-pressed') === 'true',
  }))

const isShown = (page: Page, count: string, on: boolean) => async () => {
  const shown = await likesShown(page)
  return shown.count === count && shown.on === on
}

async function counter(subject: string, metric: string): Promise<number> {
  const answer = await fetch(`${here.tally.base}/v1/counters?subject_id=${encodeURIComponent(subject)}`)
  return Number(((await answer.json()) as CountersAnswer).items[0]?.counters[metric] ?? 0)
}

const isCounted = (subject: string, metric: string, value: number) => async () => (await counter(subject, metric)) === value

const waits = (page: Page) => page.$('[data-waiting]').then((found) => found !== null)

test('a like is shown at once, counted, and still there after a reload', async () => {
  const page = await visitor()
  await page.evaluateOnNewDocument(() => {
    const sizes = ((globalThis as Record<string, unknown>)['shifts'] = [] as number[])
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries() as (PerformanceEntry & { value: number; hadRecentInput: boolean })[]) {
        if (!entry.hadRecentInput) sizes.push(entry.value)
      }
    }).observe({ type: 'layout-shift', buffered: true })
  })
  await open(page, 'article:101')
  expect(await likesShown(page)).toEqual({ count: '0', on: false })
  // In one step, before any answer can arrive.
  const atOnce = await page.$eval('[data-like]', async (button) => {
    ;(button as HTMLButtonElement).click()
    await new Promise((done) => requestAnimationFrame(done))
    return [button.querySelector('[data-metric=likes]')?.textContent, button.querySelector('.plus')?.textContent]
  })
  expect(atOnce).toEqual(['1', '+1'])
  await until(isCounted('article:101', 'likes', 1), 'the like is counted')
  await page.reload()
  await until(isShown(page, '1', true), 'the like is still there')
  await page.click('[data-like]')
  expect(await likesShown(page)).toEqual({ count: '0', on: false })
  await until(isCounted('article:101', 'likes', 0), 'the like is taken back')
  const shifts = await page.evaluate(() => (globalThis as Record<string, unknown>)['shifts'] as number[])
  expect(shifts.reduce((sum, one) => sum + one, 0)).toBeLessThan(0.02)
})

test('a second browser sees the count change without a reload', async () => {
  // One click each: a rule may hold back quick changes of one user.
  const likers = [await visitor(), await visitor(), await visitor()]
  const other = await visitor()
  await Promise.all([...likers, other].map((page) => open(page, 'article:102')))
  await until(async () => (await news(other)) !== 'connecting', 'news come')
  const times: number[] = []
  for (const [index, liker] of likers.entries()) {
    const since = performance.now()
    const wanted = String(index + 1)
    const seen = other.waitForFunction(
      (count) => document.querySelector('[data-metric=likes]')?.textContent === count,
      { polling: 'mutation' },
      wanted,
    )
    await liker.click('[data-like]')
    await seen
    times.push(Math.round(performance.now() - since))
    expect((await likesShown(other)).on).toBe(false)
    await until(isShown(liker, wanted, true), 'the one who liked sees it too')
  }
  measured.push(`a like was seen in a second browser after ${times.join(', ')} ms (${await news(other)})`)
})

const news = (page: Page) => page.$eval('[data-live]', (element) => (element as HTMLElement).dataset['live'])

test('a like that the ingest API refuses is taken back with a hint', async () => {
  const page = await visitor()
  await open(page, 'article:103')
  await page.setRequestInterception(true)
  page.on('request', (request) => {
    if (request.method() !== 'POST' || !request.url().endsWith('/v1/events')) return void request.continue()
    const events = JSON.parse(request.postData() ?? '[]') as unknown[]
    const rejected = events.map((_, index) => ({ index, error: 'not today' }))
    const body = JSON.stringify({ status: 422, detail: 'none', rejected })
    void request.respond({ status: 422, contentType: 'application/problem+json', body })
  })
  await page.click('[data-like]')
  await until(isShown(page, '0', false), 'the like is taken back')
  expect(await page.$eval('[data-hint]', (hint) => hint.textContent)).toContain('not today')
})

test('a collect is the database\'s word: shown with its count, seen by others, still there after a reload', async () => {
  const [page, other] = [await visitor(), await visitor()]
  await Promise.all([open(page, 'article:112'), open(other, 'article:112')])
  const collect = (page: Page) =>
    page.$eval('[data-collect]', (button) => [
      button.querySelector('[data-metric=collects]')?.textContent,
      button.getAttribute('aria-pressed') === 'true',
    ])
  const shows = (page: Page, count: string, on: boolean) => async () => {
    const [found, pressed] = await collect(page)
    return found === count && pressed === on
  }
  await until(shows(page, '0', false), 'it has no collects')
  await page.click('[data-collect]')
  await until(shows(page, '1', true), 'it is collected')
  await until(shows(other, '1', false), 'the other browser sees it')
  expect(await counter('article:112', 'collects')).toBe(1)
  await page.reload()
  await until(shows(page, '1', true), 'it is still collected')
  await page.keyboard.press('c')
  await until(shows(page, '0', false), 'it is taken back')
  await until(shows(other, '0', false), 'the other browser sees that too')

  await page.setRequestInterception(true)
  page.on('request', (request) => {
    if (request.method() !== 'PUT') return void request.continue()
    const body = JSON.stringify({ status: 429, detail: 'too many for now' })
    void request.respond({ status: 429, contentType: 'application/problem+json', body })
  })
  await page.click('[data-collect]')
  const said = () => page.$eval('body', (body) => body.textContent ?? '')
  await until(async () => (await said()).includes('too many for now'), 'it says why')
  expect(await collect(page)).toEqual(['0', false])
})

/** Until the page knows: what outlives a page is sent by a part of Chromium that this does not reach. */
async function goOffline(page: Page) {
  await page.setOfflineMode(true)
  await page.waitForFunction(() => !navigator.onLine)
}

test('a click without a network is delivered once when it is back, also by a page that comes later', async () => {
  const page = await visitor()
  await open(page, 'article:104')
  await goOffline(page)
  await page.click('[data-like]')
  await until(() => waits(page), 'the click waits')
  expect(await likesShown(page)).toEqual({ count: '1', on: true })
  await page.setOfflineMode(false)
  await until(async () => !(await waits(page)), 'the click is sent')
  await until(isCounted('article:104', 'likes', 1), 'the click is counted')

  // A page that is killed can do nothing as it goes. Its context has no other: they would share a process.
  const killed = await visitor()
  await open(killed, 'article:105')
  await goOffline(killed)
  await killed.click('[data-like]')
  await until(() => waits(killed), 'the click waits')
  const isGone = new Promise((done) => killed.once('error', done))
  const session = await killed.createCDPSession()
  void session.send('Page.crash').catch(() => undefined)
  await isGone
  expect(await counter('article:105', 'likes')).toBe(0)
  const later = await killed.browserContext().newPage()
  watch(later)
  const sent: string[] = []
  later.on('request', (request) => {
    if (request.method() === 'POST' && request.url().endsWith('/v1/events')) sent.push(request.postData() ?? '')
  })
  await open(later, 'article:105')
  await until(isCounted('article:105', 'likes', 1), 'the click is counted')
  await until(isShown(later, '1', true), 'the page shows it')
  expect(sent.filter((body) => body.includes('"like"')).length).toBe(1)

  // Reloaded without a network: the click counts once, whether the old page or the new one sends it.
  await open(page, 'article:111')
  await goOffline(page)
  await page.click('[data-like]')
  await until(() => waits(page), 'the click waits')
  await page.reload().catch(() => undefined)
  await page.setOfflineMode(false)
  await open(page, 'article:111')
  await until(isShown(page, '1', true), 'the page shows it')
  await until(async () => !(await waits(page)), 'nothing waits')
  expect(await counter('article:111', 'likes')).toBe(1)
})

test('a click just before the page is left is counted once', async () => {
  const page = await visitor()
  await open(page, 'article:110')
  await page.$eval('[data-like]', (button) => {
    ;(button as HTMLButtonElement).click()
    location.assign('about:blank')
  })
  await until(isCounted('article:110', 'likes', 1), 'the click is counted')
  await open(page, 'article:110')
  await until(isShown(page, '1', true), 'the page shows it')
  expect(await counter('article:110', 'likes')).toBe(1)
})

test('a hidden tab is no read, and five visible seconds are one', async () => {
  const page = await visitor()
  const front = await (contexts.at(-1) as BrowserContext).newPage()
  await front.bringToFront()
  await page.goto(`${here.tally.base}/subjects/article:106`)
  expect(await page.evaluate(() => document.visibilityState)).toBe('hidden')
  await new Promise((done) => setTimeout(done, 6_500))
  expect([await counter('article:106', 'reads'), await counter('article:106', 'views')]).toEqual([0, 0])
  const since = performance.now()
  await page.bringToFront()
  await until(isCounted('article:106', 'reads', 1), 'the read is counted')
  const seconds = (performance.now() - since) / 1000
  expect(seconds).toBeGreaterThan(4.9)
  expect(await counter('article:106', 'views')).toBe(1)
  measured.push(`a read was counted ${seconds.toFixed(1)} s after the tab was shown`)
})

test('everything can be done by keys, and every control has a name', async () => {
  const page = await visitor()
  await open(page, 'article:107')
  const isFocused = () => page.$eval('[data-like]', (button) => button === document.activeElement)
  for (let presses = 0; presses < 20 && !(await isFocused()); presses++) await page.keyboard.press('Tab')
  expect(await isFocused()).toBe(true)
  expect(await page.$eval('[data-like]', (button) => getComputedStyle(button).outlineStyle)).toBe('solid')
  await page.keyboard.press('Enter')
  expect(await likesShown(page)).toEqual({ count: '1', on: true })
  await until(isCounted('article:107', 'likes', 1), 'the like is counted')
  await page.keyboard.press('l')
  expect(await likesShown(page)).toEqual({ count: '0', on: false })
  await until(isCounted('article:107', 'likes', 0), 'the like is taken back')
  await page.keyboard.press('?')
  expect(await page.$eval('dialog[open]', (dialog) => dialog.textContent)).toContain('like, or take it back')
  await page.keyboard.press('Escape')
  for (const path of ['/subjects/article:107', '/console/', '/console/#boards', '/console/#look-up', '/console/#dead-letters', '/console/#partitions', '/console/#processes', '/subjects/nonsense']) {
    await page.goto(here.tally.base + path)
    await page.waitForSelector('main section, main article')
    expect(await unnamed(page), path).toEqual([])
  }
})

test('the theme can be chosen and stays', async () => {
  const page = await visitor()
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'light' }])
  await open(page, 'article:108')
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor)
  const light = await ground()
  await page.keyboard.press('t')
  const dark = await ground()
  expect(dark).not.toBe(light)
  await page.reload()
  expect(await ground()).toBe(dark)
})

test('a subject without text and events is not found, and opening it does not create it', async () => {
  const page = await visitor()
  const status = async (path: string) => (await page.goto(here.tally.base + path))?.status()
  expect(await status('/subjects/nonsense')).toBe(404)
  await page.waitForSelector('[data-not-found]')
  expect(await textOf(page, '[data-not-found]')).toContain('must be `kind:id`')
  expect(await page.title()).toBe('Not found · tally')
  // What may be an id is known to the stores alone.
  for (const subject of ['video:1', 'article:0', 'article:201']) {
    await status(`/subjects/${subject}`)
    await page.waitForSelector('[data-not-found]')
    expect(await page.$('[data-like]')).toBeNull()
  }
  await send(here.tally.base, [{ event_id: 'known', type: 'view', actor_id: 'u1', subject_id: 'video:2' }])
  await until(isCounted('video:2', 'views', 1), 'the view is counted')
  expect(await status('/subjects/video:2')).toBe(200)
  await until(async () => Number(await textOf(page, '[data-metric=views]')) >= 1, 'its counters are shown')
  expect(await textOf(page, 'h1')).toBe('video:2')
  expect(await counter('video:1', 'views')).toBe(0)
})

test('a process without an ingest API says so beside the button, before anybody clicks', async () => {
  const page = await visitor()
  await page.setRequestInterception(true)
  page.on('request', (request) => {
    if (request.method() !== 'POST') return void request.continue()
    const detail = 'This process runs `tally api` and accepts no events: send them to the ingest API at https://in.example.'
    const body = JSON.stringify({ type: 'urn:tally:problem:no-ingest', status: 404, detail })
    void request.respond({ status: 404, contentType: 'application/problem+json', body })
  })
  await page.goto(`${here.tally.base}/subjects/article:114`)
  await until(async () => (await textOf(page, '[data-hint]')).includes('https://in.example'), 'it says where')
  expect(await page.$eval('[data-like]', (button) => (button as HTMLButtonElement).disabled)).toBe(true)
  await page.keyboard.press('l')
  expect((await likesShown(page)).on).toBe(false)
})

test('estimates are marked, titles that repeat carry their id, and nothing shines through the buttons', async () => {
  const views = Array.from({ length: 300 }, (_, index) => ({
    event_id: `many-${index}`, type: 'view', actor_id: `many-${index}`, subject_id: 'article:115',
  }))
  await send(here.tally.base, views)
  await send(here.tally.base, [1, 2].map((n) => ({ event_id: `hot-${n}`, type: 'like', actor_id: `hot-${n}`, subject_id: 'article:115' })))
  const page = await visitor()
  await open(page, 'article:115')
  await until(async () => (await textOf(page, '[data-metric=visitors]')).startsWith('≈ '), 'an estimate is marked')
  expect((await textOf(page, '[data-metric=views]')).startsWith('≈')).toBe(false)
  await until(async () => (await textOf(page, '[data-board]')).includes('article:115'), 'the board names it')
  expect(await page.title()).toContain('article:115')
  const ground = await page.$eval('.actions', (actions) => {
    const { backgroundColor, backgroundImage, opacity } = getComputedStyle(actions)
    return { backgroundColor, backgroundImage, opacity }
  })
  expect(ground).toMatchObject({ backgroundImage: 'none', opacity: '1' })
  expect(ground.backgroundColor).toMatch(/^rgb\(/)
})
