// A client of tally for web pages: one file of calls over a queue that outlives the page. docs/web.md shows its use.

import type {
  ActorsAnswer,
  CollectAnswer,
  CountersAnswer,
  DeadLetterReasonsAnswer,
  DeadLettersAnswer,
  HistoryAnswer,
  LiveCounters,
  NotCounted,
  ProcessesAnswer,
  ProgressAnswer,
  RankingAnswer,
  RankingsAnswer,
  ReceiptAnswer,
  SeriesAnswer,
  SubjectsAnswer,
  TopologyAnswer,
} from './answers'
import { Backoff } from './backoff'
import { Http, type RefusedListener, TallyError, path } from './http'
import { type LiveOptions, type LiveSource, follow } from './live'
import { EventQueue, LastReceipt, type QueuedEvent, type Storage } from './queue'
import { type Outcome, Sender, type SettledListener } from './sender'
import { type Visibility, afterVisible } from './visible'

export type * from './answers'
export { TallyError } from './http'
export type { LiveState } from './live'
export type { QueuedEvent } from './queue'
export type { Outcome } from './sender'

/** How long a page must be visible to count as a read. */
export const READ_MS = 5_000

export interface TallyOptions {
  /** Where tally is; by default where the page came from. */
  base?: string
  /** The actor. Views and reads need none. */
  actorId?: string
  /** An API key or a JWT; called for every request. */
  credential?: () => string | null | undefined
  /** Called when the server answers 401 or 403: a credential is missing or not valid. */
  onRefused?: RefusedListener
  /** Where unsent events are kept; `localStorage` by default, nothing with `null`. */
  storage?: Storage | null
  fetch?: typeof fetch
  EventSource?: typeof EventSource
}

/** What is sent; id and time are added. */
export type EventInput = Omit<QueuedEvent, 'event_id' | 'occurred_at'> & { event_id?: string; occurred_at?: number }

/** What became of an event that the ingest API has accepted. */
export type Fate =
  | { state: 'counted' }
  | { state: 'held' }
  | { state: 'not-counted'; why: NotCounted }
  /** It is durable in the log; its outcome is not known yet. */
  | { state: 'unknown' }

export interface ReadOptions {
  limit?: number
  cursor?: string
  actorId?: string
  after?: string
  waitMs?: number
}

const POLL_MS = 2_000
const STREAM_AGAIN_MS = 60_000

export class Tally {
  actorId: string | undefined
  private readonly http: Http
  private readonly sender: Sender
  private readonly eventSource: typeof EventSource | undefined
  private readonly credential: () => string | null | undefined
  private readonly lastReceipt: LastReceipt
  private lastTime = 0
  private readonly ends: (() => void)[] = []

  constructor(options: TallyOptions = {}) {
    this.actorId = options.actorId
    this.credential = options.credential ?? (() => undefined)
    this.eventSource = options.EventSource ?? globalThis.EventSource
    const fetcher = options.fetch ?? globalThis.fetch.bind(globalThis)
    this.http = new Http(options.base ?? '', this.credential, fetcher, options.onRefused)
    const storage = options.storage === null ? undefined : (options.storage ?? localStorageIfAny())
    this.sender = new Sender(this.http, new EventQueue(storage), {
      lingerMs: 20,
      batchMax: 100,
      backoff: new Backoff(),
      isOnline: () => globalThis.navigator?.onLine !== false,
    })
    this.lastReceipt = new LastReceipt(storage)
    this.sender.onSettled((_, outcome) => {
      if (outcome.state === 'accepted') this.lastReceipt.set(outcome.receipt)
    })
    if (typeof window !== 'undefined') this.watchPage()
  }

  // --- events ---

  /** Keeps an event, and sends it until the ingest API has answered; the outcome stays pending while the network is down. */
  send(event: EventInput): Promise<Outcome> {
    // Later clicks have later times, whatever the clock does: the latest time wins.
    this.lastTime = Math.max(this.lastTime + 1, Date.now() + this.http.skewMs)
    const { event_id = randomId(), occurred_at = this.lastTime, actor_id = this.actorId, ...rest } = event
    return this.sender.send({ event_id, occurred_at, ...(actor_id ? { actor_id } : {}), ...rest })
  }

  like(subject_id: string) {
    return this.send({ type: 'like', subject_id })
  }

  unlike(subject_id: string) {
    return this.send({ type: 'unlike', subject_id })
  }

  view(subject_id: string) {
    return this.send({ type: 'view', subject_id })
  }

  /**
   * Reports a read once the page was visible for 5 s, with the token that the server signs where it has that. Call it
   * when the page opens. Returns a function that ends it; `onRead` is called once the read was reported.
   */
  reportRead(subject_id: string, onRead?: (visibleMs: number) => void): () => void {
    let ended = false
    let end = () => {
      ended = true
    }
    void this.readToken(subject_id).then((token) => {
      if (ended) return
      // Only from here on: the server counts from when it signed.
      end = afterVisible(this.page, READ_MS, (duration_ms) => {
        const properties = token === undefined ? undefined : { read_token: token }
        void this.send({ type: 'read', subject_id, duration_ms, ...(properties ? { properties } : {}) })
        onRead?.(duration_ms)
      })
    })
    return () => end()
  }

  /** Calls once the page can be seen: what was opened in the background is no view yet. */
  onVisible(call: () => void): () => void {
    return afterVisible(this.page, 0, call)
  }

  private async readToken(subject_id: string): Promise<string | undefined> {
    const body = { subject_id, ...(this.actorId ? { actor_id: this.actorId } : {}) }
    try {
      return (await this.http.json<{ token: string }>('/v1/read-tokens', { method: 'POST', body, timeoutMs: 5_000 })).token
    } catch {
      // The server has no such route, or does not respond: it decides itself whether a read without a token counts.
      return undefined
    }
  }

  /** The outcome of an event that the ingest API has accepted. Polls for some seconds. */
  async fate(event_id: string, receipt: string): Promise<Fate> {
    for (const waitMs of [0, 150, 400, 1_000, 2_000, 4_000]) {
      await new Promise((resolve) => setTimeout(resolve, waitMs))
      try {
        const answer = await this.receipt(receipt)
        if (answer.held.includes(event_id)) return { state: 'held' }
        const why = answer.not_counted?.find((one) => one.event_id === event_id)
        // Sent twice, counted once: that is what the sender wants.
        if (why && why.verdict !== 'duplicate') return { state: 'not-counted', why }
        if (answer.state === 'applied') return { state: 'counted' }
      } catch (error) {
        if (error instanceof TallyError && !error.isPassing) break
      }
    }
    return { state: 'unknown' }
  }

  /** Events without an answer yet, oldest first. */
  queued(): QueuedEvent[] {
    return this.sender.queued()
  }

  /** Called whenever the queue changes. Returns what ends it, as the others do. */
  onQueueChange(listener: () => void): () => void {
    return this.sender.onChange(listener)
  }

  /** Called for every event that was taken or refused, also for those that a page before this one has left. */
  onSettled(listener: SettledListener): () => void {
    return this.sender.onSettled(listener)
  }

  /** Sends what waits now. */
  retry() {
    this.sender.retry()
  }

  // --- collect: not by events; the answer is the truth ---

  setCollected(subject_id: string, active: boolean): Promise<CollectAnswer> {
    const actor = encodeURIComponent(this.actorId ?? '')
    const method = active ? 'PUT' : 'DELETE'
    return this.http.json(`/v1/subjects/${encodeURIComponent(subject_id)}/collects/${actor}`, { method })
  }

  // --- reads ---

  /** With `actorId` also what that actor has switched on: then the answer waits for what was last accepted from here. */
  async counters(subject_ids: string[], options: ReadOptions = {}): Promise<CountersAnswer> {
    const ask = (asked: ReadOptions) =>
      this.http.json<CountersAnswer>(path('/v1/counters', { subject_id: subject_ids, ...query(asked) }))
    const own = options.actorId && !options.after ? this.lastReceipt.get() : undefined
    if (own === undefined) return ask(options)
    try {
      return await ask({ ...options, after: own })
    } catch (error) {
      // A receipt of a log that was replaced.
      if (!(error instanceof TallyError) || error.isPassing) throw error
      this.lastReceipt.set(undefined)
      return ask(options)
    }
  }

  /** The values in windows like `1h` or `session:30m`: since a time in milliseconds, or the last 30. */
  series(subject_id: string, window: string, from?: number): Promise<SeriesAnswer> {
    return this.http.json(path(`/v1/subjects/${encodeURIComponent(subject_id)}/counters`, { window, from }))
  }

  actors(subject_id: string, metric: string, options: ReadOptions = {}): Promise<ActorsAnswer> {
    const of = `/v1/subjects/${encodeURIComponent(subject_id)}/${encodeURIComponent(metric)}/actors`
    return this.http.json(path(of, query(options)))
  }

  subjects(actor_id: string, metric: string, options: ReadOptions = {}): Promise<SubjectsAnswer> {
    const of = `/v1/actors/${encodeURIComponent(actor_id)}/${encodeURIComponent(metric)}/subjects`
    return this.http.json(path(of, query(options)))
  }

  rankings(): Promise<RankingsAnswer> {
    return this.http.json('/v1/rankings')
  }

  ranking(board: string, options: ReadOptions = {}): Promise<RankingAnswer> {
    return this.http.json(path(`/v1/rankings/${encodeURIComponent(board)}`, query(options)))
  }

  receipt(receipt: string): Promise<ReceiptAnswer> {
    return this.http.json(`/v1/receipts/${encodeURIComponent(receipt)}`)
  }

  // --- for operators ---

  progress(): Promise<ProgressAnswer> {
    return this.http.json('/v1/progress')
  }

  topology(): Promise<TopologyAnswer> {
    return this.http.json('/v1/topology')
  }

  history(): Promise<HistoryAnswer> {
    return this.http.json('/v1/progress/history')
  }

  /** This process and its configured peers, with their metrics. */
  processes(): Promise<ProcessesAnswer> {
    return this.http.json('/v1/processes')
  }

  deadLetters(options: ReadOptions & { reason?: string; node?: string; payloadBytesMax?: number } = {}): Promise<DeadLettersAnswer> {
    const { reason, node, payloadBytesMax } = options
    return this.http.json(path('/v1/dead-letters', { ...query(options), reason, node, payload_bytes_max: payloadBytesMax }))
  }

  deadLetterReasons(): Promise<DeadLetterReasonsAnswer> {
    return this.http.json('/v1/dead-letters/reasons')
  }

  // --- live ---

  /** The counters of up to 100 subjects whenever they change. Returns what ends it. */
  watchCounters(subject_ids: string[], options: LiveOptions<LiveCounters>): () => void {
    return this.follow(
      {
        url: () => this.liveUrl({ subject_id: subject_ids }),
        event: 'counters',
        poll: async () => {
          const answer = await this.counters(subject_ids)
          return answer.items.map((item) => ({ ...item, as_of: answer.as_of }))
        },
      },
      options,
    )
  }

  /** A board whenever it changes. Returns what ends it. */
  watchBoard(board: string, options: LiveOptions<RankingAnswer>): () => void {
    return this.follow(
      {
        url: () => this.liveUrl({ board }),
        event: 'ranking',
        poll: async () => [await this.ranking(board)],
      },
      options,
    )
  }

  /** Ends everything that runs. What is queued stays in the storage. */
  close() {
    for (const end of this.ends.splice(0)) end()
    this.sender.close()
  }

  private follow<T>(source: LiveSource<T>, options: LiveOptions<T>): () => void {
    const end = follow(source, options, {
      page: this.page,
      EventSource: this.eventSource,
      pollMs: POLL_MS,
      streamAgainMs: STREAM_AGAIN_MS,
    })
    this.ends.push(end)
    return end
  }

  private liveUrl(parameters: Record<string, string | string[]>): string {
    // A stream of the browser cannot send headers.
    const access_token = this.credential() || undefined
    return this.http.base + path('/v1/live', { ...parameters, access_token })
  }

  private get page(): Visibility {
    return typeof document === 'undefined' ? alwaysVisible : document
  }

  private watchPage() {
    const online = () => this.sender.retry()
    const leave = () => this.sender.leave((url, body) => navigator.sendBeacon(url, body))
    const shown = () => {
      if (document.visibilityState === 'visible') this.sender.retry()
    }
    window.addEventListener('online', online)
    window.addEventListener('pagehide', leave)
    document.addEventListener('visibilitychange', shown)
    this.ends.push(() => {
      window.removeEventListener('online', online)
      window.removeEventListener('pagehide', leave)
      document.removeEventListener('visibilitychange', shown)
    })
  }
}

const alwaysVisible: Visibility = {
  visibilityState: 'visible',
  addEventListener: () => undefined,
  removeEventListener: () => undefined,
}

function query(options: ReadOptions) {
  const { limit, cursor, actorId, after, waitMs } = options
  return { limit, cursor, actor_id: actorId, after, wait_ms: waitMs }
}

function localStorageIfAny(): Storage | undefined {
  try {
    return globalThis.localStorage
  } catch {
    // Forbidden.
    return undefined
  }
}

/** 128 random bits. `randomUUID` exists on secure pages only. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
