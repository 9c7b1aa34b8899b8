import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type LiveState, follow } from './live'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

class Stream {
  static readonly CLOSED = 2
  static opened: Stream[] = []
  readyState = 0
  onopen: (() => void) | null = null
  onerror: (() => void) | null = null
  private heard = (_: { data: string }) => undefined as void
  readonly url: string
  constructor(url: string) {
    this.url = url
    Stream.opened.push(this)
  }
  addEventListener(_: string, listener: (event: { data: string }) => void) {
    this.heard = listener
  }
  close() {
    this.readyState = Stream.CLOSED
  }
  say(data: unknown) {
    this.heard({ data: JSON.stringify(data) })
  }
  fail(readyState: number) {
    this.readyState = readyState
    this.onerror?.()
  }
}

class Page {
  visibilityState = 'visible'
  listener = () => undefined as void
  addEventListener = (_: string, listener: () => void) => {
    this.listener = listener
  }
  removeEventListener = () => undefined
}

function watch(poll: () => Promise<number[]>, EventSourceClass: unknown = Stream) {
  Stream.opened = []
  const page = new Page()
  const states: LiveState[] = []
  const news: number[] = []
  const end = follow<number>(
    { url: () => '/v1/live', event: 'counters', poll },
    { onNews: (one) => news.push(one), onState: (state) => states.push(state) },
    { page, EventSource: EventSourceClass as typeof EventSource, pollMs: 2_000, streamAgainMs: 60_000 },
  )
  return { page, states, news, end }
}

test('a stream is followed, and one that breaks is left to come back', async () => {
  const poll = vi.fn(async () => [0])
  const { states, news, end } = watch(poll)
  Stream.opened[0]!.onopen?.()
  Stream.opened[0]!.say(1)
  Stream.opened[0]!.fail(0)
  Stream.opened[0]!.say(2)
  await vi.advanceTimersByTimeAsync(60_000)
  expect([states, news]).toEqual([['connecting', 'live', 'connecting', 'live'], [1, 2]])
  expect(poll).not.toHaveBeenCalled()
  end()
  expect(Stream.opened[0]!.readyState).toBe(Stream.CLOSED)
})

test('where there is no stream it is asked every so often, and the stream tried again later', async () => {
  let answer = 0
  const { states, news, end } = watch(async () => [++answer])
  Stream.opened[0]!.fail(Stream.CLOSED)
  await vi.advanceTimersByTimeAsync(4_000)
  expect([states, news]).toEqual([['connecting', 'polling'], [1, 2, 3]])
  await vi.advanceTimersByTimeAsync(58_000)
  expect(Stream.opened.length).toBe(2)
  Stream.opened[1]!.say(9)
  expect(states.at(-1)).toBe('live')
  end()
})

test('a server that is away is asked more and more rarely, and a browser without streams is served too', async () => {
  const poll = vi.fn(async () => Promise.reject(new Error('away')))
  const { states, end } = watch(poll, null)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(states).toEqual(['failing'])
  expect(poll.mock.calls.length).toBeGreaterThan(3)
  expect(poll.mock.calls.length).toBeLessThan(12)
  end()
})

test('a hidden page holds no stream and asks nothing', async () => {
  const poll = vi.fn(async () => [0])
  const { page, states, end } = watch(poll)
  page.visibilityState = 'hidden'
  page.listener()
  expect(Stream.opened[0]!.readyState).toBe(Stream.CLOSED)
  await vi.advanceTimersByTimeAsync(60_000)
  page.visibilityState = 'visible'
  page.listener()
  expect(Stream.opened.length).toBe(2)
  expect(states).toEqual(['connecting', 'paused', 'connecting'])
  expect(poll).not.toHaveBeenCalled()
  end()
})
