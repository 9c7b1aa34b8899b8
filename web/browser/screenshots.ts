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
  { name: 'console-dead-letters', path: '/console/#dead-letters' },
]

test('pictures', async () => {
  mkdirSync(PICTURES, { recursive: true })
  const running = await startTally(150)
  const browser = await startChromium()
  try {
    for (const number of [1, 2, 3]) {
      const event = { event_id: `lost-${number}`, type: 'share', actor_id: `u${number}`, subject_id: `article:${number}` }
      const body = JSON.stringify({ ...event, properties: { source: 'mail' } })
      await fetch(`${running.base}/v1/events`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    }
    await new Promise((done) => setTimeout(done, 8_000))
    for (const theme of ['light', 'dark']) {
      for (const form of FORMS) {
        const context = await browser.createBrowserContext()
        const page = await context.newPage()
        await page.setViewport(form)
        await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: theme }])
        for (const view of VIEWS) {
          await page.goto(running.base + view.path)
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
  }
})
