// Counters and buttons of one subject: the state of the server, with recent clicks on top.

import { type ComputedRef, computed, reactive, ref } from 'vue'
import { type Counters, type LiveState, type Outcome, type QueuedEvent, type Tally, TallyError, type Viewer } from '../client'
import { numeric } from '../ui/numbers'

/** What is shown of a button that is on or off and has a count. */
export interface Toggle {
  on: boolean
  count: number | undefined
}

export interface Interaction {
  counters: Counters
  /** Metrics that are estimates. */
  estimates: ComputedRef<Set<string>>
  like: ComputedRef<Toggle>
  /** Why no events are taken here; empty where they are. */
  closed: ComputedRef<string>
  collect: ComputedRef<Toggle & { state: 'ready' | 'busy' | 'unavailable' }>
  live: ComputedRef<LiveState>
  /** Clicks without an answer yet. */
  waiting: ComputedRef<number>
  /** Something that a person should know; empty where there is nothing. */
  hint: ComputedRef<string>
  /** Counts the likes given here, for the +1. */
  given: ComputedRef<number>
  toggleLike: () => void
  toggleCollect: () => Promise<void>
  refresh: () => Promise<void>
  stop: () => void
}

/** Until then the count that was shown at the click stands still: the stream may bring the click before its answer. */
const HOLD_MS = 3_000
const HINT_MS = 6_000
/** What an ingest API that is not there, or not for this key, answers. */
const CLOSED = [403, 404, 405]
/** By then the window of a rate rule that holds a like back is over. */
const HELD_SECONDS = 15

export function interact(tally: Tally, subject_id: string): Interaction {
  const counters = reactive<Counters>({})
  const viewer = reactive<Viewer>({})
  const estimates = ref<Set<string>>(new Set())
  const closed = ref('')
  const want = ref<boolean>()
  const heldCount = ref<number>()
  const live = ref<LiveState>('connecting')
  const waiting = ref(0)
  const hint = ref('')
  const given = ref(0)
  const collectBusy = ref(false)
  const collectMissing = ref(false)
  let asOf = ''
  let lastClick: string | undefined
  let holdTimer: ReturnType<typeof setTimeout> | undefined
  let hintTimer: ReturnType<typeof setTimeout> | undefined
  let stopped = false

  const isOn = computed(() => want.value ?? viewer['likes'] ?? false)
  const count = computed(() => {
    if (heldCount.value !== undefined) return heldCount.value
    const known = numeric(counters['likes'])
    if (known === undefined) return undefined
    return Math.max(0, known + Number(isOn.value) - Number(viewer['likes'] ?? false))
  })
  const hasCollects = computed(() => !collectMissing.value && (counters['likes'] === undefined || 'collects' in counters))

  function say(text: string) {
    hint.value = text
    clearTimeout(hintTimer)
    hintTimer = setTimeout(() => {
      hint.value = ''
    }, HINT_MS)
  }

  function take(news: { counters: Counters; approximate?: string[]; as_of: string }) {
    // Two ways to the same numbers: what is older comes too late.
    if (news.as_of < asOf) return
    asOf = news.as_of
    Object.assign(counters, news.counters)
    estimates.value = new Set(news.approximate ?? [])
  }

  /** Reads counters and viewer; whether they contain what the receipt covers. */
  async function read(after?: string): Promise<boolean> {
    const options = { actorId: tally.actorId, ...(after ? { after, waitMs: 2_000 } : {}) }
    const answer = await tally.counters([subject_id], options)
    const item = answer.items[0]
    if (stopped || !item) return false
    take({ ...item, as_of: answer.as_of })
    Object.assign(viewer, item.viewer ?? {})
    return answer.after !== 'pending'
  }

  function settleClick() {
    want.value = undefined
    heldCount.value = undefined
  }

  function isLike(event: QueuedEvent) {
    return event.subject_id === subject_id && event.actor_id === tally.actorId && ['like', 'unlike'].includes(event.type)
  }

  async function settled(event: QueuedEvent, outcome: Outcome) {
    // Also of a view: a process without an ingest API, and a key that may only read, are known before the first click.
    if (outcome.state === 'refused' && CLOSED.includes(outcome.status)) closed.value = outcome.reason
    if (!isLike(event)) return
    const isLast = () => !stopped && (lastClick === undefined || lastClick === event.event_id)
    if (outcome.state === 'refused') {
      if (!isLast()) return
      settleClick()
      say(`Your ${event.type} was not accepted: ${outcome.reason}`)
      return
    }
    const fate = tally.fate(event.event_id, outcome.receipt)
    for (let attempt = 0; attempt < 5 && isLast(); attempt++) {
      try {
        if (await read(outcome.receipt)) break
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 1_000))
      }
    }
    const became = await fate
    if (!isLast()) return
    if (became.state === 'held') {
      say('You click quickly: your last click will count in a moment.')
      for (let second = 0; second < HELD_SECONDS && isLast(); second++) {
        await new Promise((resolve) => setTimeout(resolve, 1_000))
        await read().catch(() => undefined)
        if (viewer['likes'] === (event.type === 'like')) break
      }
    } else if (became.state === 'not-counted') {
      say(`Your ${event.type} was not counted: ${explained(became.why.verdict, became.why.reason)}`)
    }
    if (isLast()) settleClick()
  }

  function toggleLike() {
    if (closed.value) return
    const on = !isOn.value
    const before = count.value
    want.value = on
    if (on) given.value += 1
    heldCount.value = before === undefined ? undefined : Math.max(0, before + (on ? 1 : -1))
    clearTimeout(holdTimer)
    holdTimer = setTimeout(() => {
      heldCount.value = undefined
    }, HOLD_MS)
    void (on ? tally.like(subject_id) : tally.unlike(subject_id))
    // The last click decides the shown state; earlier ones are only sent.
    lastClick = tally.queued().findLast(isLike)?.event_id
  }

  async function toggleCollect() {
    if (collectBusy.value || !hasCollects.value) return
    const on = !viewer['collects']
    collectBusy.value = true
    try {
      const answer = await tally.setCollected(subject_id, on)
      viewer['collects'] = answer.active
      counters['collects'] = answer.count
    } catch (error) {
      if (error instanceof TallyError && error.isUnknownCall) {
        collectMissing.value = true
        say('This server does not support collecting.')
      } else {
        say(`Not ${on ? 'collected' : 'changed'}: ${error instanceof Error ? error.message : String(error)}`)
      }
    } finally {
      collectBusy.value = false
    }
  }

  function countWaiting() {
    const queued = tally.queued()
    waiting.value = queued.filter((event) => event.type === 'like' || event.type === 'unlike').length
    const last = queued.findLast(isLike)
    // Also what a page before this one has left.
    if (last && want.value === undefined) want.value = last.type === 'like'
  }

  const ends = [
    tally.onQueueChange(countWaiting),
    tally.onSettled((event, outcome) => void settled(event, outcome)),
    tally.watchCounters([subject_id], {
      onNews: (news) => news.subject_id === subject_id && take(news),
      onState: (state) => {
        live.value = state
      },
    }),
    tally.onVisible(() => void tally.view(subject_id)),
    tally.reportRead(subject_id),
  ]
  /** Until the answer contains what was clicked before this page was loaded. */
  async function begin() {
    for (let attempt = 0; attempt < 5 && !stopped; attempt++) {
      if (await read().catch(() => false)) return
      await new Promise((resolve) => setTimeout(resolve, 500 * (attempt + 1)))
    }
  }
  countWaiting()
  void begin()

  return {
    counters,
    estimates: computed(() => estimates.value),
    closed: computed(() => closed.value),
    like: computed(() => ({ on: isOn.value, count: count.value })),
    collect: computed(() => ({
      on: viewer['collects'] ?? false,
      count: numeric(counters['collects']),
      state: collectBusy.value ? 'busy' : hasCollects.value ? 'ready' : 'unavailable',
    })),
    live: computed(() => live.value),
    waiting: computed(() => waiting.value),
    hint: computed(() => hint.value),
    given: computed(() => given.value),
    toggleLike,
    toggleCollect,
    refresh: () => read().then(() => undefined),
    stop: () => {
      stopped = true
      for (const end of ends) end()
    },
  }
}

function explained(verdict: string, reason: string): string {
  if (verdict === 'limited') return 'too many in a short time.'
  if (verdict === 'late') return 'it arrived more than a day late.'
  return reason
}
