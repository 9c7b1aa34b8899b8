// Whether a subject exists. Opening the page of a subject that does not exist must not create it.

import { onScopeDispose, type Ref, ref, watch } from 'vue'
import { type Tally, TallyError } from '../client'
import { articleOf } from './articles'

export type Standing =
  /** It has a text here, or something of it was counted. */
  | { state: 'known' }
  | { state: 'asking'; trouble: string }
  | { state: 'unknown'; reason: string }

const AGAIN_MS = 2_000

/** Queries the server about subjects without a text. `again` changes when the answer may have changed. */
export function standingOf(tally: Tally, subject: Ref<string>, again: Ref<unknown>): Ref<Standing> {
  const standing = ref<Standing>({ state: 'asking', trouble: '' })
  let timer: ReturnType<typeof setTimeout> | undefined
  let turn = 0

  async function ask() {
    clearTimeout(timer)
    const mine = ++turn
    const id = subject.value
    if (articleOf(id)) {
      standing.value = { state: 'known' }
      return
    }
    try {
      const item = (await tally.counters([id])).items[0]
      if (mine !== turn) return
      const isCounted = Object.values(item?.counters ?? {}).some((value) => value !== 0 && value !== null)
      standing.value = isCounted ? { state: 'known' } : { state: 'unknown', reason: 'No event was ever counted for it, and this page has no text for it.' }
    } catch (error) {
      if (mine !== turn) return
      const message = error instanceof Error ? error.message : String(error)
      if (error instanceof TallyError && error.status === 400) {
        standing.value = { state: 'unknown', reason: message }
        return
      }
      standing.value = { state: 'asking', trouble: message }
      // After a refusal the user signs in, which repeats the query.
      if (!(error instanceof TallyError && error.isRefusal)) timer = setTimeout(ask, AGAIN_MS)
    }
  }
  watch([subject, again], ask, { immediate: true })
  onScopeDispose(() => {
    turn += 1
    clearTimeout(timer)
  })
  return standing
}
