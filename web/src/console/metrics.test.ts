import { expect, test } from 'vitest'
import type { GraphNode, ProgressAnswer, TopologyAnswer } from '../client'
import { parseMetrics, sum } from './metrics'
import { type Process, Readings } from './readings'

const text = (valid: number, lag = 3) => `# HELP tally_node_records_total x
# TYPE tally_node_records_total counter
tally_node_records_total{node="valid"} ${valid}
tally_node_records_total{node="a\\"b,c"} 1e3
tally_node_forwarded_total{node="valid",value="event"} ${valid / 2}
tally_node_forwarded_total{node="valid",value="verdict"} ${valid}
tally_tasks{thread="tally-0",subtopology="user-actions"} 2
tally_sink_partitions{sink="database"} 3
tally_sink_lag_records{sink="database",topic="counters",partition="0"} ${lag}
tally_sink_lag_records{sink="database",topic="reactions",partition="1"} 4
tally_sink_clock_lag_seconds{sink="database"} 6
tally_task_clock_seconds{task="user-actions/0"} 9
tally_task_clock_seconds{task="user-actions/1"} 8
tally_http_connections 2
process_start_time_seconds 1000
`
const process = (address: string | undefined, metrics: string): Process => ({ address, metrics: parseMetrics(metrics), error: undefined })
const look = (atMs: number, processes: Process[], waiting = 5) => {
  const partition = { partition: 0, end: atMs, committed: atMs, applied: {}, lag_records: waiting, lag_seconds: 1 }
  const progress: ProgressAnswer = { topic: 'user-actions', partitions: [partition] }
  return { atMs, processes, progress }
}
const valid: GraphNode = { id: 'processor:valid', name: 'valid', kind: 'processor', type: 'decode', subtopology: 'user-actions' }
const database: GraphNode = { id: 'sink:database', name: 'database', kind: 'sink', type: 'database' }
const counters: GraphNode = { id: 'topic:counters', name: 'counters', kind: 'topic', type: 'counters', partitions: 2 }
const hop: GraphNode = { id: 'topic:hop', name: 'hop', kind: 'repartition', type: 'subject_id', partitions: 2 }
const topology: TopologyAnswer = {
  application: 'tally',
  subtopologies: [{ name: 'user-actions', source: 'user-actions', key: 'actor_id', partitions: 4, stores: [] }],
  nodes: [valid, database, counters, hop],
  edges: [
    { from: 'processor:valid', to: 'topic:hop', value: 'event' },
    { from: 'topic:counters', to: 'sink:database', value: 'counters' },
  ],
}

test('samples are found by their labels and added up', () => {
  const metrics = parseMetrics(text(10))
  expect(sum(metrics, 'tally_node_records_total', { node: 'a"b,c' })).toBe(1_000)
  expect(sum(metrics, 'tally_sink_lag_records', { sink: 'database' })).toBe(7)
  expect(sum(metrics, 'tally_http_connections')).toBe(2)
  expect(sum(metrics, 'tally_nothing')).toBeUndefined()
})

test('rates are differences, and a restarted process has none', () => {
  let readings = new Readings().next(look(10_000, [process(undefined, text(10))]))
  expect(readings.of(valid)).toMatchObject({ takes: undefined, passesOn: undefined, lagSeconds: 2, errors: 0, errorRate: undefined })
  readings = readings.next(look(12_000, [process(undefined, text(30))]))
  expect(readings.of(valid).takes).toBe(10)
  expect(readings.inflow).toBe(1_000)
  expect(readings.of(database).lagRecords).toBe(7)
  expect(readings.of(counters).lagRecords).toBe(3)
  readings = readings.next(look(14_000, [process(undefined, text(5))]))
  expect(readings.of(valid).takes).toBeUndefined()
})

test('a node shows what it passed on, not what it took, and verdicts are not passed on', () => {
  const readings = new Readings().next(look(10_000, [process(undefined, text(10))])).next(look(12_000, [process(undefined, text(30))]))
  expect(readings.of(valid)).toMatchObject({ takes: 10, passesOn: 5, byType: { event: 5, verdict: 10 } })
  // What comes out of a topic between two subtopologies is what was written to it.
  expect(readings.of(hop, topology).takes).toBe(5)
  // A node that never forwarded anything has rate 0; without counters the rate is unknown.
  expect(readings.of({ ...valid, name: 'quiet' }).passesOn).toBe(0)
  const apart = new Readings().next(look(1, [process(undefined, 'tally_x 1')])).next(look(2, [process(undefined, 'tally_x 1')]))
  expect(apart.of(valid)).toMatchObject({ takes: undefined, passesOn: undefined, errors: undefined })
})

test('processes are added up, each against itself', () => {
  const both = (one: number, other: number) => [process(undefined, 'tally_http_connections 1'), process('http://a', text(one)), process('http://b', text(other))]
  let readings = new Readings().next(look(10_000, both(10, 100))).next(look(12_000, both(30, 104)))
  expect(readings.of(valid).takes).toBe(12)
  // One that is seen for the first time, or not at all, adds nothing.
  readings = readings.next(look(14_000, [...both(50, 106), process('http://c', text(1_000))]))
  expect(readings.of(valid).takes).toBe(11)
  readings = readings.next(look(16_000, both(60, 110).slice(0, 2)))
  expect(readings.of(valid).takes).toBe(5)
  expect(readings.sinceMs).toBe(1_000_000)
  // Two that read the same partitions, each for itself, have the same lag, not twice of it.
  expect(readings.of(database).lagRecords).toBe(7)
})

test('a task that moved is where its clock is ahead', () => {
  const former = process('http://a', 'tally_tasks{subtopology="user-actions"} 0\ntally_task_clock_seconds{task="user-actions/0"} 1\n')
  const now = process('http://b', 'tally_tasks{subtopology="user-actions"} 1\ntally_task_clock_seconds{task="user-actions/0"} 9\n')
  expect(new Readings().next(look(10_000, [former, now])).behind('user-actions')).toBe(1)
})

test('what is idle is not behind, whatever its clocks and marks are', () => {
  const idle = new Readings().next(look(10_000, [process(undefined, text(10))], 0))
  expect(idle.of(database)).toMatchObject({ lagRecords: 0, lagSeconds: 0 })
  expect(idle.of(counters).lagRecords).toBe(0)
  expect(idle.of(valid).lagSeconds).toBe(0)
  const busy = new Readings().next(look(10_000, [process(undefined, text(10))], 1))
  expect(busy.of(database)).toMatchObject({ lagRecords: 7, lagSeconds: 6 })
})

test('errors have a rate over the last minute and a sum, also in restarted processes', () => {
  const failing = (errors: number | undefined) => [process('http://a', text(1) + (errors === undefined ? '' : `tally_node_rejected_total{node="valid"} ${errors}\n`))]
  let readings = new Readings().next(look(10_000, failing(undefined)))
  readings = readings.next(look(30_000, failing(3)))
  expect(readings.of(valid)).toMatchObject({ errors: 3, errorRate: 9 })
  readings = readings.next(look(40_000, failing(3)))
  expect(readings.of(valid)).toMatchObject({ errors: 3, errorRate: 6 })
  // The minute is over.
  readings = readings.next(look(95_000, failing(3)))
  expect(readings.of(valid)).toMatchObject({ errors: 3, errorRate: 0 })
  readings = readings.next(look(96_000, failing(1)))
  expect(readings.of(valid).errors).toBe(1)
  expect(readings.of(valid).errorRate).toBeGreaterThan(0)
})

test('what cannot be seen is told', () => {
  const readings = new Readings().next(look(10_000, [process(undefined, text(10)), { address: 'http://b', metrics: undefined, error: 'away' }]))
  expect(readings.coverage(topology)).toEqual([
    { name: 'user-actions', seen: 2, all: 4, of: 'tasks' },
    { name: 'database', seen: 2, all: 2, of: 'partitions' },
  ])
  expect(new Readings().next(look(1, [])).coverage(topology).map((one) => one.seen)).toEqual([0, 0])
})
