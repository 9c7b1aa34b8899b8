import { defineConfig } from 'vitest/config'

// One browser, one tally, one test after the other: they share two cores. Time-outs are for what never comes.
export default defineConfig({
  root: import.meta.dirname,
  test: { include: ['*.browser.ts'], testTimeout: 600_000, hookTimeout: 300_000, fileParallelism: false },
})
