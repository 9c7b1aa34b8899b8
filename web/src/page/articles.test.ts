import { expect, test } from 'vitest'
import { articleOf, idBesideTitle, titleOf } from './articles'

test('a title that occurs more than once goes with its id', () => {
  const shown = Array.from({ length: 200 }, (_, index) => `article:${index + 1}`).map((id) => `${titleOf(id)} ${idBesideTitle(id) ?? ''}`)
  expect(new Set(shown).size).toBe(200)
  expect(idBesideTitle('article:1')).toBeUndefined()
})

test('what has no text has no made-up one', () => {
  for (const id of ['article:0', 'article:201', 'article:01', 'article:1x', 'article:', 'article', 'video:1', '']) {
    expect(articleOf(id), id).toBeUndefined()
    expect(titleOf(id)).toBe(id)
  }
})
