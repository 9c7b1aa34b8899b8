// The console in a real Chromium, as an operator uses it.

import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from 'puppeteer-core'
import { expect, test } from 'vitest'
import { scene, send, textOf, unnamed } from './scene'
import { until } from './tally'

const here = scene()
const { visitor } = here

const drawn = (page: Page) =>
  page.$$eval('[data-graph] [data-node]', (nodes) => nodes.map((node) => (node as HTMLElement | SVGElement).dataset['node']))

test('the graph shows every node with what it passes on, readable at its size on any screen', async () => {
  const page = await visitor()
  await page.goto(`${here.tally.base}/console/`)
  await until(async () => (await drawn(page)).includes('database'), 'the graph is drawn')
  expect(await drawn(page)).toEqual(expect.arrayContaining(['user-actions', 'valid', 'likes', 'totals', 'hot.merge', 'counters', 'cache']))
  await until(async () => /\d s/.test(await textOf(page, '[data-tile=lag] .number')), 'the lag is known')
  // The same like again and again: `fresh` looks at each and passes on one.
  let sent = 0
  const cell = (node: string, of: string) => textOf(page, `[data-row="${node}"] [data-${of}]`)
  await until(async () => {
    sent += 1
    await send(here.tally.base, [{ event_id: 'same', type: 'like', actor_id: 'u9', subject_id: 'article:120', occurred_at: Date.now() }])
    const isShown = (await textOf(page, '[data-node=fresh] .flow')) === '0 /s'
    return sent > 2 && isShown && Number.parseFloat(await cell('fresh', 'takes')) > 0 && (await cell('fresh', 'passes-on')) === '0'
  }, 'a node that forwards nothing shows that')
  for (const width of [1360, 390]) {
    await page.setViewport({ width, height: 844 })
    const sizes = await page.$eval('[data-graph] svg', (svg) => {
      const scale = svg.getBoundingClientRect().width / (svg as SVGSVGElement).viewBox.baseVal.width
      return [...svg.querySelectorAll('text')].map((text) => Number.parseFloat(getComputedStyle(text).fontSize) * scale)
    })
    expect(Math.min(...sizes), `at ${width}`).toBeGreaterThanOrEqual(12)
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), `at ${width}`).toBeLessThanOrEqual(0)
  }
  await page.$eval('[data-node=fresh]', (node) => (node as SVGElement).focus())
  expect(await page.$$eval('.carried', (texts) => texts.map((text) => text.textContent))).toEqual(expect.arrayContaining([expect.stringMatching(/^event/)]))
})

test('what is idle is not behind', async () => {
  const page = await visitor()
  await page.goto(`${here.tally.base}/console/`)
  await until(async () => (await textOf(page, '[data-tile=waiting] .number')) === '0', 'nothing waits')
  // Clocks and marks of idle tasks move every few seconds; no look shows them.
  for (let look = 0; look < 20; look++) {
    if ((await textOf(page, '[data-tile=waiting] .number')) === '0') {
      expect(await page.$$eval('.badge, .late', (marks) => marks.map((mark) => mark.textContent).filter(Boolean))).toEqual([])
    }
    await new Promise((done) => setTimeout(done, 250))
  }
})

test('series have axes and are there again after a reload', async () => {
  const page = await visitor()
  await page.goto(`${here.tally.base}/console/`)
  const lines = () => page.$$eval('[data-tile=inflow] polyline', (lines) => lines.map((line) => line.getAttribute('points') ?? ''))
  const count = async () => Math.max(0, ...(await lines()).map((points) => points.split(' ').length))
  await until(async () => (await count()) > 1, 'there are two samples')
  const before = await count()
  await page.reload()
  await page.waitForSelector('[data-tile=inflow] polyline')
  // What is drawn first already has them: they come from the server.
  expect(await count()).toBeGreaterThanOrEqual(before)
  expect(await textOf(page, '[data-tile=inflow] .x')).toMatch(/^\d\d:\d\d.*\d\d:\d\d UTC$/)
  await until(async () => /\d rejected, \d+ at stores since \d\d:\d\d:\d\d UTC/.test(await textOf(page, '[data-errors]')), 'errors name since when')
  expect(await textOf(page, '[data-tile=errors] .number')).toContain('/min')
})

test('boards, subjects, actors, receipts, partitions', async () => {
  await send(here.tally.base, [{ event_id: 'c1', type: 'like', actor_id: 'u1', subject_id: 'article:109' }])
  const receipt = await send(here.tally.base, [{ event_id: 'c1', type: 'like', actor_id: 'u1', subject_id: 'article:109' }])
  await send(here.tally.base, [1, 2, 3].map((n) => ({ event_id: `v${n}`, type: 'view', actor_id: 'u1', subject_id: 'article:109' })))
  const page = await visitor()
  await page.goto(`${here.tally.base}/console/`)
  await page.waitForSelector('[data-node=totals]')
  await page.keyboard.press('2')
  await until(async () => (await textOf(page, '[data-ranking]')).includes('article:109'), 'the board has the article')
  const decimals = await page.$$eval('[data-ranking] tbody td:nth-child(3)', (cells) => cells.map((cell) => cell.textContent?.split('.')[1]?.length ?? 0))
  expect(new Set(decimals).size).toBe(1)

  await page.keyboard.press('/')
  await page.waitForFunction(() => document.activeElement?.matches('[data-look-up]'))
  await page.keyboard.type('article:109\n')
  const said = async (selector: string) => (await textOf(page, selector)).replaceAll(/\s/g, '')
  await until(async () => (await said('[data-subject]')).includes('likes1'), 'the counters are found')
  expect(await textOf(page, '[data-subject] caption')).toMatch(/\d\d:\d\d:\d\d UTC/)
  await until(async () => (await page.$$('[data-bars]')).length === 2, 'hours and days are drawn')
  await until(async () => /viewsbyhour.*UTC3/.test(await said('[data-bars]')), 'the hour has the views')
  await until(async () => (await said('[data-list]')).includes('u1'), 'who likes it')

  await page.click('[data-list] a')
  await until(async () => (await said('[data-actor]')).includes('article:109'), 'the actor is looked up')
  await page.reload()
  await until(async () => (await said('[data-actor]')).includes('article:109'), 'and again after a reload')

  const find = async (id: string) => {
    await page.$eval('[data-look-up]', (input) => ((input as HTMLInputElement).value = ''))
    await page.type('[data-look-up]', `${id}\n`)
  }
  await page.select('[data-look-up-kind]', 'any')
  await find(receipt)
  await until(async () => (await textOf(page, '[data-receipt]')).includes('duplicate'), 'the receipt says why')
  await find('a b')
  await until(async () => (await textOf(page, 'main [role=status]')).includes('whitespace'), 'what is no id is said')

  await page.goto(`${here.tally.base}/console/#partitions`)
  await until(async () => (await page.$$('[data-partitions] tbody tr')).length === 8, 'every partition has its lag')
  expect(await textOf(page, '[data-partitions] thead')).toMatch(/Not in the cache.*Not in the database/)
  for (const path of ['#look-up=article:109', '#look-up=actor=u1', '#partitions', '#processes']) {
    await page.goto(`${here.tally.base}/console/${path}`)
    await page.waitForSelector('main table')
    expect(await unnamed(page), path).toEqual([])
  }
})

test('dead letters are grouped by reason, filtered and exported', async () => {
  await send(here.tally.base, ['lost & found', 'lost', 'kept'].map((source, n) => (
    { event_id: `dead-${n}`, type: 'share', actor_id: `u${n}`, subject_id: 'article:121', properties: n < 2 ? { source } : { source, depth: 'deep' } }
  )))
  const page = await visitor()
  await page.goto(`${here.tally.base}/console/#dead-letters`)
  await until(async () => {
    await page.reload()
    await page.waitForSelector('[data-dead-letters]')
    return (await page.$$('[data-dead-letters] li')).length === 3
  }, 'all of them are shown')
  const rows = () => page.$$eval('[data-reasons] tbody tr', (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent?.trim())))
  const counts = (await rows()).map((row) => [row[1], row[2]])
  expect(counts).toEqual([['shares', '2'], ['shares', '1']])
  expect((await rows())[0]?.[4]).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/)

  await page.click('[data-reasons] tbody button')
  await until(async () => (await page.$$('[data-dead-letters] li')).length === 2, 'those of one reason are left')
  await page.type('[data-words]', 'found LOST')
  await until(async () => (await page.$$('[data-dead-letters] li')).length === 1, 'words filter what is loaded')
  expect(await textOf(page, '[data-dead-letters]')).toContain('lost & found')
  expect(await unnamed(page)).toEqual([])

  const folder = mkdtempSync(join(tmpdir(), 'tally-export-'))
  try {
    const session = await page.createCDPSession()
    await session.send('Browser.setDownloadBehavior', { behavior: 'allow', downloadPath: folder, browserContextId: page.browserContext().id as string })
    await page.click('[data-export]')
    const saved = () => readdirSync(folder).find((name) => name.endsWith('.ndjson'))
    await until(() => Promise.resolve(saved() !== undefined), 'the file is there')
    const lines = readFileSync(join(folder, saved() ?? ''), 'utf8').trim().split('\n').map((line) => JSON.parse(line) as { payload: string; reason: string })
    expect(lines.length).toBe(2)
    expect(lines.some((line) => line.payload.includes('lost & found'))).toBe(true)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

test('the console shows all configured processes and reports which of them do not respond', async () => {
  const other = await here.another({ flags: ['--peers', `${here.tally.base},http://127.0.0.1:1`] })
  await send(here.tally.base, [{ event_id: 'elsewhere', type: 'share', actor_id: 'u1', subject_id: 'article:122' }])
  const page = await visitor()
  await page.goto(`${other.base}/console/#processes`)
  const text = () => textOf(page, '[data-processes]')
  await until(async () => (await text()).includes(here.tally.base), 'the other process is there')
  expect(await text()).toMatch(/http:\/\/127\.0\.0\.1:1\s*cannot be seen: .*refused/)
  await until(async () => (await text()).match(/counts: 17 tasks/g)?.length === 2, 'both count')
  await until(async () => (await textOf(page, '[data-coverage]')).includes('These processes run all tasks and sinks'), 'nothing is missing')
  // Errors of the other process are in the sum, though this one has none.
  await page.goto(`${other.base}/console/`)
  await until(async () => /^[1-9]/.test(await textOf(page, '[data-row=shares] td:last-child')), 'its errors are counted')
})
