// What flows: differences between one look at the metrics and the one before.

import type { GraphNode, ProgressAnswer } from '../client'
import { type Metrics, sum } from './metrics'

/** What is known of a node now; undefined where this process does not know. */
export interface Reading {
  /** Records per second. */
  rate: number | undefined
  /** Records that wait before it. */
  lagRecords: number | undefined
  /** How old what it has is. */
  lagSeconds: number | undefined
  /** Since the process began. */
  errors: number | undefined
  /** It does not work at this moment. */
  isBroken: boolean
}

interface Look {
  metrics: Metrics
  progress: ProgressAnswer | undefined
  atMs: number
}

/** A gauge that has no clock yet shows something beyond all time. */
const NO_CLOCK_SECONDS = 1e12
const BREAKER_OPEN = 2

export class Readings {
  private readonly now: Look | undefined
  private readonly before: Look | undefined

  constructor(now?: Look, before?: Look) {
    this.now = now
    this.before = before
  }

  /** The readings after another look. */
  next(metrics: Metrics, progress: ProgressAnswer | undefined, atMs: number): Readings {
    return new Readings({ metrics, progress, atMs }, this.now)
  }

  /** Events per second that come in. */
  get inflow(): number | undefined {
    return this.difference((look) => look.progress?.partitions.reduce((total, one) => total + one.end, 0))
  }

  /** Whether this process counts: others have metrics of their own. */
  get hasNodes(): boolean {
    return this.now?.metrics.has('tally_node_records_total') ?? false
  }

  of(node: GraphNode): Reading {
    const none: Reading = { rate: undefined, lagRecords: undefined, lagSeconds: undefined, errors: undefined, isBroken: false }
    if (!this.now) return none
    const { metrics, progress } = this.now
    const { name } = node
    switch (node.kind) {
      case 'processor':
        return {
          ...none,
          rate: this.counterRate('tally_node_records_total', { node: name }),
          lagSeconds: node.subtopology === undefined ? undefined : this.behind(node.subtopology),
          errors: sum(metrics, 'tally_node_rejected_total', { node: name }),
        }
      case 'sink': {
        const clock = sum(metrics, 'tally_sink_clock_lag_seconds', { sink: name })
        return {
          rate: this.counterRate('tally_sink_records_total', { sink: name }),
          lagRecords: sum(metrics, 'tally_sink_lag_records', { sink: name }),
          lagSeconds: clock !== undefined && clock < NO_CLOCK_SECONDS ? clock : undefined,
          errors: sum(metrics, 'tally_sink_errors_total', { sink: name }),
          isBroken: sum(metrics, 'tally_sink_breaker_state', { sink: name }) === BREAKER_OPEN,
        }
      }
      case 'topic':
        if (progress?.topic === name) {
          const waiting = progress.partitions.reduce((total, one) => total + one.end - (one.committed ?? 0), 0)
          return { ...none, rate: this.inflow, lagRecords: waiting }
        }
        return { ...none, rate: this.topicRate(name), lagRecords: this.slowest('tally_sink_lag_records', name) }
      case 'repartition':
        return none
    }
  }

  /** How far the slowest task of a subtopology is behind the clock. */
  behind(subtopology: string): number | undefined {
    if (!this.now) return undefined
    const tasks = this.now.metrics.get('tally_task_clock_milliseconds') ?? []
    const clocks = tasks.filter((one) => one.labels['task']?.startsWith(`${subtopology}/`)).map((one) => one.value)
    const clock = Math.min(...clocks)
    return Number.isFinite(clock) && clock > 0 ? Math.max(0, (this.now.atMs - clock) / 1000) : undefined
  }

  private topicRate(topic: string): number | undefined {
    // Several sinks read the same records.
    const sinks = new Set((this.now?.metrics.get('tally_sink_records_total') ?? []).map((one) => one.labels['sink'] ?? ''))
    const rates = [...sinks].map((sink) => this.counterRate('tally_sink_records_total', { sink, topic }))
    const known = rates.filter((rate) => rate !== undefined)
    return known.length === 0 ? undefined : Math.max(...known)
  }

  private slowest(metric: string, topic: string): number | undefined {
    const samples = (this.now?.metrics.get(metric) ?? []).filter((one) => one.labels['topic'] === topic)
    const bySink = new Map<string, number>()
    for (const { labels, value } of samples) bySink.set(labels['sink'] ?? '', (bySink.get(labels['sink'] ?? '') ?? 0) + value)
    return bySink.size === 0 ? undefined : Math.max(...bySink.values())
  }

  private counterRate(name: string, labels: Record<string, string>): number | undefined {
    return this.difference((look) => sum(look.metrics, name, labels))
  }

  private difference(value: (look: Look) => number | undefined): number | undefined {
    const [now, before] = [this.now && value(this.now), this.before && value(this.before)]
    if (now === undefined || before === undefined || !this.now || !this.before) return undefined
    const seconds = (this.now.atMs - this.before.atMs) / 1000
    // Counters that fell belong to a process that began anew.
    return now < before || seconds <= 0 ? undefined : (now - before) / seconds
  }
}
