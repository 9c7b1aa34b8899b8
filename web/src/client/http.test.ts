import { expect, test } from 'vitest'
import { Backoff } from './backoff'
import { Http, TallyError, path } from './http'
import { Tally } from './index'

test('an error says what the server says, and whether to try again', async () => {
  const cases: [number, boolean, boolean][] = [
    [400, false, false],
    [404, false, true],
    [405, false, true],
    [408, true, false],
    [429, true, false],
    [503, true, false],
    [507, true, false],
  ]
  for (const [status, isPassing, isUnknownCall] of cases) {
    const answer = new Response(JSON.stringify({ detail: 'why' }), { status, headers: { 'retry-after': '3' } })
    const http = new Http('', () => undefined, async () => answer)
    const error = await http.json('/v1/x').catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ status, message: 'why', retryAfterMs: 3_000, isPassing, isUnknownCall })
    expect(error).toBeInstanceOf(TallyError)
  }
})

test('the credential goes with every request, and ids are encoded', async () => {
  const asked: [string, RequestInit | undefined][] = []
  const fetcher = async (url: unknown, init?: RequestInit) => {
    asked.push([String(url), init])
    return new Response('{}')
  }
  const tally = new Tally({ base: 'https://t.example/', actorId: 'u 1', credential: () => 'k', storage: null, fetch: fetcher as typeof fetch })
  await tally.setCollected('article:a/b', true)
  await tally.counters(['article:1', 'article:2'], { actorId: 'u1' })
  expect(asked[0]![0]).toBe('https://t.example/v1/subjects/article%3Aa%2Fb/collects/u%201')
  expect(asked[0]![1]).toMatchObject({ method: 'PUT', headers: { authorization: 'Bearer k' } })
  expect(asked[1]![0]).toBe('https://t.example/v1/counters?subject_id=article%3A1&subject_id=article%3A2&actor_id=u1')
  expect(path('/v1/x', { a: undefined })).toBe('/v1/x')
})

test('where the clock is wrong the server is believed, and later clicks have later times', async () => {
  const bodies: { occurred_at: number }[][] = []
  const ahead = Date.now() + 3_600_000
  const fetcher = async (_: unknown, init?: RequestInit) => {
    if (init?.body) bodies.push(JSON.parse(String(init.body)))
    const body = JSON.stringify({ accepted: 1, rejected: [], receipt: 'r' })
    return new Response(body, { headers: { date: new Date(ahead).toUTCString() } })
  }
  const tally = new Tally({ actorId: 'u1', storage: null, fetch: fetcher as typeof fetch })
  await tally.counters(['article:1'])
  await Promise.all([tally.like('article:1'), tally.unlike('article:1')])
  const [first, second] = bodies[0]!
  expect(Math.abs(first!.occurred_at - ahead)).toBeLessThan(5_000)
  expect(second!.occurred_at).toBeGreaterThan(first!.occurred_at)
})

test('waits grow, are drawn, and end at a ceiling', () => {
  const least = new Backoff({ firstMs: 1_000, maxMs: 8_000 }, () => 0)
  expect([1, 2, 3, 4, 5].map(() => least.next())).toEqual([500, 1_000, 2_000, 4_000, 4_000])
  least.reset()
  expect(least.next(30_000)).toBe(30_000)
  const most = new Backoff({ firstMs: 1_000, maxMs: 8_000 }, () => 1)
  expect([1, 2, 3, 4, 5].map(() => most.next())).toEqual([1_000, 2_000, 4_000, 8_000, 8_000])
})

test('a read of toggles contains the events accepted before, also after a reload', async () => {
  const items = new Map<string, string>()
  const storage = {
    get length() {
      return items.size
    },
    key: (index: number) => [...items.keys()][index] ?? null,
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, value: string) => void items.set(key, value),
    removeItem: (key: string) => void items.delete(key),
  }
  const asked: string[] = []
  let gone = false
  const fetcher = async (url: unknown, init?: RequestInit) => {
    if (!init?.body) asked.push(String(url))
    if (gone && String(url).includes('after=')) return new Response('{"detail":"gone"}', { status: 410 })
    return new Response(JSON.stringify({ accepted: 1, rejected: [], receipt: 'r7' }))
  }
  const page = () => new Tally({ actorId: 'u1', storage, fetch: fetcher as typeof fetch })
  await page().like('article:1')
  const later = page()
  await later.counters(['article:1'], { actorId: 'u1' })
  await later.counters(['article:1'])
  gone = true
  await later.counters(['article:1'], { actorId: 'u1' })
  await later.counters(['article:1'], { actorId: 'u1' })
  const counters = '/v1/counters?subject_id=article%3A1'
  const mine = `${counters}&actor_id=u1`
  expect(asked).toEqual([`${mine}&after=r7`, counters, `${mine}&after=r7`, mine, mine])
})

test('a refusal is reported, unless the credential has changed meanwhile', async () => {
  let credential = 'old'
  const refused: [number, string, string][] = []
  const statuses = [401, 403, 404, 401]
  const fetcher = async () => {
    if (statuses.length === 1) credential = 'new'
    return new Response('{}', { status: statuses.shift() ?? 500 })
  }
  const onRefused = (error: TallyError, call: { method: string; path: string }) => refused.push([error.status, call.method, call.path])
  const tally = new Tally({ credential: () => credential, storage: null, fetch: fetcher as typeof fetch, onRefused })
  await tally.rankings().catch(() => undefined)
  await tally.setCollected('a:1', true).catch(() => undefined)
  await tally.rankings().catch(() => undefined)
  await tally.rankings().catch(() => undefined)
  expect(refused).toEqual([[401, 'GET', '/v1/rankings'], [403, 'PUT', '/v1/subjects/a%3A1/collects/']])
})
