import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { afterVisible } from './visible'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

class Page {
  visibilityState = 'visible'
  listeners = new Set<() => void>()
  addEventListener = (_: string, listener: () => void) => void this.listeners.add(listener)
  removeEventListener = (_: string, listener: () => void) => void this.listeners.delete(listener)
  show(state: 'visible' | 'hidden') {
    this.visibilityState = state
    for (const listener of [...this.listeners]) listener()
  }
}

const now = () => Date.now()

test('only visible time counts, once', async () => {
  const page = new Page()
  const call = vi.fn()
  afterVisible(page, 5_000, call, now)
  await vi.advanceTimersByTimeAsync(3_000)
  page.show('hidden')
  await vi.advanceTimersByTimeAsync(60_000)
  expect(call).not.toHaveBeenCalled()
  page.show('visible')
  await vi.advanceTimersByTimeAsync(1_999)
  expect(call).not.toHaveBeenCalled()
  await vi.advanceTimersByTimeAsync(1)
  expect(call).toHaveBeenCalledWith(5_000)
  page.show('hidden')
  page.show('visible')
  await vi.advanceTimersByTimeAsync(60_000)
  expect(call).toHaveBeenCalledTimes(1)
  expect(page.listeners.size).toBe(0)
})

test('a page that was never seen is no read, and one that was left is none either', async () => {
  const hidden = new Page()
  hidden.visibilityState = 'hidden'
  const call = vi.fn()
  afterVisible(hidden, 5_000, call, now)
  const left = afterVisible(new Page(), 5_000, call, now)
  await vi.advanceTimersByTimeAsync(4_999)
  left()
  await vi.advanceTimersByTimeAsync(60_000)
  expect(call).not.toHaveBeenCalled()
})
