// A Chromium that is installed; none is fetched.

import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import puppeteer, { type Browser } from 'puppeteer-core'

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']

function installed(): string {
  const named = process.env['TALLY_CHROMIUM']
  if (named) return named
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    for (const name of NAMES) {
      try {
        accessSync(join(folder, name), constants.X_OK)
        return join(folder, name)
      } catch {
        // Not here.
      }
    }
  }
  throw new Error('no Chromium: install the package `chromium`, or name one in TALLY_CHROMIUM')
}

export function startChromium(): Promise<Browser> {
  // Chromium's sandbox refuses to work for root, which continuous integration often is.
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : []
  return puppeteer.launch({
    executablePath: installed(),
    headless: true,
    args: [...args, '--disable-dev-shm-usage', '--hide-scrollbars', '--force-color-profile=srgb'],
    defaultViewport: { width: 1280, height: 860 },
  })
}
