// What every file of browser tests has: a tally, a Chromium, and visitors with nothing in their storage.

import type { Browser, BrowserContext, Page } from 'puppeteer-core'
import { afterAll, afterEach, beforeAll, expect } from 'vitest'
import { startChromium } from './chromium'
import { type Running, type RunningOptions, startTally } from './tally'

export interface Scene {
  tally: Running
  browser: Browser
  contexts: BrowserContext[]
  /** A page in a browser that was never here. */
  visitor: () => Promise<Page>
  /** Collects what a page that was opened otherwise complains of. */
  watch: (page: Page) => void
  /** Another tally, for the rest of the file. */
  another: (options: RunningOptions) => Promise<Running>
}

/** Starts before the tests of a file and ends after them. What is in it is there once they run. */
export function scene(options: RunningOptions = {}): Scene {
  const contexts: BrowserContext[] = []
  const others: Running[] = []
  /** Messages that fail a test: script errors, and violations of the server's content security policy. */
  const complaints: string[] = []
  const watch = (page: Page) => {
    page.on('pageerror', (error) => complaints.push(String(error)))
    page.on('console', (message) => {
      if (message.text().includes('Content Security Policy')) complaints.push(message.text())
    })
  }
  const made = {
    contexts,
    watch,
    visitor: async () => {
      const context = await made.browser.createBrowserContext()
      contexts.push(context)
      const page = await context.newPage()
      page.setDefaultTimeout(120_000)
      watch(page)
      return page
    },
    another: async (options: RunningOptions) => {
      const running = await startTally(options)
      others.push(running)
      return running
    },
  } as unknown as Scene
  beforeAll(async () => {
    ;[made.tally, made.browser] = await Promise.all([startTally(options), startChromium()])
  })
  afterEach(async () => {
    for (const context of contexts.splice(0)) await context.close()
    expect(complaints.splice(0)).toEqual([])
  })
  afterAll(async () => {
    await made.browser?.close()
    for (const one of [made.tally, ...others]) await one?.stop()
  })
  return made
}

/** The text of an element; empty where there is none. */
export const textOf = (page: Page, selector: string): Promise<string> =>
  page.evaluate((wanted) => document.querySelector(wanted)?.textContent ?? '', selector)

/** Sends events as services do; their receipt. */
export async function send(base: string, events: Record<string, unknown>[]): Promise<string> {
  const headers = { 'content-type': 'application/json' }
  const answer = await fetch(`${base}/v1/events`, { method: 'POST', headers, body: JSON.stringify(events) })
  if (answer.status !== 202) throw new Error(`${answer.status}: ${await answer.text()}`)
  return ((await answer.json()) as { receipt: string }).receipt
}

/** Controls without an accessible name. */
export async function unnamed(page: Page): Promise<string[]> {
  const found: string[] = []
  for (const control of await page.$$('button, a[href], input, select, summary, [role=button], [role=img], [role=region]')) {
    const node = await control.evaluate((element) => ({
      isHidden: !element.checkVisibility(),
      html: element.outerHTML.slice(0, 120),
    }))
    if (node.isHidden) continue
    const snapshot = await page.accessibility.snapshot({ root: control, interestingOnly: false })
    if (!snapshot?.name) found.push(node.html)
  }
  return found
}
