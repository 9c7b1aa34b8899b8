import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Backoff } from './backoff'
import { Http } from './http'
import { EventQueue, type QueuedEvent, type Storage } from './queue'
import { Sender } from './sender'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

class MemoryStorage implements Storage {
  readonly items = new Map<string, string>()
  get length() {
    return this.items.size
  }
  key = (index: number) => [...this.items.keys()][index] ?? null
  getItem = (key: string) => this.items.get(key) ?? null
  setItem = (key: string, value: string) => void this.items.set(key, value)
  removeItem = (key: string) => void this.items.delete(key)
}

/** An ingest API that sends the given answers, and records the requests. */
class IngestServer {
  readonly requests: QueuedEvent[][] = []
  answers: (Response | 'away')[] = []
  fetch = async (_: unknown, init?: RequestInit): Promise<Response> => {
    const events = JSON.parse(String(init?.body)) as QueuedEvent[]
    this.requests.push(events)
    const answer = this.answers.shift()
    if (answer === 'away') throw new TypeError('Failed to fetch')
    return answer ?? json(202, { accepted: events.length, rejected: [], receipt: 'r1' })
  }
}

function json(status: number, body: unknown, headers: Record<string, string> = {}) {
  return new Response(JSON.stringify(body), { status, headers })
}

function event(event_id: string, occurred_at = 1): QueuedEvent {
  return { event_id, type: 'like', subject_id: 'article:7', actor_id: 'u1', occurred_at }
}

let online = true

function sender(server: IngestServer, storage: Storage = new MemoryStorage(), batchMax = 100) {
  online = true
  const http = new Http('', () => undefined, server.fetch as typeof fetch)
  const backoff = new Backoff({ firstMs: 1_000, maxMs: 60_000 }, () => 1)
  return new Sender(http, new EventQueue(storage), { lingerMs: 20, batchMax, backoff, isOnline: () => online })
}

test('events that come together go in one request, in the order of their times', async () => {
  const server = new IngestServer()
  const storage = new MemoryStorage()
  const sending = sender(server, storage)
  const outcomes = Promise.all([sending.send(event('b', 2)), sending.send(event('a', 1))])
  expect(storage.length).toBe(2)
  await vi.advanceTimersByTimeAsync(20)
  expect(await outcomes).toEqual([1, 2].map(() => ({ state: 'accepted', receipt: 'r1' })))
  expect(server.requests.map((request) => request.map((one) => one.event_id))).toEqual([['a', 'b']])
  expect(storage.length).toBe(0)
})

test('events without an answer are sent again, with the same id and time', async () => {
  const server = new IngestServer()
  server.answers = ['away', json(503, {}), json(429, {}, { 'retry-after': '7' })]
  const sending = sender(server)
  const outcome = sending.send(event('a', 42))
  await vi.advanceTimersByTimeAsync(20)
  expect(server.requests.length).toBe(1)
  // A click in between does not end the wait.
  void sending.send(event('b', 43))
  await vi.advanceTimersByTimeAsync(900)
  expect(server.requests.length).toBe(1)
  await vi.advanceTimersByTimeAsync(100)
  expect(server.requests.length).toBe(2)
  await vi.advanceTimersByTimeAsync(2_000)
  expect(server.requests.length).toBe(3)
  // The server has asked for 7 s, the back-off would be 4.
  await vi.advanceTimersByTimeAsync(6_900)
  expect(server.requests.length).toBe(3)
  await vi.advanceTimersByTimeAsync(100)
  expect(await outcome).toEqual({ state: 'accepted', receipt: 'r1' })
  for (const request of server.requests) expect(request[0]).toEqual(event('a', 42))
})

test('without a network nothing is tried, and another page takes over what is left', async () => {
  const server = new IngestServer()
  const storage = new MemoryStorage()
  const first = sender(server, storage)
  online = false
  void first.send(event('a', 42))
  await vi.advanceTimersByTimeAsync(60_000)
  expect(server.requests.length).toBe(0)
  first.close()

  const second = sender(server, storage)
  const settled = vi.fn()
  second.onSettled(settled)
  expect(second.queued()).toEqual([event('a', 42)])
  await vi.advanceTimersByTimeAsync(0)
  expect(server.requests).toEqual([[event('a', 42)]])
  expect(settled).toHaveBeenCalledWith(event('a', 42), { state: 'accepted', receipt: 'r1' })
  expect(storage.length).toBe(0)
})

test('a refused event is told with its reason, and the others are taken', async () => {
  const server = new IngestServer()
  const rejected = [{ index: 0, event_id: 'a', error: 'no such type' }]
  server.answers = [json(202, { accepted: 1, rejected, receipt: 'r9' }), json(422, { detail: 'none', rejected })]
  const sending = sender(server)
  const both = Promise.all([sending.send(event('a', 1)), sending.send(event('b', 2))])
  await vi.advanceTimersByTimeAsync(20)
  expect(await both).toEqual([
    { state: 'refused', reason: 'no such type', status: 422 },
    { state: 'accepted', receipt: 'r9' },
  ])
  const alone = sending.send(event('c', 3))
  await vi.advanceTimersByTimeAsync(20)
  expect(await alone).toEqual({ state: 'refused', reason: 'no such type', status: 422 })
  expect(sending.queued()).toEqual([])
})

test('what is over a limit stays queued and goes again when the ingest API has room', async () => {
  const server = new IngestServer()
  const over = { index: 1, event_id: 'b', error: 'is over a limit', retry_after: 7 }
  const wrong = { index: 0, event_id: 'a', error: 'no such type' }
  server.answers = [
    json(202, { accepted: 1, rejected: [wrong, over], receipt: 'r1' }),
    json(429, { detail: 'none', rejected: [{ ...over, index: 0 }, { ...wrong, index: 1 }] }, { 'retry-after': '9' }),
  ]
  const storage = new MemoryStorage()
  const sending = sender(server, storage)
  const [a, b, c] = [sending.send(event('a', 1)), sending.send(event('b', 2)), sending.send(event('c', 3))]
  await vi.advanceTimersByTimeAsync(20)
  expect(await a).toEqual({ state: 'refused', reason: 'no such type', status: 422 })
  expect(await c).toEqual({ state: 'accepted', receipt: 'r1' })
  expect(sending.queued()).toEqual([event('b', 2)])
  const d = sending.send(event('d', 4))
  await vi.advanceTimersByTimeAsync(6_900)
  expect(server.requests.length).toBe(1)
  await vi.advanceTimersByTimeAsync(100)
  // Even if no event was accepted, invalid events are reported and those above a limit wait.
  expect(await d).toEqual({ state: 'refused', reason: 'no such type', status: 422 })
  expect([...storage.items.keys()]).toEqual(['tally:event:b'])
  await vi.advanceTimersByTimeAsync(8_900)
  expect(server.requests.length).toBe(2)
  await vi.advanceTimersByTimeAsync(100)
  expect(await b).toEqual({ state: 'accepted', receipt: 'r1' })
  expect(server.requests[2]).toEqual([event('b', 2)])
})

test('a batch that is refused as a whole is taken apart', async () => {
  const server = new IngestServer()
  server.answers = [json(400, { detail: 'broken' }), json(400, { detail: 'this one' })]
  const sending = sender(server)
  const both = Promise.all([sending.send(event('a', 1)), sending.send(event('b', 2))])
  await vi.advanceTimersByTimeAsync(20)
  expect(await both).toEqual([
    { state: 'refused', reason: 'this one', status: 400 },
    { state: 'accepted', receipt: 'r1' },
  ])
})

test('a page that goes hands what is not under way to the browser, and keeps it', async () => {
  const server = new IngestServer()
  const storage = new MemoryStorage()
  const sending = sender(server, storage)
  void sending.send(event('a', 1))
  const beacons: Blob[] = []
  sending.leave((url, body) => {
    expect(url).toBe('/v1/events')
    return beacons.push(body) > 0
  })
  expect(beacons.length).toBe(1)
  expect(JSON.parse(await beacons[0]!.text())).toEqual([event('a', 1)])
  expect(beacons[0]!.type).toBe('application/json')
  expect(storage.length).toBe(1)
})

test('batches have a most, and a full queue takes nothing more', async () => {
  const server = new IngestServer()
  const storage = new MemoryStorage()
  storage.setItem('tally:event:broken', '{')
  storage.setItem('other', 'kept')
  const sending = sender(server, storage, 2)
  for (let number = 0; number < 5; number++) void sending.send(event(`e${number}`, number))
  await vi.advanceTimersByTimeAsync(20)
  expect(server.requests.map((request) => request.length)).toEqual([2, 2, 1])
  expect([...storage.items.keys()]).toEqual(['other'])

  const queue = new EventQueue(undefined, 1)
  expect([queue.add(event('a')), queue.add(event('b'))]).toEqual([true, false])
})
