// What flows: differences between looks at the metrics of all processes that can be seen.

import type { GraphNode, ProcessesAnswer, ProgressAnswer, TopologyAnswer } from '../client'
import { type Metrics, parseMetrics, sum } from './metrics'

/** What is known of a node now; undefined where no process that can be seen knows. */
export interface Reading {
  /** Values per second that a node took in, or that came out of a topic. */
  takes: number | undefined
  /** Values per second that a processor passed on, of the type that it passes on most; verdicts are not passed on. */
  passesOn: number | undefined
  /** By edge type: values per second. */
  byType: Record<string, number>
  /** Records that wait before it. */
  lagRecords: number | undefined
  /** How old what it has is; 0 where nothing waits. */
  lagSeconds: number | undefined
  /** Since the processes began. */
  errors: number | undefined
  /** Per minute, over the last minute or as long as this page looks. */
  errorRate: number | undefined
  /** It does not work at this moment. */
  isBroken: boolean
}

/** A process at one look. */
export interface Process {
  /** Undefined for the one that serves the console. */
  address: string | undefined
  metrics: Metrics | undefined
  error: string | undefined
}

/** How much of what runs can be seen. */
export interface Coverage {
  name: string
  seen: number
  all: number
  /** What is counted. */
  of: 'tasks' | 'partitions'
}

export interface Look {
  processes: Process[]
  progress: ProgressAnswer | undefined
  atMs: number
}

/** A gauge that has no clock yet shows something beyond all time. */
const NO_CLOCK_SECONDS = 1e12
const BREAKER_OPEN = 2
/** Errors are rare: their rate is over so long. */
const KEPT_MS = 60_000
/** What every processor may write about events that it does not pass on. */
const VERDICT = 'verdict'
const FORWARDED = 'tally_node_forwarded_total'
const NOTHING: Reading = {
  takes: undefined,
  passesOn: undefined,
  byType: {},
  lagRecords: undefined,
  lagSeconds: undefined,
  errors: undefined,
  errorRate: undefined,
  isBroken: false,
}

export function processesOf(answer: ProcessesAnswer): Process[] {
  return answer.items.map(({ address, metrics, error }) => ({ address, metrics: metrics === undefined ? undefined : parseMetrics(metrics), error }))
}

export class Readings {
  /** The newest first. */
  private readonly looks: Look[]

  constructor(looks: Look[] = []) {
    this.looks = looks
  }

  /** The readings after another look. */
  next(look: Look): Readings {
    return new Readings([look, ...this.looks.filter((one) => look.atMs - one.atMs <= KEPT_MS)])
  }

  get processes(): Process[] {
    return this.looks[0]?.processes ?? []
  }

  /** Events per second that come in. */
  get inflow(): number | undefined {
    const [now, before] = this.looks.map((look) => look.progress?.partitions.reduce((total, one) => total + one.end, 0))
    if (now === undefined || before === undefined || now < before) return undefined
    return (now - before) / this.secondsSince(1)
  }

  /** Whether events wait that are not in every store; undefined if unknown. Marks of idle tasks are no events. */
  get isWaiting(): boolean | undefined {
    return this.looks[0]?.progress?.partitions.some((one) => one.lag_records > 0)
  }

  /** Whether any process that can be seen counts. */
  get hasNodes(): boolean {
    return this.processes.some((one) => one.metrics?.has('tally_tasks'))
  }

  /** Start time of the earliest process with such a counter; undefined if no process reports one. */
  get sinceMs(): number | undefined {
    const times = this.processes.map((one) => one.metrics && sum(one.metrics, 'process_start_time_seconds')).filter((time) => time !== undefined)
    return times.length === 0 ? undefined : Math.min(...times) * 1000
  }

  /** Which tasks and sinks are visible: those of a process that is not configured as a peer are missing in all readings. */
  coverage(topology: TopologyAnswer): Coverage[] {
    const tasks = topology.subtopologies.map(({ name, partitions }): Coverage => {
      return { name, seen: Math.min(partitions, this.total('tally_tasks', { subtopology: name }) ?? 0), all: partitions, of: 'tasks' }
    })
    const partitionsOf = new Map(topology.nodes.map((node) => [node.id, node.partitions ?? 0]))
    const sinks = topology.nodes.filter((node) => node.kind === 'sink').map(({ id, name }): Coverage => {
      const all = topology.edges.filter((edge) => edge.to === id).reduce((count, edge) => count + (partitionsOf.get(edge.from) ?? 0), 0)
      return { name, seen: Math.min(all, this.total('tally_sink_partitions', { sink: name }) ?? 0), all, of: 'partitions' }
    })
    return [...tasks, ...sinks]
  }

  of(node: GraphNode, topology?: TopologyAnswer): Reading {
    const look = this.looks[0]
    if (!look) return NOTHING
    const { name } = node
    switch (node.kind) {
      case 'processor': {
        const byType = this.forwarded(name)
        return {
          ...NOTHING,
          takes: this.rate('tally_node_records_total', { node: name }),
          passesOn: this.hasNodes ? this.most(byType) : undefined,
          byType,
          lagSeconds: node.subtopology === undefined ? undefined : this.behind(node.subtopology),
          ...this.errors('tally_node_rejected_total', { node: name }, 'tally_tasks', {}),
        }
      }
      case 'sink':
        return {
          ...NOTHING,
          takes: this.rate('tally_sink_records_total', { sink: name }),
          lagRecords: this.unlessIdle(this.sinkLag(({ sink }) => sink === name)),
          lagSeconds: this.unlessIdle(this.sinkClockLag(name)),
          isBroken: this.values('tally_sink_breaker_state', { sink: name }).includes(BREAKER_OPEN),
          ...this.errors('tally_sink_errors_total', { sink: name }, 'tally_sink_partitions', { sink: name }),
        }
      case 'topic':
        if (look.progress?.topic === name) {
          const waiting = look.progress.partitions.reduce((total, one) => total + one.end - (one.committed ?? 0), 0)
          return { ...NOTHING, takes: this.inflow, lagRecords: waiting }
        }
        return { ...NOTHING, takes: this.written(node, topology), lagRecords: this.unlessIdle(this.sinkLag(({ topic }) => topic === name)) }
      case 'repartition':
        return { ...NOTHING, takes: this.written(node, topology) }
    }
  }

  /** How far the slowest task of a subtopology is behind; 0 where nothing waits. */
  behind(subtopology: string): number | undefined {
    const look = this.looks[0]
    if (!look) return undefined
    // A process that had a task before still shows its clock: the task is where it is ahead.
    const clocks = new Map<string, number>()
    for (const { metrics } of look.processes) {
      for (const { labels, value } of metrics?.get('tally_task_clock_seconds') ?? []) {
        const task = labels['task'] ?? ''
        if (task.startsWith(`${subtopology}/`)) clocks.set(task, Math.max(value, clocks.get(task) ?? 0))
      }
    }
    const clock = Math.min(...clocks.values())
    return this.unlessIdle(Number.isFinite(clock) && clock > 0 ? Math.max(0, look.atMs / 1000 - clock) : undefined)
  }

  /** By edge type: values per second that a node passed on. */
  forwarded(node: string): Record<string, number> {
    const types = new Set<string>()
    for (const { metrics } of this.processes) {
      for (const { labels } of metrics?.get(FORWARDED) ?? []) if (labels['node'] === node && labels['value']) types.add(labels['value'])
    }
    const rates = [...types].map((value) => [value, this.rate(FORWARDED, { node, value })] as const)
    return Object.fromEntries(rates.flatMap(([value, rate]) => (rate === undefined ? [] : [[value, rate]])))
  }

  private most(byType: Record<string, number>): number | undefined {
    const rates = Object.entries(byType).filter(([value]) => value !== VERDICT)
    // A node that never passed anything on has no such counter yet.
    return this.looks.length < 2 ? undefined : Math.max(0, ...rates.map(([, rate]) => rate))
  }

  /** Clocks of idle tasks move every few seconds: how far they are behind then is no lag. */
  private unlessIdle(lag: number | undefined): number | undefined {
    return this.isWaiting === false && lag !== undefined ? 0 : lag
  }

  private errors(counter: string, labels: Record<string, string>, having: string, havingLabels: Record<string, string>) {
    if (this.total(having, havingLabels) === undefined) return {}
    const oldest = this.looks.length - 1
    const seconds = this.secondsSince(oldest)
    return {
      // The counter appears when it first counts.
      errors: this.total(counter, labels) ?? 0,
      errorRate: oldest < 1 || seconds <= 0 ? undefined : (this.increase(counter, labels, oldest, true) ?? 0) * (60 / seconds),
    }
  }

  private sinkClockLag(sink: string): number | undefined {
    const known = this.values('tally_sink_clock_lag_seconds', { sink }).filter((value) => value < NO_CLOCK_SECONDS)
    return known.length === 0 ? undefined : Math.max(...known)
  }

  /** Values per second that nodes write to a topic; where none of them can be seen, what its sinks read. */
  private written(node: GraphNode, topology: TopologyAnswer | undefined): number | undefined {
    const writers = topology?.edges.filter((edge) => edge.to === node.id && edge.from.startsWith('processor:')) ?? []
    if (writers.length > 0 && this.hasNodes && this.looks.length > 1) {
      const rates = writers.map(({ from, value }) => this.forwarded(from.slice('processor:'.length))[value] ?? 0)
      return rates.reduce((total, one) => total + one, 0)
    }
    // Several sinks read the same records.
    const sinks = new Set(this.processes.flatMap((one) => (one.metrics?.get('tally_sink_records_total') ?? []).map(({ labels }) => labels['sink'] ?? '')))
    const known = [...sinks].map((sink) => this.rate('tally_sink_records_total', { sink, topic: node.name })).filter((rate) => rate !== undefined)
    return known.length === 0 ? undefined : Math.max(...known)
  }

  /** Records that the slowest sink has not written yet. A partition that several processes read, each for itself, counts once. */
  private sinkLag(isWanted: (labels: Record<string, string>) => boolean): number | undefined {
    const byPartition = new Map<string, { sink: string; lag: number }>()
    for (const { metrics } of this.processes) {
      for (const { labels, value } of metrics?.get('tally_sink_lag_records') ?? []) {
        if (!isWanted(labels)) continue
        const place = JSON.stringify([labels['sink'], labels['topic'], labels['partition']])
        byPartition.set(place, { sink: labels['sink'] ?? '', lag: Math.max(value, byPartition.get(place)?.lag ?? 0) })
      }
    }
    const bySink = new Map<string, number>()
    for (const { sink, lag } of byPartition.values()) bySink.set(sink, (bySink.get(sink) ?? 0) + lag)
    return bySink.size === 0 ? undefined : Math.max(...bySink.values())
  }

  private values(name: string, labels: Record<string, string>): number[] {
    return this.processes.flatMap((one) => (one.metrics ? (sum(one.metrics, name, labels) ?? []) : []))
  }

  private total(name: string, labels: Record<string, string> = {}): number | undefined {
    const values = this.values(name, labels)
    return values.length === 0 ? undefined : values.reduce((total, one) => total + one, 0)
  }

  private rate(name: string, labels: Record<string, string>): number | undefined {
    const increase = this.increase(name, labels, 1, false)
    const seconds = this.secondsSince(1)
    return increase === undefined || seconds <= 0 ? undefined : increase / seconds
  }

  /**
   * The increase of a counter since a look, over the processes that both looks saw. A counter that fell was restarted
   * from 0. A counter that has just appeared counts from 0 if `appears` is set.
   */
  private increase(name: string, labels: Record<string, string>, since: number, appears: boolean): number | undefined {
    const [now, before] = [this.looks[0], this.looks[since]]
    if (!now || !before || now === before) return undefined
    const increases = now.processes.flatMap((process) => {
      const earlier = before.processes.find((one) => one.address === process.address)?.metrics
      if (!process.metrics || !earlier) return []
      const [value, first] = [sum(process.metrics, name, labels), sum(earlier, name, labels)]
      if (value === undefined || (first === undefined && !appears)) return []
      if (value < (first ?? 0)) return appears ? [value] : []
      return [value - (first ?? 0)]
    })
    return increases.length === 0 ? undefined : increases.reduce((total, one) => total + one, 0)
  }

  private secondsSince(index: number): number {
    const [now, before] = [this.looks[0], this.looks[index]]
    return now && before ? (now.atMs - before.atMs) / 1000 : 0
  }
}
