import { defineConfig } from 'vitest/config'

export default defineConfig({
  root: import.meta.dirname,
  test: { include: ['screenshots.ts'], testTimeout: 400_000, hookTimeout: 120_000 },
})
