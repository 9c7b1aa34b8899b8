// Page and console of a server that requires keys.

import type { Page } from 'puppeteer-core'
import { expect, test } from 'vitest'
import { scene, textOf, unnamed } from './scene'
import { until } from './tally'

const READER = 'read,write'
const here = scene({ scopes: [READER, 'admin'] })
const { visitor } = here

async function signIn(page: Page, key: string) {
  await page.waitForSelector('[data-sign-in] input')
  await page.type('[data-sign-in] input', `${key}\n`)
}

test('the page asks to sign in, and a key is kept until the tab is closed', async () => {
  const page = await visitor()
  await page.goto(`${here.tally.base}/subjects/article:1`)
  await page.waitForSelector('[data-sign-in]')
  expect(await page.$('[data-like]')).toBeNull()
  expect(await page.$('[data-board]')).toBeNull()
  expect(await textOf(page, 'main')).not.toContain('no connection')
  expect(await unnamed(page)).toEqual([])
  await signIn(page, 'tally_wrongwrongwrong')
  await until(async () => (await textOf(page, '[data-sign-in]')).includes('Invalid key'), 'a wrong key is named as that')
  await signIn(page, here.tally.keys[READER] ?? '')
  const likes = () => textOf(page, '[data-metric=likes]')
  await until(async () => (await likes()) === '0', 'counters are shown')
  await page.click('[data-like]')
  const headers = { authorization: `Bearer ${here.tally.keys[READER] ?? ''}` }
  await until(async () => {
    const answer = await fetch(`${here.tally.base}/v1/counters?subject_id=article:1`, { headers })
    return ((await answer.json()) as { items: { counters: Record<string, number> }[] }).items[0]?.counters['likes'] === 1
  }, 'the like is counted')
  await page.reload()
  await until(async () => (await likes()) === '1', 'the key is still there')
  const other = await visitor()
  await other.goto(`${here.tally.base}/subjects/article:1`)
  await other.waitForSelector('[data-sign-in]')
})

test('a key that may only read shows everything and takes no likes', async () => {
  const page = await visitor()
  await page.goto(`${here.tally.base}/subjects/article:2`)
  await signIn(page, here.tally.keys['admin'] ?? '')
  await until(async () => (await textOf(page, '[data-hint]')).includes('`write`'), 'it says what is missing')
  expect(await page.$eval('[data-like]', (button) => (button as HTMLButtonElement).disabled)).toBe(true)
  expect(await textOf(page, '[data-metric=likes]')).toBe('0')
})

test('the console asks to sign in, shows no numbers until then, and says which scope it takes', async () => {
  const page = await visitor()
  await page.goto(`${here.tally.base}/console/`)
  await page.waitForSelector('[data-sign-in]')
  expect(await textOf(page, 'body')).not.toMatch(/Errors|Lag/)
  expect(await textOf(page, '[data-sign-in]')).toContain('admin')
  await signIn(page, here.tally.keys[READER] ?? '')
  await until(async () => (await textOf(page, '[data-sign-in]')).includes('lacks the scope admin'), 'a key with other scopes is named as that')
  await signIn(page, here.tally.keys['admin'] ?? '')
  await until(async () => /\d s/.test(await textOf(page, '[data-tile=lag] .number')), 'the console is shown')
  await page.reload()
  await until(async () => /\d s/.test(await textOf(page, '[data-tile=lag] .number')), 'and after a reload')
})

test('a console that asks other processes needs a key for them, and says so', async () => {
  const [without, withKey] = await Promise.all([
    here.another({ flags: ['--peers', here.tally.base] }),
    here.another({ flags: ['--peers', here.tally.base, '--peer-key', here.tally.keys['admin'] ?? ''] }),
  ])
  const page = await visitor()
  await page.goto(`${without.base}/console/#processes`)
  await until(async () => (await textOf(page, '[data-processes]')).includes('responds with 401: pass a key'), 'it says what is missing')
  await page.goto(`${withKey.base}/console/#processes`)
  await until(async () => (await textOf(page, '[data-processes]')).match(/counts: 17 tasks/g)?.length === 2, 'with a key it sees both')
})
