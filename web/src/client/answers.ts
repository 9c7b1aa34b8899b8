// Responses of the server; docs/http.md describes them.

/** The value of a metric; null is the result of no values. Integers beyond 2^53 are rounded here, not on the server. */
export type Value = number | string | null

/** Totals of a subject, by metric. */
export type Counters = Record<string, Value>

/** The toggles of an actor, by metric. */
export type Viewer = Record<string, boolean>

/** Whether a read contains the events of a receipt. */
export type After = 'applied' | 'pending'

export interface CountersItem {
  subject_id: string
  counters: Counters
  /** Metrics that are estimates. */
  approximate?: string[]
  /** Their relative errors: 0.01 is 1 %. */
  relative_errors?: Record<string, number>
  viewer?: Viewer
}

export interface CountersAnswer {
  items: CountersItem[]
  as_of: string
  after?: After
}

/** An event of a live stream of counters. */
export interface LiveCounters {
  subject_id: string
  counters: Counters
  approximate?: string[]
  relative_errors?: Record<string, number>
  as_of: string
}

export interface RankedItem extends CountersItem {
  rank: number
  score: number
}

export interface RankingAnswer {
  board: string
  items: RankedItem[]
  as_of: string
  next?: string
}

export interface RankingsAnswer {
  boards: { board: string; items: number; as_of?: string }[]
  as_of: string
}

export interface RejectedEvent {
  index: number
  event_id?: string | null
  error: string
  /** If only a limit was exceeded: seconds after which the event may be sent again. */
  retry_after?: number
}

export interface EventsAnswer {
  accepted: number
  rejected: RejectedEvent[]
  receipt: string
}

export type Verdict = 'duplicate' | 'limited' | 'late' | 'dead'

export interface NotCounted {
  event_id: string | null
  verdict: Verdict
  reason: string
}

export interface ReceiptAnswer {
  state: After
  /** Ids of events that a rate rule holds back until its window ends. */
  held: string[]
  /** Null after a day, when it is no longer stored. */
  not_counted: NotCounted[] | null
}

export interface CollectAnswer {
  subject_id: string
  actor_id: string
  active: boolean
  count: number
  /** Null if the log does not have the change yet. */
  receipt: string | null
}

export interface ActorsAnswer {
  subject_id: string
  metric: string
  items: { actor_id: string; occurred_at: string }[]
  next?: string
  as_of: string
}

/** The subjects that an actor has switched on, by one metric. */
export interface SubjectsAnswer {
  actor_id: string
  metric: string
  items: { subject_id: string; occurred_at: string }[]
  next?: string
  as_of: string
}

export interface SeriesAnswer {
  subject_id: string
  window: string
  /** `approximate`: metrics of a window that are estimates. */
  series: { start: string; end: string; counters: Counters; approximate?: string[]; relative_errors?: Record<string, number> }[]
  as_of: string
}

export interface ProgressAnswer {
  topic: string
  partitions: {
    partition: number
    end: number
    committed: number | null
    applied: Record<string, number | null>
    lag_records: number
    /** Null before anything was stored. */
    lag_seconds: number | null
  }[]
}

/** The last hour. */
export interface HistoryAnswer {
  samples: {
    at: string
    /** Since the sample before; null in the first one. This and the others are null while unknown. */
    events: number | null
    lag_records: number | null
    lag_seconds: number | null
    rejected: number | null
    store_errors: number | null
  }[]
}

/** The metrics of the processes. */
export interface ProcessesAnswer {
  /** `address` is absent for the process that answers, `metrics` if there is an `error`. */
  items: { address?: string; metrics?: string; error?: string }[]
}

export type NodeKind = 'topic' | 'repartition' | 'processor' | 'sink'

export interface GraphNode {
  id: string
  name: string
  kind: NodeKind
  type: string
  subtopology?: string
  partitions?: number
}

export interface TopologyAnswer {
  application: string
  subtopologies: { name: string; source: string; key: string; partitions: number; stores: string[] }[]
  nodes: GraphNode[]
  edges: { from: string; to: string; value: string }[]
  /** Absent in older releases. */
  metrics?: { name: string; type: 'integer' | 'decimal' | 'text'; scale?: number; windows: string[] }[]
}

export interface DeadLetter {
  at: string
  /** The same text for all records with the same mistake. */
  reason: string | null
  /** The part of the mistake that differs from record to record. */
  detail?: string
  node: string | null
  topic: string | null
  partition: number | null
  offset: number | null
  key: string | null
  payload: string | null
  /** Length of the whole payload; `payload` may be cut. */
  payload_bytes: number
}

export interface DeadLettersAnswer {
  items: DeadLetter[]
  next?: string
}

export interface DeadLetterReason {
  reason: string | null
  node: string | null
  count: number
  first: string
  last: string
}

export interface DeadLetterReasonsAnswer {
  items: DeadLetterReason[]
  /** How many of the newest records were counted. */
  looked_at: number
}
