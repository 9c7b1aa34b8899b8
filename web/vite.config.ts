import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vitest/config'

// Two pages, the article at / and the operator's console at /console/, from one build. Names of assets have a hash of
// what is in them, so that the server lets browsers keep them.
export default defineConfig({
  plugins: [vue()],
  build: {
    target: 'es2022',
    // A page of its own loads everything from files: the server's policy forbids what stands in the HTML.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: ['index.html', 'console/index.html'], checks: { pluginTimings: false } },
  },
  server: {
    // `npm run dev` beside a running tally.
    proxy: Object.fromEntries(
      ['/v1', '/metrics', '/readyz', '/openapi.json'].map((path) => [path, 'http://127.0.0.1:8080']),
    ),
  },
  test: { include: ['src/**/*.test.ts'] },
})
