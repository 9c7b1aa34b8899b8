import { expect, test } from 'vitest'
import { actorOfToken } from './identity'

const token = (claims: string) => `e30.${btoa(String.fromCharCode(...new TextEncoder().encode(claims)))}.c2ln`

test('a token names its actor, and a key names none', () => {
  expect(actorOfToken(token('{"sub":"用户 7?>"}'))).toBe('用户 7?>')
  for (const other of ['', 'tally_abc', 'a.b', 'a.!.c', token('[]'), token('{"sub":7}'), token('{"sub":""}'), token('null')]) {
    expect(actorOfToken(other), other).toBeUndefined()
  }
})
