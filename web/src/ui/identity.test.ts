import { expect, test } from 'vitest'
import { actorOfToken } from './identity'

const token = (claims: string) => `e30.${btoa(String.fromCharCode(...new TextEncoder().encode(claims)))}.c2ln`

test('whoever shows a token is whom it names, and a key names nobody', () => {
  expect(actorOfToken(token('{"sub":"用户 7?>"}'))).toBe('用户 7?>')
  for (const other of ['', 'tally_abc', 'a.b', 'a.!.c', token('[]'), token('{"sub":7}'), token('{"sub":""}'), token('null')]) {
    expect(actorOfToken(other), other).toBeUndefined()
  }
})
