import { expect, test } from 'vitest'
import type { DeadLetter, DeadLettersAnswer } from '../client'
import { EXPORT_MAX, exported } from './dead-letters'

const letter = (offset: number): DeadLetter => ({
  at: '2026-11-21T08:00:00.000Z', reason: 'not JSON', node: 'valid', topic: 'user-actions', partition: 0, offset, key: null, payload: 'a\nb', payload_bytes: 3,
})

test('an export has all pages of the group, a line each', async () => {
  const asked: unknown[] = []
  const deadLetters = (options: unknown): Promise<DeadLettersAnswer> => {
    asked.push(options)
    return Promise.resolve(asked.length < 3 ? { items: [letter(asked.length)], next: `after ${asked.length}` } : { items: [letter(3)] })
  }
  const counts: number[] = []
  const text = await exported({ deadLetters }, { reason: 'not JSON', node: 'valid' }, (count) => counts.push(count))
  expect(text.split('\n').map((line) => (line ? (JSON.parse(line) as DeadLetter).offset : line))).toEqual([1, 2, 3, ''])
  expect(counts).toEqual([1, 2, 3])
  expect(asked[1]).toEqual({ limit: 100, cursor: 'after 1', payloadBytesMax: 65_536, reason: 'not JSON', node: 'valid' })
})

test('an export ends', async () => {
  let pages = 0
  const deadLetters = () => Promise.resolve({ items: Array.from({ length: 100 }, () => letter((pages += 1))), next: 'more' })
  const text = await exported({ deadLetters }, undefined, () => undefined)
  expect(text.split('\n').length - 1).toBe(EXPORT_MAX)
})
