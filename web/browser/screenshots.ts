// Pictures of page and console in every form, for people to look at: `npm run screenshots`, in browser/pictures/.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'vitest'
import { startChromium } from './chromium'
import { startTally } from './tally'

const PICTURES = join(import.meta.dirname, 'pictures')
const FORMS = [
  { name: 'wide', width: 1360, height: 900, deviceScaleFactor: 1 },
  { name: 'phone', width: 390, height: 844, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
]
const VIEWS = [
  { name: 'page', path: '/subjects/article:2' },
  { name: 'console', path: '/console/' },
  { name: 'console-boards', path: '/console/#boards' },
  { name: 'console-subject', path: '/console/#look-up=article:1' },
  { name: 'console-actor', path: '/console/#look-up=actor=u1' },
  { name: 'console-dead-letters', path: '/console/#dead-letters' },
  { name: 'console-partitions', path: '/console/#partitions' },
  { name: 'console-processes', path: '/console/#processes' },
  { name: 'not-found', path: '/subjects/nonsense' },
]
/** A server that requires keys. */
const CLOSED_VIEWS = [
  { name: 'sign-in', path: '/' },
  { name: 'console-sign-in', path: '/console/' },
]

test('pictures', async () => {
  mkdirSync(PICTURES, { recursive: true })
  const running = await startTally({ demo: 150, flags: ['--peers', 'http://127.0.0.1:1'] })
  const closed = await startTally({ scopes: ['admin'] })
  const browser = await startChromium()
  try {
    for (const number of [1, 2, 3]) {
      const event = { event_id: `lost-${number}`, type: 'share', actor_id: `u${number}`, subject_id: `article:${number}` }
      const body = JSON.stringify({ ...event, properties: number < 3 ? { source: 'mail' } : { depth: 'deep' } })
      await fetch(`${running.base}/v1/events`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    }
    // Samples are taken every 10 s.
    await new Promise((done) => setTimeout(done, 35_000))
    for (const theme of ['light', 'dark']) {
      for (const form of FORMS) {
        const context = await browser.createBrowserContext()
        const page = await context.newPage()
        await page.setViewport(form)
        await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: theme }])
        for (const view of [...VIEWS, ...CLOSED_VIEWS]) {
          await page.goto((CLOSED_VIEWS.includes(view) ? closed : running).base + view.path)
          if (view.name === 'page') {
            await page.waitForFunction(() => /\d/.test(document.querySelector('[data-metric=likes]')?.textContent ?? ''))
            await page.click('[data-like]')
          }
          // The console compares two looks.
          await new Promise((done) => setTimeout(done, view.name === 'console' ? 9_000 : 1_500))
          const path = join(PICTURES, `${view.name}-${form.name}-${theme}.png`) as `${string}.png`
          await page.screenshot({ path, fullPage: form.name === 'phone' && view.name !== 'page' })
        }
        await context.close()
      }
    }
  } finally {
    await browser.close()
    await running.stop()
    await closed.stop()
  }
})
