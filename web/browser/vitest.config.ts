import { defineConfig } from 'vitest/config'

// One browser, one tally, one test after the other: they share two cores.
export default defineConfig({
  root: import.meta.dirname,
  test: { include: ['page.browser.ts'], testTimeout: 90_000, hookTimeout: 120_000, fileParallelism: false },
})
