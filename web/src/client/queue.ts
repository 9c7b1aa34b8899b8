// Events without a response of the server. They outlive the page.

/** An event as it is sent. Id and time never change, so that it counts once however often it is sent. */
export interface QueuedEvent {
  event_id: string
  type: string
  subject_id: string
  /** Milliseconds since 1970. */
  occurred_at: number
  actor_id?: string
  duration_ms?: number
  properties?: Record<string, string | number | boolean>
}

/** The used part of `localStorage`. */
export type Storage = Pick<globalThis.Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'>

const PREFIX = 'tally:event:'

/**
 * Each event has a key of its own, so that two tabs never write over each other's. A tab takes what it finds when it
 * starts, also what another tab is about to send: then it is sent twice and counts once.
 */
export class EventQueue {
  private readonly events = new Map<string, QueuedEvent>()
  private readonly storage: Storage | undefined
  private readonly max: number

  constructor(storage: Storage | undefined, max = 1_000) {
    this.storage = storage
    this.max = max
    this.adopt()
  }

  /** Loads the storage: events that an earlier page has left. */
  adopt() {
    for (const event of stored(this.storage)) {
      if (this.events.size < this.max) this.events.set(event.event_id, event)
    }
  }

  /** False if the queue is full: the event was not stored. */
  add(event: QueuedEvent): boolean {
    if (this.events.size >= this.max) return false
    this.events.set(event.event_id, event)
    try {
      this.storage?.setItem(PREFIX + event.event_id, JSON.stringify(event))
    } catch {
      // Full or forbidden: the event is still sent while the page is open.
    }
    return true
  }

  remove(event_id: string) {
    this.events.delete(event_id)
    try {
      this.storage?.removeItem(PREFIX + event_id)
    } catch {
      // Forbidden: then it never was there.
    }
  }

  /** In the order of their times: an actor's events keep theirs. */
  all(): QueuedEvent[] {
    return [...this.events.values()].sort((a, b) => a.occurred_at - b.occurred_at)
  }

  get size(): number {
    return this.events.size
  }
}

function stored(storage: Storage | undefined): QueuedEvent[] {
  const events: QueuedEvent[] = []
  if (!storage) return events
  try {
    const keys = Array.from({ length: storage.length }, (_, index) => storage.key(index))
    for (const key of keys) {
      if (!key?.startsWith(PREFIX)) continue
      const event = parsed(storage.getItem(key))
      if (event) events.push(event)
      // Not an event: it cannot be sent.
      else storage.removeItem(key)
    }
  } catch {
    // Forbidden.
  }
  return events
}

function parsed(text: string | null): QueuedEvent | undefined {
  try {
    const event = JSON.parse(text ?? '') as Partial<QueuedEvent>
    const isEvent = event.event_id && event.type && event.subject_id && typeof event.occurred_at === 'number'
    return isEvent ? (event as QueuedEvent) : undefined
  } catch {
    return undefined
  }
}

const RECEIPT = 'tally:receipt'
/** After this time the events of a receipt are visible everywhere, or the receipt is of no use any more. */
const RECEIPT_MS = 60_000

/** The receipt of the last accepted events: a reloaded page requests a response that contains them. */
export class LastReceipt {
  private last: { receipt: string; at: number } | undefined
  private readonly storage: Storage | undefined

  constructor(storage: Storage | undefined) {
    this.storage = storage
    try {
      const kept = JSON.parse(storage?.getItem(RECEIPT) ?? 'null') as { receipt?: unknown; at?: unknown } | null
      if (typeof kept?.receipt === 'string' && typeof kept.at === 'number') this.last = { receipt: kept.receipt, at: kept.at }
    } catch {
      // Forbidden, or of another program.
    }
  }

  get(): string | undefined {
    return this.last && Math.abs(Date.now() - this.last.at) < RECEIPT_MS ? this.last.receipt : undefined
  }

  set(receipt: string | undefined) {
    this.last = receipt === undefined ? undefined : { receipt, at: Date.now() }
    try {
      if (this.last) this.storage?.setItem(RECEIPT, JSON.stringify(this.last))
      else this.storage?.removeItem(RECEIPT)
    } catch {
      // Forbidden: the receipt then lasts as long as the page.
    }
  }
}
