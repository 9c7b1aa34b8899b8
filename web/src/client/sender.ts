// Sends queued events in batches and retries until the server answers.

import type { EventsAnswer, RejectedEvent } from './answers'
import { Backoff } from './backoff'
import { type Http, TallyError } from './http'
import type { EventQueue, QueuedEvent } from './queue'

/** What the ingest API did with an event. */
export type Outcome = { state: 'accepted'; receipt: string } | { state: 'refused'; reason: string; status: number }

export type SettledListener = (event: QueuedEvent, outcome: Outcome) => void

export interface SenderOptions {
  /** How long an event waits for others. */
  lingerMs: number
  /** The most events of a request. */
  batchMax: number
  backoff: Backoff
  isOnline: () => boolean
}

/** A request that outlives its page may have 64 KiB, all of them together. */
const BODY_BYTES_MAX = 48 << 10

export class Sender {
  private readonly waiting = new Map<string, (outcome: Outcome) => void>()
  private readonly inFlight = new Set<string>()
  private readonly listeners = new Set<SettledListener>()
  private readonly changed = new Set<() => void>()
  private timer: ReturnType<typeof setTimeout> | undefined
  private timerAt = Number.POSITIVE_INFINITY
  private running = false
  private batchMax: number
  private readonly http: Http
  private readonly queue: EventQueue
  private readonly options: SenderOptions

  constructor(http: Http, queue: EventQueue, options: SenderOptions) {
    this.http = http
    this.queue = queue
    this.options = options
    this.batchMax = options.batchMax
    if (queue.size > 0) this.schedule(0)
  }

  /** Keeps an event and sends it soon. Resolves when the ingest API has taken or refused it, however long that takes. */
  send(event: QueuedEvent): Promise<Outcome> {
    if (!this.queue.add(event)) {
      return Promise.resolve({ state: 'refused', reason: 'Too many events are waiting to be sent.', status: 0 })
    }
    const outcome = new Promise<Outcome>((resolve) => this.waiting.set(event.event_id, resolve))
    this.tellChanged()
    this.schedule(this.options.lingerMs)
    return outcome
  }

  /** Tries now: something has changed, like the network being back. */
  retry() {
    this.options.backoff.reset()
    this.queue.adopt()
    this.tellChanged()
    this.schedule(0)
  }

  /** Events without an answer yet. */
  queued(): QueuedEvent[] {
    return this.queue.all()
  }

  /** Called whenever something came into the queue or left it. */
  onChange(listener: () => void): () => void {
    this.changed.add(listener)
    return () => this.changed.delete(listener)
  }

  /** Called for every event that the ingest API took or refused, also for those of a page before this one. */
  onSettled(listener: SettledListener): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** The page closes: the browser sends events that are not in flight. They stay queued, since no answer can arrive. */
  leave(beacon: (url: string, body: Blob) => boolean) {
    const events = this.batch()
    if (events.length === 0) return
    const credential = this.http.credential()
    if (credential) {
      // A beacon has no headers.
      void this.http.json('/v1/events', { method: 'POST', body: events, keepalive: true }).catch(() => undefined)
    } else {
      beacon(`${this.http.base}/v1/events`, new Blob([JSON.stringify(events)], { type: 'application/json' }))
    }
  }

  close() {
    clearTimeout(this.timer)
  }

  private schedule(inMs: number) {
    const at = Date.now() + inMs
    // The earlier time wins, but a click does not end a wait that a failing server asked for.
    if (this.timer !== undefined && this.timerAt <= at) return
    if (this.timer !== undefined && this.waitsForServer && inMs > 0) return
    clearTimeout(this.timer)
    this.timerAt = at
    this.timer = setTimeout(() => {
      this.timer = undefined
      this.waitsForServer = false
      void this.run()
    }, inMs)
  }

  private waitsForServer = false

  private async run() {
    if (this.running) return
    this.running = true
    try {
      for (;;) {
        const events = this.batch()
        // Without a network the event `online` calls.
        if (events.length === 0 || !this.options.isOnline()) return
        const waitMs = await this.post(events)
        if (waitMs > 0) {
          clearTimeout(this.timer)
          this.timer = undefined
          this.schedule(waitMs)
          this.waitsForServer = true
          return
        }
      }
    } finally {
      this.running = false
    }
  }

  /** The oldest events that are not under way. */
  private batch(): QueuedEvent[] {
    const events: QueuedEvent[] = []
    let bytes = 2
    for (const event of this.queue.all()) {
      if (this.inFlight.has(event.event_id)) continue
      // Characters may have up to three bytes.
      bytes += JSON.stringify(event).length * 3 + 1
      if (events.length > 0 && (events.length >= this.batchMax || bytes > BODY_BYTES_MAX)) break
      events.push(event)
    }
    return events
  }

  /** Sends a batch; how long to wait before the next. */
  private async post(events: QueuedEvent[]): Promise<number> {
    for (const event of events) this.inFlight.add(event.event_id)
    try {
      const answer = await this.http.json<EventsAnswer>('/v1/events', { method: 'POST', body: events, keepalive: true })
      const refused = new Set(answer.rejected.map((rejected) => rejected.index))
      events.forEach((event, index) => {
        if (!refused.has(index)) this.settle(event, { state: 'accepted', receipt: answer.receipt })
      })
      this.options.backoff.reset()
      this.batchMax = Math.min(this.options.batchMax, this.batchMax * 2)
      const waitMs = this.refuse(events, answer.rejected)
      return waitMs === undefined ? 0 : this.options.backoff.next(waitMs)
    } catch (error) {
      return this.failed(events, error instanceof TallyError ? error : new TallyError(0, String(error)))
    } finally {
      for (const event of events) this.inFlight.delete(event.event_id)
    }
  }

  private failed(events: QueuedEvent[], error: TallyError): number {
    const rejected = error.problem?.rejected
    // Some may be rejected permanently while the others only have to wait.
    const waitMs = this.refuse(events, rejected ?? [])
    if (error.isPassing || waitMs !== undefined) return this.options.backoff.next(error.retryAfterMs ?? waitMs)
    if (rejected) {
      const told = new Set(rejected.map((one) => one.index))
      const untold = events.filter((_, index) => !told.has(index))
      for (const event of untold) this.settle(event, { state: 'refused', reason: error.message, status: error.status })
      return 0
    }
    if (events.length > 1) {
      // Something is wrong with one of them, or with all: each alone finds out which.
      this.batchMax = error.status === 413 ? Math.ceil(events.length / 2) : 1
      return 0
    }
    for (const event of events) this.settle(event, { state: 'refused', reason: error.message, status: error.status })
    return 0
  }

  /** Settles permanently rejected events. Events above a limit stay queued; returns the wait before they are sent again. */
  private refuse(events: QueuedEvent[], rejected: RejectedEvent[]): number | undefined {
    let waitMs: number | undefined
    for (const { index, error, retry_after } of rejected) {
      const event = events[index]
      if (retry_after !== undefined) waitMs = Math.max(waitMs ?? 0, retry_after * 1_000)
      else if (event) this.settle(event, { state: 'refused', reason: error, status: 422 })
    }
    return waitMs
  }

  private settle(event: QueuedEvent, outcome: Outcome) {
    this.queue.remove(event.event_id)
    this.waiting.get(event.event_id)?.(outcome)
    this.waiting.delete(event.event_id)
    for (const listener of this.listeners) listener(event, outcome)
    this.tellChanged()
  }

  private tellChanged() {
    for (const listener of this.changed) listener()
  }
}
