import { expect, test } from 'vitest'
import { guesses, hashOf, ofHash } from './look-up'

test('an address names what is looked up, and an id alone is enough', () => {
  expect(ofHash('#look-up=article:7')).toEqual({ kind: 'any', id: 'article:7' })
  for (const id of ['u42', 'a=b', 'actor=u1', '用户 1/2#?']) {
    expect(ofHash(hashOf({ kind: 'actor', id }))).toEqual({ kind: 'actor', id })
    expect(ofHash(`#look-up=${encodeURIComponent(id)}`)).toEqual({ kind: 'any', id })
  }
  for (const hash of ['', '#look-up', '#look-up=', '#boards', '#look-up=%zz']) expect(ofHash(hash), hash).toBeUndefined()
})

test('what an id stands for is told from its form', () => {
  expect(guesses('article:7')[0]).toBe('subject')
  expect(guesses('AQWPGEAmR2fTMhnG4I-QQyEwqo95Rqzg0gIDAAcCIk-yz2v53C8')).toEqual(['receipt', 'actor'])
  expect(guesses('u42')).toEqual(['actor'])
  expect(guesses('anon:3f2a')[0]).toBe('actor')
})
